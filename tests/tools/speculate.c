/* What speculation gains: the same lanes drawn without and with it, in turn.
 *
 *   speculate MODEL DRAFT|- OFF-OR-MAX TEMPERATURE LANES TOKENS [QUESTION]
 *
 * DRAFT "-": lookup. MAX 0: as many guesses as are worth it, at most 8; else always so many.
 * Without a question the prompt is 64 random tokens: with models of random weights the temperature
 * then says how often guesses are right, from never (1) to always (infinite: both draw alike). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"

#define MAX_LANES   64
#define N_ROUNDS    3
#define PROMPT_SIZE 64

static struct eng *eng;
static struct eng_model *model, *draft;
static int32_t *ids;
static size_t n_ids;

static void check(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "speculate: %s\n", err->text);
        exit(1);
    }
}

/* Seconds for the tokens behind each lane's first. */
static double run(unsigned n_lanes, uint32_t n_tokens, float temperature, enum eng_speculate how,
                  uint32_t max, struct eng_req *reqs)
{
    struct eng_req *list[MAX_LANES], first = {.op = ENG_PREFILL}, *firsts[] = {&first};
    struct eng_ctx *root;
    struct pd_err err = {0};
    int64_t t0;

    check(eng_ctx_new(eng, model, &root, &err), &err);
    check(eng_ctx_append(root, ids, n_ids, &err), &err);
    first.ctx = root;
    check(eng_run(eng, firsts, 1, &err), &err);
    for (unsigned i = 0; i < n_lanes; i++) {
        reqs[i] = (struct eng_req){.op = ENG_GENERATE,
                                   .sampling = {.temperature = temperature, .top_p = 1},
                                   .key = i,
                                   .max_tokens = n_tokens,
                                   .ignore_end = true,
                                   .speculate = how,
                                   .draft = draft,
                                   .draft_max = max,
                                   .draft_always = max > 0};
        check(eng_ctx_fork(root, &reqs[i].ctx, &err), &err);
        list[i] = &reqs[i];
    }
    t0 = pd_clock_now_ns();
    check(eng_run(eng, list, n_lanes, &err), &err);
    t0 = pd_clock_now_ns() - t0;
    for (unsigned i = 0; i < n_lanes; i++)
        eng_ctx_free(reqs[i].ctx);
    eng_ctx_free(root);
    return (double)t0 / 1e9;
}

int main(int argc, char **argv)
{
    struct eng_req plain[MAX_LANES], guessed[MAX_LANES];
    double best_plain = 1e9, best_guessed = 1e9, n_right = 0, n_guessed = 0, n_tokens = 0;
    struct eng_config config = {0};
    struct eng_ctx *keep = NULL; /* the draft model's working space */
    struct pd_err err = {0};
    unsigned n_lanes;
    bool lookup;

    if (argc < 7 || (n_lanes = (unsigned)atoi(argv[5])) > MAX_LANES) {
        fprintf(stderr, "usage: speculate MODEL DRAFT|- MAX TEMPERATURE LANES TOKENS [QUESTION]\n");
        return 2;
    }
    lookup = strcmp(argv[2], "-") == 0;
    check(eng_open(&config, &eng, &err), &err);
    check(eng_model_open(eng, argv[1], &model, &err), &err);
    if (!lookup) {
        check(eng_model_open(eng, argv[2], &draft, &err), &err);
        check(eng_ctx_new(eng, draft, &keep, &err), &err);
    }
    if (argc > 7) {
        const struct pd_message m = {.role = "user", .content = pd_str_of(argv[7])};

        check(eng_chat(eng_model_tokenizer(model), NULL, PD_CHAT(&m, 1), &ids, &n_ids, &err), &err);
    } else {
        ids = calloc(PROMPT_SIZE, sizeof(*ids));
        for (; ids && n_ids < PROMPT_SIZE; n_ids++)
            ids[n_ids] =
                (int32_t)(pd_rng_uniform(1, n_ids, 0) * (double)eng_model_info(model)->n_vocab);
    }
    for (int round = 0; round < N_ROUNDS; round++) {
        const float temperature = strtof(argv[4], NULL);
        const uint32_t n = (uint32_t)atoi(argv[6]);
        double t = run(n_lanes, n, temperature, ENG_SPECULATE_OFF, 0, plain);

        best_plain = t < best_plain ? t : best_plain;
        t = run(n_lanes, n, temperature, lookup ? ENG_SPECULATE_LOOKUP : ENG_SPECULATE_DRAFT,
                (uint32_t)atoi(argv[3]), guessed);
        best_guessed = t < best_guessed ? t : best_guessed;
        for (unsigned i = 0; i < n_lanes; i++) {
            if (plain[i].n_tokens != guessed[i].n_tokens ||
                memcmp(plain[i].tokens, guessed[i].tokens, n * sizeof(*ids)) != 0) {
                fprintf(stderr, "speculate: lane %u differs\n", i);
                return 1;
            }
            n_right += guessed[i].n_right;
            n_guessed += guessed[i].n_guessed;
            n_tokens += guessed[i].n_tokens - 1;
            eng_req_done(&plain[i]);
            eng_req_done(&guessed[i]);
        }
    }
    n_tokens /= N_ROUNDS;
    printf(
        "%.1f tokens/s without, %.1f with: %.2f times; %.2f of %.0f guesses right, %.2f tokens a "
        "pass\n",
        n_tokens / best_plain, n_tokens / best_guessed, best_plain / best_guessed,
        n_guessed > 0 ? n_right / n_guessed : 0, n_guessed / N_ROUNDS,
        n_tokens / (n_tokens - n_right / N_ROUNDS));
    free(ids);
    eng_ctx_free(keep);
    eng_model_unref(draft);
    eng_model_unref(model);
    eng_close(eng);
    return 0;
}

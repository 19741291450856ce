/* What a shared prompt is worth: one that comes a second time, and lanes that share one against
 * lanes that each have their own.
 *
 *   share MODEL LANES PROMPT TOKENS */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"

static struct eng *eng;
static struct eng_model *model;
static int32_t *ids;

static void check(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "share: %s\n", err->text);
        exit(1);
    }
}

static double seconds_since(int64_t t0)
{
    return (double)(pd_clock_now_ns() - t0) / 1e9;
}

/* A context with prompt number `which`, evaluated. */
static struct eng_ctx *evaluated(size_t n, uint64_t which)
{
    struct eng_req req = {.op = ENG_PREFILL}, *list = &req;
    struct pd_err err = {0};

    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(pd_rng_uniform(which, i, 0) * (double)eng_model_info(model)->n_vocab);
    check(eng_ctx_new(eng, model, &req.ctx, &err), &err);
    check(eng_ctx_append(req.ctx, ids, n, &err), &err);
    check(eng_run(eng, &list, 1, &err), &err);
    check((int)req.err.code, &req.err);
    return req.ctx;
}

/* Prompts of so many lanes: seconds to evaluate them, and of the tokens behind each lane's first.
 */
static void run(const char *what, size_t n_lanes, size_t n_prompt, uint32_t n_tokens, bool shared)
{
    struct eng_req *reqs = calloc(n_lanes, sizeof(*reqs));
    struct eng_req **list = calloc(n_lanes, sizeof(*list));
    int64_t t0 = pd_clock_now_ns();
    struct eng_ctx *root = shared ? evaluated(n_prompt, 0) : NULL;
    struct eng_stats stats;
    struct pd_err err = {0};
    double prompt_s, s;

    for (size_t i = 0; i < n_lanes; i++) {
        reqs[i] = (struct eng_req){.op = ENG_GENERATE,
                                   .sampling = {.temperature = 1, .top_p = 1},
                                   .key = i,
                                   .max_tokens = n_tokens + 1,
                                   .ignore_end = true};
        list[i] = &reqs[i];
        if (shared)
            check(eng_ctx_fork(root, &reqs[i].ctx, &err), &err);
        else
            reqs[i].ctx = evaluated(n_prompt, i);
    }
    prompt_s = seconds_since(t0);
    t0 = pd_clock_now_ns();
    check(eng_run(eng, list, n_lanes, &err), &err);
    s = seconds_since(t0);
    eng_stats(eng, &stats);
    printf("%s: prompts %.2f s, %.1f ms a step, %.0f tokens/s, all %.2f s; %.0f MB of K and V\n",
           what, prompt_s, 1e3 * s / n_tokens, (double)(n_lanes * n_tokens) / s, prompt_s + s,
           (double)stats.kv_page_bytes_used / 1e6);
    fflush(stdout);
    for (size_t i = 0; i < n_lanes; i++) {
        eng_req_done(&reqs[i]);
        eng_ctx_free(reqs[i].ctx);
    }
    eng_ctx_free(root);
    free(reqs);
    free(list);
}

/* A prompt that was evaluated before, for a context that is gone. */
static void run_again(size_t n_prompt)
{
    struct eng_config config = {.kv_bytes = UINT64_C(1) << 40};
    struct eng *cold = eng;
    struct pd_err err = {0};
    double s[2];

    check(eng_open(&config, &eng, &err), &err);
    for (int i = 0; i < 2; i++) {
        int64_t t0 = pd_clock_now_ns();

        eng_ctx_free(evaluated(n_prompt, 0));
        s[i] = seconds_since(t0);
    }
    printf("a prompt of %zu: %.1f ms, again: %.1f ms\n", n_prompt, 1e3 * s[0], 1e3 * s[1]);
    eng_close(eng);
    eng = cold;
}

int main(int argc, char **argv)
{
    struct eng_config config = {.kv_bytes = UINT64_C(1) << 40, .no_prefix_cache = true};
    size_t n_lanes, n_prompt;
    struct pd_err err = {0};
    uint32_t n_tokens;

    if (argc < 5) {
        fprintf(stderr, "usage: share MODEL LANES PROMPT TOKENS\n");
        return 2;
    }
    n_lanes = (size_t)atoi(argv[2]);
    n_prompt = (size_t)atoi(argv[3]);
    n_tokens = (uint32_t)atoi(argv[4]);
    ids = calloc(n_prompt + 1, sizeof(*ids));
    if (!ids)
        return 1;
    check(eng_open(&config, &eng, &err), &err);
    check(eng_model_open(eng, argv[1], &model, &err), &err);
    run_again(n_prompt);
    for (int round = 0; n_lanes > 0 && round < 2; round++)
        run("shared ", n_lanes, n_prompt, n_tokens, true);
    if (n_lanes > 0)
        run("private", n_lanes, n_prompt, n_tokens, false);
    free(ids);
    eng_model_unref(model);
    eng_close(eng);
    return 0;
}

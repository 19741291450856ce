/* What a decode step costs by length of context and number of branches, where branches share nine
 * tenths of their context: milliseconds a step, and nanoseconds for each token that each branch
 * attends to, over a step with hardly any context.
 *
 *   curve MODEL STEPS BRANCHES,… LENGTH,…
 *
 * A branch's own tenth is evaluated once and then copied, page for page, to each of them: it costs
 * a step what evaluated ones cost, and the evaluation would take hours. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"

#define MAX_POINTS 16
#define SHORT      64 /* "hardly any context" */

static struct eng *eng;
static struct eng_model *model;

static void check(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "curve: %s\n", err->text);
        exit(1);
    }
}

/* Appends n tokens to c and evaluates them. */
static void extend(struct eng_ctx *c, size_t n)
{
    struct eng_req req = {.op = ENG_PREFILL, .ctx = c}, *list = &req;
    int32_t *ids = calloc(n + 1, sizeof *ids);
    struct pd_err err = {0};

    if (!ids)
        exit(1);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(pd_rng_uniform(1, i, n) * (double)eng_model_info(model)->n_vocab);
    check(eng_ctx_append(c, ids, n, &err), &err);
    check(eng_run(eng, &list, 1, &err), &err);
    check((int)req.err.code, &req.err);
    free(ids);
}

/* Seconds of a step of n branches, each behind `shared` and its own copy of `own`'s tail. */
static double step_s(struct eng_ctx *shared, struct eng_ctx *own, size_t n, uint32_t n_steps)
{
    struct eng_req *reqs = calloc(n, sizeof *reqs);
    struct eng_req **list = calloc(n, sizeof *list);
    size_t first = eng_ctx_n_tokens(shared), end = eng_ctx_n_tokens(own);
    struct pd_err err = {0};
    double s = 0;

    if (!reqs || !list)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        reqs[i] = (struct eng_req){.op = ENG_GENERATE,
                                   .sampling = {.temperature = 1, .top_p = 1},
                                   .key = i,
                                   .ignore_end = true};
        list[i] = &reqs[i];
        check(eng_ctx_fork(shared, &reqs[i].ctx, &err), &err);
        check(eng_ctx_move(reqs[i].ctx, own, first, end, &err), &err);
    }
    for (int round = 0; round < 2; round++) { /* the first catches up with what is pending */
        int64_t t0 = pd_clock_now_ns();

        for (size_t i = 0; i < n; i++)
            reqs[i].max_tokens = round ? n_steps : 2;
        check(eng_run(eng, list, n, &err), &err);
        s = (double)(pd_clock_now_ns() - t0) / 1e9 / n_steps;
        for (size_t i = 0; i < n; i++) {
            check((int)reqs[i].err.code, &reqs[i].err);
            eng_req_done(&reqs[i]);
        }
    }
    for (size_t i = 0; i < n; i++)
        eng_ctx_free(reqs[i].ctx);
    free(reqs);
    free(list);
    return s;
}

static size_t read_list(const char *text, size_t *out)
{
    size_t n = 0;

    for (char *end; n < MAX_POINTS && *text; text = *end ? end + 1 : end)
        out[n++] = strtoul(text, &end, 10);
    return n;
}

int main(int argc, char **argv)
{
    struct eng_config config = {.kv_bytes = UINT64_C(1) << 40, .no_prefix_cache = true};
    size_t branches[MAX_POINTS], lengths[MAX_POINTS], n_branches, n_lengths;
    double base[MAX_POINTS];
    struct pd_err err = {0};
    uint32_t n_steps;

    if (argc < 5) {
        fprintf(stderr, "usage: curve MODEL STEPS BRANCHES,… LENGTH,…\n");
        return 2;
    }
    n_steps = (uint32_t)atoi(argv[2]);
    n_branches = read_list(argv[3], branches);
    n_lengths = read_list(argv[4], lengths);
    check(eng_open(&config, &eng, &err), &err);
    check(eng_model_open(eng, argv[1], &model, &err), &err);
    printf("%9s", "context");
    for (size_t b = 0; b < n_branches; b++)
        printf("  %9zu branches", branches[b]);
    printf("\n");
    for (size_t l = 0; l <= n_lengths; l++) {
        size_t n = l ? lengths[l - 1] : SHORT;
        struct eng_ctx *shared, *own;

        check(eng_ctx_new(eng, model, &shared, &err), &err);
        extend(shared, n - n / 10);
        check(eng_ctx_fork(shared, &own, &err), &err);
        extend(own, n / 10);
        printf("%9zu", n);
        for (size_t b = 0; b < n_branches; b++) {
            double s = step_s(shared, own, branches[b], n_steps);

            if (l == 0)
                base[b] = s;
            printf("  %7.1f ms %4.0f ns", 1e3 * s,
                   1e9 * (s - base[b]) / (double)((n - SHORT) * branches[b] + !l));
            fflush(stdout);
        }
        printf("\n");
        eng_ctx_free(own);
        eng_ctx_free(shared);
    }
    eng_model_unref(model);
    eng_close(eng);
    return 0;
}

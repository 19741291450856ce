/* What one process can hold open: n streams at once to engines elsewhere, again and again. Prints for
 * each round the tokens, the time, this process's CPU time and its memory; of the server's nothing is
 * in it.
 *
 * usage: streams DIALECT+URL STREAMS [ROUNDS [TOKENS [ENDPOINTS]]]
 *
 * The endpoints are as many hosts with a bound and a circuit of their own; here all have one address. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/file.h"
#include "remote/remote.h"

#define ENDPOINTS_MAX 1024

static void need(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "streams: %s\n", err->text);
        exit(1);
    }
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double resident_mb(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long size = 0, pages = 0;

    if (!f || fscanf(f, "%lu %lu", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * 4096 / 1e6;
}

static struct pd_generator *open_endpoint(struct remote_pool *pool, struct remote_config c, size_t i,
                                          size_t n_streams)
{
    struct remote_engine *e = NULL;
    struct pd_generator *g = NULL;
    struct pd_err err;
    char name[32];

    snprintf(name, sizeof name, "e%zu", i);
    c.name = name;
    c.max_inflight = (int64_t)n_streams;
    need(remote_engine(pool, &c, &e, &err), &err);
    need(remote_generator_new(e, "m", NULL, NULL, &g, &err), &err);
    return g;
}

/* One lane a stream on the prompt "Go." each. */
static void submit(struct pd_generator *g, struct pd_lane *lanes, size_t n, uint32_t max_tokens,
                   uint64_t key)
{
    static const struct pd_sampling sampling = {.temperature = 1, .top_p = 1};
    struct pd_lane **list = calloc(n, sizeof *list);
    struct pd_err err;

    for (size_t i = 0; i < n; i++) {
        int32_t *ids = NULL;
        size_t n_ids = 0;

        lanes[i] = (struct pd_lane){.op = PD_LANE_GENERATE,
                                    .sampling = &sampling,
                                    .key = key + i,
                                    .max_tokens = max_tokens};
        list[i] = &lanes[i];
        if (i > 0) {
            need(g->ops->ctx_fork(g, lanes[0].ctx, &lanes[i].ctx, &err), &err);
            continue;
        }
        need(g->ops->tokenize(g, PD_STR("Go."), &ids, &n_ids, &err), &err);
        need(g->ops->ctx_new(g, &lanes[0].ctx, &err), &err);
        need(g->ops->ctx_append(g, lanes[0].ctx, ids, n_ids, &err), &err);
        free(ids);
    }
    need(g->ops->submit(g, list, n, &err), &err);
    free(list);
}

int main(int argc, char **argv)
{
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    size_t rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 3;
    uint32_t max_tokens = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 64;
    size_t n_ends = argc > 5 ? strtoul(argv[5], NULL, 10) : 1, each = n_ends ? n / n_ends : 0;
    struct pd_generator *g[ENDPOINTS_MAX];
    struct remote_config config;
    struct remote_pool *pool;
    struct pd_lane *lanes;
    struct pd_arena arena;
    struct pd_err err;

    pd_arena_init(&arena, 1 << 20);
    if (!each || n_ends > ENDPOINTS_MAX || remote_parse(argv[1], &arena, &config, &err) != 1) {
        fprintf(stderr, "usage: streams DIALECT+URL STREAMS [ROUNDS [TOKENS [ENDPOINTS]]]\n");
        return 2;
    }
    need(remote_pool_new(&pool, &err), &err);
    lanes = calloc(n, sizeof *lanes);
    for (size_t i = 0; i < n_ends; i++)
        g[i] = open_endpoint(pool, config, i, each);
    for (size_t round = 0; round < rounds; round++) {
        int64_t began = pd_clock_now_ns();
        double cpu = cpu_s(), wall, most = 0;
        size_t tokens = 0, failed = 0;

        for (size_t i = 0; i < n_ends; i++)
            submit(g[i], lanes + i * each, each, max_tokens, round * n + i * each + 1);
        for (size_t i = 0; i < n_ends * each; i++) {
            struct pd_lane *lane;

            need(g[i / each]->ops->wait(g[i / each], PD_NEVER_NS, &lane), NULL);
            tokens += lane->n_tokens;
            failed += lane->end == PD_END_ERROR;
            most = i == 0 ? resident_mb() : most; /* all others are on their way */
        }
        wall = (double)(pd_clock_now_ns() - began) / 1e9;
        cpu = cpu_s() - cpu;
        printf("%zu streams: %zu tokens, %zu failed, %.1f s, %.0f tokens/s, %.1f requests/s, "
               "CPU %.2f s, %.1f ms for 1,000 tokens, %.0f MB resident\n",
               n_ends * each, tokens, failed, wall, (double)tokens / wall,
               (double)(n_ends * each) / wall, cpu, tokens ? cpu * 1e6 / (double)tokens : 0, most);
        fflush(stdout);
        for (size_t i = 0; i < n_ends * each; i++) {
            g[i / each]->ops->release(g[i / each], &lanes[i]);
            g[i / each]->ops->ctx_free(g[i / each], lanes[i].ctx);
        }
    }
    for (size_t i = 0; i < n_ends; i++)
        g[i]->ops->free(g[i]);
    remote_pool_free(pool);
    pd_arena_done(&arena);
    free(lanes);
    return 0;
}

/* A database with many nodes, to time what reads it: two runs of one recipe, votes and best-of-N of
 * 50 lines on 500 problems, so many times each. 51,000 nodes a repeat and run.
 *
 *   many_nodes DATABASE REPEATS
 *
 * 10 repeats make 1,020,000 nodes. docs/performance.md says what was measured with it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/rng.h"
#include "storage/storage.h"

#define PROBLEMS    500
#define LINES       50
#define LINE_TOKENS 24

static struct store *s;
static uint64_t draws;

static void check(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "many_nodes: %s\n", err->text);
        exit(1);
    }
}

static double uniform(void)
{
    return pd_rng_uniform(1, draws++, 0);
}

static void put_run(const char *id, unsigned repeats)
{
    struct pd_err err = {0};
    char recipe[512];
    struct store_run r = {.name = "many",
                          .status = "done",
                          .lock = "{\"models\":[{\"name\":\"tiny\",\"shape\":{\"weights\":1000000,"
                                  "\"layers\":4,\"heads\":4,\"heads_kv\":2,\"head_dim\":32}}]}",
                          .host = "here",
                          .created_ms = 1000,
                          .finished_ms = 2000};

    snprintf(recipe, sizeof recipe,
             "{\"ponder_recipe\":1,\"name\":\"many\",\"dataset\":{\"path\":\"dev.jsonl\"},"
             "\"generator\":{\"model\":\"tiny\"},\"strategies\":["
             "{\"name\":\"majority\",\"strategy\":\"self_consistency\",\"samples\":%d},"
             "{\"name\":\"bon\",\"strategy\":\"best_of_n\",\"samples\":%d}],\"repeats\":%u}",
             LINES, LINES, repeats);
    snprintf(r.id, sizeof r.id, "%s", id);
    r.recipe = pd_str_of(recipe);
    check(store_run_put(s, &r, &err), &err);
}

/* A line and its call, and of best-of-N its score and the call for that. */
static void put_line(const char *job, uint32_t id, bool scored, int64_t *io_call)
{
    int32_t tokens[LINE_TOKENS];
    float logprobs[LINE_TOKENS];
    double steps[4];
    char text[160];
    struct pd_err err = {0};
    struct pd_node_rec n = {.id = id,
                            .depth = 1,
                            .step = 4,
                            .status = "finished",
                            .finish = "eos",
                            .tokens = tokens,
                            .logprobs = logprobs,
                            .n_tokens = LINE_TOKENS,
                            .seed = id,
                            .created_ms = 1500,
                            .call_id = *io_call};
    struct pd_score_rec score = {
        .node_id = id, .scorer = "prm", .kind = "step", .steps = steps, .n_steps = 4};
    struct pd_call_rec call = {.engine = "local",
                               .dialect = "gguf",
                               .op = "generate",
                               .model = "tiny",
                               .outcome = "ok",
                               .prompt_tokens = 60,
                               .cached_tokens = 60,
                               .generated_tokens = LINE_TOKENS,
                               .started_ms = 1400,
                               .ended_ms = 1500};

    for (int i = 0; i < LINE_TOKENS; i++) {
        tokens[i] = (int32_t)(uniform() * 2000);
        logprobs[i] = (float)-uniform();
    }
    for (int i = 0; i < 4; i++)
        steps[i] = uniform();
    snprintf(text, sizeof text, "Line %llu goes on for a while. The answer is \\boxed{%d}.",
             (unsigned long long)draws, (int)(uniform() * 6));
    n.text = pd_str_of(text);
    check(store_call_put(s, job, &call, &err), &err);
    check(store_node_put(s, job, &n, &err), &err);
    ++*io_call;
    if (!scored)
        return;
    call.op = "score";
    call.cached_tokens = 40;
    call.generated_tokens = 0;
    score.call_id = (*io_call)++;
    score.value = steps[3];
    check(store_call_put(s, job, &call, &err), &err);
    check(store_score_put(s, job, &score, &err), &err);
}

static void put_job(const char *run, bool scored, int problem, unsigned repeat)
{
    char id[PD_JOB_ID_MAX], key[32], request[128], digest[PD_SHA256_HEX];
    uint8_t sum[PD_SHA256_BYTES];
    struct pd_err err = {0};
    struct pd_node_rec root = {
        .status = "open", .finish = "prompt", .text = PD_STR("prompt"), .call_id = -1};
    struct pd_job_rec j = {.id = id,
                           .problem_key = key,
                           .run_id = run,
                           .variant = scored ? "bon" : "majority",
                           .repeat = repeat,
                           .strategy = scored ? "best_of_n" : "self_consistency",
                           .options = "{}",
                           .model = "tiny",
                           .scorer = scored ? "prm" : NULL,
                           .seed = (uint64_t)problem,
                           .status = "running",
                           .budget = "{}",
                           .created_ms = 1000,
                           .started_ms = 1400,
                           .answer_node = -1,
                           .correct = -1};
    int64_t call = 0;

    snprintf(id, sizeof id, "job_%s_%c_%d_%u", run + 4, scored ? 'b' : 'm', problem, repeat);
    snprintf(key, sizeof key, "p-%04d", problem);
    snprintf(request, sizeof request, "{\"question\":\"What is %d?\",\"expect\":\"%d\"}", problem,
             problem % 6);
    pd_sha256_bytes(key, strlen(key), sum);
    pd_hex(sum, sizeof sum, digest);
    j.request = pd_str_of(request);
    check(store_job_put(s, &j, &err), &err);
    check(store_node_put(s, id, &root, &err), &err);
    for (uint32_t i = 1; i <= LINES; i++)
        put_line(id, i, scored, &call);
    j.status = "done";
    j.stopped_by = "answer";
    j.finished_ms = 1600;
    j.answer_node = 1;
    j.answer = "3";
    j.correct = uniform() < 0.5;
    j.digest = digest;
    j.sequential = LINE_TOKENS;
    check(store_job_put(s, &j, &err), &err);
}

int main(int argc, char **argv)
{
    static const char *const runs[] = {"run_many_a", "run_many_b"};
    unsigned repeats = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    struct pd_err err = {0};

    if (repeats == 0) {
        fprintf(stderr, "usage: many_nodes DATABASE REPEATS\n");
        return 2;
    }
    check(store_open(argv[1], STORE_WRITE, &s, &err), &err);
    for (int r = 0; r < 2; r++) {
        put_run(runs[r], repeats);
        for (unsigned repeat = 0; repeat < repeats; repeat++)
            for (int p = 0; p < PROBLEMS; p++) {
                put_job(runs[r], false, p, repeat);
                put_job(runs[r], true, p, repeat);
            }
    }
    check(store_flush(s, &err), &err);
    store_close(s);
    return 0;
}

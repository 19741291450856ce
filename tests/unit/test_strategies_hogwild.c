/* hogwild: who sees what, what moves where, when it ends; with one worker it is ordinary decoding.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/app.h"
#include "base/clock.h"
#include "base/str.h"
#include "engine/engine.h"
#include "tests/support/toy.h"

static struct trial t;

/* ---- a world in which every worker reads the desk ----------------------------------------------
 */

#define MAX_SEEN 4096

static char seen[3][64][MAX_SEEN]; /* what worker w had before it at its k-th token */
static size_t n_seen[3];

/* Which of Alice, Bob and Carol wrote her name last before ids[n). */
static int who(const char *text)
{
    static const char *const names[] = {"**Alice [", "**Bob [", "**Carol ["};
    const char *last = NULL;
    int w = -1;

    for (int i = 0; i < 3; i++)
        for (const char *at = text; (at = strstr(at, names[i])) != NULL; at++)
            if (!last || at > last) {
                last = at;
                w = i;
            }
    return w;
}

/* What comes behind the last name. */
static const char *own_text(const char *text)
{
    const char *last = NULL;

    for (const char *at = text; (at = strstr(at, ":** ")) != NULL; at += 4)
        last = at + 4;
    assert_non_null(last);
    return last;
}

/* How often a worker has said its letter there. */
static size_t n_said(const char *text, int w)
{
    size_t n = 0;

    for (const char *at = own_text(text); *at; at++)
        n += *at == 'a' + w;
    return n;
}

/* Each worker says its letter; Alice's steps have 2 of them, Bob's 3, Carol's 5. The conclusion is
 * 7. */
static int32_t writes_steps(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    char text[MAX_SEEN], *own;
    size_t prompt = fake_prompt(at->ids, at->n), n = 0, said;
    int w;

    (void)f;
    *out_logprob = -1;
    for (size_t i = prompt; i < at->n; i++) {
        assert_true(n + 4 < sizeof text);
        if (at->ids[i] == FAKE_BREAK) {
            memcpy(text + n, ".\n\n", 3);
            n += 3;
        } else if (at->ids[i] < FAKE_EOS) {
            text[n++] = (char)at->ids[i];
        }
    }
    text[n] = '\0';
    own = strstr(text, "boxed{");
    if (own)
        return "7}"[strlen(own + 6) % 2];
    w = who(text);
    assert_true(w >= 0);
    said = n_said(text, w);
    if (n_seen[w] < 64)
        memcpy(seen[w][n_seen[w]++], text, n + 1);
    return said == (size_t)(w == 0 ? 2 : w == 1 ? 3 : 5) ? FAKE_BREAK : 'a' + w;
}

static void start(const char *options)
{
    trial_init(&t, pd_strategy_find("hogwild"), options);
    t.gen.next = writes_steps;
    memset(n_seen, 0, sizeof n_seen);
    assert_int_equal(trial_run(&t), 0);
}

#define OTHERS "### Work in progress (others)\n\n"
#define OWN    "<...>\n\n### Work in progress (own)\n\n"

static void saw(int w, size_t k, const char *text)
{
    assert_true(k < n_seen[w]);
    assert_string_equal(seen[w][k], text);
}

static const char *answer_line(void)
{
    assert_true(t.result.answer_node >= 0);
    return trial_line(&t, (uint32_t)t.result.answer_node);
}

/* Names are fed one token a step, and Bob's is the shorter one: he draws first. His step ends with
 * his fourth token; when Alice draws her third, its text is common, and he is at his next name. */
static void combined_shows_work_in_progress(void **state)
{
    (void)state;
    start("workers=2 token_budget=16");
    saw(1, 0, OTHERS "**Alice [1]:*" OWN "**Bob [1]:** ");
    saw(0, 0, OTHERS "**Bob [1]:** bb" OWN "**Alice [1]:** ");
    saw(1, 3, OTHERS "**Alice [1]:** a" OWN "**Bob [1]:** bbb");
    saw(0, 1, OTHERS "**Bob [1]:** bbb" OWN "**Alice [1]:** a");
    saw(0, 2, "**Bob [1]:** bbb.\n\n" OTHERS "*" OWN "**Alice [1]:** aa");
    saw(1, 4,
        "**Bob [1]:** bbb.\n\n**Alice [1]:** aa.\n\n" OTHERS "**Alice [2]:" OWN "**Bob [2]:** ");
    assert_string_equal(t.result.key, "7");
    trial_done(&t);
}

static void interleaved_shows_what_is_finished(void **state)
{
    (void)state;
    start("workers=2 layout=interleaved token_budget=16");
    saw(1, 0, "**Bob [1]:** ");
    saw(0, 1, "**Alice [1]:** a");
    saw(0, 2, "**Bob [1]:** bbb.\n\n**Alice [1]:** aa");
    trial_done(&t);
}

static void contiguous_moves_nothing(void **state)
{
    (void)state;
    start("workers=2 layout=contiguous token_budget=16");
    saw(1, 0, "**Alice [1]:***Bob [1]:** ");
    saw(0, 1, "**Bob [1]:** bbb**Alice [1]:** a");
    saw(0, 2, "**Bob [1]:** bbb.\n\n**Alice [1]:** aa");
    assert_int_equal(strncmp(answer_line(), "**Alice [1]:** aa.\n\n**Alice [2]:** ", 34), 0);
    trial_done(&t);
}

/* The steps in the order in which they were finished, what is unfinished, the conclusion. */
static void the_answer_is_behind_all_that_was_written(void **state)
{
    (void)state;
    start("workers=3 token_budget=30 conclude=so:\\boxed{");
    assert_string_equal(answer_line(), "**Bob [1]:** bbb.\n\n**Alice [1]:** aa.\n\n"
                                       "**Carol [1]:** ccccc.\n\n**Bob [2]:** bbb.\n\n"
                                       "**Alice [2]:** aa.\n\n**Alice [3]:** aa.\n\n"
                                       "**Alice [4]:** \n\n**Bob [3]:** bbb\n\n"
                                       "**Carol [2]:** cccso:\\boxed{7}");
    assert_string_equal(t.result.key, "7");
    assert_int_equal(t.result.usage.generated, 29 + 2); /* a last one is not enough for three */
    assert_int_equal(t.result.usage.discarded, 0);
    trial_done(&t);
}

static void the_budget_holds_for_any_number_of_workers(void **state)
{
    char options[128];

    (void)state;
    for (int workers = 1; workers <= 16; workers++)
        for (int budget = 1; budget < 80; budget += 13)
            for (int layout = 0; layout < 3; layout++) {
                static const char *const layouts[] = {"combined", "interleaved", "contiguous"};

                snprintf(options, sizeof options,
                         "workers=%d token_budget=%d layout=%s check_every=7 answer_tokens=3",
                         workers, budget, layouts[layout]);
                trial_init(&t, pd_strategy_find("hogwild"), options);
                if (trial_run(&t) < 0)
                    fail_msg("%s: %s", options, t.err.text);
                if (t.result.usage.generated > (uint64_t)budget + 3)
                    fail_msg("%s: %d tokens", options, (int)t.result.usage.generated);
                trial_done(&t);
            }
}

/* In turn, every so many tokens of all. */
static void workers_are_asked_in_turn(void **state)
{
    const char *json;
    double worker;

    (void)state;
    start("workers=3 token_budget=40 check_every=8 check=Really?:_");
    for (size_t i = 0; i < 4; i++) {
        assert_true(toy_decision(&t, "check", i, &json));
        assert_int_equal(toy_numbers(json, "worker", &worker, 1), 1);
        assert_int_equal((int)worker, i % 3);
    }
    assert_non_null(strstr(answer_line(), "Really?:_"));
    trial_done(&t);
}

static size_t n_bob;

static int32_t bob_knows(struct fake *f, const struct fake_place *at, float *out_logprob)
{
    static const char text[] = "answer: 5";
    int32_t id = writes_steps(f, at, out_logprob);
    size_t said;

    if (n_seen[1] == n_bob) /* somebody else draws */
        return id;
    n_bob = n_seen[1];
    said = strlen(own_text(seen[1][n_bob - 1]));
    return said < strlen(text) ? text[said] : FAKE_BREAK;
}

static void an_answer_may_end_the_work(void **state)
{
    uint64_t drawn[2];

    (void)state;
    for (int stop = 0; stop < 2; stop++) {
        trial_init(&t, pd_strategy_find("hogwild"),
                   stop ? "workers=2 token_budget=90 stop_on_answer=true"
                        : "workers=2 token_budget=90");
        t.gen.next = bob_knows;
        memset(n_seen, 0, sizeof n_seen);
        n_bob = 0;
        assert_int_equal(trial_run(&t), 0);
        drawn[stop] = t.result.usage.generated;
        trial_done(&t);
    }
    assert_true(drawn[0] > 80 && drawn[1] < 30);
}

/* ---- the engine --------------------------------------------------------------------------------
 */

/* One worker: the log-probabilities are those of the concatenated text, bit for bit. */
static void one_worker_decodes_ordinarily(void **state)
{
    char dir[] = "/tmp/ponder-hogwild-XXXXXX", cmd[64];
    const char *options[] = {"workers=1",       "max_tokens=90", "check_every=20",
                             "token_budget=60", "rules=Think. ", "conclude=\n\nSo it is \\boxed{"};
    struct app_config config = {.n_threads = 2, .data_dir = mkdtemp(dir)};
    struct app_request request = {.question = "Zoe has 9 stamps. She loses 2. How many are left?",
                                  .strategy = "hogwild",
                                  .seed = 3,
                                  .options = options,
                                  .n_options = sizeof options / sizeof *options};
    const struct pd_result *r = NULL;
    const struct pd_node_rec *node;
    struct app *a = NULL;
    struct app_job *j = NULL;
    struct eng_req q = {.op = ENG_SCORE, .want_logprobs = true}, *list = &q;
    struct pd_err err = {0};
    size_t at = 0, n_drawn = 0;

    (void)state;
    assert_non_null(config.data_dir);
    assert_int_equal(app_open(&config, &a, &err), 0);
    assert_int_equal(app_job_new(a, &request, &j, &err), 0);
    assert_int_equal(app_job_start(j, &err), 0);
    assert_int_equal(app_job_wait(j, PD_NEVER_NS, &r, &err), 0);
    {
        char path[4096];
        const char *models = getenv("PONDER_MODELS_DIR");
        struct eng_model *m = NULL;

        snprintf(path, sizeof path, "%s/tiny-base-Q8_0.gguf", models ? models : "recipes/models");
        assert_int_equal(eng_model_open(app_engine(a), path, &m, &err), 0);
        assert_int_equal(eng_ctx_new(app_engine(a), m, &q.ctx, &err), 0);
        eng_model_unref(m);
    }
    node = r->trace.nodes;
    for (size_t i = 1; i < r->trace.n_nodes; i++) /* [0]: the problem without the rules */
        if (eng_ctx_append(q.ctx, node[i].tokens, node[i].n_tokens, &err) < 0)
            fail_msg("%s", err.text);
    assert_int_equal(eng_run(app_engine(a), &list, 1, &err), 0);
    for (size_t i = 1; i < r->trace.n_nodes; at += node[i++].n_tokens) {
        assert_true(i == 1 || node[i].parent == i - 1); /* one line */
        if (!node[i].logprobs || !node[i].n_tokens)
            continue;
        assert_memory_equal(node[i].logprobs, q.logprobs + at, node[i].n_tokens * sizeof(float));
        n_drawn += node[i].n_tokens;
    }
    assert_in_range(n_drawn, 60, 76);
    eng_ctx_free(q.ctx);
    eng_req_done(&q);
    app_job_free(j);
    app_close(a);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(combined_shows_work_in_progress),
        cmocka_unit_test(interleaved_shows_what_is_finished),
        cmocka_unit_test(contiguous_moves_nothing),
        cmocka_unit_test(the_answer_is_behind_all_that_was_written),
        cmocka_unit_test(the_budget_holds_for_any_number_of_workers),
        cmocka_unit_test(workers_are_asked_in_turn),
        cmocka_unit_test(an_answer_may_end_the_work),
        cmocka_unit_test(one_worker_decodes_ordinarily),
    };

    alarm(240);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

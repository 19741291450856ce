/* One arithmetic, one digest: a job's digest does not depend on ISA, threads, prefill chunk, the
 * company of other jobs, or on what was served from its trace; and the ledger is the same wherever
 * it is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/app.h"
#include "base/clock.h"

static char dir[] = "/tmp/ponder-digest-XXXXXX";

struct outcome {
    char digest[65], id[PD_JOB_ID_MAX];
    struct pd_usage usage;
    uint32_t of;
    char stopped_by[32];
};

static struct app_job *new_job_with(struct app *a, const char *strategy, uint64_t seed,
                                    uint64_t tokens, int samples, const char *option)
{
    /* where the defaults are nothing to go by */
    bool table = strcmp(strategy, "compute_optimal") == 0;
    const char *options[] = {
        "max_tokens=160",
        table ? "table=.5;1@1,self_consistency(samples=6),1,1;2@1,beam(samples=4,expand=2),1,1"
              : "temperature=.8",
        "draft_always=true", option};
    struct app_request r = {
        .question = "Zoe has 9 stamps. She gives away a third of them. Then she loses 2. How many "
                    "stamps does Zoe have now?",
        .strategy = strategy,
        .seed = seed,
        .options = options,
        .n_options = option ? 4 : 2,
        .budget_samples = (uint64_t)samples}; /* where a strategy has samples */
    struct pd_err err = {0};
    struct app_job *j = NULL;

    r.budget.tokens = tokens;
    if (app_job_new(a, &r, &j, &err) < 0)
        fail_msg("%s", err.text);
    return j;
}

static struct app_job *new_job(struct app *a, const char *strategy, uint64_t seed, uint64_t tokens,
                               int samples)
{
    return new_job_with(a, strategy, seed, tokens, samples, NULL);
}

static struct app *open_app(unsigned threads, unsigned chunk)
{
    struct app_config c = {.n_threads = threads, .prefill_chunk = chunk, .data_dir = dir};
    struct pd_err err = {0};
    struct app *a = NULL;

    if (app_open(&c, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static struct outcome end_job(struct app_job *j)
{
    const struct pd_result *r = NULL;
    struct outcome o = {0};
    struct pd_err err = {0};

    if (app_job_wait(j, PD_NEVER_NS, &r, &err) < 0)
        fail_msg("%s", err.text);
    memcpy(o.digest, r->digest, sizeof o.digest);
    snprintf(o.id, sizeof o.id, "%s", app_job_core(j)->id);
    snprintf(o.stopped_by, sizeof o.stopped_by, "%s", r->stopped_by);
    o.usage = r->usage;
    o.of = r->of;
    app_job_free(j);
    return o;
}

static struct outcome run(struct app *a, const char *strategy, uint64_t seed, uint64_t tokens,
                          int samples)
{
    struct app_job *j = new_job(a, strategy, seed, tokens, samples);

    assert_int_equal(app_job_start(j, NULL), 0);
    return end_job(j);
}

static struct outcome run_stored(struct app *a, const char *id, enum pd_job_mode mode)
{
    struct pd_err err = {0};
    struct app_job *j = NULL;

    if (app_job_stored(a, id, mode, &j, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(app_job_start(j, NULL), 0);
    return end_job(j);
}

static void same_for_isa_threads_and_chunks(void **state)
{
    static const char *const isa[] = {"scalar", "avx2", "avx512"};
    static const unsigned chunk[] = {1, 7, 64, 512};
    char first[65] = "";

    (void)state;
    for (int i = 0; i < 3; i++) {
        if (!eng_isa_supported((enum eng_isa)i))
            continue;
        setenv("PONDER_ISA", isa[i], 1);
        for (unsigned threads = 1; threads <= 2; threads++)
            for (int c = 0; c < (i == 0 ? 1 : 4);
                 c++) { /* the scalar kernels are slow: one chunk is enough */
                struct app *a = open_app(threads, chunk[c]);
                struct outcome o = run(a, "best_of_n", 5, 0, 4);

                if (!first[0])
                    memcpy(first, o.digest, sizeof first);
                assert_string_equal(o.digest, first);
                app_close(a);
            }
    }
    unsetenv("PONDER_ISA");
}

static void same_beside_seven_other_jobs(void **state)
{
    struct app *a = open_app(2, 0);
    struct outcome alone = run(a, "best_of_n", 11, 0, 8);
    struct app_job *j[8];

    (void)state;
    for (int i = 0; i < 8; i++)
        j[i] = new_job(a, i % 2 ? "self_consistency" : "best_of_n", i == 4 ? 11 : 100 + (uint64_t)i,
                       0, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(app_job_start(j[i], NULL), 0);
    for (int i = 0; i < 8; i++) {
        struct outcome o = end_job(j[i]);

        if (i == 4)
            assert_string_equal(o.digest, alone.digest);
    }
    app_close(a);
}

static struct pd_buf heard[64];

static void hear(void *self, const struct pd_piece *p)
{
    assert_true(p->node < 64);
    pd_buf_adds(&heard[p->node], p->text);
    *(uint32_t *)self += 1;
}

static void hear_prompt(void *self, const int32_t *tokens, uint32_t n)
{
    (void)self;
    assert_true(n > 10 && tokens);
}

static void hear_best(void *self, uint32_t node, double value)
{
    (void)self;
    assert_true(heard[node].len > 0 && value >= 0);
}

static void same_when_somebody_listens(void **state)
{
    struct app *a = open_app(2, 0);
    struct outcome alone = run(a, "best_of_n", 13, 0, 8);
    struct app_job *j = new_job(a, "best_of_n", 13, 0, 8);
    uint32_t n_pieces = 0;
    const struct pd_listener listener = {&n_pieces, hear_prompt, hear, hear_best};
    const struct pd_result *r = NULL;
    struct pd_err err = {0};

    (void)state;
    for (int i = 0; i < 64; i++)
        heard[i] = (struct pd_buf)PD_BUF_INIT(1 << 20);
    app_job_listen(j, &listener);
    assert_int_equal(app_job_start(j, NULL), 0);
    assert_int_equal(app_job_wait(j, PD_NEVER_NS, &r, &err), 0);
    assert_string_equal(r->digest, alone.digest);
    for (size_t i = 1; i < r->trace.n_nodes; i++)
        assert_true(pd_str_eq(pd_buf_str(&heard[i]), r->trace.nodes[i].text));
    assert_true(n_pieces >= 8);
    app_job_free(j);
    app_close(a);
    for (int i = 0; i < 64; i++)
        pd_buf_done(&heard[i]);
}

static void replayed_from_its_record_and_verified(void **state)
{
    struct app *a = open_app(2, 0), *b;

    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++) {
        struct outcome o = run(a, pd_strategies[i]->name, 3, 0, 8);
        struct pd_trace *t = NULL;
        char hex[65];

        setenv("PONDER_ISA", "scalar", 1); /* other kernels, threads and chunks: the same tokens */
        b = open_app(1, 7);
        unsetenv("PONDER_ISA");
        assert_string_equal(run_stored(b, o.id, PD_JOB_VERIFY).digest, o.digest);
        app_close(b);

        assert_string_equal(run_stored(a, o.id, PD_JOB_RECORDED).digest, o.digest);
        assert_string_equal(run_stored(a, o.id, PD_JOB_VERIFY).digest, o.digest);
        assert_int_equal(store_trace_load(app_store(a), o.id, &t, NULL), 0);
        pd_trace_digest(t, hex);
        assert_string_equal(hex, o.digest);
        store_trace_free(t);
    }
    app_close(a);
}

static void budget_is_never_exceeded_and_the_ledger_agrees(void **state)
{
    struct app *a = open_app(2, 0);
    uint64_t x = 12345;
    int n_strategies = 0;

    (void)state;
    while (pd_strategies[n_strategies])
        n_strategies++;
    for (int i = 0; i < 5 * n_strategies; i++) {
        uint64_t tokens, generated = 0, prefilled = 0, cached = 0, scored = 0;
        struct pd_trace *t = NULL;
        struct outcome o;

        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens = 1 + (x >> 33) % 400;
        o = run(a, pd_strategies[i % n_strategies]->name, x >> 40, tokens,
                4 + 4 * (int)((x >> 20) % 2));
        assert_true(o.usage.generated <= tokens);
        assert_int_equal(store_trace_load(app_store(a), o.id, &t, NULL), 0);
        for (size_t k = 0; k < t->n_calls; k++) {
            bool score = strcmp(t->calls[k].op, "score") == 0;

            generated += t->calls[k].generated_tokens;
            cached += t->calls[k].cached_tokens;
            *(score ? &scored : &prefilled) +=
                t->calls[k].prompt_tokens - t->calls[k].cached_tokens;
        }
        assert_int_equal(generated, o.usage.generated);
        assert_int_equal(prefilled, o.usage.prefilled);
        assert_int_equal(cached, o.usage.cached);
        assert_int_equal(scored, o.usage.scored);
        for (size_t k = 0; k < t->n_nodes; k++)
            generated -= t->nodes[k].logprobs ? t->nodes[k].n_tokens : 0;
        assert_int_equal(generated, 0);
        store_trace_free(t);
    }
    app_close(a);
}

static void same_with_speculation(void **state)
{
    struct app *a = open_app(2, 0);
    struct eng_stats s;

    (void)state;
    for (size_t i = 0; pd_strategies[i]; i++) {
        static const char *const how[] = {"speculate=lookup", "speculate=draft"};
        struct outcome plain = run(a, pd_strategies[i]->name, 3, 0, 4);

        for (int k = 0; k < 2; k++) {
            struct app_job *j = new_job_with(a, pd_strategies[i]->name, 3, 0, 4, how[k]);
            struct outcome o;

            assert_int_equal(app_job_start(j, NULL), 0);
            o = end_job(j);
            assert_string_equal(o.digest, plain.digest);
            assert_int_equal(o.usage.generated, plain.usage.generated);
            if (i == 0) /* it is stored with the request */
                assert_string_equal(run_stored(a, o.id, PD_JOB_VERIFY).digest, plain.digest);
        }
    }
    eng_stats(app_engine(a), &s);
    assert_true(s.right_guesses > 1000 && s.right_guesses < s.guessed_tokens);
    app_close(a);
}

/* The question was evaluated by another job: the ledger says so, the digest does not. */
static void second_job_prefills_nothing(void **state)
{
    struct app *a = open_app(2, 0);
    struct outcome first = run(a, "self_consistency", 3, 0, 4);
    struct outcome second = run(a, "self_consistency", 3, 0, 4);

    (void)state;
    assert_true(first.usage.prefilled > 20);
    assert_int_equal(second.usage.prefilled, 1);
    assert_int_equal(second.usage.cached + second.usage.prefilled,
                     first.usage.cached + first.usage.prefilled);
    assert_string_equal(second.digest, first.digest);
    app_close(a);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char cmd[128];

    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_for_isa_threads_and_chunks),
        cmocka_unit_test(same_beside_seven_other_jobs),
        cmocka_unit_test(same_when_somebody_listens),
        cmocka_unit_test(replayed_from_its_record_and_verified),
        cmocka_unit_test(budget_is_never_exceeded_and_the_ledger_agrees),
        cmocka_unit_test(same_with_speculation),
        cmocka_unit_test(second_job_prefills_nothing),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

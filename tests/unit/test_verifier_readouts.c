/* What scorers make of a model, by the engine: against numbers that tests/reference/readouts.py
 * computed in double precision from the same weights, and from a parent's context as from nothing.
 */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "app/app.h"
#include "base/clock.h"
#include "tests/support/head_file.h"
#include "tests/support/random_model.h"
#include "tests/unit/engine_tolerance.h"

#define MAX_STEPS 64

static struct app *a;

static int open_app(void **state)
{
    const struct app_config c = {.n_threads = 2, .no_trace = true};
    struct pd_err err = {0};

    (void)state;
    fx_ok(app_open(&c, &a, &err), &err);
    return 0;
}

static int close_app(void **state)
{
    (void)state;
    app_close(a);
    return 0;
}

/* The scores of texts that answer a problem, in their order; the job is the caller's. */
static struct app_job *score(const char *scorer, const char *problem, const char *const *texts,
                             size_t n, const struct pd_result **out)
{
    struct app_job *j = NULL;
    struct pd_err err = {0};

    fx_ok(app_job_score(a, scorer, problem, texts, n, &j, &err), &err);
    fx_ok(app_job_start(j, &err), &err);
    fx_ok(app_job_wait(j, PD_NEVER_NS, out, &err), &err);
    assert_int_equal((*out)->trace.n_scores, n);
    return j;
}

static double check(const struct pd_json *e, const char *folder)
{
    const char *shape = pd_json_string(pd_json_get(e, "shape")),
               *kind = pd_json_string(pd_json_get(e, "head")),
               *how = pd_json_string(pd_json_get(e, "scorer"));
    const struct pd_json *rewards = pd_json_get(e, "rewards");
    struct pd_buf scorer = PD_BUF_INIT(1 << 16), text = PD_BUF_INIT(1 << 16);
    struct pd_buf head = PD_BUF_INIT(1 << 20);
    const struct pd_result *r = NULL;
    char path[512], beside[512];
    struct pd_err err = {0};
    struct app_job *j;
    double worst = 0;

    /* a file for each head: a model that is loaded stays */
    snprintf(path, sizeof path, "%s/%s-%s.gguf", folder, shape, kind ? kind : "none");
    snprintf(beside, sizeof beside, "%s/%s-%s.head.safetensors", folder, shape,
             kind ? kind : "none");
    if (!pd_file_exists(path)) {
        fx_ok(random_model_write(random_model_find(shape), "F32", false, 1, path, &err), &err);
        if (kind) {
            head_of_kind(&head, kind, random_model_find(shape)->n_embd);
            fx_ok(pd_write_file(beside, pd_buf_str(&head), &err), &err);
        }
    }
    pd_buf_printf(&scorer, "%s%s", path, how);
    for (const struct pd_json *v = pd_json_first(pd_json_get(e, "steps")); v; v = pd_json_next(v))
        pd_buf_printf(&text, "%s%s", text.len ? "\n\n" : "", pd_json_string(v));
    j = score(scorer.data, pd_json_string(pd_json_get(e, "problem")), &(const char *){text.data}, 1,
              &r);
    if (r->trace.scores[0].n_steps != pd_json_size(rewards))
        fail_msg("%s%s: %u values, not %zu", shape, how, r->trace.scores[0].n_steps,
                 pd_json_size(rewards));
    for (uint32_t k = 0; k < r->trace.scores[0].n_steps; k++) {
        double got = r->trace.scores[0].steps[k], want = fx_number(pd_json_at(rewards, k));
        double off = fabs(log(got / (1 - got)) - log(want / (1 - want)));

        worst = off > worst ? off : worst;
        if (!(off < TOLERANCE_READOUT))
            fail_msg("%s%s, head %s, step %u: %.8f, not %.8f", shape, how, kind ? kind : "none",
                     k + 1, got, want);
    }
    app_job_free(j);
    pd_buf_done(&scorer);
    pd_buf_done(&text);
    pd_buf_done(&head);
    return worst;
}

static void as_computed_in_double(void **state)
{
    char folder[] = "/tmp/ponder-readouts-XXXXXX", path[4096], command[64];
    struct pd_json *root;
    size_t n = 0;
    double worst = 0;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tests/reference/readouts.json",
             getenv("PONDER_TEST_SRCDIR") ? getenv("PONDER_TEST_SRCDIR") : ".");
    root = fx_json(path);
    for (const struct pd_json *e = pd_json_first(root); e; e = pd_json_next(e), n++) {
        double w = check(e, folder);

        worst = w > worst ? w : worst;
    }
    assert_true(n >= 10);
    print_message("# %zu read-outs, largest error %.5f\n", n, worst);
    pd_json_free(root);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* Beam search scores each step from its parent's context; the lines again, each from nothing. */
static void from_the_parents_context_as_from_nothing(void **state)
{
    static const char *const scorers[] = {"tiny-prm", "tiny-base:kind=self_certainty",
                                          "tiny-base:kind=judge"};
    static const char *const options[] = {"samples=4", "expand=2", "max_steps=5"};
    static const char question[] =
        "Mia has 12 red pens and 3 times as many blue pens. How many pens has she in all?";

    (void)state;
    for (size_t i = 0; i < sizeof scorers / sizeof *scorers; i++) {
        struct app_request q = {.question = question,
                                .strategy = "beam",
                                .scorer = scorers[i],
                                .options = options,
                                .n_options = 3,
                                .seed = 7};
        const struct pd_result *r = NULL, *fresh = NULL;
        struct pd_err err = {0};
        struct app_job *j = NULL;
        size_t n = 0;

        fx_ok(app_job_new(a, &q, &j, &err), &err);
        fx_ok(app_job_start(j, &err), &err);
        fx_ok(app_job_wait(j, PD_NEVER_NS, &r, &err), &err);
        for (size_t k = 0; k < r->trace.n_scores; k++) {
            const struct pd_score_rec *s = &r->trace.scores[k];
            char *line = app_trace_line(&r->trace, s->node_id);
            struct app_job *again = score(scorers[i], question, &(const char *){line}, 1, &fresh);

            assert_string_equal(s->kind, i == 2 ? "outcome" : "step");
            assert_int_equal(s->n_steps, fresh->trace.scores[0].n_steps);
            assert_memory_equal(s->steps, fresh->trace.scores[0].steps,
                                s->n_steps * sizeof *s->steps);
            n += s->n_steps;
            app_job_free(again);
            free(line);
        }
        assert_true(n > 8);
        app_job_free(j);
    }
}

static void what_cannot_be_read_is_told(void **state)
{
    static const struct {
        const char *scorer;
        int code;
        const char *says;
    } cases[] = {
        {"tiny-base:kind=qwen_prm", PD_EFORMAT, "has no head, which qwen_prm reads"},
        {"tiny-prm:kind=nonsense", PD_EINVAL, "auto|step_tag|qwen_prm"},
        {"tiny-prm:kind=label_token", PD_EINVAL, "good=TEXT and bad=TEXT"},
        {"tiny-prm:kind=label_token,good=+,bad=+", PD_EINVAL, "are the same token"},
        {"tiny-prm:kind=label_token,good=unheard of,bad=+", PD_EFORMAT, "is no token of model"},
        {"tiny-prm:kind=step_tag,tag=x", PD_EINVAL, "options of kind=label_token"},
        {"tiny-prm:kind=tail_entropy,tail=0", PD_EINVAL, "tail"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct pd_result *r = NULL;
        struct app_job *j = NULL;
        struct pd_err err = {0};
        int rc = app_job_score(a, cases[i].scorer, "What is 1 + 1?", &(const char *){"It is 2."}, 1,
                               &j, &err);

        if (rc == 0 && (rc = app_job_start(j, &err)) == 0)
            rc = app_job_wait(j, PD_NEVER_NS, &r, &err);
        assert_int_equal(rc, cases[i].code);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].scorer, err.text);
        app_job_free(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_computed_in_double),
        cmocka_unit_test(from_the_parents_context_as_from_nothing),
        cmocka_unit_test(what_cannot_be_read_is_told),
    };

    return cmocka_run_group_tests(tests, open_app, close_app);
}

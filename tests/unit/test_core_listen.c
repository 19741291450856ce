/* Who listens to a job hears the text of every node, in whole characters, as it is written, and
 * which was judged best; and the job is the same for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/search_int.h"
#include "tests/support/trial.h"

#define MANY 256

static struct trial t;

static struct heard {
    struct pd_buf text[MANY];
    uint32_t n_pieces[MANY], n_tokens[MANY], parent[MANY];
    bool over[MANY];
    uint32_t best[MANY];
    double value[MANY];
    size_t n_best;
} heard;

static void hear_piece(void *self, const struct pd_piece *p)
{
    struct heard *h = self;

    assert_true(p->node < MANY);
    assert_true(pd_utf8_valid(p->text));
    assert_true(p->text.len || p->last);
    assert_false(h->over[p->node]);
    assert_true(p->n_tokens >= h->n_tokens[p->node]);
    h->over[p->node] = p->last;
    h->parent[p->node] = p->parent;
    h->n_tokens[p->node] = p->n_tokens;
    h->n_pieces[p->node]++;
    pd_buf_adds(&h->text[p->node], p->text);
}

static void hear_prompt(void *self, const int32_t *tokens, uint32_t n)
{
    struct heard *h = self;

    assert_true(n > 0 && tokens[n - 1] == FAKE_TURN);
    assert_int_equal(h->n_pieces[1], 0);
    h->n_tokens[0] = n;
}

static void hear_best(void *self, uint32_t node, double value)
{
    struct heard *h = self;

    assert_true(h->n_best < MANY);
    h->best[h->n_best] = node;
    h->value[h->n_best++] = value;
}

static const struct pd_listener listener = {&heard, hear_prompt, hear_piece, hear_best};

static void forget(void)
{
    for (size_t i = 0; i < MANY; i++)
        pd_buf_done(&heard.text[i]);
    memset(&heard, 0, sizeof heard);
    for (size_t i = 0; i < MANY; i++)
        heard.text[i] = (struct pd_buf)PD_BUF_INIT(1 << 16);
}

/* All that was heard is all that is there, of so many pieces a drawn node at least. */
static void check_heard(uint32_t n_pieces)
{
    const struct pd_trace *trace = &t.result.trace;
    uint32_t most = 0;

    for (uint32_t i = 0; i < trace->n_nodes; i++) {
        const struct pd_node_rec *n = &trace->nodes[i];
        bool ended = strcmp(n->finish, "eos") == 0;

        if (strcmp(n->finish, "prompt") == 0) {
            assert_int_equal(heard.n_pieces[i], 0);
            assert_int_equal(heard.n_tokens[i], n->n_tokens);
            continue;
        }
        assert_true(heard.over[i]);
        assert_int_equal(heard.parent[i], n->parent);
        assert_int_equal(heard.n_tokens[i], n->n_tokens - ended);
        assert_true(pd_str_eq(pd_buf_str(&heard.text[i]), n->text));
        most = heard.n_pieces[i] > most ? heard.n_pieces[i] : most;
    }
    assert_true(most >= n_pieces);
}

static int end(void **state)
{
    (void)state;
    trial_done(&t);
    forget();
    return 0;
}

static void every_text_is_heard_and_nothing_changes(void **state)
{
    static const struct {
        const struct pd_strategy *strategy;
        uint64_t tokens; /* budget */
    } cases[] = {{&trial_beam, 0}, {&trial_race, 0}, {&trial_beam, 60}};
    char digest[65];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        forget();
        trial_init(&t, cases[i].strategy, "");
        t.job.budget.tokens = cases[i].tokens;
        assert_int_equal(trial_run(&t), 0);
        memcpy(digest, t.digest, sizeof digest);
        t.job.listener = &listener;
        assert_int_equal(trial_run(&t), 0);
        assert_string_equal(t.digest, digest);
        check_heard(4);
        /* what is served from a record is heard too, all at once */
        forget();
        assert_int_equal(trial_replay(&t, PD_JOB_RECORDED), 0);
        check_heard(1);
        for (uint32_t k = 0; k < MANY; k++)
            assert_true(heard.n_pieces[k] <= 1);
        if (i + 1 < sizeof cases / sizeof *cases)
            trial_done(&t);
    }
}

/* Tokens are bytes here: characters of several of them are told when they are whole; bytes that
 * never become one at the end. */
static void characters_are_whole(void **state)
{
    static const char *const lines[] = {
        "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80\n\nso \xe2\x82\xac"
        "5",
        NULL};

    (void)state;
    forget();
    trial_init(&t, pd_strategy_find("single"), "");
    trial_script(&t, lines);
    t.job.listener = &listener;
    assert_int_equal(trial_run(&t), 0);
    check_heard(12);
}

static void forced_text_is_heard(void **state)
{
    static const char *const lines[] = {"well, well", NULL};

    (void)state;
    forget();
    trial_init(&t, pd_strategy_find("single"), "max_tokens=4");
    trial_script(&t, lines);
    t.job.budget.wrap_up = "\nThe answer is ";
    t.job.listener = &listener;
    assert_int_equal(trial_run(&t), 0);
    check_heard(1);
    assert_string_equal(heard.text[2].data, "\nThe answer is ");
}

static void the_best_is_told(void **state)
{
    (void)state;
    forget();
    trial_init(&t, &trial_beam, "");
    t.job.listener = &listener;
    assert_int_equal(trial_run(&t), 0);
    assert_true(heard.n_best >= 2);
    for (size_t i = 0; i < heard.n_best; i++) {
        const struct pd_trace *trace = &t.result.trace;
        double mine = -1;

        for (size_t k = 0; k < trace->n_scores; k++)
            if (trace->scores[k].node_id == heard.best[i])
                mine = trace->scores[k].value;
        assert_true(mine >= heard.value[i] && mine <= heard.value[i]);
        for (size_t k = 0; k < trace->n_scores; k++) /* of its siblings none is better */
            if (trace->nodes[trace->scores[k].node_id].parent == trace->nodes[heard.best[i]].parent)
                assert_true(trace->scores[k].value <= heard.value[i]);
    }
}

static void a_cancelled_job_was_heard_so_far(void **state)
{
    size_t n_over = 0, n_open = 0;

    (void)state;
    forget();
    trial_init(&t, &trial_beam, "");
    t.gen.cancel = &t.job.cancel;
    t.gen.cancel_at = 24;
    t.job.listener = &listener;
    assert_int_equal(trial_run(&t), PD_ECANCEL);
    for (size_t i = 0; i < MANY; i++) {
        n_over += heard.over[i];
        n_open += heard.n_pieces[i] && !heard.over[i];
    }
    assert_true(n_over > 0 && n_open > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_text_is_heard_and_nothing_changes, end),
        cmocka_unit_test_teardown(characters_are_whole, end),
        cmocka_unit_test_teardown(forced_text_is_heard, end),
        cmocka_unit_test_teardown(the_best_is_told, end),
        cmocka_unit_test_teardown(a_cancelled_job_was_heard_so_far, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

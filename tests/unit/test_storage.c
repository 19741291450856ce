/* The trace database: what is put comes back, what is acknowledged survives, and files that are
 * not ours, not whole or not writable are told apart. Tests that fork have no store open. */
#include "storage/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/store_int.h"
#include "tests/unit/storage_fixture.h"

/* ---- round trip ------------------------------------------------------------------------- */

static const int32_t tokens[] = {1, -2, 2147483647, INT32_MIN};
static const float logprobs[] = {-0.5f, -0.0f, -1e-38f, -INFINITY};
static const double steps[] = {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308};

static void put_everything(struct store *s, const char *id)
{
    struct pd_job_rec j = job_rec(id);
    struct pd_node_rec root = {.id = 0,
                               .parent = 0,
                               .status = "open",
                               .text = {"a\0b\xff", 4},
                               .finish = "prompt",
                               .seed = UINT64_MAX,
                               .call_id = -1};
    struct pd_node_rec n = {.id = 7,
                            .parent = 0,
                            .depth = 1,
                            .step = 3,
                            .status = "pruned",
                            .prune_reason = "low",
                            .text = PD_STR(""),
                            .tokens = tokens,
                            .logprobs = logprobs,
                            .n_tokens = 4,
                            .logprob = -0.1,
                            .finish = "cut",
                            .stop = "race",
                            .seed = 1ull << 63,
                            .created_ms = 12,
                            .call_id = 1};
    struct pd_score_rec sc = {.node_id = 7,
                              .scorer = "prm",
                              .kind = "step",
                              .value = 1.0 / 3.0,
                              .steps = steps,
                              .n_steps = 4,
                              .call_id = 2};
    struct pd_score_rec out = {.node_id = 0,
                               .scorer = "orm",
                               .kind = "outcome",
                               .value = (double)-INFINITY,
                               .call_id = -1};
    struct pd_call_rec c = {.engine = "local",
                            .dialect = "gguf",
                            .op = "prefill",
                            .model = "tiny",
                            .outcome = "ok",
                            .prompt_tokens = 30,
                            .cached_tokens = 10,
                            .started_ms = 5,
                            .ended_ms = 6};
    struct pd_event_rec ev = {.seq = 0, .t_ms = 9, .type = "job.started", .data = "{\"a\":1}"};

    j.problem_key = "p/1";
    j.repeat = 2;
    j.scorer = "prm";
    j.seed = UINT64_MAX - 1;
    ok(store_job_put(s, &j, e));
    ok(store_event_put(s, id, &ev, e));
    ok(store_node_put(s, id, &root, e));
    ok(store_call_put(s, id, &c, e));
    c.op = "generate";
    c.generated_tokens = 4;
    ok(store_call_put(s, id, &c, e));
    c.op = "score";
    c.outcome = "error";
    c.error = "why";
    c.generated_tokens = 0;
    ok(store_call_put(s, id, &c, e));
    ok(store_node_put(s, id, &n, e));
    ok(store_score_put(s, id, &sc, e));
    ok(store_score_put(s, id, &out, e));
    ev.seq = 1;
    ev.type = "decision";
    ok(store_event_put(s, id, &ev, e));
    j.status = "done";
    j.stopped_by = "answer";
    j.started_ms = 1001;
    j.finished_ms = 1002;
    j.answer_node = 7;
    j.answer = "42";
    j.correct = 1;
    j.error = "none";
    j.digest = "abcd";
    ok(store_job_put(s, &j, e));
}

static void check_everything(struct store *s, const char *id)
{
    struct pd_trace *t = NULL;

    ok(store_trace_load(s, id, &t, e));
    assert_z(t->job.id, id);
    assert_z(t->job.problem_key, "p/1");
    assert_int_equal(t->job.repeat, 2);
    assert_z(t->job.strategy, "beam");
    assert_z(t->job.options, "{\"width\":4}");
    assert_z(t->job.model, "tiny");
    assert_z(t->job.scorer, "prm");
    assert_true(t->job.seed == UINT64_MAX - 1);
    assert_z(t->job.status, "done");
    assert_z(t->job.stopped_by, "answer");
    assert_z(t->job.request.ptr, "{\"question\":\"What is 6*7? \\u00e9\"}");
    assert_int_equal(t->job.request.len, strlen(t->job.request.ptr));
    assert_z(t->job.budget, "{}");
    assert_int_equal(t->job.created_ms, 1000);
    assert_int_equal(t->job.started_ms, 1001);
    assert_int_equal(t->job.finished_ms, 1002);
    assert_int_equal(t->job.answer_node, 7);
    assert_z(t->job.answer, "42");
    assert_int_equal(t->job.correct, 1);
    assert_z(t->job.error, "none");
    assert_z(t->job.digest, "abcd");

    assert_int_equal(t->n_nodes, 2);
    const struct pd_node_rec *n = &t->nodes[0];
    assert_int_equal(n->id, 0);
    assert_int_equal(n->parent, 0);
    assert_int_equal(n->text.len, 4);
    assert_memory_equal(n->text.ptr, "a\0b\xff", 5);
    assert_null(n->tokens);
    assert_null(n->logprobs);
    assert_null(n->prune_reason);
    assert_null(n->stop);
    assert_true(n->seed == UINT64_MAX);
    assert_int_equal(n->call_id, -1);
    n = &t->nodes[1];
    assert_int_equal(n->id, 7);
    assert_int_equal(n->parent, 0);
    assert_int_equal(n->depth, 1);
    assert_int_equal(n->step, 3);
    assert_z(n->status, "pruned");
    assert_z(n->prune_reason, "low");
    assert_int_equal(n->text.len, 0);
    assert_int_equal(n->n_tokens, 4);
    assert_memory_equal(n->tokens, tokens, sizeof(tokens));
    assert_memory_equal(n->logprobs, logprobs, sizeof(logprobs));
    assert_true(n->logprob == -0.1);
    assert_z(n->finish, "cut");
    assert_z(n->stop, "race");
    assert_true(n->seed == 1ull << 63);
    assert_int_equal(n->created_ms, 12);
    assert_int_equal(n->call_id, 1);

    assert_int_equal(t->n_scores, 2); /* in the order of their nodes */
    assert_int_equal(t->scores[1].node_id, 7);
    assert_z(t->scores[1].scorer, "prm");
    assert_z(t->scores[1].kind, "step");
    assert_true(t->scores[1].value == 1.0 / 3.0);
    assert_int_equal(t->scores[1].n_steps, 4);
    assert_memory_equal(t->scores[1].steps, steps, sizeof(steps));
    assert_int_equal(t->scores[1].call_id, 2);
    assert_null(t->scores[0].steps);
    assert_true(t->scores[0].value == (double)-INFINITY);
    assert_int_equal(t->scores[0].call_id, -1);

    assert_int_equal(t->n_calls, 3);
    assert_z(t->calls[0].op, "prefill");
    assert_z(t->calls[1].op, "generate");
    assert_z(t->calls[2].op, "score");
    assert_z(t->calls[0].engine, "local");
    assert_z(t->calls[0].dialect, "gguf");
    assert_z(t->calls[0].model, "tiny");
    assert_z(t->calls[0].outcome, "ok");
    assert_null(t->calls[0].error);
    assert_z(t->calls[2].error, "why");
    assert_int_equal(t->calls[1].prompt_tokens, 30);
    assert_int_equal(t->calls[1].cached_tokens, 10);
    assert_int_equal(t->calls[1].generated_tokens, 4);
    assert_int_equal(t->calls[1].started_ms, 5);
    assert_int_equal(t->calls[1].ended_ms, 6);

    assert_int_equal(t->n_events, 2);
    assert_int_equal(t->events[0].seq, 0);
    assert_int_equal(t->events[0].t_ms, 9);
    assert_z(t->events[0].type, "job.started");
    assert_z(t->events[0].data, "{\"a\":1}");
    assert_z(t->events[1].type, "decision");
    store_trace_free(t);
}

static void test_round_trip(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct stat st;

    (void)state;
    assert_string_equal(store_path(s), db);
    put_everything(s, "job-b");
    put_everything(s, "job-a");
    ok(store_flush(s, e));
    check_everything(s, "job-a");
    verify_clean(s);
    store_close(s);

    assert_int_equal(stat(db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    *strrchr(db, '/') = '\0';
    assert_int_equal(stat(db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    strcat(db, "/trace.db");

    s = open_ok(STORE_READ);
    check_everything(s, "job-b");
    verify_clean(s);
    struct pd_job_rec j = job_rec("j");
    assert_int_equal(store_job_put(s, &j, NULL), PD_EPERM);
    ok(store_flush(s, e));
    store_close(s);
    store_close(NULL);
    store_trace_free(NULL);
}

static void test_put_again_replaces(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_node_rec n = node_rec(7);
    struct pd_score_rec sc = {
        .node_id = 7, .scorer = "prm", .kind = "step", .value = 9, .call_id = -1};
    struct pd_event_rec ev = {.seq = 1, .type = "again"};
    struct pd_trace *t = NULL;

    (void)state;
    put_everything(s, "j");
    n.text = PD_STR("other");
    ok(store_node_put(s, "j", &n, e));
    ok(store_score_put(s, "j", &sc, e));
    ok(store_event_put(s, "j", &ev, e));
    ok(store_flush(s, e));
    ok(store_trace_load(s, "j", &t, e));
    assert_int_equal(t->n_nodes, 2);
    assert_z(t->nodes[1].text.ptr, "other");
    assert_null(t->nodes[1].tokens);
    assert_int_equal(t->n_scores, 2); /* the node's replacement did not take its scores along */
    assert_true(t->scores[1].value == 9);
    assert_null(t->scores[1].steps);
    assert_int_equal(t->n_events, 2);
    assert_z(t->events[1].type, "again");
    assert_z(t->events[1].data, "{}");
    store_trace_free(t);
    store_close(s);
}

static void test_blobs_are_stored_once(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    sqlite3_stmt *st = NULL;

    (void)state;
    ok(store_job_put(s, &j, e));
    for (uint32_t i = 0; i < 50; i++) {
        struct pd_node_rec n = node_rec(i);
        ok(store_node_put(s, "j", &n, e));
    }
    ok(store_flush(s, e));
    assert_int_equal(sqlite3_prepare_v2(s->rdb, "SELECT count(*) FROM blob", -1, &st, NULL), 0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(st, 0), 2);
    sqlite3_finalize(st);
    store_close(s);
}

/* ---- finding jobs ----------------------------------------------------------------------- */

static void test_prefix(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    const char *const ids[] = {"ab", "abcd1", "abcd2", "x%y", "x_z"};
    struct pd_trace *t = NULL;
    struct pd_err err = {0};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct pd_job_rec j = job_rec(ids[i]);
        ok(store_job_put(s, &j, e));
    }
    ok(store_flush(s, e));
    ok(store_trace_load(s, "ab", &t, e)); /* whole ids win over longer ones */
    assert_z(t->job.id, "ab");
    store_trace_free(t);
    ok(store_trace_load(s, "x%", &t, e));
    assert_z(t->job.id, "x%y");
    assert_int_equal(t->n_nodes + t->n_scores + t->n_calls + t->n_events, 0);
    store_trace_free(t);
    assert_int_equal(store_trace_load(s, "abc", &t, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "abcd1, abcd2"));
    assert_int_equal(store_trace_load(s, "a%", &t, &err), PD_ENOENT);
    assert_int_equal(store_trace_load(s, "zz", &t, &err), PD_ENOENT);
    assert_int_equal(store_trace_load(s, "", &t, &err), PD_EINVAL);
    store_close(s);
}

static void test_list(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct store_job_row *rows = NULL;
    size_t n = 0;

    (void)state;
    ok(store_job_list(s, &(struct store_job_query){.limit = 10}, &rows, &n, e));
    assert_int_equal(n, 0);
    store_job_list_free(rows, n);
    put_everything(s, "old");
    for (int i = 0; i < 40; i++) {
        char id[16];
        struct pd_job_rec j = job_rec(id);

        snprintf(id, sizeof(id), "new%02d", i);
        j.created_ms = 2000 + i / 2; /* equal times: the later one is the newer */
        if (i == 39)
            j.request = PD_STR("not JSON");
        ok(store_job_put(s, &j, e));
    }
    ok(store_flush(s, e));
    ok(store_job_list(s, &(struct store_job_query){.limit = 2}, &rows, &n, e));
    assert_int_equal(n, 2);
    assert_z(rows[0].id, "new39");
    assert_null(rows[0].question);
    assert_z(rows[1].id, "new38");
    assert_z(rows[1].question, "What is 6*7? \xc3\xa9");
    store_job_list_free(rows, n);
    ok(store_job_list(s, &(struct store_job_query){.limit = 0}, &rows, &n, e));
    assert_int_equal(n, 41);
    assert_z(rows[40].id, "old");
    assert_z(rows[40].strategy, "beam");
    assert_z(rows[40].model, "tiny");
    assert_z(rows[40].status, "done");
    assert_z(rows[40].scorer, "prm");
    assert_z(rows[40].stopped_by, "answer");
    assert_z(rows[40].answer, "42");
    assert_z(rows[40].problem_key, "p/1");
    assert_true(rows[40].seed == UINT64_MAX - 1);
    assert_int_equal(rows[40].n_nodes, 2);
    assert_int_equal(rows[40].generated, 4);
    assert_int_equal(rows[40].created_ms, 1000);
    store_job_list_free(rows, n);
    store_close(s);
}

/* ---- the writer ------------------------------------------------------------------------- */

static int count_commit(void *n)
{
    ++*(int *)n;
    return 0;
}

/* While another connection holds the lock, what is put piles up; then one commit takes it all. */
static void test_group_commit(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct pd_trace *t = NULL;
    sqlite3 *other = NULL;
    int n_commits = 0;

    (void)state;
    sqlite3_commit_hook(s->wdb, count_commit, &n_commits); /* the writer has nothing to do yet */
    assert_int_equal(sqlite3_open(db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    ok(store_job_put(s, &j, e));
    for (uint32_t i = 0; i < STORE_INBOX_MAX - 2; i++) {
        struct pd_event_rec ev = {.seq = i, .type = "t", .data = "{}"};
        ok(store_event_put(s, "j", &ev, e));
    }
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    ok(store_flush(s, e));
    assert_in_range(n_commits, 1, 2); /* the first message may have been taken alone */
    ok(store_trace_load(s, "j", &t, e));
    assert_int_equal(t->n_events, STORE_INBOX_MAX - 2);
    store_trace_free(t);
    store_close(s);
}

static void test_errors_stick(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct pd_node_rec n = node_rec(0);
    struct pd_score_rec sc = {.scorer = "s", .kind = "step", .value = (double)NAN};
    struct pd_err err = {0};

    (void)state;
    ok(store_job_put(s, &j, e));
    ok(store_flush(s, e));
    /* What can be seen at once is refused alone ... */
    assert_int_equal(store_score_put(s, "j", &sc, &err), PD_EINVAL);
    n.status = NULL;
    assert_int_equal(store_node_put(s, "j", &n, &err), PD_EINVAL);
    n.status = "open";
    assert_int_equal(store_node_put(s, "", &n, &err), PD_EINVAL);
    assert_int_equal(store_node_put(s, "a-name-of-forty-bytes-is-one-byte-too-much", &n, &err),
                     PD_EINVAL);
    ok(store_flush(s, e));
    /* ... what the writer finds ends all writing. */
    ok(store_node_put(s, "nobody", &n, e));
    assert_int_equal(store_flush(s, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "nobody"));
    assert_int_equal(store_node_put(s, "j", &n, &err), PD_EINVAL);
    assert_int_equal(store_flush(s, &err), PD_EINVAL);
    store_close(s);
    s = open_ok(STORE_WRITE);
    ok(store_node_put(s, "j", &n, e));
    ok(store_flush(s, e));
    verify_clean(s);
    store_close(s);
}

struct putter {
    struct store *s;
    char id[8];
    int rc;
};

static void *put_many(void *arg)
{
    struct putter *p = arg;
    struct pd_job_rec j = job_rec(p->id);
    struct pd_trace *t = NULL;

    p->rc = store_job_put(p->s, &j, NULL);
    for (uint32_t i = 0; i < 400 && p->rc == 0; i++) {
        struct pd_node_rec n = node_rec(i);

        p->rc = store_node_put(p->s, p->id, &n, NULL);
        if (p->rc == 0 && i % 50 == 49)
            p->rc = store_flush(p->s, NULL);
        if (p->rc == 0 && i % 100 == 99)
            p->rc = store_trace_load(p->s, p->id, &t, NULL);
        if (t && t->n_nodes != i + 1)
            p->rc = -100;
        store_trace_free(t);
        t = NULL;
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct putter p[4];
    pthread_t th[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        p[i].s = s;
        snprintf(p[i].id, sizeof(p[i].id), "j%d", i);
        assert_int_equal(pthread_create(&th[i], NULL, put_many, &p[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(p[i].rc, 0);
    verify_clean(s);
    store_close(s);
}

/* ---- other processes, accidents ---------------------------------------------------------- */

/* Runs body in a child whose results come through a pipe; returns the reading end. */
static int in_child(void (*body)(int out), pid_t *pid)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    *pid = fork();
    assert_true(*pid >= 0);
    if (*pid == 0) {
        close(fds[0]);
        body(fds[1]);
        _exit(0);
    }
    close(fds[1]);
    return fds[0];
}

static void tell(int out, int32_t v)
{
    if (write(out, &v, sizeof(v)) != sizeof(v))
        _exit(9);
}

static bool hear(int in, int32_t *v)
{
    return read(in, v, sizeof(*v)) == sizeof(*v);
}

static void acknowledge_for_ever(int out)
{
    struct store *s = NULL;
    struct pd_job_rec j = job_rec("j");

    if (store_open(db, STORE_WRITE, &s, NULL) < 0 || store_job_put(s, &j, NULL) < 0)
        _exit(1);
    for (uint32_t i = 0;; i++) {
        struct pd_node_rec n = node_rec(i);
        char text[64];

        n.text = (struct pd_str){text, (size_t)snprintf(text, sizeof(text), "node %u", i)};
        if (store_node_put(s, "j", &n, NULL) < 0 || store_flush(s, NULL) < 0)
            _exit(2);
        tell(out, (int32_t)i);
    }
}

static void test_kill_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct pd_trace *t = NULL;
        struct store *s;
        int32_t last = -1;
        pid_t pid;
        int in = in_child(acknowledge_for_ever, &pid);

        while (hear(in, &last))
            if (last == 30 + 17 * round)
                kill(pid, SIGKILL); /* and hear what was still said */
        close(in);
        waitpid(pid, NULL, 0);
        assert_true(last >= 30 + 17 * round);
        s = open_ok(STORE_WRITE);
        ok(store_trace_load(s, "j", &t, e));
        assert_true(t->n_nodes > (size_t)last);
        for (size_t i = 0; i < t->n_nodes; i++) {
            char text[64];

            snprintf(text, sizeof(text), "node %zu", i);
            assert_int_equal(t->nodes[i].id, i);
            assert_z(t->nodes[i].text.ptr, text);
        }
        store_trace_free(t);
        verify_clean(s);
        store_close(s);
    }
}

static void write_200(int out)
{
    struct store *s = NULL;
    struct pd_err err = {0};
    char id[16];
    struct pd_job_rec j = job_rec(id);
    int rc;

    snprintf(id, sizeof(id), "p%d", (int)getpid());
    rc = store_open(db, STORE_WRITE, &s, &err);
    if (rc == 0)
        rc = store_job_put(s, &j, &err);
    for (uint32_t i = 0; i < 200 && rc == 0; i++) {
        struct pd_node_rec n = node_rec(i);

        rc = store_node_put(s, id, &n, &err);
        if (rc == 0 && i % 4 == 3)
            rc = store_flush(s, &err);
    }
    store_close(s);
    if (rc < 0)
        fprintf(stderr, "# %s\n", err.text);
    tell(out, rc);
}

/* Neither finds the file: creating it is part of the race. */
static void test_two_processes(void **state)
{
    struct store *s;
    pid_t pid[3];
    int in[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        in[i] = in_child(write_200, &pid[i]);
    for (int i = 0; i < 3; i++) {
        int32_t rc = -100;

        assert_true(hear(in[i], &rc));
        assert_int_equal(rc, 0);
        close(in[i]);
        waitpid(pid[i], NULL, 0);
    }
    s = open_ok(STORE_READ);
    for (int i = 0; i < 3; i++) {
        struct pd_trace *t = NULL;
        char id[16];

        snprintf(id, sizeof(id), "p%d", (int)pid[i]);
        ok(store_trace_load(s, id, &t, e));
        assert_int_equal(t->n_nodes, 200);
        store_trace_free(t);
    }
    verify_clean(s);
    store_close(s);
}

/* Texts that nothing deduplicates, until a flush fails. Returns the acknowledged nodes. */
static uint32_t fill(struct store *s, uint32_t max, struct pd_err *err)
{
    static char text[16384];
    uint32_t i;

    for (i = 0; i < max; i++) {
        struct pd_node_rec n = node_rec(i);

        memset(text, 'a' + (int)(i % 26), sizeof(text));
        memcpy(text, &i, sizeof(i));
        n.text = (struct pd_str){text, sizeof(text)};
        if (store_node_put(s, "j", &n, err) < 0 || store_flush(s, err) < 0)
            break;
    }
    return i;
}

static void fill_limited_files(int out)
{
    struct rlimit limit = {400000, 400000};
    struct store *s = NULL;
    struct pd_job_rec j = job_rec("j");
    struct pd_err err = {0};
    uint32_t n;

    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || store_open(db, STORE_WRITE, &s, NULL) < 0 ||
        store_job_put(s, &j, NULL) < 0)
        _exit(1);
    n = fill(s, 1000, &err);
    tell(out, (int32_t)n);
    tell(out, err.code);
    tell(out, store_job_put(s, &j, &err));
    tell(out, store_flush(s, &err));
    store_close(s);
}

static void test_file_cannot_grow(void **state)
{
    struct pd_trace *t = NULL;
    struct store *s;
    int32_t n = 0, code = 0, put_rc = 0, flush_rc = 0;
    pid_t pid;
    int in = in_child(fill_limited_files, &pid);

    (void)state;
    assert_true(hear(in, &n) && hear(in, &code) && hear(in, &put_rc) && hear(in, &flush_rc));
    close(in);
    waitpid(pid, NULL, 0);
    assert_in_range(n, 1, 999);
    assert_int_equal(code, PD_EIO);
    assert_int_equal(put_rc, PD_EIO);
    assert_int_equal(flush_rc, PD_EIO);
    s = open_ok(STORE_WRITE);
    ok(store_trace_load(s, "j", &t, e));
    assert_int_equal(t->n_nodes, n);
    store_trace_free(t);
    verify_clean(s);
    store_close(s);
}

static void test_disk_full(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct pd_err err = {0};
    struct pd_trace *t = NULL;
    uint32_t n;

    (void)state;
    /* The writer has nothing to do yet. */
    assert_int_equal(sqlite3_exec(s->wdb, "PRAGMA max_page_count=200", NULL, NULL, NULL), 0);
    ok(store_job_put(s, &j, e));
    n = fill(s, 1000, &err);
    assert_in_range(n, 1, 999);
    assert_int_equal(err.code, PD_EIO);
    assert_non_null(strstr(err.text, "disk is full"));
    ok(store_trace_load(s, "j", &t, e));
    assert_int_equal(t->n_nodes, n);
    store_trace_free(t);
    verify_clean(s);
    store_close(s);
}

/* ---- other files ------------------------------------------------------------------------ */

static void refused(enum store_open mode, int code, const char *part)
{
    struct store *s = NULL;
    struct pd_err err = {0};

    assert_int_equal(store_open(db, mode, &s, &err), code);
    assert_null(s);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void write_file(const char *path, const void *bytes, size_t n, off_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void test_not_ours(void **state)
{
    const enum store_open modes[] = {STORE_READ, STORE_WRITE};
    char noise[3000];
    struct stat before, after;

    (void)state;
    snprintf(db, sizeof(db), "%s/x.db", dir);
    refused(STORE_READ, PD_ENOENT, "x.db");
    for (int i = 0; i < 2; i++) {
        write_file(db, "hello\n", 6, 0);
        refused(modes[i], PD_EFORMAT, "not a database");
        memset(noise, 0x5a, sizeof(noise));
        write_file(db, noise, sizeof(noise), 0);
        refused(modes[i], PD_EFORMAT, "not a database");
        assert_int_equal(truncate(db, 0), 0);
        tamper("CREATE TABLE t(x)");
        assert_int_equal(stat(db, &before), 0);
        refused(modes[i], PD_EFORMAT, "is a database of another program");
        assert_int_equal(stat(db, &after), 0);
        assert_int_equal(before.st_size, after.st_size);
        assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
        assert_int_equal(unlink(db), 0);
        tamper("PRAGMA application_id=1347374660; PRAGMA user_version=17; CREATE TABLE t(x)");
        refused(modes[i], PD_EFORMAT, "version 17");
        refused(modes[i], PD_EFORMAT, "up to 3");
        assert_int_equal(unlink(db), 0);
    }
    write_file(db, "", 0, 0);
    refused(STORE_READ, PD_EFORMAT, "empty");
    store_close(open_ok(STORE_WRITE)); /* an empty file becomes ours */
    store_close(open_ok(STORE_READ));
    snprintf(db, sizeof(db), "%s", dir);
    refused(STORE_READ, PD_EFORMAT, "not a file");
    *db = '\0';
    refused(STORE_WRITE, PD_EINVAL, "path");
}

static void test_not_writable(void **state)
{
    char file[300];

    (void)state;
    snprintf(file, sizeof(file), "%s/file", dir);
    write_file(file, "x", 1, 0);
    snprintf(db, sizeof(db), "%s/file/sub/x.db", dir);
    refused(STORE_WRITE, PD_EIO, "file");
    if (geteuid() == 0)
        return; /* whom no mode stops */
    snprintf(db, sizeof(db), "%s/sub/x.db", dir);
    store_close(open_ok(STORE_WRITE));
    assert_int_equal(chmod(db, 0400), 0);
    refused(STORE_WRITE, PD_EPERM, "x.db");
    assert_int_equal(unlink(db), 0);
    snprintf(file, sizeof(file), "%s/sub", dir);
    assert_int_equal(chmod(file, 0500), 0);
    refused(STORE_WRITE, PD_EPERM, "x.db");
    assert_int_equal(chmod(file, 0700), 0);
}

/* ---- verification ----------------------------------------------------------------------- */

static void finds(const char *sql, const char *part)
{
    struct pd_buf report = PD_BUF_INIT(1 << 20);
    struct pd_err err = {0};
    struct store *s;

    tamper(sql);
    s = open_ok(STORE_READ);
    assert_int_equal(store_verify(s, &report, &err), PD_EDIFFER);
    if (!strstr(pd_buf_str(&report).ptr, part))
        fail_msg("\"%s\" does not say \"%s\"", pd_buf_str(&report).ptr, part);
    store_close(s);
    pd_buf_done(&report);
}

static void test_verify_finds(void **state)
{
    const struct {
        const char *sql, *undo, *part;
    } cases[] = {
        {"UPDATE blob SET data=x'00' WHERE size=1", "UPDATE blob SET data=x'78' WHERE size=1",
         "SHA-256"},
        {"UPDATE blob SET size=2 WHERE size=1", "UPDATE blob SET size=1 WHERE size=2",
         "should have 2"},
        {"UPDATE node SET text_id=999 WHERE id=7", "UPDATE node SET text_id=NULL WHERE id=7",
         "is missing"},
        {"UPDATE call SET seq=5 WHERE seq=2", "UPDATE call SET seq=2 WHERE seq=5", "numbered"},
        {"UPDATE call SET cached_tokens=31 WHERE seq=0",
         "UPDATE call SET cached_tokens=10 WHERE seq=0", "cached tokens"},
        {"UPDATE call SET generated_tokens=3 WHERE seq=1",
         "UPDATE call SET generated_tokens=4 WHERE seq=1", "calls generated 3"},
        {"UPDATE node SET call_id=9 WHERE id=7", "UPDATE node SET call_id=1 WHERE id=7",
         "names call 9"},
        {"UPDATE node SET parent=9 WHERE id=7", "UPDATE node SET parent=0 WHERE id=7", "parent 9"},
        {"UPDATE job SET answer_node=9", "UPDATE job SET answer_node=7", "answer node 9"},
        {"UPDATE node SET n_tokens=5 WHERE id=7", "UPDATE node SET n_tokens=4 WHERE id=7",
         "bytes of them"},
    };
    struct store *s = open_ok(STORE_WRITE);
    struct pd_node_rec n = node_rec(8);

    (void)state;
    put_everything(s, "j");
    ok(store_node_put(s, "j", &n, e));
    ok(store_flush(s, e));
    store_close(s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        finds(cases[i].sql, cases[i].part);
        tamper(cases[i].undo);
        s = open_ok(STORE_READ);
        verify_clean(s);
        store_close(s);
    }
    finds("DROP VIEW v_job_cost; PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=3"
          " WHERE name='job_run'",
          "");
}

/* Every page damaged in turn: an error, a finding or nothing, but never a crash. */
static void test_damaged_pages(void **state)
{
    struct store *s = open_ok(STORE_WRITE);
    struct stat st;
    unsigned char page[4096], noise[400];
    int n_noticed = 0;

    (void)state;
    put_everything(s, "j");
    ok(store_flush(s, e));
    store_close(s);
    assert_int_equal(stat(db, &st), 0);
    for (off_t at = 0; at < st.st_size; at += 4096)
        for (off_t in = at ? 0 : 100; in < 4096; in += 4096 - 600) {
            struct pd_buf report = PD_BUF_INIT(1 << 20);
            struct pd_trace *t = NULL;
            struct store_job_row *rows = NULL;
            size_t n = 0;
            int fd = open(db, O_RDONLY), rc;

            assert_int_equal(pread(fd, page, sizeof(page), at), sizeof(page));
            close(fd);
            for (size_t i = 0; i < sizeof(noise); i++)
                noise[i] = (unsigned char)(i * 37 + (size_t)at / 4096 * 11 + 5);
            write_file(db, noise, sizeof(noise), at + in);
            s = NULL;
            rc = store_open(db, STORE_READ, &s, NULL);
            if (rc == 0) {
                if (store_trace_load(s, "j", &t, NULL) == 0)
                    store_trace_free(t);
                if (store_job_list(s, &(struct store_job_query){.limit = 0}, &rows, &n, NULL) == 0)
                    store_job_list_free(rows, n);
                rc = store_verify(s, &report, NULL);
            }
            n_noticed += rc < 0;
            store_close(s);
            pd_buf_done(&report);
            write_file(db, page, sizeof(page), at);
        }
    assert_in_range(n_noticed, 10, 10000);
    s = open_ok(STORE_READ);
    verify_clean(s);
    store_close(s);
}

static void test_runs(void **unused)
{
    static const struct store_artifact artifacts[] = {{"model", "tiny", "generator", {1, 2}, 7},
                                                      {"dataset", "dev.jsonl", "dataset", {3}, 9}};
    struct store *s = open_ok(STORE_WRITE);
    struct store_run run = {.id = "run_a",
                            .name = "first",
                            .status = "running",
                            .lock = "{}",
                            .host = "here",
                            .recipe = PD_STR("{\"ponder_recipe\":1}"),
                            .seed = UINT64_MAX,
                            .created_ms = 5,
                            .artifacts = artifacts,
                            .n_artifacts = 2};
    struct pd_job_rec job = job_rec("job_1");
    struct pd_call_rec call = {.engine = "local",
                               .dialect = "gguf",
                               .op = "generate",
                               .model = "tiny",
                               .outcome = "ok",
                               .prompt_tokens = 10,
                               .cached_tokens = 4,
                               .generated_tokens = 3};
    struct store_run_jobs *jobs = NULL;
    struct store_runs *runs = NULL;
    struct pd_err err = {0};
    double line = -1, rate = -1;

    (void)unused;
    job.run_id = "run_a";
    job.variant = "beam@4";
    job.problem_key = "p1";
    job.repeat = 2;
    ok(store_run_put(s, &run, e));
    ok(store_run_put(s, &run, e)); /* again: the same */
    strcpy(run.id, "run_ab");
    run.created_ms = 6;
    ok(store_run_put(s, &run, e));
    ok(store_job_put(s, &job, e));
    ok(store_call_put(s, "job_1", &call, e));
    call.op = "score";
    call.generated_tokens = 0;
    ok(store_call_put(s, "job_1", &call, e));
    job.run_id = NULL; /* it stays of its run */
    job.status = "done";
    job.correct = 1;
    job.digest = "d1";
    job.started_ms = 1000;
    job.finished_ms = 3000;
    ok(store_job_put(s, &job, e));
    job = job_rec("job_4"); /* beside it: no time of its own */
    job.status = "done";
    job.started_ms = 1500;
    job.finished_ms = 2500;
    job.answer_node = -1;
    ok(store_job_put(s, &job, e));
    job = job_rec("job_2");
    job.run_id = "run_a";
    job.status = "failed";
    ok(store_job_put(s, &job, e));
    job = job_rec("job_3");
    job.status = "queued"; /* of no run */
    ok(store_job_put(s, &job, e));
    ok(store_flush(s, e));

    ok(store_run_list(s, NULL, &runs, e));
    assert_int_equal(runs->n, 2);
    assert_string_equal(runs->runs[0].id, "run_ab"); /* the newest first */
    assert_string_equal(runs->runs[1].id, "run_a");
    assert_string_equal(runs->runs[1].name, "first");
    assert_true(runs->runs[1].seed == UINT64_MAX);
    assert_true(pd_str_eq(runs->runs[1].recipe, PD_STR("{\"ponder_recipe\":1}")));
    assert_int_equal(runs->runs[1].n_jobs, 2);
    assert_int_equal(runs->runs[1].n_done, 1);
    assert_int_equal(runs->runs[1].n_failed, 1);
    store_run_list_free(runs);
    runs = NULL;
    ok(store_run_list(s, "run_a", &runs, e)); /* whole, though another begins with it */
    assert_int_equal(runs->n, 1);
    assert_string_equal(runs->runs[0].id, "run_a");
    store_run_list_free(runs);
    runs = NULL;
    assert_int_equal(store_run_list(s, "run_", &runs, &err), PD_EINVAL);
    assert_int_equal(store_run_list(s, "run_c", &runs, &err), PD_ENOENT);
    assert_null(runs);

    ok(store_run_jobs_load(s, "run_a", &jobs, e));
    assert_int_equal(jobs->n, 2);
    assert_string_equal(jobs->jobs[0].id, "job_1");
    assert_string_equal(jobs->jobs[0].variant, "beam@4");
    assert_string_equal(jobs->jobs[0].problem_key, "p1");
    assert_string_equal(jobs->jobs[0].digest, "d1");
    assert_int_equal(jobs->jobs[0].repeat, 2);
    assert_int_equal(jobs->jobs[0].correct, 1);
    assert_int_equal(jobs->jobs[0].generated, 3);
    assert_int_equal(jobs->jobs[0].prefilled, 6);
    assert_int_equal(jobs->jobs[0].scored, 6);
    assert_int_equal(jobs->jobs[0].cached, 8);
    assert_int_equal(jobs->jobs[0].wall_ms, 2000);
    assert_int_equal(jobs->jobs[1].correct, -1);
    assert_int_equal(jobs->jobs[1].wall_ms, -1);
    assert_string_equal(jobs->jobs[1].variant, "");
    store_run_jobs_free(jobs);
    ok(store_rates(s, "tiny", &line, &rate, e));
    assert_true(line == 0 && rate > 1.49 && rate < 1.51); /* 3 tokens in 2 seconds */
    verify_clean(s);

    ok(store_run_delete(s, "run_a", e));
    ok(store_flush(s, e));
    ok(store_run_list(s, NULL, &runs, e));
    assert_int_equal(runs->n, 1);
    store_run_list_free(runs);
    ok(store_run_jobs_load(s, "run_a", &jobs, e));
    assert_int_equal(jobs->n, 0);
    store_run_jobs_free(jobs);
    verify_clean(s);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_again_replaces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobs_are_stored_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prefix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_group_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_stick, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_keeps_what_was_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_cannot_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_writable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify_finds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_runs, setup, teardown),
    };

    return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}

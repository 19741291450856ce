/* The feed of a job, the rows of a daemon's queue, lists, and files of the version before them. */
#include "storage/storage.h"

#include "base/json.h"
#include "tests/unit/storage_fixture.h"

/* What the tests take for an answer: all behind the last '='. */
static struct pd_str behind_equals(struct pd_str line)
{
    ptrdiff_t at = pd_str_rfind(line, PD_STR("="));

    return at < 0 ? PD_STR("") : pd_str_sub(line, (size_t)at + 1, line.len);
}

static struct store_feed *feed(struct store *s, const char *id, uint64_t since, size_t max)
{
    struct store_feed *f = NULL;

    ok(store_flush(s, e));
    ok(store_feed_load(s, id, since, max, behind_equals, &f, e));
    return f;
}

/* The types in a row, with blanks between. */
static void assert_types(struct store *s, const char *id, const char *want)
{
    struct store_feed *f = feed(s, id, 0, 1000);
    struct pd_buf types = PD_BUF_INIT(1 << 16);

    for (size_t i = 0; i < f->n; i++) {
        assert_int_equal(f->entries[i].seq, i + 1);
        pd_buf_printf(&types, "%s%s", i ? " " : "", f->entries[i].type);
    }
    assert_string_equal(pd_buf_str(&types).ptr, want);
    pd_buf_done(&types);
    store_feed_free(f);
}

/* Entry seq is that JSON, but for the time. */
static void assert_data(struct store *s, const char *id, uint64_t seq, const char *want)
{
    struct store_feed *f = feed(s, id, seq - 1, 1);
    char head[128];

    assert_int_equal(f->n, 1);
    snprintf(head, sizeof(head), "{\"seq\":%llu,\"t_ms\":%lld,\"job\":\"%s\"",
             (unsigned long long)seq, (long long)f->entries[0].t_ms, id);
    assert_memory_equal(f->entries[0].data.ptr, head, strlen(head));
    assert_string_equal(f->entries[0].data.ptr + strlen(head), want);
    store_feed_free(f);
}

static void state(struct store *s, const char *id, const char *status, const char *stopped_by)
{
    ok(store_job_state_put(
        s, id, &(struct store_job_state){.status = status, .stopped_by = stopped_by}, e));
}

static struct pd_node_rec line(uint32_t id, uint32_t parent, const char *text)
{
    struct pd_node_rec n = node_rec(id);

    n.parent = parent;
    n.depth = id;
    n.text = pd_str_of(text);
    n.seed = UINT64_MAX;
    n.logprob = -1.5;
    n.status = strchr(text, '=') ? "finished" : "open";
    return n;
}

static const struct pd_call_rec call = {.engine = "local",
                                        .dialect = "gguf",
                                        .op = "generate",
                                        .model = "tiny",
                                        .outcome = "ok",
                                        .generated_tokens = 5,
                                        .started_ms = 1};

/* A whole life of one job: queued, run, paused, run to its end. */
static void put_life(struct store *s, const char *id)
{
    struct pd_job_rec j = job_rec(id);
    struct pd_node_rec n = line(0, 0, "");
    double steps[] = {0.25, 0.5};
    struct pd_score_rec score = {1, "prm", "step", 0.5, steps, 2, -1};

    j.status = "queued";
    j.scorer = "prm";
    j.budget = "{\"tokens\":12,\"seconds\":0}";
    ok(store_job_put(s, &j, e));
    state(s, id, "running", NULL);
    n.finish = "prompt";
    ok(store_node_put(s, id, &n, e));
    ok(store_call_put(s, id, &call, e));
    n = line(1, 0, "6*7");
    ok(store_node_put(s, id, &n, e));
    ok(store_score_put(s, id, &score, e));
    state(s, id, "paused", NULL);
    state(s, id, "running", NULL);
    ok(store_call_put(s, id, &call, e));
    ok(store_score_put(s, id, &score, e)); /* what exists is put again: nothing new to tell */
    ok(store_node_put(s, id, &n, e));
    n = line(2, 1, "=42");
    ok(store_node_put(s, id, &n, e));
    n = line(3, 0, "?");
    ok(store_node_put(s, id, &n, e));
    n.status = "pruned";
    n.prune_reason = "beam";
    ok(store_node_put(s, id, &n, e));
    ok(store_node_put(s, id, &n, e));
    j.status = "done";
    j.stopped_by = "answer";
    j.answer = "42";
    j.answer_node = 2;
    j.digest = "d1";
    ok(store_job_put(s, &j, e));
}

#define LIFE                                                                                       \
    "job.queued job.started node.added budget node.added node.scored job.paused job.started "      \
    "node.added answer.candidate node.added node.pruned answer.final job.done"

static void test_feed(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct store_feed *f;

    (void)unused;
    put_life(s, "j");
    put_life(s, "k");
    assert_types(s, "j", LIFE);
    assert_types(s, "k", LIFE);
    assert_data(s, "j", 1, ",\"strategy\":\"beam\",\"model\":\"tiny\",\"scorer\":\"prm\"}");
    assert_data(s, "j", 3,
                ",\"node\":0,\"parent\":null,\"depth\":0,\"text\":\"\",\"tokens\":0,"
                "\"seed\":\"18446744073709551615\",\"finish\":\"prompt\",\"logprob\":-1.5}");
    assert_data(s, "j", 5,
                ",\"node\":1,\"parent\":0,\"depth\":1,\"text\":\"6*7\",\"tokens\":0,"
                "\"seed\":\"18446744073709551615\",\"finish\":\"step\",\"logprob\":-1.5}");
    assert_data(s, "j", 6, ",\"node\":1,\"scorer\":\"prm\",\"value\":0.5,\"steps\":[0.25,0.5]}");
    assert_data(s, "j", 7, "}");
    assert_data(s, "j", 10, ",\"node\":2,\"answer\":\"42\",\"weight\":1}");
    assert_data(s, "j", 12, ",\"node\":3,\"reason\":\"beam\"}");
    assert_data(s, "j", 13, ",\"answer\":\"42\",\"node\":2,\"score\":null}");
    assert_data(s, "j", 14, ",\"stopped_by\":\"answer\",\"answer\":\"42\",\"digest\":\"d1\"}");

    f = feed(s, "j", 0, 13);
    assert_int_equal(f->n, 13);
    assert_false(f->ended);
    store_feed_free(f);
    f = feed(s, "j", 13, 5);
    assert_int_equal(f->n, 1);
    assert_true(f->ended);
    store_feed_free(f);
    f = feed(s, "j", 14, 5);
    assert_int_equal(f->n, 0);
    assert_true(f->ended);
    store_feed_free(f);
    assert_int_equal(store_feed_load(s, "x", 0, 5, behind_equals, &f, NULL), PD_ENOENT);
    verify_clean(s);
    store_close(s);
}

static void test_failed_and_cancelled(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");

    (void)unused;
    ok(store_job_put(s, &j, e));
    ok(store_job_state_put(
        s, "j", &(struct store_job_state){.status = "failed", .error = "no \"model\""}, e));
    assert_data(s, "j", 2, ",\"error\":\"no \\\"model\\\"\"}");
    state(s, "j", "cancelled", "user");
    assert_data(s, "j", 3, ",\"stopped_by\":\"user\"}");
    assert_data(s, "j", 2, ",\"error\":\"no \\\"model\\\"\"}"); /* as it was */
    store_close(s);
}

/* The budget entry tells what was used by then, whatever came after. */
static void test_budget(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct store_feed *f;
    struct pd_json *data = NULL;
    double v;

    (void)unused;
    j.budget = "{\"tokens\":12,\"seconds\":1000000,\"nodes\":0}";
    ok(store_job_put(s, &j, e));
    ok(store_call_put(s, "j", &call, e));
    ok(store_call_put(s, "j", &call, e)); /* within the second */
    ok(store_flush(s, e));
    assert_types(s, "j", "job.started budget");
    tamper("UPDATE feed SET t_ms=t_ms-1000 WHERE type='budget'");
    ok(store_call_put(s, "j", &call, e));
    ok(store_flush(s, e));
    assert_types(s, "j", "job.started budget budget");
    for (int i = 0; i < 2; i++) {
        f = feed(s, "j", (uint64_t)i + 1, 1);
        ok(pd_json_parse(f->entries[0].data, &data, e));
        assert_true(pd_json_number(pd_json_get(data, "tokens"), &v) && v == (i ? 15 : 5));
        assert_true(pd_json_number(pd_json_get(pd_json_get(data, "left"), "tokens"), &v) &&
                    v == (i ? 0 : 7));
        assert_true(pd_json_number(pd_json_get(pd_json_get(data, "left"), "seconds"), &v) &&
                    v > 0 && v < 1000002);
        assert_null(pd_json_get(pd_json_get(data, "left"), "nodes")); /* no limit */
        pd_json_free(data);
        store_feed_free(f);
    }
    store_close(s);
}

static void test_engine_retry(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct pd_event_rec decision = {1, 5, "decision", "{}"},
                        retry = {2, 5, "engine.retry", "{\"engine\":\"big\",\"attempt\":2}"};

    (void)unused;
    ok(store_job_put(s, &j, e));
    ok(store_event_put(s, "j", &decision, e));
    ok(store_event_put(s, "j", &retry, e));
    ok(store_event_put(s, "j", &retry, e));
    assert_types(s, "j", "job.started engine.retry");
    assert_data(s, "j", 2, ",\"engine\":\"big\",\"attempt\":2}");
    store_close(s);
}

/* A page ends by its bytes too, and the next one goes on. */
static void test_pages(void **unused)
{
    static char text[100 << 10];
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("j");
    struct store_feed *f;

    (void)unused;
    memset(text, 'x', sizeof(text) - 1);
    ok(store_job_put(s, &j, e));
    for (uint32_t i = 0; i < 10; i++) {
        struct pd_node_rec n = line(i, 0, text);

        ok(store_node_put(s, "j", &n, e));
    }
    for (uint64_t at = 0; at < 11;) {
        f = feed(s, "j", at, 1000);
        assert_in_range(f->n, 1, 4);
        for (size_t i = 0; i < f->n; i++)
            assert_int_equal(f->entries[i].seq, ++at);
        store_feed_free(f);
    }
    store_close(s);
}

/* ---- who is told ------------------------------------------------------------------------ */

static void heard(void *user, const char *job_id)
{
    struct pd_buf *b = user; /* of the writer's thread until the flush returns */

    pd_buf_printf(b, "%s ", job_id);
}

static void test_on_commit(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_buf b = PD_BUF_INIT(4096);
    struct pd_job_rec j = job_rec("j"), k = job_rec("k");

    (void)unused;
    store_on_commit(s, heard, &b);
    ok(store_flush(s, e));
    assert_int_equal(b.len, 0);
    ok(store_job_put(s, &j, e));
    ok(store_flush(s, e));
    assert_string_equal(pd_buf_str(&b).ptr, "j ");
    ok(store_job_put(s, &k, e));
    ok(store_job_delete(s, "j", e));
    ok(store_flush(s, e));
    assert_string_equal(pd_buf_str(&b).ptr, "j k j ");
    store_close(s);
    pd_buf_done(&b);
}

/* ---- a file of version 1 ---------------------------------------------------------------- */

static void make_version_1(void)
{
    char marks[96];

    snprintf(db, sizeof(db), "%s/old.db", dir);
    tamper(store_schema_steps[0]);
    snprintf(marks, sizeof(marks), "PRAGMA application_id=%d; PRAGMA user_version=1",
             STORE_APPLICATION_ID);
    tamper(marks);
    tamper("INSERT INTO blob VALUES(1,zeroblob(32),2,'raw',CAST('{}' AS BLOB)),"
           "(2,x'0202020202020202020202020202020202020202020202020202020202020202',3,'raw',CAST('="
           "42' AS BLOB))");
    tamper("INSERT INTO job(id,strategy,options,model,seed,status,stopped_by,request_id,budget,"
           "created_ms,started_ms,finished_ms,answer_node,answer) VALUES"
           "('j','beam','{}','tiny',1,'done','answer',1,'{}',10,10,90,2,'42'),"
           "('k','beam','{}','tiny',1,'running',NULL,1,'{}',11,11,NULL,NULL,NULL)");
    tamper("INSERT INTO node(job_id,id,parent,depth,step,status,prune_reason,text_id,n_tokens,"
           "finish,seed,created_ms) VALUES('j',0,NULL,0,0,'open',NULL,1,0,'prompt',1,10),"
           "('j',1,0,1,0,'pruned','beam',1,0,'step',1,30),"
           "('j',2,0,1,0,'finished',NULL,2,0,'eos',1,20),('k',0,NULL,0,0,'open',NULL,1,0,'prompt',"
           "1,10)");
    tamper("INSERT INTO score(job_id,node_id,scorer,kind,value) VALUES('j',2,'prm','step',0.5)");
}

static void test_version_1(void **unused)
{
    struct store *s;
    struct store_job_row *rows = NULL;
    struct pd_trace *t = NULL;
    struct store_feed *f = NULL;
    size_t n = 0;

    (void)unused;
    make_version_1();
    s = open_ok(STORE_READ); /* as it is */
    ok(store_job_list(s, &(struct store_job_query){0}, &rows, &n, e));
    assert_int_equal(n, 2);
    store_job_list_free(rows, n);
    ok(store_trace_load(s, "j", &t, e));
    assert_int_equal(t->n_nodes, 3);
    store_trace_free(t);
    assert_int_equal(store_feed_load(s, "j", 0, 9, behind_equals, &f, NULL), PD_EFORMAT);
    store_close(s);

    s = open_ok(STORE_WRITE);
    assert_types(s, "j",
                 "job.started node.added node.added node.pruned node.added answer.candidate "
                 "node.scored answer.final job.done");
    assert_data(s, "j", 6, ",\"node\":2,\"answer\":\"42\",\"weight\":1}");
    assert_types(s, "k", "job.started node.added");
    state(s, "k", "cancelled", "user"); /* and on it goes */
    assert_types(s, "k", "job.started node.added job.cancelled");
    store_close(s);
    s = open_ok(STORE_WRITE);
    assert_types(s, "k", "job.started node.added job.cancelled");
    store_close(s);
}

/* ---- the queue's rows ------------------------------------------------------------------- */

static void submit(struct store *s, const char *id, int64_t seq, const char *key,
                   const char *status)
{
    struct pd_job_rec j = job_rec(id);
    struct store_submission how = {.seq = seq,
                                   .client = "uid:7",
                                   .idem_key = key,
                                   .peer_uid = 7,
                                   .priority = (int32_t)-seq,
                                   .attached = seq == 2};

    memset(how.body_sha256, (int)seq, sizeof(how.body_sha256));
    j.status = status;
    ok(store_job_submit(s, &j, &how, e));
}

static void test_submissions(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_job_rec j = job_rec("embedded");
    struct store_place *places = NULL;
    char id[PD_JOB_ID_MAX];
    uint8_t sha[32];
    size_t n = 0;
    int64_t last = 0;

    (void)unused;
    ok(store_job_put(s, &j, e)); /* running, but not the queue's */
    submit(s, "a", 1, "key", "queued");
    submit(s, "b", 2, NULL, "running");
    submit(s, "c", 3, NULL, "paused");
    submit(s, "d", 4, NULL, "done");
    submit(s, "f", 9, NULL, "queued");
    ok(store_flush(s, e));
    ok(store_queue_load(s, NULL, &places, &n, &last, e));
    assert_int_equal(n, 3);
    assert_int_equal(last, 9);
    assert_string_equal(places[0].id, "b");
    assert_string_equal(places[0].status, "running");
    assert_true(places[0].attached);
    assert_string_equal(places[0].client, "uid:7");
    assert_int_equal(places[0].priority, -2);
    assert_string_equal(places[1].id, "a");
    assert_string_equal(places[2].id, "f");
    store_queue_free(places, n);
    ok(store_queue_load(s, "c", &places, &n, NULL, e));
    assert_int_equal(n, 1);
    assert_string_equal(places[0].status, "paused");
    assert_int_equal(places[0].seq, 3);
    store_queue_free(places, n);
    ok(store_queue_load(s, "embedded", &places, &n, NULL, e));
    assert_int_equal(places[0].seq, 0);
    store_queue_free(places, n);
    assert_int_equal(store_queue_load(s, "x", &places, &n, NULL, NULL), PD_ENOENT);

    ok(store_idem_find(s, "key", id, sha, e));
    assert_string_equal(id, "a");
    assert_int_equal(sha[31], 1);
    assert_int_equal(store_idem_find(s, "ke", id, sha, NULL), PD_ENOENT);
    /* the state keeps all else of the row */
    ok(store_job_state_put(s, "a", &(struct store_job_state){.status = "running", .started_ms = 77},
                           e));
    ok(store_job_state_put(
        s, "a", &(struct store_job_state){.status = "failed", .error = "x", .finished_ms = 99}, e));
    ok(store_flush(s, e));
    {
        struct store_job_row *rows = NULL;

        ok(store_job_list(s, &(struct store_job_query){.id = "a"}, &rows, &n, e));
        assert_int_equal(n, 1);
        assert_string_equal(rows[0].status, "failed");
        assert_string_equal(rows[0].error, "x");
        assert_int_equal(rows[0].started_ms, 77);
        assert_int_equal(rows[0].finished_ms, 99);
        store_job_list_free(rows, n);
    }
    ok(store_idem_find(s, "key", id, sha, e));
    verify_clean(s);
    store_close(s);
}

static void test_delete(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_trace *t = NULL;
    char id[PD_JOB_ID_MAX];
    uint8_t sha[32];

    (void)unused;
    put_life(s, "j");
    submit(s, "k", 1, "key", "queued");
    put_life(s, "k");
    ok(store_job_delete(s, "k", e));
    ok(store_job_delete(s, "k", e));
    ok(store_flush(s, e));
    assert_int_equal(store_trace_load(s, "k", &t, NULL), PD_ENOENT);
    assert_int_equal(store_idem_find(s, "key", id, sha, NULL), PD_ENOENT);
    assert_types(s, "j", LIFE);
    verify_clean(s);
    submit(s, "k", 1, "key", "queued"); /* nothing of it is left */
    assert_types(s, "k", "job.queued");
    store_close(s);
}

/* ---- texts that nobody uses ------------------------------------------------------------- */

static int64_t count_blobs(struct store *s)
{
    int64_t n = 0;

    ok(store_flush(s, e));
    ok(store_db_int(s->rdb, db, "SELECT count(*) FROM blob", &n, e));
    return n;
}

static void test_delete_frees(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct pd_trace *t = NULL;
    int64_t n_one, version = 0, later = 0;
    uint64_t n = 0, bytes = 0;

    (void)unused;
    put_life(s, "j");
    n_one = count_blobs(s);
    put_life(s, "k"); /* the same texts */
    assert_int_equal(count_blobs(s), n_one);
    ok(store_version(s, &version, e));
    ok(store_job_delete(s, "j", e));
    assert_int_equal(count_blobs(s), n_one);
    ok(store_version(s, &later, e));
    assert_int_not_equal(version, later);
    ok(store_trace_load(s, "k", &t, e));
    store_trace_free(t);
    ok(store_job_delete(s, "k", e));
    assert_int_equal(count_blobs(s), 0);

    put_life(s, "j");
    n_one = count_blobs(s);
    tamper("INSERT INTO blob(sha256,size,enc,data) VALUES"
           "(x'2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',1,'raw',x'78')");
    assert_int_equal(count_blobs(s), n_one + 1);
    ok(store_gc(s, false, &n, &bytes, e));
    assert_true(n == 1 && bytes == 1);
    assert_int_equal(count_blobs(s), n_one);
    ok(store_gc(s, true, &n, &bytes, e));
    assert_true(n == 0 && bytes == 0);
    verify_clean(s);
    ok(store_version(s, &version, e));
    ok(store_version(s, &later, e));
    assert_int_equal(version, later);
    store_close(s);
}

/* ---- lists ------------------------------------------------------------------------------ */

static void test_list(void **unused)
{
    struct store *s = open_ok(STORE_WRITE);
    struct store_job_query q = {.status = "done", .limit = 3};
    struct store_job_row *rows = NULL;
    char id[16], cursor[STORE_CURSOR_MAX], seen[64] = "";
    size_t n = 0;

    (void)unused;
    for (int i = 0; i < 20; i++) {
        struct pd_job_rec j;

        snprintf(id, sizeof(id), "%c", 'a' + i);
        j = job_rec(id);
        j.created_ms = 1000 + i / 4; /* some at the same time */
        j.status = i % 2 ? "done" : "running";
        ok(store_job_put(s, &j, e));
    }
    ok(store_flush(s, e));
    do {
        ok(store_job_list(s, &q, &rows, &n, e));
        for (size_t i = 0; i < n; i++) {
            assert_string_equal(rows[i].status, "done");
            strcat(seen, rows[i].id);
        }
        if (n)
            store_cursor(&rows[n - 1], cursor);
        q.cursor = cursor;
        store_job_list_free(rows, n);
    } while (n);
    assert_string_equal(seen, "trpnljhfdb");
    q.cursor = "12";
    assert_int_equal(store_job_list(s, &q, &rows, &n, NULL), PD_EINVAL);
    q = (struct store_job_query){.run_id = "r"};
    ok(store_job_list(s, &q, &rows, &n, e));
    assert_int_equal(n, 0);
    store_job_list_free(rows, n);
    store_close(s);
}

/* ---- verification ----------------------------------------------------------------------- */

static void test_verify_finds(void **unused)
{
    const struct {
        const char *sql, *undo, *part;
    } cases[] = {
        {"UPDATE feed SET seq=99 WHERE seq=3", "UPDATE feed SET seq=3 WHERE seq=99", "numbered"},
        {"UPDATE feed SET ref=9 WHERE seq=3", "UPDATE feed SET ref=0 WHERE seq=3",
         "node 0 is missing in the feed"},
        {"UPDATE feed SET ref=9 WHERE seq=6", "UPDATE feed SET ref=1 WHERE seq=6",
         "score of node 1 is missing"},
        {"UPDATE feed SET ref=0 WHERE seq=5", "UPDATE feed SET ref=1 WHERE seq=5",
         "stands 2 times"},
        {"UPDATE feed SET ref=9 WHERE seq=4", "UPDATE feed SET ref=0 WHERE seq=4", "of row 9"},
        {"UPDATE feed SET ref=9 WHERE seq=12", "UPDATE feed SET ref=3 WHERE seq=12", "of row 9"},
        {"UPDATE feed SET type='job.failed' WHERE seq=14",
         "UPDATE feed SET type='job.done' WHERE seq=14", "does not say so"},
    };
    struct store *s = open_ok(STORE_WRITE);

    (void)unused;
    put_life(s, "j");
    ok(store_flush(s, e));
    verify_clean(s);
    store_close(s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pd_buf report = PD_BUF_INIT(1 << 20);

        tamper(cases[i].sql);
        s = open_ok(STORE_READ);
        assert_int_equal(store_verify(s, &report, NULL), PD_EDIFFER);
        if (!strstr(pd_buf_str(&report).ptr, cases[i].part))
            fail_msg("\"%s\" does not say \"%s\"", pd_buf_str(&report).ptr, cases[i].part);
        pd_buf_done(&report);
        store_close(s);
        tamper(cases[i].undo);
        s = open_ok(STORE_READ);
        verify_clean(s);
        store_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_feed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_and_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_engine_retry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_on_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_submissions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_frees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify_finds, setup, teardown),
    };

    return cmocka_run_group_tests_name("storage feed", tests, NULL, NULL);
}

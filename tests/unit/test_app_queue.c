/* The job queue with the bundled models: what is acknowledged is durable, runs in its order, can be
 * stopped and goes on, and ends with the digest it would have had alone. */
#include "app/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "base/file.h"

#define LONG_NS (600 * PD_NS_PER_S)

static char dir[256], db[300]; /* of the running test */
static struct app *app;
static struct queue *queue;

/* What the callbacks said, as words: "stored:a", "start:a", "end:a:done", "told:paused". */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards log */
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct pd_buf log_;

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    snprintf(dir, sizeof dir, "%s/ponder-queue-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    snprintf(db, sizeof db, "%s/ponder.db", dir);
    log_ = (struct pd_buf)PD_BUF_INIT(1 << 20);
    return 0;
}

static int rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    pd_buf_done(&log_);
    return nftw(dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

#define ok(call)                                                                                   \
    do {                                                                                           \
        struct pd_err err_ = {0};                                                                  \
        struct pd_err *e = &err_;                                                                  \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, err_.text);                                                  \
    } while (0)

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    char word[128];
    va_list args;

    va_start(args, fmt);
    vsnprintf(word, sizeof word, fmt, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    pd_buf_printf(&log_, "%s ", word);
    pthread_cond_broadcast(&more);
    pthread_mutex_unlock(&lock);
}

/* How often the word was said, or (prefix) words that begin with it. */
static size_t count(const char *word, bool prefix)
{
    size_t n = 0, len = strlen(word);

    for (const char *p = pd_buf_str(&log_).ptr; (p = strstr(p, word)); p += len)
        n += (p == log_.data || p[-1] == ' ') && (prefix || p[len] == ' ');
    return n;
}

static void wait_for(const char *word, size_t n)
{
    pthread_mutex_lock(&lock);
    while (count(word, false) < n)
        pthread_cond_wait(&more, &lock);
    pthread_mutex_unlock(&lock);
}

static void wait_for_some(const char *prefix, size_t n)
{
    pthread_mutex_lock(&lock);
    while (count(prefix, true) < n)
        pthread_cond_wait(&more, &lock);
    pthread_mutex_unlock(&lock);
}

static void assert_said(const char *want)
{
    pthread_mutex_lock(&lock);
    assert_string_equal(pd_buf_str(&log_).ptr, want);
    pd_buf_clear(&log_);
    pthread_mutex_unlock(&lock);
}

static void forget(void)
{
    pthread_mutex_lock(&lock);
    pd_buf_clear(&log_);
    pthread_mutex_unlock(&lock);
}

static void stored(void *user, enum queue_verdict v, const char *id, const struct pd_err *err)
{
    static const char *const names[] = {"stored", "known", "conflict", "full", "refused"};

    assert_non_null(id);
    assert_true((v == QUEUE_REFUSED) == (err != NULL));
    say("%s:%s", names[v], (const char *)user);
}

static void started(void *user, struct app_job *job)
{
    assert_int_equal(app_job_core(job)->mode, PD_JOB_RUN);
    say("start:%s", (const char *)user);
}

static void ended(void *user, const struct queue_end *end)
{
    assert_true(!end->job == !end->result);
    if (end->result)
        assert_string_equal(end->result->status, end->status);
    say("end:%s:%s", (const char *)user, end->status);
}

static void told(void *user, int rc, const char *status, const struct pd_err *err)
{
    (void)user;
    assert_true((rc < 0) == (err != NULL));
    if (rc < 0)
        say("told:%d", rc);
    else
        say("told:%s", status);
}

static const struct queue_watch watch = {stored, started, ended};

static void any_ended(void *user, const struct queue_end *end)
{
    (void)user;
    say("any:%s", end->status);
}

static void open_app(const char *where)
{
    const struct app_config c = {.n_threads = 1, .data_dir = where};

    ok(app_open(&c, &app, e));
}

static void open_queue(unsigned max_jobs, size_t max_waiting)
{
    const struct queue_config c = {
        .app = app, .max_jobs = max_jobs, .max_waiting = max_waiting, .ended = any_ended};

    ok(queue_open(&c, &queue, e));
}

static void close_all(void)
{
    ok(queue_close(queue, LONG_NS, e));
    app_close(app);
    queue = NULL;
    app = NULL;
}

/* ---- requests ------------------------------------------------------------------------------- */

static const char *const few[] = {"samples=2", "max_tokens=60"};
static const char *const many[] = {"samples=256"};

static struct queue_submission request(const char *name, uint64_t seed, bool is_long)
{
    return (struct queue_submission){
        .request = {.question = "What is 3 + 4?",
                    .seed = seed,
                    .strategy = "self_consistency",
                    .options = is_long ? many : few,
                    .n_options = is_long ? 1 : 2},
        .peer_uid = 7,
        .watch = &watch,
        .user = (void *)(uintptr_t)name,
    };
}

static void submit(const char *name, uint64_t seed, bool is_long, char id[PD_JOB_ID_MAX])
{
    struct queue_submission s = request(name, seed, is_long);

    ok(queue_submit(queue, &s, id, e));
}

static void tell(enum queue_verb verb, const char *id)
{
    ok(queue_tell(queue, verb, id, told, NULL, e));
}

/* The digest of the same request in a database of its own. */
static void alone(uint64_t seed, bool is_long, char hex[65])
{
    struct queue_submission s = request("", seed, is_long);
    const struct app_config c = {.n_threads = 1, .no_trace = true};
    const struct pd_result *r = NULL;
    struct app *a = NULL;
    struct app_job *j = NULL;

    ok(app_open(&c, &a, e));
    ok(app_job_new(a, &s.request, &j, e));
    ok(app_job_start(j, e));
    ok(app_job_wait(j, PD_NEVER_NS, &r, e));
    strcpy(hex, r->digest);
    app_job_free(j);
    app_close(a);
}

static void assert_row(const char *id, const char *status, const char *digest)
{
    struct store_job_row *rows = NULL;
    size_t n = 0;

    ok(store_job_list(app_store(app), &(struct store_job_query){.id = id}, &rows, &n, e));
    assert_int_equal(n, 1);
    if (strcmp(rows[0].status, status) != 0)
        fail_msg("%s is %s and not %s; said was: %s", id, rows[0].status, status,
                 pd_buf_str(&log_).ptr);
    if (digest) {
        assert_non_null(rows[0].digest);
        assert_string_equal(rows[0].digest, digest);
    }
    if (strcmp(status, "done") == 0) {
        assert_true(rows[0].started_ms >= rows[0].created_ms);
        assert_true(rows[0].finished_ms >= rows[0].started_ms);
    }
    store_job_list_free(rows, n);
}

static void assert_whole(void)
{
    struct pd_buf report = PD_BUF_INIT(1 << 20);

    if (store_verify(app_store(app), &report, NULL) < 0)
        fail_msg("%s", pd_buf_str(&report).ptr);
    pd_buf_done(&report);
}

/* Writes sql into the database behind everybody's back. */
static void tamper(const char *sql)
{
    sqlite3 *c = NULL;
    char *why = NULL;

    assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
    if (sqlite3_exec(c, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(c);
}

/* The dispatcher between hold and let_go: what is submitted meanwhile, it finds at once. */
static sem_t held, go;

static void hold_fn(struct app *a, void *user)
{
    (void)user;
    assert_ptr_equal(a, app);
    sem_post(&held);
    sem_wait(&go);
}

static void hold(void)
{
    sem_init(&held, 0, 0);
    sem_init(&go, 0, 0);
    ok(queue_call(queue, hold_fn, NULL, e));
    sem_wait(&held);
}

static void let_go(void)
{
    sem_post(&go);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_runs(void **state)
{
    char id[3][PD_JOB_ID_MAX], want[3][65];

    (void)state;
    open_app(dir);
    open_queue(2, 10);
    for (uint64_t i = 0; i < 3; i++)
        submit("x", i + 1, false, id[i]);
    wait_for("any:done", 3);
    assert_int_equal(count("stored:x", false), 3);
    assert_int_equal(count("start:x", false), 3);
    assert_int_equal(count("end:x:done", false), 3);
    assert_int_equal(queue_counts(queue).waiting, 0);
    for (uint64_t i = 0; i < 3; i++) {
        alone(i + 1, false, want[i]);
        assert_row(id[i], "done", want[i]);
    }
    assert_string_not_equal(want[0], want[1]);
    assert_whole();
    close_all();
}

static void test_order(void **state)
{
    static const struct queue_watch starts = {NULL, started, NULL};
    static const struct {
        const char *name, *client;
        int32_t priority;
    } jobs[] = {{"a1", "a", 0}, {"a2", "a", 0}, {"a3", "a", 0},  {"b1", "b", 0},
                {"b2", "b", 0}, {"c1", "c", 0}, {"a4", "a", -1}, {"b3", "b", 5}};
    char id[PD_JOB_ID_MAX];

    (void)state;
    open_app(dir);
    open_queue(1, 10);
    hold();
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        struct queue_submission s = request(jobs[i].name, 1, false);

        s.client = jobs[i].client;
        s.priority = jobs[i].priority;
        s.watch = &starts;
        ok(queue_submit(queue, &s, id, e));
    }
    let_go();
    wait_for("any:done", 8);
    assert_said("start:b3 any:done start:a1 any:done start:c1 any:done start:b1 any:done "
                "start:a2 any:done start:b2 any:done start:a3 any:done start:a4 any:done ");
    close_all();
}

static void test_idempotency(void **state)
{
    struct queue_submission s = request("x", 1, false);
    char first[PD_JOB_ID_MAX], id[PD_JOB_ID_MAX];

    (void)state;
    open_app(dir);
    open_queue(1, 10);
    s.idem_key = "key";
    s.body = PD_STR("body");
    hold();
    ok(queue_submit(queue, &s, first, e)); /* three in one look into the inbox */
    ok(queue_submit(queue, &s, id, e));
    s.body = PD_STR("another");
    ok(queue_submit(queue, &s, id, e));
    let_go();
    wait_for("conflict:x", 1);
    wait_for("end:x:done", 1);
    assert_int_equal(count("stored:x", false), 1);
    assert_int_equal(count("known:x", false), 1);
    ok(queue_submit(queue, &s, id, e)); /* and when it is long done */
    wait_for("conflict:x", 2);
    s.body = PD_STR("body");
    ok(queue_submit(queue, &s, id, e));
    wait_for("known:x", 2);
    assert_int_equal(count("start:x", false), 1);
    close_all();
    open_app(dir); /* and after a restart */
    open_queue(1, 10);
    ok(queue_submit(queue, &s, id, e));
    wait_for("known:x", 3);
    tell(QUEUE_DELETE, first); /* its key is free again */
    wait_for("told:deleted", 1);
    ok(queue_submit(queue, &s, id, e));
    wait_for("end:x:done", 2);
    close_all();
}

static void test_full(void **state)
{
    char id[PD_JOB_ID_MAX];
    struct queue_submission s = request("again", 1, false);

    (void)state;
    open_app(dir);
    open_queue(1, 3);
    hold();
    s.idem_key = "key";
    ok(queue_submit(queue, &s, id, e));
    for (int i = 0; i < 5; i++)
        submit("x", 1, false, id);
    ok(queue_submit(queue, &s, id, e)); /* what is there already is no more of it */
    let_go();
    wait_for("full:x", 3);
    wait_for("stored:x", 2);
    wait_for("known:again", 1);
    wait_for("end:x:done", 2);
    submit("x", 1, false, id);
    wait_for("stored:x", 3);
    close_all();
}

static void test_refused(void **state)
{
    struct queue_submission s = request("x", 1, false);
    struct store_job_row *rows = NULL;
    char id[PD_JOB_ID_MAX];
    size_t n = 0;

    (void)state;
    open_app(dir);
    open_queue(1, 10);
    s.request.model = "no-such-model";
    ok(queue_submit(queue, &s, id, e));
    s = request("x", 1, false);
    s.request.strategy = "no-such-strategy";
    ok(queue_submit(queue, &s, id, e));
    s = request("x", 1, false);
    s.request.question = " ";
    ok(queue_submit(queue, &s, id, e));
    wait_for("refused:x", 3);
    ok(store_job_list(app_store(app), &(struct store_job_query){0}, &rows, &n, e));
    assert_int_equal(n, 0);
    store_job_list_free(rows, n);
    submit("y", 1, false, id); /* nothing is the worse for it */
    wait_for("end:y:done", 1);
    close_all();
}

/* The verbs on a job that waits, on one that runs, on one that ended, and on none. */
static void test_verbs(void **state)
{
    char runs[PD_JOB_ID_MAX], waits[PD_JOB_ID_MAX], gone[PD_JOB_ID_MAX], digest[65];

    (void)state;
    open_app(dir);
    open_queue(1, 10);
    submit("runs", 3, true, runs);
    wait_for("start:runs", 1);
    submit("waits", 2, false, waits);
    submit("gone", 2, false, gone);
    wait_for("stored:gone", 1);
    forget();
    tell(QUEUE_RESUME, runs);
    wait_for("told:running", 1);
    tell(QUEUE_RESUME, waits);
    wait_for("told:queued", 1);
    tell(QUEUE_PAUSE, waits);
    tell(QUEUE_PAUSE, waits);
    wait_for("told:paused", 2);
    wait_for("end:waits:paused", 1);
    assert_row(waits, "paused", NULL);
    tell(QUEUE_DELETE, gone);
    tell(QUEUE_CANCEL, gone);
    wait_for("end:gone:deleted", 1);
    wait_for("told:deleted", 1);
    wait_for("told:-6", 1); /* PD_ENOENT */
    forget();
    tell(QUEUE_CANCEL, runs);
    tell(QUEUE_PAUSE, runs); /* waits until it rests, as cancelled */
    wait_for("told:cancelled", 2);
    wait_for("end:runs:cancelled", 1);
    assert_row(runs, "cancelled", NULL);
    tell(QUEUE_RESUME, runs);
    wait_for("told:cancelled", 3);
    tell(QUEUE_RESUME, waits);
    wait_for("told:queued", 1);
    wait_for("any:done", 1); /* nobody watches it any more */
    alone(2, false, digest);
    assert_row(waits, "done", digest);
    tell(QUEUE_CANCEL, waits);
    wait_for("told:done", 1);
    tell(QUEUE_DELETE, waits);
    tell(QUEUE_DELETE, "job_nobody");
    wait_for("told:deleted", 1);
    wait_for("told:-6", 1);
    assert_int_equal(queue_tell(queue, QUEUE_CANCEL,
                                "a name that is longer than any job's name can be", told, NULL,
                                NULL),
                     PD_ENOENT);
    assert_whole();
    close_all();
}

static void test_pause_keeps_the_tree(void **state)
{
    char id[PD_JOB_ID_MAX], digest[65];

    (void)state;
    alone(3, true, digest);
    open_app(dir);
    open_queue(1, 10);
    submit("x", 3, true, id);
    wait_for("start:x", 1);
    for (size_t i = 1; i <= 5; i++) {
        tell(QUEUE_PAUSE, id);
        wait_for_some("told:", 2 * i - 1);
        tell(QUEUE_RESUME, id); /* done: says so */
        wait_for_some("told:", 2 * i);
    }
    assert_true(count("told:paused", false) > 0);
    tell(QUEUE_PAUSE, id); /* both before it rests */
    tell(QUEUE_RESUME, id);
    wait_for_some("told:", 12);
    wait_for("any:done", 1);
    assert_row(id, "done", digest);
    assert_whole();
    close_all();
}

static void test_delete_running(void **state)
{
    char id[PD_JOB_ID_MAX];
    struct pd_trace *t = NULL;

    (void)state;
    open_app(dir);
    open_queue(1, 10);
    submit("x", 3, true, id);
    wait_for("start:x", 1);
    tell(QUEUE_DELETE, id);
    wait_for("told:deleted", 1);
    wait_for("end:x:cancelled", 1);
    assert_int_equal(store_trace_load(app_store(app), id, &t, NULL), PD_ENOENT);
    assert_whole();
    close_all();
}

/* What ran or waited when the queue was closed goes on when it is opened. */
static void test_close_and_go_on(void **state)
{
    char runs[PD_JOB_ID_MAX], waits[PD_JOB_ID_MAX], paused[PD_JOB_ID_MAX],
        attached[2][PD_JOB_ID_MAX];
    char digest[2][65];
    struct queue_submission s = request("attached", 5, true);

    (void)state;
    alone(3, true, digest[0]);
    alone(4, false, digest[1]);
    open_app(dir);
    open_queue(2, 10);
    submit("runs", 3, true, runs);
    s.attached = true;
    ok(queue_submit(queue, &s, attached[0], e));
    wait_for("start:attached", 1);
    submit("waits", 4, false, waits);
    submit("paused", 4, false, paused);
    tell(QUEUE_PAUSE, paused);
    ok(queue_submit(queue, &s, attached[1], e));
    wait_for("stored:attached", 2);
    wait_for("told:paused", 1);
    ok(queue_close(queue, LONG_NS, e));
    assert_int_equal(count("end:attached:cancelled", false), 2);
    assert_int_equal(count("end:runs:queued", false), 1);
    assert_row(runs, "queued", NULL);
    assert_row(waits, "queued", NULL);
    assert_row(attached[0], "cancelled", NULL);
    assert_row(attached[1], "cancelled", NULL);
    app_close(app);
    open_app(dir);
    open_queue(2, 1);
    wait_for("any:done", 2);
    assert_row(runs, "done", digest[0]);
    assert_row(waits, "done", digest[1]);
    assert_row(paused, "paused", NULL);
    tell(QUEUE_RESUME, paused);
    wait_for("any:done", 3);
    assert_row(paused, "done", digest[1]);
    assert_whole();
    close_all();
}

/* What a process that was killed leaves: 'running' rows nobody has the lock of. */
static void test_recovers(void **state)
{
    char id[3][PD_JOB_ID_MAX], sql[256], digest[65];
    struct queue_submission s = request("attached", 4, false);

    (void)state;
    alone(4, false, digest);
    open_app(dir);
    open_queue(1, 10);
    hold();
    submit("x", 4, false, id[0]);
    submit("x", 4, false, id[1]);
    s.attached = true;
    ok(queue_submit(queue, &s, id[2], e));
    for (int i = 0; i < 3; i++)
        tell(QUEUE_PAUSE, id[i]); /* lest they end */
    let_go();
    wait_for("told:paused", 3);
    close_all();
    snprintf(sql, sizeof sql,
             "UPDATE job SET status=CASE id WHEN '%s' THEN 'queued' ELSE 'running' "
             "END",
             id[1]);
    tamper(sql);
    open_app(dir);
    open_queue(1, 1);
    wait_for("any:done", 2);
    assert_row(id[0], "done", digest);
    assert_row(id[1], "done", digest);
    assert_row(id[2], "cancelled", NULL);
    assert_whole();
    close_all();
}

static void copy_file(const char *from, const char *to)
{
    struct pd_draft d;

    ok(pd_draft_open(&d, to, e));
    ok(pd_draft_copy(&d, from, e));
    ok(pd_draft_commit(&d, e));
    pd_draft_done(&d);
}

static void test_model_is_gone(void **state)
{
    char model[300], from[4096], id[2][PD_JOB_ID_MAX];
    struct queue_submission s = request("lost", 4, false);

    (void)state;
    snprintf(from, sizeof from, "%s/tiny-base-Q8_0.gguf", getenv("PONDER_MODELS_DIR"));
    snprintf(model, sizeof model, "%s/copy.gguf", dir);
    copy_file(from, model);
    open_app(dir);
    open_queue(1, 10);
    hold();
    s.request.model = model;
    ok(queue_submit(queue, &s, id[0], e));
    submit("x", 4, false, id[1]);
    tell(QUEUE_PAUSE, id[0]);
    tell(QUEUE_PAUSE, id[1]);
    let_go();
    wait_for("told:paused", 2);
    close_all();
    tamper("UPDATE job SET status='queued'");
    assert_int_equal(unlink(model), 0);
    open_app(dir);
    open_queue(1, 1);
    wait_for("any:failed", 1);
    wait_for("any:done", 1);
    assert_row(id[0], "failed", NULL);
    assert_row(id[1], "done", NULL);
    close_all();
}

/* Other processes on the same database. */
static void test_leaves_others_alone(void **state)
{
    const struct queue_config c = {.app = NULL, .max_jobs = 1, .max_waiting = 1};
    struct queue_config second = c;
    struct queue *other = NULL;
    struct pd_err err = {0};
    struct app *embedded = NULL;
    struct app_job *theirs = NULL;
    const struct app_config config = {.n_threads = 1, .data_dir = dir};
    struct queue_submission s = request("", 3, true);
    const struct pd_result *r = NULL;
    const char *id;

    (void)state;
    ok(app_open(&config, &embedded, e));
    ok(app_job_new(embedded, &s.request, &theirs, e));
    id = app_job_core(theirs)->id;
    open_app(dir);
    open_queue(1, 10);
    assert_int_equal(queue_counts(queue).waiting, 0);
    second.app = app;
    assert_int_equal(queue_open(&second, &other, &err), PD_EBUSY);
    assert_non_null(strstr(err.text, "another daemon"));
    tell(QUEUE_CANCEL, id);
    tell(QUEUE_DELETE, id);
    wait_for("told:-11", 2); /* PD_EBUSY */
    tell(QUEUE_PAUSE, id);
    wait_for("told:-2", 1); /* PD_EINVAL */
    ok(app_job_start(theirs, e));
    app_job_cancel(theirs);
    assert_int_equal(app_job_wait(theirs, PD_NEVER_NS, &r, NULL), PD_ECANCEL);
    tell(QUEUE_PAUSE, id);
    wait_for("told:cancelled", 1);
    {
        char copy[PD_JOB_ID_MAX];

        strcpy(copy, id);
        app_job_free(theirs);
        tell(QUEUE_DELETE, copy);
        wait_for("told:deleted", 1);
    }
    app_close(embedded);
    close_all();
}

/* A client that leaves at any time: the verb right behind the submission finds the job. */
static void test_submit_and_cancel(void **state)
{
    char id[PD_JOB_ID_MAX];

    (void)state;
    open_app(dir);
    open_queue(2, 200);
    for (int i = 0; i < 100; i++) {
        struct queue_submission s = request("x", 3, true);

        s.attached = true;
        ok(queue_submit(queue, &s, id, e));
        if (i % 7 == 0)
            usleep((useconds_t)i * 50);
        ok(queue_tell(queue, QUEUE_CANCEL, id, told, NULL, e));
    }
    wait_for("told:cancelled", 100);
    wait_for("end:x:cancelled", 100);
    assert_int_equal(count("stored:x", false), 100);
    assert_whole();
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idempotency, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verbs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause_keeps_the_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_and_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recovers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_model_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_others_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_submit_and_cancel, setup, teardown),
    };

    return cmocka_run_group_tests_name("job queue", tests, NULL, NULL);
}

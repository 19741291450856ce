/* The life of the daemon: the loop, its worker threads, signals, the end.
 *
 *   start   listen, READY=1
 *   serve   until SIGTERM or SIGINT; SIGHUP reads the configuration again
 *   drain   no new connections; running jobs are paused, so that they go on at the next start;
 *           what is being answered has the drain timeout to end, but for event streams, which
 *           go on at the next start as their jobs do; a second signal ends at once
 *
 * Messages into the loop come through the doorway: any thread pushes, ev_async wakes. */
#include "daemon/daemon_int.h"

#include <ev.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define N_WORKERS       2
#define MAX_POSTS       65536 /* events of running jobs are drained faster than jobs make them */
#define MAX_WORK        1024
#define MAX_CONNECTIONS 4096
#define DRAIN_LOOK_S    0.05

struct post {
    struct pd_link link;
    void (*fn)(struct daemon *d, void *arg);
    void *arg;
};

struct work {
    struct pd_link link;
    void (*run)(struct daemon *d, void *arg);
    void (*done)(struct daemon *d, void *arg);
    void *arg;
};

struct doorway {
    struct pd_queue posts, work;
    ev_async wake;
    ev_signal signals[3];
    ev_timer drain, watchdog;
    double drain_until;
    pthread_t workers[N_WORKERS];
    unsigned n_workers;
};

static void notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
    sd_notify(0, state);
#else
    (void)state;
#endif
}

/* ---- the doorway --------------------------------------------------------------------------- */

bool daemon_post(struct daemon *d, void (*fn)(struct daemon *d, void *arg), void *arg)
{
    struct post *p = malloc(sizeof *p);

    if (!p)
        return false;
    *p = (struct post){{NULL}, fn, arg};
    if (pd_queue_push_wait(&d->doorway->posts, &p->link) < 0) {
        free(p);
        return false;
    }
    ev_async_send(d->loop, &d->doorway->wake);
    return true;
}

static void take_post(struct daemon *d, struct pd_link *l)
{
    struct post *p = pd_container_of(l, struct post, link);

    p->fn(d, p->arg);
    free(p);
}

static void take_posts(struct daemon *d)
{
    struct pd_link *next;

    for (struct pd_link *l = pd_queue_take_all(&d->doorway->posts); l; l = next) {
        next = l->next;
        take_post(d, l);
    }
}

static void on_wake(struct ev_loop *loop, ev_async *w, int events)
{
    (void)loop, (void)events;
    take_posts(w->data);
}

bool daemon_work(struct daemon *d, void (*run)(struct daemon *d, void *arg),
                 void (*done)(struct daemon *d, void *arg), void *arg)
{
    struct work *w = malloc(sizeof *w);

    if (!w)
        return false;
    *w = (struct work){{NULL}, run, done, arg};
    if (pd_queue_push(&d->doorway->work, &w->link) == 0)
        return true;
    free(w);
    return false;
}

static void *worker(void *arg)
{
    struct daemon *d = arg;
    struct pd_link *l;

    while (pd_queue_pop_wait(&d->doorway->work, PD_NEVER_NS, &l) == 0) {
        struct work w = *pd_container_of(l, struct work, link);

        free(pd_container_of(l, struct work, link));
        w.run(d, w.arg);
        daemon_post(d, w.done, w.arg);
    }
    return NULL;
}

/* ---- the settings, again ------------------------------------------------------------------- */

static void set_log(struct daemon *d)
{
    atomic_store(&d->log_level, d->settings->log_level);
    atomic_store(&d->log_json, d->settings->log_format == 1);
}

/* Settings that this process keeps until its end, although the files now say otherwise. */
static void tell_restarts(const struct daemon *d, const struct settings *now)
{
    struct pd_buf old = PD_BUF_INIT(65536), new = PD_BUF_INIT(65536);
    struct pd_jw w;

    for (const struct settings_row *row = settings_rows; row->key; row++) {
        pd_buf_clear(&old);
        pd_buf_clear(&new);
        pd_jw_init(&w, &old);
        settings_value_json(d->c->settings, row, &w);
        pd_jw_init(&w, &new);
        settings_value_json(now, row, &w);
        if (row->restart && !pd_str_eq(pd_buf_str(&old), pd_buf_str(&new)))
            daemon_log(d, LOG_WARNING, "this setting needs a restart", "key", row->key, "origin",
                       now->origins[row - settings_rows], NULL);
    }
    pd_buf_done(&old);
    pd_buf_done(&new);
}

static void reload(struct daemon *d)
{
    struct settings *now = NULL;
    struct pd_err err = {0};

    if (d->c->reload(d->c->user, &now, &err) < 0) {
        daemon_log(d, LOG_ERROR, "the configuration stays as it was", "reason", err.text, NULL);
        return;
    }
    tell_restarts(d, now);
    settings_install(settings_ref(now));
    settings_unref(d->settings);
    d->settings = now;
    set_log(d);
    http_server_set_max_body(d->http, now->max_body);
    if (queue_limit(d->queue, (unsigned)now->max_jobs, (size_t)now->max_queue, &err) < 0)
        daemon_log(d, LOG_ERROR, "the queue keeps its limits", "reason", err.text, NULL);
    daemon_log(d, LOG_INFO, "configuration read again", NULL);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void on_drain(struct ev_loop *loop, ev_timer *w, int events)
{
    struct daemon *d = w->data;

    (void)events;
    if (http_server_requests(d->http) <= events_watched(d->events) ||
        ev_now(loop) > d->doorway->drain_until)
        ev_break(loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct daemon *d = w->data;

    (void)events;
    if (w->signum == SIGHUP) {
        reload(d);
        return;
    }
    if (d->draining) {
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    d->draining = true;
    daemon_log(d, LOG_INFO, "draining", "signal", w->signum == SIGTERM ? "SIGTERM" : "SIGINT",
               NULL);
    notify("STOPPING=1");
    http_server_stop_listening(d->http);
    d->doorway->drain_until = ev_now(loop) + d->settings->drain_timeout_s;
    ev_timer_start(loop, &d->doorway->drain);
}

static void on_watchdog(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)w, (void)events;
    notify("WATCHDOG=1");
}

/* ---- the life ------------------------------------------------------------------------------ */

static const int signal_numbers[] = {SIGTERM, SIGINT, SIGHUP};
#define N_SIGNALS (sizeof signal_numbers / sizeof *signal_numbers)

/* Blocked before the first thread starts, so that all have them blocked but the loop's, where they
 * are watched later. */
static void mask_signals(int how)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigaddset(&set, signal_numbers[i]);
    pthread_sigmask(how, &set, NULL);
}

static void watch_signals(struct daemon *d)
{
    for (size_t i = 0; i < N_SIGNALS; i++) {
        ev_signal_init(&d->doorway->signals[i], on_signal, signal_numbers[i]);
        d->doorway->signals[i].data = d;
        ev_signal_start(d->loop, &d->doorway->signals[i]);
    }
    mask_signals(SIG_UNBLOCK);
}

static void start_watchdog(struct daemon *d)
{
#ifdef HAVE_LIBSYSTEMD
    uint64_t us = 0;

    if (sd_watchdog_enabled(0, &us) > 0 && us > 0) {
        double half = (double)us / 2e6;

        ev_timer_set(&d->doorway->watchdog, half, half);
        ev_timer_start(d->loop, &d->doorway->watchdog);
    }
#else
    (void)d;
#endif
}

static int start(struct daemon *d, struct pd_err *err)
{
    const struct http_config http = {.max_body = d->settings->max_body,
                                     .max_connections = MAX_CONNECTIONS,
                                     .header_s = 10,
                                     .stall_s = 30,
                                     .idle_s = 75,
                                     .user = d,
                                     .admit = api_admit,
                                     .handle = api_handle,
                                     .finished = api_finished};
    struct app_config app = settings_app(d->settings);
    struct doorway *w = d->doorway;
    int rc = pd_queue_init(&w->posts, MAX_POSTS);

    if (rc == 0)
        rc = pd_queue_init(&w->work, MAX_WORK);
    if (rc < 0)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    ev_async_init(&w->wake, on_wake);
    w->wake.data = d;
    ev_async_start(d->loop, &w->wake);
    ev_timer_init(&w->drain, on_drain, 0, DRAIN_LOOK_S);
    w->drain.data = d;
    ev_timer_init(&w->watchdog, on_watchdog, 0, 0);
    for (; w->n_workers < N_WORKERS; w->n_workers++) {
        int e = pthread_create(&w->workers[w->n_workers], NULL, worker, d);

        if (e)
            return pd_fail_errno(err, e, "cannot start a thread");
    }
    app.named_engines = true; /* a request is not to say whom this program calls, with which key */
    rc = app_open(&app, &d->app, err);
    if (rc < 0)
        return rc;
    store_on_commit(app_store(d->app), events_committed, d);
    rc = queue_open(&(struct queue_config){.app = d->app,
                                           .max_jobs = (unsigned)d->settings->max_jobs,
                                           .max_waiting = (size_t)d->settings->max_queue,
                                           .ended = metrics_job,
                                           .user = d->metrics},
                    &d->queue, err);
    if (rc == 0)
        rc = http_server_new(d->loop, &http, &d->http, err);
    if (rc == 0)
        rc = daemon_listen(d, err);
    return rc;
}

/* False: a job did not come to rest, and nothing may be freed under it. */
static bool stop(struct daemon *d)
{
    struct doorway *w = d->doorway;
    struct pd_err err;

    if (d->queue &&
        queue_close(d->queue, (int64_t)(d->settings->drain_timeout_s * (double)PD_NS_PER_S), &err) <
            0) {
        daemon_log(d, LOG_WARNING, "ending with jobs in the middle; they go on at the next start",
                   "reason", err.text, NULL);
        return false;
    }
    d->queue = NULL;
    take_posts(d);
    http_server_free(d->http); /* whoever waits for an answer hears that nobody does any more */
    mcp_cancel_all(d);
    for (struct pd_link *l; d->n_scoring > 0 && pd_queue_pop_wait(&w->posts, PD_NEVER_NS, &l) == 0;)
        take_post(d, l); /* they have been cancelled, and still have their models */
    pd_queue_close(&w->work);
    for (unsigned i = 0; i < w->n_workers; i++)
        pthread_join(w->workers[i], NULL);
    take_posts(d);
    pd_queue_close(&w->posts);
    pd_queue_done(&w->work);
    pd_queue_done(&w->posts);
    app_close(d->app);
    mcp_free(d->mcp);
    tokenizers_free(d->tokenizers);
    free(d->events);
    return true;
}

int daemon_run(const struct daemon_config *c, struct pd_err *err)
{
    struct doorway doorway = {0};
    struct daemon d = {.c = c,
                       .settings = settings_ref(c->settings),
                       .doorway = &doorway,
                       .lock_fd = -1,
                       .started_ms = pd_clock_unix_ms()};
    int rc = 0;

    set_log(&d);
    mask_signals(SIG_BLOCK);
    d.loop = ev_default_loop(EVFLAG_NOENV);
    d.metrics = metrics_new();
    d.mcp = mcp_new();
    d.events = events_new();
    d.tokenizers = tokenizers_new();
    if (!d.loop || !d.metrics || !d.mcp || !d.events || !d.tokenizers)
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0)
        rc = start(&d, err);
    if (rc == 0) {
        watch_signals(&d);
        start_watchdog(&d);
        notify("READY=1\nSTATUS=serving");
        ev_run(d.loop, 0);
    }
    daemon_unlisten(&d);
    if (d.loop && !stop(&d))
        _exit(0);
    metrics_free(d.metrics);
    if (rc == 0)
        daemon_log(&d, LOG_INFO, "stopped", NULL);
    settings_unref(d.settings);
    return rc;
}

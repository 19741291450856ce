/* Counters in Prometheus' text format. Requests are counted on the loop's thread, jobs on the
 * queue's, whence the lock. */
#include "daemon/daemon_int.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_ROUTES 256 /* pairs of route and status */

static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                0.5,   1,      2.5,   5,    10,    30,   60,  300};
#define N_BOUNDS (sizeof bounds / sizeof *bounds)

enum { PREFILLED, CACHED, GENERATED, DISCARDED, SCORED, N_KINDS };
static const char *const kinds[N_KINDS] = {"prompt", "cached", "generated", "discarded", "scored"};

/* pd_result.stopped_by, and what has no such word */
static const char *const reasons[] = {"answer",        "tokens", "seconds", "samples", "nodes",
                                      "no_candidates", "error",  "user",    "other"};
#define N_REASONS (sizeof reasons / sizeof *reasons)

struct metrics {
    pthread_mutex_t lock; /* guards the next two */
    uint64_t tokens[N_KINDS], finished[N_REASONS];
    struct {
        const char *route; /* a pattern: lives for ever */
        unsigned status;
        uint64_t n;
    } requests[MAX_ROUTES];
    size_t n_requests;
    uint64_t buckets[N_BOUNDS + 1]; /* not cumulative; the last: beyond all bounds */
    double seconds;
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);

    if (m)
        pthread_mutex_init(&m->lock, NULL);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m)
        pthread_mutex_destroy(&m->lock);
    free(m);
}

void metrics_job(void *metrics, const struct queue_end *end)
{
    struct metrics *m = metrics;
    const struct pd_usage *u = end->result ? &end->result->usage : NULL;
    size_t why = 0;

    if (!end->result || strcmp(end->status, "paused") == 0 || strcmp(end->status, "queued") == 0)
        return; /* it will end another time */
    while (why + 1 < N_REASONS &&
           (!end->result->stopped_by || strcmp(reasons[why], end->result->stopped_by) != 0))
        why++;
    pthread_mutex_lock(&m->lock);
    m->finished[why]++;
    m->tokens[PREFILLED] += u->prefilled;
    m->tokens[CACHED] += u->cached;
    m->tokens[GENERATED] += u->generated;
    m->tokens[DISCARDED] += u->discarded;
    m->tokens[SCORED] += u->scored;
    pthread_mutex_unlock(&m->lock);
}

void metrics_request(struct metrics *m, const char *route, unsigned status, double seconds)
{
    size_t i = 0;

    while (i < m->n_requests &&
           (m->requests[i].status != status || strcmp(m->requests[i].route, route) != 0))
        i++;
    if (i == m->n_requests && i < MAX_ROUTES) {
        m->requests[i].route = route;
        m->requests[i].status = status;
        m->n_requests++;
    }
    if (i < MAX_ROUTES)
        m->requests[i].n++;
    for (i = 0; i < N_BOUNDS && seconds > bounds[i];)
        i++;
    m->buckets[i]++;
    m->seconds += seconds;
}

/* The text of label values: backslash, quote and line end have escapes. */
static void put_label(struct pd_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            pd_buf_addc(out, '\\');
        if (*text == '\n')
            pd_buf_addz(out, "\\n");
        else
            pd_buf_addc(out, *text);
    }
}

static void head(struct pd_buf *out, const char *name, const char *type, const char *help)
{
    pd_buf_printf(out, "# HELP ponder_%s %s\n# TYPE ponder_%s %s\n", name, help, name, type);
}

static void put_requests(const struct metrics *m, struct pd_buf *out)
{
    uint64_t sum = 0;

    head(out, "http_requests_total", "counter", "Requests answered, by route and status.");
    for (size_t i = 0; i < m->n_requests; i++) {
        pd_buf_addz(out, "ponder_http_requests_total{route=\"");
        put_label(out, m->requests[i].route);
        pd_buf_printf(out, "\",code=\"%u\"} %" PRIu64 "\n", m->requests[i].status,
                      m->requests[i].n);
    }
    head(out, "http_request_seconds", "histogram",
         "From the end of the headers to the end of the answer.");
    for (size_t i = 0; i < N_BOUNDS; i++) {
        sum += m->buckets[i];
        pd_buf_printf(out, "ponder_http_request_seconds_bucket{le=\"%g\"} %" PRIu64 "\n", bounds[i],
                      sum);
    }
    sum += m->buckets[N_BOUNDS];
    pd_buf_printf(out,
                  "ponder_http_request_seconds_bucket{le=\"+Inf\"} %" PRIu64
                  "\nponder_http_request_seconds_sum %g\nponder_http_request_seconds_count %" PRIu64
                  "\n",
                  sum, m->seconds, sum);
}

static void put_jobs(const struct daemon *d, struct pd_buf *out)
{
    struct queue_counts n = queue_counts(d->queue);
    struct metrics *m = d->metrics;

    head(out, "jobs", "gauge", "Jobs by state.");
    pd_buf_printf(out, "ponder_jobs{state=\"queued\"} %zu\nponder_jobs{state=\"running\"} %zu\n",
                  n.waiting, n.running);
    head(out, "queue_depth", "gauge", "Jobs that wait.");
    pd_buf_printf(out, "ponder_queue_depth %zu\n", n.waiting);
    pthread_mutex_lock(&m->lock);
    head(out, "jobs_finished_total", "counter", "Jobs that ended, by what stopped them.");
    for (size_t i = 0; i < N_REASONS; i++)
        pd_buf_printf(out, "ponder_jobs_finished_total{stopped_by=\"%s\"} %" PRIu64 "\n",
                      reasons[i], m->finished[i]);
    head(out, "tokens_total", "counter", "Tokens of jobs that ended, by kind of work.");
    for (size_t i = 0; i < N_KINDS; i++)
        pd_buf_printf(out, "ponder_tokens_total{engine=\"local\",kind=\"%s\"} %" PRIu64 "\n",
                      kinds[i], m->tokens[i]);
    pthread_mutex_unlock(&m->lock);
}

static void put_number(struct pd_buf *out, const char *name, const char *type, const char *help,
                       double value)
{
    head(out, name, type, help);
    pd_buf_printf(out, "ponder_%s %.17g\n", name, value);
}

static void put_engine(const struct daemon *d, struct pd_buf *out)
{
    const struct eng *engine = app_engine(d->app);
    struct eng_stats s = {0}; /* no job has needed an engine: nothing was done */

    if (engine)
        eng_stats(engine, &s);
    put_number(out, "kv_bytes", "gauge", "KV pages that contexts hold.",
               (double)s.kv_page_bytes_used);
    put_number(out, "kv_pages_used", "gauge", "The same, counted.", (double)s.kv_pages_used);
    put_number(out, "kv_pages_cached", "gauge", "KV pages kept for prompts that come again.",
               (double)s.kv_pages_cached);
    put_number(out, "kv_shared_ratio", "gauge", "Contexts that hold a page, on average.",
               s.kv_pages_used ? (double)s.kv_pages_seen / (double)s.kv_pages_used : 0);
    put_number(out, "prefix_hit_tokens_total", "counter", "Prompt tokens found evaluated already.",
               (double)s.prefix_hit_tokens);
    put_number(out, "prefix_evictions_total", "counter", "Cached KV pages given up.",
               (double)s.prefix_evictions);
    put_number(out, "engine_steps_total", "counter", "Batches computed.", (double)s.steps);
    put_number(out, "engine_rows_total", "counter", "Tokens in them.", (double)s.rows);
}

static unsigned long resident_pages(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident;
}

static unsigned count_fds(void)
{
    unsigned n = 0;

    for (int fd = 0, max = (int)sysconf(_SC_OPEN_MAX); fd < max && fd < 65536; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

void metrics_write(const struct daemon *d, struct pd_buf *out)
{
    put_requests(d->metrics, out);
    put_jobs(d, out);
    put_engine(d, out);
    head(out, "http_connections", "gauge", "Open connections.");
    pd_buf_printf(out, "ponder_http_connections %u\n", http_server_connections(d->http));
    head(out, "http_streams", "gauge", "Answers being streamed.");
    pd_buf_printf(out, "ponder_http_streams %u\n", http_server_streams(d->http));
    head(out, "resident_bytes", "gauge", "Memory of the process.");
    pd_buf_printf(out, "ponder_resident_bytes %lu\n",
                  resident_pages() * (unsigned long)sysconf(_SC_PAGESIZE));
    head(out, "open_fds", "gauge", "Open file descriptors.");
    pd_buf_printf(out, "ponder_open_fds %u\n", count_fds());
    head(out, "build_info", "gauge", "Always 1.");
    pd_buf_printf(out, "ponder_build_info{version=\"%s\"} 1\n", PONDER_VERSION);
}

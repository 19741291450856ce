/* Shared by the files of src/daemon.
 *
 * One loop thread has the sockets and every struct http_request. What computes, reads files or asks
 * the database runs elsewhere: jobs on threads of their own, behind the queue's; the rest on worker
 * threads (daemon_work). Back into the loop there is one door, daemon_post. */
#ifndef PD_DAEMON_DAEMON_INT_H
#define PD_DAEMON_DAEMON_INT_H

#include "app/queue.h"
#include "base/json.h"
#include "base/queue.h"
#include "daemon/daemon.h"
#include "net/http.h"

#include <stdatomic.h>

struct ev_loop;
struct metrics;
struct mcp;
struct events;
struct request_error;
struct tokenizers;

struct daemon {
    const struct daemon_config *c;
    struct settings *settings; /* loop; those that changed since the start need a restart or are
                                  in force */
    atomic_int log_level;
    atomic_bool log_json;
    struct ev_loop *loop;
    struct app *app;     /* the queue's thread; app_store(app) anyone's */
    struct queue *queue; /* NULL: closed, the daemon is at its end */
    struct http_server *http;
    struct metrics *metrics;
    struct mcp *mcp;
    struct events *events;
    struct tokenizers *tokenizers;
    char *token;        /* of TCP clients; NULL: no TCP */
    bool socket_shared; /* the mode of systemd's socket lets others in than its user */
    char *socket_path;  /* to be removed at the end; NULL: none */
    int lock_fd;        /* says that the socket is ours */
    bool draining;
    int64_t started_ms;
    unsigned n_scoring;      /* loop: jobs beside the queue (route_score.c) */
    struct doorway *doorway; /* daemon.c */
};

/* fn(arg) on the loop's thread, soon; from any thread. False: the daemon ends, arg is still the
 * caller's. */
bool daemon_post(struct daemon *d, void (*fn)(struct daemon *d, void *arg), void *arg);
/* run(d, arg) on a worker thread, then done(d, arg) on the loop's. False: too much waits already;
 * neither will be called. */
bool daemon_work(struct daemon *d, void (*run)(struct daemon *d, void *arg),
                 void (*done)(struct daemon *d, void *arg), void *arg);

/* ---- api.c: routes, who may come in, errors ------------------------------------------------- */

/* What stands between braces in a route's pattern, by order. */
#define ROUTE_MAX_ARGS 2
struct route_args {
    const char *v[ROUTE_MAX_ARGS];
    struct pd_json *body; /* of ROUTE_JSON: an object, the route's to free; else NULL */
};
enum {
    ROUTE_OPEN = 1, /* needs no token */
    ROUTE_JSON = 2, /* its body is a JSON object; without one the request is refused */
};
struct route {
    enum http_method method; /* HTTP_GET answers HEAD too */
    const char *pattern;     /* "/v1/jobs/{id}/events" */
    void (*handle)(struct daemon *d, struct http_request *r, const struct route_args *args);
    unsigned flags; /* ROUTE_ */
};
/* Each ends with a NULL pattern. */
extern const struct route routes_engine[], routes_jobs[], routes_mcp[], routes_openai[],
    routes_ops[], routes_score[], routes_tokens[];

void api_admit(void *daemon, struct http_request *r);
void api_handle(void *daemon, struct http_request *r);
void api_finished(void *daemon, const struct http_request *r);
/* The pattern of the request's route, for metrics and logs: "other" when it has none. */
const char *api_route_name(const struct http_request *r);
const char *api_request_id(const struct http_request *r);

/* The error object. type and code are of the closed list in ponder-api(7); param NULL: none. */
void api_error(struct http_request *r, unsigned status, const char *type, const char *code,
               const char *param, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* The same object alone, for a stream that has begun. */
void api_error_json(struct pd_jw *w, const char *message, const char *type, const char *code,
                    const char *param, const char *request_id);
/* What a pd_code means that has no more special meaning to the route. */
struct api_kind {
    enum pd_code pd;
    unsigned status;
    const char *type, *code;
};
const struct api_kind *api_kind(int pd_code);
/* The error of that kind. */
void api_fail(struct http_request *r, const struct pd_err *err);
void api_no_memory(struct http_request *r); /* 507 */
void api_draining(struct http_request *r);  /* 503: the daemon ends */
void api_busy(struct http_request *r);      /* 503: too much waits for the worker threads */
void api_queue_full(struct http_request *r, unsigned retry_s, const char *message); /* 429 */
void api_no_job(struct http_request *r, const char *id);                            /* 404 */
/* Replies with b (or 500 when it could not hold its text), and empties it. */
void api_json(struct http_request *r, unsigned status, struct pd_buf *b);
/* What request_parse found wrong. */
void api_parse_error(struct http_request *r, const struct request_error *e);
/* Parses the body, a long one on a worker's thread. Then, on the loop's: body NULL and err, or the
 * value, which is then's to free. Not called when the client has left, or has been told that
 * nothing can be done for it. */
void api_parse(struct daemon *d, struct http_request *r,
               void (*then)(struct daemon *d, struct http_request *r, struct pd_json *body,
                            const struct pd_err *err));

/* A question whose answer takes work, first member of what a route needs to know for it. It lives
 * until it is answered, also when its client has left. */
struct api_question {
    struct daemon *d;
    struct http_request *r; /* loop; NULL: the client has left, or is none of HTTP */
    /* Worker: writes one JSON value into reply. */
    int (*read)(struct api_question *q, struct pd_jw *w, struct pd_err *err);
    /* Loop: says what read has returned; r is there if it was an HTTP client's. NULL: api_answer.
     */
    void (*answer)(struct api_question *q);
    void (*done)(struct api_question *q); /* frees what else is in it; NULL: nothing is */
    unsigned status;                      /* of a good answer */
    bool busy;                            /* there was no room for it: nothing was read */
    int rc;
    struct pd_err err;
    struct pd_buf reply;
};
/* A struct of so many bytes that begins with a question; r may be NULL. NULL: out of memory, and r
 * has been told. */
void *api_question_new(size_t bytes, struct daemon *d, struct http_request *r,
                       int (*read)(struct api_question *q, struct pd_jw *w, struct pd_err *err));
void api_question_free(struct api_question *q); /* NULL is fine; of one that is not asked */
void api_ask(struct api_question *q);           /* q is given away */
void api_answer(struct api_question *q);        /* 200 and the value, or the error of rc */

/* ---- listen.c ------------------------------------------------------------------------------- */

/* Opens what is asked for, or takes systemd's sockets; each address is logged. */
int daemon_listen(struct daemon *d, struct pd_err *err);
/* Removes the sockets from the file system. */
void daemon_unlisten(struct daemon *d);

/* ---- log.c ---------------------------------------------------------------------------------- */

/* In the order of the setting log.level. */
enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_REQUEST, LOG_DEBUG };
/* One line on stderr: a message, then pairs of names and texts up to a NULL name. No prompts, no
 * answers, no secrets. Any thread. */
void daemon_log(const struct daemon *d, enum log_level level, const char *message, ...)
    __attribute__((sentinel));

/* ---- route_jobs.c --------------------------------------------------------------------------- */

struct events *events_new(void); /* NULL: out of memory; free() frees it */
/* Event streams that are open; the end of the daemon does not wait for them. */
unsigned events_watched(const struct events *e);
/* For store_on_commit: wakes the event streams of this job. Any thread. */
void events_committed(void *daemon, const char *job_id);

/* ---- result.c ------------------------------------------------------------------------------- */

/* A question for the result of a stored job that is done, replayed from its record: what `ponder
 * solve --json` prints. */
struct result_question {
    struct api_question q;
    char id[PD_JOB_ID_MAX];
    struct app_job *job; /* dispatcher, then worker */
};
/* As api_question_new and api_ask, of a struct that begins with a result_question; its read calls
 * result_put. */
void *result_question_new(size_t bytes, struct daemon *d, struct http_request *r,
                          int (*read)(struct api_question *q, struct pd_jw *w, struct pd_err *err));
void result_ask(struct result_question *r);
/* The members of the result, into an open object. */
int result_put(struct result_question *r, struct pd_jw *w, struct pd_err *err);

/* ---- tokenizers.c --------------------------------------------------------------------------- */

struct tokenizers *tokenizers_new(void); /* NULL: out of memory */
void tokenizers_free(struct tokenizers *t);
/* The tokenizer of a model (NULL: the default one) by its name, and its context; opened once and
 * kept while others are not asked for more. To be given back. Any thread. */
struct tokenizer {
    const struct eng_tokenizer *t;
    uint32_t n_ctx;
    struct tokenizer_entry *entry;
};
int tokenizers_take(struct tokenizers *t, const char *model, struct tokenizer *out,
                    struct pd_err *err);
void tokenizers_give_back(struct tokenizers *t, struct tokenizer *back); /* of {0} too */

/* ---- mcp.c ---------------------------------------------------------------------------------- */

struct mcp *mcp_new(void); /* NULL: out of memory */
void mcp_free(struct mcp *m);
void mcp_cancel_all(struct daemon *d); /* at the end: what calls have begun outside of the queue */

/* ---- metrics.c ------------------------------------------------------------------------------ */

struct metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(struct metrics *m);
void metrics_request(struct metrics *m, const char *route, unsigned status, double seconds);
/* For queue_config.ended: the work of a job that has ended. The queue's thread. */
void metrics_job(void *metrics, const struct queue_end *end);
void metrics_write(const struct daemon *d, struct pd_buf *out); /* Prometheus' text format */

#endif

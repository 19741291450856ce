/* The body of a job as the API takes it: POST /v1/jobs, chat completions, and MCP's solve, which
 * writes its arguments in this form. Fields and ranges: ponder-api(7). */
#ifndef PD_DAEMON_REQUEST_H
#define PD_DAEMON_REQUEST_H

#include "app/app.h"
#include "base/json.h"

struct request {
    struct app_request app;  /* strings live as long as the request */
    const char *shown_model; /* as the client wrote it: model, model@profile or model@strategy;
                                NULL: none */
    const char *profile;     /* NULL: none */
    const char *warning;     /* about a field that has no effect here, a literal; NULL: none */
    const char *client;      /* `user`: whose share it counts to; NULL: not said */
    int32_t priority;
    bool has_extension;    /* there is a `ponder` object */
    struct pd_buf unknown; /* top-level fields that nobody knows, with commas between */
    struct pd_arena arena;
};

struct request_error {
    const char *code; /* of the list in ponder-api(7) */
    char param[96];   /* "" : none */
    struct pd_err err;
};

/* The job in a body. `known` (ends with NULL) are top-level fields that the route reads itself;
 * with prompt among them there are no messages, and app.chat is for the route to set. Returns 0 or
 * PD_EINVAL; unknown top-level fields are no error here: see request.unknown. */
int request_parse(const struct pd_json *body, const char *const *known, struct request **out,
                  struct request_error *e);
void request_free(struct request *q);           /* NULL is fine */
int request_no_memory(struct request_error *e); /* fills it; PD_ENOMEM */
/* One more option of the strategy, or of all; its own parser judges it. */
int request_option(struct request *q, const char *key, const char *value, struct request_error *e);

/* Checked members of an object, for routes that read their own fields. Absent and null are no
 * error and leave *out as it is; PD_EINVAL fills e with prefix and key as the param. */
struct request_object {
    const struct pd_json *json;
    const char *prefix; /* "ponder.budget." or "" */
};
int request_int(struct request_object o, const char *key, int64_t min, int64_t max, int64_t *out,
                struct request_error *e);
int request_number(struct request_object o, const char *key, double min, double max, double *out,
                   struct request_error *e);
int request_bool(struct request_object o, const char *key, bool *out, struct request_error *e);
/* Borrowed from the JSON. */
int request_text(struct request_object o, const char *key, const char **out,
                 struct request_error *e);
/* The member `model`, for routes without a job: a name, never a path. */
int request_model(const struct pd_json *body, const char **out, struct request_error *e);
int request_bad(struct request_error *e, const char *code, const char *prefix, const char *key,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif

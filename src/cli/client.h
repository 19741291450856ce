/* The client side of the CLI: one daemon, spoken to over its unix socket or loopback TCP. Blocking,
 * on the main thread; SIGINT and SIGTERM (blocked before, see cli_block_signals) end a call with
 * PD_ECANCEL and client_signal.
 *
 * Errors: PD_EREMOTE no daemon answers, or its answer makes no sense; else what the daemon's error
 * object means: PD_EINVAL a bad request or state, PD_ENOENT no such job or model, PD_EPERM,
 * PD_ENOMEM, PD_EBUSY try again later; its message is the text. */
#ifndef PD_CLI_CLIENT_H
#define PD_CLI_CLIENT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/sse.h"

struct client;

/* host: unix:///PATH, http://127.0.0.1:PORT (with the token in the file that PONDER_TOKEN_FILE
 * names, else in the runtime folder); NULL: the daemon's usual socket. */
int client_open(const char *host, struct client **out, struct pd_err *err);
void client_close(struct client *c);       /* NULL is fine */
int client_signal(const struct client *c); /* that ended a call; 0: none */

/* Calls that are under way then end with PD_ETIMEOUT. PD_NEVER_NS: none, as at first. */
void client_deadline(struct client *c, int64_t deadline_ns);

/* One request and its answer's body; body NULL: none. header: one more ("Name: value"), or NULL.
 * Returns 0 for a 2xx. */
int client_call(struct client *c, const char *method, const char *path, const struct pd_str *body,
                const char *header, struct pd_buf *out, struct pd_err *err);

/* As client_call, for an answer that may come as an event stream too: each is called for every
 * event, or once with the whole body. *out_status may be NULL. Not repeated when the connection
 * breaks. */
int client_post(struct client *c, const char *path, struct pd_str body, const char *header,
                int (*each)(void *user, const struct net_sse_event *e), void *user,
                long *out_status, struct pd_err *err);
/* A header of the last answer, "" when it had none. Until the next call. */
const char *client_reply_header(const struct client *c, const char *name);

/* Follows a stream of events from its beginning, and again from the last one when the connection
 * breaks, until the daemon ends it or each returns something else than 0, which is returned. */
int client_events(struct client *c, const char *path,
                  int (*each)(void *user, const struct net_sse_event *e), void *user,
                  struct pd_err *err);

#endif

/* Reading an event stream (text/event-stream) that comes in pieces of any size. Any thread; one
 * owner. */
#ifndef PD_NET_SSE_H
#define PD_NET_SSE_H

#include "base/buf.h"
#include "base/err.h"

#define NET_SSE_ID_MAX   64 /* with the NUL, as the next */
#define NET_SSE_TYPE_MAX 64

struct net_sse_event {
    const char *id, *type; /* "" when not sent; the id of an earlier event stays */
    struct pd_str data;    /* borrowed for the call */
};

struct net_sse {
    struct pd_buf line, data;
    char id[NET_SSE_ID_MAX], type[NET_SSE_TYPE_MAX];
    bool has_data, after_cr, begun;
    /* For every event; what it returns, unless 0, ends the reading. */
    int (*each)(void *user, const struct net_sse_event *e);
    void *user;
};

/* max_bytes: of one event. */
void net_sse_init(struct net_sse *s, size_t max_bytes,
                  int (*each)(void *user, const struct net_sse_event *e), void *user);
void net_sse_done(struct net_sse *s);
/* 0; what each returned; PD_ELIMIT: an event, its id or its type is too long (or no memory). An
 * event that the stream's end cuts off is never handed on. */
int net_sse_add(struct net_sse *s, struct pd_str piece);
/* Another connection: an event that had not ended is dropped. */
void net_sse_restart(struct net_sse *s);

#endif

/* Server-sent events, parsed as they arrive: any chunk boundaries, LF, CR or CRLF line ends, comments,
 * data of several lines, a byte-order mark. Any thread; one owner. */
#ifndef PD_NET_SSE_H
#define PD_NET_SSE_H

#include "base/buf.h"

#define SSE_LINE_MAX  ((size_t)4 << 20)
#define SSE_EVENT_MAX ((size_t)16 << 20) /* data of one event */
#define SSE_TYPE_MAX  64                 /* a longer name of an event is cut */

struct sse {
    /* For each event with data, at its empty line; type is "" when not sent. Not 0: stop. */
    int (*event)(void *user, const char *type, struct pd_str data);
    void *user;
    struct pd_buf line, data;
    char type[SSE_TYPE_MAX];
    bool has_data, after_cr, begun;
};

void sse_init(struct sse *s, int (*event)(void *user, const char *type, struct pd_str data),
              void *user);
void sse_done(struct sse *s);
/* 0, PD_ELIMIT (a line or an event too long), PD_ENOMEM, or what event() returned. An event that the
 * stream's end cuts off is never handed on. */
int sse_feed(struct sse *s, struct pd_str bytes);

#endif

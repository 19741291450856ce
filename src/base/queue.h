/* Bounded intrusive queue between threads: many pushers, one popper. Pushing gives the message
 * away. The lock is a leaf: nothing else is locked or called while it is held. */
#ifndef PD_BASE_QUEUE_H
#define PD_BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pd_link {
    struct pd_link *next;
};
#define pd_container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

struct pd_queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ready, room;
    struct pd_link *head, *tail;
    size_t n, max;
    bool closed;
};

int pd_queue_init(struct pd_queue *q, size_t max); /* 0 or PD_ENOMEM */
void pd_queue_done(struct pd_queue *q); /* must be empty or its messages freed by the owner */
int pd_queue_push(struct pd_queue *q, struct pd_link *m); /* 0, PD_ELIMIT full, PD_ECANCEL closed */
int pd_queue_push_wait(struct pd_queue *q,
                       struct pd_link *m);        /* blocks while full; 0 or PD_ECANCEL */
struct pd_link *pd_queue_pop(struct pd_queue *q); /* NULL when empty */
/* Waits until deadline_ns (monotonic; INT64_MAX = for ever): 0, PD_ETIMEOUT, PD_ECANCEL (closed and
 * empty). */
int pd_queue_pop_wait(struct pd_queue *q, int64_t deadline_ns, struct pd_link **out);
/* Everything in order as a chain, NULL when empty. */
struct pd_link *pd_queue_take_all(struct pd_queue *q);
void pd_queue_close(struct pd_queue *q); /* no more pushes; poppers drain, then PD_ECANCEL */

#endif

#include "base/queue.h"

#include <time.h>

#include "base/clock.h"
#include "base/err.h"

/* Deadlines are monotonic, so the condition has to count in that clock too. */
static int cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_condattr_init(&attr) != 0)
        return PD_ENOMEM;
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc == 0 ? 0 : PD_ENOMEM;
}

int pd_queue_init(struct pd_queue *q, size_t max)
{
    *q = (struct pd_queue){.max = max};
    if (pthread_mutex_init(&q->lock, NULL) != 0)
        return PD_ENOMEM;
    if (cond_init_monotonic(&q->ready) < 0)
        goto fail_lock;
    if (cond_init_monotonic(&q->room) < 0)
        goto fail_ready;
    return 0;
fail_ready:
    pthread_cond_destroy(&q->ready);
fail_lock:
    pthread_mutex_destroy(&q->lock);
    return PD_ENOMEM;
}

void pd_queue_done(struct pd_queue *q)
{
    pthread_cond_destroy(&q->room);
    pthread_cond_destroy(&q->ready);
    pthread_mutex_destroy(&q->lock);
    q->head = q->tail = NULL;
    q->n = 0;
}

static void append_locked(struct pd_queue *q, struct pd_link *m)
{
    m->next = NULL;
    if (q->tail)
        q->tail->next = m;
    else
        q->head = m;
    q->tail = m;
    q->n++;
    pthread_cond_signal(&q->ready); /* one popper */
}

static struct pd_link *pop_locked(struct pd_queue *q)
{
    struct pd_link *m = q->head;

    if (!m)
        return NULL;
    q->head = m->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    m->next = NULL;
    pthread_cond_signal(&q->room); /* one place became free */
    return m;
}

int pd_queue_push(struct pd_queue *q, struct pd_link *m)
{
    int rc = 0;

    pthread_mutex_lock(&q->lock);
    if (q->closed)
        rc = PD_ECANCEL;
    else if (q->n >= q->max)
        rc = PD_ELIMIT;
    else
        append_locked(q, m);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int pd_queue_push_wait(struct pd_queue *q, struct pd_link *m)
{
    int rc = 0;

    pthread_mutex_lock(&q->lock);
    while (!q->closed && q->n >= q->max)
        pthread_cond_wait(&q->room, &q->lock);
    if (q->closed)
        rc = PD_ECANCEL;
    else
        append_locked(q, m);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

struct pd_link *pd_queue_pop(struct pd_queue *q)
{
    struct pd_link *m;

    pthread_mutex_lock(&q->lock);
    m = pop_locked(q);
    pthread_mutex_unlock(&q->lock);
    return m;
}

/* false: the deadline has passed. May also return early; the caller looks again. */
static bool wait_ready_locked(struct pd_queue *q, int64_t deadline_ns)
{
    struct timespec until;

    if (deadline_ns == PD_NEVER_NS) {
        pthread_cond_wait(&q->ready, &q->lock);
        return true;
    }
    if (deadline_ns < 0)
        deadline_ns = 0;
    until.tv_sec = (time_t)(deadline_ns / PD_NS_PER_S);
    until.tv_nsec = (long)(deadline_ns % PD_NS_PER_S);
    return pthread_cond_timedwait(&q->ready, &q->lock, &until) == 0;
}

int pd_queue_pop_wait(struct pd_queue *q, int64_t deadline_ns, struct pd_link **out)
{
    bool in_time = true;
    struct pd_link *m;
    int rc = 0;

    pthread_mutex_lock(&q->lock);
    /* A message that arrived together with the deadline still counts: look once more after it. */
    while (!q->head && !q->closed && in_time)
        in_time = wait_ready_locked(q, deadline_ns);
    m = pop_locked(q);
    if (m)
        *out = m;
    else
        rc = q->closed ? PD_ECANCEL : PD_ETIMEOUT;
    pthread_mutex_unlock(&q->lock);
    return rc;
}

struct pd_link *pd_queue_take_all(struct pd_queue *q)
{
    struct pd_link *chain;

    pthread_mutex_lock(&q->lock);
    chain = q->head;
    q->head = q->tail = NULL;
    q->n = 0;
    if (chain)
        pthread_cond_broadcast(&q->room); /* many places became free */
    pthread_mutex_unlock(&q->lock);
    return chain;
}

void pd_queue_close(struct pd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->ready);
    pthread_cond_broadcast(&q->room);
    pthread_mutex_unlock(&q->lock);
}

/* The compute pool: n_threads - 1 workers and the caller share out the items of one run at a time.
 *
 * gate = OPEN bit + number of workers inside. A worker may only enter while OPEN, and only inside
 * may it look at the run's fields, so the caller may change them as soon as it has closed the gate
 * and the count is 0. A worker that wakes too late finds the gate closed and sleeps on: nobody
 * waits for it. */
#include "engine/kernels.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define OPEN 0x80000000u
#define SPIN_NS                                                                                    \
    20000 /* longer than the serial parts of a step, shorter than anybody's idea of idle */

struct worker {
    struct eng_pool *pool;
    unsigned index; /* from 1; the caller is 0 */
    pthread_t thread;
};

struct eng_pool {
    unsigned n_threads, n_started;
    /* the run; stable while the gate is open or a worker is inside */
    eng_pool_fn fn;
    void *arg;
    size_t n_items, grain;
    /* each on a cache line of its own: all threads hammer them */
    alignas(64) atomic_size_t next; /* first item nobody took */
    alignas(64) atomic_uint gate;
    alignas(64) atomic_uint epoch; /* counts runs; the futex sleepers wait on */
    atomic_uint n_asleep;
    atomic_bool quit;
    struct worker workers[];
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Guided self-scheduling (Polychronopoulos, Kuck: 1987): half of a thread's fair share of what is
 * left, so that a thread has long runs of neighbouring items, which memory delivers fastest, and all
 * are done at the same time whatever else a CPU is doing. */
static void take_items(struct eng_pool *p, unsigned thread)
{
    size_t begin = atomic_load_explicit(&p->next, memory_order_relaxed);

    while (begin < p->n_items) {
        size_t n = (p->n_items - begin) / (2 * (size_t)p->n_threads), end;

        n = n < p->grain ? p->grain : n - n % p->grain;
        end = p->n_items - begin < n ? p->n_items : begin + n;
        if (!atomic_compare_exchange_weak_explicit(&p->next, &begin, end, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        p->fn(p->arg, begin, end, thread);
        begin = atomic_load_explicit(&p->next, memory_order_relaxed);
    }
}

/* Returns the epoch after it has moved on from seen. */
static unsigned wait_epoch(struct eng_pool *p, unsigned seen)
{
    int64_t until_ns = now_ns() + SPIN_NS;
    unsigned epoch;

    do {
        for (int i = 0; i < 64; i++) {
            epoch = atomic_load_explicit(&p->epoch, memory_order_acquire);
            if (epoch != seen)
                return epoch;
            relax();
        }
    } while (now_ns() < until_ns);
    while ((epoch = atomic_load(&p->epoch)) == seen) {
        /* Announced before the kernel compares, and the caller moves the epoch before it looks
         * here: one of the two sees the other. */
        atomic_fetch_add(&p->n_asleep, 1);
        syscall(SYS_futex, &p->epoch, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        atomic_fetch_sub(&p->n_asleep, 1);
    }
    return epoch;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct eng_pool *p = w->pool;
    unsigned seen = 0;

    for (;;) {
        unsigned gate;

        seen = wait_epoch(p, seen);
        if (atomic_load(&p->quit))
            return NULL;
        gate = atomic_load_explicit(&p->gate, memory_order_relaxed);
        while (gate & OPEN) {
            if (atomic_compare_exchange_weak_explicit(&p->gate, &gate, gate + 1,
                                                      memory_order_acquire, memory_order_relaxed)) {
                take_items(p, w->index);
                atomic_fetch_sub_explicit(&p->gate, 1, memory_order_release);
                break;
            }
        }
    }
}

static void wake_all(struct eng_pool *p)
{
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->n_asleep) > 0)
        syscall(SYS_futex, &p->epoch, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}

int eng_pool_new(unsigned n_threads, struct eng_pool **out, struct pd_err *err)
{
    unsigned n_workers = n_threads > 1 ? n_threads - 1 : 0;
    size_t bytes = (sizeof(struct eng_pool) + n_workers * sizeof(struct worker) + 63) / 64 * 64;
    struct eng_pool *p = aligned_alloc(64, bytes);
    sigset_t all, old;

    if (!p)
        return pd_fail(err, PD_ENOMEM, "no memory for %u compute threads", n_threads);
    memset(p, 0, bytes);
    p->n_threads = n_workers + 1;
    /* Workers inherit the mask: signals are for the threads that know what to do with them. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    for (unsigned i = 0; i < n_workers; i++) {
        struct worker *w = &p->workers[i];
        int rc;

        w->pool = p;
        w->index = i + 1;
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        if (rc != 0) {
            pthread_sigmask(SIG_SETMASK, &old, NULL);
            eng_pool_free(p);
            return pd_fail_errno(err, rc, "cannot start compute thread %u of %u", i + 1, n_threads);
        }
        p->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *out = p;
    return 0;
}

void eng_pool_free(struct eng_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->quit, true);
    wake_all(p);
    for (unsigned i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    free(p);
}

unsigned eng_pool_n_threads(const struct eng_pool *p)
{
    return p->n_threads;
}

void eng_pool_run(struct eng_pool *p, size_t n_items, size_t grain, eng_pool_fn fn, void *arg)
{
    int64_t until_ns;

    if (n_items == 0)
        return;
    if (grain == 0)
        grain = 1;
    if (p->n_started == 0 || n_items <= grain) { /* not worth waking anybody */
        fn(arg, 0, n_items, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_items = n_items;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->gate, OPEN, memory_order_release);
    wake_all(p);
    take_items(p, 0);
    atomic_fetch_and_explicit(&p->gate, ~OPEN, memory_order_acq_rel);
    /* The others are within their last items. When there are more threads than CPUs one of them may
     * be waiting for ours, so do not spin for long. */
    until_ns = now_ns() + SPIN_NS;
    for (unsigned i = 1; atomic_load_explicit(&p->gate, memory_order_acquire) != 0; i++) {
        if (i % 64 == 0 && now_ns() > until_ns)
            sched_yield();
        else
            relax();
    }
}

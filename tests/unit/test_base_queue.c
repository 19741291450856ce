#include "base/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"

struct message {
    int from, number;
    struct pd_link link;
};

static const struct message *message_of(struct pd_link *link)
{
    return pd_container_of(link, struct message, link);
}

static void keeps_order_and_ceiling(void **state)
{
    struct message m[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct pd_link *chain;
    struct pd_queue q;

    (void)state;
    assert_int_equal(pd_queue_init(&q, 3), 0);
    assert_null(pd_queue_pop(&q));
    assert_null(pd_queue_take_all(&q));
    for (int i = 0; i < 3; i++)
        assert_int_equal(pd_queue_push(&q, &m[i].link), 0);
    assert_int_equal(pd_queue_push(&q, &m[3].link), PD_ELIMIT);
    assert_int_equal(message_of(pd_queue_pop(&q))->number, 0);
    assert_int_equal(pd_queue_push(&q, &m[3].link), 0);
    chain = pd_queue_take_all(&q);
    for (int i = 1; i <= 3; i++, chain = chain->next)
        assert_int_equal(message_of(chain)->number, i);
    assert_null(chain);
    assert_int_equal(pd_queue_push(&q, &m[0].link), 0); /* the tail was forgotten too */
    assert_ptr_equal(pd_queue_pop(&q), &m[0].link);
    assert_null(pd_queue_pop(&q));
    pd_queue_done(&q);
}

static void deadline_passes(void **state)
{
    struct message m = {.number = 1};
    struct pd_link *out = NULL;
    struct pd_queue q;
    int64_t start_ns;

    (void)state;
    assert_int_equal(pd_queue_init(&q, 1), 0);
    start_ns = pd_clock_now_ns();
    assert_int_equal(pd_queue_pop_wait(&q, start_ns + 20 * PD_NS_PER_MS, &out), PD_ETIMEOUT);
    assert_true(pd_clock_now_ns() >= start_ns + 20 * PD_NS_PER_MS);
    assert_int_equal(pd_queue_pop_wait(&q, 0, &out), PD_ETIMEOUT);
    assert_int_equal(pd_queue_pop_wait(&q, -5, &out), PD_ETIMEOUT);
    assert_null(out);
    assert_int_equal(pd_queue_push(&q, &m.link), 0);
    assert_int_equal(pd_queue_pop_wait(&q, 0, &out), 0); /* what is there needs no time */
    assert_ptr_equal(out, &m.link);
    pd_queue_done(&q);
}

static void closed_queue_drains_first(void **state)
{
    struct message m[2] = {{.number = 0}, {.number = 1}};
    struct pd_link *out = NULL;
    struct pd_queue q;

    (void)state;
    assert_int_equal(pd_queue_init(&q, 2), 0);
    assert_int_equal(pd_queue_push(&q, &m[0].link), 0);
    pd_queue_close(&q);
    assert_int_equal(pd_queue_push(&q, &m[1].link), PD_ECANCEL);
    assert_int_equal(pd_queue_push_wait(&q, &m[1].link), PD_ECANCEL);
    assert_int_equal(pd_queue_pop_wait(&q, PD_NEVER_NS, &out), 0);
    assert_ptr_equal(out, &m[0].link);
    assert_int_equal(pd_queue_pop_wait(&q, PD_NEVER_NS, &out), PD_ECANCEL);
    pd_queue_done(&q);
}

#define N_PUSHERS  4
#define N_MESSAGES 5000

struct pusher {
    struct pd_queue *q;
    struct message messages[N_MESSAGES];
    int n_failed;
};

static void *push_all(void *arg)
{
    struct pusher *p = arg;

    for (int i = 0; i < N_MESSAGES; i++)
        p->n_failed += pd_queue_push_wait(p->q, &p->messages[i].link) != 0;
    return NULL;
}

/* Many pushers against a small queue: nothing is lost, and each pusher's messages stay in order. */
static void threads_lose_nothing(void **state)
{
    static struct pusher pushers[N_PUSHERS];
    int next[N_PUSHERS] = {0};
    pthread_t threads[N_PUSHERS];
    int n_received = 0;
    struct pd_queue q;

    (void)state;
    assert_int_equal(pd_queue_init(&q, 8), 0);
    for (int t = 0; t < N_PUSHERS; t++) {
        pushers[t].q = &q;
        for (int i = 0; i < N_MESSAGES; i++) {
            pushers[t].messages[i].from = t;
            pushers[t].messages[i].number = i;
        }
        assert_int_equal(pthread_create(&threads[t], NULL, push_all, &pushers[t]), 0);
    }
    while (n_received < N_PUSHERS * N_MESSAGES) {
        struct pd_link *link;

        assert_int_equal(pd_queue_pop_wait(&q, pd_clock_now_ns() + 60 * PD_NS_PER_S, &link), 0);
        while (link) { /* now and then everything at once */
            const struct message *m = message_of(link);

            assert_int_equal(m->number, next[m->from]++);
            n_received++;
            link = link->next;
            if (!link && n_received % 3 == 0)
                link = pd_queue_take_all(&q);
        }
    }
    for (int t = 0; t < N_PUSHERS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_int_equal(pushers[t].n_failed, 0);
    }
    assert_null(pd_queue_pop(&q));
    pd_queue_done(&q);
}

static void *pop_until_closed(void *arg)
{
    static int rc;
    struct pd_link *out;

    rc = pd_queue_pop_wait(arg, PD_NEVER_NS, &out);
    return &rc;
}

static void *push_until_closed(void *arg)
{
    static struct message m;
    static int rc;

    rc = pd_queue_push_wait(arg, &m.link);
    return &rc;
}

static void close_wakes(void *(*sleeper)(void *), struct pd_queue *q)
{
    const struct timespec a_moment = {0, 10 * 1000 * 1000}; /* so that it most likely sleeps */
    pthread_t thread;
    void *rc;

    assert_int_equal(pthread_create(&thread, NULL, sleeper, q), 0);
    nanosleep(&a_moment, NULL);
    pd_queue_close(q);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal(*(int *)rc, PD_ECANCEL);
    pd_queue_done(q);
}

static void close_wakes_sleepers(void **state)
{
    struct message m = {0};
    struct pd_queue q;

    (void)state;
    assert_int_equal(pd_queue_init(&q, 1), 0);
    close_wakes(pop_until_closed, &q);
    assert_int_equal(pd_queue_init(&q, 1), 0);
    assert_int_equal(pd_queue_push(&q, &m.link), 0);
    close_wakes(push_until_closed, &q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_ceiling),   cmocka_unit_test(deadline_passes),
        cmocka_unit_test(closed_queue_drains_first), cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(close_wakes_sleepers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

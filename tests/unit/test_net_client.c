/* The HTTP client's rules for a host that fails, against the fake engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/client.h"
#include "tests/support/fake_engine.h"

#define N_CALLS 8

static const struct fake_fault busy = {
    .kind = FAKE_STATUS, .n = 500, .times = 1000, .text = "{\"error\":{\"message\":\"told so\"}}"};
static const struct fake_fault none = {.kind = FAKE_NONE};

struct bench {
    struct fake_engine *fake;
    struct net_client *client;
    struct net_host *host;
    struct net_call calls[N_CALLS];
    struct pd_buf outs[N_CALLS];
};

static void open_bench(struct bench *b, unsigned tries, int64_t probe_ns)
{
    char url[64];
    struct pd_err err;

    memset(b, 0, sizeof *b);
    b->fake = fake_engine_start(&(struct fake_config){.dialect = "vllm"});
    snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)fake_engine_port(b->fake));
    assert_int_equal(net_client_new(&b->client, &err), 0);
    assert_int_equal(net_host_new(b->client,
                                  &(struct net_host_config){.name = "the host",
                                                            .url = url,
                                                            .max_inflight = 1,
                                                            .tries = tries,
                                                            .connect_ns = 5 * PD_NS_PER_S,
                                                            .stall_ns = 60 * PD_NS_PER_S,
                                                            .backoff_ns = PD_NS_PER_MS,
                                                            .probe_ns = probe_ns},
                                  &b->host, &err),
                     0);
}

static void close_bench(struct bench *b)
{
    for (size_t i = 0; i < N_CALLS; i++)
        pd_buf_done(&b->outs[i]);
    net_client_free(b->client);
    fake_engine_stop(b->fake);
}

/* n calls at once, until all are over: the code of the first error. */
static int call(struct bench *b, size_t n)
{
    memset(b->calls, 0, sizeof b->calls);
    for (size_t i = 0; i < n; i++) {
        pd_buf_done(&b->outs[i]);
        b->outs[i] = (struct pd_buf)PD_BUF_INIT(65536);
        b->calls[i].path = "/v1/completions";
        b->calls[i].body = PD_STR("{\"prompt\":[1],\"max_tokens\":2}");
    }
    return net_calls_wait(b->host, b->calls, b->outs, n, NULL);
}

/* Five failures in a row, and nothing goes out but one call, which asks for all that wait by then:
 * six requests when all have been there in time, and never the two that each call may have. */
static void test_circuit(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, 2, PD_NS_PER_MS);
    fake_engine_fault(b.fake, &busy);
    assert_int_equal(call(&b, N_CALLS), PD_EREMOTE);
    assert_in_range(fake_engine_generated(b.fake), 6, 2 * N_CALLS - 1);
    for (size_t i = 0; i < N_CALLS; i++) {
        assert_int_equal(b.calls[i].err.code, PD_EREMOTE);
        assert_non_null(strstr(b.calls[i].err.text, "status 500: told so"));
    }
    /* it is still open: who asks is not tried again */
    fake_engine_fault(b.fake, &busy);
    assert_int_equal(call(&b, N_CALLS), PD_EREMOTE);
    assert_in_range(fake_engine_generated(b.fake), 1, N_CALLS);
    /* until one is answered: all go on */
    fake_engine_fault(b.fake, &none);
    assert_int_equal(call(&b, N_CALLS), 0);
    assert_int_equal(fake_engine_generated(b.fake), N_CALLS);
    close_bench(&b);
}

/* A failure that does not come from the host does not count. */
static void test_bad_requests(void **state)
{
    static const struct fake_fault bad = {
        .kind = FAKE_STATUS, .n = 400, .times = 1000, .text = "{\"error\":{\"message\":\"no\"}}"};
    struct bench b;

    (void)state;
    open_bench(&b, 3, 3600 * PD_NS_PER_S);
    fake_engine_fault(b.fake, &bad);
    assert_int_equal(call(&b, N_CALLS), PD_EINVAL);
    assert_int_equal(fake_engine_generated(b.fake), N_CALLS);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_circuit),
        cmocka_unit_test(test_bad_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* src/remote against the fake engine: each fault in each dialect ends in the right tokens or in the
 * documented error, and nothing is accepted from a stream that was cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sched.h>

#include "base/clock.h"
#include "remote/remote.h"
#include "tests/support/fake_engine.h"

#define LANES_MAX  16
#define MAX_TOKENS 40

static const char *const all_dialects[] = {"vllm", "sglang", "llama-server", "openai",
                                          "anthropic"};
static const struct pd_sampling sampling = {.temperature = 0.8, .top_p = 1};

struct bench { /* an engine, a pool and a generator at it */
    struct fake_engine *fake;
    struct remote_pool *pool;
    struct pd_generator *g;
    struct pd_gctx *ctx; /* the prompt; lanes run on copies */
    struct pd_lane lanes[LANES_MAX];
};

/* Speaks in texts. */
static bool chats(const char *dialect)
{
    return strcmp(dialect, "openai") == 0 || strcmp(dialect, "anthropic") == 0;
}

static struct bench *open_bench(const struct fake_config *config, const char *members)
{
    struct bench *b = calloc(1, sizeof *b);
    struct remote_engine *e;
    struct remote_config c;
    struct pd_arena a;
    struct pd_err err;
    char text[256];
    int32_t *ids = NULL;
    size_t n = 0;

    assert_non_null(b);
    b->fake = fake_engine_start(config);
    pd_arena_init(&a, 1 << 20);
    snprintf(text, sizeof text, "%s+http://127.0.0.1:%u%s", config->dialect,
             (unsigned)fake_engine_port(b->fake), members);
    assert_int_equal(remote_parse(text, &a, &c, &err), 1);
    assert_int_equal(remote_pool_new(&b->pool, &err), 0);
    assert_int_equal(remote_engine(b->pool, &c, &e, &err), 0);
    if (remote_generator_new(e, "m", NULL, NULL, &b->g, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(b->g->ops->ctx_new(b->g, &b->ctx, &err), 0);
    if (chats(config->dialect)) {
        struct pd_message m = {.role = "user", .content = PD_STR("What is 3 + 4?")};

        assert_int_equal(b->g->ops->chat(b->g, PD_CHAT(&m, 1), &ids, &n, &err), 0);
    } else {
        assert_int_equal(b->g->ops->tokenize(b->g, PD_STR("What is 3 + 4?"), &ids, &n, &err), 0);
    }
    assert_int_equal(b->g->ops->ctx_append(b->g, b->ctx, ids, n, &err), 0);
    free(ids);
    pd_arena_done(&a);
    return b;
}

static void drop_lane(struct bench *b, struct pd_lane *lane)
{
    b->g->ops->release(b->g, lane);
    b->g->ops->ctx_free(b->g, lane->ctx);
    lane->ctx = NULL;
}

static void close_bench(struct bench *b)
{
    for (size_t i = 0; i < LANES_MAX; i++)
        drop_lane(b, &b->lanes[i]);
    b->g->ops->ctx_free(b->g, b->ctx);
    b->g->ops->free(b->g);
    remote_pool_free(b->pool);
    fake_engine_stop(b->fake);
    free(b);
}

/* Lanes [from, from + n) with keys from `key` on. */
static void submit(struct bench *b, size_t from, size_t n, uint64_t key, const char *stop,
                   uint32_t race_m)
{
    struct pd_lane *lanes[LANES_MAX];
    struct pd_err err;

    for (size_t i = 0; i < n; i++) {
        struct pd_gctx *ctx = NULL;

        lanes[i] = &b->lanes[from + i];
        assert_int_equal(b->g->ops->ctx_fork(b->g, b->ctx, &ctx, &err), 0);
        *lanes[i] = (struct pd_lane){.op = PD_LANE_GENERATE,
                                     .ctx = ctx,
                                     .sampling = &sampling,
                                     .key = (key + i) * UINT64_C(0x9e3779b97f4a7c15),
                                     .max_tokens = MAX_TOKENS,
                                     .stop = stop,
                                     .race_m = race_m};
    }
    if (b->g->ops->submit(b->g, lanes, n, &err) < 0)
        fail_msg("%s", err.text);
}

static void wait_all(struct bench *b, size_t n)
{
    struct pd_lane *lane;

    while (n--)
        assert_int_equal(b->g->ops->wait(b->g, PD_NEVER_NS, &lane), 0);
}

static void same_lane(const struct pd_lane *a, const struct pd_lane *b)
{
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, a->n_tokens * sizeof *a->logprobs);
}

/* ---- faults ------------------------------------------------------------------------------------- */

#define OPENAI_ERROR(type, code)                                                                   \
    "{\"error\":{\"message\":\"told so\",\"type\":\"" type "\",\"param\":null,\"code\":" code "}}"

enum outcome { AT_ONCE, LATER, FAILS }; /* right the first time; the second; an error */

static const struct {
    const char *name;
    struct fake_fault fault;
    enum outcome outcome;
    enum pd_code code;
    const char *says;
} faults[] = {
    {"none", {.kind = FAKE_NONE}, AT_ONCE, PD_OK, ""},
    {"bytes", {.kind = FAKE_BYTES}, AT_ONCE, PD_OK, ""},
    {"crlf", {.kind = FAKE_CRLF}, AT_ONCE, PD_OK, ""},
    {"late cut", {.kind = FAKE_LATE_CUT}, AT_ONCE, PD_OK, ""},
    {"cut before", {.kind = FAKE_CUT, .n = 0}, LATER, PD_EREMOTE, "broke off"},
    {"cut", {.kind = FAKE_CUT, .n = 2}, LATER, PD_EREMOTE, "broke off"},
    {"reset", {.kind = FAKE_RESET, .n = 2}, LATER, PD_EREMOTE, "broke off"},
    /* a kept connection that closes as it is used again: libcurl takes another by itself */
    {"close", {.kind = FAKE_CLOSE}, AT_ONCE, PD_OK, ""},
    {"stall", {.kind = FAKE_STALL, .n = 2}, LATER, PD_EREMOTE, "nothing came for"},
    {"no final", {.kind = FAKE_NO_FINAL}, LATER, PD_EREMOTE, "before its last part"},
    {"error before", {.kind = FAKE_ERROR, .n = 0}, LATER, PD_EREMOTE, "the cache is full"},
    {"error after", {.kind = FAKE_ERROR, .n = 2}, LATER, PD_EREMOTE, "the cache is full"},
    {"garbage", {.kind = FAKE_GARBAGE, .n = 2}, LATER, PD_EREMOTE, "makes no sense"},
    {"429", {.kind = FAKE_STATUS, .n = 429, .header = "retry-after-ms: 20", .text = OPENAI_ERROR("tokens", "\"rate_limit_exceeded\"")}, LATER, PD_EREMOTE, "status 429: told so"},
    {"503", {.kind = FAKE_STATUS, .n = 503, .header = "Retry-After: 0", .text = "{\"object\":\"error\",\"message\":\"told so\",\"type\":\"x\",\"param\":null,\"code\":503}"}, LATER, PD_EREMOTE, "status 503: told so"},
    {"529", {.kind = FAKE_STATUS, .n = 529, .header = "Retry-After: 0", .text = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"told so\"},\"request_id\":\"r\"}"}, LATER, PD_EREMOTE, "status 529: told so"},
    {"500 of no shape", {.kind = FAKE_STATUS, .n = 500, .header = "Retry-After: 0", .text = "<h1>\001</h1>"}, LATER, PD_EREMOTE, "status 500: <h1>\\x01</h1>"},
    {"quota", {.kind = FAKE_STATUS, .n = 429, .text = OPENAI_ERROR("insufficient_quota", "\"insufficient_quota\"")}, FAILS, PD_EPERM, "told so"},
    {"400", {.kind = FAKE_STATUS, .n = 400, .text = OPENAI_ERROR("BadRequestError", "400")}, FAILS, PD_EINVAL, "status 400: told so"},
    {"422", {.kind = FAKE_STATUS, .n = 422, .text = "{\"detail\":[{\"loc\":[\"body\",\"top_k\"],\"msg\":\"too low\",\"type\":\"v\"}]}"}, FAILS, PD_EINVAL, "body.top_k: too low"},
    {"404", {.kind = FAKE_STATUS, .n = 404, .text = "{\"detail\":\"Not Found\"}"}, FAILS, PD_ENOENT, "status 404: Not Found"},
    {"redirect", {.kind = FAKE_STATUS, .n = 307, .header = "Location: http://127.0.0.1:9/", .text = ""}, FAILS, PD_EREMOTE, "no redirect is followed"},
    {"type", {.kind = FAKE_TYPE}, FAILS, PD_EREMOTE, "neither JSON nor events"},
};

static void check_fault(struct bench *b, size_t i)
{
    const struct pd_lane *clean = &b->lanes[0], *lane = &b->lanes[1];

    submit(b, 0, 1, 7, NULL, 0);
    wait_all(b, 1);
    assert_int_not_equal(clean->end, PD_END_ERROR);
    assert_true(clean->n_tokens > 3);
    fake_engine_fault(b->fake, &faults[i].fault);
    submit(b, 1, 1, 7, NULL, 0);
    wait_all(b, 1);
    assert_true(lane->n_attempts >= 1);
    for (uint32_t k = 0; k < lane->n_attempts; k++) {
        assert_int_equal(lane->attempts[k].number, k + 1);
        assert_true(lane->attempts[k].request.len > 20);
        assert_true((k + 1 == lane->n_attempts && lane->end != PD_END_ERROR) ==
                    (lane->attempts[k].error == NULL));
    }
    if (faults[i].outcome == FAILS) {
        assert_int_equal(lane->n_attempts, 1);
        assert_int_equal(lane->end, PD_END_ERROR);
        assert_int_equal(lane->n_tokens, 0);
        assert_int_equal(lane->err.code, faults[i].code);
        assert_non_null(strstr(lane->err.text, faults[i].says));
        return;
    }
    same_lane(lane, clean);
    assert_int_equal(lane->n_attempts, faults[i].outcome == AT_ONCE ? 1 : 2);
    if (faults[i].outcome == LATER)
        assert_non_null(strstr(lane->attempts[0].error, faults[i].says));
    /* in the ledger; a reset takes with it what has not been read */
    if (faults[i].fault.n == 2 && faults[i].fault.kind != FAKE_RESET)
        assert_int_equal(lane->attempts[0].n_generated, 2);
    assert_int_equal(lane->attempts[lane->n_attempts - 1].n_generated, lane->n_tokens);
}

static void test_faults(void **state)
{
    (void)state;
    for (size_t d = 0; d < sizeof all_dialects / sizeof *all_dialects; d++)
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            struct bench *b = open_bench(&(struct fake_config){.dialect = all_dialects[d]},
                                         "?stall_timeout_s=0.3");

            print_message("# %s, %s\n", all_dialects[d], faults[i].name);
            check_fault(b, i);
            close_bench(b);
        }
}

/* More choices than asked for come from two dialects only: each time, until the tries are used up. */
static void test_choices(void **state)
{
    static const char *const dialects[] = {"vllm", "openai"};

    (void)state;
    for (size_t d = 0; d < 2; d++) {
        struct bench *b =
            open_bench(&(struct fake_config){.dialect = dialects[d]}, "?retries=2");

        fake_engine_fault(b->fake, &(struct fake_fault){.kind = FAKE_TWO_CHOICES, .times = 100});
        submit(b, 0, 1, 3, NULL, 0);
        wait_all(b, 1);
        assert_int_equal(b->lanes[0].end, PD_END_ERROR);
        assert_int_equal(b->lanes[0].n_attempts, 2);
        assert_non_null(strstr(b->lanes[0].err.text, "there are more"));
        close_bench(b);
    }
}

/* ---- lanes -------------------------------------------------------------------------------------- */

/* A step ends with the token that completes its stop string, in each dialect. */
static void test_stop(void **state)
{
    static const char *const dialects[] = {"vllm", "sglang", "llama-server"};
    size_t n_stopped = 0, n_ended = 0;

    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct bench *b = open_bench(&(struct fake_config){.dialect = dialects[d]}, "");

        submit(b, 0, LANES_MAX, 100, "\n\n", 0);
        wait_all(b, LANES_MAX);
        for (size_t i = 0; i < LANES_MAX; i++) {
            const struct pd_lane *p = &b->lanes[i];

            assert_true(p->end == PD_END_STOP || p->end == PD_END_EOS || p->end == PD_END_LENGTH);
            if (p->end != PD_END_LENGTH)
                assert_int_equal(p->tokens[p->n_tokens - 1],
                                 p->end == PD_END_STOP ? FAKE_BLANK_LINE : FAKE_EOS);
            for (uint32_t k = 0; k + 1 < p->n_tokens; k++)
                assert_true(p->tokens[k] < FAKE_EOS);
            n_stopped += p->end == PD_END_STOP;
            n_ended += p->end == PD_END_EOS;
        }
        close_bench(b);
    }
    assert_true(n_stopped > 0 && n_ended > 0);
}

/* A step goes on behind all that was drawn before it: its request has the prompt and the tokens of
 * the step before. Where a dialect has no token ids, that is refused. */
static void test_second_step(void **state)
{
    static const char prompt[] = "[87,104,97,116,32,105,115,32,51,32,43,32,52,63";

    (void)state;
    for (size_t d = 0; d < sizeof all_dialects / sizeof *all_dialects; d++) {
        struct bench *b = open_bench(&(struct fake_config){.dialect = all_dialects[d]}, "");
        const bool whole = chats(all_dialects[d]);
        struct pd_lane *first = &b->lanes[0], second, *list = &second;
        struct pd_buf want = PD_BUF_INIT(4096);
        struct pd_err err;

        submit(b, 0, 1, 2, whole ? NULL : "\n\n", 0);
        wait_all(b, 1);
        assert_true(first->n_tokens > 1);
        second = (struct pd_lane){.op = PD_LANE_GENERATE,
                                  .ctx = first->ctx,
                                  .sampling = &sampling,
                                  .key = 3,
                                  .max_tokens = MAX_TOKENS};
        pd_buf_addz(&want, prompt);
        for (uint32_t i = 0; i < first->n_tokens; i++)
            pd_buf_printf(&want, ",%d", (int)first->tokens[i]);
        pd_buf_addc(&want, ']');
        if (whole) {
            assert_int_equal(b->g->ops->submit(b->g, &list, 1, &err), PD_EINVAL);
            assert_non_null(strstr(err.text, "gone on with"));
        } else {
            assert_int_equal(b->g->ops->submit(b->g, &list, 1, &err), 0);
            wait_all(b, 1);
            assert_non_null(strstr(fake_engine_body(b->fake), want.data));
            b->g->ops->release(b->g, &second);
        }
        pd_buf_done(&want);
        close_bench(b);
    }
}

/* Who arrives first does not matter: the same lanes end, cut at the same token. */
static void test_race(void **state)
{
    uint32_t lengths[LANES_MAX], T = 0;
    size_t n_won = 0;

    (void)state;
    for (int slow = 0; slow < 3; slow++) {
        struct bench *b = open_bench(
            &(struct fake_config){.dialect = "vllm", .token_us = (unsigned)slow * 500},
            slow == 1 ? "?max_inflight=3" : "");

        if (slow == 0) { /* on their own */
            submit(b, 0, LANES_MAX, 50, NULL, 0);
            wait_all(b, LANES_MAX);
            for (size_t i = 0; i < LANES_MAX; i++) {
                lengths[i] = b->lanes[i].end == PD_END_EOS ? b->lanes[i].n_tokens : UINT32_MAX;
                drop_lane(b, &b->lanes[i]);
            }
            while (n_won < 4)
                for (size_t i = (T++, n_won = 0); i < LANES_MAX; i++)
                    n_won += lengths[i] <= T;
        }
        submit(b, 0, LANES_MAX, 50, NULL, 4);
        wait_all(b, LANES_MAX);
        for (size_t i = 0; i < LANES_MAX; i++) {
            assert_int_equal(b->lanes[i].end, lengths[i] <= T ? PD_END_EOS : PD_END_RACE);
            assert_int_equal(b->lanes[i].n_tokens, lengths[i] <= T ? lengths[i] : T);
            assert_int_equal(b->lanes[i].attempts[b->lanes[i].n_attempts - 1].n_generated,
                             b->lanes[i].n_tokens);
        }
        close_bench(b);
    }
}

static void test_cancel(void **state)
{
    struct bench *b = open_bench(&(struct fake_config){.dialect = "vllm"}, "?max_inflight=1");
    struct pd_lane *lane;
    int64_t asked, deadline;

    (void)state;
    fake_engine_fault(b->fake, &(struct fake_fault){.kind = FAKE_STALL, .n = 2});
    submit(b, 0, 2, 1, NULL, 0); /* the second one waits behind the first */
    while (b->g->ops->progress(b->g, &b->lanes[0]) < 2)
        assert_int_equal(b->g->ops->wait(b->g, pd_clock_now_ns() + PD_NS_PER_MS, &lane),
                         PD_ETIMEOUT);
    asked = pd_clock_now_ns();
    b->g->ops->cancel(b->g, &b->lanes[1]); /* first: it would go out when the other one ends */
    b->g->ops->cancel(b->g, &b->lanes[0]);
    wait_all(b, 2);
    assert_int_equal(b->lanes[0].end, PD_END_CANCEL);
    assert_int_equal(b->lanes[0].n_tokens, 2); /* what was drawn is kept */
    assert_int_equal(b->lanes[1].end, PD_END_CANCEL);
    assert_int_equal(b->lanes[1].n_tokens, 0);
    deadline = asked + 10 * PD_NS_PER_S;
    while (fake_engine_closed_ns(b->fake) < asked && pd_clock_now_ns() < deadline)
        sched_yield();
    print_message("# closed %lld us after the cancel\n",
                  (long long)(fake_engine_closed_ns(b->fake) - asked) / 1000);
    assert_true(fake_engine_closed_ns(b->fake) >= asked);
    close_bench(b);
}

static void test_inflight(void **state)
{
    struct bench *b = open_bench(&(struct fake_config){.dialect = "vllm"}, "?max_inflight=3");

    (void)state;
    submit(b, 0, LANES_MAX, 9, NULL, 0);
    wait_all(b, LANES_MAX);
    assert_true(fake_engine_connections(b->fake) <= 3); /* kept alive, and no more than that */
    close_bench(b);
}

static void test_read(void **state)
{
    static const char *const dialects[] = {"sglang", "llama-server"};
    static const int32_t labels[] = {'b', 'z'}, none[] = {'A'};

    (void)state;
    for (size_t d = 0; d < 2; d++) {
        struct bench *b = open_bench(&(struct fake_config){.dialect = dialects[d]}, "");
        const uint32_t at[] = {3, 13};
        struct pd_lane lanes[] = {
            {.op = PD_LANE_READ, .ctx = b->ctx, .at = at, .n_at = 2, .labels = labels, .n_labels = 2},
            {.op = PD_LANE_READ, .ctx = b->ctx, .at = at, .n_at = 1, .labels = none, .n_labels = 1}};
        struct pd_lane *list[] = {&lanes[0], &lanes[1]};
        struct pd_err err;

        assert_int_equal(b->g->ops->submit(b->g, list, 2, &err), 0);
        wait_all(b, 2);
        assert_int_equal(lanes[0].end, PD_END_LENGTH);
        assert_int_equal(lanes[0].n_attempts, 2);
        for (int k = 0; k < 4; k++)
            assert_true(lanes[0].logits[k] == (k % 2 ? -26.0f : -2.0f));
        assert_int_equal(lanes[1].end, PD_END_ERROR);
        assert_non_null(strstr(lanes[1].err.text, "not among them"));
        b->g->ops->release(b->g, &lanes[0]);
        b->g->ops->release(b->g, &lanes[1]);
        close_bench(b);
    }
}

/* ---- what a dialect cannot do, and what goes out ------------------------------------------------ */

static void refuse(struct bench *b, struct pd_lane lane, const char *says)
{
    struct pd_lane *list = &lane;
    struct pd_err err;

    lane.ctx = b->ctx;
    lane.max_tokens = 8;
    assert_int_equal(b->g->ops->submit(b->g, &list, 1, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, says));
}

static void test_features(void **state)
{
    static const struct pd_sampling top_k = {.temperature = 1, .top_p = 1, .top_k = 5},
                                    top = {.temperature = 1, .top_p = 1, .n_top = 3},
                                    penalty = {.top_p = 1, .presence_penalty = 1};
    struct bench *b = open_bench(&(struct fake_config){.dialect = "openai"}, "");
    const int32_t more[] = {1};

    (void)state;
    refuse(b, (struct pd_lane){.op = PD_LANE_READ}, "readings");
    refuse(b, (struct pd_lane){.sampling = &sampling, .op = PD_LANE_GENERATE, .stop = "\n\n"},
           "searches by steps");
    refuse(b, (struct pd_lane){.sampling = &top_k, .op = PD_LANE_GENERATE}, "top_k");
    refuse(b, (struct pd_lane){.sampling = &top, .op = PD_LANE_GENERATE}, "top_logprobs");
    refuse(b, (struct pd_lane){.sampling = &penalty, .op = PD_LANE_GENERATE}, "penalties");
    assert_int_equal(b->g->ops->ctx_append(b->g, b->ctx, more, 1, NULL), 0);
    refuse(b, (struct pd_lane){.sampling = &sampling, .op = PD_LANE_GENERATE}, "gone on with");
    assert_int_equal(fake_engine_generated(b->fake), 0);
    close_bench(b);
}

static void test_requests(void **state)
{
    static const char *const want[] = {
        "{\"model\":\"fake\",\"prompt\":[87,104,97,116,32,105,115,32,51,32,43,32,52,63],"
        "\"max_tokens\":40,\"n\":1,\"seed\":-7046029254386353131,\"temperature\":0.8,\"top_p\":1,"
        "\"top_k\":0,\"min_p\":0,\"repetition_penalty\":1,\"presence_penalty\":0,"
        "\"frequency_penalty\":0,\"stop\":[\"\\n\\n\"],\"include_stop_str_in_output\":true,"
        "\"skip_special_tokens\":false,\"spaces_between_special_tokens\":false,"
        "\"add_special_tokens\":false,\"logprobs\":0,\"return_token_ids\":true,"
        "\"return_tokens_as_token_ids\":false,\"stream\":true,\"stream_options\":{"
        "\"include_usage\":true}}",
        "{\"input_ids\":[87,104,97,116,32,105,115,32,51,32,43,32,52,63],\"sampling_params\":{"
        "\"max_new_tokens\":40,\"temperature\":0.8,\"top_p\":1,\"top_k\":-1,\"min_p\":0,"
        "\"repetition_penalty\":1,\"presence_penalty\":0,\"frequency_penalty\":0,"
        "\"stop\":[\"\\n\\n\"],\"no_stop_trim\":true,\"skip_special_tokens\":false},"
        "\"return_logprob\":true,\"logprob_start_len\":-1,\"top_logprobs_num\":0,"
        "\"stream\":true}",
        "{\"prompt\":[87,104,97,116,32,105,115,32,51,32,43,32,52,63],\"n_predict\":40,"
        "\"seed\":1327217884,\"temperature\":0.8,\"top_k\":0,\"top_p\":1,\"min_p\":0,"
        "\"typical_p\":1,\"repeat_penalty\":1,\"presence_penalty\":0,\"frequency_penalty\":0,"
        "\"samplers\":[\"top_k\",\"top_p\",\"min_p\",\"temperature\"],"
        "\"stop\":[\"\\n\\n\"],\"n_probs\":1,\"cache_prompt\":true,\"return_tokens\":true,"
        "\"stream\":true}"};

    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct bench *b = open_bench(&(struct fake_config){.dialect = all_dialects[d]}, "");

        submit(b, 0, 1, 1, "\n\n", 0);
        wait_all(b, 1);
        assert_string_equal(fake_engine_body(b->fake), want[d]);
        close_bench(b);
    }
}

/* What the system is told stands beside the messages; the key has a header of its own. */
static void test_anthropic(void **state)
{
    struct pd_message m[] = {{.role = "system", .content = PD_STR("Be brief.")},
                             {.role = "user", .content = PD_STR("What is 3 + 4?")}};
    const struct fake_config config = {.dialect = "anthropic", .key = "sesame-93"};
    struct bench *b;
    struct pd_lane lane, *list = &lane;
    struct pd_err err;
    int32_t *ids = NULL;
    size_t n = 0;

    (void)state;
    setenv("TEST_REMOTE_KEY", "sesame-93", 1);
    b = open_bench(&config, "?key_env=TEST_REMOTE_KEY");
    assert_int_equal(b->g->ops->chat(b->g, PD_CHAT(m, 2), &ids, &n, &err), 0);
    assert_int_equal(b->g->ops->ctx_rollback(b->g, b->ctx, 0, &err), 0);
    assert_int_equal(b->g->ops->ctx_append(b->g, b->ctx, ids, n, &err), 0);
    lane = (struct pd_lane){
        .op = PD_LANE_GENERATE, .ctx = b->ctx, .sampling = &sampling, .max_tokens = MAX_TOKENS};
    assert_int_equal(b->g->ops->submit(b->g, &list, 1, &err), 0);
    wait_all(b, 1);
    assert_int_not_equal(lane.end, PD_END_ERROR);
    assert_string_equal(fake_engine_body(b->fake),
                        "{\"model\":\"fake\",\"messages\":[{\"role\":\"user\",\"content\":\"What is "
                        "3 + 4?\"}],\"system\":\"Be brief.\",\"max_tokens\":40,\"temperature\":0.8,"
                        "\"stream\":true}");
    assert_non_null(strstr(fake_engine_head(b->fake), "\r\nx-api-key: sesame-93\r\n"));
    assert_non_null(strstr(fake_engine_head(b->fake), "\r\nanthropic-version: 2023-06-01\r\n"));
    assert_null(strstr(fake_engine_head(b->fake), "Authorization"));
    b->g->ops->release(b->g, &lane);
    free(ids);
    close_bench(b);
}

static void test_keys(void **state)
{
    const struct fake_config config = {.dialect = "vllm", .key = "sesame-93"};
    static const struct fake_fault echo = {.kind = FAKE_STATUS,
                                           .n = 400,
                                           .text = "{\"error\":\"Bearer sesame-93 is odd\"}"};
    static const struct fake_fault away = {
        .kind = FAKE_STATUS, .n = 302, .header = "Location: http://localhost:1/", .text = ""};
    struct bench *b;

    (void)state;
    setenv("TEST_REMOTE_KEY", "sesame-93", 1);
    b = open_bench(&config, "?key_env=TEST_REMOTE_KEY");
    submit(b, 0, 1, 1, NULL, 0);
    wait_all(b, 1);
    assert_int_not_equal(b->lanes[0].end, PD_END_ERROR);
    assert_non_null(strstr(fake_engine_head(b->fake), "Authorization: Bearer sesame-93\r\n"));
    fake_engine_fault(b->fake, &echo); /* a server that tells it on */
    submit(b, 1, 1, 1, NULL, 0);
    wait_all(b, 1);
    assert_non_null(strstr(b->lanes[1].err.text, "Bearer *** is odd"));
    assert_null(strstr(b->lanes[1].attempts[0].error, "sesame"));
    assert_null(strstr(b->lanes[1].attempts[0].request.ptr, "sesame"));
    fake_engine_fault(b->fake, &away);
    submit(b, 2, 1, 1, NULL, 0);
    wait_all(b, 1);
    assert_int_equal(b->lanes[2].end, PD_END_ERROR);
    assert_int_equal(b->lanes[2].n_attempts, 1);
    close_bench(b);
}

static void test_descriptions(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *says;
    } cases[] = {
        {"tiny-base", 0, ""},
        {"models/x+http.gguf", 0, ""},
        {"vllm+http://h:1/p?max_inflight=9#org/m", 1, ""},
        {"vlm+http://h", PD_EINVAL, "no dialect 'vlm' (there are: vllm"},
        {"vllm+http://h?max_inflight=0", PD_EINVAL, "whole number from 1"},
        {"vllm+http://h?nosuch=1", PD_EINVAL, "no such member"},
        {"vllm+http://h?key_env=A&key_file=b", PD_EINVAL, "in one place"},
    };
    struct remote_config c;
    struct pd_arena a;
    struct pd_err err;

    (void)state;
    pd_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err.text[0] = '\0';
        assert_int_equal(remote_parse(cases[i].text, &a, &c, &err), cases[i].rc);
        assert_non_null(strstr(err.text, cases[i].says));
        if (cases[i].rc == 1) {
            assert_string_equal(c.url, "http://h:1/p");
            assert_string_equal(c.model, "org/m");
            assert_int_equal(c.max_inflight, 9);
        }
    }
    pd_arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptions), cmocka_unit_test(test_requests),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_second_step),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_features),     cmocka_unit_test(test_keys),
        cmocka_unit_test(test_anthropic),
        cmocka_unit_test(test_inflight),     cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_race),         cmocka_unit_test(test_choices),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

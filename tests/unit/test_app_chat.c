/* Conversations from JSON and back, and a job of one: resumed and replayed from what is stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "app/app_int.h"
#include "base/clock.h"

static char dir[] = "/tmp/ponder-chat-XXXXXX";
static struct pd_arena arena;
static struct pd_err err;

static int parse(const char *json, struct pd_chat **out)
{
    struct pd_json *v = NULL;
    int rc;

    if (pd_json_parse(pd_str_of(json), &v, &err) < 0)
        fail_msg("%s", err.text);
    rc = app_chat_parse(v, &arena, out, &err);
    pd_json_free(v);
    return rc;
}

static const char *as_json(const struct pd_chat *c)
{
    static struct pd_buf b = PD_BUF_INIT(1 << 20);
    struct pd_jw w;

    pd_buf_clear(&b);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    app_chat_json(c, &w);
    pd_jw_end_object(&w);
    assert_int_equal(pd_buf_rc(&b), 0);
    return b.data;
}

static void test_read(void **state)
{
    static const struct {
        const char *json, *kept;
    } cases[] = {
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"continue_final_message\":false}"},
        {"{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
         "{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"n\"},{\"role\":\"assistant\",\"content\":"
         "\"c\",\"reasoning\":\"r\"}],\"tools\":null}",
         "{\"messages\":[{\"role\":\"system\",\"content\":\"ab\",\"name\":\"n\"},{\"role\":"
         "\"assistant\",\"content\":\"c\",\"reasoning_content\":\"r\"}],"
         "\"continue_final_message\":true}"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"content\":"
         "\"x\","
         "\"tool_call_id\":\"1\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"
         "],"
         "\"chat_template_kwargs\":{\"enable_thinking\":false}}",
         "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"content\":"
         "\"x\","
         "\"tool_call_id\":\"1\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"
         "],"
         "\"chat_template_kwargs\":{\"enable_thinking\":false},\"continue_final_message\":false}"},
        {"{\"prompt\":\"a<b>\"}", "{\"prompt\":\"a<b>\"}"},
        {"{\"prompt\":[1,2,3]}", "{\"prompt\":[1,2,3]}"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}],"
         "\"continue_final_message\":false}",
         "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}],"
         "\"continue_final_message\":false}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_chat *c;

        if (parse(cases[i].json, &c) < 0)
            fail_msg("%s: %s", cases[i].json, err.text);
        assert_string_equal(as_json(c), cases[i].kept);
        assert_int_equal(parse(cases[i].kept, &c), 0); /* what is kept is read as the same */
        assert_string_equal(as_json(c), cases[i].kept);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{}", "messages must be an array"},
        {"{\"messages\":[]}", "at least one message"},
        {"{\"prompt\":\"\"}", "not empty"},
        {"{\"prompt\":[]}", "not empty"},
        {"{\"prompt\":[1.5]}", "token ids"},
        {"{\"messages\":[1]}", "messages[0]"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"king\"}]}",
         "messages[1]"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "no content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":1}]}", "string or an array"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
         "image_url"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"name\":1}]}", "name must be"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":1}]}",
         "tool_calls must be an array"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", "functions with a name"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":{}}",
         "tools must be an array"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"chat_template_kwargs\":[]}",
         "must be an object"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"continue_final_message\":1}",
         "true or false"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_chat *c;

        assert_int_equal(parse(cases[i].json, &c), PD_EINVAL);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].json, err.text);
    }
}

static void test_stops_and_bias(void **state)
{
    static const struct {
        const char *json, *says; /* NULL: it is good */
        size_t n_stops, n_bias;
    } cases[] = {
        {"{}", NULL, 0, 0},
        {"{\"stop\":null,\"logit_bias\":null}", NULL, 0, 0},
        {"{\"stop\":\"a\",\"logit_bias\":{\"5\":-100,\"7\":0.5}}", NULL, 1, 2},
        {"{\"stop\":[\"a\",\"b\"],\"logit_bias\":{}}", NULL, 2, 0},
        {"{\"stop\":[]}", NULL, 0, 0},
        {"{\"stop\":1}", "string or an array", 0, 0},
        {"{\"stop\":[\"\"]}", "1 to 256 bytes", 0, 0},
        {"{\"stop\":[1]}", "1 to 256 bytes", 0, 0},
        {"{\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\","
         "\"12\",\"13\",\"14\",\"15\",\"16\",\"17\"]}",
         "at most 16", 0, 0},
        {"{\"logit_bias\":[]}", "an object of token ids", 0, 0},
        {"{\"logit_bias\":{\"x\":1}}", "not a token id", 0, 0},
        {"{\"logit_bias\":{\"5\":101}}", "between -100 and 100", 0, 0},
        {"{\"logit_bias\":{\"5\":\"1\"}}", "between -100 and 100", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const *stops;
        const struct pd_bias *bias;
        size_t n_stops = 0, n_bias = 0;
        struct pd_json *v = NULL;
        int rc;

        assert_int_equal(pd_json_parse(pd_str_of(cases[i].json), &v, &err), 0);
        rc = app_stops_parse(v, &arena, &stops, &n_stops, &err);
        if (rc == 0)
            rc = app_bias_parse(v, &arena, &bias, &n_bias, &err);
        pd_json_free(v);
        assert_int_equal(rc, cases[i].says ? PD_EINVAL : 0);
        if (cases[i].says && !strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].json, err.text);
        assert_int_equal(n_stops, cases[i].n_stops);
        assert_int_equal(n_bias, cases[i].n_bias);
    }
}

/* ---- jobs ------------------------------------------------------------------------------------ */

struct outcome {
    char digest[65], id[PD_JOB_ID_MAX], question[64];
    uint32_t n_prompt;
};

static struct outcome run(struct app_job *j, const char *system)
{
    const struct pd_result *r = NULL;
    const struct pd_job *core = app_job_core(j);
    struct outcome o = {0};

    assert_int_equal(app_job_start(j, NULL), 0);
    if (app_job_wait(j, PD_NEVER_NS, &r, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(o.digest, sizeof o.digest, "%s", r->digest);
    snprintf(o.id, sizeof o.id, "%s", core->id);
    snprintf(o.question, sizeof o.question, "%s", core->question);
    o.n_prompt = r->trace.nodes[0].n_tokens;
    if (system)
        assert_string_equal(core->system, system);
    app_job_free(j);
    return o;
}

/* The copy of a request has nothing of its original. */
static void test_copy(void **state)
{
    const char *options[] = {"max_tokens=24"}, *stops[] = {"a", "bb"};
    struct pd_bias bias = {1, 2};
    struct app_request r = {.question = "q",
                            .options = options,
                            .n_options = 1,
                            .stops = stops,
                            .n_stops = 2,
                            .logit_bias = &bias,
                            .n_logit_bias = 1};
    struct app_request *copied;
    struct pd_chat *c;
    char *want;

    (void)state;
    assert_int_equal(
        parse("{\"messages\":[{\"role\":\"system\",\"content\":\"s\",\"name\":\"n\"},{\"role\":"
              "\"assistant\",\"content\":null,\"reasoning\":\"r\",\"tool_calls\":[{\"function\":"
              "{\"name\":\"f\"}}]},{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"1\"}],"
              "\"tools\":[{}],\"chat_template_kwargs\":{\"a\":1}}",
              &c),
        0);
    want = strdup(as_json(c));
    r.chat = c;
    copied = app_request_copy(&r);
    assert_non_null(copied);
    pd_arena_done(&arena); /* the original is gone */
    pd_arena_init(&arena, 1 << 20);
    options[0] = stops[0] = stops[1] = NULL;
    bias.token = 0;
    assert_string_equal(as_json(copied->chat), want);
    assert_string_equal(copied->question, "q");
    assert_string_equal(copied->options[0], "max_tokens=24");
    assert_string_equal(copied->stops[1], "bb");
    assert_int_equal(copied->logit_bias[0].token, 1);
    app_request_free(copied);
    free(want);
}

static struct outcome run_new(struct app *a, const char *question, const struct pd_chat *chat)
{
    const char *options[] = {"samples=2", "max_tokens=24"};
    struct app_request r = {.question = question,
                            .chat = chat,
                            .strategy = "self_consistency",
                            .options = options,
                            .n_options = 2,
                            .seed = 3};
    struct app_job *j = NULL;

    if (app_job_new(a, &r, &j, &err) < 0)
        fail_msg("%s", err.text);
    return run(j, NULL);
}

static void test_job(void **state)
{
    const struct app_config config = {.n_threads = 2, .data_dir = dir};
    struct outcome o, again;
    struct app_job *j = NULL;
    struct pd_chat *c;
    struct app *a;
    const struct {
        const char *question, *json;
        bool same; /* as the question alone */
    } cases[] = {
        {"Ben has 2 pens. He buys 3 more. How many pens does Ben have?",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Ben has 2 pens. He buys 3 more. How many "
         "pens does Ben have?\"}]}",
         true},
        {"And 2 more?",
         "{\"messages\":[{\"role\":\"system\",\"content\":\"Count.\"},{\"role\":\"user\","
         "\"content\":"
         "\"One?\"},{\"role\":\"assistant\",\"content\":\"1\"},{\"role\":\"user\",\"content\":"
         "\"And 2 "
         "more?\"}]}",
         false},
        {"<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n",
         "{\"prompt\":\"<|im_start|>user\\nHow many?<|im_end|>\\n<|im_start|>assistant\\n\"}",
         false},
        {"How many?",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"How many?\"},{\"role\":\"assistant\","
         "\"content\":\"There are \"}]}",
         false},
    };

    (void)state;
    assert_int_equal(app_open(&config, &a, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(cases[i].json, &c), 0);
        o = run_new(a, NULL, c);
        assert_string_equal(o.question, cases[i].question);
        for (int mode = 0; mode < 2; mode++) {
            if (app_job_stored(a, o.id, mode ? PD_JOB_VERIFY : PD_JOB_RECORDED, &j, &err) < 0)
                fail_msg("%s", err.text);
            again = run(j, c->n_messages == 4 ? "Count." : NULL);
            assert_string_equal(again.digest, o.digest);
            assert_string_equal(again.question, o.question);
        }
        again = run_new(a, cases[i].question, NULL);
        assert_int_equal(strcmp(again.digest, o.digest) == 0, cases[i].same);
        if (c->text.ptr) /* control tokens, not their text */
            assert_true(o.n_prompt < again.n_prompt);
        else
            assert_true((again.n_prompt < o.n_prompt) == !cases[i].same);
    }
    app_close(a);
}

/* What shapes an answer is part of the stored request: computed again, it is the same. */
static void test_shaped_job(void **state)
{
    const struct app_config config = {.n_threads = 2, .data_dir = dir};
    const char *options[] = {"max_tokens=60", "presence_penalty=1.5", "frequency_penalty=0.5"};
    static const char *const stops[] = {"=", "never in it"};
    struct pd_bias bias = {0, -100};
    struct app_request r = {.question = "Ben has 2 pens. He buys 3 more. How many pens has Ben?",
                            .strategy = "single",
                            .options = options,
                            .n_options = 3,
                            .stops = stops,
                            .n_stops = 2,
                            .logit_bias = &bias,
                            .n_logit_bias = 1};
    const struct pd_result *result = NULL;
    struct app_job *j = NULL;
    struct outcome o, again;
    struct app *a;

    (void)state;
    assert_int_equal(app_open(&config, &a, &err), 0);
    if (app_job_new(a, &r, &j, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(app_job_start(j, NULL), 0);
    assert_int_equal(app_job_wait(j, PD_NEVER_NS, &result, &err), 0);
    assert_string_equal(result->trace.nodes[1].finish, "stop");
    assert_true(pd_str_ends(result->trace.nodes[1].text, PD_STR("=")));
    assert_true(pd_str_find(result->text, PD_STR("=")) < 0);
    snprintf(o.id, sizeof o.id, "%s", app_job_core(j)->id);
    snprintf(o.digest, sizeof o.digest, "%s", result->digest);
    bias.token = result->trace.nodes[1].tokens[0];
    app_job_free(j);
    assert_int_equal(app_job_stored(a, o.id, PD_JOB_VERIFY, &j, &err), 0);
    again = run(j, NULL);
    assert_string_equal(again.digest, o.digest);
    assert_int_equal(app_job_new(a, &r, &j, &err), 0); /* without what it began with */
    again = run(j, NULL);
    assert_string_not_equal(again.digest, o.digest);
    bias.token = INT32_MAX;
    assert_int_equal(app_job_new(a, &r, &j, &err), 0);
    assert_int_equal(app_job_start(j, NULL), 0);
    assert_int_equal(app_job_wait(j, PD_NEVER_NS, &result, &err), PD_EINVAL);
    assert_non_null(strstr(err.text, "logit bias of token"));
    app_job_free(j);
    app_close(a);
}

static int set_up(void **state)
{
    (void)state;
    pd_arena_init(&arena, 1 << 20);
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[64];

    (void)state;
    pd_arena_done(&arena);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_stops_and_bias),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_job),
        cmocka_unit_test(test_shaped_job),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

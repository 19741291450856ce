/* Option tables: defaults, every type, bounds, error text, JSON, help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/job.h"
#include "core/param.h"

struct some {
    int count;
    double rate;
    bool loud;
    int how;
    char say[9];
};

enum { HOW_FAST, HOW_SLOW, HOW_SLOWER };

static const struct pd_param table[] = {
    PD_INT(some, count, 4, -2, 256, "how many"),
    PD_DOUBLE(some, rate, 0.5, 0, 2, "how often"),
    PD_BOOL(some, loud, true, "with noise"),
    PD_CHOICE(some, how, HOW_SLOW, "fast|slow|slower", "in which manner"),
    PD_TEXT(some, say, "in which words"),
    {0},
};

static int set(struct some *s, const char *key, const char *value, struct pd_err *err)
{
    return pd_params_set(table, s, pd_str_of(key), pd_str_of(value), err);
}

static void defaults_come_from_the_table(void **state)
{
    struct some s = {.say = "something"};

    (void)state;
    pd_params_default(table, &s);
    assert_string_equal(s.say, "");
    assert_int_equal(s.count, 4);
    assert_true(s.rate == 0.5);
    assert_true(s.loud);
    assert_int_equal(s.how, HOW_SLOW);
    pd_params_default(NULL, &s); /* a strategy without options */
}

static void good_values_of_every_type(void **state)
{
    struct some s = {0};

    (void)state;
    assert_int_equal(set(&s, "count", "-2", NULL), 0);
    assert_int_equal(s.count, -2);
    assert_int_equal(set(&s, "count", "256", NULL), 0);
    assert_int_equal(s.count, 256);
    assert_int_equal(set(&s, "rate", "0", NULL), 0);
    assert_true(s.rate == 0);
    assert_int_equal(set(&s, "rate", "1.25e0", NULL), 0);
    assert_true(s.rate == 1.25);
    assert_int_equal(set(&s, "loud", "yes", NULL), 0);
    assert_true(s.loud);
    assert_int_equal(set(&s, "loud", "off", NULL), 0);
    assert_false(s.loud);
    assert_int_equal(set(&s, "say", "8 bytes,", NULL), 0);
    assert_string_equal(s.say, "8 bytes,");
    assert_int_equal(set(&s, "say", "", NULL), 0);
    assert_string_equal(s.say, "");
    for (int i = HOW_FAST; i <= HOW_SLOWER; i++) {
        static const char *const names[] = {"fast", "slow", "slower"};

        assert_int_equal(set(&s, "how", names[i], NULL), 0);
        assert_int_equal(s.how, i);
    }
}

static void bad_values_say_what_would_be_good(void **state)
{
    static const char *const cases[][3] = {
        {"count", "257", "count=257: expected an integer from -2 to 256"},
        {"count", "-3", "count=-3: expected an integer from -2 to 256"},
        {"count", "1.5", "count=1.5: expected an integer from -2 to 256"},
        {"count", "", "count=: expected an integer from -2 to 256"},
        {"count", "99999999999999999999",
         "count=99999999999999999999: expected an integer from -2 to 256"},
        {"count", "4294967297", "count=4294967297: expected an integer from -2 to 256"},
        {"rate", "2.0001", "rate=2.0001: expected a number from 0 to 2"},
        {"rate", "-0.1", "rate=-0.1: expected a number from 0 to 2"},
        {"rate", "nan", "rate=nan: expected a number from 0 to 2"},
        {"rate", "1x", "rate=1x: expected a number from 0 to 2"},
        {"loud", "maybe", "loud=maybe: expected true or false"},
        {"how", "slowe", "how=slowe: expected one of fast|slow|slower"},
        {"how", "fast|slow", "how=fast|slow: expected one of fast|slow|slower"},
        {"how", "", "how=: expected one of fast|slow|slower"},
        {"how", "1", "how=1: expected one of fast|slow|slower"},
        {"say", "nine byte", "say: expected a text of at most 8 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct some s = {7, 0.75, true, HOW_SLOWER, "so"};
        struct pd_err err = {0};

        assert_int_equal(set(&s, cases[i][0], cases[i][1], &err), PD_EINVAL);
        assert_string_equal(err.text, cases[i][2]);
        assert_int_equal(err.code, PD_EINVAL);
        assert_true(s.count == 7 && s.rate == 0.75 && s.loud && s.how == HOW_SLOWER);
        assert_string_equal(s.say, "so");
    }
}

static void an_unknown_name_leaves_err_to_the_caller(void **state)
{
    static const char *const names[] = {"counts", "coun", "", "COUNT"};
    struct some s = {0};
    struct pd_err err = {0};

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(set(&s, names[i], "1", &err), PD_ENOENT);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "");
    assert_int_equal(pd_params_set(NULL, &s, PD_STR("count"), PD_STR("1"), &err), PD_ENOENT);
}

static void json_and_help_follow_the_table(void **state)
{
    struct some s = {3, 0.1, false, HOW_SLOWER, "a\nb"};
    struct pd_buf json = PD_BUF_INIT(4096), help = PD_BUF_INIT(4096);
    struct pd_jw w;

    (void)state;
    pd_jw_init(&w, &json);
    pd_jw_object(&w);
    pd_params_json(table, &s, &w);
    pd_jw_end_object(&w);
    assert_string_equal(json.data, "{\"count\":3,\"rate\":0.1,\"loud\":false,\"how\":\"slower\","
                                   "\"say\":\"a\\nb\"}");
    pd_params_help(table, &help);
    assert_string_equal(help.data, "    count=4  how many (-2 to 256)\n"
                                   "    rate=0.5  how often (0 to 2)\n"
                                   "    loud=true  with noise\n"
                                   "    how=slow  in which manner (fast|slow|slower)\n"
                                   "    say=  in which words (a text of at most 8 bytes)\n");
    pd_buf_done(&json);
    pd_buf_done(&help);
}

/* Every default of every table is a value that the table itself takes, by the text of its JSON. */
static void assert_defaults_are_legal(const struct pd_param *p, void *values)
{
    struct pd_buf json = PD_BUF_INIT(1 << 16);
    struct pd_json *o = NULL;
    struct pd_jw w;

    pd_params_default(p, values);
    pd_jw_init(&w, &json);
    pd_jw_object(&w);
    pd_params_json(p, values, &w);
    pd_jw_end_object(&w);
    assert_int_equal(pd_json_parse(pd_buf_str(&json), &o, NULL), 0);
    for (const struct pd_json *v = pd_json_first(o); v; v = pd_json_next(v)) {
        struct pd_buf text = PD_BUF_INIT(256);
        struct pd_err err = {0};
        double d;
        bool b;

        if (pd_json_string(v))
            pd_buf_addz(&text, pd_json_string(v));
        else if (pd_json_bool(v, &b))
            pd_buf_addz(&text, b ? "true" : "false");
        else if (pd_json_number(v, &d))
            pd_buf_printf(&text, "%.17g", d);
        if (pd_params_set(p, values, pd_str_of(pd_json_key(v)), pd_buf_str(&text), &err) < 0)
            fail_msg("%s", err.text);
        pd_buf_done(&text);
    }
    pd_json_free(o);
    pd_buf_done(&json);
}

static void defaults_of_all_strategies_are_legal(void **state)
{
    struct pd_common common;

    (void)state;
    assert_defaults_are_legal(pd_common_params, &common);
    for (size_t i = 0; pd_strategies[i]; i++) {
        static _Alignas(16) char values[8192];

        assert_true(pd_strategies[i]->params_size <= sizeof values);
        assert_ptr_equal(pd_strategy_find(pd_strategies[i]->name), pd_strategies[i]);
        if (pd_strategies[i]->params)
            assert_defaults_are_legal(pd_strategies[i]->params, values);
    }
    assert_null(pd_strategy_find("no_such_strategy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(good_values_of_every_type),
        cmocka_unit_test(bad_values_say_what_would_be_good),
        cmocka_unit_test(an_unknown_name_leaves_err_to_the_caller),
        cmocka_unit_test(json_and_help_follow_the_table),
        cmocka_unit_test(defaults_of_all_strategies_are_legal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

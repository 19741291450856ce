#include "base/jsonc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static void parse(struct pd_jsonc *d, const char *text)
{
    struct pd_err err = {0};

    if (pd_jsonc_parse(d, "x.json", pd_str_of(text), &err) < 0)
        fail_msg("refused: %s", err.text);
}

static void comments_are_blanks(void **state)
{
    struct pd_jsonc d;
    int64_t v;

    (void)state;
    parse(&d,
          "// first\n{ /* a */ \"a\": /* \"b\": */ 1, // \"c\"\n \"//\": \"/* no // comment */\","
          "\"q\\\"//\": 2 /**/ } // end");
    assert_true(pd_json_int(pd_json_get(d.root, "a"), &v) && v == 1);
    assert_string_equal(pd_json_string(pd_json_get(d.root, "//")), "/* no // comment */");
    assert_true(pd_json_int(pd_json_get(d.root, "q\"//"), &v) && v == 2);
    assert_int_equal(pd_json_size(d.root), 3);
    pd_jsonc_done(&d);
    pd_jsonc_done(&d); /* as often as one likes */
}

static void errors_say_where(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"{\n /* two\n lines */ \"a\": }",
         "x.json: not JSON: a value is missing at line 3, column 16"},
        {"{ /* open", "x.json: not JSON: the comment at line 1, column 3 has no end"},
        {"[1]", "x.json:1:1: expected an object, {…}"},
        {"{\"b\": {\"c\": 1,\n\"c\": 2}}",
         "x.json: the JSON object has the key 'c' twice: at line 2, column 1 again"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_err err = {0};
        struct pd_jsonc d;

        assert_int_equal(pd_jsonc_parse(&d, "x.json", pd_str_of(cases[i].text), &err), PD_EFORMAT);
        assert_string_equal(err.text, cases[i].error);
    }
}

static void knows_the_keys(void **state)
{
    static const char *const keys[] = {"dataset", "seed", "strategies", NULL};
    struct pd_err err = {0};
    struct pd_jsonc d;

    (void)state;
    parse(&d, "{\"seed\": 1, \"dataset\": 2}");
    assert_int_equal(pd_jsonc_keys(&d, d.root, keys, &err), 0);
    pd_jsonc_done(&d);
    parse(&d, "{\"seed\": 1,\n  \"datset\": 2}");
    assert_int_equal(pd_jsonc_keys(&d, d.root, keys, &err), PD_EFORMAT);
    assert_string_equal(err.text, "x.json:2:3: unknown key 'datset': did you mean 'dataset'?");
    pd_jsonc_done(&d);
    parse(&d, "{\"colour\": 1}");
    assert_int_equal(pd_jsonc_keys(&d, d.root, keys, &err), PD_EFORMAT);
    assert_string_equal(err.text,
                        "x.json:1:2: unknown key 'colour' (there are: dataset, seed, strategies)");
    pd_jsonc_done(&d);
}

static void reads_members(void **state)
{
    const struct pd_json *object = NULL, *array = NULL;
    const char *text = "as it was";
    struct pd_err err = {0};
    struct pd_jsonc d;
    uint64_t n = 7;
    double x = 0.5;
    bool b = true;

    (void)state;
    parse(&d, "{\"s\": \"t\", \"n\": 9, \"x\": 1.25, \"b\": false, \"o\": {}, \"a\": []}");
    assert_int_equal(pd_jsonc_string(&d, d.root, "none", &text, &err), 0);
    assert_string_equal(text, "as it was");
    assert_int_equal(pd_jsonc_string(&d, d.root, "s", &text, &err), 0);
    assert_string_equal(text, "t");
    assert_int_equal(pd_jsonc_uint(&d, d.root, "none", 0, 1, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(pd_jsonc_uint(&d, d.root, "n", 9, 9, &n, &err), 0);
    assert_int_equal(n, 9);
    assert_int_equal(pd_jsonc_double(&d, d.root, "x", 0, 2, &x, &err), 0);
    assert_true(x > 1.2 && x < 1.3);
    assert_int_equal(pd_jsonc_bool(&d, d.root, "b", &b, &err), 0);
    assert_false(b);
    assert_int_equal(pd_jsonc_object(&d, d.root, "o", &object, &err), 0);
    assert_ptr_equal(object, pd_json_get(d.root, "o"));
    assert_int_equal(pd_jsonc_array(&d, d.root, "a", &array, &err), 0);
    assert_ptr_equal(array, pd_json_get(d.root, "a"));

    assert_int_equal(pd_jsonc_string(&d, d.root, "n", &text, &err), PD_EFORMAT);
    assert_string_equal(err.text, "x.json:1:12: n: expected a text");
    assert_int_equal(pd_jsonc_uint(&d, d.root, "n", 0, 8, &n, &err), PD_EFORMAT);
    assert_string_equal(err.text, "x.json:1:12: n: expected a whole number from 0 to 8");
    assert_int_equal(pd_jsonc_uint(&d, d.root, "x", 0, 8, &n, &err), PD_EFORMAT);
    assert_int_equal(pd_jsonc_double(&d, d.root, "x", 2, 3, &x, &err), PD_EFORMAT);
    assert_string_equal(err.text, "x.json:1:20: x: expected a number from 2 to 3");
    assert_int_equal(pd_jsonc_bool(&d, d.root, "s", &b, &err), PD_EFORMAT);
    assert_int_equal(pd_jsonc_object(&d, d.root, "a", &object, &err), PD_EFORMAT);
    assert_int_equal(pd_jsonc_array(&d, d.root, "o", &array, &err), PD_EFORMAT);
    assert_string_equal(err.text, "x.json:1:43: o: expected an array, […]");
    pd_jsonc_done(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comments_are_blanks),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(knows_the_keys),
        cmocka_unit_test(reads_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

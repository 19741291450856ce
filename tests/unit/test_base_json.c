#include "base/json.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct pd_json *parse(const char *text)
{
    struct pd_json *root = NULL;
    struct pd_err err = {0};

    if (pd_json_parse(pd_str_of(text), &root, &err) < 0)
        fail_msg("'%s' was refused: %s", text, err.text);
    assert_non_null(root);
    return root;
}

static void takes_good_text(void **state)
{
    static const char *const good[] = {
        "null",
        " true ",
        "\t[\r\n]",
        "{}",
        "0",
        "-0",
        "0.5",
        "-1e+5",
        "1E-2",
        "\"\"",
        "[1,[2,{}],\"x\"]",
        "{\"a\":1,\"A\":2,\"b\":{\"a\":3}}",
        "\"\\u00e4\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\xF0\x9F\x98\x80\"",
        "{\"\":1}",
        "\"\x7f\"",
        "[1e-999]",
    };

    (void)state;
    for (size_t i = 0; i < N_OF(good); i++)
        pd_json_free(parse(good[i]));
    pd_json_free(NULL);
}

static void refuses_bad_text(void **state)
{
    static const struct pd_str bad[] = {
        /* nothing, or too much */
        {NULL, 0},
        PD_STR(""),
        PD_STR("  "),
        PD_STR("1 2"),
        PD_STR("{} x"),
        PD_STR("1,"),
        PD_STR("{}\0"),
        PD_STR("\xEF\xBB\xBF{}"),
        /* structure */
        PD_STR("["),
        PD_STR("{"),
        PD_STR("[1"),
        PD_STR("[1,]"),
        PD_STR("[,1]"),
        PD_STR("[1 2]"),
        PD_STR("]"),
        PD_STR("{\"a\"}"),
        PD_STR("{\"a\":}"),
        PD_STR("{\"a\":1,}"),
        PD_STR("{a:1}"),
        PD_STR("{1:2}"),
        PD_STR("[1}"),
        PD_STR("{\"a\" 1}"),
        PD_STR("{\"a\":1 \"b\":2}"),
        /* words and comments */
        PD_STR("nul"),
        PD_STR("True"),
        PD_STR("nullx"),
        PD_STR("NaN"),
        PD_STR("[1] // x"),
        PD_STR("/**/1"),
        PD_STR("\v1"),
        PD_STR("[\x01]"),
        /* numbers */
        PD_STR("01"),
        PD_STR("-"),
        PD_STR("+1"),
        PD_STR("1."),
        PD_STR(".5"),
        PD_STR("1e"),
        PD_STR("1e+"),
        PD_STR("0x1"),
        PD_STR("1e999"),
        PD_STR("[-1e999]"),
        PD_STR("-01"),
        PD_STR("1234567890123456789012345678901234567890123456789012345678901234"),
        /* strings */
        PD_STR("\""),
        PD_STR("\"a"),
        PD_STR("\"\\\""),
        PD_STR("\"\\x\""),
        PD_STR("\"\n\""),
        PD_STR("\"\\"),
        PD_STR("\"a\0b\""),
        PD_STR("\"\\u0000\""),
        PD_STR("{\"a\\u0000b\":1}"),
        PD_STR("\"\\u12\""),
        PD_STR("\"\\u12g4\""),
        PD_STR("\"\\ud800\""),
        PD_STR("\"\\udc00\""),
        PD_STR("\"\\ud800\\u0041\""),
        PD_STR("\"\\ud800x\""),
        PD_STR("'a'"),
        /* UTF-8 */
        PD_STR("\"\xC3\""),
        PD_STR("\"\xC0\x80\""),
        PD_STR("\"\xED\xA0\x80\""),
        PD_STR("\"\xFF\""),
        /* the same key twice, also where it does not look the same */
        PD_STR("{\"a\":1,\"a\":2}"),
        PD_STR("[{\"x\":{\"b\":1,\"a\":1,\"\\u0062\":2}}]"),
    };

    (void)state;
    for (size_t i = 0; i < N_OF(bad); i++) {
        struct pd_json *root = NULL;
        struct pd_err err = {0};
        int rc = pd_json_parse(bad[i], &root, &err);

        if (rc != PD_EFORMAT)
            fail_msg("case %zu '%.*s' gave %d", i, (int)bad[i].len, bad[i].ptr, rc);
        assert_null(root);
        assert_int_equal(err.code, PD_EFORMAT);
        assert_true(err.text[0] != '\0');
    }
}

/* The text ends where its length says, even in the middle of something longer. */
static void respects_the_length(void **state)
{
    struct pd_json *root = NULL;
    double v;

    (void)state;
    assert_int_equal(pd_json_parse((struct pd_str){"12345", 2}, &root, NULL), 0);
    assert_true(pd_json_number(root, &v) && v == 12);
    pd_json_free(root);
    assert_int_equal(pd_json_parse((struct pd_str){"[1]]", 3}, &root, NULL), 0);
    pd_json_free(root);
    assert_int_equal(pd_json_parse((struct pd_str){"[1]", 2}, &root, NULL), PD_EFORMAT);
    assert_int_equal(pd_json_parse((struct pd_str){"true", 3}, &root, NULL), PD_EFORMAT);
}

static void says_where(void **state)
{
    struct pd_json *root;
    struct pd_err err;

    (void)state;
    assert_int_equal(pd_json_parse(PD_STR("{\n  \"a\": 1,\n  b: 2\n}"), &root, &err), PD_EFORMAT);
    assert_string_equal(err.text, "not JSON: a string is missing at line 3, column 3");
    assert_int_equal(pd_json_parse(PD_STR("{\"key\":1,\"key\":1}"), &root, &err), PD_EFORMAT);
    assert_non_null(strstr(err.text, "'key'"));
}

static int parse_nested(int depth, const char *open, const char *close)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    struct pd_json *root = NULL;
    int rc;

    for (int i = 0; i < depth; i++)
        pd_buf_addz(&b, open);
    pd_buf_addz(&b, "1");
    for (int i = 0; i < depth; i++)
        pd_buf_addz(&b, close);
    rc = pd_json_parse(pd_buf_str(&b), &root, NULL);
    pd_json_free(root);
    pd_buf_done(&b);
    return rc;
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    assert_int_equal(parse_nested(64, "[", "]"), 0);
    assert_int_equal(parse_nested(65, "[", "]"), PD_EFORMAT);
    assert_int_equal(parse_nested(64, "{\"a\":", "}"), 0);
    assert_int_equal(parse_nested(65, "{\"a\":", "}"), PD_EFORMAT);
    assert_int_equal(parse_nested(100000, "[", "]"), PD_EFORMAT);
    assert_int_equal(parse_nested(1, "[[],[[]],", "]"), 0); /* siblings do not add up */
}

static void reads_values(void **state)
{
    struct pd_json *root = parse("{\"s\":\"h\\u00e4\",\"n\":-2.5,\"t\":true,\"f\":false,\"z\":null,"
                                 "\"a\":[10,20,30],\"S\":1}");
    const struct pd_json *a = pd_json_get(root, "a"), *v;
    double d = 0;
    bool b = false;

    (void)state;
    assert_true(pd_json_is_object(root));
    assert_int_equal(pd_json_size(root), 7);
    assert_string_equal(pd_json_string(pd_json_get(root, "s")), "h\xC3\xA4");
    assert_true(pd_json_number(pd_json_get(root, "n"), &d) && d == -2.5);
    assert_true(pd_json_bool(pd_json_get(root, "t"), &b) && b);
    assert_true(pd_json_bool(pd_json_get(root, "f"), &b) && !b);
    assert_true(pd_json_is_null(pd_json_get(root, "z")));
    assert_null(pd_json_get(root, "x"));
    assert_null(pd_json_get(a, "s"));
    assert_null(pd_json_get(NULL, "s"));

    assert_true(pd_json_is_array(a));
    assert_int_equal(pd_json_size(a), 3);
    assert_true(pd_json_number(pd_json_at(a, 2), &d) && d == 30);
    assert_null(pd_json_at(a, 3));
    assert_null(pd_json_at(a, SIZE_MAX));
    v = pd_json_first(root);
    assert_string_equal(pd_json_key(v), "s");
    assert_string_equal(pd_json_key(pd_json_next(v)), "n");
    v = pd_json_first(a);
    assert_null(pd_json_key(v));
    assert_null(pd_json_next(pd_json_next(pd_json_next(v))));

    /* the wrong type, or nothing at all */
    assert_null(pd_json_string(a));
    assert_false(pd_json_number(pd_json_get(root, "s"), &d));
    assert_false(pd_json_bool(pd_json_get(root, "z"), &b));
    assert_false(pd_json_is_null(NULL));
    assert_null(pd_json_string(NULL));
    assert_int_equal(pd_json_size(NULL), 0);
    assert_null(pd_json_first(NULL));
    assert_null(pd_json_next(NULL));
    pd_json_free(root);
}

static void integers_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t want;
    } cases[] = {
        {"0", true, 0},
        {"-7", true, -7},
        {"1e3", true, 1000},
        {"2.0", true, 2},
        {"2.5", false, 0},
        {"\"1\"", false, 0},
        {"1e300", false, 0},
        {"-1e19", false, 0},
        {"9007199254740992", true, INT64_C(9007199254740992)},
        {"-9007199254740992", true, -INT64_C(9007199254740992)},
        {"9007199254740994", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_json *root = parse(cases[i].text);
        int64_t v = 0;

        assert_int_equal(pd_json_int(root, &v), cases[i].ok);
        assert_true(v == cases[i].want);
        pd_json_free(root);
    }
}

static void writes_values(void **state)
{
    struct pd_buf b = PD_BUF_INIT(10000);
    struct pd_jw w;

    (void)state;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "a");
    pd_jw_array(&w);
    pd_jw_int(&w, INT64_MIN);
    pd_jw_uint(&w, UINT64_MAX);
    pd_jw_object(&w);
    pd_jw_end_object(&w);
    pd_jw_array(&w);
    pd_jw_end_array(&w);
    pd_jw_bool(&w, true);
    pd_jw_end_array(&w);
    pd_jw_key(&w, "k\"");
    pd_jw_strz(&w, NULL);
    pd_jw_key(&w, "r");
    pd_jw_raw(&w, PD_STR("[1,2]"));
    pd_jw_key(&w, "o");
    pd_jw_object(&w);
    pd_jw_key(&w, "x");
    pd_jw_bool(&w, false);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "s");
    pd_jw_strz(&w, "t");
    pd_jw_end_object(&w);
    assert_int_equal(pd_buf_rc(&b), 0);
    assert_string_equal(
        b.data, "{\"a\":[-9223372036854775808,18446744073709551615,{},[],true],\"k\\\"\":null,"
                "\"r\":[1,2],\"o\":{\"x\":false},\"s\":\"t\"}");
    pd_buf_done(&b);
}

static void assert_written(struct pd_str s, const char *want)
{
    struct pd_buf b = PD_BUF_INIT(10000);
    struct pd_json *root = NULL;
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_str(&w, s);
    assert_string_equal(b.data, want);
    assert_int_equal(pd_json_parse(pd_buf_str(&b), &root, NULL), 0);
    pd_json_free(root);
    pd_buf_done(&b);
}

static void escapes_strings(void **state)
{
    (void)state;
    assert_written(PD_STR(""), "\"\"");
    assert_written((struct pd_str){NULL, 0}, "\"\"");
    assert_written(PD_STR("a\"b\\c/d\n\r\t\x01\x1f\x7f"),
                   "\"a\\\"b\\\\c/d\\n\\r\\t\\u0001\\u001f\x7f\"");
    assert_written(PD_STR("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"),
                   "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    assert_written(PD_STR("a\xFF"
                          "b\xC3"),
                   "\"a\xEF\xBF\xBD"
                   "b\xEF\xBF\xBD\"");
    assert_written(PD_STR("\xED\xA0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    assert_written(PD_STR("a\0b"), "\"a\xEF\xBF\xBD"
                                   "b\"");
}

static void doubles_read_back_equal(void **state)
{
    static const struct {
        double v;
        const char *want;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {0.1, "0.1"},
        {-2.5, "-2.5"},
        {1e21, "1e+21"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {5e-324, "5e-324"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {DBL_MIN, "2.2250738585072014e-308"},
        {(double)NAN, "null"},
        {(double)INFINITY, "null"},
        {-(double)INFINITY, "null"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_buf b = PD_BUF_INIT(100);
        struct pd_jw w;

        pd_jw_init(&w, &b);
        pd_jw_double(&w, cases[i].v);
        assert_string_equal(b.data, cases[i].want);
        if (isfinite(cases[i].v))
            assert_true(strtod(b.data, NULL) == cases[i].v);
        pd_buf_done(&b);
    }
}

static void writes_what_was_read(void **state)
{
    static const char text[] =
        "{\"a\":[1,-2,0.5,[],{}],\"b\":{\"c\":\"x\\n\\\"\",\"d\":null},\"e\":true,\"f\":false}";
    char want[sizeof text + 64];
    struct pd_buf b = PD_BUF_INIT(1000);
    struct pd_json *j = NULL;
    struct pd_jw w;

    (void)state;
    assert_int_equal(pd_json_parse(pd_str_of(text), &j, NULL), 0);
    pd_jw_init(&w, &b);
    pd_jw_array(&w);
    pd_jw_value(&w, j);
    pd_jw_value(&w, pd_json_get(j, "a"));
    pd_jw_value(&w, NULL);
    pd_jw_end_array(&w);
    snprintf(want, sizeof want, "[%s,[1,-2,0.5,[],{}],null]", text);
    assert_string_equal(b.data, want);
    pd_json_free(j);
    pd_buf_done(&b);
}

static void ceiling_of_the_buffer_sticks(void **state)
{
    struct pd_buf b = PD_BUF_INIT(5);
    struct pd_jw w;

    (void)state;
    pd_jw_init(&w, &b);
    pd_jw_array(&w);
    pd_jw_strz(&w, "long text");
    pd_jw_end_array(&w);
    assert_int_equal(pd_buf_rc(&b), PD_ELIMIT);
    pd_buf_done(&b);
}

static void blanks_comments_in_place(void **state)
{
    static const struct {
        const char *text, *blank;
    } cases[] = {
        {"", ""},
        {"1", "1"},
        {"// x", "    "},
        {"{}// x\n", "{}    \n"},
        {"/* a\n b */1", "    \n     1"},
        {"/**/1/***/", "    1     "},
        {"[1,/*\"*/2]", "[1,     2]"},
        {"\"// no /* \\\" */\"//\"", "\"// no /* \\\" */\"   "},
        {"\"\\\\\"// yes", "\"\\\\\"      "},
        {"// \xC3\xA4\n1", "     \n1"},
        {"1 / 2", "1 / 2"},
        {"/", "/"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        char text[64];

        strcpy(text, cases[i].text);
        assert_int_equal(pd_json_uncomment(text, strlen(text), NULL), 0);
        assert_string_equal(text, cases[i].blank);
    }
}

static void refuses_a_comment_without_end(void **state)
{
    static const char *const bad[] = {"{\n  /* x", "{\n  /*/", "{\n  /*"};

    (void)state;
    for (size_t i = 0; i < N_OF(bad); i++) {
        char text[16];
        struct pd_err err = {0};

        strcpy(text, bad[i]);
        assert_int_equal(pd_json_uncomment(text, strlen(text), &err), PD_EFORMAT);
        assert_non_null(strstr(err.text, "line 2, column 3"));
    }
}

static void finds_values_in_their_text(void **state)
{
    const char *text = "{ \"a\": [10,\n 20, {\"b\": true}],\n\n  \"\\u0063\" : {\"d\":\n\"e\"} }";
    struct pd_json *root = parse(text);
    const struct pd_json *a = pd_json_get(root, "a"), *c = pd_json_get(root, "c");
    const struct {
        const struct pd_json *v;
        size_t line, column;
    } cases[] = {
        {root, 1, 1},
        {a, 1, 3},
        {pd_json_at(a, 0), 1, 9},
        {pd_json_at(a, 1), 2, 2},
        {pd_json_at(a, 2), 2, 6},
        {pd_json_get(pd_json_at(a, 2), "b"), 2, 7},
        {c, 4, 3},
        {pd_json_get(c, "d"), 4, 15},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_json_place p = pd_json_find(pd_str_of(text), root, cases[i].v);

        assert_int_equal(p.line, cases[i].line);
        assert_int_equal(p.column, cases[i].column);
    }
    pd_json_free(root);
}

static void tells_where_a_key_is_twice(void **state)
{
    struct pd_json *root = NULL;
    struct pd_err err;

    (void)state;
    assert_int_equal(pd_json_parse(PD_STR("{\"x\": {\"k\": 1,\n   \"k\": 2}}"), &root, &err),
                     PD_EFORMAT);
    assert_non_null(strstr(err.text, "'k' twice: at line 2, column 4"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_good_text),
        cmocka_unit_test(refuses_bad_text),
        cmocka_unit_test(respects_the_length),
        cmocka_unit_test(says_where),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(reads_values),
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(writes_values),
        cmocka_unit_test(escapes_strings),
        cmocka_unit_test(doubles_read_back_equal),
        cmocka_unit_test(writes_what_was_read),
        cmocka_unit_test(ceiling_of_the_buffer_sticks),
        cmocka_unit_test(blanks_comments_in_place),
        cmocka_unit_test(refuses_a_comment_without_end),
        cmocka_unit_test(finds_values_in_their_text),
        cmocka_unit_test(tells_where_a_key_is_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

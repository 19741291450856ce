#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static void compares_and_cuts(void **state)
{
    const struct pd_str none = {NULL, 0};

    (void)state;
    assert_true(pd_str_eq(PD_STR("ab"), pd_str_of("ab")));
    assert_false(pd_str_eq(PD_STR("ab"), PD_STR("abc")));
    assert_true(pd_str_eq(none, PD_STR("")));
    assert_true(pd_str_starts(PD_STR("abc"), PD_STR("ab")));
    assert_false(pd_str_starts(PD_STR("a"), PD_STR("ab")));
    assert_true(pd_str_ends(PD_STR("abc"), PD_STR("bc")));
    assert_false(pd_str_ends(PD_STR("c"), PD_STR("bc")));
    assert_true(pd_str_starts(none, none) && pd_str_ends(none, none));
    assert_true(pd_str_eq(pd_str_trim(PD_STR(" \t\r\n\v\fa b ")), PD_STR("a b")));
    assert_int_equal(pd_str_trim(PD_STR(" \n ")).len, 0);
    assert_int_equal(pd_str_trim(none).len, 0);
    assert_true(pd_str_eq(pd_str_sub(PD_STR("hello"), 1, 3), PD_STR("el")));
    assert_true(pd_str_eq(pd_str_sub(PD_STR("hello"), 3, 99), PD_STR("lo")));
    assert_int_equal(pd_str_sub(PD_STR("hello"), 4, 2).len, 0);
    assert_int_equal(pd_str_sub(PD_STR("hello"), 9, 12).len, 0);
}

static void finds_first_and_last(void **state)
{
    (void)state;
    assert_int_equal(pd_str_find(PD_STR("aabaab"), PD_STR("ab")), 1);
    assert_int_equal(pd_str_rfind(PD_STR("aabaab"), PD_STR("ab")), 4);
    assert_int_equal(pd_str_find(PD_STR("ab"), PD_STR("ab")), 0);
    assert_int_equal(pd_str_rfind(PD_STR("ab"), PD_STR("ab")), 0);
    assert_int_equal(pd_str_find(PD_STR("aaa"), PD_STR("ab")), -1);
    assert_int_equal(pd_str_rfind(PD_STR("aaa"), PD_STR("ab")), -1);
    assert_int_equal(pd_str_find(PD_STR("a"), PD_STR("ab")), -1);
    assert_int_equal(pd_str_rfind(PD_STR("a"), PD_STR("ab")), -1);
    assert_int_equal(pd_str_find((struct pd_str){NULL, 0}, PD_STR("a")), -1);
    assert_int_equal(pd_str_find(PD_STR("abc"), PD_STR("")), 0);
    assert_int_equal(pd_str_rfind(PD_STR("abc"), PD_STR("")), 3);
}

static void duplicates(void **state)
{
    char *z = pd_str_dup(pd_str_sub(PD_STR("hello"), 1, 3));

    (void)state;
    assert_string_equal(z, "el");
    free(z);
    z = pd_str_dup((struct pd_str){NULL, 0});
    assert_string_equal(z, "");
    free(z);
}

static void knows_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xC2\x80",
                                       "\xC3\xA4",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC3",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xE2\x82",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF0\x9F\x98",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "\xC3(",
                                      "\xE2\x82(",
                                      "a\xE2(\x82"};

    (void)state;
    for (size_t i = 0; i < N_OF(good); i++)
        assert_true(pd_utf8_valid(pd_str_of(good[i])));
    for (size_t i = 0; i < N_OF(bad); i++)
        assert_false(pd_utf8_valid(pd_str_of(bad[i])));
    assert_true(pd_utf8_valid((struct pd_str){"a\0b", 3}));
}

static void finds_complete_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"a\xC3", 1},
        {"a\xC3\xA4", 3},
        {"a\xE2\x82", 1},
        {"a\xE2\x82\xAC", 4},
        {"\xF0\x9F\x98", 0},
        {"\xF0\x9F\x98\x80", 4},
        {"a\xFF", 2},
        {"\x80\x80\x80\x80", 4},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++)
        assert_int_equal(pd_utf8_complete(pd_str_of(cases[i].text)), cases[i].complete);
}

static void parses_integers(void **state)
{
    static const char *const bad_u64[] = {
        "", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "99999999999999999999"};
    static const char *const bad_i64[] = {"", "-", "--1", "9223372036854775808",
                                          "-9223372036854775809"};
    uint64_t u = 7;
    int64_t i = 7;

    (void)state;
    for (size_t k = 0; k < N_OF(bad_u64); k++)
        assert_false(pd_parse_u64(pd_str_of(bad_u64[k]), &u));
    for (size_t k = 0; k < N_OF(bad_i64); k++)
        assert_false(pd_parse_i64(pd_str_of(bad_i64[k]), &i));
    assert_true(u == 7 && i == 7);
    assert_true(pd_parse_u64(PD_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_true(pd_parse_u64(PD_STR("007"), &u) && u == 7);
    assert_true(pd_parse_i64(PD_STR("9223372036854775807"), &i) && i == INT64_MAX);
    assert_true(pd_parse_i64(PD_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(pd_parse_i64(PD_STR("-0"), &i) && i == 0);
    assert_true(pd_parse_i64(PD_STR("-12"), &i) && i == -12);
    assert_false(pd_parse_u64((struct pd_str){"1\0", 2}, &u));
}

static void parses_doubles(void **state)
{
    static const char *const bad[] = {"",      "nan", "inf", "-inf", "0x10", " 1", "1 ",
                                      "1e999", "1e",  "-",   ".",    "+1",   "1,5"};
    double v = 7;

    (void)state;
    for (size_t i = 0; i < N_OF(bad); i++)
        assert_false(pd_parse_double(pd_str_of(bad[i]), &v));
    assert_true(v == 7);
    assert_true(pd_parse_double(PD_STR("-1.5e3"), &v) && v == -1500);
    assert_true(pd_parse_double(PD_STR("0.1"), &v) && v == 0.1);
    assert_true(pd_parse_double(PD_STR("1e-999"), &v) && v == 0);
    assert_true(pd_parse_double(pd_str_sub(PD_STR("12345"), 0, 2), &v) && v == 12);
    assert_false(pd_parse_double((struct pd_str){"1\0", 2}, &v));
}

static void parses_bools(void **state)
{
    bool v = false;

    (void)state;
    assert_true(pd_parse_bool(PD_STR("yes"), &v) && v);
    assert_true(pd_parse_bool(PD_STR("0"), &v) && !v);
    assert_true(pd_parse_bool(PD_STR("on"), &v) && v);
    assert_true(pd_parse_bool(PD_STR("false"), &v) && !v);
    assert_false(pd_parse_bool(PD_STR(""), &v));
    assert_false(pd_parse_bool(PD_STR("TRUE"), &v));
    assert_false(pd_parse_bool(PD_STR("2"), &v));
}

static void parses_sizes(void **state)
{
    static const char *const bad[] = {"",    "K",    "KiB",  "iB",    "1iB",          "B",
                                      "-1K", "1  K", "1K ",  "1P",    "17179869184G", "1KiBiB",
                                      "1.5", "1.5B", "1.K",  "1..5K", ".5K",          "1Kib",
                                      "1Kb", "1 ",   "1e3K", "1,5K",  "1.0123456789T"};
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"123", 123},
        {"7B", 7},
        {"64KiB", 65536},
        {"2MiB", 2097152},
        {"12GiB", UINT64_C(12884901888)},
        {"1K", 1024},
        {"512k", 524288},
        {"3M", 3145728},
        {"6g", UINT64_C(6442450944)},
        {"1T", UINT64_C(1) << 40},
        {"17179869183G", UINT64_C(17179869183) << 30},
        {"6MB", 6000000},
        {"6mB", 6000000},
        {"1.5G", UINT64_C(1610612736)},
        {"0.1kB", 100},
        {"0.0001K", 0},
        {"16777215.999999999T", UINT64_MAX - 1099}, /* 10^-9 of 2^40, rounded up, less one */
        {"714.3 MB", 714300000},                    /* as sizes are shown */
    };
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < N_OF(bad); i++)
        assert_false(pd_parse_size(pd_str_of(bad[i]), &v));
    assert_true(v == 7);
    for (size_t i = 0; i < N_OF(good); i++) {
        assert_true(pd_parse_size(pd_str_of(good[i].text), &v));
        assert_true(v == good[i].bytes);
    }
}

static void measures_distances(void **state)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},
        {"a", "", 1},
        {"", "abc", 3},
        {"max", "max", 0},
        {"max_que", "max_queue", 2},
        {"beem", "beam", 1},
        {"kitten", "sitting", 3},
        {"ab", "ba", 1},
        {"Seed", "seed", 0},
    };
    char name[50] = "";

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_str a = pd_str_of(cases[i].a), b = pd_str_of(cases[i].b);

        assert_int_equal(pd_str_distance(a, b), cases[i].distance);
        assert_int_equal(pd_str_distance(b, a), cases[i].distance);
    }
    memset(name, 'x', 49);
    assert_true(pd_str_distance(pd_str_of(name), PD_STR("x")) == SIZE_MAX);
    assert_int_equal(pd_str_distance((struct pd_str){name, 48}, PD_STR("x")), 47);
}

static void finds_what_was_meant(void **state)
{
    static const char *const words[] = {"samples", "strategy", "strategies", "seed", "id", NULL};
    static const struct {
        const char *word, *meant;
    } cases[] = {
        {"sample", "samples"},
        {"strategys", "strategy"},
        {"stratgeies", "strategies"},
        {"Seed", "seed"},
        {"sed", "seed"},
        {"di", "id"},
        {"temperature", NULL},
        {"x", NULL},
        {"", NULL},
        {"samplessamples", NULL},
        {"i", "id"},
    };
    char longer[200] = "";

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        const char *got = pd_str_nearest(pd_str_of(cases[i].word), words);

        if (cases[i].meant)
            assert_string_equal(got, cases[i].meant);
        else
            assert_null(got);
    }
    memset(longer, 's', sizeof longer - 1);
    assert_null(pd_str_nearest(pd_str_of(longer), words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_and_cuts),    cmocka_unit_test(finds_first_and_last),
        cmocka_unit_test(duplicates),           cmocka_unit_test(knows_utf8),
        cmocka_unit_test(finds_complete_utf8),  cmocka_unit_test(parses_integers),
        cmocka_unit_test(parses_doubles),       cmocka_unit_test(parses_bools),
        cmocka_unit_test(parses_sizes),         cmocka_unit_test(measures_distances),
        cmocka_unit_test(finds_what_was_meant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

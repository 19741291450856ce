/* Answers by their meaning: the pairs of math_pairs.txt, keys, and text that is meant to hurt. */
#include "core/math.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"

#define PAIRS_MIN 400

static enum pd_math_verdict compare(struct pd_str a, struct pd_str b, struct pd_math_result *r)
{
    pd_math_compare(a, b, r);
    assert_true(r->reason[0] != '\0');
    return r->verdict;
}

static struct pd_str cut(struct pd_str *rest, char at)
{
    const char *end = memchr(rest->ptr, at, rest->len);
    struct pd_str s = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};

    *rest = pd_str_sub(*rest, s.len + 1, rest->len);
    return s;
}

static char letter(enum pd_math_verdict v)
{
    return "?=!"[v];
}

/* Answers that have a key in common are not different ones; a = b says nothing about their keys. */
static bool same_key(struct pd_str a, struct pd_str b)
{
    struct pd_buf x = PD_BUF_INIT(8192), y = PD_BUF_INIT(8192);
    bool same = pd_math_key(a, &x) == 0 && pd_math_key(b, &y) == 0 &&
                pd_str_eq(pd_buf_str(&x), pd_buf_str(&y));

    pd_buf_done(&x);
    pd_buf_done(&y);
    return same;
}

static void pairs_have_their_verdicts(void **state)
{
    const char *srcdir = getenv("PONDER_TEST_SRCDIR");
    struct pd_buf path = PD_BUF_INIT(4096), text = PD_BUF_INIT(1 << 20);
    struct pd_str rest;
    size_t n = 0, wrong = 0, units = 0;

    (void)state;
    pd_buf_printf(&path, "%s/tests/unit/math_pairs.txt", srcdir ? srcdir : ".");
    assert_int_equal(pd_read_file(path.data, &text, NULL), 0);
    rest = pd_buf_str(&text);
    while (rest.len) {
        struct pd_str line = cut(&rest, '\n'), want, a;
        struct pd_math_result r, back;

        if (!line.len || line.ptr[0] == '#') {
            units = pd_str_eq(line, PD_STR("# units"));
            continue;
        }
        want = cut(&line, '\t');
        a = cut(&line, '\t');
        assert_int_equal(want.len, 1);
        assert_true(a.len > 0 && line.len > 0);
        n++;
        compare(a, line, &r);
        compare(line, a, &back);
        if (letter(r.verdict) != want.ptr[0] || back.verdict != r.verdict) {
            print_error("'%.*s' and '%.*s': %s (%s), the other way %s (%s), not %c\n", (int)a.len,
                        a.ptr, (int)line.len, line.ptr, pd_math_verdict_name(r.verdict), r.reason,
                        pd_math_verdict_name(back.verdict), back.reason, want.ptr[0]);
            wrong++;
        }
        /* units are no part of a key */
        if (!units && want.ptr[0] == '!' && same_key(a, line)) {
            print_error("'%.*s' and '%.*s' have one key\n", (int)a.len, a.ptr, (int)line.len,
                        line.ptr);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(n >= PAIRS_MIN);
    pd_buf_done(&path);
    pd_buf_done(&text);
}

static void keys_are_canonical(void **state)
{
    static const char *const cases[][2] = {
        {"\\frac{\\sqrt 2}{2}", "1/2*2^(1/2)"},
        {"1/\\sqrt{2}", "1/2*2^(1/2)"},
        {"(x+1)^2", "x^2+2*x+1"},
        {"1+2x+x^2", "x^2+2*x+1"},
        {"\\{3, 1/2, 0.5\\}", "{1/2,3}"},
        {"[1, \\infty)", "[1,inf)"},
        {"50\\%", "50"},
        {"3-4i", "-4*i+3"},
        {"Paris", NULL},
        {"0.333...", NULL},
        {"x > 3", NULL},
        {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_buf key = PD_BUF_INIT(4096);
        int rc = pd_math_key(pd_str_of(cases[i][0]), &key);

        assert_int_equal(rc == 0, cases[i][1] != NULL);
        if (rc == 0 && !pd_str_eq(pd_buf_str(&key), pd_str_of(cases[i][1])))
            fail_msg("'%s' gave '%s'", cases[i][0], key.data);
        pd_buf_done(&key);
    }
}

static void reasons_say_why(void **state)
{
    struct pd_math_result r;

    (void)state;
    compare(PD_STR("x^2"), PD_STR("x^3 + \\sin x"), &r);
    assert_non_null(strstr(r.reason, "differ at x = "));
    compare(PD_STR("(1, 2)"), PD_STR("(1, 3)"), &r);
    assert_string_equal(r.reason, "part 2: they differ in exact arithmetic");
    compare(PD_STR("5 km"), PD_STR("5 kg"), &r);
    assert_string_equal(r.reason, "their units measure different things");
    compare(PD_STR(" "), PD_STR("5"), &r);
    assert_int_equal(r.verdict, PD_MATH_UNDECIDED);
    assert_string_equal(r.reason, "there is no answer");
}

/* n times a, then b, then n times c. */
static void hurt(const char *a, size_t n, const char *b, const char *c)
{
    struct pd_buf text = PD_BUF_INIT(1 << 20), key = PD_BUF_INIT(1 << 20);
    struct pd_math_result r;

    for (size_t i = 0; i < n; i++)
        pd_buf_addz(&text, a);
    pd_buf_addz(&text, b);
    for (size_t i = 0; i < n; i++)
        pd_buf_addz(&text, c);
    compare(pd_buf_str(&text), PD_STR("1"), &r);
    pd_math_key(pd_buf_str(&text), &key);
    pd_buf_done(&text);
    pd_buf_done(&key);
}

static void hostile_text_is_bounded(void **state)
{
    (void)state;
    hurt("(", 2000, "3", ")");
    hurt("\\sqrt{", 500, "3", "}");
    hurt("\\frac{1}{", 400, "3", "}");
    hurt("1\\frac{1", 200, "", "}{2}");
    hurt("-", 4000, "3", "");
    hurt("|", 2000, "3", "|");
    hurt("2^", 900, "2", "");
    hurt("\\text{", 600, "3", "}");
    hurt("{", 2000, "3", "}");
    hurt("\\sin ", 500, "x", "");
    hurt("\\begin{pmatrix}", 200, "3", "\\end{pmatrix}");
    hurt("(x+y+z+w)", 60, "", "");
    hurt("\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+", 20, "7^{1/11}", "+x^{1/7}");
    hurt("(1+\\sqrt{2}+\\sqrt[3]{5}+i+x)^{60}", 3, "", "");
    hurt("\\frac{1}{\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7+\\sqrt{11}+\\sqrt{13}+\\sqrt{17}}", 8, "", "");
    hurt("\\sqrt{18446744073709551557}+", 100, "x", "");
    hurt("9999999999", 300, "^{9999999}", "");
    hurt("", 0, "10^{10^{10^{10^{10}}}} + 1", "");
    hurt("", 0, "99999999999999999999!", "");
    hurt("", 0, "1e9999999999", "");
    hurt("", 0, "\\binom{10^{50}}{10^{49}}", "");
    hurt("x", 5000, "", "");
    hurt("0.", 1, "\\overline{123456789}", "\\overline{1}");
    hurt("\xff\xfe$\\", 500, "", "\\left.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_have_their_verdicts),
        cmocka_unit_test(keys_are_canonical),
        cmocka_unit_test(reasons_say_why),
        cmocka_unit_test(hostile_text_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

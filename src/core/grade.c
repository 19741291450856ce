/* Graders: see grade.h. A regular expression is compiled for each answer: answers are rare next to
 * tokens. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/grade.h"

#include <ctype.h>
#include <pcre2.h>

#include "core/answer.h"
#include "core/math.h"

#define MATCH_LIMIT 100000 /* steps of the matcher: bounded for hostile text */
#define HEAP_KIB    1024
#define KEY_MAX     4096

static const char *const names[] = {"exact", "numeric", "math_equal", "regex", NULL};

int pd_grade_find(const char *name, enum pd_grade *out, struct pd_err *err)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (enum pd_grade)i;
            return 0;
        }
    return pd_fail(err, PD_EINVAL,
                   "no grader '%.60s': there are exact, numeric, math_equal and regex", name);
}

const char *pd_grade_name(enum pd_grade g)
{
    return names[g];
}

static bool is_digit(struct pd_str s, size_t i)
{
    return i < s.len && isdigit((unsigned char)s.ptr[i]);
}

/* The last [-+]digits[,digits][.digits][/digits] of s; len 0: none. */
static struct pd_str last_number(struct pd_str s)
{
    struct pd_str found = {"", 0};

    for (size_t i = 0; i < s.len;) {
        size_t from = i;
        bool sign = s.ptr[i] == '-' || s.ptr[i] == '+';

        if (sign && from > 0 && isalnum((unsigned char)s.ptr[from - 1]))
            sign = false; /* a hyphen, or a sum */
        i += sign;
        if (!is_digit(s, i) && !(i < s.len && s.ptr[i] == '.' && is_digit(s, i + 1))) {
            i = from + 1;
            continue;
        }
        while (is_digit(s, i) || (i < s.len && s.ptr[i] == ',' && is_digit(s, i + 1)))
            i++;
        if (i < s.len && s.ptr[i] == '.' && is_digit(s, i + 1))
            for (i++; is_digit(s, i);)
                i++;
        if (i < s.len && s.ptr[i] == '/' && is_digit(s, i + 1))
            for (i++; is_digit(s, i);)
                i++;
        found = pd_str_sub(s, from, i);
    }
    return found;
}

static bool same_key(struct pd_str a, struct pd_str b)
{
    struct pd_buf x = PD_BUF_INIT(KEY_MAX), y = PD_BUF_INIT(KEY_MAX);
    bool same = pd_answer_key(a, &x) == 0 && pd_answer_key(b, &y) == 0 && x.len &&
                pd_str_eq(pd_buf_str(&x), pd_buf_str(&y));

    pd_buf_done(&x);
    pd_buf_done(&y);
    return same;
}

static pcre2_code *compile(struct pd_str pattern, struct pd_err *err)
{
    PCRE2_UCHAR why[128];
    PCRE2_SIZE at;
    int code;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len,
                      PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);

    if (re)
        return re;
    pcre2_get_error_message(code, why, sizeof why);
    pd_fail(err, PD_EINVAL, "not a regular expression: %s at character %zu of '%.*s'",
            (const char *)why, (size_t)at + 1, (int)(pattern.len < 100 ? pattern.len : 100),
            pattern.ptr);
    return NULL;
}

static bool matches(struct pd_str answer, struct pd_str pattern)
{
    pcre2_code *re = compile(pattern, NULL);
    pcre2_match_data *md = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    bool yes = false;

    if (md && mc) {
        pcre2_set_match_limit(mc, MATCH_LIMIT);
        pcre2_set_heap_limit(mc, HEAP_KIB);
        yes = pcre2_match(re, (PCRE2_SPTR)answer.ptr, answer.len, 0, 0, md, mc) > 0;
    }
    pcre2_match_context_free(mc);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    return yes;
}

int pd_grade_check(enum pd_grade g, struct pd_str expect, struct pd_err *err)
{
    if (g == PD_GRADE_NUMERIC && !last_number(expect).len)
        return pd_fail(err, PD_EINVAL, "there is no number in '%.*s'",
                       (int)(expect.len < 100 ? expect.len : 100), expect.ptr);
    if (g == PD_GRADE_REGEX) {
        pcre2_code *re = compile(expect, err);

        if (!re)
            return PD_EINVAL;
        pcre2_code_free(re);
    }
    return 0;
}

bool pd_grade(enum pd_grade g, struct pd_str answer, struct pd_str expect)
{
    if (g == PD_GRADE_NUMERIC)
        return same_key(last_number(answer), last_number(expect));
    if (g == PD_GRADE_MATH) {
        struct pd_math_result r;

        pd_math_compare(answer, expect, &r);
        return r.verdict == PD_MATH_EQUAL;
    }
    if (g == PD_GRADE_REGEX)
        return answer.len && matches(pd_str_trim(answer), expect);
    return same_key(answer, expect);
}

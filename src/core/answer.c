/* Answer extraction and canonical keys. PCRE2 with match limits does the
 * patterns; patterns are compiled once per call site and freed: answers are short and rare next to
 * tokens. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/answer.h"

#include <ctype.h>
#include <inttypes.h>
#include <pcre2.h>
#include <stdlib.h>

#include "base/err.h"
#include "core/math.h"

/* Steps of the matcher: enough for any answer, bounded for hostile text. */
#define MATCH_LIMIT 100000
#define KEY_MAX     4096
/* Unclosed boxes at the end of a text before we give up on it: keeps hostile text linear. */
#define BOXED_TRIES 16

/* Last match of pattern in text: group 1. len 0 when there is none or a limit was hit. */
static struct pd_str last_match(const char *pattern, struct pd_str text)
{
    struct pd_str found = {"", 0};
    int code;
    PCRE2_SIZE at, start = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_CASELESS | PCRE2_MULTILINE, &code, &at, NULL);
    pcre2_match_data *md = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    pcre2_match_context *mc = pcre2_match_context_create(NULL);

    if (md && mc) {
        pcre2_set_match_limit(mc, MATCH_LIMIT);
        pcre2_set_heap_limit(mc, 1024);
        while (start <= text.len &&
               pcre2_match(re, (PCRE2_SPTR)text.ptr, text.len, start, 0, md, mc) > 1) {
            PCRE2_SIZE *o = pcre2_get_ovector_pointer(md);

            found = pd_str_sub(text, o[2], o[3]);
            start = o[1] > start ? o[1] : start + 1;
        }
    }
    pcre2_match_context_free(mc);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    return found;
}

static struct pd_str last_boxed(struct pd_str text)
{
    struct pd_str open = PD_STR("\\boxed{"), head = text;
    ptrdiff_t at;

    for (int tries = 0; tries < BOXED_TRIES && (at = pd_str_rfind(head, open)) >= 0; tries++) {
        size_t from = (size_t)at + open.len;
        int depth = 1;

        for (size_t i = from; i < text.len; i++) {
            depth += (text.ptr[i] == '{') - (text.ptr[i] == '}');
            if (depth == 0)
                return pd_str_trim(pd_str_sub(text, from, i));
        }
        head = pd_str_sub(text, 0, (size_t)at); /* not closed: try an earlier one */
    }
    return (struct pd_str){"", 0};
}

struct pd_str pd_answer_extract(struct pd_str text)
{
    struct pd_str a = last_boxed(text);

    if (!a.len)
        a = pd_str_trim(
            last_match("(?:(?:final )?answer is|answer:)[ \\t]*:?[ \\t]*([^\\n]*)", text));
    return a;
}

/* Numbers in one form: [-+]digits[,ddd][.digits] or a/b → reduced fraction "p/q" or integer. */
static bool number_key(struct pd_str s, struct pd_buf *out)
{
    char digits[64];
    size_t n = 0, i = 0;
    int64_t num, den = 1, a, b;
    bool dot = false, neg = false, any = false;

    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+'))
        neg = s.ptr[i++] == '-';
    for (; i < s.len && s.ptr[i] != '/'; i++) {
        char c = s.ptr[i];

        if (c == ',' && !dot && any && i + 3 < s.len + 0 && isdigit((unsigned char)s.ptr[i + 1]) &&
            isdigit((unsigned char)s.ptr[i + 2]) && isdigit((unsigned char)s.ptr[i + 3]) &&
            (i + 4 >= s.len || !isdigit((unsigned char)s.ptr[i + 4])))
            continue; /* thousands */
        if (c == '.' && !dot) {
            dot = true;
            continue;
        }
        if (!isdigit((unsigned char)c) || n >= 17)
            return false;
        digits[n++] = c;
        any = true;
        if (dot)
            den *= 10;
    }
    if (!any)
        return false;
    digits[n] = 0;
    num = strtoll(digits, NULL, 10);
    if (i < s.len) { /* a/b, integers only */
        struct pd_str rest = pd_str_sub(s, i + 1, s.len);

        if (dot || rest.len == 0 || rest.len > 17 || !pd_parse_i64(rest, &den) || den <= 0)
            return false;
    }
    for (a = num, b = den; b;) {
        int64_t t = a % b;

        a = b;
        b = t;
    }
    if (a > 1) {
        num /= a;
        den /= a;
    }
    if (neg && num)
        pd_buf_addc(out, '-');
    if (den == 1)
        pd_buf_printf(out, "%" PRId64, num);
    else
        pd_buf_printf(out, "%" PRId64 "/%" PRId64, num, den);
    return true;
}

/* LaTeX decoration that carries no meaning. */
static const char *const noise[] = {"\\left", "\\right", "\\,", "\\!", "\\;", "\\ ", "$", NULL};

/* Of words, and of what the reader of mathematics does not take: the text, without decoration. */
static int text_key(struct pd_str answer, struct pd_buf *out)
{
    struct pd_buf t = PD_BUF_INIT(KEY_MAX);
    struct pd_str s = pd_str_trim(answer);
    int rc;

    for (size_t i = 0; i < s.len;) {
        struct pd_str rest = pd_str_sub(s, i, s.len);
        size_t skip = 0;

        for (size_t k = 0; noise[k] && !skip; k++)
            if (pd_str_starts(rest, pd_str_of(noise[k])))
                skip = strlen(noise[k]);
        if (skip) {
            i += skip;
        } else if (pd_str_starts(rest, PD_STR("\\dfrac")) ||
                   pd_str_starts(rest, PD_STR("\\tfrac"))) {
            pd_buf_addz(&t, "\\frac");
            i += 6;
        } else if (pd_str_starts(rest, PD_STR("\\%"))) {
            i++;
        } else {
            pd_buf_addc(&t, (char)tolower((unsigned char)s.ptr[i++]));
        }
    }
    s = pd_str_trim(pd_buf_str(&t));
    while (s.len && s.ptr[s.len - 1] == '.')
        s = pd_str_trim(pd_str_sub(s, 0, s.len - 1));
    /* \frac{a}{b} of plain integers reads as a/b; a trailing unit word ("42 apples") is not part of
     * a number */
    struct pd_str frac = last_match("^\\\\frac\\{(-?\\d+\\}\\{\\d+)\\}$", s);
    struct pd_str plain =
        last_match("^([-+]?[\\d.,/]+)(?:\\s+[a-z][a-z ]*|\\s*\\\\text\\{[a-z ]*\\})?$", s);
    struct pd_buf f = PD_BUF_INIT(KEY_MAX);

    if (frac.len) {
        ptrdiff_t mid = pd_str_find(frac, PD_STR("}{"));

        pd_buf_adds(&f, pd_str_sub(frac, 0, (size_t)mid));
        pd_buf_addc(&f, '/');
        pd_buf_adds(&f, pd_str_sub(frac, (size_t)mid + 2, frac.len));
        plain = pd_buf_str(&f);
    }
    if (!plain.len || !number_key(plain, out))
        for (size_t i = 0; i < s.len; i++) { /* words: runs of white space count as one space */
            bool space = isspace((unsigned char)s.ptr[i]);

            if (!space)
                pd_buf_addc(out, s.ptr[i]);
            else if (i && !isspace((unsigned char)s.ptr[i - 1]))
                pd_buf_addc(out, ' ');
        }
    rc = pd_buf_rc(&t) ? pd_buf_rc(&t) : pd_buf_rc(out);
    pd_buf_done(&f);
    pd_buf_done(&t);
    return rc;
}

int pd_answer_key(struct pd_str answer, struct pd_buf *out)
{
    int rc = pd_math_key(answer, out);

    return rc == PD_ENOENT ? text_key(answer, out) : rc;
}

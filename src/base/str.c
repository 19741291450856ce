#include "base/str.h"

#include <math.h>
#include <stdlib.h>

#define SIZE_DIGITS 9 /* behind the point: a billionth of a tebibyte is below 2 KiB */

bool pd_str_starts(struct pd_str s, struct pd_str prefix)
{
    return s.len >= prefix.len && pd_str_eq((struct pd_str){s.ptr, prefix.len}, prefix);
}

bool pd_str_ends(struct pd_str s, struct pd_str suffix)
{
    return s.len >= suffix.len && pd_str_eq(pd_str_sub(s, s.len - suffix.len, s.len), suffix);
}

/* Not isspace(): that one asks the locale. */
static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct pd_str pd_str_trim(struct pd_str s)
{
    size_t from = 0, to = s.len;

    while (from < to && is_space(s.ptr[from]))
        from++;
    while (to > from && is_space(s.ptr[to - 1]))
        to--;
    return pd_str_sub(s, from, to);
}

ptrdiff_t pd_str_find(struct pd_str hay, struct pd_str needle)
{
    size_t at = 0;

    if (needle.len == 0)
        return 0;
    while (hay.len - at >= needle.len) {
        const char *first = memchr(hay.ptr + at, needle.ptr[0], hay.len - at - needle.len + 1);

        if (!first)
            return -1;
        if (memcmp(first, needle.ptr, needle.len) == 0)
            return first - hay.ptr;
        at = (size_t)(first - hay.ptr) + 1;
    }
    return -1;
}

ptrdiff_t pd_str_rfind(struct pd_str hay, struct pd_str needle)
{
    if (needle.len == 0)
        return (ptrdiff_t)hay.len;
    if (needle.len > hay.len)
        return -1;
    for (size_t at = hay.len - needle.len + 1; at-- > 0;) {
        if (memcmp(hay.ptr + at, needle.ptr, needle.len) == 0)
            return (ptrdiff_t)at;
    }
    return -1;
}

struct pd_str pd_str_sub(struct pd_str s, size_t from, size_t to)
{
    if (to > s.len)
        to = s.len;
    if (from > to)
        from = to;
    /* NULL + 0 is undefined in C17 */
    return (struct pd_str){s.ptr ? s.ptr + from : NULL, to - from};
}

char *pd_str_dup(struct pd_str s)
{
    char *z = s.len < SIZE_MAX ? malloc(s.len + 1) : NULL;

    if (!z)
        return NULL;
    if (s.len > 0)
        memcpy(z, s.ptr, s.len);
    z[s.len] = '\0';
    return z;
}

#define DISTANCE_MAX 48

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment. */
size_t pd_str_distance(struct pd_str a, struct pd_str b)
{
    size_t rows[3][DISTANCE_MAX + 1], *two = rows[0], *one = rows[1], *now = rows[2], *spare;

    if (a.len > DISTANCE_MAX || b.len > DISTANCE_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.len; j++)
        one[j] = two[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool same = (a.ptr[i - 1] | 0x20) == (b.ptr[j - 1] | 0x20);

            now[j] = least(least(one[j], now[j - 1]) + 1, one[j - 1] + !same);
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1])
                now[j] = least(now[j], two[j - 2] + 1);
        }
        spare = two;
        two = one;
        one = now;
        now = spare;
    }
    return one[b.len];
}

const char *pd_str_nearest(struct pd_str s, const char *const *words)
{
    const char *best = NULL;
    size_t fewest = s.len / 3 + 2;

    for (; *words; words++) {
        struct pd_str word = pd_str_of(*words);
        size_t n = pd_str_distance(s, word);

        if (n < fewest && n < word.len) {
            fewest = n;
            best = *words;
        }
    }
    return best;
}

/* How long the sequence is that this byte starts; 0 when no sequence starts with it. */
static size_t utf8_sequence_len(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2) /* continuation bytes, and overlong forms of ASCII */
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0)
        return 3;
    return lead < 0xF5 ? 4 : 0; /* F5 and up lie behind U+10FFFF */
}

size_t pd_utf8_len(struct pd_str s)
{
    uint8_t lead = s.len > 0 ? (uint8_t)s.ptr[0] : 0xFF;
    size_t n = utf8_sequence_len(lead);
    uint8_t low = 0x80, high = 0xBF; /* what the second byte may be */

    if (n > s.len)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* below: overlong */
    else if (lead == 0xED)
        high = 0x9F; /* above: surrogates */
    else if (lead == 0xF0)
        low = 0x90; /* below: overlong */
    else if (lead == 0xF4)
        high = 0x8F; /* above: beyond U+10FFFF */
    for (size_t k = 1; k < n; k++) {
        uint8_t byte = (uint8_t)s.ptr[k];

        if (byte < low || byte > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

bool pd_utf8_valid(struct pd_str s)
{
    for (size_t i = 0, n; i < s.len; i += n) {
        n = pd_utf8_len((struct pd_str){s.ptr + i, s.len - i});
        if (n == 0)
            return false;
    }
    return true;
}

size_t pd_utf8_complete(struct pd_str s)
{
    /* Only the last three bytes can belong to a sequence that still misses some. */
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        uint8_t byte = (uint8_t)s.ptr[s.len - back];

        if ((byte & 0xC0) == 0x80)
            continue;
        return utf8_sequence_len(byte) > back ? s.len - back : s.len;
    }
    return s.len;
}

bool pd_parse_u64(struct pd_str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool pd_parse_i64(struct pd_str s, int64_t *out)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    uint64_t v;

    if (!pd_parse_u64(pd_str_sub(s, negative ? 1 : 0, s.len), &v))
        return false;
    if (v > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    /* -(v - 1) - 1 reaches INT64_MIN without overflowing on the way */
    *out = negative && v > 0 ? -(int64_t)(v - 1) - 1 : (int64_t)v;
    return true;
}

bool pd_parse_double(struct pd_str s, double *out)
{
    char text[512]; /* strtod wants a C string; no sensible number is longer */
    char *end;
    double v;

    if (s.len == 0 || s.len >= sizeof(text))
        return false;
    /* strtod also takes white space, hexadecimal, inf and nan */
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\0' || !strchr("0123456789+-.eE", s.ptr[i]))
            return false;
    }
    if (s.ptr[0] == '+')
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    v = strtod(text, &end); /* the program never leaves the C locale */
    if (*end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}

bool pd_parse_bool(struct pd_str s, bool *out)
{
    static const char *const yes[] = {"1", "true", "on", "yes"};
    static const char *const no[] = {"0", "false", "off", "no"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        bool is_yes = pd_str_eq(s, pd_str_of(yes[i]));

        if (is_yes || pd_str_eq(s, pd_str_of(no[i]))) {
            *out = is_yes;
            return true;
        }
    }
    return false;
}

/* NUMBER[.DIGITS][ ][k|m|g|t][iB|B]: 1024 with iB or nothing behind the prefix, 1000 with B. */
bool pd_parse_size(struct pd_str s, uint64_t *out)
{
    static const char prefixes[] = "kmgt";
    struct pd_str number = s, digits, unit;
    uint64_t whole, fraction = 0, factor = 1, scale = 1, base = 1024;
    const char *prefix = NULL;
    ptrdiff_t dot;

    number.len = 0;
    while (number.len < s.len && strchr("0123456789.", s.ptr[number.len]) && s.ptr[number.len])
        number.len++;
    unit = pd_str_sub(s, number.len, s.len);
    if (unit.len > 1 && unit.ptr[0] == ' ')
        unit = pd_str_sub(unit, 1, unit.len);
    if (unit.len > 0)
        prefix = memchr(prefixes, unit.ptr[0] | 0x20, sizeof(prefixes) - 1);
    if (prefix)
        unit = pd_str_sub(unit, 1, unit.len);
    if (pd_str_eq(unit, PD_STR("B")))
        base = 1000;
    else if (unit.len > 0 && !(prefix && pd_str_eq(unit, PD_STR("iB"))))
        return false;
    for (const char *p = prefixes; prefix && p <= prefix; p++)
        factor *= base;

    dot = prefix ? pd_str_find(number, PD_STR(".")) : -1; /* no part of a byte */
    if (dot >= 0) {
        digits = pd_str_sub(number, (size_t)dot + 1, number.len);
        number.len = (size_t)dot;
        if (digits.len > SIZE_DIGITS || !pd_parse_u64(digits, &fraction))
            return false;
        for (size_t i = 0; i < digits.len; i++)
            scale *= 10;
        fraction = (uint64_t)((unsigned __int128)fraction * factor / scale);
    }
    if (!pd_parse_u64(number, &whole) || __builtin_mul_overflow(whole, factor, &whole) ||
        __builtin_add_overflow(whole, fraction, &whole))
        return false;
    *out = whole;
    return true;
}

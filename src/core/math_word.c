/* Answers that are no formulas: words, dates, times of day, letters of a multiple choice, numbers
 * in words. */
#include <ctype.h>
#include <stdlib.h>
#include <unicase.h>

#include "core/math_int.h"

#define WORDS_MAX 32

static bool is_digit(char c)
{
    return isdigit((unsigned char)c);
}

static bool is_alnum(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static size_t split(struct pd_str text, struct pd_str *out, size_t max)
{
    size_t n = 0, i = 0;

    while (i < text.len && n < max) {
        size_t from;

        while (i < text.len && text.ptr[i] == ' ')
            i++;
        for (from = i; i < text.len && text.ptr[i] != ' ';)
            i++;
        if (i > from)
            out[n++] = pd_str_sub(text, from, i);
    }
    return i < text.len ? max + 1 : n;
}

static bool is_article(struct pd_str w)
{
    return pd_str_eq(w, PD_STR("a")) || pd_str_eq(w, PD_STR("an")) || pd_str_eq(w, PD_STR("the"));
}

struct pd_str math_fold(struct math *m, struct pd_str plain)
{
    size_t n = 0, n_words, n_out = 0;
    uint8_t *folded =
        u8_casefold((const uint8_t *)plain.ptr, plain.len, NULL, UNINORM_NFC, NULL, &n);
    char *flat = math_array(m, 1, n + 1), *out = math_array(m, 1, n + 1);
    struct pd_str words[WORDS_MAX];

    if (!flat || !out || (!folded && plain.len)) {
        free(folded);
        return plain; /* no UTF-8: as it is */
    }
    for (size_t i = 0; i < n; i++) {
        char c = (char)folded[i];
        bool inside =
            i && i + 1 < n && is_digit((char)folded[i - 1]) && is_digit((char)folded[i + 1]);

        if (is_alnum(c) || ((c == '.' || c == ':') && inside))
            flat[n_out++] = c;
        else if (c != '\'')
            flat[n_out++] = ' ';
    }
    free(folded);
    n_words = split((struct pd_str){flat, n_out}, words, WORDS_MAX);
    if (n_words > WORDS_MAX)
        return (struct pd_str){flat, n_out};
    n_out = 0;
    for (size_t i = 0; i < n_words; i++) {
        if (n_words > 1 && is_article(words[i]))
            continue;
        if (n_out)
            out[n_out++] = ' ';
        memcpy(out + n_out, words[i].ptr, words[i].len);
        n_out += words[i].len;
    }
    return (struct pd_str){out, n_out};
}

/* ---- multiple choice ----------------------------------------------------------------------- */

/* The letter of "B", "(B)", "b)", "B. text", "(B) text", "option B"; lone small letters are
 * variables. */
struct math_node *math_read_choice(struct math *m, struct pd_str s)
{
    static const char *const heads[] = {"option ", "choice ", "answer ", NULL};
    struct math_node *c;
    bool named = false, open, closed;
    size_t i = 0;
    char letter;

    for (int k = 0; heads[k]; k++) {
        size_t n = strlen(heads[k]);

        if (s.len > n && (s.ptr[0] | 0x20) == heads[k][0] &&
            memcmp(s.ptr + 1, heads[k] + 1, n - 1) == 0) {
            s = pd_str_trim(pd_str_sub(s, n, s.len));
            named = true;
            break;
        }
    }
    open = s.len > i && s.ptr[i] == '(';
    i += open;
    if (i >= s.len || !isalpha((unsigned char)s.ptr[i]))
        return NULL;
    letter = s.ptr[i++];
    closed = i < s.len && (s.ptr[i] == ')' || (!open && (s.ptr[i] == '.' || s.ptr[i] == ':')));
    if (open && !closed)
        return NULL;
    if ((i += closed) < s.len && (!closed || s.ptr[i] != ' '))
        return NULL;
    if (letter >= 'a' && !named && !closed)
        return NULL;
    letter = (char)toupper((unsigned char)letter);
    if (letter > 'J')
        return NULL;
    c = math_node(m, MATH_CHOICE, 0);
    if (c)
        c->op = letter;
    return c;
}

/* ---- dates and times ----------------------------------------------------------------------- */

static const char *const months[] = {"january",   "february", "march",    "april",
                                     "may",       "june",     "july",     "august",
                                     "september", "october",  "november", "december"};
static const char *const weekdays[] = {"monday", "tuesday",  "wednesday", "thursday",
                                       "friday", "saturday", "sunday"};

/* Whether w is the name or its first three letters. */
static bool is_name(struct pd_str w, const char *name)
{
    return pd_str_eq(w, pd_str_of(name)) || (w.len == 3 && memcmp(w.ptr, name, 3) == 0) ||
           (w.len == 4 && memcmp(w.ptr, "sept", 4) == 0 && memcmp(name, "sept", 4) == 0);
}

/* A number of at most so many digits, "5th" too; -1: none. */
static int small_number(struct pd_str w, size_t max_digits)
{
    size_t n = 0;
    int v = 0;

    for (; n < w.len && is_digit(w.ptr[n]) && n < max_digits; n++)
        v = v * 10 + (w.ptr[n] - '0');
    w = pd_str_sub(w, n, w.len);
    if (!n || (w.len && !pd_str_eq(w, PD_STR("st")) && !pd_str_eq(w, PD_STR("nd")) &&
               !pd_str_eq(w, PD_STR("rd")) && !pd_str_eq(w, PD_STR("th"))))
        return -1;
    return v;
}

static struct math_node *date(struct math *m, int year, int month, int day)
{
    struct math_node *d;

    if (month < 1 || month > 12 || day < 0 || day > 31 || !(d = math_node(m, MATH_DATE, 0)))
        return NULL;
    d->date[0] = year;
    d->date[1] = month;
    d->date[2] = day;
    return d;
}

/* 2021-03-05 */
static struct math_node *iso_date(struct math *m, struct pd_str s)
{
    int y, mo, d;

    if (s.len != 10 || s.ptr[4] != '-' || s.ptr[7] != '-')
        return NULL;
    y = small_number(pd_str_sub(s, 0, 4), 4);
    mo = small_number(pd_str_sub(s, 5, 7), 2);
    d = small_number(pd_str_sub(s, 8, 10), 2);
    return y > 0 && d > 0 ? date(m, y, mo, d) : NULL;
}

struct math_node *math_read_date(struct math *m, struct pd_str plain)
{
    struct pd_str w[6];
    size_t n;
    int year = 0, month = 0, day = 0;

    if (iso_date(m, plain))
        return iso_date(m, plain);
    n = split(math_fold(m, plain), w, 6);
    if (n < 2 || n > 5)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        int k = 0, v = small_number(w[i], 4);

        if (v > 31 && !year) {
            year = v;
        } else if (v > 0 && !day) {
            day = v;
        } else {
            while (k < 12 && !is_name(w[i], months[k]))
                k++;
            if (k < 12 && !month) {
                month = k + 1;
                continue;
            }
            for (k = 0; k < 7 && !is_name(w[i], weekdays[k]);)
                k++;
            if (k == 7 && !pd_str_eq(w[i], PD_STR("of")))
                return NULL;
        }
    }
    return month && (day || year) ? date(m, year, month, day) : NULL;
}

/* "3:30 pm", "3 p.m.", "15:30" (not when half_days_only). */
struct math_node *math_read_clock(struct math *m, struct pd_str plain, bool half_days_only)
{
    struct pd_str s = math_fold(m, plain), hour = s, minute = PD_STR("0"), half = {"", 0};
    ptrdiff_t at;
    int h, min;
    struct math_node *c;

    if (s.len > 4 && pd_str_ends(s, PD_STR(" m"))) { /* p.m. */
        half = pd_str_sub(s, s.len - 3, s.len - 2);
        s = pd_str_sub(s, 0, s.len - 3);
    } else if (pd_str_ends(s, PD_STR("am")) || pd_str_ends(s, PD_STR("pm"))) {
        half = pd_str_sub(s, s.len - 2, s.len - 1);
        s = pd_str_sub(s, 0, s.len - 2);
    }
    s = hour = pd_str_trim(s);
    at = pd_str_find(s, PD_STR(":"));
    if (at > 0) {
        hour = pd_str_sub(s, 0, (size_t)at);
        minute = pd_str_sub(s, (size_t)at + 1, s.len);
        if (minute.len != 2)
            return NULL;
    }
    h = small_number(hour, 2);
    min = small_number(minute, 2);
    if (h < 0 || min < 0 || min > 59 || h > 23 || (!half.len && (half_days_only || at < 1)))
        return NULL;
    if (half.len) {
        if (h < 1 || h > 12 || (half.ptr[0] != 'a' && half.ptr[0] != 'p'))
            return NULL;
        h = h % 12 + (half.ptr[0] == 'p' ? 12 : 0);
    }
    c = math_node(m, MATH_CLOCK, 0);
    if (c)
        c->date[0] = h * 60 + min;
    return c;
}

/* ---- numbers in words ---------------------------------------------------------------------- */

/* Up to 999,999: "twenty one", "three hundred and five", "two thousand". */
struct math_node *math_read_number_word(struct math *m, struct pd_str folded)
{
    static const char *const small[] = {"zero",    "one",     "two",       "three",    "four",
                                        "five",    "six",     "seven",     "eight",    "nine",
                                        "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                        "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
    static const char *const tens[] = {"twenty", "thirty",  "forty",  "fifty",
                                       "sixty",  "seventy", "eighty", "ninety"};
    struct pd_str w[12];
    size_t n = split(folded, w, 12);
    long thousands = 0, sum = 0; /* of the group of three digits */
    int last = 0;                /* 1: a unit stands before, 2: a ten, 3: hundred, 4: thousand */

    if (!n || n > 12)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        long k = 0;

        if (i && i + 1 < n && last >= 3 && pd_str_eq(w[i], PD_STR("and")))
            continue;
        while (k < 20 && !pd_str_eq(w[i], pd_str_of(small[k])))
            k++;
        if (k < 20) {
            if (last == 1 || (last == 2 && (k == 0 || k > 9)))
                return NULL;
            sum += k;
            last = 1;
            continue;
        }
        for (k = 0; k < 8 && !pd_str_eq(w[i], pd_str_of(tens[k]));)
            k++;
        if (k < 8 && (last == 0 || last >= 3)) {
            sum += 20 + 10 * k;
            last = 2;
        } else if (pd_str_eq(w[i], PD_STR("hundred")) && last == 1 && sum < 10) {
            sum *= 100;
            last = 3;
        } else if (pd_str_eq(w[i], PD_STR("thousand")) && last && last < 4 && !thousands) {
            thousands = sum;
            sum = 0;
            last = 4;
        } else {
            return NULL;
        }
    }
    return math_integer(m, thousands * 1000 + sum);
}

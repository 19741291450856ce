/* cJSON builds the tree, but it is lenient: it takes control characters as white space, numbers
 * like 01 and strings with \u0000 (which then end early). So check_text() walks the text first by
 * the grammar of RFC 8259, and check_tree() looks afterwards at what only decoded values can tell.
 */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX     64
#define NUMBER_MAX    63                 /* cJSON cuts numbers that are longer */
#define EXACT_INT_MAX 9007199254740992.0 /* 2^53: beyond it doubles skip integers */

/* ---- reading: the text ---- */

struct scan {
    const char *start, *p, *end;
    int depth;
    const char *why;         /* the first complaint, about the text at p */
    size_t n_values;         /* begun so far, from the outside in */
    size_t wanted;           /* the number of a value that is looked for */
    const char *key, *found; /* of the value that comes next; where the wanted one stands */
};

static bool complain(struct scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return false;
}

static bool at(const struct scan *s, char c)
{
    return s->p < s->end && *s->p == c;
}

static bool at_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static void skip_space(struct scan *s)
{
    while (at(s, ' ') || at(s, '\t') || at(s, '\n') || at(s, '\r'))
        s->p++;
}

static bool skip_digits(struct scan *s)
{
    if (!at_digit(s))
        return complain(s, "a digit is missing");
    while (at_digit(s))
        s->p++;
    return true;
}

static bool check_number(struct scan *s)
{
    const char *from = s->p;

    if (at(s, '-'))
        s->p++;
    if (at(s, '0')) {
        s->p++;
        if (at_digit(s))
            return complain(s, "a number must not start with 0");
    } else if (!skip_digits(s)) {
        return false;
    }
    if (at(s, '.')) {
        s->p++;
        if (!skip_digits(s))
            return false;
    }
    if (at(s, 'e') || at(s, 'E')) {
        s->p++;
        if (at(s, '+') || at(s, '-'))
            s->p++;
        if (!skip_digits(s))
            return false;
    }
    return s->p - from <= NUMBER_MAX || complain(s, "the number has too many digits");
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits after \u. */
static bool scan_hex4(struct scan *s, unsigned *out)
{
    unsigned v = 0;

    for (int i = 0; i < 4; i++) {
        int digit = s->p < s->end ? hex_value(*s->p) : -1;

        if (digit < 0)
            return complain(s, "\\u needs four hexadecimal digits");
        v = v << 4 | (unsigned)digit;
        s->p++;
    }
    *out = v;
    return true;
}

/* What follows a backslash. */
static bool check_escape(struct scan *s)
{
    unsigned unit, second;

    if (s->p == s->end)
        return complain(s, "the string has no end");
    if (*s->p != 'u') {
        if (*s->p == '\0' || !strchr("\"\\/bfnrt", *s->p))
            return complain(s, "unknown escape");
        s->p++;
        return true;
    }
    s->p++;
    if (!scan_hex4(s, &unit))
        return false;
    if (unit == 0)
        return complain(s, "\\u0000 is not allowed");
    if (unit < 0xD800 || unit > 0xDFFF)
        return true;
    if (unit > 0xDBFF || s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
        return complain(s, "half a surrogate pair");
    s->p += 2;
    if (!scan_hex4(s, &second))
        return false;
    return (second >= 0xDC00 && second <= 0xDFFF) || complain(s, "half a surrogate pair");
}

static bool check_string(struct scan *s)
{
    if (!at(s, '"'))
        return complain(s, "a string is missing");
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        if ((unsigned char)*s->p < 0x20)
            return complain(s, "control characters in a string must be escaped");
        if (*s->p++ == '\\' && !check_escape(s))
            return false;
    }
    if (s->p == s->end)
        return complain(s, "the string has no end");
    s->p++;
    return true;
}

static bool check_word(struct scan *s, struct pd_str word)
{
    if ((size_t)(s->end - s->p) < word.len || memcmp(s->p, word.ptr, word.len) != 0)
        return complain(s, "a value is missing");
    s->p += word.len;
    return true;
}

static bool check_value(struct scan *s);

/* The inside of an object or an array, from its opening bracket to the closing one. */
static bool check_members(struct scan *s, bool is_object)
{
    const char close = is_object ? '}' : ']';

    if (++s->depth > DEPTH_MAX)
        return complain(s, "nested deeper than 64 levels");
    s->p++;
    skip_space(s);
    if (!at(s, close)) {
        for (;;) {
            if (is_object) {
                skip_space(s);
                s->key = s->p;
                if (!check_string(s))
                    return false;
                skip_space(s);
                if (!at(s, ':'))
                    return complain(s, "':' is missing");
                s->p++;
            }
            if (!check_value(s))
                return false;
            if (!at(s, ','))
                break;
            s->p++;
        }
        if (!at(s, close))
            return complain(s, is_object ? "',' or '}' is missing" : "',' or ']' is missing");
    }
    s->p++;
    s->depth--;
    return true;
}

/* A value with the white space around it. The recursion ends at DEPTH_MAX. */
static bool check_value(struct scan *s)
{
    bool ok;

    skip_space(s);
    if (s->p == s->end)
        return complain(s, "a value is missing");
    if (s->n_values++ == s->wanted)
        s->found = s->key ? s->key : s->p;
    s->key = NULL;
    switch (*s->p) {
    case '{':
    case '[':
        ok = check_members(s, *s->p == '{');
        break;
    case '"':
        ok = check_string(s);
        break;
    case 't':
        ok = check_word(s, PD_STR("true"));
        break;
    case 'f':
        ok = check_word(s, PD_STR("false"));
        break;
    case 'n':
        ok = check_word(s, PD_STR("null"));
        break;
    default:
        ok = at(s, '-') || at_digit(s) ? check_number(s) : complain(s, "a value is missing");
    }
    if (ok)
        skip_space(s);
    return ok;
}

static struct scan scan_of(struct pd_str text)
{
    return (struct scan){.start = text.ptr, .p = text.ptr, .end = text.ptr + text.len};
}

static struct pd_json_place place_of(const char *start, const char *at)
{
    struct pd_json_place place = {1, 1};

    for (const char *p = start; p < at; p++) {
        place.column = *p == '\n' ? 1 : place.column + 1;
        place.line += *p == '\n';
    }
    return place;
}

static int check_text(struct pd_str text, struct pd_err *err)
{
    struct scan s = scan_of(text);
    struct pd_json_place place;

    if (!pd_utf8_valid(text))
        return pd_fail(err, PD_EFORMAT, "not JSON: the text is not valid UTF-8");
    if (check_value(&s) && (s.p == s.end || complain(&s, "text after the end of the value")))
        return 0;
    place = place_of(s.start, s.p);
    return pd_fail(err, PD_EFORMAT, "not JSON: %s at line %zu, column %zu", s.why, place.line,
                   place.column);
}

int pd_json_uncomment(char *text, size_t n, struct pd_err *err)
{
    char *end = text + n, *p = text;
    bool quoted = false;

    while (p < end) {
        char *start = p, second = p + 1 < end ? p[1] : '\0';
        bool line = !quoted && *p == '/' && second == '/';

        if (quoted && *p == '\\' && second != '\0') {
            p += 2;
            continue;
        }
        quoted ^= *p == '"';
        if (!line && (quoted || *p != '/' || second != '*')) {
            p++;
            continue;
        }
        if (line)
            p = memchr(p, '\n', (size_t)(end - p));
        else if ((p = memmem(p + 2, (size_t)(end - p) - 2, "*/", 2)) != NULL)
            p += 2;
        if (!p && !line) {
            struct pd_json_place place = place_of(text, start);

            return pd_fail(err, PD_EFORMAT,
                           "not JSON: the comment at line %zu, column %zu has no end", place.line,
                           place.column);
        }
        p = p ? p : end;
        for (; start < p; start++)
            *start = *start == '\n' ? '\n' : ' ';
    }
    return 0;
}

/* ---- reading: the tree ---- */

static int compare_keys(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

/* v's number in the order of the text; the count of all values of root when it is none of them. */
static bool count_to(const cJSON *root, const cJSON *v, size_t *io_n)
{
    if (root == v)
        return true;
    ++*io_n;
    for (const cJSON *child = root->child; child; child = child->next)
        if (count_to(child, v, io_n))
            return true;
    return false;
}

struct pd_json_place pd_json_find(struct pd_str text, const struct pd_json *root,
                                  const struct pd_json *v)
{
    struct scan s = scan_of(text);

    (void)count_to((const cJSON *)root, (const cJSON *)v, &s.wanted);
    (void)check_value(&s);
    return place_of(s.start, s.found ? s.found : s.start);
}

struct tree {
    struct pd_str text;
    const cJSON *root;
    struct pd_err *err;
};

static int twice(const struct tree *t, const cJSON *object, const char *key)
{
    const cJSON *second = NULL;
    struct pd_json_place place;

    for (const cJSON *m = object->child; m; m = m->next)
        if (strcmp(m->string, key) == 0)
            second = m;
    place = pd_json_find(t->text, (const struct pd_json *)t->root, (const struct pd_json *)second);
    return pd_fail(t->err, PD_EFORMAT,
                   "the JSON object has the key '%.100s' twice: at line %zu, column %zu again", key,
                   place.line, place.column);
}

/* Sorts first: an object from the network may have many members. */
static int check_keys(const struct tree *t, const cJSON *object)
{
    size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
    const char **keys;
    int rc = 0;

    if (n < 2)
        return 0;
    keys = calloc(n, sizeof(*keys));
    if (!keys)
        return pd_fail(t->err, PD_ENOMEM, "out of memory while reading JSON");
    for (const cJSON *member = object->child; member; member = member->next)
        keys[i++] = member->string;
    qsort(keys, n, sizeof(*keys), compare_keys);
    for (i = 1; i < n && rc == 0; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0)
            rc = twice(t, object, keys[i]);
    }
    free(keys);
    return rc;
}

static int check_tree(const struct tree *t, const cJSON *v)
{
    int rc = 0;

    if (cJSON_IsNumber(v) && !isfinite(v->valuedouble))
        return pd_fail(t->err, PD_EFORMAT, "a number in the JSON text is too large");
    if (cJSON_IsObject(v))
        rc = check_keys(t, v);
    for (const cJSON *child = v->child; child && rc == 0; child = child->next)
        rc = check_tree(t, child);
    return rc;
}

int pd_json_parse(struct pd_str text, struct pd_json **out_root, struct pd_err *err)
{
    const char *end = NULL;
    cJSON *root;
    int rc;

    if (text.len == 0)
        text = PD_STR(""); /* so that ptr is never NULL */
    rc = check_text(text, err);
    if (rc < 0)
        return rc;
    root = cJSON_ParseWithLengthOpts(text.ptr, text.len, &end, 0);
    if (!root) /* the text is good, so this is all that is left */
        return pd_fail(err, PD_ENOMEM, "out of memory while reading JSON");
    /* cJSON must have seen the same value as check_text(), to its last byte. */
    if (pd_str_trim((struct pd_str){end, (size_t)(text.ptr + text.len - end)}).len > 0)
        rc = pd_fail(err, PD_EFORMAT, "not JSON: text after the end of the value");
    else
        rc = check_tree(&(struct tree){text, root, err}, root);
    if (rc < 0) {
        cJSON_Delete(root);
        return rc;
    }
    *out_root = (struct pd_json *)root;
    return 0;
}

void pd_json_free(struct pd_json *root)
{
    cJSON_Delete((cJSON *)root); /* takes NULL */
}

/* ---- looking at values; all take NULL, so that look-ups chain ---- */

static const cJSON *to_cjson(const struct pd_json *v)
{
    return (const cJSON *)v;
}

static const struct pd_json *from_cjson(const cJSON *v)
{
    return (const struct pd_json *)v;
}

const struct pd_json *pd_json_get(const struct pd_json *obj, const char *key)
{
    if (!pd_json_is_object(obj))
        return NULL;
    return from_cjson(cJSON_GetObjectItemCaseSensitive(to_cjson(obj), key));
}

size_t pd_json_size(const struct pd_json *arr_or_obj)
{
    return (size_t)cJSON_GetArraySize(to_cjson(arr_or_obj));
}

const struct pd_json *pd_json_at(const struct pd_json *arr_or_obj, size_t i)
{
    return i <= INT_MAX ? from_cjson(cJSON_GetArrayItem(to_cjson(arr_or_obj), (int)i)) : NULL;
}

const struct pd_json *pd_json_first(const struct pd_json *arr_or_obj)
{
    return arr_or_obj ? from_cjson(to_cjson(arr_or_obj)->child) : NULL;
}

const struct pd_json *pd_json_next(const struct pd_json *v)
{
    return v ? from_cjson(to_cjson(v)->next) : NULL;
}

const char *pd_json_key(const struct pd_json *v)
{
    return v ? to_cjson(v)->string : NULL;
}

const char *pd_json_string(const struct pd_json *v)
{
    return cJSON_IsString(to_cjson(v)) ? to_cjson(v)->valuestring : NULL;
}

bool pd_json_is_object(const struct pd_json *v)
{
    return cJSON_IsObject(to_cjson(v));
}

bool pd_json_is_array(const struct pd_json *v)
{
    return cJSON_IsArray(to_cjson(v));
}

bool pd_json_is_null(const struct pd_json *v)
{
    return cJSON_IsNull(to_cjson(v));
}

bool pd_json_number(const struct pd_json *v, double *out)
{
    if (!cJSON_IsNumber(to_cjson(v)))
        return false;
    *out = to_cjson(v)->valuedouble;
    return true;
}

bool pd_json_int(const struct pd_json *v, int64_t *out)
{
    double d;

    if (!pd_json_number(v, &d) || fabs(d) > EXACT_INT_MAX || (double)(int64_t)d != d)
        return false;
    *out = (int64_t)d;
    return true;
}

bool pd_json_bool(const struct pd_json *v, bool *out)
{
    if (!cJSON_IsBool(to_cjson(v)))
        return false;
    *out = cJSON_IsTrue(to_cjson(v));
    return true;
}

/* ---- writing: errors stick in the buffer ---- */

void pd_jw_init(struct pd_jw *w, struct pd_buf *out)
{
    *w = (struct pd_jw){.out = out};
}

/* Before every value and key. */
static void separate(struct pd_jw *w)
{
    if (w->comma && !w->after_key)
        pd_buf_addc(w->out, ',');
    w->after_key = false;
    w->comma = true;
}

static void begin(struct pd_jw *w, char bracket)
{
    separate(w);
    pd_buf_addc(w->out, bracket);
    w->comma = false;
}

static void end(struct pd_jw *w, char bracket)
{
    pd_buf_addc(w->out, bracket);
    w->comma = true; /* the whole is a value of the level above */
}

void pd_jw_object(struct pd_jw *w)
{
    begin(w, '{');
}

void pd_jw_end_object(struct pd_jw *w)
{
    end(w, '}');
}

void pd_jw_array(struct pd_jw *w)
{
    begin(w, '[');
}

void pd_jw_end_array(struct pd_jw *w)
{
    end(w, ']');
}

/* Bytes at i that form one UTF-8 character, 0 when none does. */
static size_t char_bytes(struct pd_str s, size_t i)
{
    for (size_t n = 1; n <= 4 && n <= s.len - i; n++) {
        if (pd_utf8_valid(pd_str_sub(s, i, i + n)))
            return n;
    }
    return 0;
}

static void write_escaped(struct pd_buf *out, char c)
{
    switch (c) {
    case '"':
        pd_buf_addz(out, "\\\"");
        break;
    case '\\':
        pd_buf_addz(out, "\\\\");
        break;
    case '\n':
        pd_buf_addz(out, "\\n");
        break;
    case '\r':
        pd_buf_addz(out, "\\r");
        break;
    case '\t':
        pd_buf_addz(out, "\\t");
        break;
    default:
        pd_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
    }
}

static void write_string(struct pd_buf *out, struct pd_str s)
{
    static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
    size_t i = 0, plain = 0; /* s[plain..i) needs no change and is copied in one go */

    pd_buf_addc(out, '"');
    while (i < s.len) {
        unsigned char c = (unsigned char)s.ptr[i];
        size_t n = char_bytes(s, i);

        if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        pd_buf_adds(out, pd_str_sub(s, plain, i));
        /* NUL too: the reader refuses \u0000, and we must be able to read what we wrote. */
        if (n == 0 || c == '\0')
            pd_buf_addz(out, replacement);
        else
            write_escaped(out, (char)c);
        plain = ++i;
    }
    pd_buf_adds(out, pd_str_sub(s, plain, i));
    pd_buf_addc(out, '"');
}

void pd_jw_key(struct pd_jw *w, const char *key)
{
    separate(w);
    write_string(w->out, pd_str_of(key));
    pd_buf_addc(w->out, ':');
    w->after_key = true;
}

void pd_jw_str(struct pd_jw *w, struct pd_str s)
{
    separate(w);
    write_string(w->out, s);
}

void pd_jw_strz(struct pd_jw *w, const char *z)
{
    if (z)
        pd_jw_str(w, pd_str_of(z));
    else
        pd_jw_null(w);
}

void pd_jw_int(struct pd_jw *w, int64_t v)
{
    separate(w);
    pd_buf_printf(w->out, "%lld", (long long)v);
}

void pd_jw_uint(struct pd_jw *w, uint64_t v)
{
    separate(w);
    pd_buf_printf(w->out, "%llu", (unsigned long long)v);
}

void pd_jw_double(struct pd_jw *w, double v)
{
    /* Up to 15 digits survive the way through a normal double, so %.15g finds every shorter number
     * by dropping zeros. Subnormals are less precise and have to be tried from one digit on. */
    int digits = fabs(v) < DBL_MIN ? 1 : 15;
    char text[40];

    if (!isfinite(v)) {
        pd_jw_null(w);
        return;
    }
    for (; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    separate(w);
    pd_buf_addz(w->out, text);
}

void pd_jw_bool(struct pd_jw *w, bool v)
{
    separate(w);
    pd_buf_addz(w->out, v ? "true" : "false");
}

void pd_jw_null(struct pd_jw *w)
{
    separate(w);
    pd_buf_addz(w->out, "null");
}

void pd_jw_raw(struct pd_jw *w, struct pd_str json)
{
    separate(w);
    pd_buf_adds(w->out, json);
}

void pd_jw_value(struct pd_jw *w, const struct pd_json *v) /* depth ≤ DEPTH_MAX: it was parsed */
{
    int64_t i;
    double d;
    bool b;

    if (pd_json_is_object(v) || pd_json_is_array(v)) {
        bool is_object = pd_json_is_object(v);

        begin(w, is_object ? '{' : '[');
        for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
            if (is_object)
                pd_jw_key(w, pd_json_key(m));
            pd_jw_value(w, m);
        }
        end(w, is_object ? '}' : ']');
    } else if (pd_json_string(v)) {
        pd_jw_strz(w, pd_json_string(v));
    } else if (pd_json_int(v, &i)) {
        pd_jw_int(w, i);
    } else if (pd_json_number(v, &d)) {
        pd_jw_double(w, d);
    } else if (pd_json_bool(v, &b)) {
        pd_jw_bool(w, b);
    } else {
        pd_jw_null(w);
    }
}

void pd_jw_put_text(struct pd_jw *w, const char *key, const char *z)
{
    pd_jw_key(w, key);
    pd_jw_strz(w, z);
}

void pd_jw_put_given(struct pd_jw *w, const char *key, const char *z)
{
    if (z)
        pd_jw_put_text(w, key, z);
}

void pd_jw_put_str(struct pd_jw *w, const char *key, struct pd_str s)
{
    pd_jw_key(w, key);
    pd_jw_str(w, s);
}

void pd_jw_put_int(struct pd_jw *w, const char *key, int64_t v)
{
    pd_jw_key(w, key);
    pd_jw_int(w, v);
}

void pd_jw_put_uint(struct pd_jw *w, const char *key, uint64_t v)
{
    pd_jw_key(w, key);
    pd_jw_uint(w, v);
}

void pd_jw_put_double(struct pd_jw *w, const char *key, double v)
{
    pd_jw_key(w, key);
    pd_jw_double(w, v);
}

void pd_jw_put_bool(struct pd_jw *w, const char *key, bool v)
{
    pd_jw_key(w, key);
    pd_jw_bool(w, v);
}

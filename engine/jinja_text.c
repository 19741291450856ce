/* Strings as Python has them: characters are code points of UTF-8 (a byte that is of none counts as
 * one), white space is Unicode's. Also the methods of strings, lists and mappings.
 *
 * Upper and lower case of text beyond ASCII would need Unicode's tables: not supported. */
#include "engine/jinja_int.h"

#include <stdio.h>

size_t jinja_char(struct pd_str s, size_t at, uint32_t *out_cp)
{
    struct pd_str rest = pd_str_sub(s, at, s.len);
    size_t n = pd_utf8_len(rest);

    *out_cp = (unsigned char)rest.ptr[0];
    if (n <= 1)
        return 1;
    *out_cp &= 0xffu >> (n + 1);
    for (size_t i = 1; i < n; i++)
        *out_cp = *out_cp << 6 | ((unsigned char)rest.ptr[i] & 0x3fu);
    return n;
}

size_t jinja_n_chars(struct pd_str s)
{
    size_t n = 0;
    uint32_t cp;

    for (size_t at = 0; at < s.len; n++)
        at += jinja_char(s, at, &cp);
    return n;
}

/* str.isspace() */
bool jinja_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static bool is_stripped(struct pd_str c, uint32_t cp, const struct pd_str *chars)
{
    uint32_t other;

    if (!chars)
        return jinja_is_space(cp);
    for (size_t at = 0, n; at < chars->len; at += n) {
        n = jinja_char(*chars, at, &other);
        if (pd_str_eq(pd_str_sub(*chars, at, at + n), c))
            return true;
    }
    return false;
}

struct jinja_text jinja_strip(struct jinja_text t, const struct pd_str *chars, enum jinja_side side)
{
    struct pd_str s = jinja_str(t);
    size_t from = 0, to = t.len;
    uint32_t cp;

    while ((side & JINJA_LEFT) && from < to) {
        size_t n = jinja_char(s, from, &cp);

        if (!is_stripped(pd_str_sub(s, from, from + n), cp, chars))
            break;
        from += n;
    }
    while ((side & JINJA_RIGHT) && from < to) {
        size_t at = to - 1;

        /* back to where the last character starts */
        while (at > from && to - at < 4 && ((unsigned char)s.ptr[at] & 0xc0) == 0x80)
            at--;
        if (at + jinja_char(pd_str_sub(s, 0, to), at, &cp) != to) {
            at = to - 1; /* a byte that is of no character */
            cp = (unsigned char)s.ptr[at];
        }
        if (!is_stripped(pd_str_sub(s, at, to), cp, chars))
            break;
        to = at;
    }
    t.ptr += from;
    if (t.origin)
        t.origin += from;
    t.len = to - from;
    return t;
}

/* ---- case ---------------------------------------------------------------------------------------
 */

/* Punctuation, symbols, and scripts without case; of what else is beyond ASCII nothing is known. */
static bool is_caseless(uint32_t cp)
{
    return (cp >= 0x80 && cp <= 0xa9) || (cp >= 0x2000 && cp <= 0x206f) ||
           (cp >= 0x2190 && cp <= 0x23ff) || (cp >= 0x2500 && cp <= 0x2bff) ||
           (cp >= 0x3000 && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7a3) ||
           (cp >= 0x1f300 && cp <= 0x1faff);
}

static bool is_lower(uint32_t cp)
{
    return cp >= 'a' && cp <= 'z';
}

static bool is_upper(uint32_t cp)
{
    return cp >= 'A' && cp <= 'Z';
}

int jinja_case(struct jinja *j, struct jinja_text t, enum jinja_case how, struct jinja_text *out)
{
    char *ptr = jinja_alloc(j, t.len, 1);
    bool first = true; /* of the text, of a word */
    uint32_t cp;

    if (!ptr)
        return j->rc;
    for (size_t at = 0, n; at < t.len; at += n) {
        bool upper = how == JINJA_UPPER || (how != JINJA_LOWER && first);

        n = jinja_char(jinja_str(t), at, &cp);
        if (cp >= 0x80 && !is_caseless(cp))
            return jinja_fail(j, PD_EFORMAT,
                              "changing the case of text that is not ASCII is not supported");
        memcpy(ptr + at, t.ptr + at, n);
        if (upper ? is_lower(cp) : is_upper(cp))
            ptr[at] = (char)(cp ^ 0x20);
        if (how == JINJA_TITLE)
            first = !is_lower(cp) && !is_upper(cp);
        else if (how == JINJA_TITLE_WORDS)
            first = jinja_is_space(cp) || (cp < 0x80 && cp > 0 && strchr("-({[<", (int)cp));
        else
            first = false;
    }
    *out = t;
    out->ptr = ptr;
    return jinja_step(j, t.len);
}

/* ---- searching and cutting ----------------------------------------------------------------------
 */

int jinja_replace(struct jinja *j, struct jinja_text t, struct jinja_text from,
                  struct jinja_text to, int64_t count, struct jinja_text *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    size_t at = 0;
    uint32_t cp;

    while (count != 0 && j->rc == 0) {
        struct pd_str rest = pd_str_sub(jinja_str(t), at, t.len);
        ptrdiff_t found = pd_str_find(rest, jinja_str(from));
        size_t n;

        if (found < 0)
            break;
        n = (size_t)found;
        jinja_addt(j, &b, jinja_sub(t, at, at + n));
        jinja_addt(j, &b, to);
        at += n + from.len;
        count -= count > 0;
        if (from.len == 0) { /* before each character, and at the end */
            if (at == t.len)
                break;
            n = jinja_char(jinja_str(t), at, &cp);
            jinja_addt(j, &b, jinja_sub(t, at, at + n));
            at += n;
        }
    }
    jinja_addt(j, &b, jinja_sub(t, at, t.len));
    *out = jinja_built(&b);
    out->safe = t.safe;
    return jinja_step(j, t.len);
}

int jinja_escape(struct jinja *j, struct jinja_text t, struct jinja_text *out)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct jinja_builder b = {NULL, NULL, 0, 0};
    size_t done = 0;

    *out = t;
    out->safe = true;
    if (t.safe)
        return 0;
    for (size_t at = 0; at < t.len; at++) {
        const char *known = t.ptr[at] != '\0' ? strchr(from, t.ptr[at]) : NULL;

        if (!known)
            continue;
        jinja_addt(j, &b, jinja_sub(t, done, at));
        jinja_adds(j, &b, pd_str_of(to[known - from]));
        done = at + 1;
    }
    jinja_addt(j, &b, jinja_sub(t, done, t.len));
    *out = jinja_built(&b);
    out->safe = true;
    return j->rc;
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= 0x0a && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

int jinja_lines(struct jinja *j, struct jinja_text t, struct jinja_value *out)
{
    struct jinja_value list = jinja_list(j);
    size_t from = 0;
    uint32_t cp;

    for (size_t at = 0, n; at < t.len && j->rc == 0; at += n) {
        n = jinja_char(jinja_str(t), at, &cp);
        if (!is_line_end(cp))
            continue;
        jinja_append(j, list, jinja_of_text(jinja_sub(t, from, at)));
        if (cp == '\r' && at + 1 < t.len && t.ptr[at + 1] == '\n')
            n++;
        from = at + n;
    }
    if (from < t.len)
        jinja_append(j, list, jinja_of_text(jinja_sub(t, from, t.len)));
    *out = list;
    return jinja_step(j, t.len);
}

/* Splits at white space, at most `most` times (negative: all), from the left or from the right. */
static void split_space(struct jinja *j, struct jinja_text t, int64_t most, bool right,
                        struct jinja_value list)
{
    enum jinja_side side = right ? JINJA_RIGHT : JINJA_LEFT;
    uint32_t cp;

    for (t = jinja_strip(t, NULL, side); t.len > 0 && most != 0 && j->rc == 0;
         t = jinja_strip(t, NULL, side), most--) {
        size_t word = right ? t.len : 0, n;

        if (right) { /* the last word starts behind the last white space */
            for (size_t at = word = 0; at < t.len; at += n) {
                n = jinja_char(jinja_str(t), at, &cp);
                if (jinja_is_space(cp))
                    word = at + n;
            }
            jinja_append(j, list, jinja_of_text(jinja_sub(t, word, t.len)));
            t = jinja_sub(t, 0, word);
        } else {
            for (; word < t.len; word += n) {
                n = jinja_char(jinja_str(t), word, &cp);
                if (jinja_is_space(cp))
                    break;
            }
            jinja_append(j, list, jinja_of_text(jinja_sub(t, 0, word)));
            t = jinja_sub(t, word, t.len);
        }
        if (jinja_step(j, right ? t.len : word) < 0)
            return;
    }
    if (t.len > 0)
        jinja_append(j, list, jinja_of_text(t));
}

static void split_at(struct jinja *j, struct jinja_text t, struct jinja_text at, int64_t most,
                     bool right, struct jinja_value list)
{
    for (; most != 0 && j->rc == 0; most--) {
        ptrdiff_t found = right ? pd_str_rfind(jinja_str(t), jinja_str(at))
                                : pd_str_find(jinja_str(t), jinja_str(at));
        size_t n;

        if (found < 0)
            break;
        n = (size_t)found;
        if (right) {
            jinja_append(j, list, jinja_of_text(jinja_sub(t, n + at.len, t.len)));
            jinja_step(j, t.len - n);
            t = jinja_sub(t, 0, n);
        } else {
            jinja_append(j, list, jinja_of_text(jinja_sub(t, 0, n)));
            jinja_step(j, n);
            t = jinja_sub(t, n + at.len, t.len);
        }
    }
    jinja_append(j, list, jinja_of_text(t));
}

static int split(struct jinja *j, struct jinja_text t, const struct jinja_call *call, bool right,
                 struct jinja_value *out)
{
    static const char *const names[] = {"sep", "maxsplit", NULL};
    struct jinja_value args[2], list = jinja_list(j);
    int64_t most = -1;
    int rc = jinja_bind(j, "split", call, names, 0, args);

    if (rc < 0)
        return rc;
    if (args[1].type == JINJA_INT)
        most = args[1].integer;
    else if (!jinja_absent(&args[1]))
        return jinja_fail(j, PD_EINVAL, "split: maxsplit is a %s", jinja_type_name(&args[1]));
    if (jinja_absent(&args[0]) || args[0].type == JINJA_NONE)
        split_space(j, t, most, right, list);
    else if (args[0].type == JINJA_STRING && args[0].text.len > 0)
        split_at(j, t, args[0].text, most, right, list);
    else
        return jinja_fail(j, PD_EINVAL, "split: the separator must be a string that is not empty");
    if (j->rc < 0)
        return j->rc;
    for (size_t a = 0, b = list.list->n; right && a + 1 < b; a++) {
        struct jinja_value swap = list.list->items[a];

        list.list->items[a] = list.list->items[--b];
        list.list->items[b] = swap;
    }
    *out = list;
    return jinja_step(j, t.len);
}

/* ---- methods ------------------------------------------------------------------------------------
 */

static int want_string(struct jinja *j, const char *what, const struct jinja_value *v)
{
    return v->type == JINJA_STRING
               ? 0
               : jinja_fail(j, PD_EINVAL, "%s: a %s is no string", what, jinja_type_name(v));
}

static int string_strip(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                        enum jinja_side side, struct jinja_value *out)
{
    static const char *const names[] = {"chars", NULL};
    struct jinja_value chars;
    struct pd_str set;
    int rc = jinja_bind(j, "strip", call, names, 0, &chars);

    if (rc == 0 && !jinja_absent(&chars) && chars.type != JINJA_NONE)
        rc = want_string(j, "strip", &chars);
    if (rc < 0)
        return rc;
    if (chars.type == JINJA_STRING)
        set = jinja_str(chars.text);
    *out = jinja_of_text(jinja_strip(t, chars.type == JINJA_STRING ? &set : NULL, side));
    return jinja_step(j, t.len - out->text.len);
}

static int string_affix(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                        bool start, struct jinja_value *out)
{
    static const char *const names[] = {"prefix", NULL};
    struct jinja_value affix;
    const struct jinja_value *all = &affix;
    size_t n = 1;
    bool is = false;
    int rc = jinja_bind(j, start ? "startswith" : "endswith", call, names, 1, &affix);

    if (rc == 0 && affix.type == JINJA_TUPLE)
        rc = jinja_items(j, &affix, &all, &n);
    for (size_t i = 0; rc == 0 && i < n && !is; i++) {
        rc = want_string(j, start ? "startswith" : "endswith", &all[i]);
        if (rc == 0)
            is = start ? pd_str_starts(jinja_str(t), jinja_str(all[i].text))
                       : pd_str_ends(jinja_str(t), jinja_str(all[i].text));
    }
    *out = jinja_bool(is);
    return rc < 0 ? rc : jinja_step(j, 0);
}

static int string_find(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                       struct pd_str name, struct jinja_value *out)
{
    static const char *const names[] = {"sub", NULL};
    struct pd_str s = jinja_str(t), sub;
    struct jinja_value v;
    ptrdiff_t found;
    int rc = jinja_bind(j, "find", call, names, 1, &v);

    if (rc == 0)
        rc = want_string(j, "find", &v);
    if (rc < 0)
        return rc;
    sub = jinja_str(v.text);
    found = name.ptr[0] == 'r' ? pd_str_rfind(s, sub) : pd_str_find(s, sub);
    if (found < 0 && pd_str_eq(name, PD_STR("index")))
        return jinja_fail(j, PD_EINVAL, "index: the substring is not there");
    if (found >= 0)
        found = (ptrdiff_t)jinja_n_chars(pd_str_sub(s, 0, (size_t)found));
    *out = jinja_int(found);
    return jinja_step(j, t.len);
}

static int string_count(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                        struct jinja_value *out)
{
    static const char *const names[] = {"sub", NULL};
    struct jinja_value v;
    struct pd_str rest = jinja_str(t);
    int64_t n = 0;
    ptrdiff_t at;
    int rc = jinja_bind(j, "count", call, names, 1, &v);

    if (rc == 0)
        rc = want_string(j, "count", &v);
    if (rc < 0)
        return rc;
    if (v.text.len == 0)
        n = (int64_t)jinja_n_chars(rest) + 1;
    while (v.text.len > 0 && (at = pd_str_find(rest, jinja_str(v.text))) >= 0) {
        rest = pd_str_sub(rest, (size_t)at + v.text.len, rest.len);
        n++;
    }
    *out = jinja_int(n);
    return jinja_step(j, t.len);
}

static int string_replace(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                          struct jinja_value *out)
{
    static const char *const names[] = {"old", "new", "count", NULL};
    struct jinja_value args[3];
    int rc = jinja_bind(j, "replace", call, names, 2, args);

    if (rc == 0)
        rc = want_string(j, "replace", &args[0]);
    if (rc == 0)
        rc = want_string(j, "replace", &args[1]);
    if (rc == 0 && !jinja_absent(&args[2]) && args[2].type != JINJA_INT)
        rc = jinja_fail(j, PD_EINVAL, "replace: the count is a %s", jinja_type_name(&args[2]));
    if (rc < 0)
        return rc;
    out->type = JINJA_STRING;
    return jinja_replace(j, t, args[0].text, args[1].text,
                         args[2].type == JINJA_INT ? args[2].integer : -1, &out->text);
}

/* removeprefix, removesuffix */
static int string_remove(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                         bool start, struct jinja_value *out)
{
    static const char *const names[] = {"prefix", NULL};
    struct jinja_value v;
    int rc = jinja_bind(j, "removeprefix", call, names, 1, &v);

    if (rc == 0)
        rc = want_string(j, "removeprefix", &v);
    if (rc < 0)
        return rc;
    if (start && pd_str_starts(jinja_str(t), jinja_str(v.text)))
        t = jinja_sub(t, v.text.len, t.len);
    else if (!start && pd_str_ends(jinja_str(t), jinja_str(v.text)))
        t = jinja_sub(t, 0, t.len - v.text.len);
    *out = jinja_of_text(t);
    return 0;
}

static int string_join(struct jinja *j, struct jinja_text t, const struct jinja_call *call,
                       struct jinja_value *out)
{
    static const char *const names[] = {"iterable", NULL};
    struct jinja_builder b = {NULL, NULL, 0, 0};
    const struct jinja_value *items;
    struct jinja_value v;
    size_t n;
    int rc = jinja_bind(j, "join", call, names, 1, &v);

    if (rc == 0)
        rc = jinja_items(j, &v, &items, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = want_string(j, "join", &items[i]);
        if (rc == 0 && i > 0)
            jinja_addt(j, &b, t);
        if (rc == 0)
            jinja_addt(j, &b, items[i].text);
    }
    *out = jinja_of_text(jinja_built(&b));
    return rc < 0 ? rc : j->rc;
}

static int call_string(struct jinja *j, struct jinja_text t, struct pd_str name,
                       const struct jinja_call *call, struct jinja_value *out)
{
    static const char *const nothing[] = {NULL};
    static const struct {
        const char *name;
        enum jinja_case how;
    } cases[] = {{"upper", JINJA_UPPER},
                 {"lower", JINJA_LOWER},
                 {"capitalize", JINJA_CAPITALIZE},
                 {"title", JINJA_TITLE}};
    int rc;

    if (t.safe && (pd_str_eq(name, PD_STR("join")) || pd_str_eq(name, PD_STR("replace"))))
        return jinja_fail(j, PD_EFORMAT, "%.*s of a safe string is not supported",
                          JINJA_NAME(name));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (pd_str_eq(name, pd_str_of(cases[i].name))) {
            out->type = JINJA_STRING;
            rc = jinja_bind(j, cases[i].name, call, nothing, 0, NULL);
            return rc < 0 ? rc : jinja_case(j, t, cases[i].how, &out->text);
        }
    if (pd_str_eq(name, PD_STR("strip")))
        return string_strip(j, t, call, JINJA_BOTH, out);
    if (pd_str_eq(name, PD_STR("lstrip")))
        return string_strip(j, t, call, JINJA_LEFT, out);
    if (pd_str_eq(name, PD_STR("rstrip")))
        return string_strip(j, t, call, JINJA_RIGHT, out);
    if (pd_str_eq(name, PD_STR("split")))
        return split(j, t, call, false, out);
    if (pd_str_eq(name, PD_STR("rsplit")))
        return split(j, t, call, true, out);
    if (pd_str_eq(name, PD_STR("splitlines"))) {
        rc = jinja_bind(j, "splitlines", call, nothing, 0, NULL);
        return rc < 0 ? rc : jinja_lines(j, t, out);
    }
    if (pd_str_eq(name, PD_STR("startswith")))
        return string_affix(j, t, call, true, out);
    if (pd_str_eq(name, PD_STR("endswith")))
        return string_affix(j, t, call, false, out);
    if (pd_str_eq(name, PD_STR("find")) || pd_str_eq(name, PD_STR("rfind")) ||
        pd_str_eq(name, PD_STR("index")))
        return string_find(j, t, call, name, out);
    if (pd_str_eq(name, PD_STR("count")))
        return string_count(j, t, call, out);
    if (pd_str_eq(name, PD_STR("replace")))
        return string_replace(j, t, call, out);
    if (pd_str_eq(name, PD_STR("removeprefix")))
        return string_remove(j, t, call, true, out);
    if (pd_str_eq(name, PD_STR("removesuffix")))
        return string_remove(j, t, call, false, out);
    if (pd_str_eq(name, PD_STR("join")))
        return string_join(j, t, call, out);
    return jinja_fail(j, PD_EFORMAT, "method '%.*s' of a string is not supported",
                      JINJA_NAME(name));
}

static int call_dict(struct jinja *j, const struct jinja_dict *d, struct pd_str name,
                     const struct jinja_call *call, struct jinja_value *out)
{
    static const char *const get[] = {"key", "default", NULL}, *const nothing[] = {NULL};
    struct jinja_value args[2], view;
    bool keys = pd_str_eq(name, PD_STR("keys")), values = pd_str_eq(name, PD_STR("values"));
    int rc;

    if (pd_str_eq(name, PD_STR("get"))) {
        rc = jinja_bind(j, "get", call, get, 1, args);
        if (rc == 0)
            rc = jinja_dict_get(j, d, args[0], out);
        if (rc == 0)
            *out = jinja_absent(&args[1]) ? jinja_none() : args[1];
        return rc < 0 ? rc : 0;
    }
    if (!keys && !values && !pd_str_eq(name, PD_STR("items")))
        return jinja_fail(j, PD_EFORMAT, "method '%.*s' of a mapping is not supported",
                          JINJA_NAME(name));
    rc = jinja_bind(j, "items", call, nothing, 0, NULL);
    if (rc == 0)
        rc = jinja_new_list(j, JINJA_VIEW, d->n, &view);
    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        struct jinja_value item = keys ? d->pairs[i].key : d->pairs[i].value;

        if (!keys && !values) {
            rc = jinja_new_list(j, JINJA_TUPLE, 2, &item);
            if (rc == 0) {
                jinja_append(j, item, d->pairs[i].key);
                jinja_append(j, item, d->pairs[i].value);
            }
        }
        jinja_append(j, view, item);
    }
    if (rc == 0)
        *out = view;
    return rc;
}

static int call_list(struct jinja *j, const struct jinja_list *l, struct pd_str name,
                     const struct jinja_call *call, struct jinja_value *out)
{
    static const char *const names[] = {"value", NULL};
    bool index = pd_str_eq(name, PD_STR("index"));
    struct jinja_value what;
    int64_t n = 0;
    int rc;

    if (!index && !pd_str_eq(name, PD_STR("count")))
        return jinja_fail(j, PD_EFORMAT, "method '%.*s' of a list is not supported",
                          JINJA_NAME(name));
    rc = jinja_bind(j, "count", call, names, 1, &what);
    for (size_t i = 0; rc == 0 && i < l->n; i++) {
        bool same;

        rc = jinja_equal(j, &l->items[i], &what, &same);
        if (rc == 0 && same && index) {
            *out = jinja_int((int64_t)i);
            return 0;
        }
        n += rc == 0 && same;
    }
    if (rc == 0 && index)
        rc = jinja_fail(j, PD_EINVAL, "index: the value is not in the list");
    *out = jinja_int(n);
    return rc;
}

/* Python's names, known to this interpreter or not: an attribute of a mapping is its method first,
 * and its item only then. */
bool jinja_has_method(const struct jinja_value *v, struct pd_str name)
{
    static const char string[] =
        " capitalize casefold center count encode endswith expandtabs find format format_map "
        "index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
        "isprintable isspace istitle isupper join ljust lower lstrip maketrans partition "
        "removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split "
        "splitlines startswith strip swapcase title translate upper zfill ";
    static const char list[] =
        " append clear copy count extend index insert pop remove reverse sort ";
    static const char tuple[] = " count index ";
    static const char dict[] =
        " clear copy fromkeys get items keys pop popitem setdefault update values ";
    const char *all = v->type == JINJA_STRING  ? string
                      : v->type == JINJA_LIST  ? list
                      : v->type == JINJA_TUPLE ? tuple
                      : v->type == JINJA_DICT  ? dict
                                               : "";
    struct pd_str rest = pd_str_of(all);
    ptrdiff_t at;

    while (name.len > 0 && (at = pd_str_find(rest, name)) >= 0) {
        size_t end = (size_t)at + name.len;

        if (at > 0 && rest.ptr[at - 1] == ' ' && end < rest.len && rest.ptr[end] == ' ')
            return !memchr(name.ptr, ' ', name.len);
        rest = pd_str_sub(rest, (size_t)at + 1, rest.len);
    }
    return false;
}

int jinja_call_method(struct jinja *j, const struct jinja_method *m, const struct jinja_call *call,
                      struct jinja_value *out)
{
    if (m->of.type == JINJA_STRING)
        return call_string(j, m->of.text, m->name, call, out);
    if (m->of.type == JINJA_DICT)
        return call_dict(j, m->of.dict, m->name, call, out);
    return call_list(j, m->of.list, m->name, call, out);
}

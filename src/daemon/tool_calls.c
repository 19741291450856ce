#include "daemon/tool_calls.h"

#include <stdio.h>

#include "base/json.h"

#define CALLS_MAX     128 /* of one answer */
#define ARGUMENTS_MAX ((size_t)1 << 20)
#define HERMES        "<tool_call>"
#define HERMES_END    "</tool_call>"
#define MISTRAL       "[TOOL_CALLS]"
#define LLAMA         "<|python_tag|>"

static const char *const marks[] = {HERMES, MISTRAL, LLAMA, NULL};

static struct pd_str behind(struct pd_str s, size_t n)
{
    return pd_str_sub(s, n, s.len);
}

/* Bytes of the object that s begins with, by its braces; 0: there is none. */
static size_t object_len(struct pd_str s)
{
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else
                in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            depth++;
        } else if (c == '}' && --depth == 0) {
            return i + 1;
        }
        if (depth == 0)
            return 0;
    }
    return 0;
}

static bool is_tool(const struct pd_json *tools, const char *name)
{
    for (const struct pd_json *t = pd_json_first(tools); t; t = pd_json_next(t)) {
        const char *known = pd_json_string(pd_json_get(pd_json_get(t, "function"), "name"));

        if (known && strcmp(known, name) == 0)
            return true;
    }
    return false;
}

/* {"name":…,"arguments":…} (or parameters): 1, 0 when it is something else, -1. */
static int read_call(const struct pd_json *v, struct pd_arena *a, struct tool_call *out)
{
    const char *name = pd_json_string(pd_json_get(v, "name"));
    const struct pd_json *args = pd_json_get(v, "arguments");
    struct pd_buf b = PD_BUF_INIT(ARGUMENTS_MAX);
    struct pd_jw w;

    args = args ? args : pd_json_get(v, "parameters");
    if (!name || (args && !pd_json_is_object(args) && !pd_json_string(args)))
        return 0;
    pd_jw_init(&w, &b);
    if (pd_json_string(args))
        pd_buf_addz(&b, pd_json_string(args));
    else if (args)
        pd_jw_value(&w, args);
    else
        pd_buf_addz(&b, "{}");
    out->name = pd_arena_dup(a, pd_str_of(name));
    out->arguments = pd_buf_rc(&b) < 0 ? NULL : pd_arena_dup(a, pd_buf_str(&b));
    pd_buf_done(&b);
    return out->name && out->arguments ? 1 : -1;
}

static int parse_call(struct pd_str json, const struct pd_json *tools, struct pd_arena *a,
                      struct tool_call *out)
{
    struct pd_json *v = NULL;
    int n = 0;

    if (pd_json_parse(json, &v, NULL) < 0)
        return 0;
    n = read_call(v, a, out);
    if (n > 0 && tools && !is_tool(tools, out->name))
        n = 0;
    pd_json_free(v);
    return n;
}

/* <tool_call>{…}</tool_call>, one after the other. The last may lack its end. */
static int hermes(struct pd_str text, struct pd_arena *a, struct tool_call *calls)
{
    int n = 0, rc = 1;

    while (n < CALLS_MAX && rc > 0) {
        ptrdiff_t at = pd_str_find(text, PD_STR(HERMES)), end;

        if (at < 0)
            break;
        text = behind(text, (size_t)at + sizeof HERMES - 1);
        end = pd_str_find(text, PD_STR(HERMES_END));
        rc = parse_call(pd_str_sub(text, 0, end < 0 ? text.len : (size_t)end), NULL, a, &calls[n]);
        n += rc > 0;
    }
    return rc > 0 ? n : rc; /* one that cannot be read: it is all text */
}

/* An array of calls. */
static int mistral(struct pd_str text, struct pd_arena *a, struct tool_call *calls)
{
    struct pd_json *all = NULL;
    int n = 0, rc = 1;

    if (pd_json_parse(text, &all, NULL) < 0 || !pd_json_is_array(all))
        rc = 0;
    for (const struct pd_json *v = rc ? pd_json_first(all) : NULL; v && rc > 0 && n < CALLS_MAX;
         v = pd_json_next(v)) {
        rc = read_call(v, a, &calls[n]);
        n += rc > 0;
    }
    pd_json_free(all);
    return rc > 0 ? n : rc;
}

/* Objects, with semicolons between them. */
static int llama(struct pd_str text, const struct pd_json *tools, struct pd_arena *a,
                 struct tool_call *calls)
{
    int n = 0, rc = 1;

    for (text = pd_str_trim(text); text.len && rc > 0 && n < CALLS_MAX;) {
        size_t len = object_len(text);

        rc = len ? parse_call(pd_str_sub(text, 0, len), tools, a, &calls[n]) : 0;
        n += rc > 0;
        text = pd_str_trim(behind(text, len));
        if (text.len && text.ptr[0] == ';')
            text = pd_str_trim(behind(text, 1));
    }
    return rc > 0 ? n : rc;
}

int tool_calls_parse(struct pd_str text, const char *tools, struct pd_arena *a,
                     struct tool_call **out, struct pd_str *out_content)
{
    struct tool_call *calls = pd_arena_array(a, CALLS_MAX, sizeof *calls);
    struct pd_json *known = NULL;
    ptrdiff_t at;
    int n = 0;

    *out_content = text;
    *out = calls;
    if (!calls)
        return -1;
    if ((at = pd_str_find(text, PD_STR(HERMES))) >= 0) {
        n = hermes(text, a, calls);
    } else if ((at = pd_str_find(text, PD_STR(MISTRAL))) >= 0) {
        n = mistral(pd_str_trim(behind(text, (size_t)at + sizeof MISTRAL - 1)), a, calls);
    } else {
        struct pd_str t = pd_str_trim(text);

        at = 0;
        if (pd_str_starts(t, PD_STR(LLAMA)))
            t = behind(t, sizeof LLAMA - 1);
        if (pd_json_parse(pd_str_of(tools), &known, NULL) < 0)
            return -1;
        n = llama(t, known, a, calls);
        pd_json_free(known);
    }
    if (n > 0)
        *out_content = pd_str_sub(text, 0, (size_t)at);
    return n;
}

size_t tool_calls_free(struct pd_str text)
{
    struct pd_str t = pd_str_trim(text);
    size_t sure = text.len;

    if (t.len == 0 || t.ptr[0] == '{')
        return 0;
    for (const char *const *m = marks; *m; m++) {
        struct pd_str mark = pd_str_of(*m);
        ptrdiff_t at = pd_str_find(text, mark);
        size_t n = mark.len - 1 < text.len ? mark.len - 1 : text.len;

        while (n > 0 && !pd_str_ends(text, pd_str_sub(mark, 0, n)))
            n--;
        at = at < 0 ? (ptrdiff_t)(text.len - n) : at;
        sure = (size_t)at < sure ? (size_t)at : sure;
    }
    return sure;
}

/* A tool's parameters, as part of a larger schema: references begin at their new place. */
static void put_parameters(struct pd_jw *w, const struct pd_json *v, const char *place)
{
    bool object = pd_json_is_object(v);

    if (!object && !pd_json_is_array(v)) {
        pd_jw_value(w, v);
        return;
    }
    if (object)
        pd_jw_object(w);
    else
        pd_jw_array(w);
    for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
        const char *ref = pd_json_string(m);

        if (object)
            pd_jw_key(w, pd_json_key(m));
        if (object && ref && strcmp(pd_json_key(m), "$ref") == 0 && ref[0] == '#') {
            struct pd_buf b = PD_BUF_INIT(65536);

            pd_buf_printf(&b, "%s%s", place, ref + 1);
            pd_jw_str(w, pd_buf_str(&b));
            pd_buf_done(&b);
        } else {
            put_parameters(w, m, place);
        }
    }
    if (object)
        pd_jw_end_object(w);
    else
        pd_jw_end_array(w);
}

size_t tool_calls_schema(const struct pd_json *tools, const char *name, struct pd_buf *b)
{
    struct pd_jw w;
    size_t n = 0;

    pd_jw_init(&w, b);
    pd_jw_object(&w);
    pd_jw_key(&w, "anyOf");
    pd_jw_array(&w);
    for (const struct pd_json *t = pd_json_first(tools); t; t = pd_json_next(t)) {
        const struct pd_json *f = pd_json_get(t, "function"),
                             *parameters = pd_json_get(f, "parameters");
        const char *called = pd_json_string(pd_json_get(f, "name"));
        char place[64];

        if (!called || (name && strcmp(called, name) != 0))
            continue;
        snprintf(place, sizeof place, "#/anyOf/%zu/properties/arguments", n++);
        pd_buf_addz(b, n > 1 ? "," : "");
        pd_buf_addz(b, "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":");
        pd_jw_init(&w, b);
        pd_jw_strz(&w, called);
        pd_buf_addz(b, "},\"arguments\":");
        pd_jw_init(&w, b);
        if (parameters)
            put_parameters(&w, parameters, place);
        else
            pd_buf_addz(b, "{\"type\":\"object\"}");
        pd_buf_addz(b, "},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false}");
    }
    pd_buf_addz(b, "]}");
    return n;
}

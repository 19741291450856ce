#include "core/form.h"

#include <stdlib.h>

#include "base/json.h"
#include "core/answer.h"
#include "core/steps.h"

static int by_key(const void *a, const void *b)
{
    const struct pd_json *const *x = a, *const *y = b;

    return strcmp(pd_json_key(*x), pd_json_key(*y));
}

/* v without white space, its members by name. */
static int put_canonical(struct pd_jw *w, const struct pd_json *v)
{
    size_t n = pd_json_size(v), i = 0;
    const struct pd_json **members;
    int rc = 0;

    if (pd_json_is_array(v)) {
        pd_jw_array(w);
        for (v = pd_json_first(v); v && rc == 0; v = pd_json_next(v))
            rc = put_canonical(w, v);
        pd_jw_end_array(w);
        return rc;
    }
    if (!pd_json_is_object(v)) {
        pd_jw_value(w, v);
        return 0;
    }
    members = calloc(n + 1, sizeof *members);
    if (!members)
        return PD_ENOMEM;
    for (v = pd_json_first(v); v; v = pd_json_next(v))
        members[i++] = v;
    qsort(members, n, sizeof *members, by_key);
    pd_jw_object(w);
    for (i = 0; i < n && rc == 0; i++) {
        pd_jw_key(w, pd_json_key(members[i]));
        rc = put_canonical(w, members[i]);
    }
    pd_jw_end_object(w);
    free(members);
    return rc;
}

static bool is_json(struct pd_str text)
{
    struct pd_json *v = NULL;
    bool yes = pd_json_parse(text, &v, NULL) == 0;

    pd_json_free(v);
    return yes;
}

struct pd_str pd_form_answer(const struct pd_form *f, struct pd_str line)
{
    struct pd_str after, named;
    ptrdiff_t at;

    if (!f)
        return pd_answer_extract(line);
    after = pd_str_of(f->after ? f->after : PD_THINK_END);
    at = f->schema && is_json(line) ? -1 : pd_str_find(line, after);
    if (at >= 0)
        line = pd_str_sub(line, (size_t)at + after.len, line.len);
    named = f->schema ? (struct pd_str){"", 0} : pd_answer_extract(line);
    return named.len ? named : pd_str_trim(line);
}

int pd_form_key(const struct pd_form *f, struct pd_str answer, struct pd_buf *out)
{
    struct pd_json *v = NULL;
    struct pd_jw w;
    int rc;

    if (!f || !f->schema)
        return pd_answer_key(answer, out);
    /* what cJSON does not take, a member twice for one, stands for itself */
    if (pd_json_parse(answer, &v, NULL) < 0)
        return f->names ? pd_answer_key(answer, out) : pd_buf_adds(out, answer);
    if (f->names) {
        const char *named = pd_json_string(pd_json_get(v, f->names));

        rc = pd_answer_key(named ? pd_str_of(named) : answer, out);
        pd_json_free(v);
        return rc;
    }
    pd_jw_init(&w, out);
    rc = put_canonical(&w, v);
    pd_json_free(v);
    return rc < 0 ? rc : pd_buf_rc(out);
}

bool pd_form_is_ahead(const struct pd_form *f, struct pd_str line)
{
    return f->after && (!f->begin || pd_str_starts(line, pd_str_of(f->begin))) &&
           pd_str_find(line, pd_str_of(f->after)) < 0;
}

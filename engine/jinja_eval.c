/* The evaluator: walks the tree. Every node pays a step, nesting is counted, and errors carry the
 * line of the innermost node. Variables live in scopes: the template's, and one each for a turn of
 * a loop, a call of a macro, a `with`. */
#include "engine/jinja_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FUNCTION_NAMESPACE, FUNCTION_RANGE, FUNCTION_DICT, FUNCTION_RAISE, FUNCTION_OTHER };

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct jinja_loop {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* around the loop: where its condition finds its variables */
    const struct jinja_value *source;
    size_t n_source, at_source;
    struct jinja_value *items; /* of the source, those that meet the condition, as far as known */
    size_t n_items;
    size_t index;
};

static int eval(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                struct jinja_value *out);
static int run(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
               struct jinja_builder *out, enum flow *flow);

/* ---- bounds and errors --------------------------------------------------------------------------
 */

int jinja_fail(struct jinja *j, enum pd_code code, const char *fmt, ...)
{
    char text[sizeof(j->err.text)];
    va_list args;

    if (j->rc < 0)
        return j->rc;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    j->rc = pd_fail(&j->err, code, "line %u: %s", j->line, text);
    return j->rc;
}

int jinja_no_memory(struct jinja *j)
{
    return jinja_fail(j, PD_ELIMIT, "the template needs more than %zu MiB of memory",
                      JINJA_MEMORY_MAX_BYTES >> 20);
}

void *jinja_alloc(struct jinja *j, size_t n, size_t elem_bytes)
{
    void *p = j->rc < 0 ? NULL : pd_arena_array(&j->arena, n, elem_bytes);

    if (!p)
        jinja_no_memory(j);
    return p;
}

int jinja_step(struct jinja *j, size_t n_bytes)
{
    j->steps += 1 + n_bytes / 64;
    if (j->steps > JINJA_STEPS_MAX)
        return jinja_fail(j, PD_ELIMIT, "the template takes more than %llu steps",
                          (unsigned long long)JINJA_STEPS_MAX);
    return j->rc;
}

int jinja_enter(struct jinja *j)
{
    if (j->rc < 0)
        return j->rc;
    if (j->depth == JINJA_DEPTH_MAX)
        return jinja_fail(j, PD_ELIMIT, "nested more than %u deep", JINJA_DEPTH_MAX);
    j->depth++;
    return 0;
}

void jinja_leave(struct jinja *j)
{
    j->depth--;
}

/* ---- variables ----------------------------------------------------------------------------------
 */

static struct jinja_binding *find(struct jinja *j, struct jinja_scope *s, struct pd_str name)
{
    for (struct jinja_binding *b = s->vars; b; b = b->next) {
        j->steps++;
        if (pd_str_eq(b->name, name))
            return b;
    }
    return NULL;
}

static void bind(struct jinja *j, struct jinja_scope *s, struct pd_str name,
                 struct jinja_value value)
{
    struct jinja_binding *b = find(j, s, name);

    if (!b) {
        b = jinja_alloc(j, 1, sizeof(*b));
        if (!b)
            return;
        b->name = name;
        b->next = s->vars;
        s->vars = b;
    }
    b->value = value;
}

void jinja_set(struct jinja *j, const char *name, struct jinja_value value)
{
    struct jinja_value copy = jinja_string(j, pd_str_of(name), JINJA_TEMPLATE);

    if (j->rc == 0)
        bind(j, &j->globals, jinja_str(copy.text), value);
}

static struct jinja_scope *scope_new(struct jinja *j, struct jinja_scope *parent)
{
    struct jinja_scope *s = jinja_alloc(j, 1, sizeof(*s));

    if (s)
        s->parent = parent;
    return s;
}

static int lookup(struct jinja *j, struct jinja_scope *s, struct pd_str name,
                  struct jinja_value *out)
{
    static const struct {
        const char *name;
        int function;
    } functions[] = {
        {"namespace", FUNCTION_NAMESPACE},   {"range", FUNCTION_RANGE},  {"dict", FUNCTION_DICT},
        {"raise_exception", FUNCTION_RAISE}, {"joiner", FUNCTION_OTHER}, {"cycler", FUNCTION_OTHER},
        {"lipsum", FUNCTION_OTHER},
    };

    for (; s; s = s->parent) {
        struct jinja_binding *b = find(j, s, name);

        if (b) {
            *out = b->value;
            return jinja_step(j, 0);
        }
    }
    *out = jinja_undefined(name);
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (pd_str_eq(name, pd_str_of(functions[i].name))) {
            if (functions[i].function == FUNCTION_OTHER)
                return jinja_fail(j, PD_EFORMAT, "function '%s' is not supported",
                                  functions[i].name);
            *out = (struct jinja_value){.type = JINJA_FUNCTION, .function = functions[i].function};
        }
    return jinja_step(j, 0);
}

/* for and set: one name, several (what is assigned is unpacked), or a namespace's attribute. */
static int assign(struct jinja *j, struct jinja_scope *s, const struct jinja_node *to,
                  struct jinja_value value)
{
    const struct jinja_value *items;
    struct jinja_value space;
    size_t n;
    int rc;

    if (to->kind == N_NAME) {
        bind(j, s, to->name, value);
        return j->rc;
    }
    if (to->kind == N_ATTR) {
        rc = eval(j, s, to->a, &space);
        if (rc == 0 && space.type != JINJA_NAMESPACE)
            rc = jinja_fail(j, PD_EINVAL, "'%.*s' is no namespace, its attributes cannot be set",
                            JINJA_NAME(to->a->name));
        return rc < 0 ? rc
                      : jinja_dict_put(j, space.dict, jinja_of_text(jinja_own(j, to->name)), value);
    }
    rc = jinja_enter(j);
    if (rc < 0)
        return rc;
    rc = jinja_items(j, &value, &items, &n);
    for (to = to->a; rc == 0 && to && n > 0; to = to->next, items++, n--)
        rc = assign(j, s, to, *items);
    if (rc == 0 && (to || n > 0))
        rc = jinja_fail(j, PD_EINVAL, "there are %s values than names to unpack them to",
                        to ? "fewer" : "more");
    jinja_leave(j);
    return rc;
}

/* ---- attributes and items -----------------------------------------------------------------------
 */

static int loop_fill(struct jinja *j, struct jinja_loop *l, size_t n);

static int loop_attr(struct jinja *j, struct jinja_loop *l, struct pd_str name,
                     struct jinja_value *out)
{
    bool first = l->index == 0;
    int rc;

    if (pd_str_eq(name, PD_STR("index")))
        *out = jinja_int((int64_t)l->index + 1);
    else if (pd_str_eq(name, PD_STR("index0")))
        *out = jinja_int((int64_t)l->index);
    else if (pd_str_eq(name, PD_STR("first")))
        *out = jinja_bool(first);
    else if (pd_str_eq(name, PD_STR("previtem")))
        *out =
            first ? jinja_undefined(PD_STR("there is no previous item")) : l->items[l->index - 1];
    else if (pd_str_eq(name, PD_STR("depth")))
        *out = jinja_int(1);
    else if (pd_str_eq(name, PD_STR("depth0")))
        *out = jinja_int(0);
    else if (pd_str_eq(name, PD_STR("last")) || pd_str_eq(name, PD_STR("nextitem"))) {
        bool last;

        rc = loop_fill(j, l, l->index + 2);
        if (rc < 0)
            return rc;
        last = l->n_items < l->index + 2;
        *out = name.ptr[0] == 'l' ? jinja_bool(last)
               : last             ? jinja_undefined(PD_STR("there is no next item"))
                                  : l->items[l->index + 1];
    } else if (pd_str_eq(name, PD_STR("length")) || pd_str_eq(name, PD_STR("revindex")) ||
               pd_str_eq(name, PD_STR("revindex0"))) {
        rc = loop_fill(j, l, SIZE_MAX);
        if (rc < 0)
            return rc;
        *out = jinja_int((int64_t)(name.ptr[0] == 'l' ? l->n_items
                                   : name.len == 8    ? l->n_items - l->index
                                                      : l->n_items - l->index - 1));
    } else
        return jinja_fail(j, PD_EFORMAT, "loop.%.*s is not supported", JINJA_NAME(name));
    return 0;
}

int jinja_get_attr(struct jinja *j, const struct jinja_value *of, struct pd_str name,
                   struct jinja_value *out)
{
    struct jinja_method *m;
    int rc;

    if (of->type == JINJA_UNDEFINED)
        return jinja_fail(j, PD_EINVAL, "'%.*s' is undefined, it has no attribute '%.*s'",
                          JINJA_NAME(of->name), JINJA_NAME(name));
    if (pd_str_starts(name, PD_STR("__")))
        return jinja_fail(j, PD_EINVAL, "attribute '%.*s' is private", JINJA_NAME(name));
    if (of->type == JINJA_LOOP)
        return loop_attr(j, of->loop, name, out);
    if (jinja_has_method(of, name)) {
        m = jinja_alloc(j, 1, sizeof(*m));
        if (!m)
            return j->rc;
        *m = (struct jinja_method){*of, name};
        *out = (struct jinja_value){.type = JINJA_METHOD, .method = m};
        return 0;
    }
    if (of->type == JINJA_DICT || of->type == JINJA_NAMESPACE) {
        rc = jinja_dict_get(j, of->dict, jinja_of_text(jinja_own(j, name)), out);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    *out = jinja_undefined(name);
    return 0;
}

/* Where the character with this number starts. */
static size_t char_at(struct pd_str s, size_t index)
{
    size_t at = 0;
    uint32_t cp;

    while (index-- > 0 && at < s.len)
        at += jinja_char(s, at, &cp);
    return at;
}

int jinja_get_item(struct jinja *j, const struct jinja_value *of, const struct jinja_value *key,
                   struct jinja_value *out)
{
    bool is_list = of->type == JINJA_LIST || of->type == JINJA_TUPLE ||
                   (of->type == JINJA_VIEW && of->list->is_range);
    int64_t i = key->type == JINJA_BOOL ? key->boolean : key->integer;
    size_t n;
    int rc;

    if (of->type == JINJA_UNDEFINED)
        return jinja_fail(j, PD_EINVAL, "'%.*s' is undefined, it has no items",
                          JINJA_NAME(of->name));
    *out = jinja_undefined(key->type == JINJA_STRING ? jinja_str(key->text) : PD_STR("the item"));
    if ((is_list || of->type == JINJA_STRING) &&
        (key->type == JINJA_INT || key->type == JINJA_BOOL)) {
        rc = jinja_length(j, of, &n);
        if (rc < 0)
            return rc;
        if (i < 0)
            i += (int64_t)n;
        if (i < 0 || (uint64_t)i >= n)
            return 0;
        if (is_list) {
            *out = of->list->items[i];
        } else {
            size_t at = char_at(jinja_str(of->text), (size_t)i);
            uint32_t cp;

            *out = jinja_of_text(
                jinja_sub(of->text, at, at + jinja_char(jinja_str(of->text), at, &cp)));
        }
        return jinja_step(j, 0);
    }
    if (of->type == JINJA_DICT && key->type != JINJA_LIST && key->type != JINJA_DICT) {
        rc = jinja_dict_get(j, of->dict, *key, out);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return key->type == JINJA_STRING ? jinja_get_attr(j, of, jinja_str(key->text), out) : 0;
}

/* A part of a slice: absent or none is the default. */
static int slice_part(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                      int64_t *out, bool *out_given)
{
    struct jinja_value v = jinja_none();
    int rc = n ? eval(j, s, n, &v) : 0;

    *out_given = v.type != JINJA_NONE;
    if (rc == 0 && *out_given && v.type != JINJA_INT && v.type != JINJA_BOOL)
        rc = jinja_fail(j, PD_EINVAL, "a slice by a %s", jinja_type_name(&v));
    *out = v.type == JINJA_BOOL ? v.boolean : v.integer;
    return rc;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* of[a:b:c], as Python counts. */
static int slice(struct jinja *j, struct jinja_scope *s, const struct jinja_value *of,
                 const struct jinja_node *n, struct jinja_value *out)
{
    const struct jinja_value *items;
    struct jinja_builder b = {NULL, NULL, 0, 0};
    struct jinja_value list;
    int64_t start, stop, step, len, low, high;
    bool has_start, has_stop, has_step;
    size_t n_items;
    int rc;

    if (of->type != JINJA_STRING && of->type != JINJA_LIST && of->type != JINJA_TUPLE)
        return jinja_fail(j, of->type == JINJA_VIEW ? PD_EFORMAT : PD_EINVAL,
                          "a slice of a %s is not supported", jinja_type_name(of));
    if ((rc = slice_part(j, s, n->a, &start, &has_start)) < 0 ||
        (rc = slice_part(j, s, n->b, &stop, &has_stop)) < 0 ||
        (rc = slice_part(j, s, n->c, &step, &has_step)) < 0 ||
        (rc = jinja_length(j, of, &n_items)) < 0)
        return rc;
    if (has_step && step == 0)
        return jinja_fail(j, PD_EINVAL, "a slice with the step 0");
    len = (int64_t)n_items;
    step = has_step ? clamp(step, -len - 1, len + 1) : 1;
    low = step < 0 ? -1 : 0;
    high = step < 0 ? len - 1 : len;
    start = !has_start  ? (step < 0 ? high : low)
            : start < 0 ? clamp(start + len, low, high)
                        : clamp(start, low, high);
    stop = !has_stop  ? (step < 0 ? low : high)
           : stop < 0 ? clamp(stop + len, low, high)
                      : clamp(stop, low, high);
    if (of->type == JINJA_STRING && step == 1) {
        struct pd_str text = jinja_str(of->text);
        size_t from = char_at(text, (size_t)start);

        if (stop < start)
            stop = start;
        *out = jinja_of_text(
            jinja_sub(of->text, from,
                      from + char_at(pd_str_sub(text, from, text.len), (size_t)(stop - start))));
        return jinja_step(j, text.len);
    }
    if ((rc = jinja_items(j, of, &items, &n_items)) < 0 ||
        (rc = jinja_new_list(j, of->type == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST, 0, &list)) < 0)
        return rc;
    for (int64_t i = start; step < 0 ? i > stop : i < stop; i += step) {
        if (of->type == JINJA_STRING)
            jinja_addt(j, &b, items[i].text);
        else
            jinja_append(j, list, items[i]);
        if (j->rc < 0)
            return j->rc;
    }
    *out = list;
    if (of->type == JINJA_STRING) {
        *out = jinja_of_text(jinja_built(&b));
        out->text.safe = of->text.safe;
    }
    return 0;
}

/* ---- operators ----------------------------------------------------------------------------------
 */

static int64_t whole(const struct jinja_value *v)
{
    return v->type == JINJA_BOOL ? v->boolean : v->integer;
}

static int int_arithmetic(struct jinja *j, unsigned op, int64_t a, int64_t b,
                          struct jinja_value *out)
{
    bool overflow = false;
    int64_t r = 0;

    if ((op == OP('%') || op == OP2('/', '/')) && b == 0)
        return jinja_fail(j, PD_EINVAL, "division by zero");
    switch (op) {
    case OP('+'):
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case OP('-'):
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case OP('*'):
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case OP('%'): /* has the divisor's sign */
        r = b == -1 ? 0 : a % b;
        if (r != 0 && (r < 0) != (b < 0))
            r += b;
        break;
    case OP2('/', '/'): /* towards minus infinity */
        overflow = a == INT64_MIN && b == -1;
        if (!overflow)
            r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    default: /* ** of a non-negative exponent */
        r = 1;
        for (; b > 0 && !overflow && jinja_step(j, 0) == 0; b--)
            overflow = __builtin_mul_overflow(r, a, &r);
    }
    if (overflow)
        return jinja_fail(j, PD_EFORMAT, "numbers of more than 64 bits are not supported");
    *out = jinja_int(r);
    return j->rc;
}

static int float_arithmetic(struct jinja *j, unsigned op, double a, double b,
                            struct jinja_value *out)
{
    double r;

    if ((op == OP('/') || op == OP('%') || op == OP2('/', '/')) && !(b < 0) && !(b > 0))
        return jinja_fail(j, PD_EINVAL, "division by zero");
    switch (op) {
    case OP('+'):
        r = a + b;
        break;
    case OP('-'):
        r = a - b;
        break;
    case OP('*'):
        r = a * b;
        break;
    case OP('/'):
        r = a / b;
        break;
    case OP('%'):
        r = fmod(a, b);
        if (r < 0 ? b > 0 : r > 0 && b < 0)
            r += b;
        break;
    default:
        return jinja_fail(j, PD_EFORMAT, "this operator is not supported for fractions");
    }
    *out = jinja_float(r);
    return 0;
}

static int arithmetic(struct jinja *j, unsigned op, const struct jinja_value *a,
                      const struct jinja_value *b, struct jinja_value *out)
{
    bool ints = a->type != JINJA_FLOAT && b->type != JINJA_FLOAT;

    if (ints && op != OP('/') && !(op == OP2('*', '*') && whole(b) < 0))
        return int_arithmetic(j, op, whole(a), whole(b), out);
    return float_arithmetic(j, op, jinja_as_double(a), jinja_as_double(b), out);
}

/* a + b of strings: what is added to a safe one is escaped. */
static int concat(struct jinja *j, struct jinja_text a, struct jinja_text b,
                  struct jinja_value *out)
{
    struct jinja_builder r = {NULL, NULL, 0, 0};
    bool safe = a.safe || b.safe;
    int rc = safe ? jinja_escape(j, a, &a) : 0;

    if (rc == 0 && safe)
        rc = jinja_escape(j, b, &b);
    jinja_addt(j, &r, a);
    jinja_addt(j, &r, b);
    *out = jinja_of_text(jinja_built(&r));
    out->text.safe = safe;
    return rc < 0 ? rc : j->rc;
}

static int concat_lists(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b,
                        struct jinja_value *out)
{
    int rc = jinja_new_list(j, a->type, a->list->n + b->list->n, out);

    for (size_t i = 0; rc == 0 && i < a->list->n; i++)
        jinja_append(j, *out, a->list->items[i]);
    for (size_t i = 0; rc == 0 && i < b->list->n; i++)
        jinja_append(j, *out, b->list->items[i]);
    return rc;
}

/* A string or list, n times. */
static int repeat(struct jinja *j, const struct jinja_value *of, int64_t n, struct jinja_value *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    int rc = 0;

    if (of->type != JINJA_STRING) {
        struct jinja_value none;

        rc = jinja_new_list(j, of->type, 0, &none);
        *out = none;
        for (int64_t i = 0; rc == 0 && i < n; i++)
            for (size_t k = 0; rc == 0 && k < of->list->n; k++) {
                jinja_append(j, *out, of->list->items[k]);
                rc = jinja_step(j, 0);
            }
        return rc;
    }
    if (of->text.len > 0 && n > (int64_t)(JINJA_OUTPUT_MAX_BYTES / of->text.len))
        return jinja_fail(j, PD_ELIMIT, "a text of more than %zu bytes", JINJA_OUTPUT_MAX_BYTES);
    if (n > 0)
        jinja_addt(j, &b, of->text);
    /* What is there already is copied once more, so that the copies are few and long. */
    for (size_t end = n > 0 ? of->text.len * (size_t)n : 0; b.len < end && j->rc == 0;)
        jinja_addt(j, &b, jinja_sub(jinja_built(&b), 0, end - b.len));
    *out = jinja_of_text(jinja_built(&b));
    out->text.safe = of->text.safe;
    return j->rc;
}

static bool is_list(const struct jinja_value *v)
{
    return v->type == JINJA_LIST || v->type == JINJA_TUPLE;
}

static int binary(struct jinja *j, unsigned op, const struct jinja_value *a,
                  const struct jinja_value *b, struct jinja_value *out)
{
    bool a_whole = a->type == JINJA_INT || a->type == JINJA_BOOL;
    bool b_whole = b->type == JINJA_INT || b->type == JINJA_BOOL;
    char text[3] = {(char)(op & 0xff), (char)(op >> 8), '\0'};
    struct jinja_text x, y;
    int rc;

    if (op == OP('~')) {
        rc = jinja_to_text(j, a, &x);
        if (rc == 0)
            rc = jinja_to_text(j, b, &y);
        return rc < 0 ? rc : concat(j, x, y, out);
    }
    if (jinja_is_number(a) && jinja_is_number(b))
        return arithmetic(j, op, a, b, out);
    if (op == OP('+') && a->type == JINJA_STRING && b->type == JINJA_STRING)
        return concat(j, a->text, b->text, out);
    if (op == OP('+') && is_list(a) && a->type == b->type)
        return concat_lists(j, a, b, out);
    if (op == OP('*') && (a->type == JINJA_STRING || is_list(a)) && b_whole)
        return repeat(j, a, whole(b), out);
    if (op == OP('*') && a_whole && (b->type == JINJA_STRING || is_list(b)))
        return repeat(j, b, whole(a), out);
    if (op == OP('%') && a->type == JINJA_STRING)
        return jinja_fail(j, PD_EFORMAT, "formatting by %% is not supported");
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED)
        return jinja_fail(j, PD_EINVAL, "'%.*s' is undefined",
                          JINJA_NAME(a->type == JINJA_UNDEFINED ? a->name : b->name));
    return jinja_fail(j, PD_EINVAL, "a %s %s a %s", jinja_type_name(a), text, jinja_type_name(b));
}

static int compare_one(struct jinja *j, unsigned op, const struct jinja_value *a,
                       const struct jinja_value *b, bool *out)
{
    int cmp = 0, rc;

    switch (op) {
    case OP('i'):
    case OP('n'):
        rc = jinja_contains(j, b, a, out);
        *out = *out == (op == OP('i'));
        return rc;
    case OP2('=', '='):
    case OP2('!', '='):
        rc = jinja_equal(j, a, b, out);
        *out = *out == (op == OP2('=', '='));
        return rc;
    default:
        rc = jinja_order(j, a, b, &cmp);
        *out = op == OP('<')         ? cmp < 0
               : op == OP('>')       ? cmp > 0
               : op == OP2('<', '=') ? cmp <= 0
                                     : cmp >= 0;
        return rc;
    }
}

/* a < b < c: each pair, until one does not hold. */
static int compare(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                   struct jinja_value *out)
{
    struct jinja_value left, right;
    bool holds = true;
    int rc = eval(j, s, n->a, &left);

    for (const struct jinja_node *o = n->b; rc == 0 && o && holds; o = o->next) {
        rc = eval(j, s, o->a, &right);
        j->line = n->line;
        if (rc == 0)
            rc = compare_one(j, o->op, &left, &right, &holds);
        left = right;
    }
    *out = jinja_bool(holds);
    return rc;
}

static int unary(struct jinja *j, const struct jinja_node *n, const struct jinja_value *v,
                 struct jinja_value *out)
{
    *out = *v;
    if (n->kind == N_NOT)
        *out = jinja_bool(!jinja_truth(v));
    else if (!jinja_is_number(v))
        return jinja_fail(j, PD_EINVAL, "the sign of a %s", jinja_type_name(v));
    else if (v->type == JINJA_FLOAT)
        out->real = n->kind == N_NEGATE ? -v->real : v->real;
    else
        return int_arithmetic(j, n->kind == N_NEGATE ? OP('-') : OP('+'), 0, whole(v), out);
    return 0;
}

/* ---- calls --------------------------------------------------------------------------------------
 */

static int eval_call(struct jinja *j, struct jinja_scope *s, const struct jinja_node *args,
                     struct jinja_call *out)
{
    size_t n = 0;
    int rc = 0;

    for (const struct jinja_node *a = args; a; a = a->next)
        n++;
    *out = (struct jinja_call){NULL, 0, NULL, 0};
    if (n == 0)
        return 0;
    out->args = jinja_alloc(j, n, sizeof(*out->args));
    out->keywords = jinja_alloc(j, n, sizeof(*out->keywords));
    if (!out->args || !out->keywords)
        return j->rc;
    for (; args && rc == 0; args = args->next) {
        if (args->kind == N_KEYWORD) {
            struct jinja_keyword *k = &out->keywords[out->n_keywords++];

            k->name = args->name;
            rc = eval(j, s, args->a, &k->value);
        } else {
            rc = eval(j, s, args, &out->args[out->n_args++]);
        }
    }
    return rc;
}

static int call_macro(struct jinja *j, const struct jinja_macro *m, const struct jinja_call *call,
                      struct jinja_value *out)
{
    struct jinja_scope *s = scope_new(j, m->scope);
    struct jinja_builder b = {NULL, NULL, 0, 0};
    const struct jinja_node *param = m->node->a;
    enum flow flow = FLOW_NEXT;
    size_t n_keywords = 0;
    int rc = s ? 0 : j->rc;

    for (size_t i = 0; rc == 0 && param; i++, param = param->next) {
        struct jinja_value v = jinja_undefined(param->name);
        bool given = i < call->n_args;

        if (given)
            v = call->args[i];
        for (size_t k = 0; k < call->n_keywords; k++)
            if (pd_str_eq(call->keywords[k].name, param->name)) {
                if (given)
                    return jinja_fail(j, PD_EINVAL, "macro '%.*s' gets '%.*s' twice",
                                      JINJA_NAME(m->node->name), JINJA_NAME(param->name));
                v = call->keywords[k].value;
                given = true;
                n_keywords++;
            }
        if (!given && param->a)
            rc = eval(j, s, param->a, &v); /* sees the parameters before it */
        bind(j, s, param->name, v);
        if (!param->next && i + 1 < call->n_args)
            rc = jinja_fail(j, PD_EINVAL, "macro '%.*s' takes no more than %zu arguments",
                            JINJA_NAME(m->node->name), i + 1);
    }
    if (rc == 0 && ((call->n_args > 0 && !m->node->a) || n_keywords < call->n_keywords))
        rc = jinja_fail(j, PD_EINVAL, "macro '%.*s' has no parameter for an argument",
                        JINJA_NAME(m->node->name));
    if (rc == 0)
        rc = run(j, s, m->node->b, &b, &flow);
    *out = jinja_of_text(jinja_built(&b));
    return rc;
}

static int call_range(struct jinja *j, const struct jinja_call *call, struct jinja_value *out)
{
    int64_t part[3] = {0, 0, 1};
    int rc;

    if (call->n_args < 1 || call->n_args > 3 || call->n_keywords > 0)
        return jinja_fail(j, PD_EINVAL, "range takes one to three numbers");
    for (size_t i = 0; i < call->n_args; i++) {
        if (call->args[i].type != JINJA_INT && call->args[i].type != JINJA_BOOL)
            return jinja_fail(j, PD_EINVAL, "range of a %s", jinja_type_name(&call->args[i]));
        part[call->n_args == 1 ? 1 : i] = whole(&call->args[i]);
    }
    if (part[2] == 0)
        return jinja_fail(j, PD_EINVAL, "range with the step 0");
    rc = jinja_new_list(j, JINJA_VIEW, 0, out);
    if (rc < 0)
        return rc;
    out->list->is_range = true;
    for (int64_t i = part[0]; part[2] > 0 ? i < part[1] : i > part[1];) {
        jinja_append(j, *out, jinja_int(i));
        /* the sandbox's own bound */
        if (out->list->n > 100000)
            return jinja_fail(j, PD_ELIMIT, "a range of more than 100000 numbers");
        if (__builtin_add_overflow(i, part[2], &i))
            break;
    }
    return j->rc;
}

/* namespace(a=1), dict(a=1), both also of a mapping */
static int call_dict(struct jinja *j, const struct jinja_call *call, bool is_namespace,
                     struct jinja_value *out)
{
    int rc = 0;

    *out = jinja_dict(j);
    if (j->rc < 0)
        return j->rc;
    if (call->n_args > 1 || (call->n_args == 1 && call->args[0].type != JINJA_DICT))
        return jinja_fail(j, PD_EFORMAT, "%s of other than a mapping is not supported",
                          is_namespace ? "namespace" : "dict");
    for (size_t i = 0; rc == 0 && call->n_args == 1 && i < call->args[0].dict->n; i++)
        rc = jinja_dict_put(j, out->dict, call->args[0].dict->pairs[i].key,
                            call->args[0].dict->pairs[i].value);
    for (size_t i = 0; rc == 0 && i < call->n_keywords; i++)
        rc = jinja_dict_put(j, out->dict, jinja_of_text(jinja_own(j, call->keywords[i].name)),
                            call->keywords[i].value);
    if (is_namespace)
        out->type = JINJA_NAMESPACE;
    return rc;
}

static int call_raise(struct jinja *j, const struct jinja_call *call)
{
    struct jinja_text t = jinja_own(j, PD_STR(""));
    int rc = call->n_args > 0 ? jinja_to_text(j, &call->args[0], &t) : 0;

    return rc < 0 ? rc
                  : jinja_fail(j, PD_EINVAL, "the template refuses the conversation: %.*s",
                               (int)(t.len < 300 ? t.len : 300), t.ptr);
}

static int call_value(struct jinja *j, const struct jinja_value *callee,
                      const struct jinja_call *call, struct jinja_value *out)
{
    int rc;

    switch (callee->type) {
    case JINJA_MACRO:
        return call_macro(j, callee->macro, call, out);
    case JINJA_METHOD:
        return jinja_call_method(j, callee->method, call, out);
    case JINJA_FUNCTION:
        rc = callee->function == FUNCTION_RANGE ? call_range(j, call, out)
             : callee->function == FUNCTION_RAISE
                 ? call_raise(j, call)
                 : call_dict(j, call, callee->function == FUNCTION_NAMESPACE, out);
        return rc;
    case JINJA_UNDEFINED:
        return jinja_fail(j, PD_EINVAL, "'%.*s' is undefined, it cannot be called",
                          JINJA_NAME(callee->name));
    default:
        return jinja_fail(j, PD_EINVAL, "a %s cannot be called", jinja_type_name(callee));
    }
}

/* ---- expressions --------------------------------------------------------------------------------
 */

static int eval_items(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                      struct jinja_value *out)
{
    int rc = jinja_new_list(j, n->kind == N_LIST ? JINJA_LIST : JINJA_TUPLE, 0, out);

    for (const struct jinja_node *item = n->a; rc == 0 && item; item = item->next) {
        struct jinja_value v;

        rc = eval(j, s, item, &v);
        if (rc == 0)
            jinja_append(j, *out, v);
    }
    return rc < 0 ? rc : j->rc;
}

static int eval_dict(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                     struct jinja_value *out)
{
    int rc = 0;

    *out = jinja_dict(j);
    for (const struct jinja_node *pair = n->a; rc == 0 && pair; pair = pair->next) {
        struct jinja_value key, value;

        if ((rc = eval(j, s, pair->a, &key)) == 0 && (rc = eval(j, s, pair->b, &value)) == 0)
            rc = jinja_dict_put(j, out->dict, key, value);
    }
    return rc < 0 ? rc : j->rc;
}

/* What one node means, with its first operand evaluated already where it has one that is always
 * needed. */
static int eval_node(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                     struct jinja_value *out)
{
    struct jinja_value a, b;
    struct jinja_call call;
    bool is;
    int rc;

    switch (n->kind) {
    case N_CONST:
        *out = n->value;
        return 0;
    case N_NAME:
        return lookup(j, s, n->name, out);
    case N_LIST:
    case N_TUPLE:
        return eval_items(j, s, n, out);
    case N_DICT:
        return eval_dict(j, s, n, out);
    case N_COMPARE:
        return compare(j, s, n, out);
    case N_COND:
        rc = eval(j, s, n->b, &b);
        if (rc < 0)
            return rc;
        if (jinja_truth(&b))
            return eval(j, s, n->a, out);
        *out = jinja_undefined(PD_STR("an if without else"));
        return n->c ? eval(j, s, n->c, out) : 0;
    default:
        break;
    }
    rc = eval(j, s, n->a, &a);
    if (rc < 0)
        return rc;
    switch (n->kind) {
    case N_AND:
    case N_OR:
        if (jinja_truth(&a) == (n->kind == N_AND))
            return eval(j, s, n->b, out);
        *out = a;
        return 0;
    case N_BINARY:
        rc = eval(j, s, n->b, &b);
        j->line = n->line;
        return rc < 0 ? rc : binary(j, n->op, &a, &b, out);
    case N_ATTR:
        j->line = n->line;
        return jinja_get_attr(j, &a, n->name, out);
    case N_ITEM:
        if (n->b->kind == N_SLICE)
            return slice(j, s, &a, n->b, out);
        rc = eval(j, s, n->b, &b);
        j->line = n->line;
        return rc < 0 ? rc : jinja_get_item(j, &a, &b, out);
    case N_CALL:
        rc = eval_call(j, s, n->b, &call);
        j->line = n->line;
        return rc < 0 ? rc : call_value(j, &a, &call, out);
    case N_FILTER:
        rc = eval_call(j, s, n->b, &call);
        j->line = n->line;
        return rc < 0 ? rc : jinja_filter(j, n->name, a, &call, out);
    case N_TEST:
        rc = eval_call(j, s, n->b, &call);
        j->line = n->line;
        if (rc == 0)
            rc = jinja_test(j, n->name, &a, &call, &is);
        if (rc == 0)
            *out = jinja_bool(is);
        return rc;
    default: /* N_NOT, N_NEGATE, N_PLUS */
        return unary(j, n, &a, out);
    }
}

static int eval(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                struct jinja_value *out)
{
    int rc;

    j->line = n->line;
    rc = jinja_step(j, 0);
    if (rc == 0)
        rc = jinja_enter(j);
    if (rc < 0)
        return rc;
    rc = eval_node(j, s, n, out);
    jinja_leave(j);
    return rc < 0 ? rc : j->rc;
}

/* ---- statements ---------------------------------------------------------------------------------
 */

/* The scope of a loop's next turn, with its target assigned. */
static struct jinja_scope *turn(struct jinja *j, struct jinja_loop *l, struct jinja_value item)
{
    struct jinja_scope *s = scope_new(j, l->scope);

    return s && assign(j, s, l->node->a, item) == 0 ? s : NULL;
}

/* Makes n items known, or all there are: those of the source that meet the condition, which is not
 * looked at before it must be. */
static int loop_fill(struct jinja *j, struct jinja_loop *l, size_t n)
{
    unsigned line = j->line;
    int rc = 0;

    while (rc == 0 && l->n_items < n && l->at_source < l->n_source) {
        struct jinja_value item = l->source[l->at_source++], holds = jinja_bool(true);

        if (l->node->cond) {
            struct jinja_scope *s = turn(j, l, item);

            rc = s ? eval(j, s, l->node->cond, &holds) : j->rc;
        }
        if (rc == 0 && jinja_truth(&holds))
            l->items[l->n_items++] = item;
    }
    j->line = line;
    return rc;
}

static int run_for(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                   struct jinja_builder *out, enum flow *flow)
{
    struct jinja_loop *l = jinja_alloc(j, 1, sizeof(*l));
    struct jinja_value over;
    int rc = l ? eval(j, s, n->b, &over) : j->rc;

    if (rc < 0)
        return rc;
    rc = jinja_items(j, &over, &l->source, &l->n_source);
    if (rc < 0)
        return rc;
    l->node = n;
    l->scope = s;
    l->items = jinja_alloc(j, l->n_source, sizeof(*l->items));
    if (!l->items)
        return j->rc;
    for (l->index = 0; (rc = loop_fill(j, l, l->index + 1)) == 0 && l->index < l->n_items;
         l->index++) {
        struct jinja_scope *body = turn(j, l, l->items[l->index]);

        if (!body)
            return j->rc;
        bind(j, body, PD_STR("loop"), (struct jinja_value){.type = JINJA_LOOP, .loop = l});
        rc = run(j, body, n->c, out, flow);
        if (rc < 0 || *flow == FLOW_BREAK)
            break;
        *flow = FLOW_NEXT;
    }
    *flow = FLOW_NEXT;
    return rc == 0 && l->n_items == 0 ? run(j, s, n->d, out, flow) : rc;
}

/* Through a chain of filters, the innermost first. */
static int filtered(struct jinja *j, struct jinja_scope *s, const struct jinja_node *chain,
                    struct jinja_value *io)
{
    struct jinja_call call;
    int rc = chain ? jinja_enter(j) : 0;

    if (!chain || rc < 0)
        return rc;
    rc = filtered(j, s, chain->a, io);
    if (rc == 0)
        rc = eval_call(j, s, chain->b, &call);
    j->line = chain->line;
    if (rc == 0)
        rc = jinja_filter(j, chain->name, *io, &call, io);
    jinja_leave(j);
    return rc;
}

/* What a block prints, through its filters. */
static int captured(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                    enum flow *flow, struct jinja_value *out)
{
    struct jinja_builder b = {NULL, NULL, 0, 0};
    struct jinja_scope *inner = scope_new(j, s);
    int rc = inner ? run(j, inner, n->c, &b, flow) : j->rc;

    *out = jinja_of_text(jinja_built(&b));
    return rc < 0 ? rc : filtered(j, s, n->b, out);
}

static int run_with(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                    struct jinja_builder *out, enum flow *flow)
{
    struct jinja_scope *inner = scope_new(j, s);
    int rc = inner ? 0 : j->rc;

    for (const struct jinja_node *pair = n->a; rc == 0 && pair; pair = pair->next) {
        struct jinja_value v;

        rc = eval(j, s, pair->b, &v);
        if (rc == 0)
            rc = assign(j, inner, pair->a, v);
    }
    return rc < 0 ? rc : run(j, inner, n->c, out, flow);
}

static int define_macro(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n)
{
    struct jinja_macro *m = jinja_alloc(j, 1, sizeof(*m));

    if (!m)
        return j->rc;
    *m = (struct jinja_macro){n, s};
    bind(j, s, n->name, (struct jinja_value){.type = JINJA_MACRO, .macro = m});
    return j->rc;
}

static int run_one(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
                   struct jinja_builder *out, enum flow *flow)
{
    struct jinja_value v;
    struct jinja_text t;
    int rc;

    switch (n->kind) {
    case N_DATA:
        jinja_addt(j, out, n->value.text);
        return j->rc;
    case N_PRINT:
        rc = eval(j, s, n->a, &v);
        j->line = n->line;
        if (rc == 0)
            rc = jinja_to_text(j, &v, &t);
        if (rc == 0)
            jinja_addt(j, out, t);
        return rc < 0 ? rc : j->rc;
    case N_IF:
        for (; n; n = n->c) {
            v = jinja_bool(true);
            rc = n->a ? eval(j, s, n->a, &v) : 0;
            if (rc < 0)
                return rc;
            if (jinja_truth(&v))
                return run(j, s, n->b, out, flow);
        }
        return 0;
    case N_FOR:
        return run_for(j, s, n, out, flow);
    case N_SET:
        rc = eval(j, s, n->b, &v);
        return rc < 0 ? rc : assign(j, s, n->a, v);
    case N_SET_BLOCK:
        rc = captured(j, s, n, flow, &v);
        return rc < 0 || *flow != FLOW_NEXT ? rc : assign(j, s, n->a, v);
    case N_FILTER_BLOCK:
        rc = captured(j, s, n, flow, &v);
        if (rc < 0 || *flow != FLOW_NEXT)
            return rc;
        rc = jinja_to_text(j, &v, &t);
        if (rc == 0)
            jinja_addt(j, out, t);
        return rc < 0 ? rc : j->rc;
    case N_WITH:
        return run_with(j, s, n, out, flow);
    case N_MACRO:
        return define_macro(j, s, n);
    default:
        *flow = n->kind == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return 0;
    }
}

static int run(struct jinja *j, struct jinja_scope *s, const struct jinja_node *n,
               struct jinja_builder *out, enum flow *flow)
{
    int rc = jinja_enter(j);

    if (rc < 0)
        return rc;
    for (; n && rc == 0 && *flow == FLOW_NEXT; n = n->next) {
        j->line = n->line;
        rc = jinja_step(j, 0);
        if (rc == 0)
            rc = run_one(j, s, n, out, flow);
    }
    jinja_leave(j);
    return rc;
}

/* ---- the template -------------------------------------------------------------------------------
 */

/* Line ends become \n, and the last one goes. */
static struct pd_str normalised(struct jinja *j, struct pd_str s)
{
    char *text = jinja_alloc(j, s.len, 1);
    size_t n = 0;

    if (!text)
        return (struct pd_str){"", 0};
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '\r')
            text[n++] = s.ptr[i];
        else if (i + 1 == s.len || s.ptr[i + 1] != '\n')
            text[n++] = '\n';
    }
    n -= n > 0 && text[n - 1] == '\n';
    return (struct pd_str){text, n};
}

int jinja_new(struct pd_str source, struct jinja **out, struct pd_err *err)
{
    struct jinja_token *tokens = NULL;
    struct jinja *j;
    int rc;

    if (source.len > JINJA_SOURCE_MAX_BYTES)
        return pd_fail(err, PD_ELIMIT, "a template of more than %zu bytes", JINJA_SOURCE_MAX_BYTES);
    if (!pd_utf8_valid(source))
        return pd_fail(err, PD_EFORMAT, "the template is not valid UTF-8");
    j = calloc(1, sizeof(*j));
    if (!j)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    pd_arena_init(&j->arena, JINJA_MEMORY_MAX_BYTES);
    j->n_zeros = source.len + 64;
    j->zeros = jinja_alloc(j, j->n_zeros, 1);
    j->source = normalised(j, source);
    rc = j->rc < 0 ? j->rc : jinja_lex(j, &tokens);
    if (rc == 0)
        rc = jinja_parse(j, tokens);
    if (rc < 0) {
        if (err)
            *err = j->err;
        jinja_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

void jinja_free(struct jinja *j)
{
    if (!j)
        return;
    pd_arena_done(&j->arena);
    free(j);
}

int jinja_render(struct jinja *j, struct jinja_text *out, struct pd_err *err)
{
    struct jinja_scope *s = scope_new(j, &j->globals);
    struct jinja_builder b = {NULL, NULL, 0, 0};
    enum flow flow = FLOW_NEXT;
    int rc = s ? run(j, s, j->body, &b, &flow) : j->rc;

    if (rc < 0) {
        if (err)
            *err = j->err;
        return rc;
    }
    *out = jinja_built(&b);
    return 0;
}

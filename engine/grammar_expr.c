/* Expressions of grammars, and characters as bytes. */
#include "engine/grammar_int.h"

#include <stdlib.h>

#define BUILDER_MAX_BYTES ((size_t)64 << 20) /* bounds what a schema of few bytes can ask for */

#define MAX_RULES (1u << 13)
#define WORK_MAX  (UINT64_C(1) << 27)

static struct grammar_expr none; /* stands for what there was no memory for */

void grammar_builder_init(struct grammar_builder *b)
{
    memset(b, 0, sizeof(*b));
    pd_arena_init(&b->arena, BUILDER_MAX_BYTES);
    grammar_new_rule(b, "");
    grammar_new_rule(b, "root");
}

void grammar_builder_done(struct grammar_builder *b)
{
    pd_arena_done(&b->arena);
}

void grammar_work(struct grammar_builder *b, uint64_t n)
{
    b->work += n;
    b->full = b->full || b->work > WORK_MAX;
}

int grammar_builder_check(const struct grammar_builder *b, struct pd_err *err)
{
    return b->full ? pd_fail(err, PD_ELIMIT,
                             "it is too complex: smaller bounds of repetitions and lengths, or "
                             "fewer alternatives, may help")
                   : 0;
}

static struct grammar_expr *new_expr(struct grammar_builder *b, enum grammar_op op)
{
    struct grammar_expr *e = pd_arena_alloc(&b->arena, sizeof(*e));

    if (!e) {
        b->full = true;
        return &none;
    }
    e->op = op;
    return e;
}

struct grammar_expr *grammar_empty(struct grammar_builder *b)
{
    return new_expr(b, GRAMMAR_EMPTY);
}

struct grammar_expr *grammar_bytes(struct grammar_builder *b, uint8_t lo, uint8_t hi)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_BYTES);

    if (e != &none) {
        e->lo = lo;
        e->hi = hi;
    }
    b->starts[lo] = b->starts[hi + 1] = true;
    return e;
}

struct grammar_expr *grammar_list(struct grammar_builder *b, enum grammar_op op)
{
    return new_expr(b, op);
}

/* Room for one more of e->sub. */
static bool grow(struct grammar_builder *b, struct grammar_expr *e)
{
    uint32_t cap = e->cap ? 2 * e->cap : 4;
    struct grammar_expr **sub;
    bool *optional;

    if (e->n < e->cap)
        return true;
    sub = pd_arena_array(&b->arena, cap, sizeof(*sub));
    optional = pd_arena_array(&b->arena, cap, sizeof(*optional));
    if (!sub || !optional) {
        b->full = true;
        return false;
    }
    if (e->n) {
        memcpy(sub, e->sub, e->n * sizeof(*sub));
        memcpy(optional, e->optional, e->n * sizeof(*optional));
    }
    e->sub = sub;
    e->optional = optional;
    e->cap = cap;
    return true;
}

void grammar_push(struct grammar_builder *b, struct grammar_expr *list, struct grammar_expr *e)
{
    grammar_join_add(b, list, e, false);
}

struct grammar_expr *grammar_literal(struct grammar_builder *b, struct pd_str text)
{
    struct grammar_expr *e = grammar_list(b, GRAMMAR_CAT);

    for (size_t i = 0; i < text.len; i++)
        grammar_push(b, e, grammar_bytes(b, (uint8_t)text.ptr[i], (uint8_t)text.ptr[i]));
    return e;
}

struct grammar_expr *grammar_cat(struct grammar_builder *b, struct grammar_expr *x,
                                 struct grammar_expr *y)
{
    struct grammar_expr *e = grammar_list(b, GRAMMAR_CAT);

    grammar_push(b, e, x);
    grammar_push(b, e, y);
    return e;
}

struct grammar_expr *grammar_alt(struct grammar_builder *b, struct grammar_expr *x,
                                 struct grammar_expr *y)
{
    struct grammar_expr *e = grammar_list(b, GRAMMAR_ALT);

    grammar_push(b, e, x);
    grammar_push(b, e, y);
    return e;
}

struct grammar_expr *grammar_repeat(struct grammar_builder *b, struct grammar_expr *sub,
                                    uint32_t min, uint32_t max)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_REPEAT);

    if (e != &none) {
        e->min = min;
        e->max = max;
    }
    grammar_push(b, e, sub);
    return e;
}

struct grammar_expr *grammar_join(struct grammar_builder *b, struct grammar_expr *between)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_JOIN);

    grammar_push(b, e, between);
    return e;
}

void grammar_join_add(struct grammar_builder *b, struct grammar_expr *join, struct grammar_expr *e,
                      bool optional)
{
    if (join == &none || !grow(b, join))
        return;
    join->optional[join->n] = optional;
    join->sub[join->n++] = e;
}

struct grammar_expr *grammar_of_rule(struct grammar_builder *b, uint32_t rule)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_RULE);

    if (e != &none)
        e->rule = rule;
    return e;
}

struct grammar_expr *grammar_of_dfa(struct grammar_builder *b, const struct grammar_dfa *dfa)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_DFA);

    if (e != &none)
        e->dfa = dfa;
    if (!dfa) /* b is full */
        return &none;
    return e;
}

uint32_t grammar_new_rule(struct grammar_builder *b, const char *name)
{
    if (b->n_rules == b->cap_rules) {
        uint32_t cap = b->cap_rules ? 2 * b->cap_rules : 16;
        struct grammar_rule *rules = pd_arena_array(&b->arena, cap, sizeof(*rules));

        if (!rules || cap > MAX_RULES) {
            b->full = true;
            return 0;
        }
        if (b->n_rules)
            memcpy(rules, b->rules, b->n_rules * sizeof(*rules));
        b->rules = rules;
        b->cap_rules = cap;
    }
    b->rules[b->n_rules].name = name;
    return b->n_rules++;
}

/* ---- characters
 * ------------------------------------------------------------------------------------ */

void grammar_chars_add(struct grammar_builder *b, struct grammar_chars *c, uint32_t lo, uint32_t hi)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 8;
        struct grammar_range *r = pd_arena_array(&b->arena, cap, sizeof(*r));

        if (!r) {
            b->full = true;
            return;
        }
        if (c->n)
            memcpy(r, c->r, c->n * sizeof(*r));
        c->r = r;
        c->cap = cap;
    }
    c->r[c->n++] = (struct grammar_range){lo, hi};
}

static int by_lo(const void *a, const void *b)
{
    const struct grammar_range *x = a, *y = b;

    return (x->lo > y->lo) - (x->lo < y->lo);
}

void grammar_chars_sort(struct grammar_chars *c)
{
    size_t n = 0;

    if (c->n == 0)
        return;
    qsort(c->r, c->n, sizeof(*c->r), by_lo);
    for (size_t i = 1; i < c->n; i++) {
        if (c->r[i].lo > c->r[n].hi + 1)
            c->r[++n] = c->r[i];
        else if (c->r[i].hi > c->r[n].hi)
            c->r[n].hi = c->r[i].hi;
    }
    c->n = n + 1;
}

void grammar_chars_not(struct grammar_builder *b, struct grammar_chars *c)
{
    struct grammar_chars not = {0};
    uint32_t from = 1; /* NUL is no character */

    for (size_t i = 0; i < c->n; i++) {
        if (c->r[i].lo > from)
            grammar_chars_add(b, &not, from, c->r[i].lo - 1);
        from = c->r[i].hi + 1;
    }
    if (from <= GRAMMAR_CHAR_MAX)
        grammar_chars_add(b, &not, from, GRAMMAR_CHAR_MAX);
    *c = not ;
}

bool grammar_chars_has(const struct grammar_chars *c, uint32_t cp)
{
    for (size_t i = 0; i < c->n; i++)
        if (cp >= c->r[i].lo && cp <= c->r[i].hi)
            return true;
    return false;
}

static size_t encode(uint32_t cp, uint8_t out[4])
{
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (cp & 0x3f));
    return 4;
}

/* Characters of n bytes each, whose bytes but the first differ only where all that follow span
 * 80 to bf: cut until it is so. */
static void add_utf8(struct grammar_builder *b, struct grammar_expr *alt, uint32_t lo, uint32_t hi)
{
    static const uint32_t last[] = {0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff};
    uint8_t x[4], y[4];
    struct grammar_expr *cat;
    size_t n;

    for (size_t i = 0; i < sizeof(last) / sizeof(*last); i++)
        if (lo <= last[i] && hi > last[i]) {
            add_utf8(b, alt, lo, last[i]);
            add_utf8(b, alt, last[i] + 1, hi);
            return;
        }
    if (lo >= 0xd800 && hi <= 0xdfff)
        return;
    for (uint32_t bits = 6; bits <= 18 && hi >= 0x80; bits += 6) {
        uint32_t low = (1u << bits) - 1;

        if ((lo & ~low) == (hi & ~low))
            break;
        if (lo & low) {
            add_utf8(b, alt, lo, lo | low);
            add_utf8(b, alt, (lo | low) + 1, hi);
            return;
        }
        if ((hi & low) != low) {
            add_utf8(b, alt, lo, (hi & ~low) - 1);
            add_utf8(b, alt, hi & ~low, hi);
            return;
        }
    }
    n = encode(lo, x);
    encode(hi, y);
    cat = grammar_list(b, GRAMMAR_CAT);
    for (size_t i = 0; i < n; i++)
        grammar_push(b, cat, grammar_bytes(b, x[i], y[i]));
    grammar_push(b, alt, cat);
}

struct grammar_expr *grammar_utf8(struct grammar_builder *b, const struct grammar_chars *c)
{
    struct grammar_expr *alt = grammar_list(b, GRAMMAR_ALT);

    for (size_t i = 0; i < c->n && !b->full; i++)
        if (c->r[i].hi > 0)
            add_utf8(b, alt, c->r[i].lo > 0 ? c->r[i].lo : 1, c->r[i].hi);
    return alt;
}

int32_t grammar_next_char(struct pd_str text, size_t *io_at)
{
    static const uint8_t mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    struct pd_str rest = pd_str_sub(text, *io_at, text.len);
    size_t n = pd_utf8_len(rest);
    int32_t cp;

    if (n == 0)
        return -1;
    cp = (uint8_t)rest.ptr[0] & mask[n];
    for (size_t i = 1; i < n; i++)
        cp = cp << 6 | ((uint8_t)rest.ptr[i] & 0x3f);
    *io_at += n;
    return cp;
}

/* Expressions to automata: Thompson's construction and subsets, for each rule on its own. A rule
 * that another one names is a symbol of that one's automaton, like a byte, unless it is small and
 * not recursive: then it is written out in its place.
 *
 * Everything here is bounded, as an expression of few bytes can stand for an automaton without
 * end: states and edges by number, the work on subsets by the sum of their sizes. */
#include "engine/grammar_int.h"

#include <stdlib.h>

#include "base/hash.h"

#define NFA_MAX       (1u << 18) /* states, and edges */
#define INLINE_MAX    32         /* expressions of a rule that is written out */
#define TABLE_BYTES   ((size_t)64 << 20)
#define MAX_CALLS     (1u << 20)
#define MAX_PAIRS     (1u << 22)
#define MEASURE_DEPTH 100
#define MINIMISE_MAX  2000 /* states */

/* ---- automata that may be in several states
 * -------------------------------------------------------- */

enum edge_kind { EDGE_EMPTY, EDGE_BYTES, EDGE_CALL };

struct edge {
    enum edge_kind kind;
    uint8_t lo, hi;
    uint32_t rule, to, next; /* next: of the same state, index + 1 */
};

struct nfa {
    struct edge *edges;
    uint32_t *first; /* of a state: index + 1 of its last edge; 0: none */
    bool *free;
    uint32_t n_states, cap_states, n_edges, cap_edges;
    bool full;
    struct grammar_builder *b;
    const bool *inlined; /* [n_rules]; NULL: no rules occur */
};

static void nfa_done(struct nfa *n)
{
    free(n->edges);
    free(n->first);
    free(n->free);
}

static uint32_t nfa_state(struct nfa *n)
{
    if (n->n_states == n->cap_states) {
        uint32_t cap = n->cap_states ? 2 * n->cap_states : 256;
        uint32_t *first = n->full ? NULL : realloc(n->first, cap * sizeof(*first));
        bool *is_free;

        n->first = first ? first : n->first;
        is_free = first ? realloc(n->free, cap * sizeof(*is_free)) : NULL;
        n->free = is_free ? is_free : n->free;
        if (!is_free || cap > NFA_MAX) {
            n->full = true;
            return 0;
        }
        n->cap_states = cap;
    }
    n->first[n->n_states] = 0;
    n->free[n->n_states] = false;
    return n->n_states++;
}

static struct edge *nfa_edge(struct nfa *n, uint32_t from, uint32_t to, enum edge_kind kind)
{
    static struct edge nowhere;
    struct edge *e;

    if (n->n_edges == n->cap_edges) {
        uint32_t cap = n->cap_edges ? 2 * n->cap_edges : 256;
        struct edge *edges = n->full || cap > NFA_MAX ? NULL : realloc(n->edges, cap * sizeof(*e));

        if (!edges) {
            n->full = true;
            return &nowhere;
        }
        n->edges = edges;
        n->cap_edges = cap;
    }
    e = &n->edges[n->n_edges++];
    *e = (struct edge){.kind = kind, .to = to, .next = n->first[from]};
    n->first[from] = n->n_edges;
    return e;
}

static uint32_t build(struct nfa *n, const struct grammar_expr *e, uint32_t from);

static uint32_t build_dfa(struct nfa *n, const struct grammar_dfa *d, uint32_t from)
{
    uint32_t base = n->n_states, end;

    for (uint32_t s = 1; s < d->n_states; s++) {
        uint32_t id = nfa_state(n);

        if (n->full)
            return from;
        n->free[id] = d->free;
    }
    end = nfa_state(n);
    nfa_edge(n, from, base, EDGE_EMPTY);
    for (uint32_t s = 1; s < d->n_states && !n->full; s++) {
        for (unsigned lo = 0, hi; lo < 256; lo = hi) {
            uint32_t to = d->next[s][lo];
            struct edge *e;

            for (hi = lo + 1; hi < 256 && d->next[s][hi] == to; hi++)
                ;
            if (to == 0)
                continue;
            e = nfa_edge(n, base + s - 1, base + to - 1, EDGE_BYTES);
            e->lo = (uint8_t)lo;
            e->hi = (uint8_t)(hi - 1);
        }
        if (d->accepts[s])
            nfa_edge(n, base + s - 1, end, EDGE_EMPTY);
    }
    return end;
}

static uint32_t build_repeat(struct nfa *n, const struct grammar_expr *e, uint32_t from)
{
    uint32_t end;

    for (uint32_t i = 0; i < e->min && !n->full; i++)
        from = build(n, e->sub[0], from);
    if (e->max == GRAMMAR_NO_END) {
        uint32_t loop = nfa_state(n);

        nfa_edge(n, from, loop, EDGE_EMPTY);
        nfa_edge(n, build(n, e->sub[0], loop), loop, EDGE_EMPTY);
        return loop;
    }
    end = nfa_state(n);
    for (uint32_t i = e->min; i < e->max && !n->full; i++) {
        nfa_edge(n, from, end, EDGE_EMPTY);
        from = build(n, e->sub[0], from);
    }
    nfa_edge(n, from, end, EDGE_EMPTY);
    return end;
}

/* Two rows of states, before each item: above none has been written, below some have.
 *
 *     none ── item ──▶ some            none ┄┄▶ none, some ┄┄▶ some where the item may be left out
 *     some ── between item ──▶ some */
static uint32_t build_join(struct nfa *n, const struct grammar_expr *e, uint32_t from)
{
    uint32_t none = from, some = nfa_state(n), end = nfa_state(n);
    bool none_lives = true;

    for (uint32_t i = 1; i < e->n && !n->full; i++) {
        uint32_t next_none = nfa_state(n), next_some = nfa_state(n);

        if (none_lives)
            nfa_edge(n, build(n, e->sub[i], none), next_some, EDGE_EMPTY);
        if (i > 1)
            nfa_edge(n, build(n, e->sub[i], build(n, e->sub[0], some)), next_some, EDGE_EMPTY);
        if (e->optional[i]) {
            nfa_edge(n, none, next_none, EDGE_EMPTY);
            nfa_edge(n, some, next_some, EDGE_EMPTY);
        }
        none_lives = none_lives && e->optional[i];
        none = next_none;
        some = next_some;
    }
    nfa_edge(n, none, end, EDGE_EMPTY);
    nfa_edge(n, some, end, EDGE_EMPTY);
    return end;
}

/* Adds what e stands for behind a state; returns the state behind it. */
static uint32_t build(struct nfa *n, const struct grammar_expr *e, uint32_t from)
{
    uint32_t to;
    struct edge *edge;

    if (n->full)
        return from;
    switch (e->op) {
    case GRAMMAR_EMPTY:
        break;
    case GRAMMAR_BYTES:
        to = nfa_state(n);
        edge = nfa_edge(n, from, to, EDGE_BYTES);
        edge->lo = e->lo;
        edge->hi = e->hi;
        return to;
    case GRAMMAR_CAT:
        for (uint32_t i = 0; i < e->n; i++)
            from = build(n, e->sub[i], from);
        break;
    case GRAMMAR_ALT:
        to = nfa_state(n);
        for (uint32_t i = 0; i < e->n; i++)
            nfa_edge(n, build(n, e->sub[i], from), to, EDGE_EMPTY);
        return to;
    case GRAMMAR_REPEAT:
        return build_repeat(n, e, from);
    case GRAMMAR_RULE:
        if (n->inlined[e->rule])
            return build(n, n->b->rules[e->rule].expr, from);
        to = nfa_state(n);
        nfa_edge(n, from, to, EDGE_CALL)->rule = e->rule;
        return to;
    case GRAMMAR_JOIN:
        return build_join(n, e, from);
    case GRAMMAR_DFA:
        return build_dfa(n, e->dfa, from);
    }
    return from;
}

/* ---- subsets -----------------------------------------------------------------------------------
 */

struct subset {
    uint32_t at, n; /* in pool: states, ascending */
};

struct subsets {
    const struct nfa *nfa;
    uint32_t end;
    struct subset *sets; /* 0 is empty */
    uint32_t n_sets, cap_sets;
    uint32_t *pool;
    size_t n_pool, cap_pool;
    uint32_t *slots; /* open addressing; 0: free */
    uint32_t n_slots;
    uint32_t *stack, *seen, stamp; /* [nfa.n_states] */
    uint32_t *work;                /* the set in the making */
    uint32_t n_work;
    bool full;
};

static int subsets_init(struct subsets *s, const struct nfa *nfa)
{
    memset(s, 0, sizeof(*s));
    s->nfa = nfa;
    s->n_slots = 256;
    s->slots = calloc(s->n_slots, sizeof(*s->slots));
    s->stack = calloc(nfa->n_states, sizeof(*s->stack));
    s->seen = calloc(nfa->n_states, sizeof(*s->seen));
    s->work = calloc(nfa->n_states, sizeof(*s->work));
    return s->slots && s->stack && s->seen && s->work ? 0 : PD_ENOMEM;
}

static void subsets_done(struct subsets *s)
{
    free(s->sets);
    free(s->pool);
    free(s->slots);
    free(s->stack);
    free(s->seen);
    free(s->work);
}

static void begin_set(struct subsets *s)
{
    s->stamp++;
    s->n_work = 0;
}

/* A state, and where it leads without a byte, into the set in the making. */
static void add_state(struct subsets *s, uint32_t state)
{
    uint32_t top = 0;

    if (s->seen[state] == s->stamp)
        return;
    s->seen[state] = s->stamp;
    s->stack[top++] = state;
    while (top) {
        uint32_t id = s->stack[--top];

        s->work[s->n_work++] = id;
        s->nfa->b->work++;
        for (uint32_t i = s->nfa->first[id]; i; i = s->nfa->edges[i - 1].next) {
            const struct edge *e = &s->nfa->edges[i - 1];

            s->nfa->b->work++;
            if (e->kind == EDGE_EMPTY && s->seen[e->to] != s->stamp) {
                s->seen[e->to] = s->stamp;
                s->stack[top++] = e->to;
            }
        }
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static bool double_slots(struct subsets *s)
{
    uint32_t n = 2 * s->n_slots, *slots = calloc(n, sizeof(*slots));

    if (!slots)
        return false;
    for (uint32_t i = 0; i < s->n_sets; i++) {
        const struct subset *x = &s->sets[i];
        uint32_t at = (uint32_t)pd_hash64(s->pool + x->at, x->n * sizeof(*s->pool)) & (n - 1);

        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = i + 1;
    }
    free(s->slots);
    s->slots = slots;
    s->n_slots = n;
    return true;
}

/* The number of the set that was made, from 1 on; 0: it is empty. */
static uint32_t end_set(struct subsets *s)
{
    uint32_t at;

    grammar_work(s->nfa->b, s->n_work);
    s->full = s->full || s->nfa->b->full;
    if (s->n_work == 0 || s->full)
        return 0;
    qsort(s->work, s->n_work, sizeof(*s->work), by_number);
    at = (uint32_t)pd_hash64(s->work, s->n_work * sizeof(*s->work)) & (s->n_slots - 1);
    for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1)) {
        const struct subset *x = &s->sets[s->slots[at] - 1];

        if (x->n == s->n_work && memcmp(s->pool + x->at, s->work, x->n * sizeof(*s->work)) == 0)
            return s->slots[at];
    }
    if (s->n_sets == s->cap_sets) {
        uint32_t cap = s->cap_sets ? 2 * s->cap_sets : 64;
        struct subset *sets = realloc(s->sets, cap * sizeof(*sets));

        s->sets = sets ? sets : s->sets;
        s->full = !sets;
        s->cap_sets = cap;
    }
    if (!s->full && s->n_pool + s->n_work > s->cap_pool) {
        size_t cap = 2 * (s->cap_pool + s->n_work);
        uint32_t *pool = realloc(s->pool, cap * sizeof(*pool));

        s->pool = pool ? pool : s->pool;
        s->full = !pool;
        s->cap_pool = cap;
    }
    if (s->full || s->n_sets + 1 >= GRAMMAR_MAX_STATES) {
        s->full = true;
        return 0;
    }
    memcpy(s->pool + s->n_pool, s->work, s->n_work * sizeof(*s->work));
    s->sets[s->n_sets] = (struct subset){(uint32_t)s->n_pool, s->n_work};
    s->n_pool += s->n_work;
    s->slots[at] = ++s->n_sets;
    if (2 * s->n_sets > s->n_slots && !double_slots(s))
        s->full = true;
    return s->n_sets;
}

/* The set behind a byte. */
static uint32_t step_set(struct subsets *s, uint32_t set, uint8_t byte)
{
    struct subset from = s->sets[set - 1];

    begin_set(s);
    for (uint32_t k = 0; k < from.n; k++) {
        uint32_t state = s->pool[from.at + k];

        for (uint32_t i = s->nfa->first[state]; i; i = s->nfa->edges[i - 1].next) {
            const struct edge *e = &s->nfa->edges[i - 1];

            s->nfa->b->work++;
            if (e->kind == EDGE_BYTES && byte >= e->lo && byte <= e->hi)
                add_state(s, e->to);
        }
    }
    return end_set(s);
}

/* The set behind a rule. */
static uint32_t call_set(struct subsets *s, uint32_t set, uint32_t rule)
{
    struct subset from = s->sets[set - 1];

    begin_set(s);
    for (uint32_t k = 0; k < from.n; k++)
        for (uint32_t i = s->nfa->first[s->pool[from.at + k]]; i; i = s->nfa->edges[i - 1].next) {
            const struct edge *e = &s->nfa->edges[i - 1];

            s->nfa->b->work++;
            if (e->kind == EDGE_CALL && e->rule == rule)
                add_state(s, e->to);
        }
    return end_set(s);
}

static bool set_has(const struct subsets *s, uint32_t set, uint32_t state)
{
    const struct subset *x = &s->sets[set - 1];

    return bsearch(&state, s->pool + x->at, x->n, sizeof(state), by_number) != NULL;
}

static bool set_is_free(const struct subsets *s, uint32_t set)
{
    const struct subset *x = &s->sets[set - 1];

    for (uint32_t i = 0; i < x->n; i++)
        if (s->nfa->free[s->pool[x->at + i]])
            return true;
    return false;
}

/* ---- automata of expressions without rules
 * ---------------------------------------------------------- */

static struct grammar_dfa *dfa_of(struct grammar_builder *b, uint32_t n_states)
{
    struct grammar_dfa *d = pd_arena_alloc(&b->arena, sizeof(*d));

    if (d) {
        d->n_states = n_states;
        d->next = pd_arena_array(&b->arena, n_states, sizeof(*d->next));
        d->accepts = pd_arena_array(&b->arena, n_states, sizeof(*d->accepts));
    }
    if (d && d->next && d->accepts)
        return d;
    b->full = true;
    return NULL;
}

/* What tells a state apart: its class, and those that it leads to. */
static void write_row(const struct grammar_dfa *d, const uint32_t *class, uint32_t s,
                      uint32_t row[257])
{
    row[256] = class[s];
    for (unsigned byte = 0; byte < 256; byte++)
        row[byte] = class[d->next[s][byte]];
}

/* Moore's algorithm: classes of states that no text tells apart, in next_class; how many. */
static uint32_t refine(const struct grammar_dfa *d, const uint32_t *class, uint32_t *next_class,
                       uint32_t *first, uint64_t *hashes)
{
    uint32_t n = 1, row[257], other[257];

    for (uint32_t s = 1; s < d->n_states; s++) {
        uint64_t hash;
        uint32_t c = 1;

        write_row(d, class, s, row);
        hash = pd_hash64(row, sizeof(row));
        for (; c < n; c++) {
            if (hashes[c] != hash)
                continue;
            write_row(d, class, first[c], other);
            if (memcmp(row, other, sizeof(row)) == 0)
                break;
        }
        if (c == n) {
            first[n] = s;
            hashes[n++] = hash;
        }
        next_class[s] = c;
    }
    return n;
}

/* States that no text tells apart become one: what is repeated is repeated many times. */
static void minimise(struct grammar_builder *b, struct grammar_dfa *d)
{
    uint32_t *class = calloc(d->n_states, sizeof(*class)), *swap,
             *next = calloc(d->n_states, sizeof(*next)),
             *first = calloc(d->n_states, sizeof(*first)), n = 0, was;
    uint64_t *hashes = calloc(d->n_states, sizeof(*hashes));

    for (uint32_t s = 1; class && s < d->n_states; s++)
        class[s] = 1 + d->accepts[s];
    if (class && next && first && hashes) {
        do {
            was = n;
            n = refine(d, class, next, first, hashes);
            grammar_work(b, (uint64_t)d->n_states * 256);
            swap = class;
            class = next;
            next = swap;
        } while (n != was && !b->full);
        for (uint32_t c = 1; c < n; c++) { /* a class comes at or before its first state */
            for (unsigned byte = 0; byte < 256; byte++)
                d->next[c][byte] = class[d->next[first[c]][byte]];
            d->accepts[c] = d->accepts[first[c]];
        }
        d->n_states = n;
    }
    free(class);
    free(next);
    free(first);
    free(hashes);
}

const struct grammar_dfa *grammar_dfa_new(struct grammar_builder *b, const struct grammar_expr *e)
{
    struct nfa nfa = {.b = b};
    struct subsets s = {0};
    struct grammar_dfa *d = NULL;
    uint32_t first = nfa_state(&nfa), end = nfa.full || b->full ? 0 : build(&nfa, e, first);
    uint32_t(*next)[256] = NULL;

    if (!nfa.full && !b->full && subsets_init(&s, &nfa) == 0) {
        begin_set(&s);
        add_state(&s, first);
        end_set(&s);
        for (uint32_t set = 1; set <= s.n_sets && !s.full; set++) {
            if ((set & (set - 1)) == 0) { /* a power of two: room for twice as many */
                void *more = realloc(next, 2 * (size_t)set * sizeof(*next));

                next = more ? more : next;
                s.full = !more;
            }
            for (unsigned byte = 0; byte < 256 && !s.full; byte++)
                next[set][byte] = byte && !b->starts[byte] ? next[set][byte - 1]
                                                           : step_set(&s, set, (uint8_t)byte);
        }
        d = s.full ? NULL : dfa_of(b, s.n_sets + 1);
    }
    for (uint32_t set = 1; d && set <= s.n_sets; set++) {
        memcpy(d->next[set], next[set], sizeof(*next));
        d->accepts[set] = set_has(&s, set, end);
    }
    if (d && d->n_states <= MINIMISE_MAX)
        minimise(b, d);
    b->full = b->full || !d;
    free(next);
    subsets_done(&s);
    nfa_done(&nfa);
    return d;
}

const struct grammar_dfa *grammar_dfa_and(struct grammar_builder *b, const struct grammar_dfa *x,
                                          const struct grammar_dfa *y, bool negate)
{
    uint64_t n_pairs = x && y ? (uint64_t)x->n_states * y->n_states : 0;
    uint32_t *number = NULL, *pairs = NULL, n = 0, pair;
    struct grammar_dfa *d = NULL;

    if (n_pairs && n_pairs <= MAX_PAIRS) {
        number = calloc(n_pairs, sizeof(*number));
        pairs = calloc(GRAMMAR_MAX_STATES, sizeof(*pairs));
    }
    if (number && pairs &&
        (d = dfa_of(b, GRAMMAR_MAX_STATES < n_pairs + 1 ? GRAMMAR_MAX_STATES
                                                        : (uint32_t)n_pairs + 1))) {
        pair = 1 * y->n_states + 1;
        number[pair] = ++n;
        pairs[n] = pair;
    }
    for (uint32_t i = 1; d && i <= n && !b->full; i++) {
        uint32_t p = pairs[i] / y->n_states, q = pairs[i] % y->n_states;

        grammar_work(b, 256);
        d->accepts[i] = x->accepts[p] && y->accepts[q] != negate;
        for (unsigned byte = 0; byte < 256; byte++) {
            pair = x->next[p][byte] * y->n_states + y->next[q][byte];
            if (pair < y->n_states || (!negate && pair % y->n_states == 0))
                continue; /* dead */
            if (!number[pair]) {
                if (n + 1 >= d->n_states) {
                    b->full = true;
                    break;
                }
                number[pair] = ++n;
                pairs[n] = pair;
            }
            d->next[i][byte] = number[pair];
        }
    }
    if (d)
        d->n_states = n + 1;
    b->full = b->full || !d;
    free(number);
    free(pairs);
    return b->full ? NULL : d;
}

bool grammar_dfa_fits_nothing(const struct grammar_dfa *d)
{
    for (uint32_t s = 1; d && s < d->n_states; s++) /* every state can be reached */
        if (d->accepts[s])
            return false;
    return d != NULL;
}

/* The automaton of Knuth, Morris and Pratt; state i + 1 has seen i bytes of `after`. */
const struct grammar_dfa *grammar_dfa_until(struct grammar_builder *b, struct pd_str after)
{
    struct grammar_dfa *d = dfa_of(b, (uint32_t)after.len + 2);
    uint32_t fallback = 1;

    for (uint32_t s = 1; d && s <= after.len; s++) {
        uint8_t byte = (uint8_t)after.ptr[s - 1];

        for (unsigned i = 1; i < 256; i++) /* NUL ends texts */
            d->next[s][i] = s == 1 ? 1 : d->next[fallback][i];
        if (s > 1)
            fallback = d->next[fallback][byte];
        d->next[s][byte] = s + 1;
    }
    b->starts[1] = true;
    for (size_t i = 0; i < after.len; i++)
        b->starts[(uint8_t)after.ptr[i]] = b->starts[(uint8_t)after.ptr[i] + 1] = true;
    if (d) {
        d->accepts[after.len + 1] = true;
        d->free = true;
    }
    return d;
}

/* State 1: no digit yet; 2 + i: i is what is left of the number. */
const struct grammar_dfa *grammar_dfa_multiple(struct grammar_builder *b, uint32_t of)
{
    struct grammar_dfa *d = dfa_of(b, of + 2);

    for (uint32_t s = 1; d && s < of + 2; s++)
        for (unsigned i = 0; i < 10; i++)
            d->next[s]['0' + i] = 2 + ((s < 2 ? 0 : 10 * (s - 2)) + i) % of;
    for (unsigned i = '0'; i <= '9' + 1; i++)
        b->starts[i] = true;
    b->starts['-'] = b->starts['-' + 1] = true;
    if (d) {
        d->next[1]['-'] = 1;
        d->accepts[2] = true;
    }
    return d;
}

/* ---- rules -------------------------------------------------------------------------------------
 */

struct measure {
    const struct grammar_builder *b;
    uint64_t *sizes; /* [n_rules] 0: not known yet */
    bool *open, *never, *inlined;
};

static uint64_t size_of(struct measure *m, const struct grammar_expr *e, unsigned depth);

/* The size of a rule, once it is written out; 1: it is called. A rule that is met while it is being
 * measured is recursive, and then called; one that is met too deep is, too, so that of each cycle
 * at least one is. */
static uint64_t measure(struct measure *m, uint32_t rule, unsigned depth)
{
    if (m->open[rule] || (depth > MEASURE_DEPTH && !m->sizes[rule]))
        m->never[rule] = true;
    else if (!m->sizes[rule]) {
        m->open[rule] = true;
        m->sizes[rule] = size_of(m, m->b->rules[rule].expr, depth + 1);
        m->open[rule] = false;
    }
    m->inlined[rule] = !m->never[rule] && m->sizes[rule] <= INLINE_MAX;
    return m->inlined[rule] ? m->sizes[rule] : 1;
}

static uint64_t size_of(struct measure *m, const struct grammar_expr *e, unsigned depth)
{
    uint64_t n = 1;

    if (e->op == GRAMMAR_RULE)
        return measure(m, e->rule, depth);
    if (e->op == GRAMMAR_DFA)
        n = e->dfa->n_states;
    for (uint32_t i = 0; i < e->n; i++)
        n += size_of(m, e->sub[i], depth);
    if (e->op == GRAMMAR_REPEAT)
        n *= e->max == GRAMMAR_NO_END ? (uint64_t)e->min + 1 : e->max;
    return n < INLINE_MAX ? n : INLINE_MAX + 1;
}

static int choose_inlined(const struct grammar_builder *b, bool *inlined)
{
    struct measure m = {.b = b,
                        .sizes = calloc(b->n_rules, sizeof(*m.sizes)),
                        .open = calloc(b->n_rules, 1),
                        .never = calloc(b->n_rules, 1),
                        .inlined = inlined};
    int rc = m.sizes && m.open && m.never ? 0 : PD_ENOMEM;

    for (uint32_t i = 0; i < b->n_rules && rc == 0; i++)
        m.never[i] = b->rules[i].apart;
    for (uint32_t i = 0; i < b->n_rules && rc == 0; i++)
        measure(&m, i, 0);
    free(m.sizes);
    free(m.open);
    free(m.never);
    return rc;
}

/* An automaton in the making: its tables grow. */
struct making {
    struct grammar_automaton *a;
    size_t cap_states, cap_calls, n_calls;
    uint8_t byte_of[256]; /* one of each class */
};

static bool room_for(struct making *m, uint32_t n_states, size_t n_calls)
{
    struct grammar_automaton *a = m->a;
    size_t n = a->n_states + (size_t)n_states, cap = m->cap_states;

    if (n > GRAMMAR_MAX_STATES || n * a->n_classes * sizeof(*a->next) > TABLE_BYTES ||
        m->n_calls + n_calls > MAX_CALLS)
        return false;
    while (cap < n + 1)
        cap = cap ? 2 * cap : 256;
    if (cap > m->cap_states) {
        uint32_t *next = realloc(a->next, cap * a->n_classes * sizeof(*next)), *at, *rule;
        bool *accepts, *is_free;

        a->next = next ? next : a->next;
        at = realloc(a->calls_at, (cap + 1) * sizeof(*at));
        a->calls_at = at ? at : a->calls_at;
        rule = realloc(a->rule_of, cap * sizeof(*rule));
        a->rule_of = rule ? rule : a->rule_of;
        accepts = realloc(a->accepts, cap);
        a->accepts = accepts ? accepts : a->accepts;
        is_free = realloc(a->free, cap);
        a->free = is_free ? is_free : a->free;
        if (!next || !at || !rule || !accepts || !is_free)
            return false;
        m->cap_states = cap;
    }
    cap = m->cap_calls;
    while (cap < m->n_calls + n_calls)
        cap = cap ? 2 * cap : 64;
    if (cap > m->cap_calls) {
        struct grammar_call *calls = realloc(a->calls, cap * sizeof(*calls));

        if (!calls)
            return false;
        a->calls = calls;
        m->cap_calls = cap;
    }
    return true;
}

/* The calls of a set, without those that are there twice: their rules in s->stack. */
static uint32_t called_rules(struct subsets *s, uint32_t set)
{
    struct subset from = s->sets[set - 1];
    uint32_t n = 0, kept = 0;

    for (uint32_t k = 0; k < from.n; k++)
        for (uint32_t i = s->nfa->first[s->pool[from.at + k]]; i; i = s->nfa->edges[i - 1].next)
            if (s->nfa->edges[i - 1].kind == EDGE_CALL && n < s->nfa->n_states)
                s->stack[n++] = s->nfa->edges[i - 1].rule;
    qsort(s->stack, n, sizeof(*s->stack), by_number);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || s->stack[i] != s->stack[i - 1])
            s->stack[kept++] = s->stack[i];
    return kept;
}

/* One rule's states, behind those that are there. False: it is too much. */
static bool make_states(struct making *m, struct subsets *s, uint32_t first, uint32_t end,
                        uint32_t rule)
{
    struct grammar_automaton *a = m->a;
    uint32_t base = a->n_states - 1; /* of a set's number */

    begin_set(s);
    add_state(s, first);
    end_set(s);
    for (uint32_t set = 1; set <= s->n_sets && !s->full; set++) {
        uint32_t id = base + set, n_calls = called_rules(s, set), *rules = NULL;

        if (!room_for(m, 1, n_calls))
            return false;
        for (uint32_t c = 0; c < a->n_classes; c++) {
            uint32_t to = step_set(s, set, m->byte_of[c]);

            a->next[(size_t)id * a->n_classes + c] = to ? base + to : 0;
        }
        a->rule_of[id] = rule;
        a->accepts[id] = set_has(s, set, end);
        a->free[id] = set_is_free(s, set);
        a->calls_at[id] = (uint32_t)m->n_calls;
        if (n_calls) { /* step_set has used the stack */
            n_calls = called_rules(s, set);
            rules = malloc(n_calls * sizeof(*rules));
            if (!rules)
                return false;
            memcpy(rules, s->stack, n_calls * sizeof(*rules));
        }
        for (uint32_t i = 0; i < n_calls; i++) {
            uint32_t to = call_set(s, set, rules[i]);

            a->calls[m->n_calls++] = (struct grammar_call){rules[i], to ? base + to : 0};
        }
        free(rules);
        a->n_states++;
    }
    return !s->full;
}

static bool make_rule(struct making *m, struct grammar_builder *b, const bool *inlined,
                      uint32_t rule)
{
    struct nfa nfa = {.b = b, .inlined = inlined};
    struct subsets s = {0};
    uint32_t first = nfa_state(&nfa), end = nfa.full ? 0 : build(&nfa, b->rules[rule].expr, first);
    bool ok = !nfa.full && subsets_init(&s, &nfa) == 0;

    grammar_work(b, nfa.n_edges);
    m->a->first[rule] = m->a->n_states;
    ok = ok && make_states(m, &s, first, end, rule);
    subsets_done(&s);
    nfa_done(&nfa);
    return ok;
}

/* Sets ends[s] for the states from which an end can be reached, or (now) is there without another
 * byte. Mostly states lead to later ones: they are looked at from the last one on, until nothing
 * changes. False: b is full. */
static bool find_ends(struct grammar_builder *b, const struct grammar_automaton *a, bool now,
                      bool *ends)
{
    uint32_t n_classes = now ? 0 : a->n_classes;

    for (bool more = true; more;) {
        more = false;
        grammar_work(b, (uint64_t)a->n_states * n_classes + a->calls_at[a->n_states]);
        if (b->full)
            return false;
        for (uint32_t s = a->n_states; s-- > 1;) {
            bool yes = a->accepts[s];

            if (ends[s])
                continue;
            for (uint32_t c = 0; c < n_classes && !yes; c++)
                yes = ends[a->next[(size_t)s * a->n_classes + c]];
            for (uint32_t i = a->calls_at[s]; i < a->calls_at[s + 1] && !yes; i++)
                yes = ends[a->first[a->calls[i].rule]] && ends[a->calls[i].to];
            ends[s] = yes;
            more = more || yes;
        }
    }
    return true;
}

/* What cannot end is dead: edges to such states go, and calls of rules that cannot end. */
static int trim(struct grammar_builder *b, struct grammar_automaton *a)
{
    bool *ends = calloc(a->n_states, 1);
    int rc = !ends ? PD_ENOMEM : find_ends(b, a, false, ends) ? 0 : PD_ELIMIT;

    for (uint32_t s = 1; s < a->n_states && rc == 0; s++) {
        for (uint32_t c = 0; c < a->n_classes; c++) {
            uint32_t *to = &a->next[(size_t)s * a->n_classes + c];

            *to = ends[*to] ? *to : 0;
        }
        for (uint32_t i = a->calls_at[s]; i < a->calls_at[s + 1]; i++)
            if (!ends[a->first[a->calls[i].rule]] || !ends[a->calls[i].to])
                a->calls[i].to = 0;
    }
    for (uint32_t r = 0; r < a->n_rules && rc == 0; r++)
        a->first[r] = ends[a->first[r]] ? a->first[r] : 0;
    free(ends);
    return rc;
}

static int find_nullable(struct grammar_builder *b, struct grammar_automaton *a)
{
    bool *ends = calloc(a->n_states, 1);
    int rc = !ends ? PD_ENOMEM : find_ends(b, a, true, ends) ? 0 : PD_ELIMIT;

    for (uint32_t r = 0; r < a->n_rules && rc == 0; r++)
        a->nullable[r] = ends[a->first[r]];
    free(ends);
    return rc;
}

static int find_returns(struct grammar_automaton *a)
{
    size_t n = a->calls_at[a->n_states];
    uint32_t n_live;

    a->returns = calloc(n ? n : 1, sizeof(*a->returns));
    if (!a->returns)
        return PD_ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (a->calls[i].to)
            a->returns_at[a->calls[i].rule + 1]++;
    for (uint32_t r = 0; r < a->n_rules; r++)
        a->returns_at[r + 1] += a->returns_at[r];
    n_live = a->returns_at[a->n_rules];
    for (size_t i = n; i-- > 0;)
        if (a->calls[i].to)
            a->returns[--a->returns_at[a->calls[i].rule + 1]] = a->calls[i].to;
    /* each row has been filled from its end, which has moved to its beginning */
    memmove(a->returns_at, a->returns_at + 1, a->n_rules * sizeof(*a->returns_at));
    a->returns_at[a->n_rules] = n_live;
    return 0;
}

static void find_classes(struct making *m, const struct grammar_builder *b)
{
    struct grammar_automaton *a = m->a;

    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte == 0 || b->starts[byte])
            m->byte_of[a->n_classes++] = (uint8_t)byte;
        a->class_of[byte] = (uint8_t)(a->n_classes - 1);
    }
}

static int compile(struct making *m, struct grammar_builder *b, bool *inlined)
{
    struct grammar_automaton *a = m->a;
    int rc;

    a->n_states = 1;
    a->n_rules = b->n_rules;
    find_classes(m, b);
    a->first = calloc(b->n_rules, sizeof(*a->first));
    a->nullable = calloc(b->n_rules, 1);
    a->returns_at = calloc(b->n_rules + 1, sizeof(*a->returns_at));
    if (!a->first || !a->nullable || !a->returns_at || choose_inlined(b, inlined) < 0 ||
        !room_for(m, 1, 0))
        return PD_ENOMEM;
    memset(a->next, 0, a->n_classes * sizeof(*a->next));
    a->calls_at[0] = a->calls_at[1] = a->rule_of[0] = 0;
    a->accepts[0] = a->free[0] = false;
    for (uint32_t r = 0; r < b->n_rules; r++)
        if ((r == 0 || !inlined[r]) && !make_rule(m, b, inlined, r))
            return PD_ELIMIT;
    a->calls_at[a->n_states] = (uint32_t)m->n_calls;
    rc = trim(b, a);
    if (rc == 0)
        rc = find_nullable(b, a);
    return rc == 0 ? find_returns(a) : rc;
}

int grammar_compile(struct grammar_builder *b, struct grammar_automaton *out, struct pd_err *err)
{
    struct making m = {.a = out};
    bool *inlined = calloc(b->n_rules + 1, 1);
    int rc = grammar_builder_check(b, err);

    memset(out, 0, sizeof(*out));
    if (rc == 0 && !inlined)
        rc = PD_ENOMEM;
    else if (rc == 0)
        rc = compile(&m, b, inlined);
    if (rc == PD_ENOMEM) {
        pd_fail(err, rc, "out of memory for a grammar");
    } else if (rc == PD_ELIMIT) {
        b->full = true;
        rc = grammar_builder_check(b, err);
    } else if (rc == 0 && !out->first[0]) {
        rc = pd_fail(err, PD_EINVAL, "no text fits it: a rule without an end, or a contradiction");
    }
    free(inlined);
    if (rc < 0)
        grammar_automaton_done(out);
    return rc;
}

void grammar_automaton_done(struct grammar_automaton *a)
{
    free(a->next);
    free(a->calls_at);
    free(a->calls);
    free(a->rule_of);
    free(a->accepts);
    free(a->free);
    free(a->first);
    free(a->nullable);
    free(a->returns_at);
    free(a->returns);
    memset(a, 0, sizeof(*a));
}

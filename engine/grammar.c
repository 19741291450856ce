/* Grammars at work: where a text stands (Earley's algorithm over the automata of the rules, arXiv
 * of the method: Earley 1970, with nullable rules as Aycock and Horspool 2002 have them), and which
 * tokens may come next (masks, kept for each state as in XGrammar, arXiv:2411.15100, §3.1).
 *
 * An item (state, origin) says: behind `origin` bytes a rule began, and it is in this state now.
 * Invariants:
 *  1. A set is closed: with a state that calls a rule it has the rule's first state, and with one
 *     that ends a rule the states behind its calls.
 *  2. From every state an end can be reached, so what has been read can always be finished.
 *  3. A mask depends on the items of the last set alone, and those on the text alone.
 *
 * For a state s of rule R all tokens fall in three parts, whatever the rest of the text is: those
 * that R (and what it calls) reads to their end; those that nothing reads; and those whose
 * beginning ends R, so that the rest is for whoever called it. Of these only the ones are kept that
 * some caller could read; they are tried on the text itself. A set's items that were called in it
 * need no look: their callers are in it too. */
#include "engine/grammar_int.h"

#include <assert.h>
#include <stdlib.h>

#include "engine/tokenizer_int.h"

#define NO_ORIGIN   UINT32_MAX /* of a rule that nothing called */
#define SET_MAX     1024       /* items of a set */
#define ITEMS_MAX   ((size_t)1 << 24)
#define WORK_MAX    (UINT64_C(1) << 27) /* of one mask: about a second */
#define CACHE_BYTES ((size_t)128 << 20)
#define MAX_MARK    256 /* bytes of a spec's begin and after */
#define MAX_BLANKS  8   /* behind them */

struct grammar_item {
    uint32_t state, origin;
};

/* Of one state. */
struct part_mask {
    uint64_t *some; /* tokens that may come, as bits; NULL: as ids */
    int32_t *ids;   /* the same */
    int32_t *open;  /* tokens that depend on who called the rule, by text */
    uint32_t n_ids, n_open;
    size_t bytes;
};

struct eng_grammar {
    atomic_uint refs;
    const struct eng_tokenizer *tok; /* NULL: texts only */
    struct grammar_automaton a;
    /* the scheduler's */
    struct part_mask **parts; /* [n_states]; NULL: not made yet */
    size_t part_bytes;
    uint64_t *work_mask; /* of all tokens */
};

/* ---- the object
 * -------------------------------------------------------------------------------------- */

/* Rule 0: the root, or what comes before it and the root. With spec->begin that is there if the
 * text begins so. */
static void make_whole(struct grammar_builder *b, const struct eng_grammar_spec *spec)
{
    struct grammar_expr *blank, *before;

    b->rules[0].expr = b->rules[GRAMMAR_ROOT].expr;
    if (!spec->after)
        return;
    blank = grammar_list(b, GRAMMAR_ALT);
    for (const char *c = " \t\r\n"; *c; c++)
        grammar_push(b, blank, grammar_bytes(b, (uint8_t)*c, (uint8_t)*c));
    blank = grammar_repeat(b, blank, 0, MAX_BLANKS);
    before = grammar_of_dfa(b, grammar_dfa_until(b, pd_str_of(spec->after)));
    before = grammar_cat(b, before, blank);
    if (spec->begin) {
        before = grammar_cat(b, grammar_literal(b, pd_str_of(spec->begin)), before);
        before = grammar_repeat(b, before, 0, 1);
    }
    b->rules[0].expr = grammar_cat(b, before, b->rules[0].expr);
}

static int check_spec(const struct eng_grammar_spec *spec, struct pd_err *err)
{
    if (spec->text.len > ENG_GRAMMAR_MAX_BYTES)
        return pd_fail(err, PD_ECOMPLEX, "%s has %zu bytes (at most %d)",
                       spec->kind == ENG_GRAMMAR_SCHEMA ? "the schema" : "the grammar",
                       spec->text.len, ENG_GRAMMAR_MAX_BYTES);
    if ((spec->after && (!*spec->after || strlen(spec->after) > MAX_MARK)) ||
        (spec->begin && (!*spec->begin || strlen(spec->begin) > MAX_MARK || !spec->after)))
        return pd_fail(err, PD_EINVAL, "what a grammar stands behind must have 1 to %d bytes",
                       MAX_MARK);
    return 0;
}

int eng_grammar_new(const struct eng_tokenizer *t, const struct eng_grammar_spec *spec,
                    struct eng_grammar **out, struct pd_err *err)
{
    struct grammar_builder b;
    struct eng_grammar *g = NULL;
    int rc = check_spec(spec, err);

    if (rc < 0)
        return rc;
    grammar_builder_init(&b);
    rc = spec->kind == ENG_GRAMMAR_SCHEMA ? grammar_read_schema(&b, spec->text, err)
                                          : grammar_read_gbnf(&b, spec->text, err);
    if (rc == 0)
        rc = grammar_builder_check(&b, err);
    if (rc == 0) {
        make_whole(&b, spec);
        g = calloc(1, sizeof(*g));
        rc = g ? grammar_compile(&b, &g->a, err) : pd_fail(err, PD_ENOMEM, "out of memory");
    }
    grammar_builder_done(&b);
    if (rc == 0) {
        atomic_init(&g->refs, 1);
        g->tok = t;
        g->parts = calloc(g->a.n_states, sizeof(struct part_mask *));
        if (!g->parts)
            rc = pd_fail(err, PD_ENOMEM, "out of memory for a grammar");
    }
    if (rc == PD_ELIMIT) {
        rc = PD_ECOMPLEX;
        if (err)
            err->code = rc;
    }
    if (rc < 0) {
        if (rc != PD_ENOMEM)
            pd_err_context(err, spec->kind == ENG_GRAMMAR_SCHEMA ? "the schema" : "the grammar");
        if (g)
            grammar_automaton_done(&g->a);
        free(g);
        return rc;
    }
    *out = g;
    return 0;
}

struct eng_grammar *eng_grammar_ref(struct eng_grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

static void part_free(struct part_mask *p)
{
    if (!p)
        return;
    free(p->some);
    free(p->ids);
    free(p->open);
    free(p);
}

static void drop_parts(struct eng_grammar *g)
{
    for (uint32_t s = 0; s < g->a.n_states; s++) {
        part_free(g->parts[s]);
        g->parts[s] = NULL;
    }
    g->part_bytes = 0;
}

void eng_grammar_unref(struct eng_grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    drop_parts(g);
    free(g->parts);
    free(g->work_mask);
    grammar_automaton_done(&g->a);
    free(g);
}

const struct eng_tokenizer *grammar_tokenizer(const struct eng_grammar *g)
{
    return g->tok;
}

/* ---- texts -------------------------------------------------------------------------------------
 */

static bool begin_set(struct grammar_text *t)
{
    if (t->n_sets == t->cap_sets) {
        size_t cap = t->cap_sets ? 2 * t->cap_sets : 64, *sets = NULL;

        if (cap <= ITEMS_MAX)
            sets = realloc(t->sets, cap * sizeof(*sets));
        if (!sets)
            return false;
        t->sets = sets;
        t->cap_sets = cap;
    }
    t->sets[t->n_sets++] = t->n_items;
    return true;
}

/* Into the last set, unless it is there. */
static int add_item(struct grammar_text *t, uint32_t state, uint32_t origin)
{
    size_t from = t->sets[t->n_sets - 1];

    t->work += 1 + t->n_items - from;
    for (size_t i = from; i < t->n_items; i++)
        if (t->items[i].state == state && t->items[i].origin == origin)
            return 0;
    if (t->n_items - from >= SET_MAX)
        return PD_ELIMIT;
    if (t->n_items == t->cap_items) {
        size_t cap = t->cap_items ? 2 * t->cap_items : 64;
        struct grammar_item *items =
            cap <= ITEMS_MAX ? realloc(t->items, cap * sizeof(*items)) : NULL;

        if (!items)
            return cap <= ITEMS_MAX ? PD_ENOMEM : PD_ELIMIT;
        t->items = items;
        t->cap_items = cap;
    }
    t->items[t->n_items++] = (struct grammar_item){state, origin};
    return 0;
}

/* The end of a rule that began behind `origin` bytes. */
static int complete(struct grammar_text *t, uint32_t rule, uint32_t origin)
{
    const struct grammar_automaton *a = &t->g->a;
    int rc = 0;

    if (origin == NO_ORIGIN) {
        for (uint32_t i = a->returns_at[rule]; t->open && i < a->returns_at[rule + 1] && rc == 0;
             i++)
            rc = add_item(t, a->returns[i], NO_ORIGIN);
        return rc;
    }
    for (size_t k = t->sets[origin]; k < t->sets[origin + 1] && rc == 0; k++) {
        struct grammar_item caller = t->items[k];

        t->work++;
        for (uint32_t i = a->calls_at[caller.state]; i < a->calls_at[caller.state + 1] && rc == 0;
             i++)
            if (a->calls[i].rule == rule && a->calls[i].to)
                rc = add_item(t, a->calls[i].to, caller.origin);
    }
    return rc;
}

/* Makes the last set closed (1). */
static int close_set(struct grammar_text *t)
{
    const struct grammar_automaton *a = &t->g->a;
    uint32_t here = (uint32_t)t->n_sets - 1;
    int rc = 0;

    for (size_t k = t->sets[here]; k < t->n_items && rc == 0; k++) {
        struct grammar_item item = t->items[k];

        for (uint32_t i = a->calls_at[item.state]; i < a->calls_at[item.state + 1] && rc == 0;
             i++) {
            const struct grammar_call *c = &a->calls[i];

            if (!c->to)
                continue;
            rc = add_item(t, a->first[c->rule], here);
            if (rc == 0 && a->nullable[c->rule])
                rc = add_item(t, c->to, item.origin);
        }
        if (rc == 0 && a->accepts[item.state] && item.origin != here)
            rc = complete(t, a->rule_of[item.state], item.origin);
    }
    return rc;
}

/* Takes away what is behind the first n sets. */
static void cut(struct grammar_text *t, size_t n_sets)
{
    if (n_sets < t->n_sets) {
        t->n_items = t->sets[n_sets];
        t->n_sets = n_sets;
    }
}

/* 1: added; 0: it does not fit, and nothing has changed. */
static int add_byte(struct grammar_text *t, uint8_t byte)
{
    const struct grammar_automaton *a = &t->g->a;
    size_t from = t->sets[t->n_sets - 1], to = t->n_items, n = t->n_sets;
    uint8_t class = a->class_of[byte];
    int rc = 0;

    if (!begin_set(t))
        return PD_ENOMEM;
    for (size_t i = from; i < to && rc == 0; i++) {
        uint32_t next = a->next[(size_t)t->items[i].state * a->n_classes + class];

        t->work++;
        if (next)
            rc = add_item(t, next, t->items[i].origin);
    }
    if (rc == 0 && t->n_items > to)
        rc = close_set(t);
    if (rc == 0 && t->n_items > to)
        return 1;
    cut(t, n);
    return rc;
}

static int too_hard(int rc, struct pd_err *err)
{
    return rc == PD_ENOMEM
               ? pd_fail(err, rc, "out of memory for a text under a grammar")
               : pd_fail(err, PD_ELIMIT,
                         "the grammar can read the text in too many ways: make its alternatives "
                         "differ where they begin");
}

static int start(struct grammar_text *t, uint32_t state)
{
    int rc = begin_set(t) ? add_item(t, state, NO_ORIGIN) : PD_ENOMEM;

    return rc == 0 ? close_set(t) : rc;
}

int grammar_text_init(struct grammar_text *t, struct eng_grammar *g, struct pd_err *err)
{
    int rc;

    *t = (struct grammar_text){.g = g};
    rc = start(t, g->a.first[0]);
    if (rc < 0) {
        grammar_text_done(t);
        return too_hard(rc, err);
    }
    return 0;
}

void grammar_text_done(struct grammar_text *t)
{
    free(t->items);
    free(t->sets);
    t->items = NULL;
    t->sets = NULL;
}

int grammar_text_add(struct grammar_text *t, struct pd_str text, struct pd_err *err)
{
    for (size_t i = 0; i < text.len; i++) {
        int rc = add_byte(t, (uint8_t)text.ptr[i]);

        if (rc < 0)
            return too_hard(rc, err);
        if (rc == 0)
            return pd_fail(err, PD_EINVAL, "byte %zu of the text does not fit the grammar",
                           t->n_sets);
    }
    return 0;
}

int grammar_text_add_token(struct grammar_text *t, int32_t id, struct pd_err *err)
{
    return grammar_text_add(t, tok_text(t->g->tok, id), err);
}

bool grammar_text_whole(const struct grammar_text *t)
{
    const struct grammar_automaton *a = &t->g->a;

    for (size_t i = t->sets[t->n_sets - 1]; i < t->n_items; i++)
        if (t->items[i].origin == NO_ORIGIN && a->accepts[t->items[i].state] &&
            a->rule_of[t->items[i].state] == 0)
            return true;
    return false;
}

int eng_grammar_fit(struct eng_grammar *g, struct pd_str text, enum eng_fit *out,
                    struct pd_err *err)
{
    struct pd_err why;
    struct grammar_text t;
    int rc = grammar_text_init(&t, g, err);

    if (rc < 0)
        return rc;
    rc = grammar_text_add(&t, text, &why);
    *out = rc < 0 ? ENG_FIT_NOT : grammar_text_whole(&t) ? ENG_FIT_WHOLE : ENG_FIT_BEGINS;
    grammar_text_done(&t);
    if (rc == 0 || rc == PD_EINVAL)
        return 0;
    return pd_fail(err, rc, "%s", why.text);
}

/* ---- masks -------------------------------------------------------------------------------------
 */

size_t grammar_mask_words(size_t n_vocab)
{
    return (n_vocab + 63) / 64;
}

static void set_bit(uint64_t *mask, int32_t id)
{
    mask[id / 64] |= UINT64_C(1) << (id % 64);
}

static bool has_bit(const uint64_t *mask, int32_t id)
{
    return mask[id / 64] >> (id % 64) & 1;
}

/* Calls each(arg, first, n) for the ids of each node that t reads to its end. */
static int walk(struct grammar_text *t, const struct tok_tree *tree,
                void (*each)(void *arg, const int32_t *ids, size_t n), void *arg)
{
    size_t base = t->n_sets;

    for (uint32_t i = 0; i < tree->n_nodes;) {
        const struct tok_node *node = &tree->nodes[i];
        int rc;

        cut(t, base + node->depth - 1);
        rc = t->work > WORK_MAX ? PD_ELIMIT : add_byte(t, node->byte);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            i = node->end;
            continue;
        }
        if (node->n_ids)
            each(arg, tree->ids + node->first, node->n_ids);
        i++;
    }
    cut(t, base);
    return 0;
}

static void mark(void *arg, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        set_bit(arg, ids[i]);
}

struct opening {
    const uint64_t *some;
    int32_t *ids;
    uint32_t n;
};

static void mark_open(void *arg, const int32_t *ids, size_t n)
{
    struct opening *o = arg;

    for (size_t i = 0; i < n; i++)
        if (!has_bit(o->some, ids[i]))
            o->ids[o->n++] = ids[i];
}

/* Tokens that control the model may come where the text is free, as far as they leave it so. */
static int mark_control(const struct eng_grammar *g, const struct tok_tree *tree, uint32_t state,
                        uint64_t *mask)
{
    for (uint32_t i = 0; i < tree->n_control; i++) {
        int32_t id = tree->ids[tree->n_ids + i];
        struct pd_str text = tok_text(g->tok, id);
        uint32_t s = state;

        for (size_t k = 0; k < text.len; k++)
            s = g->a.next[(size_t)s * g->a.n_classes + g->a.class_of[(uint8_t)text.ptr[k]]];
        if (g->a.free[s] && !g->tok->ends[id])
            set_bit(mask, id);
    }
    return 0;
}

static int part_fill(struct eng_grammar *g, const struct tok_tree *tree, uint32_t state,
                     struct part_mask *p, uint64_t *io_work)
{
    size_t words = grammar_mask_words(g->tok->n_vocab), n = 0;
    struct grammar_text t = {.g = g, .work = *io_work};
    struct opening opening = {.some = g->work_mask};
    uint32_t rule = g->a.rule_of[state];
    int rc;

    memset(g->work_mask, 0, words * sizeof(*g->work_mask));
    rc = start(&t, state);
    if (rc == 0)
        rc = walk(&t, tree, mark, g->work_mask);
    if (rc == 0)
        mark_control(g, tree, state, g->work_mask);
    if (rc == 0 && g->a.returns_at[rule] < g->a.returns_at[rule + 1]) {
        opening.ids = calloc((size_t)tree->n_ids + 1, sizeof(*opening.ids));
        rc = opening.ids ? 0 : PD_ENOMEM;
        t.open = true; /* behind the first byte: where the rule ends now, the set tells it */
        if (rc == 0)
            rc = walk(&t, tree, mark_open, &opening);
    }
    *io_work = t.work;
    grammar_text_done(&t);
    if (rc == 0 && opening.n) {
        p->open = realloc(opening.ids, opening.n * sizeof(*opening.ids));
        p->n_open = opening.n;
    }
    if (!p->open)
        free(opening.ids);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < words; i++)
        n += (size_t)__builtin_popcountll(g->work_mask[i]);
    if (n * sizeof(*p->ids) < words * sizeof(*p->some)) {
        p->ids = calloc(n + 1, sizeof(*p->ids));
        for (int32_t id = 0; p->ids && (uint32_t)id < g->tok->n_vocab; id++)
            if (has_bit(g->work_mask, id))
                p->ids[p->n_ids++] = id;
    } else if ((p->some = malloc(words * sizeof(*p->some)))) {
        memcpy(p->some, g->work_mask, words * sizeof(*p->some));
    }
    p->bytes = sizeof(*p) + p->n_open * sizeof(*p->open) +
               (p->some ? words * sizeof(*p->some) : (n + 1) * sizeof(*p->ids));
    return p->some || p->ids ? 0 : PD_ENOMEM;
}

/* The tokens of a state; the first time they are found. */
static int part_of(struct eng_grammar *g, uint32_t state, struct part_mask **out, uint64_t *io_work)
{
    const struct tok_tree *tree = tok_tree_of(g->tok);
    struct part_mask *p;
    int rc;

    *out = g->parts[state];
    if (*out)
        return 0;
    if (!g->work_mask)
        g->work_mask = calloc(grammar_mask_words(g->tok->n_vocab), sizeof(*g->work_mask));
    p = calloc(1, sizeof(*p));
    if (!tree || !g->work_mask || !p) {
        free(p);
        return PD_ENOMEM;
    }
    rc = part_fill(g, tree, state, p, io_work);
    if (rc < 0) {
        part_free(p);
        return rc;
    }
    if (g->part_bytes + p->bytes > CACHE_BYTES)
        drop_parts(g);
    g->part_bytes += p->bytes;
    g->parts[state] = *out = p;
    return 0;
}

/* Tries the tokens that depend on more than a state on the text itself. They ascend, so that what
 * two of them have in common is read once. */
static int try_open(struct grammar_text *t, const struct part_mask *p, uint64_t *mask)
{
    const struct eng_tokenizer *tok = t->g->tok;
    size_t base = t->n_sets,
           dead = SIZE_MAX; /* dead: so long a beginning of `before` does not fit */
    struct pd_str before = {"", 0};
    int rc = 1;

    for (uint32_t i = 0; i < p->n_open && rc >= 0; i++) {
        struct pd_str text = tok_text(tok, p->open[i]);
        size_t same = 0;

        if (has_bit(mask, p->open[i]))
            continue;
        while (same < text.len && same < before.len && text.ptr[same] == before.ptr[same])
            same++;
        if (same >= dead)
            continue;
        cut(t, base + same);
        before = text;
        dead = SIZE_MAX;
        for (size_t k = t->n_sets - base; k < text.len && rc > 0; k++) {
            rc = t->work > WORK_MAX ? PD_ELIMIT : add_byte(t, (uint8_t)text.ptr[k]);
            if (rc == 0)
                dead = k + 1;
        }
        if (rc > 0)
            set_bit(mask, p->open[i]);
        rc = rc == 0 ? 1 : rc;
    }
    cut(t, base);
    return rc < 0 ? rc : 0;
}

static void mark_part(const struct part_mask *p, uint64_t *mask, size_t words)
{
    for (size_t i = 0; p->some && i < words; i++)
        mask[i] |= p->some[i];
    for (uint32_t i = 0; i < p->n_ids; i++)
        set_bit(mask, p->ids[i]);
}

static void mark_ends(const struct eng_tokenizer *tok, uint64_t *mask)
{
    const struct tok_tree *tree = tok_tree_of(tok);

    for (uint32_t i = 0; i < tree->n_control; i++)
        if (tok->ends[tree->ids[tree->n_ids + i]])
            set_bit(mask, tree->ids[tree->n_ids + i]);
}

int64_t grammar_mask(struct grammar_text *t, uint64_t *mask, size_t n_vocab, struct pd_err *err)
{
    struct eng_grammar *g = t->g;
    size_t words = grammar_mask_words(g->tok->n_vocab), n_all = grammar_mask_words(n_vocab);
    size_t from = t->sets[t->n_sets - 1], to = t->n_items;
    uint32_t here = (uint32_t)t->n_sets - 1;
    int64_t n = 0;
    int rc = 0;

    assert(n_vocab >= g->tok->n_vocab);
    memset(mask, 0, n_all * sizeof(*mask));
    t->work = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = from; i < to && rc == 0; i++) {
            struct part_mask *p = NULL;

            if (t->items[i].origin == here)
                continue; /* called in this set: see above */
            rc = part_of(g, t->items[i].state, &p, &t->work);
            if (rc == 0 && pass == 0)
                mark_part(p, mask, words);
            else if (rc == 0)
                rc = try_open(t, p, mask);
        }
    if (rc < 0)
        return too_hard(rc, err);
    if (grammar_text_whole(t))
        mark_ends(g->tok, mask);
    for (size_t i = 0; i < n_all; i++)
        n += __builtin_popcountll(mask[i]);
    return n;
}

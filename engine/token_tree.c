/* The tokens of a vocabulary as a tree of bytes, for those who ask many of them the same question:
 * tokens that begin alike are walked once. */
#include "engine/tokenizer_int.h"

#include <stdlib.h>

#define MAX_DEPTH UINT16_MAX /* longer tokens are left out */

static int by_text(const void *a, const void *b, void *arg)
{
    const struct eng_tokenizer *t = arg;
    int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    struct pd_str x = tok_text(t, i), y = tok_text(t, k);
    int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);

    return order ? order : x.len != y.len ? (x.len > y.len) - (x.len < y.len) : (i > k) - (i < k);
}

/* Those that are text, then those that control the model. */
static void collect(const struct eng_tokenizer *t, struct tok_tree *tree)
{
    for (int pass = 0; pass < 2; pass++)
        for (int32_t id = 0; (uint32_t)id < t->n_vocab; id++) {
            size_t len = tok_text(t, id).len;
            bool control = t->types[id] == TOK_CONTROL || t->ends[id];

            if (len == 0 || len > MAX_DEPTH || t->types[id] == TOK_UNUSED ||
                t->types[id] == TOK_UNKNOWN || control != (pass == 1))
                continue;
            tree->ids[tree->n_ids + tree->n_control] = id;
            if (control)
                tree->n_control++;
            else
                tree->n_ids++;
        }
}

static size_t common(struct pd_str x, struct pd_str y)
{
    size_t n = 0;

    while (n < x.len && n < y.len && x.ptr[n] == y.ptr[n])
        n++;
    return n;
}

/* How many nodes there are; fills them where there is room. */
static uint32_t plant(const struct eng_tokenizer *t, struct tok_tree *tree, uint32_t *open)
{
    struct pd_str before = {"", 0};
    uint32_t n = 0;

    for (uint32_t i = 0; i < tree->n_ids; i++) {
        struct pd_str text = tok_text(t, tree->ids[i]);
        size_t same = common(before, text);

        for (size_t d = same; tree->nodes && d < before.len; d++)
            tree->nodes[open[d]].end = n;
        for (size_t d = same; d < text.len; d++, n++) {
            if (!tree->nodes)
                continue;
            tree->nodes[n] = (struct tok_node){
                .first = i, .depth = (uint16_t)(d + 1), .byte = (uint8_t)text.ptr[d]};
            open[d] = n;
        }
        if (tree->nodes) /* the same text twice ends in the same node */
            tree->nodes[open[text.len - 1]].n_ids++;
        before = text;
    }
    for (size_t d = 0; tree->nodes && d < before.len; d++)
        tree->nodes[open[d]].end = n;
    return n;
}

static struct tok_tree *tree_new(const struct eng_tokenizer *t)
{
    struct tok_tree *tree = calloc(1, sizeof(*tree));
    uint32_t *open = calloc(t->max_bytes + 1, sizeof(*open));

    if (tree && open && (tree->ids = calloc((size_t)t->n_vocab + 1, sizeof(*tree->ids)))) {
        collect(t, tree);
        qsort_r(tree->ids, tree->n_ids, sizeof(*tree->ids), by_text, (void *)(uintptr_t)t);
        tree->n_nodes = plant(t, tree, open);
        tree->nodes = calloc((size_t)tree->n_nodes + 1, sizeof(*tree->nodes));
        if (tree->nodes)
            plant(t, tree, open);
    }
    free(open);
    if (tree && tree->nodes)
        return tree;
    tok_tree_free(tree);
    return NULL;
}

const struct tok_tree *tok_tree_of(const struct eng_tokenizer *t)
{
    /* only this member of a tokenizer is ever written to once it is shared */
    _Atomic(struct tok_tree *) *slot = (_Atomic(struct tok_tree *) *)(uintptr_t)&t->tree;
    struct tok_tree *tree = atomic_load(slot), *none = NULL;

    if (tree)
        return tree;
    tree = tree_new(t);
    if (tree && !atomic_compare_exchange_strong(slot, &none, tree)) {
        tok_tree_free(tree);
        tree = none;
    }
    return tree;
}

void tok_tree_free(struct tok_tree *tree)
{
    if (!tree)
        return;
    free(tree->nodes);
    free(tree->ids);
    free(tree);
}

#include "daemon/follow.h"

#include <inttypes.h>
#include <stdlib.h>

#define NODES_MAX ((size_t)1 << 16)
#define BYTES_MAX ((size_t)8 << 20)

struct follow_node {
    uint32_t parent;
    bool known, over, marked;
    size_t n_told;
    struct pd_buf text;
};

void follow_init(struct follow *f)
{
    *f = (struct follow){.out = PD_BUF_INIT(BYTES_MAX)};
}

void follow_done(struct follow *f)
{
    for (size_t i = 0; i < f->n; i++)
        pd_buf_done(&f->nodes[i].text);
    free(f->nodes);
    pd_buf_done(&f->out);
}

static struct follow_node *node_at(struct follow *f, uint32_t id)
{
    while (f->n <= id && !f->full) {
        if (f->n == f->cap) {
            size_t cap = f->cap ? 2 * f->cap : 64;
            struct follow_node *grown =
                cap <= NODES_MAX ? realloc(f->nodes, cap * sizeof *grown) : NULL;

            f->full = !grown;
            if (f->full)
                break;
            f->nodes = grown;
            f->cap = cap;
        }
        f->nodes[f->n++] = (struct follow_node){.text = PD_BUF_INIT(BYTES_MAX)};
    }
    return f->full ? NULL : &f->nodes[id];
}

static void tell(struct follow *f, struct follow_node *n)
{
    pd_buf_adds(&f->out, pd_str_sub(pd_buf_str(&n->text), n->n_told, n->text.len));
    n->n_told = n->text.len;
}

void follow_piece(struct follow *f, const struct pd_piece *p)
{
    struct follow_node *n = node_at(f, p->node);

    f->bytes += p->text.len;
    if (!n || f->bytes > BYTES_MAX) {
        f->full = true;
        return;
    }
    n->known = true;
    n->parent = p->parent;
    n->over = p->last;
    pd_buf_adds(&n->text, p->text);
    if (f->current == 0 || (f->current == p->parent && f->nodes[p->parent].over))
        f->current = p->node;
    if (f->current == p->node)
        tell(f, n);
}

/* Marks the known nodes from id to the beginning of its line, or takes the marks away. */
static void mark(struct follow *f, uint32_t id, bool marked)
{
    for (; id < f->n && f->nodes[id].known; id = f->nodes[id].parent)
        f->nodes[id].marked = marked;
}

static bool is_ancestor(const struct follow *f, uint32_t a, uint32_t of)
{
    while (of < f->n && f->nodes[of].known && of != a)
        of = f->nodes[of].parent;
    return of == a;
}

/* From the first unmarked node of its line on. */
static void tell_line(struct follow *f, uint32_t id)
{
    uint32_t path[4096];
    size_t n = 0;

    for (; id < f->n && f->nodes[id].known && !f->nodes[id].marked && n < 4096;
         id = f->nodes[id].parent)
        path[n++] = id;
    while (n > 0) {
        f->nodes[path[--n]].n_told = 0;
        tell(f, &f->nodes[path[n]]);
    }
}

void follow_best(struct follow *f, uint32_t node, double value)
{
    if (f->full || node >= f->n || is_ancestor(f, node, f->current))
        return;
    mark(f, f->current, true);
    if (!is_ancestor(f, f->current, node))
        pd_buf_printf(&f->out, "\n[branch n%" PRIu32 " score %.2f]\n", node, value);
    tell_line(f, node);
    mark(f, f->current, false);
    f->current = node;
}

/* A trace as a tree in text. Children that have no brother go on under their parent, so that a line
 * of thought is a column and only real branches move to the right. */
#include "cli/cli.h"

#include <stdlib.h>

#define NONE       UINT32_MAX
#define TEXT_CHARS 72

struct branch {
    uint32_t parent, first, last, next; /* indices into trace->nodes */
    bool has_score;
    double score;
};

/* nodes are ascending by id */
static uint32_t find(const struct pd_trace *t, uint32_t id)
{
    size_t lo = 0, hi = t->n_nodes;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (t->nodes[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->n_nodes && t->nodes[lo].id == id ? (uint32_t)lo : NONE;
}

static void link_nodes(const struct pd_trace *t, struct branch *b)
{
    for (uint32_t i = 0; i < t->n_nodes; i++)
        b[i] = (struct branch){NONE, NONE, NONE, NONE, false, 0};
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        uint32_t parent = find(t, t->nodes[i].parent);

        if (parent == NONE || parent >= i) /* the root, and whatever an odd file may say */
            continue;
        b[i].parent = parent;
        if (b[parent].first == NONE)
            b[parent].first = i;
        else
            b[b[parent].last].next = i;
        b[parent].last = i;
    }
    for (size_t k = 0; k < t->n_scores; k++) {
        uint32_t i = find(t, t->scores[k].node_id);

        if (i != NONE) {
            b[i].has_score = true;
            b[i].score = t->scores[k].value;
        }
    }
}

static bool has_brother(const struct branch *b, uint32_t i)
{
    return b[i].parent != NONE && b[b[i].parent].first != b[b[i].parent].last;
}

/* own: this line starts a branch (├─), else it goes on below one (│). path has room for every node.
 */
static void prefix(FILE *f, const struct branch *b, uint32_t node, uint32_t *path)
{
    size_t n = 0;

    for (uint32_t i = node; i != NONE; i = b[i].parent)
        if (has_brother(b, i))
            path[n++] = i;
    while (n-- > 0) {
        bool more = b[path[n]].next != NONE;

        if (path[n] == node)
            fputs(more ? "├─ " : "└─ ", f);
        else
            fputs(more ? "│  " : "   ", f);
    }
}

static void draw(FILE *f, const struct pd_trace *t, const struct branch *b, uint32_t i,
                 uint32_t *path)
{
    const struct pd_node_rec *n = &t->nodes[i];

    fputs(cli_dim(f), f);
    prefix(f, b, i, path);
    fprintf(f, "%u ", n->id);
    if (b[i].has_score)
        fprintf(f, "[%.2f] ", b[i].score);
    fputs(cli_plain(f), f);
    if (n->text.len > 0 && n->finish && strcmp(n->finish, "prompt") == 0)
        fputs("(prompt) ", f);
    if (n->text.len > 0)
        cli_text_line(f, pd_str_trim(n->text), TEXT_CHARS);
    else
        fprintf(f, "(%s)", n->finish ? n->finish : "empty");
    fprintf(f, "%s  %u tok", cli_dim(f), n->n_tokens);
    if (n->status && strcmp(n->status, "open") != 0)
        fprintf(f, ", %s", n->status);
    if (n->prune_reason)
        fprintf(f, " (%s)", n->prune_reason);
    if (n->stop)
        fprintf(f, ", cut by %s", n->stop);
    fputs(cli_plain(f), f);
    if (t->job.answer_node == (int64_t)n->id)
        fprintf(f, "  %s<- answer%s", cli_bold(f), cli_plain(f));
    fputc('\n', f);
}

int cli_tree(FILE *f, const struct pd_trace *t, struct pd_err *err)
{
    struct branch *b;
    uint32_t *path;

    if (t->n_nodes == 0)
        return 0;
    b = calloc(t->n_nodes, sizeof(*b));
    path = calloc(t->n_nodes, sizeof(*path));
    if (!b || !path) {
        free(b);
        free(path);
        return cli_no_memory(err);
    }
    link_nodes(t, b);
    for (uint32_t root = 0; root < t->n_nodes; root++) {
        uint32_t i = b[root].parent == NONE ? root : NONE;

        while (i != NONE) { /* depth first, without a stack */
            draw(f, t, b, i, path);
            if (b[i].first != NONE) {
                i = b[i].first;
                continue;
            }
            while (i != NONE && i != root && b[i].next == NONE)
                i = b[i].parent;
            i = i == NONE || i == root ? NONE : b[i].next;
        }
    }
    free(b);
    free(path);
    return 0;
}

/* subtask_prune: reasoning as a tree of tasks, of which what is done is forgotten. Luo et al.,
 * Beyond Context Limits: Subconscious Threads for Long-Horizon Reasoning (TIM, TIMRUN),
 * arXiv:2507.16784. The line is JSON under constrained decoding, {thought, subtasks[], conclusion}
 * for each task. When a list of subtasks closes, its items leave the model's context but for the
 * prune_buffer lists that closed last; what is behind them moves up. Deviations: no tool calls;
 * what moved is evaluated again at its new place, so that the context is exactly the text that is
 * left.
 */
#include "core/search.h"

#define THINK_END "</think>" /* a thought of the model's own comes before the tree */

struct prune_params {
    int prune_buffer;
};

struct list { /* of subtasks: what is between its brackets, in bytes of the line */
    size_t begin, end;
};

/* The lists that have closed, in that order. A bracket in a string is none. */
static int closed_lists(struct search *s, struct pd_str line, struct list **out)
{
    struct list *lists = search_alloc(s, (line.len + 1) * sizeof *lists);
    size_t *open = search_alloc(s, (line.len + 1) * sizeof *open);
    ptrdiff_t thought = pd_str_find(line, PD_STR(THINK_END));
    size_t i = thought < 0 ? 0 : (size_t)thought + strlen(THINK_END), n = 0, depth = 0;
    bool quoted = false;

    *out = lists;
    if (!pd_str_starts(pd_str_trim(pd_str_sub(line, i, line.len)), PD_STR("{")))
        return 0; /* the tree has not begun */
    for (; i < line.len; i++) {
        char c = line.ptr[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && c == '[')
            open[depth++] = i + 1;
        else if (!quoted && c == ']' && depth > 0)
            lists[n++] = (struct list){open[--depth], i};
    }
    return (int)n;
}

/* Forgets the lists from the `from`-th on that are not among the last; how many are forgotten. */
static int prune(struct search *s, const struct prune_params *p, struct node *at, int *io_pruned,
                 struct pd_err *err)
{
    struct list *lists;
    int n = closed_lists(s, search_line(s, at), &lists) - p->prune_buffer, rc = 0;
    struct pd_jw *w;

    if (n <= *io_pruned)
        return 0;
    w = search_decide(s, "prune");
    search_put_nodes(w, "node", &at, 1);
    pd_jw_key(w, "bytes");
    pd_jw_array(w);
    for (int i = *io_pruned; i < n; i++) {
        pd_jw_array(w);
        pd_jw_uint(w, lists[i].begin);
        pd_jw_uint(w, lists[i].end);
        pd_jw_end_array(w);
    }
    pd_jw_end_array(w);
    rc = search_decided(s, err);
    for (; *io_pruned < n && rc == 0; (*io_pruned)++)
        rc = search_forget(s, at, lists[*io_pruned].begin, lists[*io_pruned].end, err);
    return rc;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct prune_params *p = params;
    struct node *at = search_root(s);
    int rc = 0, pruned = 0;

    while (rc == 0 && search_open(at)) {
        /* 1. Write up to the end of a list. */
        rc = search_extend(s, &at, 1, UNTIL_BRACKET, &at, err);
        /* 2. Forget what the lists hold that are done. */
        if (rc == 0 && search_open(at))
            rc = prune(s, p, at, &pruned, err);
    }
    return rc < 0 ? rc
                  : search_answer(s, search_finished(at) && search_key(at)[0] ? at : NULL, err);
}

/* What is longer than 240 characters is for a subtask. */
static const struct pd_form tree = {
    .schema = true,
    .text = "{\"$ref\":\"#/$defs/task\",\"$defs\":{\"task\":{\"type\":\"object\",\"properties\":{"
            "\"thought\":{\"type\":\"string\",\"maxLength\":240},"
            "\"subtasks\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/task\"}},"
            "\"conclusion\":{\"type\":\"string\",\"maxLength\":240}},"
            "\"required\":[\"thought\",\"conclusion\"]}}}",
    .names = "conclusion",
};

static const struct pd_param params[] = {
    PD_INT(prune_params, prune_buffer, 1, 0, 1 << 20,
           "lists of subtasks that stay, of those that closed last"),
    {0},
};

extern const struct pd_strategy strategy_subtask_prune;
const struct pd_strategy strategy_subtask_prune = {
    .name = "subtask_prune",
    .paper = "arXiv:2507.16784",
    .summary = "a JSON tree of tasks, of which the subtasks that are done leave the context",
    .params = params,
    .params_size = sizeof(struct prune_params),
    .form = &tree,
    .run = run,
};

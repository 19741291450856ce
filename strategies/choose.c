#include "strategies/choose.h"

struct node *choose(struct search *s, struct node *const *lines, int n, enum choose_vote vote,
                    enum search_aggregate how)
{
    struct tally *votes = tally_new(s);
    struct node *best = NULL;

    for (int i = 0; i < n; i++) {
        double a = search_value(lines[i], how);

        if (!search_finished(lines[i]) || !search_key(lines[i])[0])
            continue;
        if (!best || a > search_value(best, how))
            best = lines[i];
        tally_vote(votes, lines[i], vote == VOTE_MAJORITY ? 1 : search_scored(lines[i]) ? a : 0);
    }
    return vote == VOTE_NONE ? best : tally_winner(votes);
}

void choose_sort(struct node **nodes, double *values, int n)
{
    for (int i = 1; i < n; i++) { /* by insertion: stable, and n is small */
        struct node *node = nodes[i];
        double v = values[i];
        int k = i;

        for (; k > 0 && (values[k - 1] < v ||
                         (values[k - 1] <= v && search_id(nodes[k - 1]) > search_id(node)));
             k--) {
            nodes[k] = nodes[k - 1];
            values[k] = values[k - 1];
        }
        nodes[k] = node;
        values[k] = v;
    }
}

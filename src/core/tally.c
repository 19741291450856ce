/* Votes by canonical answer. Ties go by the order of the first vote. */
#include "core/search_int.h"

struct group {
    struct group *next;
    const char *key;
    double weight, best_weight;
    struct node *best; /* the voter with the greatest weight of its own */
};

struct tally {
    struct search *search;
    struct group *first, **last;
};

struct tally *tally_new(struct search *s)
{
    struct tally *t = search_alloc(s, sizeof *t);

    t->search = s;
    t->last = &t->first;
    return t;
}

void tally_vote(struct tally *t, struct node *n, double weight)
{
    struct group *g = t->first;

    if (!search_key(n)[0])
        return;
    while (g && strcmp(g->key, search_key(n)) != 0)
        g = g->next;
    if (!g) {
        g = search_alloc(t->search, sizeof *g);
        g->key = search_key(n);
        *t->last = g;
        t->last = &g->next;
    }
    g->weight += weight;
    if (!g->best || weight > g->best_weight) {
        g->best = n;
        g->best_weight = weight;
    }
}

struct node *tally_winner(struct tally *t)
{
    struct group *best = t->first;
    struct pd_jw *w = search_decide(t->search, "vote");

    pd_jw_key(w, "groups");
    pd_jw_array(w);
    for (struct group *g = t->first; g; g = g->next) {
        if (g->weight > best->weight)
            best = g;
        pd_jw_object(w);
        pd_jw_put_text(w, "answer", g->key);
        pd_jw_put_double(w, "weight", g->weight);
        pd_jw_put_uint(w, "node", g->best->id);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    search_decided(t->search,
                   t->search->err); /* an error sticks in the sink: the flush returns it */
    return best ? best->best : NULL;
}

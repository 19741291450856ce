/* first_finish: the first line to end is the answer. Agarwal et al., First Finish Search: Efficient
 * Test-Time Scaling in Large Language Models, arXiv:2505.18149, Algorithm 1; the majority of the k
 * first (FFS-k@N) or of the k longest (LFS-k@N) as in The Art of Scaling Test-Time Compute. All
 * lines decode in lockstep, so "first" is the fewest tokens, not the fastest clock. */
#include "core/search.h"

struct ff_params {
    int samples, k, order, event;
    bool skip_empty;
};

enum { ORDER_SHORTEST, ORDER_LONGEST };
enum { EVENT_EOS, EVENT_THINK_END };

/* By length, ties as they stand (lowest id first). */
static void by_length(struct node **lines, int n, bool longest)
{
    for (int i = 1; i < n; i++) {
        struct node *line = lines[i];
        int k = i;

        for (; k > 0 && (longest ? search_tokens(lines[k - 1]) < search_tokens(line)
                                 : search_tokens(lines[k - 1]) > search_tokens(line));
             k--)
            lines[k] = lines[k - 1];
        lines[k] = line;
    }
}

/* Decodes until k lines that count have ended; fills won[k], returns how many there are. Lines that
 * ended in one step with those taken wait their turn: one of them may have an empty answer. */
static int race(struct search *s, const struct ff_params *p, struct node **won, struct pd_err *err)
{
    int n = p->samples, n_won = 0, n_ended = 0, rc = 0;
    struct node **live = search_array(s, n), **ended = search_array(s, n);

    for (int i = 0; i < n; i++)
        live[i] = search_root(s);
    while (rc == 0 && n_won < p->k && n + n_ended > 0) {
        int need = p->k - n_won, n_lanes = n, n_taken;

        if (n_ended == 0) {
            rc = search_race(s, live, n, need < n ? need : n,
                             p->event == EVENT_EOS ? UNTIL_END : UNTIL_THOUGHT, live, err);
            n = 0;
            for (int i = 0; i < n_lanes && rc == 0; i++) {
                if (search_cut_off(live[i]))
                    live[n++] = live[i];
                else if (search_finished(live[i]) || search_open(live[i]))
                    ended[n_ended++] = live[i];
            }
            by_length(ended, n_ended, false);
        }
        n_taken = n_ended < need ? n_ended : need;
        if (rc == 0) /* thinking has ended: now the solution */
            rc = search_advance(s, ended, n_taken, UNTIL_END, err);
        for (int i = 0; i < n_taken && rc == 0; i++)
            if (search_finished(ended[i]) && (search_key(ended[i])[0] || !p->skip_empty))
                won[n_won++] = ended[i];
        n_ended -= n_taken;
        for (int i = 0; i < n_ended; i++)
            ended[i] = ended[i + n_taken];
    }
    for (int i = 0; i < n && rc == 0; i++)
        search_prune(s, live[i], "race");
    for (int i = 0; i < n_ended && rc == 0; i++)
        search_prune(s, ended[i], "race");
    return rc < 0 ? rc : n_won;
}

/* All lines to their end, the k longest. */
static int longest(struct search *s, const struct ff_params *p, struct node **won,
                   struct pd_err *err)
{
    struct node **lane = search_array(s, p->samples);
    int n = 0, rc = search_sample(s, search_root(s), p->samples, UNTIL_END, lane, err);

    for (int i = 0; i < p->samples && rc == 0; i++)
        if (search_finished(lane[i]) && (search_key(lane[i])[0] || !p->skip_empty))
            lane[n++] = lane[i];
    by_length(lane, n, true);
    for (int i = 0; i < n && i < p->k && rc == 0; i++)
        won[i] = lane[i];
    return rc < 0 ? rc : n < p->k ? n : p->k;
}

/* The line's place among those that started: a race that went on has made new nodes of it. */
static uint32_t lane_of(struct node *line)
{
    while (search_steps(line) > 1)
        line = search_parent(line);
    return search_id(line);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct ff_params *p = params;
    struct node **won = search_array(s, p->k);
    struct tally *votes = tally_new(s);
    int n, rc;

    if (p->k > p->samples)
        return pd_fail(err, PD_EINVAL, "k=%d lines cannot be taken of samples=%d", p->k,
                       p->samples);
    n = p->order == ORDER_LONGEST ? longest(s, p, won, err) : race(s, p, won, err);
    if (n < 0)
        return n;
    search_put_nodes(search_decide(s, "finishers"), "nodes", won, n);
    rc = search_decided(s, err);
    for (int k = 0; k < n; k++) { /* in order of lanes: ties are those of a majority vote */
        struct node *first = NULL;
        int at = 0;

        for (int i = 0; i < n; i++)
            if (won[i] && (!first || lane_of(won[i]) < lane_of(first)))
                first = won[at = i];
        tally_vote(votes, first, 1);
        won[at] = NULL;
    }
    return rc < 0 ? rc : search_answer(s, tally_winner(votes), err);
}

static const struct pd_param params[] = {
    PD_INT(ff_params, samples, 4, 1, 256, "lines that start"),
    PD_INT(ff_params, k, 1, 1, 256, "lines that are waited for; their majority answers"),
    PD_CHOICE(ff_params, order, ORDER_SHORTEST, "shortest|longest", "which lines count"),
    PD_CHOICE(ff_params, event, EVENT_EOS, "eos|think_end", "what ends the race"),
    PD_BOOL(ff_params, skip_empty, 1, "a line without an answer does not win"),
    {0},
};

extern const struct pd_strategy strategy_first_finish;
const struct pd_strategy strategy_first_finish = {
    .name = "first_finish",
    .paper = "arXiv:2505.18149",
    .summary = "start lines together, take the first to end",
    .params = params,
    .params_size = sizeof(struct ff_params),
    .run = run,
};

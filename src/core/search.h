/* The verbs that strategies are written in. They block; all parallelism is behind them. They keep
 * the budget, write the trace, serve what a stored trace already has, honour cancel and deadline.
 * Every verb that returns int returns 0 or a negative pd_code that the strategy passes up
 * unchanged.
 *
 * Everything lives in the job's arena and dies with the job. */
#ifndef PD_CORE_SEARCH_H
#define PD_CORE_SEARCH_H

#include "base/err.h"
#include "core/param.h"
#include "core/strategy.h"

struct search;
struct node; /* a piece of text behind its parent's; the root is the prompt */

enum search_until {
    UNTIL_STEP, /* to the end of one step ("\n\n"), or the end */
    UNTIL_END,  /* to the model's end of turn */
};

enum search_aggregate { AGGREGATE_LAST, AGGREGATE_MIN, AGGREGATE_PROD, AGGREGATE_MEAN };
#define SEARCH_AGGREGATES "last|min|prod|mean"

/* n children of one node. A child may end truncated (budget, caps): ask search_finished(). */
int search_sample(struct search *s, struct node *parent, int n, enum search_until until,
                  struct node **out, struct pd_err *err);
/* One child of each of n nodes, in one batch. */
int search_extend(struct search *s, struct node *const *nodes, int n, enum search_until until,
                  struct node **out, struct pd_err *err);
/* n children in lockstep; the rest are cut off when the first m have ended (fewest tokens, ties by
 * index). */
int search_race(struct search *s, struct node *parent, int n, int m, enum search_until until,
                struct node **out, struct pd_err *err);
/* The verifier's step rewards of each node's line; incremental; nodes already scored cost nothing.
 */
int search_score(struct search *s, struct node *const *nodes, int n, struct pd_err *err);
void search_prune(struct search *s, struct node *node, const char *why);
/* Names the answer. NULL: the strategy has none, the ending rule decides (strategies.md §1.6). */
int search_answer(struct search *s, struct node *node, struct pd_err *err);
/* Uniform in [0,1) for decisions of the search itself. */
double search_random(struct search *s);

struct node *search_root(struct search *s);
void *search_alloc(struct search *s,
                   size_t bytes); /* zeroed; never NULL (the job ends with PD_ENOMEM) */
struct node **search_array(struct search *s, int n);

bool search_finished(const struct node *n); /* its line ended by itself (end of turn) */
bool search_open(const struct node *n);     /* it can be extended */
const char *
search_key(const struct node *n); /* canonical answer of its line; "" when there is none */
bool search_scored(const struct node *n);
double search_value(const struct node *n,
                    enum search_aggregate how); /* -1 when not scored (orders below all) */
double search_temperature(const struct search *s);

/* Votes by canonical answer. Lanes that have not finished or have no answer do not vote. */
struct tally;
struct tally *tally_new(struct search *s);
void tally_vote(struct tally *t, struct node *n, double weight);
/* Greatest weight, ties to the answer whose first vote came earliest. The node returned is the one
 * of that answer with the greatest weight of its own, ties to the earliest. NULL when nobody voted.
 */
struct node *tally_winner(struct tally *t);

#endif

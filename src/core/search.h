/* The verbs that strategies are written in. They block; all parallelism is behind them. They keep
 * the budget, write the trace, serve what a stored trace already has, honour cancel and deadline.
 * Every verb that returns int returns 0 or a negative pd_code that the strategy passes up
 * unchanged.
 *
 * Everything lives in the job's arena and dies with the job. */
#ifndef PD_CORE_SEARCH_H
#define PD_CORE_SEARCH_H

#include "base/err.h"
#include "base/json.h"
#include "core/param.h"
#include "core/strategy.h"

struct search;
struct node; /* a piece of text behind its parent's; the root is the prompt */

enum search_until {
    UNTIL_STEP,    /* to the end of one step ("\n\n"), or the end */
    UNTIL_THOUGHT, /* to the end of thinking ("</think>"), or the end */
    UNTIL_BRACE,   /* to a "}", or the end */
    UNTIL_BRACKET, /* to a "]", or the end */
    UNTIL_END,     /* to the model's end of turn */
};

enum search_aggregate { AGGREGATE_LAST, AGGREGATE_MIN, AGGREGATE_PROD, AGGREGATE_MEAN };
#define SEARCH_AGGREGATES "last|min|prod|mean"

/* ---- making nodes -------------------------------------------------------------------------- */

/* n children of one node. A child may end truncated (budget, caps): ask search_finished(). */
int search_sample(struct search *s, struct node *parent, int n, enum search_until until,
                  struct node **out, struct pd_err *err);
/* One child of each of n nodes, in one batch. A node that is named k times gets k
 * children. out may be nodes, here and below. */
int search_extend(struct search *s, struct node *const *nodes, int n, enum search_until until,
                  struct node **out, struct pd_err *err);
/* The open ones of n nodes go on, in one batch and in place: nodes[i] becomes its child. */
int search_advance(struct search *s, struct node **nodes, int n, enum search_until until,
                   struct pd_err *err);
/* As search_extend, at most max_tokens each: a child that reaches them stays open. */
int search_extend_within(struct search *s, struct node *const *nodes, int n,
                         enum search_until until, int max_tokens, struct node **out,
                         struct pd_err *err);
/* One child of each of n nodes, in lockstep: all are cut off in the decode step in which m of them
 * have ended by themselves (or all have ended). A line that was cut stays open where it was cut
 * (search_cut_off): race it on, or prune it. */
int search_race(struct search *s, struct node *const *nodes, int n, int m, enum search_until until,
                struct node **out, struct pd_err *err);
/* Looks ahead of each of n nodes: up to `steps` greedy steps, or to the end. out[i] is the last
 * node of the roll-out, nodes[i] itself when it cannot go on. Roll-outs stand beside the tree: they
 * count in the budget but leave their node as it was. Prune them when they have been read. */
int search_rollout(struct search *s, struct node *const *nodes, int n, int steps, struct node **out,
                   struct pd_err *err);
/* The draft model writes one child of each of n nodes, beside the tree: go on from it and it is
 * part of the tree, or prune it. */
int search_draft(struct search *s, struct node *const *nodes, int n, enum search_until until,
                 struct node **out, struct pd_err *err);
/* A child of given text; nothing is sampled, and nothing is generated. */
int search_force(struct search *s, struct node *parent, struct pd_str text, struct node **out,
                 struct pd_err *err);
/* Takes node's place: its text without the ending, which it must have, then text. The tokens that
 * were drawn stay and count as drawn; node is pruned. */
int search_reword(struct search *s, struct node *node, struct pd_str ending, struct pd_str text,
                  struct node **out, struct pd_err *err);
/* Asks the model something else: a node of which lines begin as they do of the root, with question
 * in place of the job's (in its conversation) as their prompt; its own line is empty. apart: what
 * they say is no answer to the job's question, so they neither vote nor are wrapped up. A prompt
 * that the model's context cannot hold leads nowhere (search_failed). */
int search_prompt(struct search *s, struct pd_str question, bool apart, struct node **out,
                  struct pd_err *err);
/* A block: text that is written beside others, which see it while it grows (Hogwild!). It begins
 * with given text behind parent in the tree, but what lanes behind it see before it is what
 * search_see says. aside: a heading, no line of its own. Verbs other than the three below take a
 * node of a block for the line that it stands on, evaluated anew. */
int search_block(struct search *s, struct node *parent, struct pd_str text, bool aside,
                 struct node **out, struct pd_err *err);
/* What is before the node's block: these, in this order; of a node in a block its block up to it,
 * of another its whole line with the prompt. */
void search_see(struct search *s, struct node *node, struct node *const *sees, int n);
/* The n open ends of blocks go on at once, in place, one token a step, and see each other's tokens
 * as they are written. All are cut off when one comes to the end of its step or of its line; nobody
 * draws more than max_tokens. never: texts of single tokens that are not drawn, as is none that
 * begins or ends a text; NULL: all may be. One node may also be of no block: an ordinary line. */
int search_together(struct search *s, struct node **nodes, int n, int max_tokens,
                    const char *const *never, struct pd_err *err);
/* The text of node's block up to it, put behind onto as a node; its cache moves there, nothing is
 * evaluated again. The block is no more. */
int search_join(struct search *s, struct node *onto, struct node *node, struct node **out,
                struct pd_err *err);
/* Lanes behind node do not see bytes [begin, end) of its line, nor what they saw without before: the
 * tokens that lie wholly in there are left out, those behind move up and are evaluated again. The
 * line, its text and the trace keep them. */
int search_forget(struct search *s, struct node *node, size_t begin, size_t end,
                  struct pd_err *err);
/* An open line has said all that was asked of it: it is finished. */
int search_close(struct search *s, struct node *node, struct pd_err *err);
void search_prune(struct search *s, struct node *node, const char *why);
/* What is sampled from now on is sampled at this temperature; it begins with the job's. */
void search_set_temperature(struct search *s, double temperature);
/* Of what is sampled from now on the confidence of each token is kept (search_confidences): -1/top
 * times the sum of the log-probabilities of the `top` likeliest, at most 20; 0: no more. A line is
 * cut off (search_cut_off) with the token at which the mean over its last `window` tokens, once
 * they are so many, is below `least`; window 0: none is. */
void search_set_confidence(struct search *s, int top, int window, double least);

/* ---- judging and deciding ------------------------------------------------------------------ */

/* The verifier's step rewards of each node's line; incremental; nodes already scored cost
 * nothing. */
int search_score(struct search *s, struct node *const *nodes, int n, struct pd_err *err);
/* What would come next: behind each of n lines, then text, the probabilities of n_labels tokens,
 * as shares among these labels: out[n][n_labels]. A label is the text of a single token. Nothing is
 * drawn, and the lines stay as they are; behind a finished line the end token is left out. */
int search_read(struct search *s, struct node *const *nodes, int n, struct pd_str text,
                const char *const *labels, int n_labels, double *out, struct pd_err *err);
/* Names the answer, or the best so far: the last one counts, also when a budget ends the search.
 * NULL: the strategy has none, the ending rule decides. */
int search_answer(struct search *s, struct node *node, struct pd_err *err);
/* The end of a search whose last verb returned rc, 0 or PD_EBUDGET: search_answer, then rc, so that
 * the job knows what ended it. */
int search_end(struct search *s, struct node *node, int rc, struct pd_err *err);
/* Would rather say nothing: no answer, and no ending rule that finds one. */
int search_abstain(struct search *s, struct pd_err *err);
/* Runs another strategy on the job's question, in this tree: what it draws are new lines from the
 * root. *out is its answer, or the majority of what it finished; NULL: it has none, or abstains.
 * When its own tokens are spent it ends; PD_EBUDGET is that the job's are, and *out is there too.
 */
struct search_nested {
    const struct pd_strategy *strategy;
    const void *params;        /* parsed */
    uint64_t tokens;           /* it may draw so many; 0: what the job has left */
    struct node *const *lines; /* whole lines from the root, at the job's temperature, which stand
                                  for its first ones (of a strategy that draws such): not drawn */
    int n_lines;
};
int search_nest(struct search *s, const struct search_nested *how, struct node **out,
                struct pd_err *err);
/* Uniform in [0,1) for decisions of the search itself. */
double search_random(struct search *s);
/* A decision for the trace, with the numbers it was made from: search_decide opens it, members are
 * written, search_decided closes it. */
struct pd_jw *search_decide(struct search *s, const char *kind);
int search_decided(struct search *s, struct pd_err *err);
void search_put_doubles(struct pd_jw *w, const char *key, const double *values, int n);
void search_put_nodes(struct pd_jw *w, const char *key, struct node *const *nodes, int n); /* ids */

/* ---- asking -------------------------------------------------------------------------------- */

struct node *search_root(struct search *s);
/* Zeroed; never NULL (the job ends with PD_ENOMEM). */
void *search_alloc(struct search *s, size_t bytes);
struct node **search_array(struct search *s, int n);
/* Room for one more of n items of so many bytes: the array, or a larger copy of it. */
void *search_room(struct search *s, void *items, size_t n, size_t *cap, size_t bytes);
int search_max_steps(const struct search *s);
struct pd_str search_question(const struct search *s); /* the job's */
double search_temperature(const struct search *s);

bool search_finished(const struct node *n); /* its line ended by itself (end of turn) */
bool search_open(const struct node *n);     /* it can be extended */
bool search_failed(const struct node *n);   /* an empty or repeated step, a prompt too long for the
                                               model: it leads nowhere */
bool search_cut_off(const struct node *n);  /* open, but cut off by a race, or for its confidence */
/* One for each token of its own; NULL: nobody asked. */
const float *search_confidences(const struct node *n, uint32_t *out_n);
bool search_scored(const struct node *n);
/* Canonical answer of its line; "" when there is none. */
const char *search_key(const struct node *n);
/* -1 when not scored: orders below all. */
double search_value(const struct node *n, enum search_aggregate how);
/* The same of n >= 1 step rewards. */
double pd_aggregate(const double *rewards, size_t n, enum search_aggregate how);
uint64_t search_spent(const struct search *s); /* tokens generated so far */
uint32_t search_id(const struct node *n);      /* in order of creation */
uint32_t search_steps(const struct node *n);   /* nodes from the prompt, without it */
uint32_t search_tokens(const struct node *n);  /* generated on its line */
struct node *search_parent(const struct node *n);
struct pd_str search_text(const struct node *n);                   /* its own */
struct pd_str search_line(struct search *s, const struct node *n); /* of its whole line */

/* Votes by canonical answer; a line without an answer does not vote. Whose vote counts (finished
 * lines, as a rule) is for the strategy to say. */
struct tally;
struct tally *tally_new(struct search *s);
void tally_vote(struct tally *t, struct node *n, double weight);
/* Greatest weight, ties to the answer whose first vote came earliest. The node returned is the one
 * of that answer with the greatest weight of its own, ties to the earliest. NULL when nobody
 * voted. */
struct node *tally_winner(struct tally *t);

#endif

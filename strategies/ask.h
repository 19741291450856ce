/* Asking the model beside the job's question: what it says is no answer to that. */
#ifndef PD_STRATEGIES_ASK_H
#define PD_STRATEGIES_ASK_H

#include "core/search.h"

#define ASK_MAX_BYTES ((size_t)1 << 24)

/* What the model says to each of n questions, greedily and in one batch; "" where a question is
 * too long for it. The buffers are freed, whatever is returned. node (may be NULL) takes what says
 * it: more of that can be sampled behind its prompt (its parent). */
int ask(struct search *s, struct pd_buf *questions, int n, struct pd_str *out_said,
        struct node **out_node, struct pd_err *err);

/* The numbers from 1 to n in a text, in their order, each once: how many. bracketed: only those
 * that stand in [ ]. */
int ask_numbers(struct pd_str text, int n, bool bracketed, int *out);

#endif

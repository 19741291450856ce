/* The last word of strategies that hold scored lines: which of them answers. */
#ifndef PD_STRATEGIES_CHOOSE_H
#define PD_STRATEGIES_CHOOSE_H

#include "core/search.h"

enum choose_vote { VOTE_NONE, VOTE_WEIGHTED, VOTE_MAJORITY };
#define CHOOSE_VOTES "none|weighted|majority"

/* none: the line of greatest reward; weighted: the answer of greatest summed
 * reward, spoken for by its line of greatest reward; majority: the answer most lines give. Ties to
 * the earliest. Lines that have not finished or have no answer are left out; a line without a score
 * weighs nothing, but may win alone. NULL: none is left. */
struct node *choose(struct search *s, struct node *const *lines, int n, enum choose_vote vote,
                    enum search_aggregate how);

/* Sorts by value, greatest first; ties to the lowest id. */
void choose_sort(struct node **nodes, double *values, int n);

#endif

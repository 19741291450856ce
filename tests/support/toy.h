/* Toy worlds for tests of strategies, beside those of fake_generator.h: a tree of texts that the
 * test writes down, a judge that is a function of the text, and what a run decided and why. On the
 * test thread only. */
#ifndef PD_TESTS_TOY_H
#define PD_TESTS_TOY_H

#include "tests/support/trial.h"

/* fake.next: the step at "021" (child 1 of child 2 of child 0 of the prompt) says its text, and
 * then, where no "\n\n" ended it, ends its line. world: an array of these ended by {0}; what is not
 * named says the text of "", or ends at once. At most 4 children, 6 deep; the same at T=0. */
struct toy_step {
    const char *path, *text;
};
int32_t toy_tree(struct fake *f, const struct fake_place *at, float *out_logprob);
void toy_plant(struct trial *t, const struct toy_step *steps);

/* A verifier without a model: the reward of step k (0: the first) of a line, given all up to it. */
typedef double (*toy_judge_fn)(const struct pd_str *steps, size_t k);
void toy_judge(struct trial *t, toy_judge_fn judge);
/* Judges: tenths by the step's first character, '0' to '9', 'X' is 1, others .5; an arbitrary
 * number in (0,1) that depends on the step's text alone, or on the line's; one of four by the step;
 * one half. */
double toy_tenths(const struct pd_str *steps, size_t k);
double toy_opinion(const struct pd_str *steps, size_t k);
double toy_of_line(const struct pd_str *steps, size_t k);
double toy_coarse(const struct pd_str *steps, size_t k);
double toy_even(const struct pd_str *steps, size_t k);

/* A trial of a strategy by its name under a judge; run too; run on a planted tree under
 * toy_tenths. A run that fails fails the test. */
void toy_start(struct trial *t, const char *strategy, const char *options, uint64_t seed,
               toy_judge_fn judge);
void toy_run(struct trial *t, const char *strategy, const char *options, uint64_t seed,
             toy_judge_fn judge);
void toy_run_tree(struct trial *t, const char *strategy, const char *options,
                  const struct toy_step *tree);

/* The decisions of the last run that are of a kind, in order. false: there is no i-th one. */
bool toy_decision(const struct trial *t, const char *kind, size_t i, const char **out_json);
/* The number, or the array of numbers, of a member: how many; at most `most` are written. */
size_t toy_numbers(const char *json, const char *member, double *out, size_t most);
/* The digest of the last run's tree and answer, whatever strategy and options grew it. */
void toy_digest(const struct trial *t, char hex[65]);
/* Tokens drawn in the last run, by its record. */
uint64_t toy_generated(const struct trial *t);

/* For models of a search, on the tree of the last run. What the node was, "open" or "finished",
 * before it was pruned; the reward of its last step; the winner of a weighted vote over lines that
 * end in \boxed{digit}, in this order, or the one of greatest reward. */
bool toy_was(const struct trial *t, uint32_t id, const char *status);
double toy_value(const struct trial *t, toy_judge_fn judge, uint32_t id);
uint32_t toy_vote(struct trial *t, const uint32_t *done, int n, toy_judge_fn judge, bool weighted);

/* All of the tree that fake_babble can grow with so many children a node: since branch keys are
 * paths, it is what every search of that seed draws from. [0] is the prompt. */
#define TOY_MANY 4000
struct toy_vertex {
    uint64_t key;
    uint32_t depth, parent;
    double h; /* 1 - reward; 0 at the root */
    bool goal;
    char answer; /* of a goal */
    uint32_t child[4];
    int n_child;
};
extern struct toy_vertex toy_all[TOY_MANY];
extern uint32_t toy_n_all;
void toy_grow(int n_children, uint64_t seed, toy_judge_fn judge);
uint32_t toy_find(const struct trial *t, uint32_t id); /* the vertex of a node of the last run */
/* Whether the i-th child's text is that of an earlier one: here, only last steps' are. */
bool toy_is_double(uint32_t vertex, int i);

#endif

/* What search.c (verbs), job.c (life of a job) and tally.c share. One job thread owns all of it. */
#ifndef PD_CORE_SEARCH_INT_H
#define PD_CORE_SEARCH_INT_H

#include "core/job.h"
#include "core/search.h"

enum node_status { NODE_OPEN, NODE_FINISHED, NODE_TRUNCATED, NODE_FAILED, NODE_PRUNED };

struct node {
    uint32_t id, depth, step;
    struct node *parent;
    uint64_t key;        /* of the branch (strategies.md §1.5) */
    uint32_t n_children; /* so far; the next child's index */
    enum node_status status;
    const char *finish, *stop, *prune_reason;
    const int32_t *tokens;
    const float *logprobs; /* NULL: forced */
    uint32_t n_tokens;
    uint32_t path_tokens; /* generated, from the root to here */
    double logprob;
    struct pd_str text;
    struct pd_gctx *ctx; /* NULL: made again from the parent's when wanted */
    int64_t call, created_ms;
    const char *answer_key; /* of its whole line; "" none; NULL not computed yet */
    /* scoring */
    bool scored;
    double *values;
    size_t n_values;
    void *vstate;
    int64_t score_call;
};

struct search {
    struct pd_job *job;
    struct pd_result *result;
    struct pd_arena *arena;
    struct pd_err *err;
    struct node **nodes; /* by id */
    uint32_t n_nodes, cap_nodes;
    struct node *answer;
    bool answered;
    uint64_t spent;      /* generated tokens of recorded nodes: what the budget counts */
    uint64_t decisions;  /* search_random's counter */
    uint64_t search_key; /* branch "search" */
    struct pd_usage usage;
    int64_t started_ns, deadline_ns;
    const char *stopped; /* the budget that ran out before a verb */
    const char *cut;     /* the budget that cut a line short */
    struct pd_scorer scorer;
    bool scorer_open, oom;
    struct pd_call_rec *calls; /* of this run and, on resume, of earlier ones */
    size_t n_calls, cap_calls;
    struct pd_event_rec *events;
    size_t n_events, cap_events;
    struct node oom_node; /* handed out when memory is gone: the job ends before it matters */
};

struct node *search_node_new(struct search *s, struct node *parent);
int search_node_record(struct search *s, struct node *n, struct pd_err *err);
int search_force(struct search *s, struct node *parent, struct pd_str text, struct node **out, struct pd_err *err);
/* Like search_extend of one node, decoding greedily at most max tokens: the wrap-up. */
int search_wrap(struct search *s, struct node *parent, uint32_t max, struct node **out, struct pd_err *err);
int search_call_record(struct search *s, struct pd_call_rec *rec, struct pd_err *err); /* index of the call */
int search_event(struct search *s, const char *type, const char *json, struct pd_err *err);
struct pd_str search_line(struct search *s, const struct node *n); /* text of the whole line, in the arena */
void search_node_drop_ctx(struct search *s, struct node *n);
const char *search_status_name(enum node_status st);
void search_node_rec(const struct node *n, struct pd_node_rec *out);
uint64_t search_subkey(uint64_t key, uint64_t a, uint64_t b);
int search_scorer_lanes(struct search *s, struct pd_lane *const *lanes, size_t n, struct pd_err *err);

#endif

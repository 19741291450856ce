/* What the verbs (search.c, node.c, grow.c, score.c), job.c (life of a job) and tally.c share. One
 * job thread owns all of it. */
#ifndef PD_CORE_SEARCH_INT_H
#define PD_CORE_SEARCH_INT_H

#include "core/job.h"
#include "core/search.h"

enum node_status { NODE_OPEN, NODE_FINISHED, NODE_TRUNCATED, NODE_FAILED, NODE_PRUNED };

/* Whose contexts: the model that thinks, and the one that drafts for it. */
enum search_role { ROLE_BASE, ROLE_DRAFT, N_ROLES };

struct search_view { /* what is before a block */
    struct node **sees;
    int n;
};

struct search_gap { /* tokens [first, end) of a line that lanes do not see */
    size_t first, end;
};

struct node {
    uint32_t id, depth, step;
    struct node *parent;
    uint64_t key;        /* of the branch */
    uint32_t n_children; /* so far; the next child's index */
    uint32_t n_sprouts;  /* while grow() runs: children it is making */
    enum node_status status;
    const char *finish, *stop, *prune_reason;
    const int32_t *tokens;
    const float *logprobs;    /* NULL: forced */
    const float *confidences; /* NULL: nobody asked */
    const int32_t *top_ids;
    const float *top_logprobs; /* [n_tokens][common.top_logprobs]; NULL: not of this run */
    uint32_t n_tokens;
    uint32_t path_tokens; /* generated, from the root to here */
    double logprob;
    struct pd_str text;
    size_t n_told;                /* bytes of it that the listener has */
    struct pd_gctx *ctx[N_ROLES]; /* NULL: made again from the parent's when wanted */
    bool aside;                   /* beside the tree: not counted as its parent's child (yet) */
    bool prompt;                  /* lines begin behind it: the root, and what search_prompt made */
    bool apart;                   /* of lines that do not answer the job's question */
    struct node *block;           /* the first of the block that it is in; NULL: none */
    struct pd_gctx *block_ctx;    /* of the end of a block: its tokens, from the block's first on */
    struct search_view view;      /* of the first of a block: what is before it now */
    struct search_gap *gaps;      /* [n_gaps] of its line, all of them; NULL: its parent's */
    size_t n_gaps;
    uint32_t n_forgets;     /* calls of search_forget on it */
    uint32_t joined_tokens; /* generated in blocks that were joined, from the root to here */
    int64_t call, created_ms;
    const char *answer_key; /* of its whole line; "" none; NULL not computed yet */
    /* scoring */
    bool scored;
    double *values;
    size_t n_values;
    void *vstate;
    int64_t score_call;
};

struct search_round {          /* ends of blocks that go on at once, or a join */
    struct search_round *next; /* of those put off */
    int n;
    struct pd_lane **lanes;     /* [n]: all is ready but the contexts */
    struct node **from;         /* [n]: behind which they draw */
    struct search_view *view;   /* [n]: what is before them */
    struct node **to;           /* [n]: what is drawn; of a join [1]: the node that it makes */
    struct node *joined, *onto; /* of a join: the end of the block, and what it goes behind */
    bool again;                 /* for the contexts only: what is drawn is known */
};

struct search {
    struct pd_job *job;
    struct pd_result *result;
    struct pd_arena *arena;
    struct pd_err *err;
    struct node **nodes; /* by id */
    uint32_t n_nodes;
    size_t cap_nodes;
    struct node *answer;
    bool answered, abstained;
    enum search_role role;    /* who writes, while grow() runs */
    struct node *const *lent; /* whole lines that stand for the next that are asked for */
    int n_lent;
    double temperature; /* of what is sampled from now on */
    struct pd_confidence confidence;
    uint64_t spent;      /* generated tokens of recorded nodes: what the budget counts */
    uint64_t decisions;  /* search_random's counter */
    uint64_t search_key; /* branch "search" */
    struct pd_usage usage;
    int64_t started_ns, deadline_ns;
    bool timed_out;      /* lanes were cut off by the clock */
    const char *stopped; /* the budget that ran out before a verb */
    const char *cut;     /* the budget that cut a line short */
    struct pd_scorer scorer;
    bool scorer_open, oom;
    struct pd_call_rec *calls; /* of this run and, on resume, of earlier ones */
    size_t n_calls, cap_calls;
    struct pd_event_rec *events;
    size_t n_events, cap_events;
    struct search_round *put_off; /* until contexts are wanted (together.c) */
    struct pd_form form;          /* the job's, as it applies to lines; text NULL: not known yet */
    struct pd_buf decision;       /* being written, between search_decide and search_decided */
    struct pd_jw decision_jw;
};

static inline struct pd_generator *search_gen(const struct search *s)
{
    return s->role == ROLE_DRAFT ? s->job->draft_gen : s->job->gen;
}

static inline const struct pd_generator_ops *search_ops(const struct search *s)
{
    return search_gen(s)->ops;
}

/* search.c */
int search_check(struct search *s, struct pd_err *err); /* 0 while the job may go on */
int search_event(struct search *s, const char *type, const char *json, struct pd_err *err);
int search_call_record(struct search *s, struct pd_call_rec *rec,
                       struct pd_err *err); /* index of the call */
/* The same for a lane of gen that has ended. */
int search_lane_record(struct search *s, const struct pd_generator *gen, const struct pd_lane *lane,
                       const char *op, const char *model, struct pd_err *err);
/* The same, and a lane that failed is an error: 0. */
int search_lane_ended(struct search *s, const struct pd_generator *gen, const struct pd_lane *lane,
                      const char *op, const char *model, struct pd_err *err);
#define SEARCH_OUT_OF_TIME "the budget of seconds is spent"
/* Submits lanes and waits for all; calls each(s, lane) as they end, and, when somebody listens,
 * live(s, lane) now and then for those that have not (NULL: nothing is to be heard of these). On
 * cancel all are stopped and drained. */
int search_run_lanes(struct search *s, struct pd_generator *gen, struct pd_lane *const *lanes,
                     size_t n, bool generating,
                     int (*each)(struct search *, struct pd_lane *, struct pd_err *),
                     void (*live)(struct search *, const struct pd_lane *), struct pd_err *err);

/* The clock's decisions are events of the trace, so that a replay does not depend on the clock:
 * before node `node` was made ("budget.stop"), or scored ("score.stop"). */
bool search_clock_stopped(const struct search *s, const char *type, uint32_t node);
int search_clock_stop(struct search *s, const char *type, uint32_t node, struct pd_err *err);

/* node.c */
struct node *search_node_new(struct search *s, struct node *parent);
void search_node_rec(const struct node *n, uint32_t n_top, struct pd_node_rec *out);
int search_node_record(struct search *s, struct node *n, struct pd_err *err);
const struct pd_node_rec *search_stored_node(const struct search *s, uint32_t id);
const struct pd_score_rec *search_stored_score(const struct search *s, uint32_t node_id);
/* It was cut off where it could have gone on. */
bool search_node_held(const struct node *n);
void search_node_drop_ctx(struct search *s, struct node *n);
const char *search_status_name(enum node_status st);
uint64_t search_subkey(uint64_t key, uint64_t a, uint64_t b);

/* stops.c */
/* How much of a text that goes on is certainly not the beginning of one. */
size_t search_stop_free(const struct pd_job *job, struct pd_str text);
/* What a lane behind n has to know of n's line. */
struct pd_str search_stop_before(struct search *s, const struct node *n);

/* grow.c: the making of nodes, also for given.c */
int search_node_ctx(struct search *s, struct node *n, struct pd_err *err);
void search_node_tokens(struct search *s, struct node *n, const int32_t *tokens,
                        const float *logprobs, uint32_t count);
/* Text, status and answer of a node whose tokens and finish are known. */
int search_node_settle(struct search *s, struct node *n, struct pd_err *err);
int search_node_serve(struct search *s, struct node *n, const struct pd_node_rec *r,
                      struct pd_err *err);
/* The job's form as it applies to its lines. */
const struct pd_form *search_form(struct search *s);
void search_node_adopt(struct node *n); /* what the tree goes on from is part of it */

int search_run_round(struct search *s, struct search_round *r, struct pd_err *err);

/* forget.c */
size_t search_forgotten(const struct node *n); /* tokens of its line in gaps */
/* c has n's line without the gaps of `was`, a node on it: now without those of n. */
int search_forget_in(struct search *s, struct node *n, struct pd_gctx *c, const struct node *was,
                     struct pd_err *err);

/* together.c */
/* Contexts and views of a round's lanes: *out are these lanes, and then those of what they see that
 * is evaluated beside them. */
int search_round_begin(struct search *s, struct search_round *r, struct pd_lane ***out,
                       size_t *out_n, struct pd_err *err);
int search_round_end(struct search *s, const struct search_round *r, struct pd_err *err);
void search_put_off(struct search *s, struct search_round *r);
/* Does what was put off, in order. */
int search_catch_up(struct search *s, struct pd_err *err);
void search_block_drop(struct search *s, struct node *n);
/* Tokens that a lane behind n, the end of a block, has before it. */
size_t search_view_tokens(const struct node *n);

/* given.c */
/* A node behind parent with the tokens and the text of the block that ends in `end`. */
int search_node_give_block(struct search *s, struct node *parent, const struct node *end,
                           struct node **out, struct pd_err *err);
/* The prompt's tokens: the job's conversation, or the same up to its last question and with another
 * one in place of that. */
int search_chat(struct search *s, struct pd_str question, int32_t **io_ids, size_t *io_n,
                struct pd_err *err);
/* search_force, or the same beside the tree. */
int search_node_give(struct search *s, struct node *parent, struct pd_str text, bool aside,
                     struct node **out, struct pd_err *err);

/* grow.c, the wrap-up */
/* Like search_extend of one node, decoding greedily at most max tokens: the wrap-up. */
int search_wrap(struct search *s, struct node *parent, uint32_t max, struct node **out,
                struct pd_err *err);

#endif

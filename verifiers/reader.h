/* What verifiers that read a model share: lines as tokens, numbers read at positions of them, and
 * that a longer line costs only its new tokens. On the job's thread; everything in the job's arena.
 */
#ifndef PD_VERIFIERS_READER_H
#define PD_VERIFIERS_READER_H

#include "core/verifier.h"

#define READER_NO_PROMPT SIZE_MAX

struct reader_line { /* what is left at a scored node: a verifier's pd_candidate.state */
    struct reader_line *next;
    struct pd_gctx *ctx;
    const int32_t *ids;
    size_t n_ids;
    const uint32_t *at;
    size_t n_at;
    float *values; /* [n_at][n_values] */
};

struct reader { /* of the job; embed it, zeroed */
    struct pd_scorer *s;
    enum pd_lane_read read;
    const int32_t *labels; /* LABELS [n_labels] */
    uint32_t n_labels;
    uint32_t n_values; /* of a position */
    size_t n_prompt;   /* tokens that all lines begin with; READER_NO_PROMPT: as they happen to */
    struct reader_line *lines;
};

/* A line to read. The tokens may be freed afterwards. */
struct reading {
    int32_t *ids; /* malloc'ed */
    size_t n_ids;
    uint32_t *at; /* ascending; in the arena */
    size_t n_at;
    const struct reader_line *parent; /* or NULL */
    /* out */
    struct reader_line *line; /* NULL: it does not fit into the model's context */
};

/* All in one batch; but for the first line of the job, which is read for the prompt's sake. What a
 * line and its parent have in common is neither evaluated nor read again. */
int reader_run(struct reader *r, struct reading *rs, size_t n, struct pd_err *err);
void reader_done(struct reader *r);

int reader_no_memory(struct pd_err *err);
/* The token that this text is when it stands alone, as tokenizers of other programs are asked for
 * it: the last one, behind a blank that the vocabulary may put before a text. PD_EFORMAT: it is no
 * token. */
int reader_token(struct pd_generator *g, const char *text, int32_t *out, struct pd_err *err);
/* Appends a text's tokens, of which none is `not`: where the text holds what that means it is cut
 * in two. not -1: whatever they are. */
int reader_add_text(struct pd_generator *g, struct pd_str text, int32_t not_id, int32_t **io_ids,
                    size_t *io_n, struct pd_err *err);
int reader_add_token(int32_t id, int32_t **io_ids, size_t *io_n, struct pd_err *err);

/* 1 / (1 + exp(-x)) */
double reader_sigmoid(double x);
double reader_ln(uint32_t n); /* n ≥ 1 */
/* exp(x), x ≤ 0 */
double reader_exp(double x);

#endif

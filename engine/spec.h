/* Speculation (private to the engine): guesses at a request's next tokens, which the model then
 * evaluates in one step. The scheduler's thread, but for spec_init.
 *
 * The request draws its tokens from the model's logits with its own random numbers, guesses or not,
 * and goes on as long as what it drew was guessed. So a text does not depend on whether, how and
 * how far it was guessed at, and the guessing may follow the clock. */
#ifndef PD_ENGINE_SPEC_H
#define PD_ENGINE_SPEC_H

#include "engine/engine.h"

struct fwd;
struct fwd_row;

/* How many of the guesses were right, older ones counting less. */
struct spec_rate {
    double right, tried;
};

/* What steps cost by their rows, older ones counting less: sums of a least-squares line. */
struct spec_cost {
    double w, n, nn, t, nt;
};

struct spec { /* of a request */
    const struct eng_req *req;
    enum eng_speculate how; /* OFF: not, or not any more */
    struct eng_ctx *ctx;    /* DRAFT: the draft model's, with the same text */
    struct spec_rate rate;
    uint32_t n_prompt;
    unsigned wanted, n; /* guesses of the step in progress */
    int32_t guess[ENG_MAX_DRAFT];
    size_t n_rows; /* in the draft model's step */
    bool bad;
};

/* For a request that has been checked; its context is not in flight yet. PD_ENOMEM. */
int spec_init(struct spec *s, const struct eng_req *req, struct pd_err *err);
/* No guesses from now on; those that were made are settled all the same. Frees everything. */
void spec_give_up(struct spec *s);

/* Guesses for lanes of target, wanted of each at most. rows: room for max_rows. */
void spec_guess(struct spec *const *lanes, size_t n, struct fwd_row *rows, size_t max_rows,
                size_t chunk);
/* Of the guesses n were right, and the request has its new tokens. */
void spec_settle(struct spec *s, struct fwd *target, unsigned n_right);
/* How many guesses are worth their time, for one of n_lanes lanes in a step of target. */
unsigned spec_length(const struct spec *s, const struct fwd *target, size_t n_lanes);

/* The number of guesses, at most max, with the most tokens for their time: rate of right ones,
 * seconds of a step and of each of its rows, and of those of the draft model. */
struct spec_times {
    double step, row, draft_step, draft_row;
};
unsigned spec_best(double rate, size_t n_lanes, const struct spec_times *t, unsigned max);
void spec_cost_add(struct spec_cost *c, size_t n_rows, double seconds);
/* Seconds of a step, and of each row in it. False: nothing is known yet. */
bool spec_cost_line(const struct spec_cost *c, double *out_step, double *out_row);

#endif

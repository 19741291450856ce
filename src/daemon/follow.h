/* The line of a search that is worth watching, as one text: the best line so far, as it is written.
 * When another becomes the best, a line says so and its text follows from where they part. On one
 * thread, the job's. */
#ifndef PD_DAEMON_FOLLOW_H
#define PD_DAEMON_FOLLOW_H

#include "core/job.h"

struct follow_node;
struct follow {
    struct follow_node *nodes; /* by id */
    size_t n, cap, bytes;
    uint32_t current;  /* 0: none yet */
    bool full;         /* too much to keep: nothing more is told */
    struct pd_buf out; /* new text; the caller takes and clears it */
};
void follow_init(struct follow *f);
void follow_done(struct follow *f);
void follow_piece(struct follow *f, const struct pd_piece *p);
void follow_best(struct follow *f, uint32_t node, double value);

#endif

/* The mixture of experts in place of a feed-forward (private to the engine). The scheduler's
 * thread, on the compute pool. */
#ifndef PD_ENGINE_MOE_H
#define PD_ENGINE_MOE_H

#include "engine/forward.h"

struct moe;

struct moe *moe_new(struct fwd *f); /* f's model, pool and max_rows; NULL: out of memory */
void moe_free(struct moe *x);
/* f->h, normalised and quantised for the router → f->h */
void moe_layer(struct moe *x, const struct eng_layer *w);

#endif

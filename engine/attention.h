/* Attention of a step (private to the engine): K and V of the batch into their pages, then every
 * query over the pages of its context. The scheduler's thread, on the compute pool. */
#ifndef PD_ENGINE_ATTENTION_H
#define PD_ENGINE_ATTENTION_H

#include "engine/forward.h"

struct attn;

struct attn *attn_new(struct fwd *f); /* f's model, pool and max_rows; NULL: out of memory */
void attn_free(struct attn *a);
/* Once a step: groups f->rows by the pages they share. Rows whose contexts see n blocks count n + 1
 * fold: no more than max_rows in all. */
void attn_begin(struct attn *a);
/* f->q, f->kv_k, f->kv_v (not yet rotated) → f->att; f->h is overwritten. All K and V of the batch
 * are in the pages before any query is answered, so that prefill and decode see the same memory. */
void attn_layer(struct attn *a, size_t layer);

#endif

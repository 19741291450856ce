/* The architectures this build runs, as a table: what a row says is all that tells one from
 * another (private to the engine and its tests). */
#ifndef PD_ENGINE_ARCH_H
#define PD_ENGINE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum eng_want { ENG_NO, ENG_MAY, ENG_MUST };

struct eng_arch {
    const char *name;        /* general.architecture, and the prefix of its keys */
    bool neox;               /* rotary pairs (i, i + n_rot/2) instead of (2i, 2i + 1) */
    bool gelu;               /* the feed-forward gate's activation: GELU (tanh form), else SiLU */
    bool scale_embd;         /* embeddings times sqrt(n_embd) */
    bool qk_norm;            /* every head of q and k is normalised before the rotation */
    bool post_norm;          /* what attention and feed-forward give is normalised once more */
    bool fused;              /* attn_qkv holds q, k and v; ffn_up the gate, then up */
    enum eng_want qkv_bias;  /* of attn_q, attn_k, attn_v */
    enum eng_want bias;      /* of attn_output and the dense feed-forward */
    enum eng_want experts;   /* a mixture in place of the feed-forward */
    enum eng_want window;    /* attention.sliding_window */
    uint32_t window_default; /* where the key is absent; 0: none */
    uint32_t window_period;  /* of so many layers the last one sees everything; 0: none does */
    float local_freq_base;   /* rotation of the layers with a window; 0: as the others */
    float attn_softcap, final_softcap; /* where the keys are absent; 0: none */
    uint32_t wide_layers; /* a model of this depth scales scores by sqrt(n_embd / n_head), not by
                             sqrt(head_dim); no key says so */
};

extern const struct eng_arch eng_archs[];                 /* the last one's name is NULL */
const struct eng_arch *eng_arch_find(struct pd_str name); /* NULL: not computed here */

#endif

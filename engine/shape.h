/* What a model file promises, checked: hyper-parameters and every tensor with its shape and type
 * (private to the engine, its tests and its fuzzer). Reads the mapping only; the pointers are
 * borrowed from the gguf. */
#ifndef PD_ENGINE_SHAPE_H
#define PD_ENGINE_SHAPE_H

#include "engine/arch.h"
#include "engine/gguf.h"
#include "engine/head.h"
#include "engine/kernels.h"

#define ENG_MAX_LAYERS 1024u /* the deepest published models have about 130 */
#define ENG_MAX_DIM                                                                                \
    (1u << 24) /* any width: keeps products of two inside 64 bits with room to spare */
#define ENG_MAX_EXPERTS 1024u /* the largest published mixtures have 512 */

/* Rows of a matrix: files stack several into one tensor. */
struct eng_slice {
    const struct gguf_tensor *t; /* NULL: none */
    uint64_t row0, rows;
};

struct eng_layer_tensors {
    /* vectors, NULL: none */
    const struct gguf_tensor *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm;
    const struct gguf_tensor *q_norm, *k_norm;
    const struct gguf_tensor *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias;
    struct eng_slice q, k, v, o;
    struct eng_slice router;         /* [n_expert, n_embd]; none: dense */
    struct eng_slice gate, up, down; /* of experts: the first one's rows, the others' follow */
};

struct eng_shape {
    const struct eng_arch *arch;
    uint32_t n_vocab, n_ctx, n_embd, n_layer, n_head, n_head_kv, head_dim, n_ff, n_rot;
    uint32_t n_expert, n_expert_used; /* 0: dense; n_ff is one expert's */
    uint32_t window, window_period;   /* window 0: none or never reached; of window_period layers
                                         (0: none) the last sees everything */
    float rms_eps, freq_base, local_freq_base; /* local: 0 when all layers rotate alike */
    float attn_scale, attn_softcap, final_softcap;
    struct eng_rope_scaling rope;
    const char *rope_name; /* none linear yarn longrope llama3 */
    const char *pooling;   /* none mean cls last rank; NULL: not said */
    const struct gguf_tensor *embd, *output_norm;
    const struct gguf_tensor *output;     /* NULL: tied to embd */
    const struct gguf_tensor *rope_freqs; /* divisors of the frequencies; NULL: none */
    const struct eng_head_names *head;    /* NULL: none */
    const struct gguf_tensor *cls, *cls_bias, *cls_out, *cls_out_bias; /* its; NULL: none */
    struct eng_layer_tensors *layers;                                  /* [n_layer] */
};

/* PD_EFORMAT with the reason, PD_ENOMEM. On success eng_shape_done releases out. */
int eng_shape_init(const struct gguf *g, struct eng_shape *out, struct pd_err *err);
void eng_shape_done(struct eng_shape *s);
/* Whether layer l is one of those that the window is for. */
bool eng_shape_local(const struct eng_shape *s, uint32_t l);
/* A number that some files give once and others once per layer; the layers must agree (n_layer 0:
 * any length). As gguf_u32. */
int eng_layered_u32(const struct gguf *g, const char *key, uint32_t n_layer, uint32_t *out,
                    struct pd_err *err);

#endif

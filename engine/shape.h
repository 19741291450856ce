/* What a llama-architecture GGUF promises, checked: hyper-parameters and every tensor with its
 * shape and type (private to the engine, its tests and its fuzzer). Reads the mapping only; the
 * pointers are borrowed from the gguf. */
#ifndef PD_ENGINE_SHAPE_H
#define PD_ENGINE_SHAPE_H

#include "engine/gguf.h"

#define ENG_MAX_LAYERS 1024u /* the deepest published models have about 130 */
#define ENG_MAX_DIM                                                                                \
    (1u << 24) /* any width: keeps products of two inside 64 bits with room to spare */

struct eng_layer_tensors {
    const struct gguf_tensor *attn_norm, *ffn_norm, *q, *k, *v, *o, *gate, *up, *down;
};

struct eng_shape {
    uint32_t n_vocab, n_ctx, n_embd, n_layer, n_head, n_head_kv, head_dim, n_ff, n_rot;
    float rms_eps, freq_base;
    const struct gguf_tensor *embd, *output_norm;
    const struct gguf_tensor *output;     /* NULL: tied to embd */
    const struct gguf_tensor *rope_freqs; /* NULL: none */
    struct eng_layer_tensors *layers;     /* [n_layer] */
};

/* PD_EFORMAT with the reason, PD_ENOMEM. On success eng_shape_done releases out. */
int eng_shape_init(const struct gguf *g, struct eng_shape *out, struct pd_err *err);
void eng_shape_done(struct eng_shape *s);
/* A number that some files give once and others once per layer; the layers must agree (n_layer 0:
 * any length). As gguf_u32. */
int eng_layered_u32(const struct gguf *g, const char *key, uint32_t n_layer, uint32_t *out,
                    struct pd_err *err);

#endif

/* A loaded model (private to the engine): hyper-parameters, repacked matrices, norms. Immutable
 * after load. */
#ifndef PD_ENGINE_MODEL_H
#define PD_ENGINE_MODEL_H

#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/kernels.h"
#include "engine/tokenizer.h"

struct eng_layer {
    float *attn_norm, *ffn_norm; /* [n_embd] */
    struct eng_mat q, k, v,
        o; /* [n_head*hd, n_embd], [n_head_kv*hd, n_embd] twice, [n_embd, n_head*hd] */
    struct eng_mat gate, up, down;
};

struct eng_model {
    atomic_uint refs;
    struct eng_model_info info;
    struct gguf *gguf; /* kept mapped: embedding rows are read from it */
    struct eng_tokenizer *tok;
    struct eng_layer *layers; /* [n_layer] */
    const uint8_t *embd;      /* [n_vocab][n_embd] as stored */
    const struct eng_quant *embd_quant;
    size_t embd_row_bytes;
    struct eng_mat output; /* [n_vocab, n_embd]; repacked from token_embd when tied */
    float *output_norm;
    float *rope_freq; /* [n_rot/2] */
    uint32_t n_rot;
    float rms_eps;
};

/* What any GGUF tells about itself (describe.c): all of out but the dimensions and the digest. */
int eng_describe(const struct gguf *g, struct eng_model_info *out, struct pd_err *err);
/* Loads without an engine (tests, tools). */
int eng_model_load(const char *path, struct eng_model **out, struct pd_err *err);

#endif

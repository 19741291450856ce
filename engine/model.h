/* A loaded model (private to the engine): hyper-parameters, repacked matrices, norms. Immutable
 * after load. */
#ifndef PD_ENGINE_MODEL_H
#define PD_ENGINE_MODEL_H

#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/gguf.h"
#include "engine/head.h"
#include "engine/kernels.h"
#include "engine/tokenizer.h"

struct eng_shape;
struct kv_pool;

struct eng_expert {
    struct eng_mat gate, up, down; /* [n_ff, n_embd] twice, [n_embd, n_ff] */
};

struct eng_layer {
    /* vectors; but for the first two, NULL where the model has none */
    float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm;               /* [n_embd] */
    float *q_norm, *k_norm;                                                     /* [head_dim] */
    float *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias; /* [rows] */
    struct eng_mat q, k, v,
        o; /* [n_head*hd, n_embd], [n_head_kv*hd, n_embd] twice, [n_embd, n_head*hd] */
    struct eng_mat gate, up, down; /* of a dense layer */
    struct eng_mat router;         /* [n_expert, n_embd] */
    struct eng_expert *experts;    /* [n_expert]; NULL: dense */
    const struct eng_rope *rope;   /* one of the model's */
    uint32_t window;               /* positions that a query sees, its own included; 0: all */
};

/* A rotation: angle i of position p is p * freq[i]; cosines and sines are multiplied by scale. */
struct eng_rope {
    float *freq; /* [n_rot/2] */
    float scale;
};

/* The classification head, in F32 whatever the file has: act(dense x + bias), then out and its
 * bias; one of the two may be missing (no rows). */
struct eng_head {
    enum eng_head_act act;
    struct eng_mat dense, out;
    float *dense_bias, *out_bias; /* NULL: none */
};

struct eng_model {
    atomic_uint refs;
    struct kv_pool *reserved_in; /* whose ceiling the model counts for; NULL: none */
    uint64_t reserved_bytes;
    struct eng_shape *shape;        /* of a model that is not loaded yet */
    struct eng_head_file head_file; /* the same; names NULL: none */
    struct eng_model_info info;
    struct gguf *gguf; /* kept open: embedding rows are read from it */
    struct eng_tokenizer *tok;
    struct eng_layer *layers; /* [n_layer] */
    const uint8_t *embd;      /* [n_vocab][n_embd] as stored: a place for gguf_copy */
    const struct eng_quant *embd_quant;
    size_t embd_row_bytes;
    struct eng_mat output; /* [n_vocab, n_embd]; repacked from token_embd when tied */
    float *output_norm;
    struct eng_head head;    /* info.n_cls 0: none */
    struct eng_rope rope[2]; /* of all layers, or of those that see everything; of the others */
    uint32_t n_ropes, n_rot;
    uint32_t n_expert, n_expert_used;
    float rms_eps, embd_scale, attn_scale;
    float attn_softcap, final_softcap; /* 0: none */
    bool neox, gelu;                   /* see struct eng_arch */
};

/* hidden [n_embd] → out [n_cls]; mid [head.dense.rows]. */
void eng_head_run(const struct eng_model *m, const struct eng_kernels *k, const float *hidden,
                  float *mid, float *out);

/* What any GGUF tells about itself (describe.c): all of out but the digest and what is in the
 * shape. */
int eng_describe(const struct gguf *g, struct eng_model_info *out, struct pd_err *err);
void eng_describe_shape(const struct eng_shape *s, struct eng_model_info *out);
/* Loading in two steps, so that what it takes is known before: the file opened and checked, and all
 * that is not weights; then the weights. */
int eng_model_begin(const char *path, const char *head, struct eng_model **out,
                    struct eng_memory *out_memory, struct pd_err *err); /* head: eng_model_check */
int eng_model_finish(struct eng_model *m, unsigned n_threads, struct pd_err *err);
/* Loads without an engine (tests, tools). */
int eng_model_load(const char *path, struct eng_model **out, struct pd_err *err);

#endif

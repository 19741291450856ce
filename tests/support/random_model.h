/* Model files with random weights: every architecture and tensor type of the engine, from shapes
 * that fit a unit test to those of real models, with a tokenizer and a chat template, so that they
 * run wherever a trained model runs. The same shape, type and seed give the same file, byte for
 * byte. Any thread.
 *
 * Weights are scaled so that the numbers inside are those of a trained model: activations of order
 * 1 and logits with a standard deviation of about 3; attention is sharp enough that a wrong
 * rotation, mask or scale shows in the logits. */
#ifndef PD_TESTS_RANDOM_MODEL_H
#define PD_TESTS_RANDOM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum random_rope {
    RANDOM_ROPE_PLAIN,
    RANDOM_ROPE_LINEAR,   /* all frequencies divided by rope_factor */
    RANDOM_ROPE_YARN,     /* YaRN from rope_n_ctx to rope_n_ctx * rope_factor positions */
    RANDOM_ROPE_LLAMA3,   /* rope_freqs.weight as Llama 3.1 has it */
    RANDOM_ROPE_LONGROPE, /* rope_factors_short.weight and _long */
};

enum random_vocab { RANDOM_BPE, RANDOM_SPM };

struct random_model {
    const char *name, *arch;
    const char *pre; /* tokenizer.ggml.pre; of RANDOM_BPE */
    enum random_vocab vocab;
    uint32_t n_vocab, n_ctx, n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff;
    uint32_t n_expert, n_expert_used; /* 0: dense; n_ff is each expert's width */
    uint32_t window;                  /* sliding window; 0: none */
    float rms_eps, rope_base;
    enum random_rope rope;
    float rope_factor;
    uint32_t rope_n_ctx;
    float attn_softcap, final_softcap; /* 0: none */
    bool tied;                         /* no output.weight */
    uint32_t n_cls;                    /* values of a classification head; 0: none */
    const char *const *more; /* tokens that a reward model has, of RANDOM_BPE control tokens, ended
                                by NULL; NULL: none */
};

/* NULL-named row ends the table: tiny-<architecture> and variants of them, then real shapes. */
extern const struct random_model random_models[];
const struct random_model *random_model_find(const char *name); /* NULL: unknown */

/* type: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K, or a mix: Q3_K_M Q4_K_M
 * Q5_K_M. As in files from the wild the output matrix (or the tied embedding) of a quantised model
 * is Q6_K at least, and rows that a type of 256-wide blocks cannot hold fall back to a type of 32;
 * pure: the output matrix is of the type as well. Vectors and an expert router are F32.
 * PD_EINVAL: unknown type, or rows that are no multiple of 32; PD_EIO… from the file. */
int random_model_write(const struct random_model *m, const char *type, bool pure, uint64_t seed,
                       const char *path, struct pd_err *err);

#endif

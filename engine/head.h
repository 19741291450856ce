/* Classification heads (private to the engine, its tests and its fuzzer): what their tensors are
 * called, in a GGUF or in the small file beside it that holds a head of which GGUF knows nothing
 * (docs/design/heads.md). */
#ifndef PD_ENGINE_HEAD_H
#define PD_ENGINE_HEAD_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define ENG_HEAD_ENDING      ".head.safetensors"
#define ENG_HEAD_MAX_BYTES   ((size_t)512 << 20) /* two matrices of 8192 x 8192 in F32 */
#define ENG_HEAD_MAX_CLASSES 65536u              /* more is a vocabulary, and no head */

struct eng_model_info;

enum eng_head_act { ENG_HEAD_LINEAR, ENG_HEAD_TANH, ENG_HEAD_RELU };

/* Of the two layers the first may be missing. Biases may be missing everywhere. */
struct eng_head_names {
    const char *kind;               /* as eng_model_info.head */
    const char *dense, *dense_bias; /* [n_mid, n_embd]; NULL: one layer */
    const char *out, *out_bias;     /* [n_cls, n_mid] */
    enum eng_head_act act;          /* between the two */
};
extern const struct eng_head_names eng_head_names[]; /* the last one's kind is NULL */

/* What the file beside a model holds, as F32. */
struct eng_head_file {
    const struct eng_head_names *names;
    float *dense, *dense_bias, *out, *out_bias; /* NULL: none */
    uint32_t n_embd, n_mid, n_cls;              /* n_mid: what `out` is applied to */
    struct pd_buf bytes;                        /* of the file, for its digest; emptied by nobody */
};

/* A safetensors file in full, checked before anything is taken from it: header, names, shapes, that
 * the tensors cover the data without gaps, finite numbers. PD_EFORMAT says what is wrong. The bytes
 * stay the caller's; eng_head_done releases out. */
int eng_head_parse(struct pd_str bytes, uint32_t n_embd, struct eng_head_file *out,
                   struct pd_err *err);
int eng_head_open(const char *path, uint32_t n_embd, struct eng_head_file *out, struct pd_err *err);
/* The file beside the model at path, or this one (file NULL: that), and what it adds to info. out
 * is empty when there is none. PD_EFORMAT: the GGUF has a head, too. */
int eng_head_beside(const char *path, const char *file, struct eng_model_info *info,
                    struct eng_head_file *out, struct pd_err *err);
void eng_head_done(struct eng_head_file *h);

#endif

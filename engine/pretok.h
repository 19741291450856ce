/* Pre-tokenizers: cut text into the pieces within which BPE merges (private to the engine). Each is
 * a sequence of regular expressions (PCRE2, UTF and UCP, JIT where there is one): every piece that
 * one of them leaves is cut by the next into its matches and what lies between. Bytes that are not
 * UTF-8 become pieces of their own. The pieces are consecutive and cover the text, which some
 * tokenizers (Qwen2, GPT-NeoX) bring to Unicode's form C (UAX #15) first. */
#ifndef PD_ENGINE_PRETOK_H
#define PD_ENGINE_PRETOK_H

#include "base/err.h"
#include "base/str.h"

struct pretok;      /* the compiled expressions; immutable, any thread */
struct pretok_iter; /* scratch of one text after another; one thread */

/* name: tokenizer.ggml.pre of the file; one that is not known is PD_EFORMAT. */
int pretok_new(struct pd_str name, struct pretok **out, struct pd_err *err);
void pretok_free(struct pretok *p);
/* a whole piece that is a token is taken as that token */
bool pretok_ignores_merges(const struct pretok *p);
/* a prompt begins with the BOS token if the file does not say */
bool pretok_adds_bos(const struct pretok *p);

int pretok_iter_new(const struct pretok *p, struct pretok_iter **out, struct pd_err *err);
void pretok_iter_free(struct pretok_iter *it);
/* text is borrowed until the last _next */
int pretok_iter_set(struct pretok_iter *it, struct pd_str text, struct pd_err *err);
/* 1 and the next piece (never empty), 0 at the end, PD_ELIMIT when an expression's limits are
 * reached. */
int pretok_iter_next(struct pretok_iter *it, struct pd_str *out_piece, struct pd_err *err);

#endif

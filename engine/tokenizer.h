/* Tokenizers from GGUF metadata (private to the engine; the public half is in engine.h). */
#ifndef PD_ENGINE_TOKENIZER_H
#define PD_ENGINE_TOKENIZER_H

#include "engine/engine.h"
#include "engine/gguf.h"

/* Copies what it needs: g may be closed afterwards. */
int eng_tokenizer_new(const struct gguf *g, struct eng_tokenizer **out, struct pd_err *err);
size_t eng_tokenizer_bytes(const struct eng_tokenizer *t); /* of memory */

#endif

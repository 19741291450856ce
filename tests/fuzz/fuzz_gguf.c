/* Any bytes as a GGUF: the container, then what a model load would do with it before weights are
 * repacked. */
#include <stddef.h>
#include <stdint.h>

#include "engine/gguf.h"
#include "engine/shape.h"
#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct eng_tokenizer *tok = NULL;
    struct eng_shape shape = {0};
    struct gguf *g = NULL;
    struct pd_err err;

    if (gguf_open_bytes(data, n_bytes, &g, &err) < 0)
        return 0;
    if (eng_shape_init(g, &shape, &err) == 0)
        eng_shape_done(&shape);
    if (eng_tokenizer_new(g, &tok, &err) == 0)
        eng_tokenizer_free(tok);
    gguf_close(g);
    return 0;
}

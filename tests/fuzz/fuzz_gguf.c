/* Any bytes as a GGUF, as far as it goes: the container, what it tells about itself, the checks of
 * a model, and for one that passes them loading, a few tokens through it and a classification. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/gguf.h"
#include "engine/model.h"
#include "engine/shape.h"
#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Prompt tokens and those drawn behind them; rows of a step, fewer than the prompt has. */
enum { N_PROMPT = 5, N_MORE = 3, MAX_ROWS = 4 };
/* What a small file may ask for: each working row costs as much as the file says. */
enum { MAX_WORKING_BYTES = 64 << 20 };

static struct eng *engine(void)
{
    static const char *const kv_types[] = {"f32", "f16", "q8_0"};
    static unsigned turn;
    const struct eng_config c = {.n_threads = 1,
                                 .kv_bytes = 4 << 20,
                                 .kv_type = kv_types[turn++ % 3],
                                 .prefill_chunk = 3,
                                 .max_rows = MAX_ROWS};
    struct eng *e;

    if (eng_open(&c, &e, NULL) < 0)
        abort();
    return e;
}

/* Checks without what comes out: weights may be any numbers, and logits none. */
static void run(struct eng *e, struct eng_model *m)
{
    const struct eng_model_info *info = eng_model_info(m);
    const int32_t label = (int32_t)info->n_vocab - 1;
    int32_t ids[N_PROMPT];
    uint32_t at = N_PROMPT - 1;
    struct eng_ctx *c = NULL, *fork = NULL;
    struct eng_req q[2] = {0};
    struct eng_req *reqs[] = {&q[0], &q[1]};

    if (eng_ctx_new(e, m, &c, NULL) < 0)
        return;
    for (uint32_t i = 0; i < N_PROMPT; i++)
        ids[i] = (int32_t)(i * 7 % info->n_vocab);
    if (eng_ctx_append(c, ids, N_PROMPT, NULL) == 0 && eng_ctx_fork(c, &fork, NULL) == 0) {
        q[0] = (struct eng_req){.op = ENG_GENERATE,
                                .ctx = c,
                                .sampling = {.temperature = 1, .top_p = 1},
                                .max_tokens = N_MORE,
                                .ignore_end = true};
        q[1] = (struct eng_req){.op = ENG_SCORE,
                                .ctx = fork,
                                .at = &at,
                                .n_at = 1,
                                .read = info->n_cls ? ENG_READ_CLS : ENG_READ_LABELS,
                                .labels = info->n_cls ? NULL : &label,
                                .n_labels = !info->n_cls,
                                .want_logprobs = true};
        (void)eng_run(e, reqs, 2, NULL);
        for (int i = 0; i < 2; i++)
            eng_req_done(&q[i]);
    }
    eng_ctx_free(fork);
    eng_ctx_free(c);
}

/* By the path, as everybody does; the file is in memory. */
static void try_path(const uint8_t *data, size_t n_bytes)
{
    struct pd_buf keys = PD_BUF_INIT(1 << 20);
    struct eng_model_info info = {0};
    struct eng_model *m = NULL;
    struct eng *e = engine();
    char path[64];
    int fd = memfd_create("fuzz_gguf", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, n_bytes) != (ssize_t)n_bytes)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (eng_model_peek(path, &info, &keys, NULL) == 0)
        eng_model_info_done(&info);
    if (eng_model_open(e, path, &m, NULL) == 0)
        run(e, m);
    eng_model_unref(m);
    eng_close(e);
    close(fd);
    pd_buf_done(&keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct eng_tokenizer *tok = NULL;
    struct eng_shape shape = {0};
    struct gguf *g = NULL;
    bool small = true;

    /* from exactly these bytes, so that reading past them is seen */
    if (gguf_open_bytes(data, n_bytes, &g, NULL) < 0)
        return 0;
    if (eng_shape_init(g, &shape, NULL) == 0) {
        size_t widest = shape.n_ff * (size_t)(shape.n_expert_used ? shape.n_expert_used : 1);

        small = (shape.n_vocab + widest) * sizeof(float) * MAX_ROWS < MAX_WORKING_BYTES;
        eng_shape_done(&shape);
    }
    if (eng_tokenizer_new(g, &tok, NULL) == 0)
        eng_tokenizer_free(tok);
    gguf_close(g);
    if (small)
        try_path(data, n_bytes);
    return 0;
}

/* What the engine's tests share: opening models, contexts and requests or failing the test. */
#ifndef PD_TESTS_ENGINE_FIXTURE_H
#define PD_TESTS_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"

static inline const char *fx_path(const char *name)
{
    static char path[4096];
    const char *dir = getenv("PONDER_MODELS_DIR");

    snprintf(path, sizeof(path), "%s/%s", dir ? dir : "recipes/models", name);
    return path;
}

static inline void fx_ok(int rc, const struct pd_err *err)
{
    if (rc < 0)
        fail_msg("%d: %s", rc, err->text);
}

/* The JSON of a file with reference numbers. */
static inline struct pd_json *fx_json(const char *path)
{
    struct pd_buf text = PD_BUF_INIT(1u << 24);
    struct pd_json *root = NULL;
    struct pd_err err = {0};

    fx_ok(pd_read_file(path, &text, &err), &err);
    fx_ok(pd_json_parse(pd_buf_str(&text), &root, &err), &err);
    pd_buf_done(&text);
    return root;
}

static inline size_t fx_ints(const struct pd_json *a, int32_t *out, size_t max)
{
    size_t n = 0;

    for (const struct pd_json *v = pd_json_first(a); v; v = pd_json_next(v)) {
        int64_t x = 0;

        assert_true(n < max && pd_json_int(v, &x));
        out[n++] = (int32_t)x;
    }
    return n;
}

static inline double fx_number(const struct pd_json *v)
{
    double x = -1e300;

    assert_true(pd_json_number(v, &x));
    return x;
}

static inline struct eng *fx_eng(const char *isa, unsigned n_threads, unsigned chunk,
                                 unsigned max_rows)
{
    struct eng_config c = {.n_threads = n_threads,
                           .isa = isa,
                           .kv_bytes = UINT64_C(256) << 20,
                           .prefill_chunk = chunk,
                           .max_rows = max_rows};
    struct pd_err err = {0};
    struct eng *e = NULL;

    fx_ok(eng_open(&c, &e, &err), &err);
    return e;
}

/* An engine that finds nothing again: what is fresh in it is all computed. */
static inline struct eng *fx_cold_eng(void)
{
    struct eng_config c = {.n_threads = 1, .no_prefix_cache = true};
    struct pd_err err = {0};
    struct eng *e = NULL;

    fx_ok(eng_open(&c, &e, &err), &err);
    return e;
}

static inline struct eng_model *fx_model(struct eng *e, const char *name)
{
    struct pd_err err = {0};
    struct eng_model *m = NULL;

    fx_ok(eng_model_open(e, fx_path(name), &m, &err), &err);
    return m;
}

static inline struct eng_ctx *fx_ctx(struct eng *e, struct eng_model *m, const int32_t *ids,
                                     size_t n)
{
    struct pd_err err = {0};
    struct eng_ctx *c = NULL;

    fx_ok(eng_ctx_new(e, m, &c, &err), &err);
    fx_ok(eng_ctx_append(c, ids, n, &err), &err);
    return c;
}

static inline struct eng_ctx *fx_fork(struct eng_ctx *c)
{
    struct pd_err err = {0};
    struct eng_ctx *d = NULL;

    fx_ok(eng_ctx_fork(c, &d, &err), &err);
    return d;
}

/* The prompt of a question, as ids (malloc'ed). */
static inline int32_t *fx_prompt(const struct eng_model *m, const char *question, size_t *n)
{
    struct pd_message msg = {.role = "user", .content = pd_str_of(question)};
    struct pd_err err = {0};
    int32_t *ids = NULL;

    *n = 0;
    fx_ok(eng_chat(eng_model_tokenizer(m), NULL, PD_CHAT(&msg, 1), &ids, n, &err), &err);
    return ids;
}

static inline struct eng_req fx_generate(struct eng_ctx *c, float temperature, uint64_t key,
                                         uint32_t max_tokens)
{
    return (struct eng_req){.op = ENG_GENERATE,
                            .ctx = c,
                            .sampling = {temperature, 0, 1.0f, 0.0f},
                            .key = key,
                            .max_tokens = max_tokens};
}

static inline void fx_run(struct eng *e, struct eng_req *reqs, size_t n)
{
    struct eng_req *list[256];
    struct pd_err err = {0};

    assert_true(n <= 256);
    for (size_t i = 0; i < n; i++)
        list[i] = &reqs[i];
    fx_ok(eng_run(e, list, n, &err), &err);
}

static inline void fx_same(const struct eng_req *a, const struct eng_req *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->finish, b->finish);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof(*a->tokens));
    assert_memory_equal(a->logprobs, b->logprobs, a->n_tokens * sizeof(*a->logprobs));
}

static inline void fx_no_pages(struct eng *e)
{
    struct eng_stats s;

    eng_stats(e, &s);
    assert_int_equal(s.kv_pages_used, 0);
    assert_int_equal(s.kv_page_bytes_used, 0);
    assert_int_equal(s.kv_pages_seen, 0);
    assert_int_equal(s.kv_pages_cached + s.kv_pages_free, s.kv_pages);
}

#endif

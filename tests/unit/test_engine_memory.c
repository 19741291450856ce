/* What an estimate says before loading is what loading and running then take, what does not fit
 * below the ceiling is refused with the numbers, and a file that is spoilt meanwhile is an error.
 */
#include "tests/unit/engine_fixture.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/kernels.h"
#include "engine/model.h"
#include "tests/support/random_model.h"

#define CONTEXT 100 /* not a multiple of a page */
#define SHARED  45

/* The allocator's own view, in use; 0 where it is replaced (sanitizers). */
static uint64_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* The allocator rounds up and keeps a header for each of some hundreds of blocks. */
static void check_close(const char *what, const char *name, uint64_t estimated, uint64_t taken)
{
    uint64_t slack = taken / 50 + 65536;

    if (taken == 0)
        return;
    if (estimated > taken + slack || taken > estimated + slack)
        fail_msg("%s of %s: %llu bytes estimated, %llu taken", what, name,
                 (unsigned long long)estimated, (unsigned long long)taken);
}

static const char *write_model(const struct random_model *shape, const char *type)
{
    static char path[64];
    struct pd_err err = {0};

    snprintf(path, sizeof(path), "/tmp/ponder-memory-%d.gguf", (int)getpid());
    fx_ok(random_model_write(shape, type, false, 1, path, &err), &err);
    return path;
}

static void run(struct eng *e, struct eng_ctx *c, uint64_t key, uint32_t n_tokens)
{
    struct eng_req req = {.op = ENG_GENERATE,
                          .ctx = c,
                          .key = key,
                          .sampling = {.temperature = 1, .top_p = 1},
                          .max_tokens = n_tokens,
                          .ignore_end = true},
                   *reqs[] = {&req};
    struct pd_err err = {0};

    fx_ok(eng_run(e, reqs, 1, &err), &err);
    assert_int_equal(req.finish, ENG_FINISH_LENGTH);
    eng_req_done(&req);
}

static uint64_t kv_bytes(const struct eng *e)
{
    struct eng_stats s;

    eng_stats(e, &s);
    return s.kv_page_bytes_used;
}

static void check_estimate(const struct random_model *shape, const char *type, const char *kv_type)
{
    const struct eng_config config = {.n_threads = 2, .kv_type = kv_type};
    const char *path = write_model(shape, type);
    struct eng_ctx *root, *branch[3];
    int32_t ids[SHARED] = {0};
    struct eng_memory m;
    struct pd_err err = {0};
    struct eng_model *model;
    struct eng *e;
    uint64_t before;

    fx_ok(eng_open(&config, &e, &err), &err);
    before = allocated();
    fx_ok(eng_model_estimate(e, path, &m, &err), &err);
    check_close("estimate", shape->name, 0, allocated() - before); /* it keeps nothing */

    before = allocated();
    fx_ok(eng_model_open(e, path, &model, &err), &err);
    check_close("model", shape->name, m.weights_bytes + m.vocab_bytes, allocated() - before);
    before = allocated();
    root = fx_ctx(e, model, ids, SHARED);
    check_close("working space", shape->name, m.work_bytes, allocated() - before);

    assert_int_equal(m.kv_token_bytes, eng_kv_token_bytes(e, eng_model_info(model)));
    assert_in_range(m.kv_page_bytes, m.kv_token_bytes * ENG_PAGE,
                    m.kv_token_bytes * ENG_PAGE + 512);
    run(e, root, 0, 1); /* the drawn token is not evaluated */
    fx_ok(eng_ctx_rollback(root, SHARED, &err), &err);
    assert_int_equal(kv_bytes(e), eng_memory_kv(&m, SHARED, 1, SHARED));
    for (int i = 0; i < 3; i++) {
        branch[i] = fx_fork(root);
        run(e, branch[i], (uint64_t)i, CONTEXT - SHARED + 1);
    }
    assert_int_equal(kv_bytes(e), eng_memory_kv(&m, CONTEXT, 3, SHARED));
    for (int i = 0; i < 3; i++)
        eng_ctx_free(branch[i]);
    eng_ctx_free(root);
    eng_model_unref(model);
    eng_close(e);
    unlink(path);
}

static void test_estimate(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);

    (void)state;
    eng_model_unref(fx_model(e, "tiny-draft-Q8_0.gguf")); /* what libraries take the first time */
    eng_close(e);
    for (const struct random_model *s = random_models; strncmp(s->name, "tiny-", 5) == 0; s++)
        check_estimate(s, "Q8_0", "f16");
    for (const struct eng_quant *const *q = eng_quants; *q; q++)
        check_estimate(random_model_find("tiny-llama"), (*q)->name, "f32");
    check_estimate(random_model_find("tiny-qwen3moe"), "Q4_K_M", "q8_0");
}

static void test_kv(void **state)
{
    const struct eng_memory m = {.kv_page_bytes = 1000};

    (void)state;
    assert_int_equal(eng_memory_kv(&m, 1, 1, 0), 1000);
    assert_int_equal(eng_memory_kv(&m, 32, 64, 0), 64000);
    assert_int_equal(eng_memory_kv(&m, 33, 64, 0), 128000);
    assert_int_equal(eng_memory_kv(&m, 64, 64, 32), 65000); /* the shared page, one each */
    assert_int_equal(eng_memory_kv(&m, 64, 64, 33), 66000); /* the second page is copied */
    assert_int_equal(eng_memory_kv(&m, 64, 64, 64), 2000);  /* nothing of their own */
}

/* The ceiling is of all models and of their pages. */
static void test_ceiling(void **state)
{
    const char *path = fx_path("tiny-base-Q8_0.gguf");
    struct eng_config config = {.n_threads = 2};
    int32_t ids[33] = {0};
    struct eng_memory m;
    struct eng_model *model, *second;
    struct eng_ctx *c;
    struct pd_err err = {0};
    struct eng *e;
    uint64_t need;

    (void)state;
    fx_ok(eng_open(&config, &e, &err), &err);
    fx_ok(eng_model_estimate(e, path, &m, &err), &err);
    eng_close(e);
    need = eng_memory_fixed(&m);

    config.memory_bytes = need - 1;
    fx_ok(eng_open(&config, &e, &err), &err);
    assert_int_equal(eng_model_open(e, path, &model, &err), PD_ENOMEM);
    assert_non_null(strstr(err.text, "MB (weights "));
    assert_non_null(strstr(err.text, "the memory limit of "));
    eng_close(e);

    config.memory_bytes = need + m.kv_page_bytes;
    fx_ok(eng_open(&config, &e, &err), &err);
    for (int i = 0; i < 2; i++) { /* what was let go is there again */
        fx_ok(eng_model_open(e, path, &model, &err), &err);
        assert_int_equal(eng_model_open(e, path, &second, &err), PD_ENOMEM);
        c = fx_ctx(e, model, ids, 32);
        run(e, c, 0, 1);
        eng_ctx_free(c);
        eng_model_unref(model);
    }
    /* the page that is free is given back for a model */
    fx_ok(eng_model_open(e, path, &model, &err), &err);
    c = fx_ctx(e, model, ids, 33);
    struct eng_req req = {.op = ENG_PREFILL, .ctx = c}, *reqs[] = {&req};
    fx_ok(eng_run(e, reqs, 1, &err), &err);
    assert_int_equal(req.finish, ENG_FINISH_ERROR);
    assert_int_equal(req.err.code, PD_ENOMEM);
    assert_non_null(strstr(req.err.text, "--memory-limit"));
    eng_req_done(&req);
    eng_ctx_free(c);
    eng_model_unref(model);
    eng_close(e);
}

/* ---- a file that changes
 * ------------------------------------------------------------------------ */

/* A copy of the model; the path is static. */
static const char *copy_model(const char *name)
{
    static char path[64];
    struct pd_buf bytes = PD_BUF_INIT(1u << 26);
    struct pd_err err = {0};
    FILE *f;

    snprintf(path, sizeof(path), "/tmp/ponder-memory-%d.gguf", (int)getpid());
    fx_ok(pd_read_file(fx_path(name), &bytes, &err), &err);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
    assert_int_equal(fclose(f), 0);
    pd_buf_done(&bytes);
    return path;
}

/* Shorter between opening and loading, by whatever: an error, and no signal. */
static void test_shorter(void **state)
{
    static const char *const models[] = {"tiny-base-Q8_0.gguf", "tiny-prm-Q8_0.gguf"};
    const off_t kept[] = {0, 4096, 300000, 1000000};

    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
        for (size_t k = 0; k < sizeof(kept) / sizeof(*kept); k++) {
            const char *path = copy_model(models[i]);
            struct eng_model *m;
            struct eng_memory memory;
            struct pd_err err = {0};

            fx_ok(eng_model_begin(path, NULL, &m, &memory, &err), &err);
            assert_int_equal(truncate(path, kept[k]), 0);
            assert_int_equal(eng_model_finish(m, 2, &err), PD_EIO);
            assert_non_null(strstr(err.text, "became shorter while it was read"));
            assert_non_null(strstr(err.text, path));
            eng_model_unref(m);
            unlink(path);
        }
}

/* The embedding is read from the file as tokens come. */
static void check_running(void (*spoil)(const char *path))
{
    const char *path = copy_model("tiny-draft-Q8_0.gguf");
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_req req = {.op = ENG_GENERATE,
                          .sampling = {.temperature = 1, .top_p = 1},
                          .max_tokens = 4,
                          .ignore_end = true},
                   *reqs[] = {&req};
    struct eng_model *m;
    int32_t ids[3] = {1, 2, 3};
    struct pd_err err = {0};

    fx_ok(eng_model_open(e, path, &m, &err), &err);
    req.ctx = fx_ctx(e, m, ids, 3);
    fx_ok(eng_run(e, reqs, 1, &err), &err);
    assert_int_equal(req.finish, ENG_FINISH_LENGTH);
    eng_req_done(&req);
    spoil(path);
    fx_ok(eng_run(e, reqs, 1, &err), &err);
    assert_int_equal(req.finish, ENG_FINISH_ERROR);
    assert_int_equal(req.err.code, PD_EFORMAT);
    assert_non_null(strstr(req.err.text, "written to while it was in use"));
    eng_req_done(&req);
    eng_ctx_free(req.ctx);
    eng_model_unref(m);
    eng_close(e);
    unlink(path);
}

static void cut(const char *path)
{
    assert_int_equal(truncate(path, 1000), 0);
}

static void overwrite(const char *path)
{
    struct timespec long_ago[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    FILE *f = fopen(path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    assert_int_equal(fputc(7, f), 7);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0); /* clocks of files are coarse */
}

static void test_running(void **state)
{
    (void)state;
    check_running(cut);
    check_running(overwrite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimate), cmocka_unit_test(test_kv), cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_shorter), cmocka_unit_test(test_running)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Opening an engine and a model, contexts and a request, with each allocation failing in turn: an
 * error that says so and nothing left behind (the sanitizers look), or the result as ever. */
#include "tests/unit/engine_fixture.h"

#include <errno.h>
#include <stdatomic.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t elem);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t elem);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);

static atomic_long countdown = -1; /* allocations until one fails, on any thread; below 0: none */

static bool fails(void)
{
    return atomic_load(&countdown) >= 0 && atomic_fetch_sub(&countdown, 1) == 0;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t elem)
{
    return fails() ? NULL : __real_calloc(n, elem);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **out, size_t align, size_t n)
{
    return fails() ? ENOMEM : __real_posix_memalign(out, align, n);
}

/* Draws two tokens on each of two branches; 0 or an error. */
static int generate(struct eng *e, struct eng_model *m, int32_t out[4], struct pd_err *err)
{
    static const int32_t prompt[3] = {5, 6, 7};
    struct eng_req q[2] = {{0}}, *reqs[2] = {&q[0], &q[1]};
    int rc = eng_ctx_new(e, m, &q[0].ctx, err);

    if (rc == 0)
        rc = eng_ctx_append(q[0].ctx, prompt, 3, err);
    if (rc == 0)
        rc = eng_ctx_fork(q[0].ctx, &q[1].ctx, err);
    for (int i = 0; i < 2; i++) {
        q[i].op = ENG_GENERATE;
        q[i].max_tokens = 2;
        q[i].ignore_end = true;
        q[i].sampling.top_p = 1;
    }
    if (rc == 0)
        rc = eng_run(e, reqs, 2, err);
    for (int i = 0; rc == 0 && i < 2; i++) {
        if (q[i].finish == ENG_FINISH_ERROR) {
            rc = (int)q[i].err.code;
            *err = q[i].err;
        } else {
            memcpy(out + 2 * i, q[i].tokens, 2 * sizeof(*out));
        }
    }
    for (int i = 0; i < 2; i++) {
        eng_req_done(&q[i]);
        eng_ctx_free(q[i].ctx);
    }
    return rc;
}

static int all(const char *path, int32_t out[4], struct pd_err *err)
{
    const struct eng_config config = {.n_threads = 2, .kv_bytes = 1 << 20, .max_rows = 8};
    struct eng_model *m = NULL;
    struct eng *e = NULL;
    int rc = eng_open(&config, &e, err);

    if (rc == 0)
        rc = eng_model_open(e, path, &m, err);
    if (rc == 0)
        rc = generate(e, m, out, err);
    eng_model_unref(m);
    eng_close(e);
    return rc;
}

static void test_walk(void **state)
{
    const char *path = fx_path("tiny-draft-Q8_0.gguf");
    int32_t want[4], got[4];
    struct pd_err err = {0};
    long n = 0;
    bool reached = true;

    (void)state;
    fx_ok(all(path, want, &err), &err);
    while (reached) {
        int rc;

        memset(&err, 0, sizeof(err));
        atomic_store(&countdown, n++);
        rc = all(path, got, &err);
        reached = atomic_exchange(&countdown, -1) < 0;
        if (rc == 0)
            assert_memory_equal(got, want, sizeof(got)); /* it could do without */
        else if (rc != PD_ENOMEM || !strstr(err.text, "memory"))
            fail_msg("allocation %ld: %d: %s", n - 1, rc, err.text);
    }
    print_message("# %ld allocations, each failed once\n", n - 1);
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

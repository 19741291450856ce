/* engine/gguf.c and engine/model.c: what opens, what is refused and with which words, and that no
 * damaged file does more than be refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "engine/model.h"
#include "engine/shape.h"
#include "tests/gguf_builder.h"

/* ---- helpers ---- */

static char *dir; /* a fresh folder of this run */

static int make_dir(void **state)
{
    static char name[] = "/tmp/test_engine_gguf.XXXXXX";

    (void)state;
    dir = mkdtemp(name);
    return dir ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static char *write_file(const char *name, const void *bytes, size_t n)
{
    char *path = pd_path_join(dir, name);
    FILE *f = path ? fopen(path, "wb") : NULL;

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void drop_file(char *path)
{
    unlink(path);
    free(path);
}

static void expect_text(const struct pd_err *err, const char *want)
{
    if (!strstr(err->text, want))
        fail_msg("error '%s' does not say '%s'", err->text, want);
}

/* What eng_model_load does before it repacks, without the tokenizer. */
static int check_bytes(const uint8_t *bytes, size_t n, struct pd_err *err)
{
    struct eng_shape s = {0};
    struct gguf *g = NULL;
    int rc;

    rc = gguf_open_bytes(bytes, n, &g, err);
    if (rc < 0)
        return rc;
    rc = eng_shape_init(g, &s, err);
    if (rc == 0)
        eng_shape_done(&s);
    gguf_close(g);
    return rc;
}

static int check(const struct gb *b, struct pd_err *err)
{
    size_t n;
    uint8_t *bytes = gb_finish(b, &n), *exact = gb_dup(bytes, n);
    int rc = check_bytes(exact, n, err);

    free(bytes);
    free(exact);
    return rc;
}

static uint64_t splitmix(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- what opens ---- */

static void test_values(void **state)
{
    static const int16_t i16s[] = {-7, 300};
    static const double f64s[] = {0.5, 1e300};
    struct gb b;
    struct gguf *g;
    struct pd_err err;
    struct pd_str s;
    uint32_t u = 9;
    float f = 9;
    bool yes = false;
    uint8_t *bytes;
    size_t n;

    (void)state;
    gb_init(&b);
    b.version = 2;
    gb_u32(&b, "u32", 4000000000u);
    gb_raw(&b, "u8", GGUF_U8, "\xfe", 1);
    gb_raw(&b, "i8", GGUF_I8, "\xfe", 1);
    gb_raw(&b, "u16", GGUF_U16, "\x01\x80", 2);
    gb_raw(&b, "i16", GGUF_I16, "\x05\x00", 2);
    gb_raw(&b, "i32", GGUF_I32, "\x01\x00\x00\x80", 4);
    gb_raw(&b, "u64", GGUF_U64, "\x00\x00\x00\x00\x01\x00\x00\x00", 8);
    gb_raw(&b, "i64", GGUF_I64, "\x2a\x00\x00\x00\x00\x00\x00\x00", 8);
    gb_f32(&b, "f32", 1.5f);
    gb_raw(&b, "f64", GGUF_F64, &f64s[0], 8);
    gb_raw(&b, "f64big", GGUF_F64, &f64s[1], 8);
    gb_bool(&b, "yes", 1);
    gb_str(&b, "str", "text");
    gb_arr(&b, "i16s", GGUF_I16, 2, i16s, sizeof(i16s));
    gb_arr(&b, "f64s", GGUF_F64, 2, f64s, sizeof(f64s));
    gb_strs(&b, "strs", (const char *const[]){"one", "", "three"}, 3);
    gb_arr(&b, "none", GGUF_STR, 0, NULL, 0);
    gb_arr(&b, "bools", GGUF_BOOL, 2, "\0\1", 2);
    bytes = gb_finish(&b, &n);
    assert_int_equal(gguf_open_bytes(bytes, n, &g, &err), 0);
    assert_int_equal(g->version, 2);
    assert_int_equal(g->alignment, 32);
    assert_int_equal(g->n_kvs, b.n_kvs);
    assert_int_equal(g->n_tensors, 0);

    assert_int_equal(gguf_u32(g, "absent", &u, &err), 0);
    assert_int_equal(u, 9);
    assert_int_equal(gguf_u32(g, "u32", &u, &err), 1);
    assert_int_equal(u, 4000000000u);
    assert_int_equal(gguf_u32(g, "u8", &u, &err), 1);
    assert_int_equal(u, 254);
    assert_int_equal(gguf_u32(g, "u16", &u, &err), 1);
    assert_int_equal(u, 0x8001);
    assert_int_equal(gguf_u32(g, "i16", &u, &err), 1);
    assert_int_equal(u, 5);
    assert_int_equal(gguf_u32(g, "i64", &u, &err), 1);
    assert_int_equal(u, 42);
    assert_int_equal(gguf_u32(g, "i8", &u, &err), PD_EFORMAT);
    expect_text(&err, "key 'i8' is -2");
    assert_int_equal(gguf_u32(g, "i32", &u, &err), PD_EFORMAT);
    assert_int_equal(gguf_u32(g, "u64", &u, &err), PD_EFORMAT);
    expect_text(&err, "4294967296");
    assert_int_equal(gguf_u32(g, "str", &u, &err), PD_EFORMAT);
    expect_text(&err, "key 'str' has type str");
    assert_int_equal(u, 42);
    assert_int_equal(gguf_f32(g, "f32", &f, &err), 1);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_f32(g, "f64", &f, &err), 1);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_f32(g, "f64big", &f, &err), PD_EFORMAT);
    assert_int_equal(gguf_f32(g, "u32", &f, &err), PD_EFORMAT);
    assert_int_equal(gguf_bool(g, "yes", &yes, &err), 1);
    assert_true(yes);
    assert_int_equal(gguf_bool(g, "u8", &yes, &err), PD_EFORMAT);
    assert_int_equal(gguf_str(g, "str", &s, &err), 1);
    assert_true(pd_str_eq(s, PD_STR("text")));
    assert_int_equal(gguf_str(g, "f32", &s, &err), PD_EFORMAT);
    assert_int_equal(gguf_arr_i32(gguf_find(g, "i16s"), 0), -7);
    assert_int_equal(gguf_arr_i32(gguf_find(g, "i16s"), 1), 300);
    assert_true(gguf_arr_f32(gguf_find(g, "f64s"), 0) == 0.5f);
    assert_true(isfinite(gguf_arr_f32(gguf_find(g, "f64s"), 1)));
    assert_int_equal(gguf_find(g, "strs")->n, 3);
    assert_true(pd_str_eq(gguf_find(g, "strs")->strs[2], PD_STR("three")));
    assert_int_equal(gguf_find(g, "strs")->strs[1].len, 0);
    assert_int_equal(gguf_find(g, "none")->n, 0);
    assert_null(gguf_find(g, ""));
    assert_null(gguf_tensor(g, "u32"));
    gguf_close(g);
    gguf_close(NULL);
    free(bytes);
    gb_done(&b);
}

static void test_tensors(void **state)
{
    struct gb b;
    struct gguf *g;
    struct pd_err err;
    const struct gguf_tensor *t;
    uint8_t *bytes;
    size_t n;

    (void)state;
    gb_init(&b);
    gb_u32(&b, "general.alignment", b.alignment = 64);
    gb_tensor(&b, "b", GGML_F16, 3, 5);
    gb_tensor(&b, "a", GGML_Q8_0, 2, 64);
    gb_tensor(&b, "c", GGML_F32, 0, 7);
    bytes = gb_finish(&b, &n);
    assert_int_equal(gguf_open_bytes(bytes, n, &g, &err), 0);
    assert_int_equal(g->alignment, 64);
    t = gguf_tensor(g, "a");
    assert_non_null(t);
    assert_int_equal(t->bytes, 2 * 2 * 34);
    assert_int_equal(t->dims[0], 64);
    assert_int_equal(t->dims[1], 2);
    assert_int_equal(t->dims[3], 1);
    assert_int_equal((size_t)(t->data - bytes) % 64, 0);
    assert_int_equal(t->data[0], 0x3c);
    assert_int_equal(gguf_tensor(g, "b")->bytes, 30);
    assert_int_equal(gguf_tensor(g, "c")->bytes, 28);
    assert_ptr_equal(gguf_tensor(g, "c")->data + 28, bytes + n);
    assert_null(gguf_tensor(g, "d"));
    gguf_close(g);
    free(bytes);
    gb_done(&b);
}

/* A vocabulary as large as the large ones opens at once, and the duplicates' search is not
 * quadratic. */
static void test_large_vocabulary(void **state)
{
    enum { N = 150000 };
    struct gb b;
    struct gguf *g;
    struct pd_err err;
    uint8_t *items = gb_alloc(N * 16), *p = items, *bytes;
    size_t n;

    (void)state;
    for (int i = 0; i < N; i++) {
        char text[16];
        uint64_t len = (uint64_t)snprintf(text, sizeof(text), "t%d", i);

        p = gb_put(gb_put(p, &len, 8), text, (size_t)len);
    }
    gb_init(&b);
    gb_arr(&b, "tokenizer.ggml.tokens", GGUF_STR, N, items, (size_t)(p - items));
    bytes = gb_finish(&b, &n);
    assert_int_equal(gguf_open_bytes(bytes, n, &g, &err), 0);
    assert_true(pd_str_eq(gguf_find(g, "tokenizer.ggml.tokens")->strs[N - 1], PD_STR("t149999")));
    gguf_close(g);
    free(bytes);
    free(items);
    gb_done(&b);
}

/* ---- what the container refuses ---- */

/* Spoils b in the i-th way; returns what the error must say, NULL when there are no more. */
static const char *spoil_container(struct gb *b, int i)
{
    static char long_key[65536 + 1];
    uint64_t huge = UINT64_MAX;

    switch (i) {
    case 0:
        memcpy(b->magic, "GGML", 4);
        return "not a GGUF file";
    case 1:
        b->version = 1;
        return "version 1";
    case 2:
        b->version = 4;
        return "version 4";
    case 3:
        b->version = 0x03000000;
        return "big-endian";
    case 4:
        b->n_kvs_plus1 = UINT64_MAX;
        return "keys cannot fit";
    case 5:
        b->n_tensors_plus1 = UINT64_C(1) << 60;
        return "tensors cannot fit";
    case 6:
        gb_raw_n(b, "", 0, GGUF_U32, "1234", 4);
        return "is empty";
    case 7:
        memset(long_key, 'k', sizeof(long_key) - 1);
        gb_u32(b, long_key, 1);
        return "more than the 65535";
    case 8:
        gb_u32(b, "bad\xff", 1);
        return "not UTF-8: 'bad\\xff'";
    case 9:
        b->keep_duplicates = 1;
        gb_u32(b, "llama.block_count", 1);
        return "key 'llama.block_count' is there twice";
    case 10:
        gb_raw(b, "k", 13, "1234", 4);
        return "key 'k' at byte";
    case 11:
        gb_arr(b, "k", 13, 1, "1234", 4);
        return "array of the unknown type 13";
    case 12:
        gb_arr(b, "k", GGUF_ARR, 1, "123456789012", 12);
        return "arrays of arrays";
    case 13:
        gb_arr(b, "k", GGUF_U64, UINT64_MAX / 4, "12345678", 8);
        return "does not fit";
    case 14:
        gb_arr(b, "k", GGUF_STR, UINT64_MAX / 4, "12345678", 8);
        return "does not fit";
    case 15:
        gb_arr(b, "k", GGUF_STR, 1, &huge, 8);
        return "key 'k', item 0";
    case 16:
        gb_raw(b, "k", GGUF_STR, &huge, 8);
        return "key 'k'";
    case 17:
        gb_bool(b, "k", 2);
        return "a bool has the value 2";
    case 18:
        gb_arr(b, "k", GGUF_BOOL, 3, "\1\0\5", 3);
        return "a bool has the value 5";
    case 19:
        gb_u32(b, "general.alignment", 24);
        return "general.alignment is 24";
    case 20:
        gb_u32(b, "general.alignment", 4);
        return "general.alignment is 4";
    case 21:
        gb_u32(b, "general.alignment", 1 << 21);
        return "general.alignment is 2097152";
    case 22:
        gb_str(b, "general.alignment", "32");
        return "general.alignment";
    case 23:
        gb_get(b, "output_norm.weight")->n_dims = 0;
        return "has 0 dimensions";
    case 24:
        gb_get(b, "output_norm.weight")->n_dims = 5;
        return "has 5 dimensions";
    case 25:
        gb_get(b, "output_norm.weight")->dims[0] = 0;
        return "dimension 0 is 0";
    case 26:
        gb_get(b, "token_embd.weight")->dims[0] = UINT64_C(1) << 40;
        gb_get(b, "token_embd.weight")->dims[1] = UINT64_C(1) << 40;
        return "multiply to more";
    case 27:
        gb_get(b, "token_embd.weight")->dims[0] = UINT64_C(1) << 62;
        gb_get(b, "token_embd.weight")->dims[1] = 1;
        return "more than 2^63 bytes";
    case 28:
        gb_get(b, "token_embd.weight")->type = 16;
        return "type IQ2_XXS (16)";
    case 29:
        gb_get(b, "token_embd.weight")->type = 777;
        return "type unknown (777)";
    case 30:
        gb_get(b, "token_embd.weight")->type = GGML_Q8_0;
        return "rows of 8 elements, not a multiple of Q8_0's block of 32";
    case 31:
        gb_get(b, "output_norm.weight")->offset_plus1 = 5;
        return "not a multiple of the alignment 32";
    case 32:
        gb_get(b, "output_norm.weight")->offset_plus1 = (UINT64_C(1) << 40) + 1;
        return "past the end";
    case 33:
        gb_get(b, "output_norm.weight")->offset_plus1 = UINT64_MAX - 30;
        return "past the end";
    case 34:
        gb_get(b, "blk.0.ffn_down.weight")->dims[1] = 9;
        return "past the end";
    case 35:
        gb_get(b, "output_norm.weight")->offset_plus1 = 1;
        return "overlap";
    case 36:
        b->keep_duplicates = 1;
        gb_tensor(b, "output_norm.weight", GGML_F32, 0, 8);
        return "tensor 'output_norm.weight' is there twice";
    case 37:
        gb_tensor(b, "", GGML_F32, 0, 8);
        return "is empty";
    case 38:
        gb_tensor(b, "\xc3", GGML_F32, 0, 8);
        return "not UTF-8";
    default:
        return NULL;
    }
}

static void test_container_errors(void **state)
{
    (void)state;
    for (int i = 0;; i++) {
        struct gb b;
        struct pd_err err = {0};
        const char *want;
        int rc;

        gb_llama(&b);
        want = spoil_container(&b, i);
        rc = check(&b, &err);
        gb_done(&b);
        if (!want) {
            assert_int_equal(rc, 0); /* unspoiled, it is right */
            break;
        }
        if (rc != PD_EFORMAT || !strstr(err.text, want))
            fail_msg("case %d: %d '%s' instead of '%s'", i, rc, err.text, want);
    }
}

static void test_files(void **state)
{
    struct gguf *g = NULL;
    struct pd_err err;
    struct gb b;
    uint8_t *bytes;
    size_t n;
    char *path;

    (void)state;
    assert_int_equal(gguf_open("/nonexistent/x.gguf", &g, &err), PD_ENOENT);
    expect_text(&err, "/nonexistent/x.gguf");
    assert_int_equal(gguf_open(dir, &g, &err), PD_EFORMAT);
    expect_text(&err, "is a directory");
    path = write_file("empty.gguf", "", 0);
    assert_int_equal(gguf_open(path, &g, &err), PD_EFORMAT);
    expect_text(&err, "is empty");
    expect_text(&err, path);
    drop_file(path);
    path = write_file("text.gguf", "hello", 5);
    assert_int_equal(gguf_open(path, &g, &err), PD_EFORMAT);
    expect_text(&err, "not a GGUF file");
    expect_text(&err, path);
    assert_int_equal(chmod(path, 0), 0);
    if (geteuid() != 0) {
        assert_int_equal(gguf_open(path, &g, &err), PD_EPERM);
        expect_text(&err, path);
    }
    drop_file(path);
    path = pd_path_join(dir, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(gguf_open(path, &g, &err), PD_EFORMAT);
    expect_text(&err, "not a regular file");
    drop_file(path);
    assert_null(g);

    gb_llama(&b);
    bytes = gb_finish(&b, &n);
    path = write_file("good.gguf", bytes, n);
    assert_int_equal(gguf_open(path, &g, &err), 0);
    assert_string_equal(g->path, path);
    assert_int_equal(g->map_bytes, n);
    assert_int_equal(gguf_fetch(g, g->map, n, &err), 0);
    assert_memory_equal(g->map, bytes, n);
    gguf_close(g);
    drop_file(path);
    free(bytes);
    gb_done(&b);
}

/* ---- what the model refuses ---- */

static void set_norm(struct gb *b, const char *name, float v)
{
    memcpy(gb_get(b, name)->data, &v, sizeof(v));
}

static const char *spoil_model(struct gb *b, int i)
{
    static const uint32_t two[] = {2, 2}, mixed[] = {16, 17};
    static const float ones[] = {1};

    switch (i) {
    case 0:
        gb_str(b, "general.architecture", "gpt2");
        return "'(memory)' has architecture 'gpt2'; this build runs: llama, qwen2, ";
    case 1:
        gb_remove(b, "general.architecture");
        return "no general.architecture";
    case 2:
        gb_u32(b, "general.architecture", 1);
        return "general.architecture";
    case 3:
        gb_u32(b, "split.count", 2);
        return "part 1 of 2 of a split model";
    case 4:
        gb_remove(b, "llama.block_count");
        return "'llama.block_count' is missing";
    case 5:
        gb_u32(b, "llama.block_count", 0);
        return "'llama.block_count' is 0";
    case 6:
        gb_u32(b, "llama.block_count", 1025);
        return "1 to 1024";
    case 7:
        gb_u32(b, "llama.context_length", 0);
        return "'llama.context_length' is 0";
    case 8:
        gb_remove(b, "llama.context_length");
        return "'llama.context_length' is missing";
    case 9:
        gb_remove(b, "llama.embedding_length");
        return "'llama.embedding_length' is missing";
    case 10:
        gb_remove(b, "llama.feed_forward_length");
        return "'llama.feed_forward_length' is missing";
    case 11:
        gb_remove(b, "llama.attention.head_count");
        return "'llama.attention.head_count' is missing";
    case 12:
        gb_u32(b, "llama.attention.head_count", 3);
        return "embedding_length 8 is not a multiple of attention.head_count 3";
    case 13:
        gb_u32(b, "llama.attention.head_count_kv", 0);
        return "head_count_kv 0";
    case 14:
        gb_u32(b, "llama.attention.head_count", 4);
        gb_u32(b, "llama.attention.head_count_kv", 3);
        return "not a multiple of attention.head_count_kv 3";
    case 15:
        gb_u32(b, "llama.attention.head_count", 8);
        return "heads have 1 dimensions";
    case 16:
        gb_u32(b, "llama.attention.key_length", 5);
        return "heads have 5 dimensions";
    case 17:
        gb_u32(b, "llama.attention.value_length", 8);
        return "attention.value_length 8 differs";
    case 18:
        gb_u32(b, "llama.rope.dimension_count", 6);
        return "rope.dimension_count is 6";
    case 19:
        gb_u32(b, "llama.rope.dimension_count", 3);
        return "rope.dimension_count is 3";
    case 20:
        gb_u32(b, "llama.rope.dimension_count", 0);
        return "rope.dimension_count is 0";
    case 21:
        gb_remove(b, "llama.attention.layer_norm_rms_epsilon");
        return "layer_norm_rms_epsilon' is missing";
    case 22:
        gb_f32(b, "llama.attention.layer_norm_rms_epsilon", 0);
        return "layer_norm_rms_epsilon is 0";
    case 23:
        gb_f32(b, "llama.attention.layer_norm_rms_epsilon", NAN);
        return "layer_norm_rms_epsilon is";
    case 24:
        gb_f32(b, "llama.attention.layer_norm_rms_epsilon", INFINITY);
        return "layer_norm_rms_epsilon is";
    case 25:
        gb_f32(b, "llama.rope.freq_base", -1);
        return "rope.freq_base is -1";
    case 26:
        gb_f32(b, "llama.rope.freq_base", NAN);
        return "rope.freq_base is";
    case 27:
        gb_remove(b, "tokenizer.ggml.tokens");
        return "no vocabulary";
    case 28:
        gb_arr(b, "tokenizer.ggml.tokens", GGUF_U32, 2, two, sizeof(two));
        return "no vocabulary";
    case 29:
        gb_strs(b, "tokenizer.ggml.tokens", (const char *const[]){"a"}, 1);
        return "tensor 'token_embd.weight' has the shape [8, 257, 1, 1]; the keys ask for [8, 1]";
    case 30:
        gb_u32(b, "llama.vocab_size", 256);
        return "vocab_size is 256";
    case 31:
        gb_u32(b, "llama.expert_count", 8);
        return "'llama.expert_used_count' is missing";
    case 32:
        gb_str(b, "llama.rope.scaling.type", "spiral");
        return "key 'llama.rope.scaling.type' asks for 'spiral'";
    case 33:
        gb_f32(b, "llama.rope.scaling.factor", -2);
        return "'llama.rope.scaling.factor' is -2";
    case 34:
        gb_f32(b, "llama.rope.scale_linear", INFINITY);
        return "'llama.rope.scale_linear' is inf";
    case 35:
        gb_f32(b, "llama.rope.scaling.attn_factor", NAN);
        return "'llama.rope.scaling.attn_factor' is nan";
    case 36:
        gb_bool(b, "llama.attention.causal", 0);
        return "not causal";
    case 37:
        gb_u32(b, "llama.attention.sliding_window_pattern", 4);
        return "'llama.attention.sliding_window_pattern' is 4";
    case 38:
        gb_arr(b, "llama.feed_forward_length", GGUF_U32, 2, mixed, sizeof(mixed));
        return "has 2 items for 1 layers";
    case 39:
        gb_u32(b, "llama.block_count", 2);
        gb_arr(b, "llama.feed_forward_length", GGUF_U32, 2, mixed, sizeof(mixed));
        return "differs between layers";
    case 40:
        gb_arr(b, "llama.feed_forward_length", GGUF_F32, 1, ones, sizeof(ones));
        return "something else than integers";
    case 41:
        gb_arr(b, "llama.feed_forward_length", GGUF_I8, 1, "\xff", 1);
        return "-1 is negative";
    case 42:
        gb_u32(b, "llama.block_count", 2);
        return "tensor 'blk.1.attn_norm.weight' is missing";
    case 43:
        gb_remove(b, "output_norm.weight");
        return "tensor 'output_norm.weight' is missing";
    case 44:
        gb_remove(b, "blk.0.ffn_up.weight");
        return "tensor 'blk.0.ffn_up.weight' is missing";
    case 45:
        gb_tensor(b, "blk.0.attn_k.weight", GGML_F32, 8, 8);
        return "tensor 'blk.0.attn_k.weight' has the shape [8, 8, 1, 1]; the keys ask for [8, 4]";
    case 46:
        gb_tensor(b, "output_norm.weight", GGML_F32, 0, 9);
        return "tensor 'output_norm.weight' has the shape [9, 1, 1, 1]; the keys ask for [8]";
    case 47:
        gb_tensor(b, "output_norm.weight", GGML_F16, 0, 8);
        return "tensor 'output_norm.weight' has type F16 where F32 is needed";
    case 48:
        set_norm(b, "output_norm.weight", NAN);
        return "tensor 'output_norm.weight', element 0: not a finite number";
    case 49:
        set_norm(b, "blk.0.ffn_norm.weight", -INFINITY);
        return "tensor 'blk.0.ffn_norm.weight', element 0: not a finite number";
    case 50:
        gb_tensor(b, "output.bias", GGML_F32, 0, 257);
        return "tensor 'output.bias' is not part of a llama model";
    case 51:
        gb_tensor(b, "blk.0.attn_q_norm.weight", GGML_F32, 0, 4);
        return "tensor 'blk.0.attn_q_norm.weight' is not part";
    case 52:
        gb_tensor(b, "blk.1.attn_norm.weight", GGML_F32, 0, 8);
        return "tensor 'blk.1.attn_norm.weight' is not part";
    case 53:
        gb_tensor(b, "rope_freqs.weight", GGML_F32, 0, 3);
        return "tensor 'rope_freqs.weight' has the shape";
    case 54:
        gb_tensor(b, "rope_freqs.weight", GGML_F32, 0, 2);
        set_norm(b, "rope_freqs.weight", 0);
        return "element 0: 0 is not positive";
    case 55:
        gb_tensor(b, "output.weight", GGML_F32, 256, 8);
        return "tensor 'output.weight' has the shape";
    case 56:
        gb_str(b, "llama.block_count", "1");
        return "key 'llama.block_count' has type str";
    case 57:
        gb_u32(b, "llama.expert_count", 2);
        gb_u32(b, "llama.expert_used_count", 3);
        return "'llama.expert_used_count' is 3; 1 to 2";
    case 58:
        gb_u32(b, "llama.expert_count", 2);
        gb_u32(b, "llama.expert_used_count", 1);
        return "tensor 'blk.0.ffn_gate_inp.weight' is missing";
    case 59:
        gb_u32(b, "llama.expert_count", 4000);
        return "'llama.expert_count' is 4000";
    case 60:
        gb_str(b, "llama.rope.scaling.type", "longrope");
        return "no tensor 'rope_factors_short.weight'";
    case 61:
        gb_f32(b, "llama.rope.scaling.yarn_beta_fast", 0);
        return "yarn_beta_fast and _slow are 0 and 1";
    case 62:
        gb_f32(b, "llama.attention.scale", 0);
        return "'llama.attention.scale' is 0";
    case 63:
        gb_f32(b, "llama.attn_logit_softcapping", -1);
        return "'llama.attn_logit_softcapping' is -1";
    case 64:
        gb_f32(b, "llama.logit_scale", 0.25f);
        return "'llama.logit_scale' is 0.25; this build computes only with 1";
    case 65:
        gb_u32(b, "llama.expert_shared_count", 1);
        return "'llama.expert_shared_count' is 1; this build computes only with 0";
    case 66:
        gb_bool(b, "llama.use_parallel_residual", 1);
        return "'llama.use_parallel_residual': attention and feed-forward run in parallel";
    case 67:
        gb_tensor(b, "blk.0.attn_q.bias", GGML_F32, 0, 4);
        return "tensor 'blk.0.attn_q.bias' has the shape [4, 1, 1, 1]; the keys ask for [8]";
    case 68:
        gb_f32(b, "llama.rope.scaling.attn_factor", 0);
        return "attn_factor is 0";
    default:
        return NULL;
    }
}

static void test_model_errors(void **state)
{
    (void)state;
    for (int i = 0;; i++) {
        struct gb b;
        struct pd_err err = {0};
        const char *want;
        int rc;

        gb_llama(&b);
        want = spoil_model(&b, i);
        rc = check(&b, &err);
        gb_done(&b);
        if (!want)
            break;
        if (rc != PD_EFORMAT || !strstr(err.text, want))
            fail_msg("case %d: %d '%s' instead of '%s'", i, rc, err.text, want);
    }
}

/* Keys that change nothing are fine. */
static void test_model_accepts(void **state)
{
    static const int32_t sixteen[] = {16};
    struct gb b;
    struct pd_err err = {0};

    (void)state;
    gb_llama(&b);
    gb_str(&b, "llama.rope.scaling.type", "none");
    gb_f32(&b, "llama.rope.scaling.factor", 8);
    assert_int_equal(check(&b, &err), 0);
    gb_str(&b, "llama.rope.scaling.type", "linear");
    gb_f32(&b, "llama.rope.scaling.factor", 1);
    gb_u32(&b, "llama.attention.key_length", 4);
    gb_u32(&b, "llama.attention.value_length", 4);
    gb_u32(&b, "llama.rope.dimension_count", 2);
    gb_u32(&b, "llama.vocab_size", 257);
    gb_u32(&b, "llama.expert_count", 0);
    gb_u32(&b, "llama.attention.sliding_window", 64);
    gb_f32(&b, "llama.logit_scale", 1);
    gb_u32(&b, "llama.expert_gating_func", 1);
    gb_arr(&b, "llama.feed_forward_length", GGUF_I32, 1, sixteen, sizeof(sixteen));
    gb_tensor(&b, "output.weight", GGML_F32, 257, 8);
    gb_tensor(&b, "rope_freqs.weight", GGML_F32, 0, 1);
    if (check(&b, &err) < 0)
        fail_msg("%s", err.text);
    gb_done(&b);
}

/* ---- loading ---- */

static void test_load(void **state)
{
    struct gb b;
    struct pd_err err = {0};
    struct eng_model *m = NULL;
    const struct eng_model_info *info;
    float plain[2], divided[2];
    uint8_t *bytes;
    size_t n;
    char *path;

    (void)state;
    for (int round = 0; round < 2; round++) {
        gb_llama(&b);
        if (round == 1) {
            float two = 2, four = 4;

            gb_remove(&b, "general.name");
            gb_tensor(&b, "output.weight", GGML_F16, 257, 8);
            gb_tensor(&b, "rope_freqs.weight", GGML_F32, 0, 2);
            memcpy(gb_get(&b, "rope_freqs.weight")->data, &two, 4);
            memcpy(gb_get(&b, "rope_freqs.weight")->data + 4, &four, 4);
        }
        bytes = gb_finish(&b, &n);
        path = write_file("speck.gguf", bytes, n);
        if (eng_model_load(path, &m, &err) < 0)
            fail_msg("%s", err.text);
        info = eng_model_info(m);
        assert_string_equal(info->path, path);
        assert_string_equal(info->name, round ? "speck.gguf" : "speck");
        assert_string_equal(info->arch, "llama");
        assert_string_equal(info->file_type, "F32");
        assert_int_equal(info->file_bytes, n);
        assert_int_equal(info->n_vocab, 257);
        assert_int_equal(info->n_ctx, 64);
        assert_int_equal(info->n_embd, 8);
        assert_int_equal(info->n_layer, 1);
        assert_int_equal(info->n_head, 2);
        assert_int_equal(info->n_head_kv, 1);
        assert_int_equal(info->head_dim, 4);
        assert_int_equal(info->n_ff, 16);
        assert_int_equal(info->n_params, (round ? 2 : 1) * 257 * 8 + 3 * 8 + 2 * 64 + 2 * 32 +
                                             3 * 128 + (round ? 2 : 0));
        assert_int_equal(m->n_rot, 4);
        assert_int_equal(m->embd_row_bytes, 32);
        assert_int_equal(m->output.rows, 257);
        assert_int_equal(m->output.cols, 8);
        assert_int_equal(m->output.quant->ggml_type, round ? GGML_F16 : GGML_F32);
        assert_int_equal(m->layers[0].k.rows, 4);
        assert_int_equal(m->layers[0].down.cols, 16);
        assert_true(m->output_norm[7] == 1.0f);
        assert_int_equal(eng_n_vocab(eng_model_tokenizer(m)), 257);
        memcpy(round ? divided : plain, m->rope[0].freq, sizeof(plain));
        assert_ptr_equal(eng_model_ref(m), m);
        eng_model_unref(m);
        assert_int_equal(eng_model_info(m)->n_ctx, 64);
        eng_model_unref(m);
        eng_model_unref(NULL);
        drop_file(path);
        free(bytes);
        gb_done(&b);
    }
    assert_true(plain[0] == 1.0f);
    assert_true(divided[0] == plain[0] / 2);
    assert_true(divided[1] == plain[1] / 4);
}

static void test_load_errors(void **state)
{
    struct gb b;
    struct pd_err err = {0};
    struct eng_model *m = NULL;
    uint8_t *bytes;
    size_t n;
    char *path;

    (void)state;
    assert_int_equal(eng_model_load("/nonexistent.gguf", &m, &err), PD_ENOENT);
    gb_llama(&b);
    gb_str(&b, "tokenizer.ggml.model", "llama");
    bytes = gb_finish(&b, &n);
    path = write_file("spm.gguf", bytes, n);
    assert_int_equal(eng_model_load(path, &m, &err), PD_EFORMAT);
    expect_text(&err, path);
    assert_null(m);
    drop_file(path);
    free(bytes);
    gb_done(&b);
}

static void test_peek(void **state)
{
    struct gb b;
    struct pd_err err = {0};
    struct eng_model_info info;
    struct pd_buf kv = PD_BUF_INIT(1 << 20), small = PD_BUF_INIT(16);
    char text[121];
    uint8_t *bytes;
    size_t n;
    char *path;

    (void)state;
    gb_init(&b); /* vocabulary only, of an architecture that does not run */
    gb_str(&b, "general.architecture", "qwen2");
    gb_u32(&b, "qwen2.context_length", 77);
    gb_vocabulary(&b);
    gb_str(&b, "odd",
           "a\n\x1b[31m\\b\xc2\x9b"
           "c");
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    gb_str(&b, "long", text);
    gb_f32(&b, "f", 1e-5f);
    gb_raw(&b, "i8", GGUF_I8, "\xfe", 1);
    gb_raw(&b, "u64", GGUF_U64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    gb_raw(&b, "i64", GGUF_I64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    bytes = gb_finish(&b, &n);
    path = write_file("vocab.gguf", bytes, n);
    if (eng_model_peek(path, &info, &kv, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(info.arch, "qwen2");
    assert_string_equal(info.name, "vocab.gguf");
    assert_string_equal(info.file_type, "none");
    assert_int_equal(info.n_vocab, 257);
    assert_int_equal(info.n_ctx, 77);
    assert_int_equal(info.n_layer, 0);
    assert_non_null(strstr(kv.data, "tokenizer.ggml.tokens = [257 items]\n"));
    assert_non_null(strstr(kv.data, "odd = a\\n\\x1b[31m\\\\b\\xc2\\x9bc\n"));
    text[100] = '\0';
    assert_non_null(strstr(kv.data, text));
    assert_non_null(strstr(kv.data, "x...\n"));
    text[100] = 'x';
    assert_null(strstr(kv.data, text));
    assert_non_null(strstr(kv.data, "f = 9.99999975e-06\n"));
    assert_non_null(strstr(kv.data, "i8 = -2\n"));
    assert_non_null(strstr(kv.data, "u64 = 18446744073709551615\n"));
    assert_non_null(strstr(kv.data, "i64 = -1\n"));
    assert_non_null(strstr(kv.data, "tokenizer.ggml.add_bos_token = false\n"));
    eng_model_info_done(&info);
    eng_model_info_done(NULL);
    assert_int_equal(eng_model_peek(path, &info, &small, &err), PD_ELIMIT);
    assert_int_equal(eng_model_peek(path, &info, NULL, &err), 0);
    eng_model_info_done(&info);
    assert_int_equal(eng_model_peek("/nonexistent.gguf", &info, NULL, &err), PD_ENOENT);
    pd_buf_done(&kv);
    pd_buf_done(&small);
    drop_file(path);
    free(bytes);
    gb_done(&b);
}

/* ---- damage ---- */

static void test_truncation(void **state)
{
    struct gb b;
    struct pd_err err;
    size_t n;
    uint8_t *bytes;

    (void)state;
    gb_llama(&b);
    bytes = gb_finish(&b, &n);
    for (size_t k = 0; k < n; k++) {
        uint8_t *exact = malloc(k ? k : 1); /* a byte too far is seen by the sanitizer */

        assert_non_null(exact);
        memcpy(exact, bytes, k);
        if (check_bytes(exact, k, &err) != PD_EFORMAT)
            fail_msg("opens when cut to %zu of %zu bytes", k, n);
        free(exact);
    }
    free(bytes);
    gb_done(&b);
}

/* Written to while it is open; or replaced, which is as good as never. */
static void test_changed(void **state)
{
    struct gguf *g = NULL;
    struct pd_err err = {0};
    struct gb b;
    size_t n;
    uint8_t *bytes;
    char *path, other[4096];
    FILE *f;

    (void)state;
    gb_llama(&b);
    bytes = gb_finish(&b, &n);
    path = write_file("changed.gguf", bytes, n);
    assert_int_equal(gguf_open(path, &g, &err), 0);
    assert_int_equal(gguf_unchanged(g, &err), 0);
    snprintf(other, sizeof(other), "%s.old", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(gguf_unchanged(g, &err), 0);
    f = fopen(other, "ab");
    assert_non_null(f);
    assert_int_equal(fputc(0, f), 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(gguf_unchanged(g, &err), PD_EIO);
    assert_non_null(strstr(err.text, "written to while it was read"));
    gguf_close(g);
    assert_int_equal(rename(other, path), 0);
    drop_file(path);
    free(bytes);
    gb_done(&b);
}

static void test_mutations(void **state)
{
    enum { N_MUTATIONS = 3000, HEAD = 65536 };
    const char *models = getenv("PONDER_MODELS_DIR"), *srcdir = getenv("srcdir");
    struct pd_buf file = PD_BUF_INIT(64 << 20);
    char path[4096];
    struct pd_err err = {0};
    uint64_t seed = 20240229;
    uint8_t *bytes, *head;
    size_t head_bytes;

    (void)state;
    if (models)
        snprintf(path, sizeof(path), "%s/tiny-draft-Q8_0.gguf", models);
    else
        snprintf(path, sizeof(path), "%s/recipes/models/tiny-draft-Q8_0.gguf",
                 srcdir ? srcdir : ".");
    if (pd_read_file(path, &file, &err) < 0)
        fail_msg("%s", err.text);
    head_bytes = file.len < HEAD ? file.len : HEAD;
    bytes = gb_dup(file.data, file.len);
    head = gb_dup(file.data, head_bytes);
    if (check_bytes(bytes, file.len, &err) < 0)
        fail_msg("%s", err.text);
    for (int i = 0; i < N_MUTATIONS; i++) {
        struct eng_tokenizer *tok = NULL;
        struct gguf *g = NULL;
        int n_edits = 1 + (int)(splitmix(&seed) % 8);

        for (int j = 0; j < n_edits; j++) {
            /* half of the edits near the start, where the lengths and types are denser */
            size_t at = (size_t)(splitmix(&seed) % (splitmix(&seed) % 2 ? head_bytes : 2048));
            uint64_t how = splitmix(&seed);

            bytes[at] = how % 4 == 0 ? 0xff : how % 4 == 1 ? 0 : (uint8_t)(how >> 8);
        }
        (void)check_bytes(bytes, file.len, &err);
        if (gguf_open_bytes(bytes, file.len, &g, &err) == 0) {
            if (eng_tokenizer_new(g, &tok, &err) == 0)
                eng_tokenizer_free(tok);
            gguf_close(g);
        }
        memcpy(bytes, head, head_bytes);
    }
    free(bytes);
    free(head);
    pd_buf_done(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_container_errors),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_model_errors),
        cmocka_unit_test(test_model_accepts),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_load_errors),
        cmocka_unit_test(test_peek),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

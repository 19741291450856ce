/* Split models: the first part opens all of them, what is wrong is named, and the user's own models
 * are kept, hashed and removed with every part. */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "app/app.h"
#include "base/hash.h"
#include "engine/gguf.h"
#include "engine/model.h"

#define N_PARTS 3

static char folder[] = "/tmp/ponder-split-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[2][256];
    static int i;

    i = !i;
    snprintf(path[i], sizeof(path[i]), "%s/%s", folder, name);
    return path[i];
}

static const char *part_name(const char *stem, unsigned no)
{
    char name[64];

    snprintf(name, sizeof(name), "%s-%05u-of-%05u.gguf", stem, no, N_PARTS);
    return in_folder(name);
}

static void put_key(struct pd_buf *b, const char *name, uint32_t value)
{
    uint64_t n = strlen(name);
    uint32_t type = GGUF_U32;

    pd_buf_add(b, &n, sizeof(n));
    pd_buf_addz(b, name);
    pd_buf_add(b, &type, sizeof(type));
    pd_buf_add(b, &value, sizeof(value));
}

static void pad(struct pd_buf *b)
{
    while (b->len % 32 != 0)
        pd_buf_addc(b, '\0');
}

static void write_file(const char *path, struct pd_str bytes)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, f), bytes.len);
    assert_int_equal(fclose(f), 0);
}

/* Part no (from 1 on) of g: all keys in the first, every third tensor in each; total: what it says
 * of the tensors of all. */
static void write_part(const struct gguf *g, const char *path, unsigned no, uint32_t total)
{
    struct pd_buf head = PD_BUF_INIT(1u << 26), data = PD_BUF_INIT(1u << 26);
    const uint8_t *keys = g->map + 24;
    size_t keys_bytes = (size_t)((const uint8_t *)g->tensors[0].name.ptr - 8 - keys);
    uint64_t n_tensors = 0, n_kvs = (no == 1 ? g->n_kvs : 0) + 3;
    uint32_t version = 3;

    for (size_t i = no - 1; i < g->n_tensors; i += N_PARTS)
        n_tensors++;
    pd_buf_addz(&head, "GGUF");
    pd_buf_add(&head, &version, sizeof(version));
    pd_buf_add(&head, &n_tensors, sizeof(n_tensors));
    pd_buf_add(&head, &n_kvs, sizeof(n_kvs));
    if (no == 1)
        pd_buf_add(&head, keys, keys_bytes);
    put_key(&head, "split.no", no - 1);
    put_key(&head, "split.count", N_PARTS);
    put_key(&head, "split.tensors.count", total);
    for (size_t i = no - 1; i < g->n_tensors; i += N_PARTS) {
        const struct gguf_tensor *t = &g->tensors[i];
        uint64_t n = t->name.len, offset = data.len;

        pd_buf_add(&head, &n, sizeof(n));
        pd_buf_adds(&head, t->name);
        pd_buf_add(&head, &t->n_dims, sizeof(t->n_dims));
        pd_buf_add(&head, t->dims, t->n_dims * sizeof(*t->dims));
        pd_buf_add(&head, &t->type, sizeof(t->type));
        pd_buf_add(&head, &offset, sizeof(offset));
        assert_int_equal(gguf_fetch(g, t->data, (size_t)t->bytes, NULL), 0);
        pd_buf_add(&data, t->data, (size_t)t->bytes);
        pad(&data);
    }
    pad(&head);
    pd_buf_adds(&head, pd_buf_str(&data));
    assert_int_equal(pd_buf_rc(&head), 0);
    write_file(path, pd_buf_str(&head));
    pd_buf_done(&head);
    pd_buf_done(&data);
}

/* Writes a bundled model in parts. */
static void write_parts(const char *model, const char *stem)
{
    struct pd_err err = {0};
    struct gguf *g;

    fx_ok(gguf_open(fx_path(model), &g, &err), &err);
    for (unsigned no = 1; no <= N_PARTS; no++)
        write_part(g, part_name(stem, no), no, (uint32_t)g->n_tensors);
    gguf_close(g);
}

/* SHA-256 of the parts in a row. */
static void hash_parts(const char *stem, uint8_t out[PD_SHA256_BYTES])
{
    struct pd_sha256 *h = pd_sha256_new();
    struct pd_err err = {0};

    for (unsigned no = 1; no <= N_PARTS; no++)
        fx_ok(pd_sha256_add_file(h, part_name(stem, no), &err), &err);
    pd_sha256_end(h, out);
    pd_sha256_free(h);
}

static void test_open(void **state)
{
    struct eng_model_info info;
    struct gguf *whole, *split;
    struct eng_model *m;
    struct pd_err err = {0};
    uint8_t sum[PD_SHA256_BYTES];
    uint64_t n_bytes = 0;

    (void)state;
    write_parts("tiny-draft-Q8_0.gguf", "m");
    fx_ok(gguf_open(fx_path("tiny-draft-Q8_0.gguf"), &whole, &err), &err);
    fx_ok(gguf_open(part_name("m", 1), &split, &err), &err);
    assert_int_equal(split->n_tensors, whole->n_tensors);
    for (size_t i = 0; i < whole->n_tensors; i++) {
        const struct gguf_tensor *t = &whole->tensors[i], *u;
        char *name = pd_str_dup(t->name);

        u = gguf_tensor(split, name);
        assert_non_null(u);
        assert_int_equal(u->bytes, t->bytes);
        assert_int_equal(gguf_fetch(whole, t->data, (size_t)t->bytes, NULL), 0);
        assert_int_equal(gguf_fetch(split, u->data, (size_t)u->bytes, NULL), 0);
        assert_memory_equal(u->data, t->data, t->bytes);
        free(name);
    }
    for (const struct gguf *g = split; g; g = g->next)
        n_bytes += g->map_bytes;
    gguf_close(whole);
    gguf_close(split);

    fx_ok(eng_model_load(part_name("m", 1), &m, &err), &err);
    hash_parts("m", sum);
    assert_memory_equal(eng_model_info(m)->sha256, sum, sizeof(sum));
    assert_int_equal(eng_model_info(m)->file_bytes, n_bytes);
    eng_model_unref(m);

    assert_int_equal(symlink(part_name("m", 1), in_folder("link.gguf")), 0);
    fx_ok(eng_model_peek(in_folder("link.gguf"), &info, NULL, &err), &err);
    assert_int_equal(info.file_bytes, n_bytes);
    eng_model_info_done(&info);
}

static void refused(const char *path, int code, const char *words)
{
    struct pd_err err = {0};
    struct gguf *g;
    int rc = gguf_open(path, &g, &err);

    if (rc != code || !strstr(err.text, words))
        fail_msg("%s: %d '%s', expected %d '%s'", path, rc, err.text, code, words);
}

static void test_refused(void **state)
{
    struct pd_err err = {0};
    struct gguf *g;

    (void)state;
    write_parts("tiny-draft-Q8_0.gguf", "r");
    refused(part_name("r", 2), PD_EFORMAT, "is part 2 of 3 of a split model: give the first, '");
    refused(part_name("r", 2), PD_EFORMAT, "r-00001-of-00003.gguf'");

    assert_int_equal(rename(part_name("r", 2), in_folder("x.gguf")), 0);
    refused(part_name("r", 1), PD_ENOENT, "part 2 of 3 of the model is missing");
    refused(in_folder("x.gguf"), PD_EFORMAT, "does not end in -00002-of-00003.gguf");
    assert_int_equal(link(part_name("r", 3), part_name("r", 2)), 0);
    refused(part_name("r", 1), PD_EFORMAT, "is part 3 of 3 with");
    unlink(part_name("r", 2));

    /* of another model */
    fx_ok(gguf_open(fx_path("tiny-draft-Q8_0.gguf"), &g, &err), &err);
    write_part(g, part_name("r", 2), 2, (uint32_t)g->n_tensors + 1);
    refused(part_name("r", 1), PD_EFORMAT, "of the same model as");
    for (unsigned no = 1; no <= N_PARTS; no++)
        write_part(g, part_name("r", no), no, (uint32_t)g->n_tensors + 1);
    refused(part_name("r", 1), PD_EFORMAT, "they are not of one model");
    gguf_close(g);

    rename(part_name("r", 1), in_folder("y.gguf"));
    refused(in_folder("y.gguf"), PD_EFORMAT, "give the parts their names again");
}

static void test_names(void **state)
{
    static const char *const others[] = {
        "a.gguf",
        "-00001-of-00003.gguf",
        "a-00000-of-00003.gguf",
        "a-00004-of-00003.gguf",
        "a-0001-of-00003.gguf",
        "a-00001-of-0000x.gguf",
        "a-00001-of-00003.ggu",
    };
    struct eng_part p;
    char *path;

    (void)state;
    assert_true(eng_model_part("/d/a-00002-of-00013.gguf", &p));
    assert_int_equal(p.no, 2);
    assert_int_equal(p.count, 13);
    path = eng_model_part_path(&p, 11);
    assert_string_equal(path, "/d/a-00011-of-00013.gguf");
    free(path);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(eng_model_part(others[i], &p));
}

static size_t n_listed(const char *name)
{
    struct app_model_file *files;
    struct pd_err err = {0};
    size_t n, found = 0;

    fx_ok(app_list_models(&files, &n, &err), &err);
    for (size_t i = 0; i < n; i++)
        found += strcmp(files[i].name, name) == 0;
    app_list_models_free(files, n);
    return found;
}

static void check_own(const char *name, const char *stem)
{
    char now[PD_SHA256_HEX], want[PD_SHA256_HEX], *path;
    struct app_model_record r;
    uint8_t sum[PD_SHA256_BYTES];
    struct pd_err err = {0};

    hash_parts(stem, sum);
    pd_hex(sum, sizeof(sum), want);
    fx_ok(app_verify_model(name, &r, now, &err), &err);
    assert_string_equal(r.sha256, want);
    assert_string_equal(now, want);
    app_model_record_done(&r);
    assert_int_equal(n_listed(name), 1);
    fx_ok(app_find_model(name, &path, &err), &err);
    fx_ok(eng_model_check(path, NULL, &err), &err);
    free(path);
}

static void test_own(void **state)
{
    struct app_model_record r;
    struct pd_err err = {0};
    char *path;

    (void)state;
    write_parts("tiny-draft-Q8_0.gguf", "own");
    setenv("XDG_DATA_HOME", in_folder("share"), 1);
    setenv("PONDER_MODELS_DIR", "", 1);
    fx_ok(app_add_model(part_name("own", 1), NULL, NULL, false, &r, &err), &err);
    assert_string_equal(r.name, "own");
    app_model_record_done(&r);
    check_own("own", "own");
    fx_ok(app_add_model(part_name("own", 1), "linked", NULL, true, &r, &err), &err);
    app_model_record_done(&r);
    check_own("linked", "own");
    assert_int_equal(app_add_model(part_name("own", 2), "second", NULL, false, &r, &err),
                     PD_EFORMAT);
    assert_int_equal(app_add_model(part_name("own", 1), "a-00001-of-00002", NULL, false, &r, &err),
                     PD_EINVAL);

    fx_ok(app_alias_model("short", "own", &err), &err);
    fx_ok(app_find_model("short", &path, &err), &err);
    fx_ok(eng_model_check(path, NULL, &err), &err);
    free(path);
    assert_int_equal(app_remove_model("own", &err), PD_EBUSY);
    fx_ok(app_remove_model("short", &err), &err);
    fx_ok(app_remove_model("own", &err), &err);
    fx_ok(app_remove_model("linked", &err), &err);
    assert_int_equal(rmdir(in_folder("share/ponder/models")), 0); /* nothing is left behind */
    assert_true(pd_file_exists(part_name("own", 1)));
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_open), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_names), cmocka_unit_test(test_own)};

    return cmocka_run_group_tests(tests, setup, teardown);
}

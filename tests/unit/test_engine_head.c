/* Heads in safetensors files: what is refused and why, that one beside a model is that model's, and
 * that it goes with it when a model is added, checked and removed. */
#include "tests/unit/engine_fixture.h"

#include <unistd.h>

#include "app/app.h"
#include "engine/head.h"
#include "tests/support/head_file.h"
#include "tests/support/random_model.h"

#define W(name, dtype, shape, from, to)                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]" \
    "}"

static const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static int parse(const char *header, const void *data, size_t n, struct eng_head_file *out,
                 struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    int rc;

    head_bytes(&b, header, data, n);
    rc = eng_head_parse(pd_buf_str(&b), 4, out, err);
    pd_buf_done(&b);
    return rc;
}

static void a_head_is_taken_as_it_stands(void **state)
{
    const uint16_t halves[] = {0x3c00, 0xc000, 0x3800, 0x0000},
                   brain[] = {0x3f80, 0xc000, 0x3f00, 0};
    const float want[] = {1, -2, 0.5f, 0};
    struct eng_head_file h;
    struct pd_err err = {0};

    (void)state;
    fx_ok(parse("{" W("score.weight", "F32", "[1,4]", "4", "20") "," W("score.bias", "F32", "[1]",
                                                                       "0", "4") "}",
                numbers, 20, &h, &err),
          &err);
    assert_string_equal(h.names->kind, "score");
    assert_memory_equal(h.out, numbers + 1, 16);
    assert_true(h.out_bias[0] == 1 && !h.dense && h.n_cls == 1 && h.n_mid == 4);
    eng_head_done(&h);
    fx_ok(parse("{" W("v_head.summary.weight", "F16", "[1,4]", "0", "8") "}", halves, 8, &h, &err),
          &err);
    assert_memory_equal(h.out, want, sizeof want);
    eng_head_done(&h);
    fx_ok(parse("{" W("v_head.summary.weight", "BF16", "[1,4]", "0", "8") "}", brain, 8, &h, &err),
          &err);
    assert_memory_equal(h.out, want, sizeof want);
    eng_head_done(&h);
}

static void what_is_not_right_is_refused(void **state)
{
    static const float nan_inside[] = {1, NAN, 3, 4};
    static const struct {
        const char *header;
        const float *data;
        size_t n;
        const char *says;
    } cases[] = {
        {"nonsense", numbers, 16, "in its header"},
        {"[]", numbers, 0, "no object"},
        {"{}", numbers, 0, "has not the tensors"},
        {"{" W("score.weight", "F64", "[1,4]", "0", "32") "}", numbers, 32, "dtype"},
        {"{" W("score.weight", "F32", "[1,4,1]", "0", "16") "}", numbers, 16, "neither [n]"},
        {"{" W("score.weight", "F32", "[0,4]", "0", "0") "}", numbers, 0, "impossible extent"},
        {"{" W("score.weight", "F32", "[-1,4]", "0", "16") "}", numbers, 16, "impossible extent"},
        {"{" W("score.weight", "F32", "[1,99999999]", "0", "16") "}", numbers, 16,
         "impossible extent"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "20") "}", numbers, 16, "outside the file"},
        {"{" W("score.weight", "F32", "[1,4]", "8", "4") "}", numbers, 16, "outside the file"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "12") "}", numbers, 12, "number of bytes"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "16") "}", numbers, 20, "no tensor's"},
        {"{" W("score.weight", "F32", "[1,4]", "4", "20") "}", numbers, 20, "gap at byte 0"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "16") "," W("score.bias", "F32", "[1]", "0",
                                                                "4") "}",
         numbers, 16, "gap at byte 16"},
        {"{" W("score.weight", "F32", "[1,5]", "0", "20") "}", numbers, 20, "the model asks for"},
        {"{" W("score.weight", "F32", "[4]", "0", "16") "}", numbers, 16, "the model asks for"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "16") "," W("score.bias", "F32", "[2]", "16",
                                                                "24") "}",
         numbers, 24, "its matrix asks for"},
        {"{" W("score.weight", "F32", "[1,4]", "0", "16") "}", nan_inside, 16, "no finite"},
        {"{" W("lm_head.weight", "F32", "[1,4]", "0", "16") "}", numbers, 16,
         "has not the tensors"},
        {"{" W("score.0.weight", "F32", "[1,4]", "0", "16") "}", numbers, 16,
         "has not the tensors"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct eng_head_file h;
        struct pd_err err = {0};

        assert_int_equal(parse(cases[i].header, cases[i].data, cases[i].n, &h, &err), PD_EFORMAT);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].header, err.text);
    }
    for (size_t n = 0; n < 16; n++) { /* a length that promises more than is there */
        struct eng_head_file h;
        struct pd_err err = {0};

        assert_int_equal(
            eng_head_parse((struct pd_str){"\x40\0\0\0\0\0\0\0{}      ", n}, 4, &h, &err),
            PD_EFORMAT);
    }
}

/* Values of the head behind two tokens; the file's digest. */
static void read_head(struct eng *e, const char *path, float *out, uint32_t *n, uint8_t sha256[32])
{
    static const int32_t ids[] = {300, 301};
    struct eng_model *m = NULL;
    struct pd_err err = {0};
    uint32_t at = 1;
    struct eng_req q = {.op = ENG_SCORE, .at = &at, .n_at = 1, .read = ENG_READ_CLS};

    fx_ok(eng_model_open(e, path, &m, &err), &err);
    *n = eng_model_info(m)->n_cls;
    memcpy(sha256, eng_model_info(m)->sha256, 32);
    if (*n) {
        q.ctx = fx_ctx(e, m, ids, 2);
        fx_run(e, &q, 1);
        assert_int_equal(q.finish, ENG_FINISH_NONE);
        memcpy(out, q.logits, *n * sizeof(float));
        eng_req_done(&q);
        eng_ctx_free(q.ctx);
    }
    eng_model_unref(m);
}

static void a_head_goes_with_its_model(void **state)
{
    char folder[] = "/tmp/ponder-head-XXXXXX", path[160], own[64], head[64], command[64];
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct pd_buf bytes = PD_BUF_INIT(1 << 20);
    struct app_model_record r = {0};
    struct pd_err err = {0};
    uint8_t plain[32], with[32], added[32];
    char now[PD_SHA256_HEX];
    float v[2], w[2];
    uint32_t n;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    snprintf(own, sizeof own, "%s/own", folder);
    snprintf(head, sizeof head, "%s/h.safetensors", folder);
    setenv("PONDER_MODELS_DIR", own, 1);
    fx_ok(random_model_write(random_model_find("tiny-qwen2"), "F32", false, 1, path, &err), &err);
    head_of_kind(&bytes, "mlp", 256);
    fx_ok(pd_write_file(head, pd_buf_str(&bytes), &err), &err);
    read_head(e, path, v, &n, plain);
    assert_int_equal(n, 0);

    assert_int_equal(app_add_model(path, "linked", head, true, &r, &err), PD_EINVAL);
    fx_ok(app_add_model(path, "rm", head, false, &r, &err), &err);
    read_head(e, r.path, v, &n, added);
    assert_int_equal(n, 2);
    assert_memory_not_equal(plain, added, 32);
    app_model_record_done(&r);
    fx_ok(app_verify_model("rm", &r, now, &err), &err);
    assert_string_equal(now, r.sha256);
    pd_hex(added, 32, now); /* the engine counts the same bytes */
    assert_string_equal(now, r.sha256);
    app_model_record_done(&r);

    /* found beside the file, and copied with it */
    snprintf(command, sizeof command, "%s/m.head.safetensors", folder);
    assert_int_equal(rename(head, command), 0);
    read_head(e, path, w, &n, with);
    assert_memory_equal(v, w, sizeof v);
    assert_memory_equal(with, added, 32);
    fx_ok(app_add_model(path, "again", NULL, false, &r, &err), &err);
    read_head(e, r.path, w, &n, with);
    assert_memory_equal(v, w, sizeof v);
    app_model_record_done(&r);

    /* one that was changed is another model; one that is bad is refused when the model is opened */
    bytes.data[bytes.len - 1] ^= 1;
    fx_ok(pd_write_file(command, pd_buf_str(&bytes), &err), &err);
    read_head(e, path, w, &n, with);
    assert_memory_not_equal(with, added, 32);
    fx_ok(pd_write_file(command, PD_STR("{}"), &err), &err);
    assert_int_equal(eng_model_check(path, NULL, &err), PD_EFORMAT);
    assert_non_null(strstr(err.text, "m.head.safetensors"));

    fx_ok(app_remove_model("rm", &err), &err);
    snprintf(path, sizeof path, "%s/rm.head.safetensors", own);
    assert_false(pd_file_exists(path));
    pd_buf_done(&bytes);
    eng_close(e);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_as_it_stands),
        cmocka_unit_test(what_is_not_right_is_refused),
        cmocka_unit_test(a_head_goes_with_its_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

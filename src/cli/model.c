#include "cli/cli.h"

#include <stdlib.h>

static const struct cli_usage usage_text = {
    "model ls | show MODEL",
    "The models that are found by name; one of them, or any GGUF file, in detail.",
};

static void info_json(struct pd_jw *w, const char *name, const char *path,
                      const struct eng_model_info *m)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"params", m->n_params}, {"bytes", m->file_bytes},   {"vocab", m->n_vocab},
        {"ctx", m->n_ctx},       {"embd", m->n_embd},        {"layers", m->n_layer},
        {"heads", m->n_head},    {"heads_kv", m->n_head_kv}, {"head_dim", m->head_dim},
        {"ff", m->n_ff},
    };

    pd_jw_key(w, "name");
    pd_jw_strz(w, name);
    pd_jw_key(w, "path");
    pd_jw_strz(w, path);
    pd_jw_key(w, "arch");
    pd_jw_strz(w, m->arch);
    pd_jw_key(w, "file_type");
    pd_jw_strz(w, m->file_type);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        pd_jw_key(w, numbers[i].key);
        pd_jw_uint(w, numbers[i].value);
    }
}

static int print_json(struct pd_buf *b, struct pd_err *err)
{
    int rc = pd_buf_rc(b) < 0 ? cli_no_memory(err) : 0;

    if (rc == 0)
        cli_print_json(b);
    pd_buf_done(b);
    return rc;
}

static int list_one(const struct cli *cli, const struct app_model_file *f, struct pd_err *err)
{
    struct eng_model_info m;
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_err why = {0};
    struct pd_jw w;
    int bad = eng_model_peek(f->path, &m, NULL, &why);

    if (!cli->json) {
        if (bad < 0) {
            printf("%-20s ", f->name);
            cli_text_line(stdout, pd_str_of(why.text), sizeof(why.text));
            putchar('\n');
        } else {
            printf("%-20s %-8s %-6s %8.1f M parameters %8.1f MB  ctx %u  %s\n", f->name, m.arch,
                   m.file_type, (double)m.n_params / 1e6, (double)m.file_bytes / 1e6, m.n_ctx,
                   f->path);
            eng_model_info_done(&m);
        }
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    if (bad < 0) {
        pd_jw_key(&w, "name");
        pd_jw_strz(&w, f->name);
        pd_jw_key(&w, "path");
        pd_jw_strz(&w, f->path);
        pd_jw_key(&w, "error");
        pd_jw_strz(&w, why.text);
    } else {
        info_json(&w, f->name, f->path, &m);
        eng_model_info_done(&m);
    }
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

static int list(const struct cli *cli, struct pd_err *err)
{
    struct app_model_file *files = NULL;
    size_t n = 0;
    int rc = app_list_models(&files, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = list_one(cli, &files[i], err);
    app_list_models_free(files, n);
    return rc;
}

/* "key = value" lines as the members of an object */
static void metadata_json(struct pd_jw *w, struct pd_str kv)
{
    pd_jw_key(w, "metadata");
    pd_jw_object(w);
    while (kv.len > 0) {
        ptrdiff_t end = pd_str_find(kv, PD_STR("\n"));
        struct pd_str line = pd_str_sub(kv, 0, end < 0 ? kv.len : (size_t)end);
        ptrdiff_t eq = pd_str_find(line, PD_STR(" = "));
        char *key = eq < 0 ? NULL : pd_str_dup(pd_str_sub(line, 0, (size_t)eq));

        if (key) {
            pd_jw_key(w, key);
            pd_jw_str(w, pd_str_sub(line, (size_t)eq + 3, line.len));
        }
        free(key);
        kv = pd_str_sub(kv, end < 0 ? kv.len : (size_t)end + 1, kv.len);
    }
    pd_jw_end_object(w);
}

static void show_text(const char *path, const struct eng_model_info *m, const char *sha256,
                      struct pd_str kv)
{
    printf("file     %s\n", path);
    printf("sha256   %s\n", sha256);
    printf("name     ");
    cli_text(stdout, pd_str_of(m->name), -1);
    printf("\nkind     %s, mostly %s\n", m->arch, m->file_type);
    printf("size     %.1f M parameters, %.1f MB\n", (double)m->n_params / 1e6,
           (double)m->file_bytes / 1e6);
    printf("shape    %u layers, %u wide, %u heads (%u for keys) of %u, feed-forward %u\n",
           m->n_layer, m->n_embd, m->n_head, m->n_head_kv, m->head_dim, m->n_ff);
    printf("text     vocabulary %u, context %u\n\n", m->n_vocab, m->n_ctx);
    cli_text(stdout, kv, 0);
}

static int show(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct pd_buf kv = PD_BUF_INIT(16u << 20), b = PD_BUF_INIT(32u << 20);
    struct eng_model_info m;
    uint8_t sha256[PD_SHA256_BYTES];
    char hex[PD_SHA256_HEX], *path = NULL;
    struct pd_jw w;
    int rc = app_find_model(name, &path, err);

    if (rc == 0)
        rc = pd_sha256_file(path, sha256, err);
    if (rc == 0)
        rc = eng_model_peek(path, &m, &kv, err);
    if (rc == 0) {
        pd_hex(sha256, sizeof(sha256), hex);
        if (cli->json) {
            pd_jw_init(&w, &b);
            pd_jw_object(&w);
            info_json(&w, m.name, path, &m);
            pd_jw_key(&w, "sha256");
            pd_jw_strz(&w, hex);
            metadata_json(&w, pd_buf_str(&kv));
            pd_jw_end_object(&w);
            rc = print_json(&b, err);
        } else {
            show_text(path, &m, hex, pd_buf_str(&kv));
        }
        eng_model_info_done(&m);
    }
    pd_buf_done(&kv);
    free(path);
    return rc;
}

int cli_model(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct cli_option table[] = {
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n == 1 && strcmp(argv[1], "ls") == 0)
        return list(cli, err);
    if (n == 2 && strcmp(argv[1], "show") == 0)
        return show(cli, argv[2], err);
    return pd_fail(err, PD_EINVAL, "model needs ls or show MODEL (see ponder model --help)");
}

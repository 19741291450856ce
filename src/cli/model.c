#include "cli/cli.h"

#include <stdlib.h>

struct model {
    const char *name;
    bool link;
};

static const struct cli_usage usage_text = {
    "model ls | show MODEL | add FILE | verify [NAME…] | alias NAME MODEL | rm NAME",
    "Lists models, shows one or any GGUF file; checks and adds a file to your own, hashes them "
    "again,\ngives another name to one, removes one.",
};

static void put_text(struct pd_jw *w, const char *key, const char *text)
{
    pd_jw_key(w, key);
    pd_jw_strz(w, text);
}

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

    put_text(w, "name", name);
    put_text(w, "path", path);
    put_text(w, "arch", m->arch);
    put_text(w, "file_type", m->file_type);
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

static void list_text(const struct app_model_file *f, const struct eng_model_info *m,
                      const char *bad)
{
    cli_text(stdout, pd_str_of(f->name), -1);
    printf("%*s", (int)(strlen(f->name) < 20 ? 21 - strlen(f->name) : 1), "");
    if (bad) {
        cli_text_line(stdout, pd_str_of(bad), strlen(bad));
        putchar('\n');
        return;
    }
    printf("%-8s %-6s %8.1f M parameters %8.1f MB  ctx %u  ", m->arch, m->file_type,
           (double)m->n_params / 1e6, (double)m->file_bytes / 1e6, m->n_ctx);
    if (f->alias_of)
        fputs("-> ", stdout);
    cli_text(stdout, pd_str_of(f->alias_of ? f->alias_of : f->path), -1);
    putchar('\n');
}

static int list_one(const struct cli *cli, const struct app_model_file *f, struct pd_err *err)
{
    struct eng_model_info m = {0};
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_err why = {0};
    struct pd_jw w;
    bool bad = eng_model_peek(f->path, &m, NULL, &why) < 0;

    if (!cli->json) {
        list_text(f, &m, bad ? why.text : NULL);
        eng_model_info_done(&m);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    if (bad) {
        put_text(&w, "name", f->name);
        put_text(&w, "path", f->path);
        put_text(&w, "error", why.text);
    } else {
        info_json(&w, f->name, f->path, &m);
    }
    put_text(&w, "alias_of", f->alias_of);
    pd_jw_key(&w, "added");
    pd_jw_bool(&w, f->recorded);
    pd_jw_end_object(&w);
    eng_model_info_done(&m);
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
            put_text(&w, "sha256", hex);
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

/* Whether the file's chat template can be used: most files are fine for scoring without. */
static int try_template(const char *path, struct pd_err *out_problem, struct pd_err *err)
{
    const struct eng_message hello = {"user", PD_STR("hello")};
    struct eng_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = eng_tokenizer_open(path, &t, err);

    if (rc == 0)
        (void)eng_chat(t, NULL, &hello, 1, &ids, &n, out_problem);
    free(ids);
    eng_tokenizer_free(t);
    return rc;
}

static int add(const struct cli *cli, const struct model *o, const char *file, struct pd_err *err)
{
    struct app_model_record r;
    struct eng_model_info m = {0};
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_err problem = {0};
    struct pd_jw w;
    int rc = app_add_model(file, o->name, o->link, &r, err);

    if (rc < 0)
        return rc;
    rc = eng_model_peek(r.path, &m, NULL, err);
    if (rc == 0)
        rc = try_template(r.path, &problem, err);
    if (rc == 0 && cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        info_json(&w, r.name, r.path, &m);
        put_text(&w, "sha256", r.sha256);
        put_text(&w, "source", r.source);
        put_text(&w, "template_problem", problem.code ? problem.text : NULL);
        pd_jw_end_object(&w);
        rc = print_json(&b, err);
    } else if (rc == 0) {
        printf("added    ");
        cli_text(stdout, pd_str_of(r.name), -1);
        printf(": %s, mostly %s, %.1f M parameters, %.1f MB\n", m.arch, m.file_type,
               (double)m.n_params / 1e6, (double)m.file_bytes / 1e6);
        printf("file     ");
        cli_text(stdout, pd_str_of(r.path), -1);
        printf("%s\nsha256   %s\n", o->link ? " (a link)" : "", r.sha256);
        printf("checked  architecture, tensors and tokenizer are known; chat template: ");
        cli_text(stdout, pd_str_of(problem.code ? problem.text : "known, too"), -1);
        putchar('\n');
    }
    eng_model_info_done(&m);
    app_model_record_done(&r);
    return rc;
}

/* 1: the file is what was recorded, 0: it is not. */
static int verify_one(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct app_model_record r;
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    char now[PD_SHA256_HEX];
    struct pd_jw w;
    bool same;
    int rc = app_verify_model(name, &r, now, err);

    if (rc < 0)
        return rc;
    same = strcmp(r.sha256, now) == 0;
    if (cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        put_text(&w, "name", name);
        put_text(&w, "path", r.path);
        pd_jw_key(&w, "ok");
        pd_jw_bool(&w, same);
        put_text(&w, "sha256", now);
        put_text(&w, "recorded", r.sha256);
        pd_jw_end_object(&w);
        rc = print_json(&b, err);
    } else {
        printf("%-6s ", same ? "ok" : "differs");
        cli_text(stdout, pd_str_of(name), -1);
        if (!same)
            printf(": sha256 %.12s… now, %.12s… when it was added", now, r.sha256);
        putchar('\n');
    }
    app_model_record_done(&r);
    return rc < 0 ? rc : same;
}

/* The names, or all that were added; every one is looked at. */
static int verify(const struct cli *cli, char **names, size_t n_names, struct pd_err *err)
{
    struct app_model_file *files = NULL;
    size_t n = 0, n_bad = 0, n_seen = 0;
    int rc = app_list_models(&files, &n, err), one;

    for (size_t i = 0; rc == 0 && i < (n_names > 0 ? n_names : n); i++) {
        if (n_names == 0 && !files[i].recorded)
            continue;
        one = verify_one(cli, n_names > 0 ? names[i] : files[i].name, err);
        rc = one < 0 ? one : 0;
        n_bad += one == 0;
        n_seen++;
    }
    app_list_models_free(files, n);
    if (rc == 0 && n_bad > 0)
        rc = pd_fail(err, PD_EDIFFER, "%zu of %zu models are not what was added", n_bad, n_seen);
    if (rc == 0 && n_seen == 0 && !cli->quiet)
        cli_message(cli, "info", "no models were added yet (see ponder model --help)");
    return rc;
}

static int alias(const struct cli *cli, const char *name, const char *target, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    char *path = NULL;
    struct pd_jw w;
    int rc = app_alias_model(name, target, err);

    if (rc == 0 && cli->json)
        rc = app_find_model(name, &path, err);
    if (rc == 0 && cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        put_text(&w, "name", name);
        put_text(&w, "path", path);
        pd_jw_end_object(&w);
        rc = print_json(&b, err);
    }
    free(path);
    return rc;
}

static int remove_one(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;
    int rc = app_remove_model(name, err);

    if (rc < 0 || !cli->json)
        return rc;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    put_text(&w, "removed", name);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

/* An option's help begins with the verb that it is for. */
static int check_options(const struct cli_option *table, const char *verb, struct pd_err *err)
{
    size_t n = strlen(verb);

    for (; table->name; table++)
        if (table->given && (strncmp(table->help, verb, n) != 0 || table->help[n] != ':'))
            return pd_fail(err, PD_EINVAL, "model %s has no option --%s (see ponder model --help)",
                           verb, table->name);
    return 0;
}

int cli_model(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct model o = {0};
    struct cli_option table[] = {
        {"name", 0, CLI_TEXT, &o.name, "NAME", "add: instead of the file's own name", 0, 0, false,
         false},
        {"link", 0, CLI_FLAG, &o.link, NULL, "add: point to the file where it is, copy nothing", 0,
         0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    int n = cli_options(cli, argc, argv, table, &usage_text, err);
    const char *verb = n > 0 ? argv[1] : "";
    int rc = n < 0 ? n : 0;

    if (n < 0 || cli->help)
        return rc;
    if (n > 0)
        rc = check_options(table, verb, err);
    if (rc < 0)
        return rc;
    if (n == 1 && strcmp(verb, "ls") == 0)
        return list(cli, err);
    if (n == 2 && strcmp(verb, "show") == 0)
        return show(cli, argv[2], err);
    if (n == 2 && strcmp(verb, "add") == 0)
        return add(cli, &o, argv[2], err);
    if (strcmp(verb, "verify") == 0)
        return verify(cli, argv + 2, (size_t)n - 1, err);
    if (n == 3 && strcmp(verb, "alias") == 0)
        return alias(cli, argv[2], argv[3], err);
    if (n == 2 && strcmp(verb, "rm") == 0)
        return remove_one(cli, argv[2], err);
    return pd_fail(err, PD_EINVAL,
                   "model needs ls, show MODEL, add FILE, verify [NAME…], alias NAME MODEL or rm "
                   "NAME (see ponder model --help)");
}

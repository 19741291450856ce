#include "cli/cli.h"

#include <stdlib.h>

#include "cli/client.h"

#define TEMPLATE_MAX_BYTES (1u << 20)

struct model {
    const char *name, *kv_type, *head;
    const char *pairs, *out, *kl_max;
    uint64_t layer, check, max_tokens;
    bool link, template, estimate;
    uint64_t ctx, prompt_shared, threads, program_bytes;
    struct cli_numbers branches;
};

static const struct cli_usage usage_text = {
    "model ls | show MODEL | add FILE | verify [MODEL…] | alias NAME MODEL | rm MODEL | load MODEL "
    "| unload MODEL | steer MODEL --pairs FILE --layer L -o FILE",
    "Lists models, shows one or any GGUF file, or what memory it takes; checks and adds a file to "
    "your\nown, hashes them again, gives another name to one, removes one. load and unload move "
    "one "
    "into the\nmemory of the daemon and out of it. steer makes a control vector for shorter "
    "answers "
    "(solve -o\nsteer=FILE) out of pairs of a short and a long one.",
};

static void put_float(struct pd_jw *w, const char *key, float value)
{
    pd_jw_put_double(w, key, (double)value);
}

/* What most models have none of, or what only a model that runs has. */
static void more_json(struct pd_jw *w, const struct eng_model_info *m)
{
    pd_jw_key(w, "types");
    pd_jw_array(w);
    for (uint32_t i = 0; i < m->n_types; i++) {
        pd_jw_object(w);
        pd_jw_put_text(w, "type", m->types[i].name);
        pd_jw_put_uint(w, "tensors", m->types[i].n_tensors);
        pd_jw_put_uint(w, "bytes", m->types[i].bytes);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_put_text(w, "tokenizer", m->tokenizer);
    pd_jw_put_text(w, "pretokenizer", m->pretokenizer);
    pd_jw_put_uint(w, "experts", m->n_expert);
    pd_jw_put_uint(w, "experts_used", m->n_expert_used);
    pd_jw_put_text(w, "rope", m->rope);
    put_float(w, "rope_base", m->rope_base);
    put_float(w, "rope_factor", m->rope_factor);
    pd_jw_put_uint(w, "ctx_original", m->n_ctx_orig);
    pd_jw_put_uint(w, "window", m->window);
    put_float(w, "attn_softcap", m->attn_softcap);
    put_float(w, "final_softcap", m->final_softcap);
    pd_jw_put_uint(w, "classes", m->n_cls);
    pd_jw_put_text(w, "head", m->head);
    pd_jw_put_text(w, "pooling", m->pooling);
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

    pd_jw_put_text(w, "name", name);
    pd_jw_put_text(w, "path", path);
    pd_jw_put_text(w, "arch", m->arch);
    pd_jw_put_text(w, "file_type", m->file_type);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        pd_jw_put_uint(w, numbers[i].key, numbers[i].value);
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
        pd_jw_put_text(&w, "name", f->name);
        pd_jw_put_text(&w, "path", f->path);
        pd_jw_put_text(&w, "error", why.text);
    } else {
        info_json(&w, f->name, f->path, &m);
    }
    pd_jw_put_text(&w, "alias_of", f->alias_of);
    pd_jw_put_bool(&w, "added", f->recorded);
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
            pd_jw_put_str(w, key, pd_str_sub(line, (size_t)eq + 3, line.len));
        }
        free(key);
        kv = pd_str_sub(kv, end < 0 ? kv.len : (size_t)end + 1, kv.len);
    }
    pd_jw_end_object(w);
}

static void line(const char *label, const char *text)
{
    printf("%-8s ", label);
    cli_text(stdout, pd_str_of(text), -1);
    putchar('\n');
}

static void print_types(const struct eng_model_info *m)
{
    printf("types    ");
    for (uint32_t i = 0; i < m->n_types; i++)
        printf("%s%s %.1f MB in %u tensor%s", i > 0 ? ", " : "", m->types[i].name,
               (double)m->types[i].bytes / 1e6, m->types[i].n_tensors,
               m->types[i].n_tensors == 1 ? "" : "s");
    puts(m->n_types == 0 ? "no tensors: a vocabulary" : "");
}

/* Of a model that runs. */
static void print_more(const struct eng_model_info *m)
{
    if (m->n_expert > 0)
        printf("experts  %u, of which %u are used for a token\n", m->n_expert, m->n_expert_used);
    printf("rope     %s, base %g", m->rope, (double)m->rope_base);
    if (m->rope_factor > 1)
        printf(", times %g", (double)m->rope_factor);
    if (m->n_ctx_orig != m->n_ctx)
        printf(", trained on %u tokens", m->n_ctx_orig);
    putchar('\n');
    if (m->window > 0)
        printf("window   some layers, or all, see %u tokens only\n", m->window);
    if (m->attn_softcap > 0 || m->final_softcap > 0)
        printf("caps     attention %g, logits %g (0: none)\n", (double)m->attn_softcap,
               (double)m->final_softcap);
    if (m->n_cls > 0)
        printf("head     %u class%s, pooling: %s\n", m->n_cls, m->n_cls == 1 ? "" : "es",
               m->pooling ? m->pooling : "not said");
}

/* problem: why it does not run here; NULL: it does. */
static void show_text(const char *path, const struct eng_model_info *m, const char *sha256,
                      const char *problem, bool has_template, struct pd_str kv)
{
    line("file", path);
    line("sha256", sha256);
    line("name", m->name);
    printf("kind     ");
    cli_text(stdout, pd_str_of(m->arch), -1);
    printf(", mostly %s\n", m->file_type);
    printf("runs     %s", problem ? "no: " : "yes\n");
    if (problem) {
        cli_text(stdout, pd_str_of(problem), -1);
        putchar('\n');
    }
    printf("size     %.1f M parameters, %.1f MB\n", (double)m->n_params / 1e6,
           (double)m->file_bytes / 1e6);
    print_types(m);
    printf("shape    %u layers, %u wide, %u heads (%u for keys) of %u, feed-forward %u\n",
           m->n_layer, m->n_embd, m->n_head, m->n_head_kv, m->head_dim, m->n_ff);
    if (m->rope)
        print_more(m);
    printf("text     vocabulary %u, context %u, tokenizer ", m->n_vocab, m->n_ctx);
    cli_text(stdout, pd_str_of(m->tokenizer ? m->tokenizer : "none"), -1);
    if (m->pretokenizer) {
        fputs(" with pre-tokenizer ", stdout);
        cli_text(stdout, pd_str_of(m->pretokenizer), -1);
    }
    printf("\nchat     %s\n\n", has_template
                                    ? "the file has a template (show --template prints it)"
                                    : "the file has no template: solve needs --chat-template");
    cli_text(stdout, kv, 0);
}

static int show(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct pd_buf kv = PD_BUF_INIT(16u << 20), b = PD_BUF_INIT(32u << 20),
                  template = PD_BUF_INIT(TEMPLATE_MAX_BYTES);
    struct eng_model_info m;
    struct pd_err problem = {0};
    char hex[PD_SHA256_HEX], *path = NULL;
    bool runs, has_template;
    struct pd_jw w;
    int rc = app_find_model(name, &path, err);

    if (rc == 0)
        rc = eng_model_peek(path, &m, &kv, err);
    if (rc == 0 && (rc = app_hash_model(path, hex, err)) < 0)
        eng_model_info_done(&m);
    if (rc == 0) {
        runs = eng_model_check(path, NULL, &problem) == 0;
        has_template = eng_model_template(path, &template, NULL) != PD_ENOENT;
        if (cli->json) {
            pd_jw_init(&w, &b);
            pd_jw_object(&w);
            info_json(&w, m.name, path, &m);
            pd_jw_put_text(&w, "sha256", hex);
            more_json(&w, &m);
            pd_jw_put_bool(&w, "runs", runs);
            pd_jw_put_text(&w, "problem", runs ? NULL : problem.text);
            pd_jw_put_bool(&w, "has_chat_template", has_template);
            metadata_json(&w, pd_buf_str(&kv));
            pd_jw_end_object(&w);
            rc = print_json(&b, err);
        } else {
            show_text(path, &m, hex, runs ? NULL : problem.text, has_template, pd_buf_str(&kv));
        }
        eng_model_info_done(&m);
    }
    pd_buf_done(&template);
    pd_buf_done(&kv);
    free(path);
    return rc;
}

static int show_template(const struct cli *cli, const char *name, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(TEMPLATE_MAX_BYTES), b = PD_BUF_INIT(8 * TEMPLATE_MAX_BYTES);
    char *path = NULL;
    struct pd_jw w;
    int rc = app_find_model(name, &path, err);

    if (rc == 0)
        rc = eng_model_template(path, &text, err);
    if (rc == 0 && cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        pd_jw_put_text(&w, "path", path);
        pd_jw_put_str(&w, "chat_template", pd_buf_str(&text));
        pd_jw_end_object(&w);
        rc = print_json(&b, err);
    } else if (rc == 0) {
        cli_print_bytes(pd_buf_str(&text));
    }
    pd_buf_done(&text);
    free(path);
    return rc;
}

/* ---- what memory a model takes --------------------------------------------------------------- */

/* All of it but K and V; the program's own part is what it has before it loads anything. */
static uint64_t fixed_bytes(const struct model *o, const struct eng_memory *m)
{
    return o->program_bytes + eng_memory_fixed(m);
}

static void estimate_text(const struct eng *e, const struct model *o, const char *path,
                          const struct eng_memory *m)
{
    const struct {
        const char *what;
        uint64_t bytes;
        const char *remark;
    } parts[] = {
        {"weights", m->weights_bytes, "repacked for the kernels"},
        {"vocabulary", m->vocab_bytes, "tokenizer and keys"},
        {"work", m->work_bytes, "of a step, whatever takes part in it"},
        {"program", o->program_bytes, "itself; not under --memory-limit"},
    };

    line("file", path);
    printf("memory   with %u thread%s\n", eng_n_threads(e), eng_n_threads(e) == 1 ? "" : "s");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        printf("  %-12s %10.1f MB   %s\n", parts[i].what, (double)parts[i].bytes / 1e6,
               parts[i].remark);
    printf("  %-12s %10.1f MB\n", "together", (double)fixed_bytes(o, m) / 1e6);
    printf("KV       %llu bytes a token in %s; branches of %llu tokens",
           (unsigned long long)m->kv_token_bytes, eng_kv_type_name(e), (unsigned long long)o->ctx);
    if (o->prompt_shared > 0)
        printf(", the first %llu shared", (unsigned long long)o->prompt_shared);
    printf("\n  %-12s %13s %13s\n", "branches", "KV", "total");
    for (size_t i = 0; i < o->branches.n; i++) {
        uint64_t kv = eng_memory_kv(m, o->ctx, o->branches.v[i], o->prompt_shared);

        printf("  %-12llu %10.1f MB %10.1f MB\n", (unsigned long long)o->branches.v[i],
               (double)kv / 1e6, (double)(fixed_bytes(o, m) + kv) / 1e6);
    }
}

static int estimate_json(const struct eng *e, const struct model *o, const char *path,
                         const struct eng_memory *m, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "path", path);
    pd_jw_put_uint(&w, "threads", eng_n_threads(e));
    pd_jw_put_uint(&w, "weights_bytes", m->weights_bytes);
    pd_jw_put_uint(&w, "vocab_bytes", m->vocab_bytes);
    pd_jw_put_uint(&w, "work_bytes", m->work_bytes);
    pd_jw_put_uint(&w, "program_bytes", o->program_bytes);
    pd_jw_put_text(&w, "kv_type", eng_kv_type_name(e));
    pd_jw_put_uint(&w, "kv_token_bytes", m->kv_token_bytes);
    pd_jw_put_uint(&w, "ctx", o->ctx);
    pd_jw_put_uint(&w, "prompt_shared", o->prompt_shared);
    pd_jw_key(&w, "estimates");
    pd_jw_array(&w);
    for (size_t i = 0; i < o->branches.n; i++) {
        uint64_t kv = eng_memory_kv(m, o->ctx, o->branches.v[i], o->prompt_shared);

        pd_jw_object(&w);
        pd_jw_put_uint(&w, "branches", o->branches.v[i]);
        pd_jw_put_uint(&w, "kv_bytes", kv);
        pd_jw_put_uint(&w, "total_bytes", fixed_bytes(o, m) + kv);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

/* The options of the estimate against the model; ctx 0: all that it has. */
static int check_lengths(struct model *o, const struct eng_model_info *m, struct pd_err *err)
{
    if (o->ctx > m->n_ctx)
        return pd_fail(err, PD_EINVAL, "--ctx: %llu tokens are more than the %u of this model",
                       (unsigned long long)o->ctx, m->n_ctx);
    if (o->ctx == 0)
        o->ctx = m->n_ctx;
    if (o->prompt_shared > o->ctx)
        return pd_fail(err, PD_EINVAL,
                       "--prompt-shared: %llu tokens are more than the %llu of a branch (--ctx)",
                       (unsigned long long)o->prompt_shared, (unsigned long long)o->ctx);
    return 0;
}

static int estimate(const struct cli *cli, struct model *o, const char *name, struct pd_err *err)
{
    const struct eng_config config = {.n_threads = (unsigned)o->threads, .kv_type = o->kv_type};
    struct eng_model_info m = {0};
    struct eng_memory memory;
    struct eng *e = NULL;
    char *path = NULL;
    int rc = app_find_model(name, &path, err);

    if (rc == 0)
        rc = eng_open(&config, &e, err);
    o->program_bytes = cli_resident_bytes();
    if (rc == 0)
        rc = eng_model_estimate(e, path, &memory, err);
    if (rc == 0)
        rc = eng_model_peek(path, &m, NULL, err);
    if (rc == 0)
        rc = check_lengths(o, &m, err);
    if (rc == 0 && cli->json)
        rc = estimate_json(e, o, path, &memory, err);
    else if (rc == 0)
        estimate_text(e, o, path, &memory);
    eng_model_info_done(&m);
    eng_close(e);
    free(path);
    return rc;
}

/* ---- the user's own -------------------------------------------------------------------------- */

/* Whether the file's chat template can be used: most files are fine for scoring without. */
static int try_template(const char *path, struct pd_err *out_problem, struct pd_err *err)
{
    const struct pd_message hello = {.role = "user", .content = PD_STR("hello")};
    struct eng_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = eng_tokenizer_open(path, &t, err);

    if (rc == 0)
        (void)eng_chat(t, NULL, PD_CHAT(&hello, 1), &ids, &n, out_problem);
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
    int rc = app_add_model(file, o->name, o->head, o->link, &r, err);

    if (rc < 0)
        return rc;
    rc = eng_model_peek(r.path, &m, NULL, err);
    if (rc == 0)
        rc = try_template(r.path, &problem, err);
    if (rc == 0 && cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        info_json(&w, r.name, r.path, &m);
        pd_jw_put_text(&w, "sha256", r.sha256);
        pd_jw_put_text(&w, "source", r.source);
        pd_jw_put_text(&w, "template_problem", problem.code ? problem.text : NULL);
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
        pd_jw_put_text(&w, "name", name);
        pd_jw_put_text(&w, "path", r.path);
        pd_jw_put_bool(&w, "ok", same);
        pd_jw_put_text(&w, "sha256", now);
        pd_jw_put_text(&w, "recorded", r.sha256);
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
        pd_jw_put_text(&w, "name", name);
        pd_jw_put_text(&w, "path", path);
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
    pd_jw_put_text(&w, "removed", name);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

/* ---- a control vector ------------------------------------------------------------------------ */

static int print_fit(const struct cli *cli, const struct model *o, const struct app_steer_report *r,
                     struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;

    if (!cli->json) {
        line("file", o->out);
        printf("vector   layer %llu, mean of %s over %zu pairs, length %.4g\n",
               (unsigned long long)o->layer,
               r->flipped ? "long minus short (the other sign made answers no shorter)"
                          : "short minus long",
               r->n_pairs, r->norm);
        printf("gamma    %.4g, which moves the law of the next token by %.3g nats\n", r->gamma,
               r->kl);
        printf("tokens   %.1f an answer in place of %.1f, greedily, on %zu questions\n",
               r->steered_tokens, r->plain_tokens, r->n_checked);
        printf("use      ponder solve -o steer=");
        cli_text(stdout, pd_str_of(o->out), -1);
        printf(" -o steer_gamma=%.4g …\n", r->gamma);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "file", o->out);
    pd_jw_put_uint(&w, "layer", o->layer);
    pd_jw_put_uint(&w, "pairs", r->n_pairs);
    pd_jw_put_bool(&w, "flipped", r->flipped);
    pd_jw_put_double(&w, "norm", r->norm);
    pd_jw_put_double(&w, "gamma", r->gamma);
    pd_jw_put_double(&w, "kl", r->kl);
    pd_jw_put_uint(&w, "checked", r->n_checked);
    pd_jw_put_double(&w, "plain_tokens", r->plain_tokens);
    pd_jw_put_double(&w, "steered_tokens", r->steered_tokens);
    pd_jw_end_object(&w);
    return print_json(&b, err);
}

static int steer(const struct cli *cli, const struct model *o, const char *name, struct pd_err *err)
{
    struct app_steer_fit fit = {.model = name,
                                .pairs = o->pairs,
                                .out = o->out,
                                .layer = (uint32_t)o->layer,
                                .n_check = (unsigned)o->check,
                                .max_tokens = (unsigned)o->max_tokens,
                                .n_threads = (unsigned)o->threads};
    struct app_steer_report r;
    int rc;

    if (!o->pairs || !o->layer || !o->out)
        return pd_fail(err, PD_EINVAL, "model steer needs --pairs, --layer and --out");
    if (!pd_parse_double(pd_str_of(o->kl_max), &fit.kl_max) || fit.kl_max <= 0)
        return pd_fail(err, PD_EINVAL, "--kl-max=%s is not a number above 0", o->kl_max);
    rc = app_steer_fit(&fit, &r, err);
    return rc < 0 ? rc : print_fit(cli, o, &r, err);
}

/* An option's help begins with the verb that it is for; some are of the estimate only. */
static int check_options(const struct cli_option *table, const char *verb, bool estimate,
                         struct pd_err *err)
{
    size_t n = strlen(verb);

    for (; table->name; table++) {
        if (!table->given)
            continue;
        if (strncmp(table->help, verb, n) != 0 || (table->help[n] != ':' && table->help[n] != ' '))
            return pd_fail(err, PD_EINVAL, "model %s has no option --%s (see ponder model --help)",
                           verb, table->name);
        if (!estimate && strstr(table->help, "--estimate"))
            return pd_fail(err, PD_EINVAL, "--%s is of --estimate: give both", table->name);
    }
    return 0;
}

/* Into the daemon's memory, or out of it. */
static int move(const struct cli *cli, const char *verb, const char *name, struct pd_err *err)
{
    const char *behind = strcmp(verb, "load") == 0 ? "/load" : "/unload";
    char *path = cli_path("/v1/models", name, behind);
    struct pd_buf reply = PD_BUF_INIT(1u << 20);
    struct client *c = NULL;
    int rc = path ? client_open(cli->host, &c, err) : cli_no_memory(err);

    if (rc == 0)
        rc = client_call(c, "POST", path, &PD_STR("{}"), NULL, &reply, err);
    if (rc == 0 && cli->json)
        cli_print_bytes(pd_buf_str(&reply));
    else if (rc == 0 && !cli->quiet)
        printf("%sed %s\n", verb, name);
    client_close(c);
    free(path);
    pd_buf_done(&reply);
    return rc;
}

int cli_model(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    struct model o = {.branches = {{1}, 1}, .kl_max = "0.1", .check = 16, .max_tokens = 512};
    struct cli_option table[] = {
        {"estimate", 0, CLI_FLAG, &o.estimate, NULL, "show: what memory it takes, loading nothing",
         0, 0, false, false},
        {"ctx", 0, CLI_NUMBER, &o.ctx, "N", "show --estimate: tokens of a branch (the model's)", 1,
         UINT32_MAX, false, false},
        {"branches", 0, CLI_NUMBERS, &o.branches, "N,…", "show --estimate: how many (1)", 1, 65536,
         false, false},
        {"prompt-shared", 0, CLI_NUMBER, &o.prompt_shared, "N",
         "show --estimate: first tokens that they have in common (0)", 0, UINT32_MAX, false, false},
        {"kv-type", 0, CLI_CHOICE, &o.kv_type, "f32|f16|q8_0",
         "show --estimate: how the KV cache keeps numbers (f16)", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &o.threads, "N", "show --estimate: compute threads (all CPUs)",
         0, 1024, false, false},
        {"pairs", 0, CLI_TEXT, &o.pairs, "FILE",
         "steer: JSON Lines of {\"question\", \"short\", \"long\"}; - is standard input", 0, 0,
         false, false},
        {"layer", 0, CLI_NUMBER, &o.layer, "L", "steer: the stream behind the first L blocks", 1,
         UINT32_MAX, false, false},
        {"out", 'o', CLI_TEXT, &o.out, "FILE", "steer: the control vector", 0, 0, false, false},
        {"kl-max", 0, CLI_TEXT, &o.kl_max, "NATS",
         "steer: most that the law of the next token may move, on average (0.1)", 0, 0, false,
         false},
        {"check", 0, CLI_NUMBER, &o.check, "N", "steer: questions to try it on (16)", 1, 256, false,
         false},
        {"max-tokens", 0, CLI_NUMBER, &o.max_tokens, "N",
         "steer: of an answer when it is tried (512)", 1, UINT32_MAX, false, false},
        {"template", 0, CLI_FLAG, &o.template, NULL, "show: its chat template and nothing else", 0,
         0, false, false},
        {"name", 0, CLI_TEXT, &o.name, "NAME", "add: instead of the file's own name", 0, 0, false,
         false},
        {"head", 0, CLI_TEXT, &o.head, "FILE",
         "add: the reward head that the file has not (safetensors), kept with it", 0, 0, false,
         false},
        {"link", 0, CLI_FLAG, &o.link, NULL, "add: point to the file where it is, copy nothing", 0,
         0, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    const char *verb;
    bool moves;
    int n, rc;

    cli->remote = true;
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    verb = n > 0 ? argv[1] : "";
    moves = strcmp(verb, "load") == 0 || strcmp(verb, "unload") == 0;
    rc = n < 0 ? n : 0;
    if (n < 0 || cli->help)
        return rc;
    if (cli->host_given && !moves)
        return pd_fail(
            err, PD_EINVAL,
            "--host: only model load and unload talk to a daemon, the others work on the "
            "files of this machine");
    if (n > 0)
        rc = check_options(table, verb, o.estimate, err);
    if (rc < 0)
        return rc;
    if (n == 1 && strcmp(verb, "ls") == 0)
        return list(cli, err);
    if (n == 2 && strcmp(verb, "show") == 0)
        return o.estimate   ? estimate(cli, &o, argv[2], err)
               : o.template ? show_template(cli, argv[2], err)
                            : show(cli, argv[2], err);
    if (n == 2 && strcmp(verb, "add") == 0)
        return add(cli, &o, argv[2], err);
    if (strcmp(verb, "verify") == 0)
        return verify(cli, argv + 2, (size_t)n - 1, err);
    if (n == 3 && strcmp(verb, "alias") == 0)
        return alias(cli, argv[2], argv[3], err);
    if (n == 2 && strcmp(verb, "steer") == 0)
        return steer(cli, &o, argv[2], err);
    if (n == 2 && strcmp(verb, "rm") == 0)
        return remove_one(cli, argv[2], err);
    if (n == 2 && moves)
        return move(cli, verb, argv[2], err);
    return pd_fail(
        err, PD_EINVAL,
        "model needs ls, show MODEL, add FILE, verify [NAME…], alias NAME MODEL, rm NAME, "
        "load NAME, unload NAME or steer MODEL (see ponder model --help)");
}

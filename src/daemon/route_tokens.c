/* Models and their tokens: GET /v1/models, POST /tokenize, /detokenize, /apply-template. On a
 * worker thread, from the files: nothing is loaded for them but a vocabulary. */
#include "daemon/daemon_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/request.h"

#define REPLY_MAX ((size_t)64 << 20)

struct asking {
    struct daemon *d;
    struct http_request *r; /* NULL: the client has left */
    char *model;            /* NULL: the default; of /v1/models: all */
    struct pd_json *body;
    int (*run)(struct asking *a, struct pd_jw *w, struct pd_err *err);
    struct pd_buf reply;
    int rc;
    struct pd_err err;
};

static void client_left(void *user)
{
    struct asking *a = user;

    a->r = NULL;
}

static void work(struct daemon *d, void *arg)
{
    struct asking *a = arg;
    struct pd_jw w;

    (void)d;
    pd_jw_init(&w, &a->reply);
    a->rc = a->run(a, &w, &a->err);
}

static void asking_free(struct asking *a)
{
    pd_buf_done(&a->reply);
    pd_json_free(a->body);
    free(a->model);
    free(a);
}

static void done(struct daemon *d, void *arg)
{
    struct asking *a = arg;

    (void)d;
    if (a->r && a->rc < 0)
        api_fail(a->r, &a->err);
    else if (a->r)
        api_json(a->r, 200, &a->reply);
    asking_free(a);
}

/* body is given away; model may be NULL. */
static void ask(struct daemon *d, struct http_request *r, const char *model, struct pd_json *body,
                int (*run)(struct asking *, struct pd_jw *, struct pd_err *))
{
    struct asking *a = calloc(1, sizeof *a);

    if (!a || (model && !(model = strdup(model)))) {
        pd_json_free(body);
        free(a);
        api_error(r, 507, "server_error", "memory_limit", NULL, "out of memory");
        return;
    }
    *a = (struct asking){.d = d,
                         .r = r,
                         .model = (char *)(uintptr_t)model,
                         .body = body,
                         .run = run,
                         .reply = PD_BUF_INIT(REPLY_MAX)};
    if (daemon_work(d, work, done, a)) {
        http_on_close(r, client_left, a);
        return;
    }
    http_set_header(r, "Retry-After", "1");
    api_error(r, 503, "unavailable_error", "engine_down", NULL, "too many requests wait");
    asking_free(a);
}

/* ---- models --------------------------------------------------------------------------------- */

static void put_text(struct pd_jw *w, const char *key, const char *text)
{
    pd_jw_key(w, key);
    pd_jw_strz(w, text);
}

/* id: the file's name, or that with a profile or strategy. Whether it has a chat template. */
static bool put_model(struct app *app, struct pd_jw *w, const struct app_model_file *f,
                      const char *id)
{
    struct eng_model_info info = {0};
    struct pd_buf template = PD_BUF_INIT((size_t)1 << 20);
    int rc = eng_model_peek(f->path, &info, NULL, NULL);
    bool chats = eng_model_template(f->path, &template, NULL) == 0, loaded;
    char *real = realpath(f->path, NULL), sha256[PD_SHA256_HEX];

    loaded = real && app_is_loaded(app, real, sha256);

    pd_jw_object(w);
    put_text(w, "id", id);
    put_text(w, "object", "model");
    pd_jw_key(w, "created");
    pd_jw_int(w, 0);
    put_text(w, "owned_by", "ponder");
    pd_jw_key(w, "ponder");
    pd_jw_object(w);
    put_text(w, "kind", strchr(id, '@') ? "profile" : "model");
    put_text(w, "engine", "local");
    put_text(w, "sha256", loaded || app_recorded_sha256(f->path, sha256) ? sha256 : NULL);
    pd_jw_key(w, "loaded");
    pd_jw_bool(w, loaded);
    put_text(w, "alias_of", f->alias_of);
    put_text(w, "arch", rc == 0 ? info.arch : NULL);
    put_text(w, "file_type", rc == 0 ? info.file_type : NULL);
    pd_jw_key(w, "ctx");
    if (rc == 0)
        pd_jw_uint(w, info.n_ctx);
    else
        pd_jw_null(w);
    pd_jw_key(w, "chat");
    pd_jw_bool(w, chats);
    pd_jw_end_object(w);
    pd_jw_end_object(w);
    pd_buf_done(&template);
    free(real);
    if (rc == 0)
        eng_model_info_done(&info);
    return chats;
}

/* A model, and its profiles where it takes conversations. */
static void put_models(struct app *app, struct pd_jw *w, const struct app_model_file *f,
                       const struct settings *s)
{
    bool chats = put_model(app, w, f, f->name);

    for (size_t i = 0; chats && i < s->n_profiles; i++) {
        struct pd_buf id = PD_BUF_INIT(1024);

        pd_buf_printf(&id, "%s@%s", f->name, s->profiles[i].name);
        (void)put_model(app, w, f, pd_buf_str(&id).ptr);
        pd_buf_done(&id);
    }
}

static int list_models(struct asking *a, struct pd_jw *w, struct pd_err *err)
{
    struct settings *settings = settings_current();
    struct app_model_file *files = NULL;
    size_t n = 0;
    int rc = settings ? app_list_models(&files, &n, err) : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc < 0) {
        settings_unref(settings);
        return rc;
    }
    pd_jw_object(w);
    put_text(w, "object", "list");
    pd_jw_key(w, "data");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        put_models(a->d->app, w, &files[i], settings);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    app_list_models_free(files, n);
    settings_unref(settings);
    return 0;
}

static int show_model(struct asking *a, struct pd_jw *w, struct pd_err *err)
{
    size_t len = strcspn(a->model, "@");
    const char *behind = a->model[len] ? a->model + len + 1 : NULL;
    struct settings *s = settings_current();
    struct app_model_file file = {.name = pd_str_dup((struct pd_str){a->model, len})};
    int rc = file.name && s ? app_find_model(file.name, &file.path, err)
                            : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc == 0 && behind && !settings_profile(s, behind) && !pd_strategy_find(behind))
        rc = pd_fail(err, PD_ENOENT, "there is no profile or strategy '%.100s'", behind);
    if (rc == 0)
        (void)put_model(a->d->app, w, &file, a->model);
    settings_unref(s);
    free(file.name);
    free(file.path);
    return rc;
}

static void models(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)args;
    ask(d, r, NULL, NULL, list_models);
}

static void model(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    ask(d, r, args->v[0], NULL, show_model);
}

/* ---- tokens --------------------------------------------------------------------------------- */

static int open_tokenizer(const struct asking *a, struct eng_tokenizer **out, uint32_t *out_ctx,
                          struct pd_err *err)
{
    struct eng_model_info info;
    char *path = NULL;
    int rc = app_find_model(a->model ? a->model : app_default_model, &path, err);

    if (rc == 0)
        rc = eng_model_peek(path, &info, NULL, err);
    if (rc == 0) {
        *out_ctx = info.n_ctx;
        eng_model_info_done(&info);
        rc = eng_tokenizer_open(path, out, err);
    }
    free(path);
    return rc;
}

static bool flag(const struct pd_json *body, const char *key, const char *other, bool def)
{
    const struct pd_json *v = pd_json_get(body, key);

    (void)pd_json_bool(v ? v : pd_json_get(body, other), &def);
    return def;
}

static void put_piece(struct pd_jw *w, const struct eng_tokenizer *t, int32_t id)
{
    struct pd_buf b = PD_BUF_INIT(65536);

    (void)eng_detokenize(t, &id, 1, true, &b, NULL);
    if (pd_utf8_valid(pd_buf_str(&b))) {
        pd_jw_str(w, pd_buf_str(&b));
    } else {
        pd_jw_array(w);
        for (size_t i = 0; i < b.len; i++)
            pd_jw_uint(w, (unsigned char)b.data[i]);
        pd_jw_end_array(w);
    }
    pd_buf_done(&b);
}

/* content (or prompt), or messages. */
static int tokens_of(const struct pd_json *body, const struct eng_tokenizer *t, int32_t **ids,
                     size_t *n, struct pd_err *err)
{
    const struct pd_json *v =
        pd_json_get(body, "content") ? pd_json_get(body, "content") : pd_json_get(body, "prompt");
    bool special = flag(body, "parse_special", "parse_special", true);
    struct pd_arena arena;
    struct pd_chat *c = NULL;
    int rc;

    pd_arena_init(&arena, REPLY_MAX);
    if (pd_json_get(body, "messages")) {
        rc = app_chat_parse(body, &arena, &c, err);
        if (rc == 0)
            rc = eng_chat(t, NULL, c, ids, n, err);
    } else if (!pd_json_string(v)) {
        rc = pd_fail(err, PD_EINVAL, "content must be a string");
    } else if (flag(body, "add_special", "add_special_tokens", false)) {
        rc = app_prompt_tokens(t, &(struct pd_chat){.text = pd_str_of(pd_json_string(v))}, ids, n,
                               err);
    } else {
        rc = eng_tokenize(t, pd_str_of(pd_json_string(v)),
                          (special ? ENG_PARSE_SPECIAL : ENG_PARSE_PLAIN) | ENG_PARSE_START, ids, n,
                          err);
    }
    pd_arena_done(&arena);
    return rc;
}

static int run_tokenize(struct asking *a, struct pd_jw *w, struct pd_err *err)
{
    bool pieces = flag(a->body, "with_pieces", "return_token_strs", false);
    struct eng_tokenizer *t = NULL;
    int32_t *ids = NULL;
    uint32_t ctx = 0;
    size_t n = 0;
    int rc = open_tokenizer(a, &t, &ctx, err);

    if (rc == 0)
        rc = tokens_of(a->body, t, &ids, &n, err);
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_key(w, "count");
        pd_jw_uint(w, n);
        pd_jw_key(w, "max_model_len");
        pd_jw_uint(w, ctx);
        pd_jw_key(w, "tokens");
        pd_jw_array(w);
        for (size_t i = 0; i < n; i++) {
            if (!pieces) {
                pd_jw_int(w, ids[i]);
                continue;
            }
            pd_jw_object(w);
            pd_jw_key(w, "id");
            pd_jw_int(w, ids[i]);
            pd_jw_key(w, "piece");
            put_piece(w, t, ids[i]);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
    free(ids);
    eng_tokenizer_free(t);
    return rc;
}

static int run_detokenize(struct asking *a, struct pd_jw *w, struct pd_err *err)
{
    const struct pd_json *list = pd_json_get(a->body, "tokens");
    struct pd_buf text = PD_BUF_INIT(REPLY_MAX);
    struct eng_tokenizer *t = NULL;
    uint32_t ctx;
    int rc = open_tokenizer(a, &t, &ctx, err);

    if (rc == 0 && !pd_json_is_array(list))
        rc = pd_fail(err, PD_EINVAL, "tokens must be an array of token ids");
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v)) {
        int64_t id = -1;
        int32_t token;

        (void)pd_json_int(v, &id);
        token = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
        rc = eng_detokenize(t, &token, 1, true, &text, err);
    }
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_key(w, "content");
        pd_jw_str(w, pd_buf_str(&text));
        pd_jw_key(w, "prompt"); /* as another family of servers calls it */
        pd_jw_str(w, pd_buf_str(&text));
        pd_jw_end_object(w);
    }
    pd_buf_done(&text);
    eng_tokenizer_free(t);
    return rc;
}

static int run_template(struct asking *a, struct pd_jw *w, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(REPLY_MAX);
    struct eng_tokenizer *t = NULL;
    struct pd_arena arena;
    struct pd_chat *c = NULL;
    uint32_t ctx;
    int rc;

    pd_arena_init(&arena, REPLY_MAX);
    rc = pd_json_get(a->body, "messages") ? app_chat_parse(a->body, &arena, &c, err)
                                          : pd_fail(err, PD_EINVAL, "messages is missing");
    if (rc == 0)
        rc = open_tokenizer(a, &t, &ctx, err);
    if (rc == 0)
        rc = eng_chat_text(t, NULL, c, &text, err);
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_key(w, "prompt");
        pd_jw_str(w, pd_buf_str(&text));
        pd_jw_end_object(w);
    }
    pd_arena_done(&arena);
    pd_buf_done(&text);
    eng_tokenizer_free(t);
    return rc;
}

static void ask_body(struct daemon *d, struct http_request *r,
                     int (*run)(struct asking *, struct pd_jw *, struct pd_err *))
{
    struct pd_json *body = api_body(r);
    struct request_error e = {0};
    const char *model = NULL;

    if (!body)
        return;
    if (request_model(body, &model, &e) < 0) {
        api_parse_error(r, &e);
        pd_json_free(body);
        return;
    }
    ask(d, r, model, body, run);
}

static void tokenize(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)args;
    ask_body(d, r, run_tokenize);
}

static void detokenize(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)args;
    ask_body(d, r, run_detokenize);
}

static void apply_template(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)args;
    ask_body(d, r, run_template);
}

const struct route routes_tokens[] = {
    {HTTP_GET, "/v1/models", models, false},
    {HTTP_GET, "/v1/models/{id}", model, false},
    {HTTP_POST, "/tokenize", tokenize, false},
    {HTTP_POST, "/detokenize", detokenize, false},
    {HTTP_POST, "/apply-template", apply_template, false},
    {HTTP_GET, NULL, NULL, false},
};

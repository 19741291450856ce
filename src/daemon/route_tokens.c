/* Models and their tokens: GET /v1/models, POST /tokenize, /detokenize, /apply-template. On a
 * worker thread, from the files: nothing is loaded for them but a vocabulary. */
#include "daemon/daemon_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/request.h"

#define REPLY_MAX ((size_t)64 << 20)

struct asking {
    struct api_question q;
    char *model; /* NULL: the default; of /v1/models: all */
    struct pd_json *body;
};

static struct asking *asking_of(struct api_question *q)
{
    return pd_container_of(q, struct asking, q);
}

static void asking_done(struct api_question *q)
{
    pd_json_free(asking_of(q)->body);
    free(asking_of(q)->model);
}

/* body is given away; model may be NULL. */
static void ask(struct daemon *d, struct http_request *r, const char *model, struct pd_json *body,
                int (*read)(struct api_question *, struct pd_jw *, struct pd_err *))
{
    struct asking *a = api_question_new(sizeof *a, d, r, read);

    if (!a) {
        pd_json_free(body);
        return;
    }
    a->q.done = asking_done;
    a->body = body;
    if (model && !(a->model = strdup(model))) {
        api_no_memory(r);
        api_question_free(&a->q);
        return;
    }
    api_ask(&a->q);
}

/* ---- models --------------------------------------------------------------------------------- */

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
    pd_jw_put_text(w, "id", id);
    pd_jw_put_text(w, "object", "model");
    pd_jw_key(w, "created");
    pd_jw_int(w, 0);
    pd_jw_put_text(w, "owned_by", "ponder");
    pd_jw_key(w, "ponder");
    pd_jw_object(w);
    pd_jw_put_text(w, "kind", strchr(id, '@') ? "profile" : "model");
    pd_jw_put_text(w, "engine", "local");
    pd_jw_put_text(w, "sha256", loaded || app_recorded_sha256(f->path, sha256) ? sha256 : NULL);
    pd_jw_put_bool(w, "loaded", loaded);
    pd_jw_put_text(w, "alias_of", f->alias_of);
    pd_jw_put_text(w, "arch", rc == 0 ? info.arch : NULL);
    pd_jw_put_text(w, "file_type", rc == 0 ? info.file_type : NULL);
    pd_jw_key(w, "ctx");
    if (rc == 0)
        pd_jw_uint(w, info.n_ctx);
    else
        pd_jw_null(w);
    pd_jw_put_bool(w, "chat", chats);
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

static int list_models(struct api_question *q, struct pd_jw *w, struct pd_err *err)
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
    pd_jw_put_text(w, "object", "list");
    pd_jw_key(w, "data");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        put_models(q->d->app, w, &files[i], settings);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    app_list_models_free(files, n);
    settings_unref(settings);
    return 0;
}

static int show_model(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    const char *model = asking_of(q)->model;
    size_t len = strcspn(model, "@");
    const char *behind = model[len] ? model + len + 1 : NULL;
    struct settings *s = settings_current();
    struct app_model_file file = {.name = pd_str_dup((struct pd_str){model, len})};
    int rc = file.name && s ? app_find_model(file.name, &file.path, err)
                            : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc == 0 && behind && !settings_profile(s, behind) && !pd_strategy_find(behind))
        rc = pd_fail(err, PD_ENOENT, "there is no profile or strategy '%.100s'", behind);
    if (rc == 0)
        (void)put_model(q->d->app, w, &file, model);
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

static int run_tokenize(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    const struct asking *a = asking_of(q);
    bool pieces = flag(a->body, "with_pieces", "return_token_strs", false);
    struct tokenizer of = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = tokenizers_take(q->d->tokenizers, a->model, &of, err);

    if (rc == 0)
        rc = tokens_of(a->body, of.t, &ids, &n, err);
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_put_uint(w, "count", n);
        pd_jw_put_uint(w, "max_model_len", of.n_ctx);
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
            put_piece(w, of.t, ids[i]);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
    free(ids);
    tokenizers_give_back(q->d->tokenizers, &of);
    return rc;
}

static int run_detokenize(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    const struct asking *a = asking_of(q);
    const struct pd_json *list = pd_json_get(a->body, "tokens");
    struct pd_buf text = PD_BUF_INIT(REPLY_MAX);
    struct tokenizer of = {0};
    int rc = tokenizers_take(q->d->tokenizers, a->model, &of, err);

    if (rc == 0 && !pd_json_is_array(list))
        rc = pd_fail(err, PD_EINVAL, "tokens must be an array of token ids");
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v)) {
        int64_t id = -1;
        int32_t token;

        (void)pd_json_int(v, &id);
        token = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
        rc = eng_detokenize(of.t, &token, 1, true, &text, err);
    }
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_put_str(w, "content", pd_buf_str(&text));
        pd_jw_put_str(w, "prompt", pd_buf_str(&text)); /* as another family of servers calls it */
        pd_jw_end_object(w);
    }
    pd_buf_done(&text);
    tokenizers_give_back(q->d->tokenizers, &of);
    return rc;
}

static int run_template(struct api_question *q, struct pd_jw *w, struct pd_err *err)
{
    const struct asking *a = asking_of(q);
    struct pd_buf text = PD_BUF_INIT(REPLY_MAX);
    struct tokenizer of = {0};
    struct pd_arena arena;
    struct pd_chat *c = NULL;
    int rc;

    pd_arena_init(&arena, REPLY_MAX);
    rc = pd_json_get(a->body, "messages") ? app_chat_parse(a->body, &arena, &c, err)
                                          : pd_fail(err, PD_EINVAL, "messages is missing");
    if (rc == 0)
        rc = tokenizers_take(q->d->tokenizers, a->model, &of, err);
    if (rc == 0)
        rc = eng_chat_text(of.t, NULL, c, &text, err);
    if (rc == 0) {
        pd_jw_object(w);
        pd_jw_put_str(w, "prompt", pd_buf_str(&text));
        pd_jw_end_object(w);
    }
    pd_arena_done(&arena);
    pd_buf_done(&text);
    tokenizers_give_back(q->d->tokenizers, &of);
    return rc;
}

static void ask_body(struct daemon *d, struct http_request *r, struct pd_json *body,
                     int (*read)(struct api_question *, struct pd_jw *, struct pd_err *))
{
    struct request_error e = {0};
    const char *model = NULL;

    if (request_model(body, &model, &e) < 0) {
        api_parse_error(r, &e);
        pd_json_free(body);
        return;
    }
    ask(d, r, model, body, read);
}

static void tokenize(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    ask_body(d, r, args->body, run_tokenize);
}

static void detokenize(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    ask_body(d, r, args->body, run_detokenize);
}

static void apply_template(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    ask_body(d, r, args->body, run_template);
}

const struct route routes_tokens[] = {
    {HTTP_GET, "/v1/models", models, 0},
    {HTTP_GET, "/v1/models/{id}", model, 0},
    {HTTP_POST, "/tokenize", tokenize, ROUTE_JSON},
    {HTTP_POST, "/detokenize", detokenize, ROUTE_JSON},
    {HTTP_POST, "/apply-template", apply_template, ROUTE_JSON},
    {HTTP_GET, NULL, NULL, 0},
};

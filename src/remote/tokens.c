/* Texts and token ids of an engine elsewhere: its own tokenizer does the work, and what it says of
 * single tokens is kept as long as the engine. On job threads. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "remote/remote_int.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD: what a part of a character is shown as */
#define ASK_AT_ONCE 256

/* ---- the table of pieces; with the lock held ---------------------------------------------------
 */

static struct piece **slot_of(const struct remote_engine *e, int32_t id)
{
    size_t i = ((uint32_t)id * UINT32_C(2654435769)) & (e->cap_pieces - 1);

    while (e->pieces[i] && e->pieces[i]->id != id)
        i = (i + 1) & (e->cap_pieces - 1);
    return &e->pieces[i];
}

static struct piece *find_piece(const struct remote_engine *e, int32_t id)
{
    return e->cap_pieces ? *slot_of(e, id) : NULL;
}

static bool grow(struct remote_engine *e)
{
    struct piece **old = e->pieces;
    size_t cap = e->cap_pieces;

    if (2 * (e->n_pieces + 1) <= cap)
        return true;
    e->pieces = calloc(cap ? 2 * cap : 1024, sizeof(struct piece *));
    if (!e->pieces) {
        e->pieces = old;
        return false;
    }
    e->cap_pieces = cap ? 2 * cap : 1024;
    for (size_t i = 0; i < cap; i++)
        if (old[i])
            *slot_of(e, old[i]->id) = old[i];
    free(old);
    return true;
}

static bool add_piece(struct remote_engine *e, int32_t id, struct pd_str text, bool part)
{
    struct piece *p = calloc(1, sizeof *p), **slot;

    if (!p || !grow(e) || !(p->text = pd_str_dup(text))) {
        free(p);
        return false;
    }
    slot = slot_of(e, id);
    if (*slot) { /* another job was faster */
        free(p->text);
        free(p);
        return true;
    }
    p->id = id;
    p->part = part;
    p->len = (uint32_t)text.len;
    *slot = p;
    e->n_pieces++;
    return true;
}

void remote_pieces_free(struct remote_engine *e)
{
    for (size_t i = 0; i < e->cap_pieces; i++)
        if (e->pieces[i]) {
            free(e->pieces[i]->text);
            free(e->pieces[i]);
        }
    free(e->pieces);
}

int32_t remote_intern(struct remote_engine *e, struct pd_str text)
{
    int32_t id = (int32_t)(pd_hash64(text.ptr, text.len) & INT32_MAX);
    const struct piece *p;
    bool ok = true;

    pthread_mutex_lock(&e->lock);
    while ((p = find_piece(e, id)) && !pd_str_eq(text, (struct pd_str){p->text, p->len}))
        id = id == INT32_MAX ? 0 : id + 1;
    if (!p)
        ok = add_piece(e, id, text, false);
    pthread_mutex_unlock(&e->lock);
    return ok ? id : REMOTE_NO_TOKEN;
}

/* ---- asking ------------------------------------------------------------------------------------
 */

static void put_detokenize(const struct remote_engine *e, const int32_t *ids, size_t n,
                           struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "model", e->model);
    put_ids(&w, "tokens", ids, n);
    pd_jw_end_object(&w);
}

static const char *detokenized(const struct pd_json *v)
{
    const char *text = pd_json_string(pd_json_get(v, "prompt"));

    text = text ? text : pd_json_string(pd_json_get(v, "content"));
    return text ? text : pd_json_string(pd_json_get(v, "text"));
}

/* Some servers fail on a part of a character, and would again. */
static enum net_verdict end_detokenize(struct net_call *call, enum net_verdict verdict)
{
    return call->status == 500 && strstr(call->err.text, "UTF-8") ? NET_DONE : verdict;
}

/* The text behind the anchor (by itself, as long as there is none). Tokens that are no text, or of
 * which the engine shows none, are shown as U+FFFD. */
static int spell(struct remote_engine *e, const int32_t *const *ids, const size_t *n, size_t count,
                 char **out, struct pd_err *err)
{
    struct net_call *calls = calloc(count, sizeof *calls);
    struct pd_buf *bodies = calloc(count, sizeof *bodies),
                  *replies = calloc(count, sizeof *replies);
    bool anchored = e->anchor != REMOTE_NO_TOKEN;
    int rc = calls && bodies && replies ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");

    for (size_t i = 0; i < count && rc == 0; i++) {
        int32_t *list = malloc((n[i] + 1) * sizeof *list);

        bodies[i] = (struct pd_buf)PD_BUF_INIT(REMOTE_REQUEST_MAX);
        replies[i] = (struct pd_buf)PD_BUF_INIT(NET_BODY_MAX);
        if (list) {
            list[0] = e->anchor;
            memcpy(list + anchored, ids[i], n[i] * sizeof *list);
            put_detokenize(e, list, n[i] + anchored, &bodies[i]);
        }
        if (!list || pd_buf_rc(&bodies[i]) < 0)
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
        free(list);
        calls[i].path = e->dialect->detokenize_path;
        calls[i].body = pd_buf_str(&bodies[i]);
        calls[i].end = end_detokenize;
    }
    if (rc == 0)
        (void)net_calls_wait(e->host, calls, replies, count, NULL);
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct pd_json *v = NULL;
        const char *text = REPLACEMENT;

        if (calls[i].err.code != PD_OK && calls[i].status != 500) {
            rc = calls[i].err.code;
            if (err)
                *err = calls[i].err;
        } else if (calls[i].err.code == PD_OK) {
            rc = pd_json_parse(pd_buf_str(&replies[i]), &v, err);
            text = detokenized(v);
            if (rc == 0 && !text)
                rc = pd_fail(err, PD_EREMOTE, "engine '%s' does not say what a token spells",
                             e->config.name);
            if (rc == 0 && anchored && strncmp(text, e->anchor_text, strlen(e->anchor_text)) == 0)
                text += strlen(e->anchor_text);
        }
        if (rc == 0 && !(out[i] = strdup(text)))
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
        pd_json_free(v);
    }
    for (size_t i = 0; i < count; i++) {
        if (bodies)
            pd_buf_done(&bodies[i]);
        if (replies)
            pd_buf_done(&replies[i]);
    }
    free(calls);
    free(bodies);
    free(replies);
    return rc;
}

/* All of n ids will be in the table. */
static int learn(struct remote_engine *e, const int32_t *ids, size_t n, struct pd_err *err)
{
    const int32_t *missing[ASK_AT_ONCE];
    size_t one[ASK_AT_ONCE], count, i = 0;
    char *texts[ASK_AT_ONCE];
    int rc = 0;

    while (i < n && rc == 0) {
        count = 0;
        pthread_mutex_lock(&e->lock);
        for (; i < n && count < ASK_AT_ONCE; i++) {
            size_t k = 0;

            while (k < count && *missing[k] != ids[i])
                k++;
            if (k == count && !find_piece(e, ids[i])) {
                one[count] = 1;
                texts[count] = NULL;
                missing[count++] = &ids[i];
            }
        }
        pthread_mutex_unlock(&e->lock);
        if (!count)
            break;
        rc = spell(e, missing, one, count, texts, err);
        pthread_mutex_lock(&e->lock);
        for (size_t k = 0; k < count; k++) {
            if (rc == 0 && !add_piece(e, *missing[k], pd_str_of(texts[k]),
                                      strstr(texts[k], REPLACEMENT) != NULL))
                rc = pd_fail(err, PD_ENOMEM, "out of memory");
            free(texts[k]);
        }
        pthread_mutex_unlock(&e->lock);
    }
    return rc;
}

int remote_spell(struct remote_engine *e, int32_t id, struct pd_buf *out, struct pd_err *err)
{
    const struct piece *p;
    int rc = e->dialect->chats ? 0 : learn(e, &id, 1, err);

    pthread_mutex_lock(&e->lock);
    p = rc == 0 ? find_piece(e, id) : NULL;
    if (p)
        pd_buf_add(out, p->text, p->len);
    pthread_mutex_unlock(&e->lock);
    return rc < 0 || p ? rc
                       : pd_fail(err, PD_EINVAL, "token %d is none of engine '%s'", (int)id,
                                 e->config.name);
}

static bool is_part(struct remote_engine *e, int32_t id)
{
    const struct piece *p;
    bool part;

    pthread_mutex_lock(&e->lock);
    p = find_piece(e, id);
    part = p && p->part;
    pthread_mutex_unlock(&e->lock);
    return part;
}

int remote_detokenize(struct remote_engine *e, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err)
{
    int rc = e->dialect->chats ? 0 : learn(e, ids, n, err);

    for (size_t i = 0; i < n && rc == 0;) {
        const struct piece *p;
        size_t run = 0;

        pthread_mutex_lock(&e->lock);
        p = find_piece(e, ids[i]);
        if (p && !p->part)
            pd_buf_add(out, p->text, p->len);
        pthread_mutex_unlock(&e->lock);
        if (!p)
            return pd_fail(err, PD_EINVAL, "token %d is none of engine '%s'", (int)ids[i],
                           e->config.name);
        while (i + run < n && is_part(e, ids[i + run]))
            run++;
        if (run) { /* parts of characters, together */
            const int32_t *from = ids + i;
            char *text = NULL;

            rc = spell(e, &from, &run, 1, &text, err);
            if (rc == 0)
                pd_buf_addz(out, text);
            free(text);
        }
        i += run ? run : 1;
    }
    if (rc == 0 && pd_buf_rc(out) < 0)
        rc = pd_fail(err, pd_buf_rc(out), "no room for a text");
    return rc;
}

int remote_anchor(struct remote_engine *e, struct pd_err *err)
{
    int32_t *ids = NULL;
    const int32_t *last;
    size_t n = 0, one = 1;
    char *text = NULL;
    int rc;

    if (e->anchor != REMOTE_NO_TOKEN)
        return 0;
    rc = remote_tokenize(e, PD_STR("a"), false, false, &ids, &n, err);
    if (rc == 0 && n == 0)
        rc = pd_fail(err, PD_EREMOTE, "engine '%s' has no token for 'a'", e->config.name);
    last = rc == 0 ? &ids[n - 1] : NULL;
    if (rc == 0)
        rc = spell(e, &last, &one, 1, &text, err);
    if (rc == 0) {
        e->anchor_text = text;
        e->anchor = *last;
    }
    free(ids);
    return rc;
}

static int add_ids(const struct remote_engine *e, const struct pd_json *list, int32_t **io_ids,
                   size_t *io_n, struct pd_err *err)
{
    size_t n = pd_json_size(list), at = *io_n;
    int32_t *ids;

    if (!pd_json_is_array(list))
        return pd_fail(err, PD_EREMOTE, "engine '%s' answers without tokens", e->config.name);
    ids = realloc(*io_ids, (at + n + 1) * sizeof *ids);
    if (!ids)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    *io_ids = ids;
    for (const struct pd_json *v = pd_json_first(list); v; v = pd_json_next(v))
        if (!answer_id(v, &ids[at++]))
            return pd_fail(err, PD_EREMOTE, "engine '%s' answers with a token that is none",
                           e->config.name);
    *io_n = at;
    return 0;
}

static int intern_one(struct remote_engine *e, struct pd_str text, int32_t **io_ids, size_t *io_n,
                      struct pd_err *err)
{
    int32_t id = remote_intern(e, text), *ids = realloc(*io_ids, (*io_n + 1) * sizeof *ids);

    if (!ids || id == REMOTE_NO_TOKEN) {
        *io_ids = ids ? ids : *io_ids;
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    ids[(*io_n)++] = id;
    *io_ids = ids;
    return 0;
}

/* Asks for tokens by a body that is given away. */
static int ask_tokens(struct remote_engine *e, const char *path, struct pd_buf *body,
                      int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    struct pd_json *v = NULL;
    int rc = remote_ask(e, path, body, &v, err);

    if (rc == 0)
        rc = add_ids(e, pd_json_get(v, "tokens"), io_ids, io_n, err);
    pd_json_free(v);
    pd_buf_done(body);
    return rc;
}

int remote_tokenize(struct remote_engine *e, struct pd_str text, bool special, bool begins,
                    int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    struct pd_jw w;

    if (text.len == 0)
        return 0;
    if (e->dialect->chats)
        return intern_one(e, text, io_ids, io_n, err);
    pd_jw_init(&w, &body);
    pd_jw_object(&w);
    if (e->dialect == &dialect_llama_server) {
        pd_jw_put_str(&w, "content", text);
        pd_jw_put_bool(&w, "add_special", begins);
        pd_jw_put_bool(&w, "parse_special", special);
    } else {
        pd_jw_put_text(&w, "model", e->model);
        pd_jw_put_str(&w, "prompt", text);
        pd_jw_put_bool(&w, "add_special_tokens", begins);
    }
    pd_jw_end_object(&w);
    return ask_tokens(e, e->dialect->tokenize_path, &body, io_ids, io_n, err);
}

static void put_message(struct pd_jw *w, const struct pd_message *m)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "role", m->role);
    pd_jw_key(w, "content");
    if (m->content.ptr)
        pd_jw_str(w, m->content);
    else
        pd_jw_null(w);
    if (m->reasoning)
        pd_jw_put_text(w, "reasoning_content", m->reasoning);
    if (m->tool_calls) {
        pd_jw_key(w, "tool_calls");
        pd_jw_raw(w, pd_str_of(m->tool_calls));
    }
    if (m->tool_call_id)
        pd_jw_put_text(w, "tool_call_id", m->tool_call_id);
    if (m->name)
        pd_jw_put_text(w, "name", m->name);
    pd_jw_end_object(w);
}

static void put_messages(struct pd_jw *w, const struct pd_chat *c)
{
    pd_jw_array(w);
    for (size_t i = 0; i < c->n_messages; i++)
        put_message(w, &c->messages[i]);
    pd_jw_end_array(w);
}

static void put_chat(const struct remote_engine *e, const struct pd_chat *c, struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "model", e->model);
    pd_jw_key(&w, "messages");
    put_messages(&w, c);
    pd_jw_put_bool(&w, "add_generation_prompt", !c->continue_last);
    pd_jw_put_bool(&w, "continue_final_message", c->continue_last);
    if (c->tools) {
        pd_jw_key(&w, "tools");
        pd_jw_raw(&w, pd_str_of(c->tools));
    }
    if (c->variables) {
        pd_jw_key(&w, "chat_template_kwargs");
        pd_jw_raw(&w, pd_str_of(c->variables));
    }
    pd_jw_end_object(&w);
}

static int chat_as_message(struct remote_engine *e, const struct pd_chat *c, int32_t **io_ids,
                           size_t *io_n, struct pd_err *err)
{
    struct pd_buf messages = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    struct pd_jw w;
    int rc;

    if (c->tools || c->variables || c->continue_last || !c->n_messages) {
        return pd_fail(err, PD_EINVAL,
                       "engine '%s' speaks dialect %s: prompts of text or tokens, tools, template "
                       "variables and answers to be gone on with need another one",
                       e->config.name, e->dialect->name);
    }
    pd_jw_init(&w, &messages);
    put_messages(&w, c);
    rc = pd_buf_rc(&messages) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory")
                                  : intern_one(e, pd_buf_str(&messages), io_ids, io_n, err);
    pd_buf_done(&messages);
    return rc;
}

int remote_chat(struct remote_engine *e, const struct pd_chat *c, int32_t **io_ids, size_t *io_n,
                struct pd_err *err)
{
    struct pd_buf body = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    struct pd_json *v = NULL;
    const char *prompt;
    int rc;

    if (e->dialect->chats)
        return chat_as_message(e, c, io_ids, io_n, err);
    if (!e->dialect->chat_path)
        return pd_fail(err, PD_EINVAL,
                       "engine '%s' speaks dialect %s, which has no route that renders a chat "
                       "template: name one with --chat-template",
                       e->config.name, e->dialect->name);
    put_chat(e, c, &body);
    if (strcmp(e->dialect->chat_path, e->dialect->tokenize_path) == 0)
        return ask_tokens(e, e->dialect->chat_path, &body, io_ids, io_n, err);
    rc = remote_ask(e, e->dialect->chat_path, &body, &v, err);
    prompt = pd_json_string(pd_json_get(v, "prompt"));
    if (rc == 0 && !prompt)
        rc = pd_fail(err, PD_EREMOTE, "engine '%s' renders no prompt", e->config.name);
    if (rc == 0)
        rc = remote_tokenize(e, pd_str_of(prompt), true, true, io_ids, io_n, err);
    pd_json_free(v);
    pd_buf_done(&body);
    return rc;
}

/* Anthropic's POST /v1/messages, in messages and texts. No ids, log-probabilities or seeds are told
 * or taken: whole answers can be drawn and compared, as by openai.c. What the system is told stands
 * beside the messages there, and thinking is not shown. */
#include <stdlib.h>

#include "remote/remote_int.h"

static int probe(struct remote_engine *e, struct pd_err *err)
{
    e->eos = remote_intern(e, PD_STR(""));
    if (e->eos == REMOTE_NO_TOKEN)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    return e->config.model ? 0 : remote_list_models(e, err);
}

static bool is_system(const struct pd_json *message)
{
    const char *role = pd_json_string(pd_json_get(message, "role"));

    return role && strcmp(role, "system") == 0;
}

static void put_messages(struct pd_jw *w, const struct pd_json *messages)
{
    struct pd_buf system = PD_BUF_INIT(REMOTE_REQUEST_MAX);

    pd_jw_key(w, "messages");
    pd_jw_array(w);
    for (const struct pd_json *m = pd_json_first(messages); m; m = pd_json_next(m)) {
        const char *text = pd_json_string(pd_json_get(m, "content"));

        if (is_system(m))
            pd_buf_printf(&system, "%s%s", system.len ? "\n\n" : "", text ? text : "");
        else
            pd_jw_value(w, m);
    }
    pd_jw_end_array(w);
    if (system.len) {
        pd_jw_put_str(w, "system", pd_buf_str(&system));
    }
    if (pd_buf_rc(&system) < 0)
        w->out->rc = pd_buf_rc(&system);
    pd_buf_done(&system);
}

static void put_ask(const struct remote_engine *e, const struct ask *a, struct pd_jw *w)
{
    struct pd_buf text = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    struct remote_engine *words = (struct remote_engine *)(uintptr_t)e; /* whose lock is taken */
    struct pd_json *messages = NULL;

    pd_jw_put_text(w, "model", e->model);
    if (remote_detokenize(words, a->ids, 1, &text, NULL) == 0 &&
        pd_json_parse(pd_buf_str(&text), &messages, NULL) == 0)
        put_messages(w, messages);
    pd_json_free(messages);
    pd_buf_done(&text);
    pd_jw_put_int(w, "max_tokens", a->max_tokens);
    pd_jw_put_double(w, "temperature", a->sampling->temperature);
    if (a->sampling->top_p < 1) /* newer models take one of the two */
        pd_jw_put_double(w, "top_p", a->sampling->top_p);
    put_stops(w, "stop_sequences", a->stops);
    pd_jw_put_bool(w, "stream", true);
}

static void count(const struct pd_json *v, uint64_t *out)
{
    int64_t n;

    if (pd_json_int(v, &n) && n >= 0)
        *out = (uint64_t)n;
}

static int take_text(struct answer *a, const struct pd_json *delta)
{
    const char *text = pd_json_string(pd_json_get(delta, "text"));
    int32_t id;

    if (!text || !*text)
        return 0;
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it goes on behind its end");
    id = remote_intern(a->engine, pd_str_of(text));
    if (id == REMOTE_NO_TOKEN)
        return pd_fail(a->err, PD_ENOMEM, "out of memory");
    pd_buf_addz(&a->text, text);
    return answer_token(a, id, 0);
}

static int take_end(struct answer *a, const char *reason)
{
    if (!reason)
        return 0;
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it ends twice");
    a->end = strcmp(reason, "end_turn") == 0 || strcmp(reason, "stop_sequence") == 0
                 ? ANSWER_STOPPED
             : strcmp(reason, "max_tokens") == 0 ? ANSWER_LENGTH
                                                 : ANSWER_OPEN;
    return a->end == ANSWER_OPEN ? answer_nonsense(a, "something else than its text ended it") : 0;
}

static int take(struct answer *a, const struct pd_json *v)
{
    const char *type = pd_json_string(pd_json_get(v, "type"));
    const struct pd_json *usage = pd_json_get(v, "usage"), *delta = pd_json_get(v, "delta");
    int rc = answer_error(a, v);

    if (rc < 0)
        return rc;
    if (!type)
        return answer_nonsense(a, "a part of it has no type");
    if (strcmp(type, "message_start") == 0) {
        usage = pd_json_get(pd_json_get(v, "message"), "usage");
        a->counted = usage != NULL;
        count(pd_json_get(usage, "input_tokens"), &a->n_prompt);
        count(pd_json_get(usage, "cache_read_input_tokens"), &a->n_cached);
        a->n_prompt += a->n_cached; /* which are counted apart */
        return 0;
    }
    if (strcmp(type, "content_block_delta") == 0)
        return take_text(a, delta);
    if (strcmp(type, "message_delta") != 0)
        return 0;
    count(pd_json_get(usage, "output_tokens"), &a->n_generated);
    return take_end(a, pd_json_string(pd_json_get(delta, "stop_reason")));
}

const struct dialect dialect_anthropic = {
    .name = "anthropic",
    .chats = true,
    .no_seeds = true,
    .key_header = "x-api-key",
    .header = "anthropic-version: 2023-06-01",
    .generate_path = "/v1/messages",
    .probe = probe,
    .put_ask = put_ask,
    .take = take,
};

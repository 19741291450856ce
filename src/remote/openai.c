/* OpenAI and what follows it: POST /v1/chat/completions, in messages and texts. No ids are told, so
 * the pieces of text that come are tokens of their own: whole answers can be drawn and compared,
 * but a line of thought cannot be gone on with. */
#include <stdio.h>
#include <stdlib.h>

#include "remote/remote_int.h"

static int probe(struct remote_engine *e, struct pd_err *err)
{
    e->eos = remote_intern(e, PD_STR(""));
    if (e->eos == REMOTE_NO_TOKEN)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    return e->config.model ? 0 : remote_list_models(e, err);
}

static void put_ask(const struct remote_engine *e, const struct ask *a, struct pd_jw *w)
{
    const struct pd_sampling *s = a->sampling;
    struct pd_buf messages = PD_BUF_INIT(REMOTE_REQUEST_MAX);
    struct remote_engine *words = (struct remote_engine *)(uintptr_t)e; /* whose lock is taken */

    pd_jw_put_text(w, "model", e->model);
    pd_jw_key(w, "messages");
    if (remote_detokenize(words, a->ids, 1, &messages, NULL) == 0)
        pd_jw_raw(w, pd_buf_str(&messages));
    pd_buf_done(&messages);
    pd_jw_put_int(w, atomic_load(&e->new_name) ? "max_completion_tokens" : "max_tokens",
                  a->max_tokens);
    pd_jw_put_int(w, "n", 1);
    pd_jw_put_int(w, "seed", (int64_t)(a->key >> 11));
    pd_jw_put_double(w, "temperature", s->temperature);
    pd_jw_put_double(w, "top_p", s->top_p);
    pd_jw_put_bool(w, "logprobs", true);
    put_stops(w, "stop", a->stops);
    pd_jw_put_bool(w, "stream", true);
    pd_jw_key(w, "stream_options");
    pd_jw_object(w);
    pd_jw_put_bool(w, "include_usage", true);
    pd_jw_end_object(w);
}

static int add_piece(struct answer *a, struct pd_str text, double logprob)
{
    int32_t id = remote_intern(a->engine, text);

    if (id == REMOTE_NO_TOKEN)
        return pd_fail(a->err, PD_ENOMEM, "out of memory");
    return answer_token(a, id, logprob);
}

static int take_delta(struct answer *a, const struct pd_json *choice)
{
    const struct pd_json *list = pd_json_get(pd_json_get(choice, "logprobs"), "content");
    const char *text = pd_json_string(pd_json_get(pd_json_get(choice, "delta"), "content"));
    int rc = 0;

    pd_buf_addz(&a->text, text ? text : "");
    if (pd_json_size(list) == 0) /* it tells none: the piece as it came */
        return text && *text ? add_piece(a, pd_str_of(text), 0) : 0;
    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v)) {
        const char *token = pd_json_string(pd_json_get(v, "token"));
        double p;

        if (!token || !pd_json_number(pd_json_get(v, "logprob"), &p))
            return answer_nonsense(a, "a token is no token");
        rc = add_piece(a, pd_str_of(token), p);
    }
    return rc;
}

static int take(struct answer *a, const struct pd_json *v)
{
    const struct pd_json *choice;
    const char *finish;
    char what[96];
    int rc = answer_one_choice(a, v, &choice);

    if (rc < 0 || !choice)
        return rc;
    finish = pd_json_string(pd_json_get(choice, "finish_reason"));
    rc = take_delta(a, choice);
    if (rc < 0 || !finish)
        return rc;
    snprintf(what, sizeof what, "it was ended by '%.40s'", finish);
    a->end = strcmp(finish, "stop") == 0     ? ANSWER_STOPPED
             : strcmp(finish, "length") == 0 ? ANSWER_LENGTH
                                             : ANSWER_OPEN;
    return a->end == ANSWER_OPEN ? answer_nonsense(a, what) : 0;
}

const struct dialect dialect_openai = {
    .name = "openai",
    .chats = true,
    .generate_path = "/v1/chat/completions",
    .probe = probe,
    .put_ask = put_ask,
    .take = take,
};

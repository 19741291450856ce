/* What the dialects share: members of requests, and answers in the shapes that several engines use.
 * Answers are read on the HTTP client's thread. */
#include <stdio.h>

#include "remote/remote_int.h"

/* ---- requests ------------------------------------------------------------------------------- */

void put_ids(struct pd_jw *w, const char *key, const int32_t *ids, size_t n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        pd_jw_int(w, ids[i]);
    pd_jw_end_array(w);
}

void put_stops(struct pd_jw *w, const char *key, const char *const *stops)
{
    if (!stops[0])
        return;
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (; *stops; stops++)
        pd_jw_strz(w, *stops);
    pd_jw_end_array(w);
}

void put_bias(struct pd_jw *w, const struct pd_sampling *s)
{
    char id[16];

    if (!s->n_bias)
        return;
    pd_jw_key(w, "logit_bias");
    pd_jw_object(w);
    for (size_t i = 0; i < s->n_bias; i++) {
        snprintf(id, sizeof id, "%d", (int)s->bias[i].token);
        pd_jw_put_double(w, id, (double)s->bias[i].bias);
    }
    pd_jw_end_object(w);
}

/* ---- answers -------------------------------------------------------------------------------- */

int answer_nonsense(struct answer *a, const char *what)
{
    a->again = true;
    return pd_fail(a->err, PD_EREMOTE, "its answer makes no sense: %s", what);
}

int answer_token(struct answer *a, int32_t id, double logprob)
{
    unsigned n = atomic_load_explicit(a->n, memory_order_relaxed);

    if (n >= a->max)
        return answer_nonsense(a, "it has more tokens than were asked for");
    a->ids[n] = id;
    a->logprobs[n] = (float)logprob;
    atomic_store_explicit(a->n, n + 1, memory_order_release);
    return 0;
}

bool answer_id(const struct pd_json *v, int32_t *out)
{
    int64_t id;

    if (!pd_json_int(v, &id) || id < 0 || id > INT32_MAX)
        return false;
    *out = (int32_t)id;
    return true;
}

static bool passes(const char *code)
{
    static const char *const again[] = {"408",
                                        "425",
                                        "429",
                                        "500",
                                        "502",
                                        "503",
                                        "504",
                                        "529",
                                        "server_error",
                                        "InternalServerError",
                                        "internal",
                                        "unavailable_error",
                                        "api_error",
                                        "overloaded_error",
                                        "timeout_error",
                                        "rate_limit_exceeded",
                                        "rate_limit_error"};

    for (size_t i = 0; i < sizeof again / sizeof *again; i++)
        if (strcmp(again[i], code) == 0)
            return true;
    return false;
}

int answer_error(struct answer *a, const struct pd_json *v)
{
    const struct pd_json *e = pd_json_get(v, "error");
    const char *object = pd_json_string(pd_json_get(v, "object"));
    struct pd_buf body = PD_BUF_INIT(1 << 20), text = PD_BUF_INIT(1 << 16);
    char code[NET_CODE_MAX];
    struct pd_jw w;
    bool quota;

    if ((!e || pd_json_is_null(e)) && !pd_json_get(v, "detail") &&
        !(object && strcmp(object, "error") == 0))
        return 0;
    pd_jw_init(&w, &body);
    pd_jw_value(&w, v);
    net_error_text(pd_buf_str(&body), &text, code);
    net_host_redact(a->engine->host, &text);
    quota = strcmp(code, "insufficient_quota") == 0;
    a->again = passes(code);
    pd_fail(a->err, quota ? PD_EPERM : PD_EREMOTE, "it broke off: %s", pd_buf_str(&text).ptr);
    pd_buf_done(&body);
    pd_buf_done(&text);
    return a->err->code;
}

int top_lacks(const struct remote_engine *e, size_t n_top, int32_t label, struct pd_err *err)
{
    return pd_fail(
        err, PD_EREMOTE,
        "engine '%s' tells the likeliest %zu next tokens, and token %d is not among them",
        e->config.name, n_top, (int)label);
}

static void count(const struct pd_json *v, uint64_t *out)
{
    int64_t n;

    if (pd_json_int(v, &n) && n >= 0)
        *out = (uint64_t)n;
}

void answer_usage(struct answer *a, const struct pd_json *usage)
{
    if (!pd_json_is_object(usage))
        return;
    a->counted = true;
    count(pd_json_get(usage, "prompt_tokens"), &a->n_prompt);
    count(pd_json_get(usage, "completion_tokens"), &a->n_generated);
    count(pd_json_get(pd_json_get(usage, "prompt_tokens_details"), "cached_tokens"), &a->n_cached);
}

static int take_finish(struct answer *a, const struct pd_json *choice)
{
    const char *finish = pd_json_string(pd_json_get(choice, "finish_reason"));
    const struct pd_json *stop = pd_json_get(choice, "stop_reason");
    char what[96];

    if (!finish)
        return 0;
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it ends twice");
    if (strcmp(finish, "length") == 0) {
        a->end = ANSWER_LENGTH;
    } else if (strcmp(finish, "stop") == 0) {
        /* null or a token: an end token; a text: a stop string; not there: who knows */
        a->end = !stop || pd_json_string(stop) ? ANSWER_STOPPED : ANSWER_EOS;
    } else {
        snprintf(what, sizeof what, "it was ended by '%.40s'", finish);
        return answer_nonsense(a, what);
    }
    return 0;
}

/* vLLM: ids in one list, log-probabilities in another. */
static int take_lists(struct answer *a, const struct pd_json *ids, const struct pd_json *logprobs)
{
    const struct pd_json *lp = pd_json_first(logprobs), *v = pd_json_first(ids);
    int rc = 0;

    if (pd_json_size(ids) != pd_json_size(logprobs))
        return answer_nonsense(a, "it has not one log-probability for each token");
    for (; v && rc == 0; v = pd_json_next(v), lp = pd_json_next(lp)) {
        int32_t id;
        double p;

        if (!answer_id(v, &id) || !pd_json_number(lp, &p))
            return answer_nonsense(a, "a token is no token");
        rc = answer_token(a, id, p);
    }
    return rc;
}

/* llama-server: a list of tokens with all of their own. */
static int take_tokens(struct answer *a, const struct pd_json *list)
{
    int rc = 0;

    for (const struct pd_json *v = pd_json_first(list); v && rc == 0; v = pd_json_next(v)) {
        int32_t id;
        double p;

        if (!answer_id(pd_json_get(v, "id"), &id) || !pd_json_number(pd_json_get(v, "logprob"), &p))
            return answer_nonsense(a, "a token has no id or no log-probability");
        rc = answer_token(a, id, p);
    }
    return rc;
}

int answer_one_choice(struct answer *a, const struct pd_json *v, const struct pd_json **out)
{
    const struct pd_json *choices = pd_json_get(v, "choices"), *choice = pd_json_first(choices);
    int64_t index;
    int rc = answer_error(a, v);

    *out = NULL;
    if (rc < 0)
        return rc;
    answer_usage(a, pd_json_get(v, "usage"));
    if (!choice)
        return pd_json_is_array(choices) ? 0 : answer_nonsense(a, "it has no choices");
    if (pd_json_size(choices) != 1 ||
        (pd_json_int(pd_json_get(choice, "index"), &index) && index != 0))
        return answer_nonsense(a, "one choice was asked for, and there are more");
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it goes on behind its end");
    *out = choice;
    return 0;
}

int answer_choice(struct answer *a, const struct pd_json *v)
{
    const struct pd_json *choice, *logprobs, *ids;
    const char *text;
    int rc = answer_one_choice(a, v, &choice);

    if (rc < 0 || !choice)
        return rc;
    logprobs = pd_json_get(choice, "logprobs");
    ids = pd_json_get(choice, "token_ids");
    text = pd_json_string(pd_json_get(choice, "text"));
    pd_buf_addz(&a->text, text ? text : "");
    if (pd_json_is_array(ids))
        rc = take_lists(a, ids, pd_json_get(logprobs, "token_logprobs"));
    else if (pd_json_is_array(pd_json_get(logprobs, "content")))
        rc = take_tokens(a, pd_json_get(logprobs, "content"));
    else if (text && *text)
        rc = answer_nonsense(a, "it tells no token ids (vLLM does from version 0.10.2 on)");
    return rc < 0 ? rc : take_finish(a, choice);
}

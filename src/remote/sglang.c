/* SGLang: its own POST /generate. What it streams is everything so far, each time, unless it was
 * started to send what is new: the count of tokens tells which. It takes no seeds. */
#include "remote/remote_int.h"

static int probe(struct remote_engine *e, struct pd_err *err)
{
    struct pd_json *v = NULL;
    int64_t n = 0;
    int rc = remote_list_models(e, err);

    if (rc == 0 && e->n_ctx == REMOTE_CTX_MAX &&
        remote_ask(e, "/get_server_info", NULL, &v, NULL) == 0 &&
        pd_json_int(pd_json_get(v, "context_length"), &n) && n > 0 && n < REMOTE_CTX_MAX)
        e->n_ctx = (uint32_t)n;
    pd_json_free(v);
    return rc;
}

static void put_ask(const struct remote_engine *e, const struct ask *a, struct pd_jw *w)
{
    const struct pd_sampling *s = a->sampling;

    (void)e;
    put_ids(w, "input_ids", a->ids, a->n_ids);
    pd_jw_key(w, "sampling_params");
    pd_jw_object(w);
    pd_jw_put_int(w, "max_new_tokens", a->max_tokens);
    pd_jw_put_double(w, "temperature", s->temperature);
    pd_jw_put_double(w, "top_p", s->top_p);
    pd_jw_put_int(w, "top_k", s->top_k ? s->top_k : -1);
    pd_jw_put_double(w, "min_p", s->min_p);
    pd_jw_put_double(w, "repetition_penalty", 1);
    pd_jw_put_double(w, "presence_penalty", 0);
    pd_jw_put_double(w, "frequency_penalty", 0);
    put_bias(w, s);
    put_stops(w, "stop", a->stops);
    pd_jw_put_bool(w, "no_stop_trim", true);
    pd_jw_put_bool(w, "skip_special_tokens", false);
    pd_jw_end_object(w);
    pd_jw_put_bool(w, "return_logprob", true);
    pd_jw_put_int(w, "logprob_start_len", -1);
    pd_jw_put_int(w, "top_logprobs_num", a->n_top);
    pd_jw_put_bool(w, "stream", !a->n_top);
}

static int take_finish(struct answer *a, const struct pd_json *finish)
{
    const char *type = pd_json_string(pd_json_get(finish, "type"));
    const char *message = pd_json_string(pd_json_get(finish, "message"));
    const struct pd_json *matched = pd_json_get(finish, "matched");
    int32_t id;

    if (!finish || pd_json_is_null(finish))
        return 0;
    if (type && strcmp(type, "abort") == 0) {
        a->again = true;
        return pd_fail(a->err, PD_EREMOTE, "it broke off: %.256s", message ? message : "abort");
    }
    a->end = !type                         ? ANSWER_OPEN
             : strcmp(type, "length") == 0 ? ANSWER_LENGTH
             : strcmp(type, "stop") != 0   ? ANSWER_OPEN
             : answer_id(matched, &id)     ? ANSWER_EOS
                                           : ANSWER_STOPPED;
    return a->end == ANSWER_OPEN ? answer_nonsense(a, "it does not say what ended it") : 0;
}

/* ids and probs: of all tokens so far, or of the new ones; total: how many there are by now. */
static int take_tokens(struct answer *a, const struct pd_json *ids, const struct pd_json *probs,
                       size_t total)
{
    size_t n = atomic_load(a->n), n_ids = pd_json_size(ids), at;
    const struct pd_json *v = pd_json_first(ids), *lp = pd_json_first(probs);

    if (n_ids == total && n <= total)
        at = 0;
    else if (n + n_ids == total)
        at = n;
    else
        return answer_nonsense(a, "the number of its tokens does not add up");
    if (pd_json_size(probs) != n_ids)
        return answer_nonsense(a, "it has not one log-probability for each token");
    for (; v; v = pd_json_next(v), lp = pd_json_next(lp), at++) { /* lp: [logprob, id, text] */
        int32_t id, of;
        double p;
        int rc;

        if (!answer_id(v, &id) || !answer_id(pd_json_at(lp, 1), &of) || of != id ||
            !pd_json_number(pd_json_at(lp, 0), &p))
            return answer_nonsense(a, "a token is no token");
        if (at < n && id != a->ids[at])
            return answer_nonsense(a, "it changes what it had said");
        rc = at < n ? 0 : answer_token(a, id, p);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take(struct answer *a, const struct pd_json *v)
{
    const struct pd_json *meta = pd_json_get(v, "meta_info");
    int64_t total = 0, n;
    int rc = answer_error(a, v);

    if (rc < 0)
        return rc;
    if (!meta)
        return answer_nonsense(a, pd_json_is_array(v)
                                      ? "one choice was asked for, and there are more"
                                      : "it has no meta_info");
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it goes on behind its end");
    a->counted = true;
    if (pd_json_int(pd_json_get(meta, "prompt_tokens"), &n) && n >= 0)
        a->n_prompt = (uint64_t)n;
    if (pd_json_int(pd_json_get(meta, "cached_tokens"), &n) && n >= 0)
        a->n_cached = (uint64_t)n;
    if (!pd_json_int(pd_json_get(meta, "completion_tokens"), &total) || total < 0)
        return answer_nonsense(a, "it does not count its tokens");
    a->n_generated = (uint64_t)total;
    rc = take_tokens(a, pd_json_get(v, "output_ids"), pd_json_get(meta, "output_token_logprobs"),
                     (size_t)total);
    return rc < 0 ? rc : take_finish(a, pd_json_get(meta, "finish_reason"));
}

static int take_top(const struct remote_engine *e, const struct pd_json *v, const int32_t *labels,
                    uint32_t n_labels, float *out, struct pd_err *err)
{
    const struct pd_json *top =
        pd_json_at(pd_json_get(pd_json_get(v, "meta_info"), "output_top_logprobs"), 0);

    for (uint32_t k = 0; k < n_labels; k++) {
        bool found = false;

        for (const struct pd_json *t = pd_json_first(top); t && !found; t = pd_json_next(t)) {
            int32_t id;
            double p;

            found = answer_id(pd_json_at(t, 1), &id) && id == labels[k] &&
                    pd_json_number(pd_json_at(t, 0), &p);
            if (found)
                out[k] = (float)p;
        }
        if (!found)
            return top_lacks(e, pd_json_size(top), labels[k], err);
    }
    return 0;
}

const struct dialect dialect_sglang = {
    .name = "sglang",
    .no_seeds = true,
    .n_top_max = 256,
    .generate_path = "/generate",
    .tokenize_path = "/tokenize",
    .detokenize_path = "/detokenize",
    .probe = probe,
    .put_ask = put_ask,
    .take = take,
    .take_top = take_top,
};

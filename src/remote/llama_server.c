/* llama-server: its own POST /completion, which tells ids and log-probabilities. Older builds and
 * their relatives tell no ids there but on their OpenAI route: the probe finds out. */
#include <stdio.h>
#include <stdlib.h>

#include "remote/remote_int.h"

/* One token, to see what comes with it. */
static int probe_ids(struct remote_engine *e, struct pd_err *err)
{
    static const char body[] = "{\"prompt\":[%d],\"n_predict\":1,\"temperature\":0,\"n_probs\":1,"
                               "\"return_tokens\":true,\"cache_prompt\":true,\"stream\":false}";
    struct pd_buf b = PD_BUF_INIT(4096);
    struct pd_json *v = NULL;
    int rc;

    pd_buf_printf(&b, body, (int)e->anchor);
    rc = remote_ask(e, "/completion", &b, &v, err);
    if (rc == 0)
        e->by_openai = pd_json_size(pd_json_get(v, "tokens")) != 1;
    pd_json_free(v);
    pd_buf_done(&b);
    return rc;
}

static int probe(struct remote_engine *e, struct pd_err *err)
{
    struct pd_json *v = NULL;
    const struct pd_json *settings;
    const char *eos;
    int64_t n = 0;
    int rc = remote_list_models(e, err);

    if (rc == 0)
        rc = remote_ask(e, "/props", NULL, &v, err);
    settings = pd_json_get(v, "default_generation_settings");
    if (rc == 0 && pd_json_int(pd_json_get(settings, "n_ctx"), &n) && n > 0)
        e->n_ctx = (uint32_t)(n < REMOTE_CTX_MAX ? n : REMOTE_CTX_MAX);
    eos = pd_json_string(pd_json_get(v, "eos_token"));
    if (rc == 0 && eos && *eos) {
        int32_t *ids = NULL;
        size_t n_ids = 0;

        rc = remote_tokenize(e, pd_str_of(eos), true, false, &ids, &n_ids, err);
        e->eos = rc == 0 && n_ids == 1 ? ids[0] : REMOTE_NO_TOKEN;
        free(ids);
    }
    pd_json_free(v);
    if (rc == 0)
        rc = remote_anchor(e, err);
    return rc < 0 ? rc : probe_ids(e, err);
}

static void put_ask(const struct remote_engine *e, const struct ask *a, struct pd_jw *w)
{
    static const char *const samplers[] = {"top_k", "top_p", "min_p", "temperature", NULL};
    const struct pd_sampling *s = a->sampling;

    put_ids(w, "prompt", a->ids, a->n_ids);
    pd_jw_put_int(w, e->by_openai ? "max_tokens" : "n_predict", a->max_tokens);
    pd_jw_put_int(w, "seed", (int64_t)(a->key >> 33)); /* 31 bits: all ones would mean any */
    pd_jw_put_double(w, "temperature", s->temperature);
    pd_jw_put_int(w, "top_k", s->top_k);
    pd_jw_put_double(w, "top_p", s->top_p);
    pd_jw_put_double(w, "min_p", s->min_p);
    pd_jw_put_double(w, "typical_p", 1);
    pd_jw_put_double(w, "repeat_penalty", 1);
    pd_jw_put_double(w, "presence_penalty", 0);
    pd_jw_put_double(w, "frequency_penalty", 0);
    put_stops(w, "samplers", samplers);
    if (s->n_bias) {
        pd_jw_key(w, "logit_bias");
        pd_jw_array(w);
        for (size_t i = 0; i < s->n_bias; i++) {
            pd_jw_array(w);
            pd_jw_int(w, s->bias[i].token);
            pd_jw_double(w, (double)s->bias[i].bias);
            pd_jw_end_array(w);
        }
        pd_jw_end_array(w);
    }
    put_stops(w, "stop", a->stops);
    pd_jw_put_int(w, e->by_openai ? "logprobs" : "n_probs", a->n_top ? a->n_top : 1);
    pd_jw_put_bool(w, "cache_prompt", true);
    pd_jw_put_bool(w, "return_tokens", true);
    pd_jw_put_bool(w, "stream", !a->n_top);
    if (e->by_openai && !a->n_top) {
        pd_jw_key(w, "stream_options");
        pd_jw_object(w);
        pd_jw_put_bool(w, "include_usage", true);
        pd_jw_end_object(w);
    }
}

static void take_counts(struct answer *a, const struct pd_json *v)
{
    int64_t n;

    a->counted = true;
    if (pd_json_int(pd_json_get(v, "tokens_evaluated"), &n) && n >= 0)
        a->n_prompt = (uint64_t)n;
    if (pd_json_int(pd_json_get(v, "tokens_predicted"), &n) && n >= 0)
        a->n_generated = (uint64_t)n;
    if (pd_json_int(pd_json_get(pd_json_get(v, "timings"), "cache_n"), &n) && n >= 0)
        a->n_cached = (uint64_t)n;
}

static int take_end(struct answer *a, const struct pd_json *v)
{
    const char *type = pd_json_string(pd_json_get(v, "stop_type"));
    bool truncated = false;

    pd_json_bool(pd_json_get(v, "truncated"), &truncated);
    if (truncated)
        return answer_nonsense(a, "it dropped a part of the prompt");
    take_counts(a, v);
    a->end = !type                        ? ANSWER_STOPPED
             : strcmp(type, "eos") == 0   ? ANSWER_EOS
             : strcmp(type, "limit") == 0 ? ANSWER_LENGTH
             : strcmp(type, "word") == 0  ? ANSWER_STOPPED
                                          : ANSWER_OPEN;
    return a->end == ANSWER_OPEN ? answer_nonsense(a, "it does not say what ended it") : 0;
}

static int take(struct answer *a, const struct pd_json *v)
{
    const struct pd_json *tokens = pd_json_get(v, "tokens"),
                         *probs = pd_json_get(v, "completion_probabilities");
    const char *text = pd_json_string(pd_json_get(v, "content"));
    bool stop = false;
    int rc = answer_error(a, v);

    if (rc < 0)
        return rc;
    if (a->engine->by_openai)
        return answer_choice(a, v);
    if (a->end != ANSWER_OPEN)
        return answer_nonsense(a, "it goes on behind its end");
    if (!pd_json_bool(pd_json_get(v, "stop"), &stop))
        return answer_nonsense(a, "a part of it has no member 'stop'");
    pd_buf_addz(&a->text, text ? text : "");
    if (!stop && pd_json_size(tokens) != pd_json_size(probs))
        return answer_nonsense(a, "it has not one log-probability for each token");
    for (size_t i = 0; i < pd_json_size(tokens) && rc == 0 && !stop; i++) {
        int32_t id;
        double p;

        if (!answer_id(pd_json_at(tokens, i), &id) ||
            !pd_json_number(pd_json_get(pd_json_at(probs, i), "logprob"), &p))
            return answer_nonsense(a, "a token is no token");
        rc = answer_token(a, id, p);
    }
    return rc < 0 || !stop ? rc : take_end(a, v);
}

static int take_top(const struct remote_engine *e, const struct pd_json *v, const int32_t *labels,
                    uint32_t n_labels, float *out, struct pd_err *err)
{
    const struct pd_json *choice = pd_json_at(pd_json_get(v, "choices"), 0);
    const struct pd_json *list = e->by_openai
                                     ? pd_json_get(pd_json_get(choice, "logprobs"), "content")
                                     : pd_json_get(v, "completion_probabilities");
    const struct pd_json *top = pd_json_get(pd_json_at(list, 0), "top_logprobs");

    for (uint32_t k = 0; k < n_labels; k++) {
        bool found = false;

        for (const struct pd_json *t = pd_json_first(top); t && !found; t = pd_json_next(t)) {
            int32_t id;
            double p;

            found = answer_id(pd_json_get(t, "id"), &id) && id == labels[k] &&
                    pd_json_number(pd_json_get(t, "logprob"), &p);
            if (found)
                out[k] = (float)p;
        }
        if (!found)
            return top_lacks(e, pd_json_size(top), labels[k], err);
    }
    return 0;
}

const struct dialect dialect_llama_server = {
    .name = "llama-server",
    .n_top_max = 256,
    .generate_path = "/completion",
    .chat_path = "/apply-template",
    .tokenize_path = "/tokenize",
    .detokenize_path = "/detokenize",
    .probe = probe,
    .put_ask = put_ask,
    .take = take,
    .take_top = take_top,
};

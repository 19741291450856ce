/* vLLM: POST /v1/completions with token ids in and out. */
#include <stdio.h>
#include <stdlib.h>

#include "remote/remote_int.h"

static int probe(struct remote_engine *e, struct pd_err *err)
{
    return remote_list_models(e, err);
}

static void put_ask(const struct remote_engine *e, const struct ask *a, struct pd_jw *w)
{
    const struct pd_sampling *s = a->sampling;

    pd_jw_put_text(w, "model", e->model);
    put_ids(w, "prompt", a->ids, a->n_ids);
    pd_jw_put_int(w, "max_tokens", a->max_tokens);
    pd_jw_put_int(w, "n", 1);
    pd_jw_put_int(w, "seed", (int64_t)a->key); /* all of it: it reads integers of 64 bits */
    pd_jw_put_double(w, "temperature", s->temperature);
    pd_jw_put_double(w, "top_p", s->top_p);
    pd_jw_put_int(w, "top_k", s->top_k);
    pd_jw_put_double(w, "min_p", s->min_p);
    pd_jw_put_double(w, "repetition_penalty", 1);
    pd_jw_put_double(w, "presence_penalty", 0);
    pd_jw_put_double(w, "frequency_penalty", 0);
    put_bias(w, s);
    put_stops(w, "stop", a->stops);
    pd_jw_put_bool(w, "include_stop_str_in_output", true);
    pd_jw_put_bool(w, "skip_special_tokens", false);
    pd_jw_put_bool(w, "spaces_between_special_tokens", false);
    pd_jw_put_bool(w, "add_special_tokens", false);
    pd_jw_put_int(w, "logprobs", a->n_top);
    pd_jw_put_bool(w, "return_token_ids", true);
    pd_jw_put_bool(w, "return_tokens_as_token_ids", a->n_top > 0);
    pd_jw_put_bool(w, "stream", !a->n_top);
    if (!a->n_top) {
        pd_jw_key(w, "stream_options");
        pd_jw_object(w);
        pd_jw_put_bool(w, "include_usage", true);
        pd_jw_end_object(w);
    }
}

/* {"token_id:17": -0.4, …} */
static int take_top(const struct remote_engine *e, const struct pd_json *v, const int32_t *labels,
                    uint32_t n_labels, float *out, struct pd_err *err)
{
    const struct pd_json *choice = pd_json_at(pd_json_get(v, "choices"), 0);
    const struct pd_json *top =
        pd_json_at(pd_json_get(pd_json_get(choice, "logprobs"), "top_logprobs"), 0);

    for (uint32_t k = 0; k < n_labels; k++) {
        char key[32];
        double p;

        snprintf(key, sizeof key, "token_id:%d", (int)labels[k]);
        if (!pd_json_number(pd_json_get(top, key), &p))
            return top_lacks(e, pd_json_size(top), labels[k], err);
        out[k] = (float)p;
    }
    return 0;
}

const struct dialect dialect_vllm = {
    .name = "vllm",
    .n_top_max = 20, /* what it is started with, unless told otherwise */
    .generate_path = "/v1/completions",
    .chat_path = "/tokenize",
    .tokenize_path = "/tokenize",
    .detokenize_path = "/detokenize",
    .probe = probe,
    .put_ask = put_ask,
    .take = answer_choice,
    .take_top = take_top,
};

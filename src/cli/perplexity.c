/* `ponder bench --perplexity`: how well a model foretells a text, exp of the mean negative
 * log-probability of its tokens.
 *
 * The text is cut into chunks of --ctx tokens, each a context of its own; the tokens of the second
 * half of each are counted, so that every one of them has at least half a chunk before it. What is
 * left over at the end is not counted. Where the vocabulary wants a BOS token before a text, it
 * takes the place of each chunk's first. That is how llama-perplexity counts, so that the figures
 * compare. The error is the standard error of the mean, times the perplexity. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>

struct sums {
    uint64_t n_chunks, n_tokens;
    double nll, nll2; /* of the tokens: sum, sum of squares */
};

static void add_tokens(struct sums *s, const float *logprobs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double nll = -(double)logprobs[i];

        s->nll += nll;
        s->nll2 += nll * nll;
    }
    s->n_tokens += n;
    s->n_chunks++;
}

static int score_chunk(struct eng *e, struct eng_model *m, const int32_t *ids, size_t n,
                       struct sums *s, struct pd_err *err)
{
    struct eng_req req = {.op = ENG_SCORE, .want_logprobs = true}, *reqs[] = {&req};
    size_t first = n / 2 + 1;
    int rc = eng_ctx_new(e, m, &req.ctx, err);

    if (rc < 0)
        return rc;
    rc = eng_ctx_append(req.ctx, ids, n, err);
    if (rc == 0)
        rc = eng_run(e, reqs, 1, err);
    if (rc == 0 && req.finish == ENG_FINISH_ERROR) {
        *err = req.err;
        rc = (int)req.err.code;
    }
    if (rc == 0)
        add_tokens(s, req.logprobs + first, n - first);
    eng_req_done(&req);
    eng_ctx_free(req.ctx);
    return rc;
}

static int score(const struct cli *cli, struct eng *e, struct eng_model *m, int32_t *ids,
                 size_t n_ids, uint64_t n_ctx, struct sums *s, struct pd_err *err)
{
    const struct eng_tokenizer *t = eng_model_tokenizer(m);
    bool progress = cli_fancy(stderr) && !cli->quiet;
    int rc = 0;

    if (n_ctx > eng_model_info(m)->n_ctx)
        return pd_fail(err, PD_EINVAL,
                       "--ctx: %llu tokens are more than the %u of this model's context",
                       (unsigned long long)n_ctx, eng_model_info(m)->n_ctx);
    if (n_ids < n_ctx)
        return pd_fail(err, PD_EINVAL,
                       "the text has %zu tokens, fewer than one chunk of %llu: take a longer one, "
                       "or a smaller --ctx",
                       n_ids, (unsigned long long)n_ctx);
    for (size_t at = 0; n_ids - at >= n_ctx && rc == 0; at += n_ctx) {
        if (eng_token_adds_bos(t))
            ids[at] = eng_token_bos(t);
        rc = score_chunk(e, m, ids + at, n_ctx, s, err);
        if (progress)
            fprintf(stderr, "\r\033[K%zu of %zu tokens", at + n_ctx, n_ids);
    }
    if (progress)
        fputs("\r\033[K", stderr);
    return rc;
}

static int show(const struct cli *cli, const struct eng *e, const struct eng_model_info *m,
                uint64_t n_ctx, const struct sums *s, struct pd_err *err)
{
    double n = (double)s->n_tokens, mean = s->nll / n, ppl = exp(mean);
    double variance = fmax(s->nll2 / n - mean * mean, 0);
    double error = n > 1 ? ppl * sqrt(variance / (n - 1)) : 0;
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"ctx", (double)n_ctx},
                   {"chunks", (double)s->n_chunks},
                   {"tokens", (double)s->n_tokens},
                   {"nll", mean},
                   {"perplexity", ppl},
                   {"error", error}};
    struct pd_buf b = PD_BUF_INIT(1u << 20);
    struct pd_jw w;
    int rc = 0;

    if (!cli->json) {
        printf("perplexity %.5f ± %.5f, of %llu tokens in %llu chunks of %llu\n", ppl, error,
               (unsigned long long)s->n_tokens, (unsigned long long)s->n_chunks,
               (unsigned long long)n_ctx);
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_str(&w, "path", pd_str_of(m->path));
    pd_jw_put_str(&w, "file_type", pd_str_of(m->file_type));
    pd_jw_put_str(&w, "kv_type", pd_str_of(eng_kv_type_name(e)));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        pd_jw_put_double(&w, numbers[i].key, numbers[i].value);
    }
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    else
        cli_print_json(&b);
    pd_buf_done(&b);
    return rc;
}

int cli_perplexity(const struct cli *cli, const struct eng_config *config, const char *model,
                   const char *file, uint64_t n_ctx, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(0);
    struct eng *e = NULL;
    struct eng_model *m = NULL;
    struct sums sums = {0};
    char *path = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    int rc = cli_input(NULL, file, &text, err);

    if (rc == 0)
        rc = app_find_model(model, &path, err);
    if (rc == 0)
        rc = eng_open(config, &e, err);
    if (rc == 0)
        rc = eng_model_open(e, path, &m, err);
    if (rc == 0)
        rc = eng_tokenize(eng_model_tokenizer(m), pd_buf_str(&text),
                          ENG_PARSE_PLAIN | ENG_PARSE_START, &ids, &n_ids, err);
    if (rc == 0)
        rc = score(cli, e, m, ids, n_ids, n_ctx, &sums, err);
    if (rc == 0)
        rc = show(cli, e, eng_model_info(m), n_ctx, &sums, err);
    free(ids);
    eng_model_unref(m);
    eng_close(e);
    free(path);
    pd_buf_done(&text);
    return rc;
}

/* Control vectors in jobs, and the fitting of one: activation-steered compression (ASC,
 * arXiv:2507.04742, by strategies.md §10.4). v = mean over pairs of h_short - h_long, the residual
 * stream behind `layer` blocks at the last token of a short and of a long text that answer the same
 * question. Deviations: the sign is checked, steered texts must be shorter; gamma is bounded by the
 * divergence of the steered law from the plain one; both over the first questions of the pairs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app_int.h"
#include "base/file.h"

#define STORED          "sha256:"
#define PAIRS_MAX_BYTES ((size_t)64 << 20)
#define READ_AT         8  /* positions of a text at which laws are compared */
#define GAMMA_MAX       64 /* a vector that moves no law further than allowed gets this */
#define HALVINGS        12 /* of the range in which gamma is looked for */

const struct pd_param app_steering_params[] = {
    PD_TEXT(app_steering, steer,
            "file of control vectors that are added to what the model thinks (ponder model steer)"),
    PD_DOUBLE(app_steering, steer_gamma, 1, -GAMMA_MAX, GAMMA_MAX, "how often they are; 0: not"),
    {0},
};

bool app_steers(const struct app_steering *s)
{
    return s->steer[0] && s->steer_gamma != 0;
}

int app_steering_sha256(const struct app_steering *s, char hex[PD_SHA256_HEX], struct pd_err *err)
{
    struct pd_str name = pd_str_of(s->steer), stored = PD_STR(STORED);

    if (!pd_str_starts(name, stored))
        return app_hash_model(s->steer, hex, err);
    if (name.len - stored.len != PD_SHA256_HEX - 1)
        return pd_fail(err, PD_EINVAL, "'%s' is not the hash of a file", s->steer);
    memcpy(hex, name.ptr + stored.len, PD_SHA256_HEX);
    return 0;
}

void app_steering_json(const struct app_steering *s, const char *sha256, struct pd_jw *w)
{
    char name[sizeof STORED + PD_SHA256_HEX];

    snprintf(name, sizeof name, STORED "%s", sha256);
    pd_jw_put_text(w, "steer", name);
    pd_jw_put_double(w, "steer_gamma", s->steer_gamma);
}

int app_steering_load(const char *path, const char *sha256, double gamma, const struct eng_model *m,
                      struct eng_steer **out, struct pd_err *err)
{
    char now[PD_SHA256_HEX];
    int rc = path ? app_hash_model(path, now, err)
                  : pd_fail(err, PD_EINVAL, "control vectors are named by their file");

    if (rc < 0)
        return rc;
    if (strcmp(now, sha256) != 0)
        return pd_fail(err, PD_EFORMAT,
                       "'%s' is not the file this job ran with (sha256 %.12s… now, %.12s… then)",
                       path, now, sha256);
    return eng_steer_open(path, (float)gamma, m, out, err);
}

/* ---- fitting ----------------------------------------------------------------------------------
 */

struct text { /* tokens of a prompt and what is said behind it */
    int32_t *ids;
    size_t n, n_prompt;
};

struct pair {
    struct text little, much; /* the short text and the long one */
};

struct fit {
    const struct app_steer_fit *in;
    struct eng *e;
    struct eng_model *m;
    struct pair *pairs;
    size_t n_pairs, n_check;
    float *v;      /* [n_embd] */
    float **plain; /* [n_check][READ_AT][n_vocab]: logits without it */
    uint32_t (*at)[READ_AT];
    int32_t *labels; /* [n_vocab] */
};

static int make_text(const struct fit *f, const char *question, const char *answer,
                     struct text *out, struct pd_err *err)
{
    const struct eng_tokenizer *t = eng_model_tokenizer(f->m);
    struct pd_message ask = {.role = "user", .content = pd_str_of(question)};
    int rc = eng_chat(t, NULL, PD_CHAT(&ask, 1), &out->ids, &out->n, err);

    out->n_prompt = out->n;
    return rc < 0 ? rc
                  : eng_tokenize(t, pd_str_of(answer), ENG_PARSE_PLAIN, &out->ids, &out->n, err);
}

static int add_pair(struct fit *f, struct pd_str line, struct pd_err *err)
{
    struct pd_json *json = NULL;
    struct pair *grown = realloc(f->pairs, (f->n_pairs + 1) * sizeof *grown), *p;
    const char *question, *little, *much;
    int rc = grown ? pd_json_parse(line, &json, err) : pd_fail(err, PD_ENOMEM, "out of memory");

    if (grown)
        f->pairs = grown;
    if (rc < 0)
        return rc;
    p = &f->pairs[f->n_pairs++];
    *p = (struct pair){0};
    question = pd_json_string(pd_json_get(json, "question"));
    little = pd_json_string(pd_json_get(json, "short"));
    much = pd_json_string(pd_json_get(json, "long"));
    if (!question || !little || !much || !*little || !*much)
        rc = pd_fail(err, PD_EFORMAT,
                     "a pair is {\"question\": …, \"short\": …, \"long\": …}, three texts");
    if (rc == 0)
        rc = make_text(f, question, little, &p->little, err);
    if (rc == 0)
        rc = make_text(f, question, much, &p->much, err);
    pd_json_free(json);
    return rc;
}

static int read_pairs(struct fit *f, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(PAIRS_MAX_BYTES);
    struct pd_str left;
    size_t line_no = 0;
    int rc = pd_read_file(f->in->pairs, &text, err);

    for (left = pd_buf_str(&text); rc == 0 && left.len;) {
        ptrdiff_t end = pd_str_find(left, PD_STR("\n"));
        struct pd_str line = pd_str_sub(left, 0, end < 0 ? left.len : (size_t)end);

        left = pd_str_sub(left, line.len + 1, left.len);
        line_no++;
        if (pd_str_trim(line).len && (rc = add_pair(f, line, err)) < 0)
            pd_err_context(err, "'%s', line %zu", f->in->pairs, line_no);
    }
    if (rc == 0 && f->n_pairs == 0)
        rc = pd_fail(err, PD_EINVAL, "'%s' has no pairs", f->in->pairs);
    pd_buf_done(&text);
    return rc;
}

/* A context with the first n tokens, steered behind the prompt. */
static int text_ctx(const struct fit *f, const struct text *t, size_t n, struct eng_steer *s,
                    struct eng_ctx **out, struct pd_err *err)
{
    int rc = eng_ctx_new(f->e, f->m, out, err);

    if (rc == 0)
        rc = eng_ctx_append(*out, t->ids, n, err);
    return rc < 0 ? rc : eng_ctx_steer(*out, s, t->n_prompt, err);
}

/* One request, whose outputs are the caller's on success. */
static int run_one(const struct fit *f, struct eng_req *q, struct pd_err *err)
{
    int rc = eng_run(f->e, &q, 1, err);

    if (rc == 0 && q->finish == ENG_FINISH_ERROR) {
        rc = pd_fail(err, q->err.code, "%s", q->err.text);
        eng_req_done(q);
    }
    return rc;
}

/* sum += sign * the stream at the last token. */
static int add_stream(const struct fit *f, const struct text *t, double sign, double *sum,
                      struct pd_err *err)
{
    uint32_t at = (uint32_t)t->n - 1;
    struct eng_req q = {
        .op = ENG_SCORE, .at = &at, .n_at = 1, .read = ENG_READ_LAYER, .layer = f->in->layer};
    int rc = text_ctx(f, t, t->n, NULL, &q.ctx, err);

    if (rc == 0 && (rc = run_one(f, &q, err)) == 0) {
        for (uint32_t i = 0; i < eng_model_info(f->m)->n_embd; i++)
            sum[i] += sign * (double)q.logits[i];
        eng_req_done(&q);
    }
    eng_ctx_free(q.ctx);
    return rc;
}

static int find_vector(struct fit *f, double *out_norm, struct pd_err *err)
{
    uint32_t n = eng_model_info(f->m)->n_embd;
    double *sum = calloc(n, sizeof *sum), square = 0;
    int rc = 0;

    f->v = calloc(n, sizeof *f->v);
    if (!sum || !f->v)
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    for (size_t i = 0; i < f->n_pairs && rc == 0; i++) {
        rc = add_stream(f, &f->pairs[i].little, 1, sum, err);
        if (rc == 0)
            rc = add_stream(f, &f->pairs[i].much, -1, sum, err);
    }
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        sum[i] /= (double)f->n_pairs;
        square += sum[i] * sum[i];
        f->v[i] = (float)sum[i];
    }
    if (rc == 0 && !(square > 0))
        rc = pd_fail(err, PD_EINVAL, "the short and the long texts of '%s' leave the same stream",
                     f->in->pairs);
    *out_norm = sqrt(square);
    free(sum);
    return rc;
}

/* At how many positions of a text laws are compared: of a short one at each. */
static uint32_t n_read(const struct fit *f, size_t i)
{
    const struct text *t = &f->pairs[i].little;
    size_t n = t->n - t->n_prompt;

    return n < READ_AT ? (uint32_t)n : READ_AT;
}

/* Logits at the i-th question's positions; malloc'ed. */
static int read_laws(const struct fit *f, size_t i, struct eng_steer *s, float **out,
                     struct pd_err *err)
{
    const struct text *t = &f->pairs[i].little;
    struct eng_req q = {.op = ENG_SCORE,
                        .at = f->at[i],
                        .n_at = n_read(f, i),
                        .labels = f->labels,
                        .n_labels = eng_model_info(f->m)->n_vocab};
    int rc = text_ctx(f, t, t->n, s, &q.ctx, err);

    if (rc == 0 && (rc = run_one(f, &q, err)) == 0) {
        *out = q.logits;
        q.logits = NULL;
        eng_req_done(&q);
    }
    eng_ctx_free(q.ctx);
    return rc;
}

/* Of softmax(a) from softmax(b), in nats. */
static double divergence(const float *a, const float *b, size_t n)
{
    double max_a = -INFINITY, max_b = -INFINITY, sum_a = 0, sum_b = 0, kl = 0;

    for (size_t i = 0; i < n; i++) {
        max_a = fmax(max_a, (double)a[i]);
        max_b = fmax(max_b, (double)b[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum_a += exp((double)a[i] - max_a);
        sum_b += exp((double)b[i] - max_b);
    }
    for (size_t i = 0; i < n; i++) {
        double log_a = (double)a[i] - max_a - log(sum_a);

        kl += exp(log_a) * (log_a - ((double)b[i] - max_b - log(sum_b)));
    }
    return kl;
}

/* The mean over all positions. */
static int mean_divergence(const struct fit *f, double gamma, double *out, struct pd_err *err)
{
    size_t n_vocab = eng_model_info(f->m)->n_vocab, count = 0;
    struct eng_steer *s;
    double sum = 0;
    int rc = eng_steer_new(f->m, f->in->layer, f->v, (float)gamma, &s, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < f->n_check && rc == 0; i++) {
        float *steered;

        rc = read_laws(f, i, s, &steered, err);
        if (rc < 0)
            break;
        for (size_t k = 0; k < n_read(f, i); k++, count++)
            sum += divergence(steered + k * n_vocab, f->plain[i] + k * n_vocab, n_vocab);
        free(steered);
    }
    eng_steer_unref(s);
    *out = count ? sum / (double)count : 0;
    return rc;
}

/* The largest gamma whose laws are near enough. */
static int find_gamma(struct fit *f, double *out_gamma, double *out_kl, struct pd_err *err)
{
    double low = 0, high = 1.0 / 64, kl = 0, low_kl = 0;
    int rc = mean_divergence(f, high, &kl, err);

    while (rc == 0 && kl <= f->in->kl_max && high < GAMMA_MAX) {
        low = high;
        low_kl = kl;
        high *= 2;
        rc = mean_divergence(f, high, &kl, err);
    }
    if (rc == 0 && kl <= f->in->kl_max) {
        low = high;
        low_kl = kl;
    }
    for (int i = 0; i < HALVINGS && low < high && rc == 0; i++) {
        double middle = (low + high) / 2;

        rc = mean_divergence(f, middle, &kl, err);
        if (kl <= f->in->kl_max) {
            low = middle;
            low_kl = kl;
        } else {
            high = middle;
        }
    }
    if (rc == 0 && low == 0)
        rc = pd_fail(err, PD_EINVAL,
                     "even 1/64 of the vector changes what the model says by more than %g nats: "
                     "try another layer, more pairs or a larger --kl-max",
                     f->in->kl_max);
    *out_gamma = low;
    *out_kl = low_kl;
    return rc;
}

/* The mean number of tokens of the questions' greedy answers. */
static int mean_length(const struct fit *f, double gamma, double *out, struct pd_err *err)
{
    struct eng_req *q = calloc(f->n_check, sizeof *q), **list = calloc(f->n_check, sizeof *list);
    struct eng_steer *s = NULL;
    uint64_t tokens = 0;
    int rc = q && list ? eng_steer_new(f->m, f->in->layer, f->v, (float)gamma, &s, err)
                       : pd_fail(err, PD_ENOMEM, "out of memory");

    for (size_t i = 0; i < f->n_check && rc == 0; i++) {
        const struct text *t = &f->pairs[i].little;

        q[i] = (struct eng_req){
            .op = ENG_GENERATE, .sampling = {.top_p = 1}, .max_tokens = f->in->max_tokens};
        list[i] = &q[i];
        rc = text_ctx(f, t, t->n_prompt, s, &q[i].ctx, err);
    }
    if (rc == 0)
        rc = eng_run(f->e, list, f->n_check, err);
    for (size_t i = 0; i < f->n_check && q; i++) {
        if (rc == 0 && q[i].finish == ENG_FINISH_ERROR)
            rc = pd_fail(err, q[i].err.code, "%s", q[i].err.text);
        tokens += q[i].n_tokens;
        eng_req_done(&q[i]);
        eng_ctx_free(q[i].ctx);
    }
    eng_steer_unref(s);
    free(list);
    free(q);
    *out = (double)tokens / (double)f->n_check;
    return rc;
}

/* The sign with which texts are shorter, and how much is good. */
static int calibrate(struct fit *f, struct app_steer_report *r, struct pd_err *err)
{
    uint32_t n_embd = eng_model_info(f->m)->n_embd;
    int rc = mean_length(f, 0, &r->plain_tokens, err);

    for (int sign = 0; sign < 2 && rc == 0; sign++) {
        rc = find_gamma(f, &r->gamma, &r->kl, err);
        if (rc == 0)
            rc = mean_length(f, r->gamma, &r->steered_tokens, err);
        if (rc < 0 || r->steered_tokens < r->plain_tokens)
            return rc;
        for (uint32_t i = 0; i < n_embd; i++)
            f->v[i] = -f->v[i];
        r->flipped = true;
    }
    return rc < 0 ? rc
                  : pd_fail(err, PD_EINVAL,
                            "steered answers are no shorter with either sign (%.1f tokens plain): "
                            "try another layer, more pairs or a larger --kl-max",
                            r->plain_tokens);
}

static int prepare(struct fit *f, struct pd_err *err)
{
    uint32_t n_vocab = eng_model_info(f->m)->n_vocab;
    int rc = 0;

    f->n_check = f->n_pairs < f->in->n_check ? f->n_pairs : f->in->n_check;
    f->plain = calloc(f->n_check, sizeof *f->plain);
    f->at = calloc(f->n_check, sizeof *f->at);
    f->labels = malloc(n_vocab * sizeof *f->labels);
    if (!f->plain || !f->at || !f->labels)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n_vocab; i++)
        f->labels[i] = (int32_t)i;
    for (size_t i = 0; i < f->n_check && rc == 0; i++) {
        const struct text *t = &f->pairs[i].little;

        for (size_t k = 0; k < n_read(f, i); k++)
            f->at[i][k] = (uint32_t)(t->n_prompt + k * (t->n - t->n_prompt) / n_read(f, i));
        rc = read_laws(f, i, NULL, &f->plain[i], err);
    }
    return rc;
}

static void fit_done(struct fit *f)
{
    for (size_t i = 0; i < f->n_check && f->plain; i++)
        free(f->plain[i]);
    for (size_t i = 0; i < f->n_pairs; i++) {
        free(f->pairs[i].little.ids);
        free(f->pairs[i].much.ids);
    }
    free(f->plain);
    free(f->at);
    free(f->labels);
    free(f->pairs);
    free(f->v);
    eng_model_unref(f->m);
    eng_close(f->e);
}

int app_steer_fit(const struct app_steer_fit *in, struct app_steer_report *out, struct pd_err *err)
{
    const struct eng_config config = {.n_threads = in->n_threads};
    struct app_steer_report r = {0};
    struct fit f = {.in = in};
    char *path = NULL;
    int rc = app_find_model(in->model, &path, err);

    if (rc == 0)
        rc = eng_open(&config, &f.e, err);
    if (rc == 0)
        rc = eng_model_open(f.e, path, &f.m, err);
    free(path);
    if (rc == 0)
        rc = read_pairs(&f, err);
    if (rc == 0)
        rc = find_vector(&f, &r.norm, err);
    if (rc == 0)
        rc = prepare(&f, err);
    if (rc == 0)
        rc = calibrate(&f, &r, err);
    if (rc == 0)
        rc = eng_steer_write(in->out, f.m, in->layer, f.v, err);
    r.n_pairs = f.n_pairs;
    r.n_checked = f.n_check;
    fit_done(&f);
    if (rc == 0)
        *out = r;
    return rc;
}

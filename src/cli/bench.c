/* `ponder bench`: how fast the engine runs a model here, and how much of what the machine can do
 * that is. (With --perplexity, how well: perplexity.c.)
 *
 * Everything is measured once in each round, the machine's own limits too, so that whatever else
 * the machine is doing meanwhile hits all figures alike; medians of the rounds are shown.
 *
 * Rooflines: a step of B branches cannot be faster than max(bytes / read bandwidth, operations /
 * peak). Bytes: the weights as stored, K and V of the shared prompt once and of each branch's own
 * tokens. Operations: two for each weight of a row's matrices at the peak of their arithmetic, and
 * attention at the fp32 peak. Prefill computes the head for the last token alone. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/rng.h"

#define MAX_ROUNDS 100
#define N_FORKS    64 /* one is too short for the clock */
#define NO_CEILING (UINT64_C(1) << 62)
#define JSON_BYTES (16u << 20)

struct series { /* one value each round */
    double v[MAX_ROUNDS];
    size_t n;
};

struct prompt {
    uint32_t n_tokens;
    struct eng_ctx *ctx; /* evaluated, its logits kept */
    uint64_t kv_bytes;
};

struct point {
    const struct prompt *prompt;   /* NULL: prefill */
    uint32_t n_branches, n_tokens; /* evaluated by each branch, or by the prefill */
    bool together;                 /* the branches are workers that see one another */
    uint64_t kv_bytes;
    struct series tokens_s;
    double roofline; /* tokens/s */
    const char *limit;
};

struct bench {
    const struct cli *cli;
    uint64_t n_threads, n_rounds, n_gen;
    const char *model_name, *kv_type, *perplexity;
    uint64_t ctx; /* of --perplexity */
    struct cli_numbers prefill, branches, workers, prompts;
    struct eng *eng;
    struct eng_model *model;
    const struct eng_model_info *info;
    int32_t *ids; /* as many as the longest prompt has */
    struct prompt *prompt;
    struct point *points;
    size_t n_points;
    struct series load_s, fork_ns, read_bytes_s, i8_ops_s, f32_ops_s;
    uint64_t load_peak_bytes, resident_bytes;
};

/* ---- series ---------------------------------------------------------------------------------- */

static void add(struct series *s, double v)
{
    s->v[s->n++] = v;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct spread {
    double min, median, max;
};

static struct spread spread(const struct series *s)
{
    double v[MAX_ROUNDS];
    size_t n = s->n;

    memcpy(v, s->v, n * sizeof(*v));
    qsort(v, n, sizeof(*v), ascending);
    return (struct spread){v[0], (v[(n - 1) / 2] + v[n / 2]) / 2, v[n - 1]};
}

/* ---- measuring ------------------------------------------------------------------------------- */

static double seconds_since(int64_t t0_ns)
{
    int64_t ns = pd_clock_now_ns() - t0_ns;

    return (double)(ns > 0 ? ns : 1) / 1e9;
}

static void watch_resident(struct bench *b)
{
    uint64_t bytes = cli_resident_bytes();

    b->resident_bytes = bytes > b->resident_bytes ? bytes : b->resident_bytes;
}

static uint64_t kv_used(const struct bench *b)
{
    struct eng_stats stats;

    eng_stats(b->eng, &stats);
    return stats.kv_page_bytes_used;
}

static int load(struct bench *b, const char *path, struct pd_err *err)
{
    struct rusage usage;
    int rc = 0;

    for (uint64_t i = 0; i < b->n_rounds && rc == 0; i++) {
        int64_t t0 = pd_clock_now_ns();

        eng_model_unref(b->model);
        b->model = NULL;
        rc = eng_model_open(b->eng, path, &b->model, err);
        add(&b->load_s, seconds_since(t0));
        if (i == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
            b->load_peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    }
    b->info = rc == 0 ? eng_model_info(b->model) : NULL;
    return rc;
}

static int check_length(const struct bench *b, const char *what, uint64_t n, struct pd_err *err)
{
    return n <= b->info->n_ctx ? 0
                               : pd_fail(err, PD_EINVAL,
                                         "%s: %llu tokens are more than the %u of this model's "
                                         "context",
                                         what, (unsigned long long)n, b->info->n_ctx);
}

/* The same text for all: what stands in it makes no difference to the time. */
static int make_ids(struct bench *b, struct pd_err *err)
{
    uint64_t longest = 1;
    int rc = 0;

    for (size_t i = 0; i < b->prefill.n && rc == 0; i++) {
        longest = b->prefill.v[i] > longest ? b->prefill.v[i] : longest;
        rc = check_length(b, "--prefill", b->prefill.v[i], err);
    }
    for (size_t i = 0; i < b->prompts.n && rc == 0; i++) {
        longest = b->prompts.v[i] > longest ? b->prompts.v[i] : longest;
        rc = check_length(b, "--prompt and --gen", b->prompts.v[i] + b->n_gen + 1, err);
    }
    if (rc < 0)
        return rc;
    b->ids = malloc(longest * sizeof(*b->ids));
    if (!b->ids)
        return cli_no_memory(err);
    for (uint64_t i = 0; i < longest; i++)
        b->ids[i] = (int32_t)(pd_rng_uniform(1, i, 0) * (double)b->info->n_vocab);
    return 0;
}

/* A new context with the first n ids evaluated. */
static int evaluated(struct bench *b, size_t n, struct eng_ctx **out, struct pd_err *err)
{
    struct eng_req req = {.op = ENG_PREFILL}, *reqs[] = {&req};
    struct eng_ctx *ctx;
    int rc = eng_ctx_new(b->eng, b->model, &ctx, err);

    if (rc < 0)
        return rc;
    rc = eng_ctx_append(ctx, b->ids, n, err);
    req.ctx = ctx;
    if (rc == 0)
        rc = eng_run(b->eng, reqs, 1, err);
    if (rc == 0 && req.finish == ENG_FINISH_ERROR) {
        *err = req.err;
        rc = (int)req.err.code;
    }
    eng_req_done(&req);
    if (rc < 0)
        eng_ctx_free(ctx);
    else
        *out = ctx;
    return rc;
}

static int make_prompts(struct bench *b, struct pd_err *err)
{
    int rc = 0;

    b->prompt = calloc(b->prompts.n + 1, sizeof(*b->prompt));
    b->points = calloc(b->prefill.n + b->prompts.n * (b->branches.n + b->workers.n) + 1,
                       sizeof(*b->points));
    if (!b->prompt || !b->points)
        return cli_no_memory(err);
    for (size_t i = 0; i < b->prefill.n; i++)
        b->points[b->n_points++] =
            (struct point){.n_branches = 1, .n_tokens = (uint32_t)b->prefill.v[i]};
    for (size_t i = 0; i < b->prompts.n && rc == 0; i++) {
        struct prompt *p = &b->prompt[i];
        uint64_t before = kv_used(b);

        p->n_tokens = (uint32_t)b->prompts.v[i];
        rc = evaluated(b, p->n_tokens, &p->ctx, err);
        p->kv_bytes = kv_used(b) - before;
        for (size_t k = 0; k < b->branches.n; k++)
            b->points[b->n_points++] = (struct point){.prompt = p,
                                                      .n_branches = (uint32_t)b->branches.v[k],
                                                      .n_tokens = (uint32_t)b->n_gen};
        for (size_t k = 0; k < b->workers.n; k++)
            b->points[b->n_points++] = (struct point){.prompt = p,
                                                      .n_branches = (uint32_t)b->workers.v[k],
                                                      .n_tokens = (uint32_t)b->n_gen,
                                                      .together = true};
    }
    return rc;
}

static int measure_prefill(struct bench *b, struct point *p, struct pd_err *err)
{
    struct eng_ctx *ctx = NULL;
    uint64_t before = kv_used(b);
    int64_t t0 = pd_clock_now_ns();
    int rc = evaluated(b, p->n_tokens, &ctx, err);

    if (rc < 0)
        return rc;
    add(&p->tokens_s, p->n_tokens / seconds_since(t0));
    p->kv_bytes = kv_used(b) - before;
    watch_resident(b);
    eng_ctx_free(ctx);
    return 0;
}

/* Contexts of workers that see the prompt and then the others; a single one goes on in a fork of
 * the prompt. Each has a token to evaluate. */
static int make_workers(struct bench *b, const struct point *p, struct eng_req *reqs,
                        struct pd_err *err)
{
    struct eng_ctx *sees[ENG_MAX_BLOCKS] = {p->prompt->ctx};
    int rc = 0;

    for (uint32_t i = 0; i < p->n_branches && rc == 0; i++) {
        rc = p->n_branches == 1 ? eng_ctx_fork(p->prompt->ctx, &reqs[i].ctx, err)
                                : eng_ctx_new(b->eng, b->model, &reqs[i].ctx, err);
        if (rc == 0)
            rc = eng_ctx_append(reqs[i].ctx, b->ids, 1, err);
    }
    for (uint32_t i = 0; i < p->n_branches && p->n_branches > 1 && rc == 0; i++) {
        size_t n = 1;

        for (uint32_t k = 0; k < p->n_branches; k++)
            if (k != i)
                sees[n++] = reqs[k].ctx;
        rc = eng_ctx_view(reqs[i].ctx, sees, n, err);
    }
    return rc;
}

/* Each branch draws one token more than it evaluates: the first comes from the prompt's logits. */
static int measure_decode(struct bench *b, struct point *p, struct pd_err *err)
{
    struct eng_req *reqs = calloc(p->n_branches, sizeof(*reqs));
    struct eng_req **list = calloc(p->n_branches, sizeof(*list));
    struct eng_race race = {.m = p->n_branches};
    uint64_t before = kv_used(b);
    int64_t t0;
    int rc = reqs && list ? 0 : cli_no_memory(err);

    for (uint32_t i = 0; i < p->n_branches && rc == 0; i++) {
        reqs[i] = (struct eng_req){.op = ENG_GENERATE,
                                   .sampling = {.temperature = 1, .top_p = 1},
                                   .key = i + 1,
                                   .max_tokens = p->n_tokens + !p->together,
                                   .race = p->together ? &race : NULL,
                                   .ignore_end = true};
        list[i] = &reqs[i];
        if (!p->together)
            rc = eng_ctx_fork(p->prompt->ctx, &reqs[i].ctx, err);
    }
    if (p->together && rc == 0)
        rc = make_workers(b, p, reqs, err);
    if (rc == 0) {
        t0 = pd_clock_now_ns();
        rc = eng_run(b->eng, list, p->n_branches, err);
        add(&p->tokens_s, (double)p->n_branches * p->n_tokens / seconds_since(t0));
    }
    p->kv_bytes = p->prompt->kv_bytes + kv_used(b) - before;
    watch_resident(b);
    for (uint32_t i = 0; reqs && i < p->n_branches; i++) {
        if (rc == 0 && reqs[i].finish != ENG_FINISH_LENGTH) {
            *err = reqs[i].err;
            rc = err->code ? (int)err->code : pd_fail(err, PD_EFORMAT, "a branch ended early");
        }
        eng_req_done(&reqs[i]);
        eng_ctx_free(reqs[i].ctx);
    }
    free(reqs);
    free(list);
    return rc;
}

static int measure_fork(struct bench *b, struct pd_err *err)
{
    struct eng_ctx *fork[N_FORKS] = {NULL};
    struct eng_ctx *from = b->prompt[b->prompts.n - 1].ctx;
    int64_t t0 = pd_clock_now_ns();
    int rc = 0;

    for (int i = 0; i < N_FORKS && rc == 0; i++)
        rc = eng_ctx_fork(from, &fork[i], err);
    add(&b->fork_ns, seconds_since(t0) * 1e9 / N_FORKS);
    for (int i = 0; i < N_FORKS; i++)
        eng_ctx_free(fork[i]);
    return rc;
}

static int measure_machine(struct bench *b, struct pd_err *err)
{
    struct eng_roofline r;
    int rc = eng_roofline_measure(eng_n_threads(b->eng), &r, err);

    if (rc < 0)
        return rc;
    add(&b->read_bytes_s, r.read_bytes_s);
    add(&b->i8_ops_s, r.i8_ops_s);
    add(&b->f32_ops_s, r.f32_ops_s);
    return 0;
}

static int measure(struct bench *b, struct pd_err *err)
{
    bool progress = cli_fancy(stderr) && !b->cli->quiet;
    int rc = 0;

    for (uint64_t i = 0; i < b->n_rounds && rc == 0; i++) {
        if (progress)
            fprintf(stderr, "\r\033[Kround %llu of %llu", (unsigned long long)(i + 1),
                    (unsigned long long)b->n_rounds);
        rc = measure_machine(b, err);
        for (size_t k = 0; k < b->n_points && rc == 0; k++)
            rc = b->points[k].prompt ? measure_decode(b, &b->points[k], err)
                                     : measure_prefill(b, &b->points[k], err);
        if (rc == 0 && b->prompts.n > 0)
            rc = measure_fork(b, err);
    }
    if (progress)
        fputs("\r\033[K", stderr);
    return rc;
}

/* ---- rooflines ------------------------------------------------------------------------------- */

static void set_roofline(const struct bench *b, struct point *p)
{
    const struct eng_model_info *m = b->info;
    const struct eng_work *w = &m->work;
    double n = p->n_tokens, rows = p->prompt ? p->n_branches : n;
    double heads = p->prompt ? rows : 1; /* rows that need logits */
    /* positions: that a step attends to, all rows together, and whose K and V it reads */
    double own = (n + 1) / 2, before = p->prompt ? p->prompt->n_tokens : 0;
    double attended = rows * (before + (p->together ? rows : 1) * own),
           read = p->prompt ? before + rows * own : n;
    double qk = (double)m->n_layer * m->n_head * m->head_dim;
    double kv_bytes = (double)eng_kv_token_bytes(b->eng, m);
    double bytes, i8, f32, memory_s, compute_s;

    bytes = (double)(w->body_bytes + w->head_bytes) + read * kv_bytes;
    if (w->n_experts > 0) /* those that at least one row goes to, if they are drawn at random */
        bytes += (double)w->experts_bytes *
                 (1 - pow(1 - (double)w->n_experts_used / w->n_experts, rows));
    i8 = 2 * (rows * (double)w->body_macs.i8 + heads * (double)w->head_macs.i8);
    f32 = 2 * (rows * (double)w->body_macs.f32 + heads * (double)w->head_macs.f32);
    f32 += 2 * 2 * qk * attended; /* scores, and the sum of values */
    memory_s = bytes / spread(&b->read_bytes_s).median;
    compute_s = i8 / spread(&b->i8_ops_s).median + f32 / spread(&b->f32_ops_s).median;
    p->limit = memory_s > compute_s ? "memory" : "compute";
    p->roofline = rows / fmax(memory_s, compute_s);
}

/* ---- showing --------------------------------------------------------------------------------- */

/* The processor's own name, "" when the system does not tell. */
static void cpu_name(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");

    out[0] = '\0';
    while (f && out[0] == '\0' && fgets(line, sizeof(line), f)) {
        const char *colon = strchr(line, ':');

        if (colon && strncmp(line, "model name", 10) == 0) {
            struct pd_str name = pd_str_trim(pd_str_of(colon + 1));

            snprintf(out, size, "%.*s", (int)name.len, name.ptr);
        }
    }
    if (f)
        fclose(f);
}

static void print_spread(const char *label, const struct series *s, double unit, const char *name)
{
    struct spread x = spread(s);

    printf("%-8s %9.1f %s (%.1f – %.1f)\n", label, x.median / unit, name, x.min / unit,
           x.max / unit);
}

static const char *what(const struct point *p)
{
    return p->together ? "workers" : p->prompt ? "decode" : "prefill";
}

static void show_text(const struct bench *b)
{
    const struct eng_model_info *m = b->info;
    char cpu[128], date[PD_RFC3339_SIZE];

    cpu_name(cpu, sizeof(cpu));
    pd_clock_rfc3339(pd_clock_unix_ms(), date);
    printf("ponder %s, %s, median (least – most) of %llu rounds\n\n", PONDER_VERSION, date,
           (unsigned long long)b->n_rounds);
    printf("machine  ");
    cli_text(stdout, pd_str_of(cpu), -1);
    printf(", %u thread%s, kernels %s, KV in %s\n", eng_n_threads(b->eng),
           eng_n_threads(b->eng) == 1 ? "" : "s", eng_isa_name(b->eng), eng_kv_type_name(b->eng));
    print_spread("  read", &b->read_bytes_s, 1e9, "GB/s");
    print_spread("  int8", &b->i8_ops_s, 1e9, "Gop/s");
    print_spread("  fp32", &b->f32_ops_s, 1e9, "Gop/s");
    printf("model    ");
    cli_text(stdout, pd_str_of(m->name), -1);
    printf(": %s, mostly %s, %.1f M parameters, %.1f MB\n", m->arch, m->file_type,
           (double)m->n_params / 1e6, (double)m->file_bytes / 1e6);
    print_spread("  load", &b->load_s, 1e-3, "ms");
    printf("memory   %9.1f MB resident, %.1f MB at the height of loading\n",
           (double)b->resident_bytes / 1e6, (double)b->load_peak_bytes / 1e6);
    if (b->prompts.n > 0)
        print_spread("fork", &b->fork_ns, 1, "ns");
    printf("\n%15s %6s %6s %7s %9s %7s %7s %7s %8s  %-7s %9s\n", "branches", "prompt", "tokens",
           "ms/step", "tokens/s", "least", "most", "share", "roofline", "limit", "KV");
    for (size_t i = 0; i < b->n_points; i++) {
        const struct point *p = &b->points[i];
        struct spread x = spread(&p->tokens_s);
        char prompt[16] = "-", step[16] = "-";

        if (p->prompt) {
            snprintf(prompt, sizeof(prompt), "%u", p->prompt->n_tokens);
            snprintf(step, sizeof(step), "%.2f", 1e3 * p->n_branches / x.median);
        }
        printf("%-7s %7u %6s %6u %7s %9.1f %7.1f %7.1f %5.1f %% %8.0f  %-7s %6.1f MB\n", what(p),
               p->n_branches, prompt, p->n_tokens, step, x.median, x.min, x.max,
               100 * x.median / p->roofline, p->roofline, p->limit, (double)p->kv_bytes / 1e6);
    }
}

static void put_series(struct pd_jw *w, const char *key, const struct series *s)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < s->n; i++)
        pd_jw_double(w, s->v[i]);
    pd_jw_end_array(w);
}

static void points_json(struct pd_jw *w, const struct bench *b)
{
    pd_jw_key(w, "points");
    pd_jw_array(w);
    for (size_t i = 0; i < b->n_points; i++) {
        const struct point *p = &b->points[i];

        pd_jw_object(w);
        pd_jw_put_text(w, "what", what(p));
        pd_jw_put_uint(w, "branches", p->n_branches);
        pd_jw_put_uint(w, "prompt", p->prompt ? p->prompt->n_tokens : 0);
        pd_jw_put_uint(w, "tokens", p->n_tokens);
        put_series(w, "tokens_s", &p->tokens_s);
        pd_jw_put_double(w, "median_tokens_s", spread(&p->tokens_s).median);
        pd_jw_put_double(w, "roofline_tokens_s", p->roofline);
        pd_jw_put_text(w, "limit", p->limit);
        pd_jw_put_double(w, "share", spread(&p->tokens_s).median / p->roofline);
        pd_jw_put_uint(w, "kv_bytes", p->kv_bytes);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static int show_json(const struct bench *b, struct pd_err *err)
{
    const struct eng_model_info *m = b->info;
    struct pd_buf out = PD_BUF_INIT(JSON_BYTES);
    char cpu[128], date[PD_RFC3339_SIZE], hex[PD_SHA256_HEX];
    struct pd_jw w;
    int rc;

    cpu_name(cpu, sizeof(cpu));
    pd_clock_rfc3339(pd_clock_unix_ms(), date);
    pd_hex(m->sha256, sizeof(m->sha256), hex);
    pd_jw_init(&w, &out);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "version", PONDER_VERSION);
    pd_jw_put_text(&w, "date", date);
    pd_jw_put_uint(&w, "rounds", b->n_rounds);
    pd_jw_key(&w, "machine");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "cpu", cpu);
    pd_jw_put_uint(&w, "threads", eng_n_threads(b->eng));
    pd_jw_put_text(&w, "isa", eng_isa_name(b->eng));
    pd_jw_put_text(&w, "kv_type", eng_kv_type_name(b->eng));
    put_series(&w, "read_bytes_s", &b->read_bytes_s);
    put_series(&w, "i8_ops_s", &b->i8_ops_s);
    put_series(&w, "f32_ops_s", &b->f32_ops_s);
    pd_jw_end_object(&w);
    pd_jw_key(&w, "model");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "name", m->name);
    pd_jw_put_text(&w, "path", m->path);
    pd_jw_put_text(&w, "arch", m->arch);
    pd_jw_put_text(&w, "file_type", m->file_type);
    pd_jw_put_text(&w, "sha256", hex);
    pd_jw_put_uint(&w, "params", m->n_params);
    pd_jw_put_uint(&w, "bytes", m->file_bytes);
    pd_jw_end_object(&w);
    put_series(&w, "load_s", &b->load_s);
    pd_jw_put_uint(&w, "load_peak_bytes", b->load_peak_bytes);
    pd_jw_put_uint(&w, "resident_bytes", b->resident_bytes);
    put_series(&w, "fork_ns", &b->fork_ns);
    points_json(&w, b);
    pd_jw_end_object(&w);
    rc = pd_buf_rc(&out) < 0 ? cli_no_memory(err) : 0;
    if (rc == 0)
        cli_print_json(&out);
    pd_buf_done(&out);
    return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int run(struct bench *b, struct pd_err *err)
{
    const struct eng_config config = {.n_threads = (unsigned)b->n_threads,
                                      .kv_type = b->kv_type,
                                      .kv_bytes = NO_CEILING,
                                      .no_prefix_cache = true};
    const char *model = b->model_name ? b->model_name : app_default_model;
    char *path = NULL;
    int rc;

    if (b->perplexity)
        return cli_perplexity(b->cli, &config, model, b->perplexity, b->ctx, err);
    rc = app_find_model(model, &path, err);
    if (rc == 0)
        rc = eng_open(&config, &b->eng, err);
    if (rc == 0)
        rc = load(b, path, err);
    if (rc == 0)
        rc = make_ids(b, err);
    if (rc == 0)
        rc = make_prompts(b, err);
    if (rc == 0)
        rc = measure(b, err);
    if (rc == 0) {
        for (size_t i = 0; i < b->n_points; i++)
            set_roofline(b, &b->points[i]);
        if (b->cli->json)
            rc = show_json(b, err);
        else
            show_text(b);
    }
    free(path);
    return rc;
}

static void bench_done(struct bench *b)
{
    for (size_t i = 0; b->prompt && i < b->prompts.n; i++)
        eng_ctx_free(b->prompt[i].ctx);
    free(b->prompt);
    free(b->points);
    free(b->ids);
    eng_model_unref(b->model);
    eng_close(b->eng);
    free(b);
}

int cli_bench(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    static const struct cli_usage usage_text = {
        "bench [options]",
        "How fast the engine runs a model here, and what share of the machine's limits that is.",
    };
    struct bench *b = calloc(1, sizeof(*b)); /* the series are too large for a stack */
    int n, rc;

    if (!b)
        return cli_no_memory(err);
    b->cli = cli;
    b->n_rounds = 3;
    b->n_gen = 32;
    b->ctx = 512;
    b->prefill = (struct cli_numbers){{512}, 1};
    b->prompts = (struct cli_numbers){{256}, 1};
    b->branches = (struct cli_numbers){{1, 2, 4, 8, 16, 32, 64}, 7};
    struct cli_option table[] = {
        {"model", 'm', CLI_TEXT, &b->model_name, "MODEL", "name or GGUF file", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &b->n_threads, "N", "compute threads (default: all CPUs)", 1,
         1024, false, false},
        {"kv-type", 0, CLI_CHOICE, &b->kv_type, "f32|f16|q8_0",
         "how the KV cache keeps numbers (f16)", 0, 0, false, false},
        {"prefill", 0, CLI_NUMBERS, &b->prefill, "N,…", "lengths of prompts to evaluate", 1,
         1u << 24, false, false},
        {"branches", 0, CLI_NUMBERS, &b->branches, "N,…", "branches that decode together", 1, 4096,
         false, false},
        {"workers", 0, CLI_NUMBERS, &b->workers, "N,…",
         "workers that decode together and see one another", 1, ENG_MAX_BLOCKS, false, false},
        {"prompt", 0, CLI_NUMBERS, &b->prompts, "N,…", "lengths of the prompt they share", 1,
         1u << 24, false, false},
        {"gen", 0, CLI_NUMBER, &b->n_gen, "N", "tokens that each branch evaluates", 1, 1u << 24,
         false, false},
        {"perplexity", 0, CLI_TEXT, &b->perplexity, "FILE",
         "measure no speed: how well the model foretells this text (- is standard input)", 0, 0,
         false, false},
        {"ctx", 0, CLI_NUMBER, &b->ctx, "N", "--perplexity: tokens of a chunk (512)", 4, 1u << 24,
         false, false},
        {"reps", 0, CLI_NUMBER, &b->n_rounds, "N", "rounds; medians of them are shown", 1,
         MAX_ROUNDS, false, false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    n = cli_options(cli, argc, argv, table, &usage_text, err);
    if (n < 0 || cli->help)
        rc = n < 0 ? n : CLI_EXIT_OK;
    else if (n > 0)
        rc = pd_fail(err, PD_EINVAL, "bench takes no operand, only options: '%s'", argv[1]);
    else
        rc = run(b, err);
    bench_done(b);
    return rc;
}

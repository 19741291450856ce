/* A report as JSON and as CSV. */
#include <math.h>

#include "app/report.h"

static void put_interval(struct pd_jw *w, const char *key, struct pd_interval i)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    pd_jw_double(w, i.low);
    pd_jw_double(w, i.high);
    pd_jw_end_array(w);
}

static void put_cost(struct pd_jw *w, const char *key, const struct report_cost *c)
{
    pd_jw_key(w, key);
    pd_jw_object(w);
    pd_jw_put_double(w, "flop", c->flop);
    pd_jw_put_double(w, "bytes", c->bytes);
    pd_jw_put_double(w, "eflop", c->eflop);
    pd_jw_put_double(w, "ideal_seconds", c->ideal_s);
    pd_jw_put_double(w, "joules", c->joules);
    pd_jw_end_object(w);
}

static void put_variant(struct pd_jw *w, const struct report_variant *v)
{
    pd_jw_object(w);
    pd_jw_put_text(w, "variant", v->name);
    pd_jw_put_text(w, "name", v->entry);
    pd_jw_put_text(w, "strategy", v->strategy);
    pd_jw_put_text(w, "scorer", v->scorer);
    pd_jw_put_uint(w, "samples", v->samples);
    pd_jw_put_bool(w, "added", v->added);
    pd_jw_put_uint(w, "n", v->n);
    pd_jw_put_uint(w, "right", v->n_right);
    pd_jw_put_uint(w, "answered", v->n_answered);
    pd_jw_put_uint(w, "failed", v->n_failed);
    pd_jw_put_double(w, "accuracy", v->accuracy);
    put_interval(w, "interval", v->interval);
    pd_jw_put_double(w, "tokens", v->tokens);
    pd_jw_put_double(w, "prefilled", v->prefilled);
    pd_jw_put_double(w, "scored", v->scored);
    pd_jw_put_double(w, "nodes", v->nodes);
    pd_jw_put_double(w, "seconds", v->seconds);
    pd_jw_put_double(w, "sequential", v->sequential);
    put_cost(w, "cost", &v->cost);
    pd_jw_key(w, "majority_at_equal_cost");
    if (!v->has_base) {
        pd_jw_null(w);
    } else {
        pd_jw_object(w);
        pd_jw_put_double(w, "accuracy", v->base_accuracy);
        pd_jw_put_double(w, "lines", v->base_lines);
        pd_jw_put_bool(w, "too_few_lines", v->base_short);
        pd_jw_put_double(w, "difference", v->accuracy - v->base_accuracy);
        put_interval(w, "difference_interval", v->difference);
        pd_jw_put_uint(w, "only_it", v->only_it);
        pd_jw_put_uint(w, "only_majority", v->only_base);
        pd_jw_put_double(w, "p", v->p);
        pd_jw_put_double(w, "p_holm", v->p_holm);
        pd_jw_end_object(w);
    }
    pd_jw_end_object(w);
}

static void put_points(struct pd_jw *w, const char *key, const struct report_point *p, size_t n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(w);
        pd_jw_put_double(w, "k", p[i].k);
        pd_jw_put_double(w, "tokens", p[i].tokens);
        pd_jw_put_double(w, "value", p[i].value);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static void put_fan(struct pd_jw *w, const char *key, const struct report_fan *f)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t d = 0; d < f->n_depths; d++) {
        pd_jw_object(w);
        pd_jw_put_uint(w, "step", d + 1);
        pd_jw_put_uint(w, "n", f->n[d]);
        pd_jw_key(w, "quantiles");
        pd_jw_array(w);
        for (size_t k = 0; k < REPORT_QUANTILES; k++)
            pd_jw_double(w, f->q[d][k]);
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static void put_lines(struct pd_jw *w, const struct report_run *r)
{
    pd_jw_put_text(w, "of", r->lines_of);
    pd_jw_put_uint(w, "n", r->n_lines);
    pd_jw_put_uint(w, "right", r->n_lines_right);
    pd_jw_put_double(w, "tokens", r->line_tokens);
    put_cost(w, "prompt_cost", &r->prompt_cost);
    put_cost(w, "line_cost", &r->line_cost);
    put_points(w, "pass_at_k", r->coverage, r->n_coverage);
    put_points(w, "majority", r->majority, r->n_coverage);
    pd_jw_key(w, "coverage_law");
    pd_jw_object(w);
    pd_jw_put_double(w, "a", r->fit.a);
    pd_jw_put_double(w, "b", r->fit.b);
    pd_jw_put_double(w, "rms", r->fit.rms);
    pd_jw_end_object(w);
    pd_jw_key(w, "saturation");
    pd_jw_object(w);
    pd_jw_put_double(w, "f_max", r->saturation.f_max);
    pd_jw_put_double(w, "p", r->saturation.p);
    pd_jw_put_double(w, "rms", r->saturation.rms);
    pd_jw_put_double(w, "n_at_gain_0.01",
                     pd_saturation_point(r->saturation.f_max, r->saturation.p, 0.01));
    pd_jw_end_object(w);
    pd_jw_key(w, "rules");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_rules; i++) {
        pd_jw_object(w);
        pd_jw_put_text(w, "rule", r->rules[i].name);
        pd_jw_put_double(w, "k", r->rules[i].k);
        pd_jw_put_double(w, "tokens", r->rules[i].tokens);
        pd_jw_put_double(w, "accuracy", r->rules[i].accuracy);
        pd_jw_put_bool(w, "best", r->rules[i].best);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_key(w, "lengths");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_bins; i++) {
        pd_jw_object(w);
        pd_jw_put_double(w, "low", r->bins[i].low);
        pd_jw_put_double(w, "high", r->bins[i].high);
        pd_jw_put_double(w, "tokens", r->bins[i].tokens);
        pd_jw_put_uint(w, "n", r->bins[i].n);
        pd_jw_put_uint(w, "right", r->bins[i].n_right);
        put_interval(w, "interval", r->bins[i].interval);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_key(w, "rewards");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_rewards; i++) {
        pd_jw_object(w);
        pd_jw_put_double(w, "low", r->rewards[i].low);
        pd_jw_put_double(w, "high", r->rewards[i].high);
        pd_jw_put_double(w, "reward", r->rewards[i].reward);
        pd_jw_put_uint(w, "n", r->rewards[i].n);
        pd_jw_put_uint(w, "right", r->rewards[i].n_right);
        put_interval(w, "interval", r->rewards[i].interval);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_put_double(w, "brier", r->brier);
    pd_jw_put_double(w, "calibration_error", r->n_rewards ? r->ece : (double)NAN);
    put_fan(w, "rewards_right", &r->right);
    put_fan(w, "rewards_wrong", &r->wrong);
}

static void put_difficulty(struct pd_jw *w, const struct report_run *r)
{
    pd_jw_key(w, "difficulty");
    pd_jw_array(w);
    for (size_t b = 0; b < r->n_difficulties; b++) {
        const struct report_difficulty *d = &r->difficulty[b];

        pd_jw_object(w);
        pd_jw_put_uint(w, "problems", d->n_problems);
        pd_jw_put_double(w, "low", d->low);
        pd_jw_put_double(w, "high", d->high);
        pd_jw_key(w, "variants");
        pd_jw_array(w);
        for (size_t v = 0; v < r->n_variants; v++) {
            pd_jw_object(w);
            pd_jw_put_text(w, "variant", r->variants[v].name);
            pd_jw_put_uint(w, "n", d->variants[v].n);
            pd_jw_put_uint(w, "right", d->variants[v].n_right);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_key(w, "choices");
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_choices; i++) {
        const struct report_choice *c = &r->choices[i];

        pd_jw_object(w);
        pd_jw_put_uint(w, "samples", c->samples);
        pd_jw_put_uint(w, "variants", c->n_variants);
        pd_jw_put_uint(w, "n", c->n);
        pd_jw_put_double(w, "accuracy", c->accuracy);
        pd_jw_put_double(w, "tokens", c->tokens);
        pd_jw_put_double(w, "one_for_all_accuracy", c->one_accuracy);
        pd_jw_put_double(w, "one_for_all_tokens", c->one_tokens);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

void report_json(const struct report *r, struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_key(&w, "runs");
    pd_jw_array(&w);
    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];

        pd_jw_object(&w);
        pd_jw_put_text(&w, "run", run->id);
        pd_jw_put_text(&w, "name", run->name);
        pd_jw_put_text(&w, "status", run->status);
        pd_jw_put_text(&w, "model", run->model);
        pd_jw_put_text(&w, "recipe_sha256", run->recipe_sha256);
        pd_jw_put_bool(&w, "reproducible", run->reproducible);
        pd_jw_put_uint(&w, "problems", run->n_problems);
        pd_jw_put_uint(&w, "repeats", run->repeats);
        pd_jw_put_uint(&w, "jobs", run->n_jobs);
        pd_jw_put_uint(&w, "done", run->n_done);
        pd_jw_put_uint(&w, "failed", run->n_failed);
        pd_jw_put_double(&w, "joules", run->joules);
        pd_jw_key(&w, "variants");
        pd_jw_array(&w);
        for (size_t v = 0; v < run->n_variants; v++)
            put_variant(&w, &run->variants[v]);
        pd_jw_end_array(&w);
        pd_jw_key(&w, "lines");
        pd_jw_object(&w);
        put_lines(&w, run);
        pd_jw_end_object(&w);
        put_difficulty(&w, run);
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_buf_addc(out, '\n');
}

/* Quoted when it has to be (RFC 4180). */
static void csv_text(struct pd_buf *out, const char *text)
{
    bool quote = text && strpbrk(text, ",\"\r\n");

    if (quote)
        pd_buf_addc(out, '"');
    for (const char *p = text ? text : ""; *p; p++) {
        if (*p == '"')
            pd_buf_addc(out, '"');
        pd_buf_addc(out, *p);
    }
    if (quote)
        pd_buf_addc(out, '"');
    pd_buf_addc(out, ',');
}

/* Empty when it is not known. */
static void csv_known(struct pd_buf *out, double v)
{
    pd_buf_addc(out, ',');
    if (isfinite(v))
        pd_buf_printf(out, "%.9g", v);
}

void report_csv(const struct report *r, struct pd_buf *out)
{
    pd_buf_addz(out, "run,variant,strategy,scorer,samples,n,right,failed,accuracy,low,high,tokens,"
                     "prefilled,scored,nodes,seconds,majority,majority_lines,difference,"
                     "difference_low,difference_high,p,p_holm,sequential,flop,bytes,eflop,"
                     "ideal_seconds,joules,answered\n");
    for (size_t i = 0; i < r->n_runs; i++)
        for (size_t k = 0; k < r->runs[i].n_variants; k++) {
            const struct report_variant *v = &r->runs[i].variants[k];

            csv_text(out, v->run);
            csv_text(out, v->name);
            csv_text(out, v->strategy);
            csv_text(out, v->scorer);
            pd_buf_printf(out, "%llu,%llu,%llu,%llu,%.6f,%.6f,%.6f,%.3f,%.3f,%.3f,%.3f,%.3f,",
                          (unsigned long long)v->samples, (unsigned long long)v->n,
                          (unsigned long long)v->n_right, (unsigned long long)v->n_failed,
                          v->accuracy, v->interval.low, v->interval.high, v->tokens, v->prefilled,
                          v->scored, v->nodes, v->seconds);
            if (v->has_base)
                pd_buf_printf(out, "%.6f,%.3f,%.6f,%.6f,%.6f,%.6g,%.6g", v->base_accuracy,
                              v->base_lines, v->accuracy - v->base_accuracy, v->difference.low,
                              v->difference.high, v->p, v->p_holm);
            else
                pd_buf_addz(out, ",,,,,,");
            csv_known(out, v->sequential);
            csv_known(out, v->cost.flop);
            csv_known(out, v->cost.bytes);
            csv_known(out, v->cost.eflop);
            csv_known(out, v->cost.ideal_s);
            csv_known(out, v->cost.joules);
            pd_buf_printf(out, ",%llu\n", (unsigned long long)v->n_answered);
        }
}

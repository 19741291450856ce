/* A job, from words to an answer: parse and validate, load models, store, run on a thread of its
 * own.
 *
 * The stored request is a JSON object with all that determines the result; app_job_stored builds
 * the same job from it again. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/app_int.h"
#include "app/generator_local.h"
#include "app/settings.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/json.h"
#include "core/search.h"

#define REQUEST_MAX_BYTES ((size_t)16 << 20)

/* The models of a job, and what each is called in its stored request. */
enum { MODEL_BASE, MODEL_SCORER, MODEL_DRAFT, N_MODELS };
static const char *const model_keys[N_MODELS] = {"model", "scorer", "draft"};

const struct pd_param app_decode_params[] = {
    PD_CHOICE(app_decode, speculate, ENG_SPECULATE_OFF, "off|lookup|draft",
              "guess the next tokens, from the text or by the draft model; no text changes"),
    PD_INT(app_decode, draft_max, ENG_DEFAULT_DRAFT, 1, ENG_MAX_DRAFT,
           "most tokens guessed at a time"),
    PD_BOOL(app_decode, draft_always, false, "guess so many each time, worth their time or not"),
    {0},
};

struct app_job {
    struct app *app;
    struct pd_job core;
    struct app_decode decode;
    struct app_steering steering;
    const char *steer_path, *steer_sha256; /* NULL: it steers nothing */
    struct pd_sink sink;
    struct pd_arena arena; /* every string of core */
    struct pd_trace *stored;
    struct pd_result result;
    struct pd_err err;
    int rc;
    pthread_t thread;
    const char *chat_template, *chat_template_name; /* of base and draft; NULL: their own */
    const char *kv_type;                            /* NULL: f16 */
    char *paths[N_MODELS];                          /* NULL: not wanted */
    struct eng_model *models[N_MODELS];             /* NULL: not wanted, or elsewhere */
    struct remote_engine *engines[N_MODELS];        /* NULL: not wanted, or here */
    int lock_fd;                                    /* the right to run this job; -1: none */
    void (*on_end)(void *user);
    void *on_end_user;
    bool started;
    pthread_mutex_t lock; /* guards over */
    pthread_cond_t ended;
    bool over;
};

/* ---- the sink -----------------------------------------------------------------------------------
 */

static int sink_job(void *self, const struct pd_job_rec *r, struct pd_err *err)
{
    return store_job_put(self, r, err);
}
static int sink_node(void *self, const char *job, const struct pd_node_rec *r, struct pd_err *err)
{
    return store_node_put(self, job, r, err);
}
static int sink_score(void *self, const char *job, const struct pd_score_rec *r, struct pd_err *err)
{
    return store_score_put(self, job, r, err);
}
static int sink_call(void *self, const char *job, const struct pd_call_rec *r, struct pd_err *err)
{
    return store_call_put(self, job, r, err);
}
static int sink_event(void *self, const char *job, const struct pd_event_rec *r, struct pd_err *err)
{
    return store_event_put(self, job, r, err);
}
static int sink_flush(void *self, struct pd_err *err)
{
    return store_flush(self, err);
}

/* ---- requests -----------------------------------------------------------------------------------
 */

struct request_copy {
    struct app_request r;
    struct pd_arena arena; /* all that r names */
};

static bool keep_texts(struct request_copy *c)
{
    struct app_request *r = &c->r;
    const char **texts[] = {&r->question, &r->system,        &r->problem_key, &r->expect,
                            &r->model,    &r->draft,         &r->truth,       &r->scorer,
                            &r->kv_type,  &r->chat_template, &r->strategy,    &r->budget.wrap_up,
                            &r->id,       &r->run_id,        &r->variant};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (*texts[i] && !(*texts[i] = pd_arena_dup(&c->arena, pd_str_of(*texts[i]))))
            return false;
    return true;
}

/* NULL: out of memory. */
static const char *const *keep_list(struct pd_arena *a, const char *const *texts, size_t n)
{
    const char **list = pd_arena_array(a, n + 1, sizeof *list);

    for (size_t i = 0; i < n && list; i++) {
        list[i] = pd_arena_dup(a, pd_str_of(texts[i]));
        list = list[i] ? list : NULL;
    }
    return list;
}

static bool keep_form(struct request_copy *c)
{
    struct pd_form *f = c->r.form ? pd_arena_memdup(&c->arena, c->r.form, sizeof *f) : NULL;

    if (!c->r.form)
        return true;
    if (!f)
        return false;
    f->text = pd_arena_dup(&c->arena, pd_str_of(c->r.form->text));
    f->after = c->r.form->after ? pd_arena_dup(&c->arena, pd_str_of(c->r.form->after)) : NULL;
    if (!f->text || (c->r.form->after && !f->after))
        return false;
    c->r.form = f;
    return true;
}

struct app_request *app_request_copy(const struct app_request *r)
{
    struct request_copy *c = calloc(1, sizeof *c);
    struct pd_chat *chat = NULL;
    bool whole;

    if (!c)
        return NULL;
    pd_arena_init(&c->arena, REQUEST_MAX_BYTES * 4);
    c->r = *r;
    whole = keep_texts(c) && keep_form(c);
    c->r.options = keep_list(&c->arena, r->options, r->n_options);
    c->r.stops = keep_list(&c->arena, r->stops, r->n_stops);
    if (r->n_logit_bias)
        c->r.logit_bias =
            pd_arena_memdup(&c->arena, r->logit_bias, r->n_logit_bias * sizeof *r->logit_bias);
    if (r->chat)
        whole = app_chat_copy(r->chat, &c->arena, &chat, NULL) == 0 && whole;
    c->r.chat = chat;
    if (!whole || !c->r.options || !c->r.stops || (r->n_logit_bias && !c->r.logit_bias)) {
        app_request_free(&c->r);
        return NULL;
    }
    return &c->r;
}

void app_request_free(struct app_request *copy)
{
    struct request_copy *c;

    if (!copy)
        return;
    c = pd_container_of(copy, struct request_copy, r);
    pd_arena_done(&c->arena);
    free(c);
}

/* ---- building -----------------------------------------------------------------------------------
 */

static char *copy(struct app_job *j, const char *z)
{
    return z ? pd_arena_dup(&j->arena, pd_str_of(z)) : NULL;
}

static int set_option(struct app_job *j, const char *kv, void *params, struct pd_err *err)
{
    const struct pd_strategy *st = j->core.strategy;
    const char *eq = strchr(kv, '=');
    struct pd_str key, value;
    int rc;

    if (!eq)
        return pd_fail(err, PD_EINVAL, "option '%s' is not of the form KEY=VALUE", kv);
    key = (struct pd_str){kv, (size_t)(eq - kv)};
    value = pd_str_of(eq + 1);
    rc = st->params ? pd_params_set(st->params, params, key, value, err) : PD_ENOENT;
    if (rc == PD_ENOENT)
        rc = pd_params_set(pd_common_params, &j->core.common, key, value, err);
    if (rc == PD_ENOENT)
        rc = pd_params_set(app_decode_params, &j->decode, key, value, err);
    if (rc == PD_ENOENT)
        rc = pd_params_set(app_steering_params, &j->steering, key, value, err);
    if (rc == PD_ENOENT)
        rc = pd_fail(err, PD_EINVAL,
                     "strategy '%s' has no option '%.*s' ('ponder solve --strategies' lists them)",
                     st->name, (int)key.len, key.ptr);
    return rc;
}

static int set_steering(struct app_job *j, struct pd_err *err)
{
    char hex[PD_SHA256_HEX], *path;
    int rc;

    if (!app_steers(&j->steering))
        return 0;
    rc = app_steering_sha256(&j->steering, hex, err);
    if (rc < 0)
        return rc;
    path = realpath(j->steering.steer, NULL); /* NULL: of a stored job, whose request has it */
    j->steer_path = copy(j, path);
    j->steer_sha256 = copy(j, hex);
    free(path);
    return j->steer_sha256 ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");
}

static int parse_options(struct app_job *j, const struct app_request *r, struct pd_err *err)
{
    const char *name = r->strategy ? r->strategy : "best_of_n";
    const struct pd_strategy *st = j->core.strategy = pd_strategy_find(name);
    struct pd_buf json = PD_BUF_INIT(REQUEST_MAX_BYTES);
    struct pd_jw w;
    void *params;
    int rc = 0;

    if (!st) {
        struct pd_buf all = PD_BUF_INIT(4096);

        for (size_t i = 0; pd_strategies[i]; i++)
            pd_buf_printf(&all, "%s%s", i ? ", " : "", pd_strategies[i]->name);
        rc = pd_fail(err, PD_EINVAL, "no strategy '%s' (there are: %s)", name,
                     all.data ? all.data : "none");
        pd_buf_done(&all);
        return rc;
    }
    params = pd_arena_alloc(&j->arena, st->params_size + 1);
    if (!params)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    pd_params_default(st->params, params);
    pd_params_default(pd_common_params, &j->core.common);
    pd_params_default(app_decode_params, &j->decode);
    pd_params_default(app_steering_params, &j->steering);
    for (size_t i = 0; i < r->n_options && rc == 0; i++)
        rc = set_option(j, r->options[i], params, err);
    if (rc == 0 && r->budget_samples) {
        char n[32];

        for (size_t i = 0; i < r->n_options; i++)
            if (strncmp(r->options[i], "samples=", 8) == 0)
                return pd_fail(err, PD_EINVAL,
                               "the number of samples is given twice: as the budget and as -o %s",
                               r->options[i]);
        snprintf(n, sizeof n, "%" PRIu64, r->budget_samples);
        rc = st->params ? pd_params_set(st->params, params, PD_STR("samples"), pd_str_of(n), err)
                        : 0;
        rc = rc == PD_ENOENT ? 0 : rc; /* a strategy without samples draws one */
    }
    if (rc == 0)
        rc = set_steering(j, err);
    if (rc < 0)
        return rc;
    j->core.params = params;
    pd_jw_init(&w, &json);
    pd_jw_object(&w);
    pd_params_json(st->params, params, &w);
    pd_params_json(pd_common_params, &j->core.common, &w);
    if (j->steer_sha256)
        app_steering_json(&j->steering, j->steer_sha256, &w);
    pd_jw_end_object(&w);
    j->core.options = pd_arena_dup(&j->arena, pd_buf_str(&json));
    rc = pd_buf_rc(&json) || !j->core.options ? pd_fail(err, PD_ENOMEM, "out of memory") : 0;
    pd_buf_done(&json);
    return rc;
}

static void put_model(struct pd_jw *w, const struct app_job *j, int which, const char *name)
{
    char hex[PD_SHA256_HEX];

    pd_jw_key(w, model_keys[which]);
    pd_jw_object(w);
    pd_jw_put_text(w, "name", name);
    if (j->engines[which]) {
        pd_jw_key(w, "engine");
        pd_jw_object(w);
        remote_engine_json(j->engines[which], w);
        pd_jw_end_object(w);
    } else {
        pd_jw_put_text(w, "file", j->paths[which]);
        pd_hex(eng_model_info(j->models[which])->sha256, PD_SHA256_BYTES, hex);
        pd_jw_put_text(w, "sha256", hex);
    }
    pd_jw_end_object(w);
}

static void put_scorer(struct pd_jw *w, const struct app_job *j)
{
    if (!j->core.verifier->no_model) {
        put_model(w, j, MODEL_SCORER, j->core.scorer);
        return;
    }
    pd_jw_key(w, "scorer");
    pd_jw_object(w);
    pd_jw_put_given(w, "name", j->core.scorer);
    pd_jw_end_object(w);
    pd_jw_key(w, "truth");
    pd_jw_raw(w, pd_str_of(j->core.truth));
}

/* With its text: the file may change or go. */
static void put_template(struct pd_jw *w, const struct app_job *j)
{
    if (!j->chat_template)
        return;
    pd_jw_key(w, "chat_template");
    pd_jw_object(w);
    pd_jw_put_given(w, "name", j->chat_template_name);
    pd_jw_put_given(w, "text", j->chat_template);
    pd_jw_end_object(w);
}

static int budget_json(struct app_job *j, struct pd_err *err)
{
    const struct pd_budget *budget = &j->core.budget;
    struct pd_buf b = PD_BUF_INIT(REQUEST_MAX_BYTES);
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_uint(&w, "tokens", budget->tokens);
    pd_jw_put_double(&w, "seconds", budget->seconds);
    pd_jw_put_uint(&w, "nodes", budget->nodes);
    pd_jw_put_given(&w, "wrap_up", budget->wrap_up);
    pd_jw_put_uint(&w, "wrap_reserve", budget->wrap_reserve);
    pd_jw_end_object(&w);
    j->core.budget_json = pd_arena_dup(&j->arena, pd_buf_str(&b));
    rc = pd_buf_rc(&b) || !j->core.budget_json ? pd_fail(err, PD_ELIMIT, "the request is too large")
                                               : 0;
    pd_buf_done(&b);
    return rc;
}

static int build_request(struct app_job *j, const struct app_request *r, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(REQUEST_MAX_BYTES);
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_given(&w, "question", j->core.question);
    pd_jw_put_given(&w, "system", j->core.system);
    if (j->core.chat)
        app_chat_json(j->core.chat, &w);
    pd_jw_put_given(&w, "expect", r->expect);
    if (r->grade != PD_GRADE_EXACT)
        pd_jw_put_given(&w, "grade", pd_grade_name(r->grade));
    app_shape_json(&j->core, &w);
    put_model(&w, j, MODEL_BASE, j->core.model);
    put_template(&w, j);
    if (j->kv_type && strcmp(j->kv_type, "f16") != 0)
        pd_jw_put_given(&w, "kv_type", j->kv_type); /* what is not said is f16 */
    if (j->core.draft)
        put_model(&w, j, MODEL_DRAFT, j->core.draft);
    if (j->core.verifier)
        put_scorer(&w, j);
    if (j->core.doubt.curve.n) {
        pd_jw_key(&w, "confidence");
        pd_jw_object(&w);
        app_calibration_json(&j->core.doubt, &w);
        pd_jw_put_double(&w, "abstain_below", j->core.doubt.abstain_below);
        pd_jw_end_object(&w);
    }
    pd_jw_put_given(&w, "strategy", j->core.strategy->name);
    pd_jw_key(&w, "options");
    pd_jw_raw(&w, pd_str_of(j->core.options));
    if (j->decode.speculate != ENG_SPECULATE_OFF) {
        pd_jw_key(&w, "decode");
        pd_jw_object(&w);
        pd_params_json(app_decode_params, &j->decode, &w);
        pd_jw_end_object(&w);
    }
    pd_jw_put_given(&w, "steer_file", j->steer_path);
    pd_jw_key(&w, "budget");
    pd_jw_raw(&w, pd_str_of(j->core.budget_json));
    pd_jw_put_given(&w, "version", PONDER_VERSION);
    pd_jw_end_object(&w);
    j->core.request = pd_arena_dup(&j->arena, pd_buf_str(&b));
    rc =
        pd_buf_rc(&b) || !j->core.request ? pd_fail(err, PD_ELIMIT, "the request is too large") : 0;
    pd_buf_done(&b);
    return rc;
}

/* The scorer's calibration, as it is now: the job keeps it. Without one a job has no confidence to
 * tell, and cannot be asked for some. */
static int set_doubt(struct app_job *j, double abstain_below, struct pd_err *err)
{
    struct pd_err why = {0};
    int rc;

    if (!(abstain_below >= 0 && abstain_below <= 1))
        return pd_fail(err, PD_EINVAL, "abstain-below is a probability, from 0 to 1");
    if (!j->models[MODEL_SCORER])
        return abstain_below > 0 ? pd_fail(err, PD_EINVAL,
                                           "abstain-below needs a strategy that scores, and a "
                                           "reward model for it")
                                 : 0;
    rc = app_calibration_load(j->core.scorer, eng_model_info(j->models[MODEL_SCORER])->sha256,
                              &j->core.doubt, &why);
    j->core.doubt.abstain_below = abstain_below;
    if (rc == 0 || (rc == PD_ENOENT && abstain_below <= 0))
        return 0;
    if (err)
        *err = why;
    return rc;
}

static int set_chat(struct app_job *j, const struct pd_chat *chat, struct pd_err *err)
{
    struct pd_buf question = PD_BUF_INIT(REQUEST_MAX_BYTES);
    struct pd_chat *c;
    int rc = app_chat_copy(chat, &j->arena, &c, err);

    if (rc < 0)
        return rc;
    j->core.chat = c;
    if (app_chat_question(c, &question) == 0)
        j->core.question = pd_arena_dup(&j->arena, pd_buf_str(&question));
    pd_buf_done(&question);
    if (c->n_messages && strcmp(c->messages[0].role, "system") == 0)
        j->core.system = pd_arena_dup(&j->arena, c->messages[0].content);
    return j->core.question ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");
}

/* Where answers stop and what they are to say, as the request or its stored form has it. */
static int set_shape(struct app_job *j, const struct app_request *r, struct pd_err *err)
{
    const char **stops = pd_arena_array(&j->arena, r->n_stops + 1, sizeof *stops);

    if (r->n_stops > PD_STOPS_MAX || r->n_logit_bias > PD_BIAS_MAX)
        return pd_fail(err, PD_EINVAL, "%zu stop strings or %zu logit biases are too many (%d, %d)",
                       r->n_stops, r->n_logit_bias, PD_STOPS_MAX, PD_BIAS_MAX);
    for (size_t i = 0; i < r->n_stops && stops; i++) {
        if (!r->stops[i][0] || strlen(r->stops[i]) > PD_STOP_MAX_BYTES)
            return pd_fail(err, PD_EINVAL, "stop strings have 1 to %d bytes", PD_STOP_MAX_BYTES);
        stops[i] = copy(j, r->stops[i]);
        if (!stops[i])
            stops = NULL;
    }
    j->core.stops = r->n_stops ? stops : NULL;
    j->core.n_logit_bias = r->n_logit_bias;
    if (r->n_logit_bias)
        j->core.logit_bias =
            pd_arena_memdup(&j->arena, r->logit_bias, r->n_logit_bias * sizeof *r->logit_bias);
    return stops && (!r->n_logit_bias || j->core.logit_bias)
               ? 0
               : pd_fail(err, PD_ENOMEM, "out of memory");
}

/* With what the grammar or schema says, judged. */
static int set_form(struct app_job *j, const struct pd_form *form, struct pd_err *err)
{
    struct eng_grammar *grammar;
    struct pd_json *schema = NULL;
    struct pd_form *f;
    int rc;

    if (!form)
        return 0;
    rc = app_grammar_new(NULL, form, &grammar, err);
    if (rc < 0)
        return rc;
    eng_grammar_unref(grammar);
    f = pd_arena_memdup(&j->arena, form, sizeof *form);
    if (!f || !(f->text = copy(j, form->text)) ||
        (form->after && !(f->after = copy(j, form->after))))
        return pd_fail(err, PD_ENOMEM, "out of memory");
    if (form->schema) {
        rc = pd_json_parse(pd_str_of(form->text), &schema, err);
        if (rc == 0)
            rc = app_schema_text(schema, &j->arena, &f->text, err);
        pd_json_free(schema);
    }
    j->core.form = f;
    return rc;
}

static void job_fields(struct app_job *j, const struct app_request *r)
{
    j->core.question = copy(j, r->question);
    j->core.system = copy(j, r->system);
    j->core.problem_key = copy(j, r->problem_key);
    j->core.expect = copy(j, r->expect);
    j->core.grade = r->grade;
    j->core.run_id = copy(j, r->run_id);
    j->core.variant = copy(j, r->variant);
    j->core.seed = r->seed;
    j->core.repeat = r->repeat;
    j->core.budget = r->budget;
    j->core.budget.wrap_up = copy(j, r->budget.wrap_up);
    if (!j->core.budget.wrap_reserve)
        j->core.budget.wrap_reserve = 64;
}

static int new_job(struct app *a, struct app_job **out, struct pd_err *err)
{
    struct app_job *j = calloc(1, sizeof *j);
    struct settings *limits;

    if (!j)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    j->app = a;
    j->lock_fd = -1;
    pd_arena_init(&j->arena, REQUEST_MAX_BYTES * 4);
    limits = settings_current();
    j->core.max_prompt_tokens = limits ? (uint32_t)limits->max_prompt_tokens : 0;
    settings_unref(limits);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->ended, &attr);
    pthread_condattr_destroy(&attr);
    if (a->store) {
        j->sink = (struct pd_sink){a->store,  sink_job,   sink_node, sink_score,
                                   sink_call, sink_event, sink_flush};
        j->core.sink = &j->sink;
    }
    *out = j;
    return 0;
}

static bool scored_by_model(const struct app_job *j)
{
    return j->core.verifier && !j->core.verifier->no_model;
}

/* The scorer by what names it (NULL: none), and the truth that one without a model judges by. */
static int set_scorer(struct app_job *j, const char *scorer, const char *truth, struct pd_err *err)
{
    int rc = !scorer ? 0
                     : app_scorer_parse(scorer, &j->arena, &j->core.verifier,
                                        &j->core.scorer_params, err);

    if (rc == 0) {
        j->core.scorer = copy(j, scorer);
        j->core.truth = scored_by_model(j) ? NULL : copy(j, truth);
    }
    return rc;
}

/* The model's name alone; NULL: there is none. */
static const char *scorer_model(struct app_job *j)
{
    char *name = scored_by_model(j) ? app_scorer_model(j->core.scorer) : NULL;
    const char *kept = copy(j, name);

    free(name);
    return kept;
}

static bool lacks_truth(const struct app_job *j)
{
    return j->core.verifier && !scored_by_model(j) && !j->core.truth;
}

/* Whether the tokens of two models mean the same: a draft is read by the base token for token. */
static int check_same_tokens(const struct app_job *j, struct pd_err *err)
{
    const struct eng_tokenizer *a = eng_model_tokenizer(j->models[MODEL_BASE]);
    const struct eng_tokenizer *b = eng_model_tokenizer(j->models[MODEL_DRAFT]);
    struct pd_buf x = PD_BUF_INIT(1 << 16), y = PD_BUF_INIT(1 << 16);
    bool same = eng_n_vocab(a) == eng_n_vocab(b);

    for (int32_t id = 0; same && (uint32_t)id < eng_n_vocab(a); id++) {
        pd_buf_clear(&x);
        pd_buf_clear(&y);
        same = eng_detokenize(a, &id, 1, true, &x, NULL) == 0 &&
               eng_detokenize(b, &id, 1, true, &y, NULL) == 0 &&
               pd_str_eq(pd_buf_str(&x), pd_buf_str(&y));
    }
    pd_buf_done(&x);
    pd_buf_done(&y);
    return same ? 0
                : pd_fail(err, PD_EFORMAT, "draft model '%s' has other tokens than model '%s'",
                          j->core.draft, j->core.model);
}

static int set_template(struct app_job *j, const char *name, struct pd_err *err)
{
    char *text = NULL;
    int rc = name ? app_find_template(name, &text, err) : 0;

    j->chat_template_name = copy(j, name);
    j->chat_template = copy(j, text);
    free(text);
    return rc;
}

/* Where one of the models is elsewhere: on a text. */
static int check_same_texts(const struct app_job *j, struct pd_err *err)
{
    struct pd_generator *a = j->core.gen, *b = j->core.draft_gen;
    struct pd_str text = pd_str_of(j->core.question);
    int32_t *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    int rc = a->ops->tokenize(a, text, &x, &n, err);

    if (rc == 0)
        rc = b->ops->tokenize(b, text, &y, &m, err);
    if (rc == 0 && (n != m || (n && memcmp(x, y, n * sizeof *x) != 0)))
        rc = pd_fail(err, PD_EFORMAT, "draft model '%s' has other tokens than model '%s'",
                     j->core.draft, j->core.model);
    free(x);
    free(y);
    return rc;
}

static int render(void *user, const struct pd_chat *c, struct pd_buf *out, struct pd_err *err)
{
    const struct app_job *j = user;

    return eng_chat_text(NULL, j->chat_template, c, out, err);
}

/* The generator of a model by its name. */
static int load_model(struct app_job *j, int which, const char *name, const char *called,
                      struct pd_generator **out, struct pd_err *err)
{
    bool templated = which != MODEL_SCORER && j->chat_template;
    int rc = app_remote_engine(j->app, name, &j->engines[which], err);

    if (rc == 1 && j->app->elsewhere && !remote_is_probed(j->engines[which]))
        return app_miss(j->app, name, err);
    if (rc == 1)
        return remote_generator_new(j->engines[which], called, templated ? render : NULL, j, out,
                                    err);
    if (rc == 0)
        rc = app_start_engine(j->app, j->kv_type, err);
    if (rc == 0)
        rc = app_find_model(name, &j->paths[which], err);
    if (rc == 0)
        rc = app_model(j->app, j->paths[which], &j->models[which], err);
    if (rc == 0)
        rc = app_check_model(name, eng_model_info(j->models[which]), err);
    if (rc == 0)
        rc = app_generator_new(j->app->eng, j->models[which], called,
                               templated ? j->chat_template : NULL, out, err);
    return rc;
}

/* Finds and loads the models that are named (NULL: not wanted) and makes their generators. */
static int load_models(struct app_job *j, const char *const names[N_MODELS], struct pd_err *err)
{
    struct pd_generator **gens[N_MODELS] = {&j->core.gen, &j->core.scorer_gen, &j->core.draft_gen};
    const char *called[N_MODELS] = {j->core.model, j->core.scorer, j->core.draft};
    int rc = 0;

    for (int i = 0; i < N_MODELS && rc == 0; i++)
        if (names[i])
            rc = load_model(j, i, names[i], called[i], gens[i], err);
    if (rc == 0 && j->core.gen && j->core.draft_gen)
        rc = j->models[MODEL_BASE] && j->models[MODEL_DRAFT] ? check_same_tokens(j, err)
                                                             : check_same_texts(j, err);
    if (rc == 0 && !j->models[MODEL_BASE] &&
        (j->decode.speculate != ENG_SPECULATE_OFF || j->steer_sha256))
        rc = pd_fail(err, PD_EINVAL, "%s is for models of the local engine, not for '%s'",
                     j->steer_sha256 ? "steer" : "speculate", j->core.model);
    if (rc == 0 && j->models[MODEL_BASE])
        rc = app_generator_speculate(j->core.gen, &j->decode, j->models[MODEL_DRAFT], err);
    if (rc == 0 && j->core.gen && j->steer_sha256) {
        struct eng_steer *steer;

        rc = app_steering_load(j->steer_path, j->steer_sha256, j->steering.steer_gamma,
                               j->models[MODEL_BASE], &steer, err);
        if (rc == 0)
            app_generator_steer(j->core.gen, steer);
    }
    return rc;
}

/* Two owners of one job would both write its record. */
static int lock_job(struct app_job *j, struct pd_err *err)
{
    return j->core.sink ? store_job_lock(j->app->store, j->core.id, &j->lock_fd, err) : 0;
}

static int check_request(const struct app_request *r, struct pd_err *err)
{
    const struct {
        const char *what, *text;
    } texts[] = {{"question", r->question},       {"system message", r->system},
                 {"expected answer", r->expect},  {"wrap-up text", r->budget.wrap_up},
                 {"name of the model", r->model}, {"name of the scorer", r->scorer}};

    if (!r->chat && !pd_str_trim(pd_str_of(r->question)).len)
        return pd_fail(err, PD_EINVAL, "the question is empty");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].text && !pd_utf8_valid(pd_str_of(texts[i].text)))
            return pd_fail(err, PD_EINVAL, "the %s is not valid UTF-8", texts[i].what);
    return 0;
}

/* All of a new job but its rows. */
static int build_job(struct app *a, const struct app_request *r, const char *id,
                     struct app_job **out, struct pd_err *err)
{
    struct app_job *j;
    int rc = new_job(a, &j, err);

    if (rc < 0)
        return rc;
    rc = check_request(r, err);
    if (rc == 0) {
        j->core.id = copy(j, id);
        if (!j->core.id)
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
    }
    if (rc == 0)
        rc = parse_options(j, r, err);
    if (rc == 0) {
        /* a scorer that is named for a strategy without use for it (by a variable, say) stays out
         */
        const char *scorer = !pd_strategy_scores(j->core.strategy, j->core.params) ? NULL
                             : r->scorer                                           ? r->scorer
                                         : app_default_scorer;

        job_fields(j, r);
        rc = set_shape(j, r, err);
        if (rc == 0)
            rc = j->core.strategy->form && r->form
                     ? pd_fail(err, PD_EINVAL,
                               "strategy '%s' writes in a form of its own: no other can be given",
                               j->core.strategy->name)
                     : set_form(j, r->form, err);
        if (j->core.strategy->form)
            j->core.form = j->core.strategy->form;
        if (rc == 0 && r->chat)
            rc = set_chat(j, r->chat, err);
        j->core.model = copy(j, r->model ? r->model : app_default_model);
        if (j->core.strategy->needs_draft || j->decode.speculate == ENG_SPECULATE_DRAFT)
            j->core.draft = copy(j, r->draft ? r->draft : app_default_draft);
        j->core.created_ms = pd_clock_unix_ms();
        j->kv_type = copy(j, r->kv_type);
        if (rc == 0)
            rc = set_scorer(j, scorer, r->truth, err);
        if (rc == 0)
            rc = set_template(j, r->chat_template, err);
        if (rc == 0 && lacks_truth(j))
            rc = pd_fail(err, PD_EINVAL, "the %s knows the bundled problems only: give one with -p",
                         j->core.verifier->name);
        if (rc == 0)
            rc = load_models(j, (const char *[]){j->core.model, scorer_model(j), j->core.draft},
                             err);
    }
    if (rc == 0)
        rc = set_doubt(j, r->abstain_below, err);
    if (rc == 0)
        rc = budget_json(j, err);
    if (rc == 0)
        rc = build_request(j, r, err);
    if (rc == 0 && j->core.budget.wrap_up && j->core.budget.tokens &&
        j->core.budget.tokens <= j->core.budget.wrap_reserve)
        rc = pd_fail(err, PD_EINVAL,
                     "a budget of %" PRIu64
                     " tokens is too small for a wrap-up, which holds back %u",
                     j->core.budget.tokens, j->core.budget.wrap_reserve);
    if (rc < 0) {
        app_job_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

int app_job_new(struct app *a, const struct app_request *r, struct app_job **out,
                struct pd_err *err)
{
    struct app_job *j = NULL;
    char id[PD_ID_MAX];
    int rc = r->id ? 0 : pd_id_new("job_", id, err);

    if (rc == 0)
        rc = build_job(a, r, r->id ? r->id : id, &j, err);
    if (rc == 0)
        rc = lock_job(j, err);
    if (rc == 0) {
        j->core.started_ms = pd_clock_unix_ms();
        rc = pd_job_store(&j->core, err);
    }
    if (rc < 0) {
        app_job_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

int app_job_submit(struct app *a, const struct app_request *r, const char *id,
                   const struct store_submission *how, struct pd_err *err)
{
    struct app_job *j = NULL;
    struct pd_job_rec rec;
    int rc = build_job(a, r, id, &j, err);

    if (rc == 0) {
        pd_job_record(&j->core, "queued", &rec);
        rc = store_job_submit(a->store, &rec, how, err);
    }
    app_job_free(j);
    return rc;
}

/* ---- scoring ------------------------------------------------------------------------------------
 */

struct scoring {
    const char **texts;
    size_t n;
};

static int score_texts(struct search *s, const void *params, struct pd_err *err)
{
    const struct scoring *p = params;
    struct node **nodes = search_array(s, (int)p->n);
    int rc = 0;

    for (size_t i = 0; i < p->n && rc == 0; i++)
        rc = search_force(s, search_root(s), pd_str_of(p->texts[i]), &nodes[i], err);
    if (rc == 0)
        rc = search_score(s, nodes, (int)p->n, err);
    return rc < 0 ? rc : search_abstain(s, err);
}

static const struct pd_strategy scoring_strategy = {
    .name = "score", .needs_scorer = true, .run = score_texts};

int app_job_score(struct app *a, const char *scorer, const char *problem, const char *const *texts,
                  size_t n, struct app_job **out, struct pd_err *err)
{
    struct app_job *j;
    struct scoring *p;
    char id[PD_JOB_ID_MAX];
    int rc = new_job(a, &j, err);

    if (rc < 0)
        return rc;
    j->core.sink = NULL;
    p = pd_arena_alloc(&j->arena, sizeof *p);
    if (!p || !(p->texts = pd_arena_array(&j->arena, n + 1, sizeof *p->texts)))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    else if (n == 0 || n > APP_SCORE_MAX)
        rc = pd_fail(err, PD_EINVAL, "there are %zu texts to score (1 to %d)", n, APP_SCORE_MAX);
    if (rc == 0)
        rc = pd_id_new("job_", id, err);
    for (; rc == 0 && p->n < n; p->n++)
        if (!(p->texts[p->n] = copy(j, texts[p->n])))
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
    if (rc == 0)
        rc = set_scorer(j, scorer, NULL, err);
    if (rc == 0 && !scored_by_model(j))
        rc = pd_fail(err, PD_EINVAL, "'%s' judges without a model: it cannot score texts", scorer);
    if (rc == 0) {
        j->core.id = copy(j, id);
        j->core.model = j->core.scorer;
        j->core.question = copy(j, problem);
        j->core.strategy = &scoring_strategy;
        j->core.params = p;
        pd_params_default(pd_common_params, &j->core.common);
        rc = load_models(j, (const char *[N_MODELS]){scorer_model(j), scorer_model(j), NULL}, err);
    }
    if (rc < 0) {
        app_job_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

/* ---- a stored job again
 * -------------------------------------------------------------------------- */

static uint64_t number(const struct pd_json *obj, const char *key)
{
    int64_t v;

    return pd_json_int(pd_json_get(obj, key), &v) && v > 0 ? (uint64_t)v : 0;
}

/* The members of an object as "key=value" behind the options of r: they go through the same door as
 * the command line's. */
static int add_stored(struct app_job *j, const struct pd_json *o, struct app_request *r,
                      struct pd_err *err)
{
    size_t n = o ? pd_json_size(o) : 0;
    const char **list = pd_arena_array(&j->arena, r->n_options + n + 1, sizeof *list);

    if (!list)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    for (size_t i = 0; i < r->n_options; i++)
        list[i] = r->options[i];
    for (const struct pd_json *v = o ? pd_json_first(o) : NULL; v; v = pd_json_next(v)) {
        struct pd_buf kv = PD_BUF_INIT(4096);
        double d;
        bool b;

        if (pd_json_string(v))
            pd_buf_printf(&kv, "%s=%s", pd_json_key(v), pd_json_string(v));
        else if (pd_json_bool(v, &b))
            pd_buf_printf(&kv, "%s=%s", pd_json_key(v), b ? "true" : "false");
        else if (pd_json_number(v, &d))
            pd_buf_printf(&kv, "%s=%.17g", pd_json_key(v), d);
        list[r->n_options++] = pd_arena_dup(&j->arena, pd_buf_str(&kv));
        pd_buf_done(&kv);
    }
    r->options = list;
    return 0;
}

static int stored_options(struct app_job *j, const struct pd_job_rec *rec,
                          const struct pd_json *decode, struct pd_err *err)
{
    struct app_request r = {.strategy = rec->strategy};
    struct pd_json *o = NULL;
    int rc = pd_json_parse(pd_str_of(rec->options), &o, err);

    if (rc == 0)
        rc = add_stored(j, o, &r, err);
    if (rc == 0)
        rc = add_stored(j, decode, &r, err);
    pd_json_free(o);
    return rc == 0 ? parse_options(j, &r, err) : rc;
}

/* The request's member as a text again; NULL: none. */
static const char *stored_truth(struct app_job *j, const struct pd_json *request)
{
    const struct pd_json *truth = pd_json_get(request, "truth");
    struct pd_buf b = PD_BUF_INIT(REQUEST_MAX_BYTES);
    const char *text = NULL;
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_value(&w, truth);
    if (truth && pd_buf_rc(&b) == 0)
        text = pd_arena_dup(&j->arena, pd_buf_str(&b));
    pd_buf_done(&b);
    return text;
}

static int check_engine(const struct pd_json *m, const struct remote_engine *engine,
                        struct pd_err *err)
{
    const char *then = pd_json_string(pd_json_get(pd_json_get(m, "engine"), "model"));
    const char *now = remote_engine_model(engine);

    return then && now && strcmp(then, now) == 0
               ? 0
               : pd_fail(err, PD_EFORMAT, "'%s' is model %s now, and was %s when this job ran",
                         pd_json_string(pd_json_get(m, "name")), now ? now : "?",
                         then ? then : "a file here");
}

static int check_model(const struct pd_json *m, const struct eng_model *model, struct pd_err *err)
{
    const char *want = pd_json_string(pd_json_get(m, "sha256"));
    char hex[PD_SHA256_HEX];

    pd_hex(eng_model_info(model)->sha256, PD_SHA256_BYTES, hex);
    if (want && strcmp(want, hex) != 0)
        return pd_fail(err, PD_EFORMAT,
                       "'%s' is not the file this job ran with (sha256 %.12s… now, %.12s… then)",
                       eng_model_info(model)->path, hex, want);
    return 0;
}

static bool is_stored_model(const struct pd_json *request, int which)
{
    const struct pd_json *m = pd_json_get(request, model_keys[which]);

    return pd_json_string(pd_json_get(m, "file")) || pd_json_get(m, "engine");
}

int app_job_stored(struct app *a, const char *id, enum pd_job_mode mode, struct app_job **out,
                   struct pd_err *err)
{
    struct pd_json *q = NULL;
    const struct pd_job_rec *rec;
    struct app_job *j;
    int rc = new_job(a, &j, err);

    if (rc < 0)
        return rc;
    rc = store_trace_load(a->store, id, &j->stored, err);
    if (rc == 0 && mode == PD_JOB_RUN && strcmp(j->stored->job.status, "done") == 0)
        mode = PD_JOB_RECORDED; /* nothing is missing */
    if (rc == 0 && mode == PD_JOB_RUN) {
        char full_id[PD_JOB_ID_MAX];

        /* load again under the lock: its owner may have written until now */
        snprintf(full_id, sizeof full_id, "%s", j->stored->job.id);
        j->core.id = full_id;
        rc = lock_job(j, err);
        store_trace_free(j->stored);
        j->stored = NULL;
        if (rc == 0)
            rc = store_trace_load(a->store, full_id, &j->stored, err);
    }
    if (rc < 0)
        goto out;
    rec = &j->stored->job;
    if (mode != PD_JOB_RUN)
        j->core.sink = NULL;
    j->core.mode = mode;
    j->core.stored = j->stored;
    j->core.id = rec->id;
    j->core.created_ms = rec->created_ms;
    j->core.started_ms = rec->started_ms;
    rc = pd_json_parse(rec->request, &q, err);
    if (rc == 0)
        rc = stored_options(j, rec, pd_json_get(q, "decode"), err);
    if (rc == 0) {
        const struct pd_json *b = pd_json_get(q, "budget");
        struct app_request r = {.question = pd_json_string(pd_json_get(q, "question")),
                                .system = pd_json_string(pd_json_get(q, "system")),
                                .expect = pd_json_string(pd_json_get(q, "expect")),
                                .problem_key = rec->problem_key,
                                .seed = rec->seed,
                                .repeat = rec->repeat};

        r.budget.tokens = number(b, "tokens");
        r.budget.nodes = number(b, "nodes");
        r.budget.wrap_reserve = (uint32_t)number(b, "wrap_reserve");
        r.budget.wrap_up = pd_json_string(pd_json_get(b, "wrap_up"));
        pd_json_number(pd_json_get(b, "seconds"), &r.budget.seconds);
        if (pd_json_string(pd_json_get(q, "grade")))
            rc = pd_grade_find(pd_json_string(pd_json_get(q, "grade")), &r.grade, err);
        job_fields(j, &r);
        j->core.model = copy(j, rec->model);
        j->core.draft = copy(j, pd_json_string(pd_json_get(pd_json_get(q, "draft"), "name")));
        j->core.request = pd_arena_dup(&j->arena, rec->request);
        j->core.budget_json = copy(j, rec->budget);
        j->chat_template =
            copy(j, pd_json_string(pd_json_get(pd_json_get(q, "chat_template"), "text")));
        j->kv_type = copy(j, pd_json_string(pd_json_get(q, "kv_type")));
        j->steer_path = copy(j, pd_json_string(pd_json_get(q, "steer_file")));
        if (rc == 0)
            rc = app_stops_parse(q, &j->arena, &r.stops, &r.n_stops, err);
        if (rc == 0)
            rc = app_bias_parse(q, &j->arena, &r.logit_bias, &r.n_logit_bias, err);
        if (rc == 0)
            rc = app_form_parse(q, &j->arena, &j->core.form, err);
        if (j->core.strategy && j->core.strategy->form)
            j->core.form = j->core.strategy->form;
        if (rc == 0)
            rc = set_shape(j, &r, err);
        if (rc == 0 && (pd_json_get(q, "messages") || pd_json_get(q, "prompt"))) {
            struct pd_chat *c;

            rc = app_chat_parse(q, &j->arena, &c, err);
            j->core.chat = rc == 0 ? c : NULL;
        }
        if (rc == 0)
            rc = set_scorer(j, rec->scorer, stored_truth(j, q), err);
        if (rc == 0 && pd_json_get(q, "confidence")) {
            const struct pd_json *doubt = pd_json_get(q, "confidence");

            rc = app_calibration_parse(doubt, &j->core.doubt, err);
            pd_json_number(pd_json_get(doubt, "abstain_below"), &j->core.doubt.abstain_below);
        }
        if (rc == 0 &&
            (!r.question || !is_stored_model(q, MODEL_BASE) ||
             (scored_by_model(j) && !is_stored_model(q, MODEL_SCORER)) || lacks_truth(j)))
            rc = pd_fail(err, PD_EFORMAT, "the stored request of %s is not complete", rec->id);
        if (rc == 0 && mode != PD_JOB_RECORDED) {
            /* where the file was, or by its name when it has moved; check_model compares the
             * content */
            const char *names[N_MODELS] = {NULL};

            for (int i = 0; i < N_MODELS; i++) {
                const struct pd_json *m = pd_json_get(q, model_keys[i]);
                const char *file = pd_json_string(pd_json_get(m, "file"));

                if (is_stored_model(q, i))
                    names[i] = file && pd_file_exists(file) ? file
                               : i == MODEL_SCORER          ? scorer_model(j)
                                                   : pd_json_string(pd_json_get(m, "name"));
            }
            rc = load_models(j, names, err);
            for (int i = 0; i < N_MODELS && rc == 0; i++) {
                const struct pd_json *m = pd_json_get(q, model_keys[i]);

                if (j->models[i])
                    rc = check_model(m, j->models[i], err);
                else if (j->engines[i])
                    rc = check_engine(m, j->engines[i], err);
            }
        }
    }
out:
    pd_json_free(q);
    if (rc < 0) {
        app_job_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

bool app_job_is_done(const struct app_job *j)
{
    return j->stored && strcmp(j->stored->job.status, "done") == 0;
}

int app_job_take_tokenizer(struct app_job *j, struct pd_err *err)
{
    struct pd_json *q = NULL;
    const struct pd_json *m;
    struct eng_model *loaded;
    const char *file;
    int rc = pd_json_parse(pd_str_of(j->core.request), &q, err);

    m = pd_json_get(q, model_keys[MODEL_BASE]);
    file = pd_json_string(pd_json_get(m, "file"));
    loaded = rc == 0 && file ? app_loaded_model(j->app, file) : NULL;
    if (loaded && check_model(m, loaded, NULL) == 0)
        rc = app_generator_new(j->app->eng, loaded, j->core.model, NULL, &j->core.gen, err);
    eng_model_unref(loaded);
    pd_json_free(q);
    return rc;
}

/* ---- running
 * -------------------------------------------------------------------------------------- */

static void *job_thread(void *arg)
{
    struct app_job *j = arg;

    j->rc = pd_job_run(&j->core, &j->result, &j->err);
    pthread_mutex_lock(&j->lock);
    j->over = true;
    pthread_cond_broadcast(&j->ended);
    pthread_mutex_unlock(&j->lock);
    if (j->on_end)
        j->on_end(j->on_end_user);
    return NULL;
}

void app_job_listen(struct app_job *j, const struct pd_listener *l)
{
    j->core.listener = l;
}

void app_job_on_end(struct app_job *j, void (*ended)(void *user), void *user)
{
    j->on_end = ended;
    j->on_end_user = user;
}

int app_job_start(struct app_job *j, struct pd_err *err)
{
    int e, rc = 0;

    if (!j->core.started_ms)
        j->core.started_ms = pd_clock_unix_ms();
    if (j->stored && j->core.sink)
        rc = store_job_state_put(
            j->app->store, j->core.id,
            &(struct store_job_state){.status = "running", .started_ms = j->core.started_ms}, err);
    if (rc < 0)
        return rc;
    e = pthread_create(&j->thread, NULL, job_thread, j);

    if (e)
        return pd_fail_errno(err, e, "cannot start the job's thread");
    j->started = true;
    return 0;
}

int app_job_wait(struct app_job *j, int64_t deadline_ns, const struct pd_result **out_result,
                 struct pd_err *err)
{
    struct timespec ts = {deadline_ns / PD_NS_PER_S, deadline_ns % PD_NS_PER_S};
    bool over;

    pthread_mutex_lock(&j->lock);
    while (!j->over && deadline_ns != PD_NEVER_NS &&
           pthread_cond_timedwait(&j->ended, &j->lock, &ts) == 0)
        ;
    while (!j->over && deadline_ns == PD_NEVER_NS)
        pthread_cond_wait(&j->ended, &j->lock);
    over = j->over;
    pthread_mutex_unlock(&j->lock);
    if (!over)
        return pd_fail(err, PD_ETIMEOUT, "the job is still running");
    *out_result = &j->result;
    if (err)
        *err = j->err;
    return j->rc;
}

void app_job_cancel(struct app_job *j)
{
    atomic_store(&j->core.cancel, true);
}

void app_job_stop(struct app_job *j, const char *status)
{
    atomic_store(&j->core.stop_as, status);
    atomic_store(&j->core.cancel, true);
}

const struct eng_tokenizer *app_job_tokenizer(const struct app_job *j)
{
    return j->models[MODEL_BASE] ? eng_model_tokenizer(j->models[MODEL_BASE]) : NULL;
}

const struct pd_job *app_job_core(const struct app_job *j)
{
    return &j->core;
}

static void gen_free(struct pd_generator *g)
{
    if (g)
        g->ops->free(g);
}

void app_job_free(struct app_job *j)
{
    if (!j)
        return;
    if (j->started) {
        app_job_cancel(j);
        pthread_join(j->thread, NULL);
    }
    pd_result_done(&j->result);
    gen_free(j->core.gen);
    gen_free(j->core.scorer_gen);
    gen_free(j->core.draft_gen);
    store_trace_free(j->stored);
    for (int i = 0; i < N_MODELS; i++) {
        eng_model_unref(j->models[i]);
        free(j->paths[i]);
    }
    if (j->lock_fd >= 0)
        close(j->lock_fd);
    pd_arena_done(&j->arena);
    pthread_cond_destroy(&j->ended);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

static void cut_at_stop(const struct pd_trace *t, uint32_t node, struct pd_buf *line)
{
    struct pd_arena a;
    struct pd_json *request = NULL;
    const char *const *stops = NULL;
    size_t n;

    pd_arena_init(&a, REQUEST_MAX_BYTES);
    if (pd_json_parse(t->job.request, &request, NULL) == 0)
        (void)app_stops_parse(request, &a, &stops, &n, NULL);
    line->len = pd_stop_at(stops, pd_buf_str(line), t->nodes[node].text.len);
    if (line->data)
        line->data[line->len] = '\0';
    pd_json_free(request);
    pd_arena_done(&a);
}

char *app_trace_line(const struct pd_trace *t, uint32_t node)
{
    struct pd_buf line = PD_BUF_INIT(REQUEST_MAX_BYTES);
    uint32_t path[10000], n = 0;
    char *text;

    for (uint32_t i = node; i < t->n_nodes && n < 10000; i = t->nodes[i].parent) {
        if (strcmp(t->nodes[i].finish, "prompt") == 0)
            break;
        path[n++] = i;
    }
    while (n)
        pd_buf_adds(&line, t->nodes[path[--n]].text);
    if (strcmp(t->nodes[node].finish, "stop") == 0)
        cut_at_stop(t, node, &line);
    text = pd_buf_take(&line);
    return text ? text : strdup("");
}

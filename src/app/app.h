/* The wiring: engine → generator, trace → storage, names → files. Runs embedded in the CLI (and,
 * later, inside the daemon). The CLI sees the other parts only through this door. */
#ifndef PD_APP_APP_H
#define PD_APP_APP_H

#include "base/hash.h"
#include "base/json.h"
#include "core/job.h"
#include "engine/engine.h"
#include "storage/storage.h"

/* ---- where things are ---------------------------------------------------------------------------
 */

/* The trace database: PONDER_DATA_DIR/ponder.db, else $XDG_STATE_HOME/ponder/ponder.db, else
 * ~/.local/state/ponder/ponder.db. data_dir overrides all (may be NULL). malloc'ed. */
char *app_db_path(const char *data_dir);
/* Where the daemon's socket and token are: $RUNTIME_DIRECTORY (of a systemd service),
 * $XDG_RUNTIME_DIR/ponder, /run/ponder for root, else beside the trace database. malloc'ed. */
char *app_runtime_path(const char *name);
/* A model: a path (contains '/' or ends in .gguf and exists), else NAME.gguf, NAME-Q8_0.gguf,
 * NAME-F16.gguf, NAME-00001-of-….gguf (a split model) in: PONDER_MODELS_DIR,
 * $XDG_DATA_HOME/ponder/models, PONDER_PKGDATADIR/models (run from the build tree: the source
 * tree's recipes/models). What the settings call a model comes before all of these. PD_ENOENT names
 * what was tried. malloc'ed. */
int app_find_model(const char *name, char **out_path, struct pd_err *err);
/* The model of a scorer that has one: its text up to ":kind=". malloc'ed; NULL: out of memory. */
char *app_scorer_model(const char *scorer);
/* PD_EINVAL: an engine elsewhere serves it, as the configuration says. */
int app_check_local(const char *name, struct pd_err *err);
/* PD_EFORMAT: the settings want another sha256 of the model with this name. */
int app_check_model(const char *name, const struct eng_model_info *info, struct pd_err *err);
/* A chat template by its name ("chatml", "none", …), else the text of a Jinja file. PD_ENOENT lists
 * the names. malloc'ed. */
int app_find_template(const char *name, char **out_text, struct pd_err *err);
struct app_model_file {
    char *name, *path;
    char *alias_of; /* the name it stands for; NULL: no alias */
    bool recorded;  /* added by app_add_model */
};
int app_list_models(struct app_model_file **out, size_t *out_n,
                    struct pd_err *err); /* sorted by name */
void app_list_models_free(struct app_model_file *files, size_t n);

/* The user's own models are in the folder that PONDER_MODELS_DIR names, else in
 * $XDG_DATA_HOME/ponder/models. */
struct app_model_record { /* what is known of a model that was added */
    char *name, *path, *source;
    char sha256[PD_SHA256_HEX];
    uint64_t bytes;
};
void app_model_record_done(struct app_model_record *r);
/* Checks the file in full, copies it (link: points to it) and records its hash. name NULL: the
 * file's. head: the head that it has not itself, which goes with it; NULL: the one beside the file,
 * if there is one. PD_EINVAL when the name is no good or taken, PD_EFORMAT when this build cannot
 * run the file. */
int app_add_model(const char *file, const char *name, const char *head, bool link,
                  struct app_model_record *out, struct pd_err *err);
/* SHA-256 of a model's file; of a split model, of all parts in a row. */
int app_hash_model(const char *path, char hex[PD_SHA256_HEX], struct pd_err *err);
/* Hashes it again: the caller compares out->sha256 with now. PD_ENOENT: no such record or file. */
int app_verify_model(const char *name, struct app_model_record *out, char now[PD_SHA256_HEX],
                     struct pd_err *err);
/* Another name for a model; an alias may be given a new meaning. */
int app_alias_model(const char *name, const char *target, struct pd_err *err);
/* An alias, or a model that no alias stands for. PD_EPERM: bundled or elsewhere, PD_EBUSY. */
int app_remove_model(const char *name, struct pd_err *err);

/* A bundled problem by id ("dev-0002"): question, answer and what a verifier without a model is to
 * know (JSON, see pd_scorer.truth; NULL: the file does not tell), malloc'ed. */
int app_find_problem(const char *id, char **out_question, char **out_answer, char **out_truth,
                     struct pd_err *err);
extern const char app_default_model[];  /* tiny-base */
extern const char app_default_scorer[]; /* tiny-prm */
extern const char app_default_draft[];  /* tiny-draft */

/* ---- conversations ------------------------------------------------------------------------------
 */

/* The conversation of a request to OpenAI's chat route or one that follows it: messages, tools,
 * chat_template_kwargs, continue_final_message (the default: true when the last message is the
 * assistant's); or, without messages, prompt: a text or an array of token ids. All in the arena.
 * PD_EINVAL says which message and what is wrong with it. */
int app_chat_parse(const struct pd_json *request, struct pd_arena *a, struct pd_chat **out,
                   struct pd_err *err);

/* The same of a prompt alone. */
int app_prompt_parse(const struct pd_json *prompt, struct pd_arena *a, struct pd_chat **out,
                     struct pd_err *err);
/* The tokens of a text with its control tokens, behind BOS where the model's texts begin with that
 * and this one does not; or the ids that c has. */
int app_prompt_tokens(const struct eng_tokenizer *t, const struct pd_chat *c, int32_t **io_ids,
                      size_t *io_n, struct pd_err *err);
/* Its members stop (a string or an array of them) and logit_bias (an object of token ids). */
int app_stops_parse(const struct pd_json *request, struct pd_arena *a, const char *const **out,
                    size_t *out_n, struct pd_err *err);
int app_bias_parse(const struct pd_json *request, struct pd_arena *a, const struct pd_bias **out,
                   size_t *out_n, struct pd_err *err);
/* Its form, NULL: none: response_format (json_schema, json_object, text), or grammar, or
 * json_schema, as OpenAI and llama-server have them; constrain_after. Only what each of them is
 * gets looked at: what it says is judged when a job is made of it. */
int app_form_parse(const struct pd_json *request, struct pd_arena *a, const struct pd_form **out,
                   struct pd_err *err);
/* Into an open object: the members that app_form_parse reads. NULL: none. */
void app_form_json(const struct pd_form *f, struct pd_jw *w);

/* ---- a job, from words to an answer -------------------------------------------------------------
 */

/* Options every strategy has that change how soon a job ends, and not its result: they are stored
 * with the request, but are no part of the job's options and of its digest. */
struct app_decode {
    int speculate; /* enum eng_speculate */
    int draft_max;
    bool draft_always;
};
extern const struct pd_param app_decode_params[];

/* Control vectors, an option of every strategy: they change what is written, so that the job's
 * options and its digest have them, by the file's hash. */
struct app_steering {
    char steer[1024]; /* the file; of a stored job "sha256:" and its hash */
    double steer_gamma;
};
extern const struct pd_param app_steering_params[];

/* Everything that determines a result; strings borrowed until app_job_free. */
struct app_request {
    const char *question, *system, *problem_key, *expect;
    enum pd_grade grade;
    const char *id;               /* of the new job (app_job_new); NULL: a new one */
    const char *run_id, *variant; /* of an experiment; NULL: none */
    const struct pd_chat *chat; /* in place of question and system; NULL: these */
    /* name or path, or what an engine elsewhere serves: a name of the configuration, or
     * DIALECT+URL[?KEY=VALUE&…][#MODEL]; NULL: app_default_model */
    const char *model;
    const char *chat_template;  /* name or Jinja file, of model and draft; NULL: their own */
    /* name or path, or a verifier without a model, "oracle:tpr=0.9,fpr=0.1"; NULL:
     * app_default_scorer when the strategy needs one */
    const char *draft; /* name or path; NULL: app_default_draft when the strategy, or speculation,
                          needs one */
    const char *scorer;
    const char *truth;          /* of a bundled problem, or NULL */
    double abstain_below;       /* calibrated confidence that an answer must have; 0: any */
    const char *strategy;       /* NULL: best_of_n */
    const char *kv_type;        /* how K and V are kept: f32 f16 q8_0; NULL: f16 */
    const char *const *options; /* "key=value": the strategy's, the common ones, app_decode's */
    size_t n_options;
    uint64_t seed;
    uint32_t repeat;
    struct pd_budget budget;
    uint64_t budget_samples;  /* 0: the strategy's own; else its option "samples" */
    const char *const *stops; /* see job.h, as all other options of the answer */
    size_t n_stops;
    const struct pd_bias *logit_bias;
    size_t n_logit_bias;
    const struct pd_form *form; /* without begin */
};

/* A copy in depth; NULL: out of memory. */
struct app_request *app_request_copy(const struct app_request *r);
void app_request_free(struct app_request *copy); /* NULL is fine */

/* Fits a control vector to pairs of a short and a long answer (docs/strategies/README.md) and writes it. */
struct app_steer_fit {
    const char *model, *pairs, *out; /* pairs: JSON Lines of {"question", "short", "long"} */
    uint32_t layer;                  /* 1 … of the model */
    double kl_max;                   /* nats that the steered law may be away, on average */
    unsigned n_check, max_tokens;    /* questions to try it on, and tokens of their answers */
    unsigned n_threads;
};
struct app_steer_report {
    size_t n_pairs, n_checked;
    double norm;                         /* of the vector */
    double gamma, kl;                    /* the strongest within kl_max, and how far it is away */
    double plain_tokens, steered_tokens; /* mean lengths of the answers */
    bool flipped;                        /* the vector is the mean of long minus short */
};
/* PD_EINVAL: no sign makes answers shorter, and what else is wrong with the pairs. */
int app_steer_fit(const struct app_steer_fit *in, struct app_steer_report *out, struct pd_err *err);
/* Whether programs that are not trusted can be run here, by running one; PD_ENOENT says why not.
 * Any thread. */
int app_check_sandbox(struct pd_err *err);

struct app; /* the open database; an engine with its loaded models as soon as a job needs one */
struct app_config {
    unsigned n_threads, prefill_chunk, max_branches; /* 0: the engine's choice */
    uint64_t memory_bytes; /* ceiling of models, working space and KV together; 0: none */
    const char *data_dir;
    bool no_trace;  /* record nothing */
    bool read_only; /* nothing is recorded: the database must exist and is not written */
    bool named_engines; /* of engines elsewhere, those of the configuration only */
};
int app_open(const struct app_config *c, struct app **out, struct pd_err *err);
void app_close(struct app *a);
struct store *app_store(const struct app *a); /* NULL with no_trace */
struct eng *app_engine(const struct app *a);  /* NULL: no job has needed one; any thread */

/* Asks an engine elsewhere (a name of the configuration, or DIALECT+URL…) what it is and has, as
 * members of an open object. */
int app_probe_engine(const char *name, struct pd_jw *w, struct pd_err *err);
/* Loaded models, by their files (app_find_model). Any thread, once the engine is there. What needs
 * more than the memory limit leaves drives out what was used longest ago, as far as nobody uses it.
 * A model of an engine elsewhere is loaded by its name: the engine is asked what it has. */
int app_load_model(struct app *a, const char *path, struct pd_err *err);
int app_unload_model(struct app *a, const char *path,
                     struct pd_err *err); /* PD_EBUSY: in use; not loaded: 0 */
bool app_is_loaded(struct app *a, const char *path, char sha256[PD_SHA256_HEX]);
/* An array with the path, sha256 and whether it is in use, of each. */
void app_loaded_json(struct app *a, struct pd_jw *w);
/* A reference for the caller; NULL: not loaded. */
struct eng_model *app_loaded_model(struct app *a, const char *path);
/* While this is on, a job whose model is not loaded is PD_EBUSY, and app_take_missing is what to
 * load (app_load_model) before it is tried again; malloc'ed, NULL when that was not the reason. */
void app_load_elsewhere(struct app *a, bool on);
char *app_take_missing(struct app *a);
/* No engine elsewhere is waited for any more, until the app is closed. Any thread. */
void app_leave_engines(struct app *a);
/* The sha256 that was recorded when the model was added. False: it was not. */
bool app_recorded_sha256(const char *path, char sha256[PD_SHA256_HEX]);
/* Opens the engine the first time; PD_EINVAL when it is open with another kv_type (NULL: f16). The
 * dispatcher's thread, or the only one. */
int app_start_engine(struct app *a, const char *kv_type, struct pd_err *err);

struct app_job;
/* Parses, validates, loads the models, stores the job (durable on return). */
int app_job_new(struct app *a, const struct app_request *r, struct app_job **out,
                struct pd_err *err);
/* The same up to a row 'queued' under this id, and its place in the queue; durable after the next
 * store_flush. app_job_stored makes it a job again. */
int app_job_submit(struct app *a, const struct app_request *r, const char *id,
                   const struct store_submission *how, struct pd_err *err);
/* Scores texts that answer a problem: a job that is not stored and draws nothing, to be started as
 * any other. In its result node i + 1 is text i, with the verifier's step rewards as its score. */
#define APP_SCORE_MAX 1024 /* texts */
int app_job_score(struct app *a, const char *scorer, const char *problem, const char *const *texts,
                  size_t n, struct app_job **out, struct pd_err *err);
/* The stored job with this id (or unique prefix): resumed, replayed from its record, or verified
 * against it. */
int app_job_stored(struct app *a, const char *id, enum pd_job_mode mode, struct app_job **out,
                   struct pd_err *err);
/* Before it is started; l lives as long as the job. */
void app_job_listen(struct app_job *j, const struct pd_listener *l);
bool app_job_is_done(const struct app_job *j); /* of a stored one: by its row */
/* For a recorded job: its result tells the tokens of each step if its model is loaded. */
int app_job_take_tokenizer(struct app_job *j, struct pd_err *err);
/* ended(user) on the job's thread, as the last that it does. Before the start. */
void app_job_on_end(struct app_job *j, void (*ended)(void *user), void *user);
/* Runs it on a thread of its own; app_job_wait returns its result. The row of a stored job that
 * goes on says 'running' again. */
int app_job_start(struct app_job *j, struct pd_err *err);
/* PD_ETIMEOUT at deadline_ns (it goes on); else the job's own code, and *out_result (owned by j) is
 * filled. */
int app_job_wait(struct app_job *j, int64_t deadline_ns, const struct pd_result **out_result,
                 struct pd_err *err);
void app_job_cancel(struct app_job *j);
/* Cancels it in a way that leaves it to go on later, with this status (a literal); NULL: as
 * app_job_cancel, also after another status. */
void app_job_stop(struct app_job *j, const char *status);
const struct eng_tokenizer *app_job_tokenizer(const struct app_job *j); /* of what it generates */
const struct pd_job *app_job_core(const struct app_job *j); /* id, seed, strategy, progress… */
void app_job_free(struct app_job *j);

/* Writes the members of a result into an open object. traced: the job is in a database. */
void app_result_json(struct pd_jw *w, const struct pd_job *job, const struct pd_result *r,
                     bool traced);

/* The line of thought that ends in node (root's children to node, without the stop string that
 * ended it), as a malloc'ed text, from a loaded trace or a result's. */
char *app_trace_line(const struct pd_trace *t, uint32_t node);

#endif

/* Shared by the files of src/app. */
#ifndef PD_APP_APP_INT_H
#define PD_APP_APP_INT_H

#include <pthread.h>

#include "app/app.h"
#include "remote/remote.h"

struct app_model {
    char *path;
    struct eng_model *model;
    uint64_t last_use; /* number among all uses */
};

struct app {
    struct eng_config config;  /* of the engine, but for kv_type */
    _Atomic(struct eng *) eng; /* NULL: not needed so far; app_engine is anyone's */
    struct store *store;
    pthread_mutex_t lock;     /* guards the next four; a leaf */
    struct app_model *models; /* loaded, one reference each */
    size_t n_models;
    uint64_t n_uses;
    struct remote_pool *remote; /* NULL: not needed so far */
    bool named_engines;
    bool elsewhere; /* models are loaded by who calls, not by who needs them */
    char *missing;  /* the one that was needed */
};

/* a, between and b in a row; NULL: out of memory. */
char *app_join(const char *a, const char *between, const char *b);
/* Folder number i of kind ("models", "problems"): named by a setting or variable ("" if none), the
 * user's, the bundled one; NULL past the last. malloc'ed. */
enum { APP_FOLDER_NAMED, APP_FOLDER_USER, APP_FOLDER_BUNDLED };
char *app_data_folder(const char *kind, int i);

/* What a verifier without a model is to know of a problem, {"answer":…,"equations":…}, malloc'ed;
 * NULL: no equations, or out of memory. */
char *app_problem_truth(const struct pd_json *problem);

/* Opens the engine the first time; PD_EINVAL when it is open with another kv_type (NULL: f16). */
int app_start_engine(struct app *a, const char *kv_type, struct pd_err *err);
/* With app_load_elsewhere: PD_EBUSY, and app_take_missing is what. */
int app_miss(struct app *a, const char *what, struct pd_err *err);
/* A reference to the model of this file, which is loaded when it is not there (app_miss). */
int app_model(struct app *a, const char *path, struct eng_model **out, struct pd_err *err);

/* The engine elsewhere that serves what has this name: 1. 0: it is none of those. */
int app_remote_engine(struct app *a, const char *name, struct remote_engine **out,
                      struct pd_err *err);

/* A judge without a model by its name, "NAME" or "NAME:key=value,…", with its options parsed into
 * the arena; any other text names a model, and how it is read where that is said:
 * "MODEL:kind=KIND,key=value,…". */
int app_scorer_parse(const char *scorer, struct pd_arena *arena,
                     const struct pd_verifier **out_verifier, const void **out_params,
                     struct pd_err *err);

/* Whether there is anything to add: a file, and a strength that is not 0. */
bool app_steers(const struct app_steering *s);
/* Of its file, or what a stored job says. PD_ENOENT, PD_EIO. */
int app_steering_sha256(const struct app_steering *s, char hex[PD_SHA256_HEX], struct pd_err *err);
/* Into an open object: the members that make app_steering of them again, by the hash. */
void app_steering_json(const struct app_steering *s, const char *sha256, struct pd_jw *w);
/* The vectors of a file, which must have this hash, for a model. */
int app_steering_load(const char *path, const char *sha256, double gamma, const struct eng_model *m,
                      struct eng_steer **out, struct pd_err *err);
/* The calibration of a scorer whose model is the file with this digest. PD_ENOENT: there is none.
 */
int app_calibration_load(const char *scorer, const uint8_t sha256[PD_SHA256_BYTES],
                         struct pd_doubt *out, struct pd_err *err);
/* Into an open object, and out of it: aggregate, x, p. */
void app_calibration_json(const struct pd_doubt *d, struct pd_jw *w);
int app_calibration_parse(const struct pd_json *j, struct pd_doubt *out, struct pd_err *err);

/* Into an open object: the members that app_chat_parse reads. */
void app_chat_json(const struct pd_chat *c, struct pd_jw *w);
/* A schema as it is kept: in one line. */
int app_schema_text(const struct pd_json *schema, struct pd_arena *a, const char **out,
                    struct pd_err *err);
void app_shape_json(const struct pd_job *j, struct pd_jw *w); /* stop, logit_bias, the form */
int app_chat_copy(const struct pd_chat *c, struct pd_arena *a, struct pd_chat **out,
                  struct pd_err *err);
/* What it asks: the last message of the user, else the last one; or the prompt as it is. */
int app_chat_question(const struct pd_chat *c, struct pd_buf *out);

#endif

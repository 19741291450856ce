/* What the configuration files say, with what goes over them: limits, the engine, models by name,
 * profiles. ponder.json(5) is the manual of the files.
 *
 * A setting is one row of settings_rows: its key in the files, the option of `ponder serve` (and so
 * the variable PONDER_…) that goes over it, type, bounds, default. Parser, error text, help and
 * `ponder config show` all come from the row.
 *
 * A struct settings is built on one thread (settings_new, then files, then settings_set, then
 * settings_check), and immutable and reference-counted afterwards. One of them is the process's:
 * who finds models by name or opens the database looks there. */
#ifndef PD_APP_SETTINGS_H
#define PD_APP_SETTINGS_H

#include <stdint.h>
#include <sys/types.h>

#include "app/app.h"
#include "base/arena.h"
#include "remote/remote.h"

enum settings_type {
    SETTINGS_COUNT,  /* int64_t in [min, max] */
    SETTINGS_SIZE,   /* uint64_t bytes, at most max */
    SETTINGS_NUMBER, /* double in [min, max] */
    SETTINGS_TEXT,   /* const char *; NULL: none */
    SETTINGS_CHOICE, /* int: which one of choices, "a|b|c" */
    SETTINGS_LIST,   /* struct settings_list of texts */
};

struct settings_row {
    const char *key;    /* "limits.max_queue" */
    const char *option; /* "max-queue"; NULL: only the files know it */
    enum settings_type type;
    bool restart; /* a running daemon keeps what it began with */
    size_t offset;
    double min, max;
    const char *def;            /* as text; NULL: none */
    const char *choices, *help; /* choices: of CHOICE; else what the option is called with */
};

struct settings_list {
    const char *const *items;
    size_t n;
};

/* A model, or a reward model, that has a name in the files. */
struct settings_model {
    const char *name;
    const char *file;   /* a path, or the name of a file in a models folder; NULL: none */
    const char *alias;  /* the model it stands for */
    const char *sha256; /* that its file must have; NULL: not said */
    const char *engine; /* one of settings.engines that serves it, in place of a file; NULL: none */
    const char *id;     /* the engine's name for it; NULL: the only one it has */
    bool is_scorer;
};

struct settings_budget { /* 0, NULL: not said */
    uint64_t tokens, nodes, samples;
    double seconds;
    const char *wrap_up;
};

enum settings_effort { EFFORT_LOW, EFFORT_MEDIUM, EFFORT_HIGH, N_EFFORTS };

struct settings_profile {
    const char *name;
    const char *strategy, *scorer, *draft; /* scorer and draft: NULL: not said */
    struct settings_list options;          /* "key=value" */
    struct settings_budget budget, efforts[N_EFFORTS];
    bool has_efforts;
};

enum { REASONING_BOTH, REASONING_CONTENT, REASONING_PLAIN, REASONING_NONE };

#define SETTINGS_MAX_ROWS 32

struct settings {
    struct settings_list listen, allow_users;
    const char *data_dir, *models_dir;
    int64_t threads, prefill_chunk, ctx, max_branches; /* 0: the engine's own choice */
    uint64_t memory, max_body;                         /* memory 0: no limit */
    int64_t max_jobs, max_queue, max_n, max_prompt_tokens;
    double drain_timeout_s, sse_ping_interval_s; /* ping -1: none */
    int log_level, log_format, reasoning_field;
    struct remote_config *engines; /* elsewhere; key_file, key_env… name where keys are */
    size_t n_engines;
    struct settings_model *models;
    size_t n_models;
    struct settings_profile *profiles;
    size_t n_profiles;
    uid_t *allow_uids; /* of allow_users, from settings_check on */
    size_t n_allow_uids;
    bool allow_all;
    const char *origins[SETTINGS_MAX_ROWS]; /* of each row: "default", "FILE:LINE:COLUMN", … */
    struct pd_arena arena;                  /* all of it */
    _Atomic unsigned refs;
};

extern const struct settings_row settings_rows[]; /* ends with a NULL key */

/* Defaults alone. NULL: out of memory. */
struct settings *settings_new(void);
struct settings *settings_ref(struct settings *s);
void settings_unref(struct settings *s); /* NULL is fine */
/* Over what is there. PD_ENOENT: no such file; PD_EFORMAT names the place. */
int settings_add_file(struct settings *s, const char *path, struct pd_err *err);
/* The file that is named; NULL: /etc/ponder/ponder.json and the user's, as far as they exist. */
int settings_add_files(struct settings *s, const char *path, struct pd_err *err);
/* The setting of a row, over all files; a list takes n values, every other type one. origin is what
 * the user knows it as: "--max-queue", "PONDER_MAX_QUEUE". */
int settings_set(struct settings *s, const struct settings_row *row, const char *const *values,
                 size_t n, const char *origin, struct pd_err *err);
/* What only the whole can tell: that names that are used exist. The last of building. */
int settings_check(struct settings *s, struct pd_err *err);

/* The process's, with a reference for the caller; before settings_install the defaults' values. Any
 * thread. NULL: out of memory. */
struct settings *settings_current(void);
void settings_install(struct settings *s); /* takes the reference */

/* What app_open needs of them; borrowed. */
struct app_config settings_app(const struct settings *s);
/* NULL: none of that name. */
const struct settings_model *settings_model(const struct settings *s, const char *name);
const struct remote_config *settings_engine(const struct settings *s, const char *name);
const struct settings_profile *settings_profile(const struct settings *s, const char *name);
/* Fills of r what r does not say; effort -1: none asked for. All in the arena. */
int settings_apply(const struct settings_profile *p, int effort, struct pd_arena *a,
                   struct app_request *r, struct pd_err *err);
int settings_effort(const char *name); /* -1: no such level */
/* What a search draws at an effort where nobody says how much. */
extern const uint64_t settings_effort_samples[N_EFFORTS];
/* The user's file; malloc'ed. */
char *settings_user_path(void);

/* One value; and all of them as `ponder config show --json` has them. */
void settings_value_json(const struct settings *s, const struct settings_row *row, struct pd_jw *w);
void settings_models_json(const struct settings *s, struct pd_jw *w);
void settings_profiles_json(const struct settings *s, struct pd_jw *w);

#endif

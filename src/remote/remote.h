/* Engines elsewhere: models that another program serves over HTTP, as core/generator.h generators.
 * The only door of src/remote.
 *
 * A pool owns the HTTP client's thread and the engines that were used so far. An engine is one
 * model at one address in one dialect (docs/remote.md lists them and what each can do). Pools and
 * engines may be used from any thread; a generator belongs to its job's.
 *
 * What a job does with an engine is a request for each lane, in token ids, with a seed from the
 * lane's key. Contexts are token ids and nothing else: the prefix cache is the engine's.
 *
 * Errors: PD_EINVAL a bad description, or a search that the dialect cannot do; PD_EREMOTE the engine
 * does not answer, breaks off or answers nonsense; PD_EPERM it refuses the key, or its quota is used
 * up. Keys are in no error, trace or message. */
#ifndef PD_REMOTE_REMOTE_H
#define PD_REMOTE_REMOTE_H

#include "base/arena.h"
#include "base/json.h"
#include "core/generator.h"

struct remote_pool;
struct remote_engine;

#define REMOTE_INFLIGHT  64
#define REMOTE_TRIES     5
#define REMOTE_CONNECT_S 5.0
#define REMOTE_STALL_S   60.0

struct remote_config {
    const char *name;    /* what the user calls it */
    const char *dialect; /* vllm, sglang, llama-server, openai, anthropic */
    const char *url;     /* http://… or https://… */
    const char *model;   /* the engine's name for it; NULL: the first that it lists */
    const char *key_file, *key_env, *key_credential; /* where its key is; NULL: none */
    int64_t max_inflight, tries;                     /* 0: as above, as for the next two */
    double connect_s, stall_s;
};

/* DIALECT+URL[?KEY=VALUE&…][#MODEL], the keys being those of an engine in ponder.json(5): 1, and all
 * of out in the arena. 0: the text is nothing of the kind. */
int remote_parse(const char *text, struct pd_arena *a, struct remote_config *out,
                 struct pd_err *err);
/* Sets one member by its name in ponder.json(5) ("url", "max_inflight"). PD_ENOENT: there is none of
 * this name. Keeps value. */
int remote_set(struct remote_config *c, const char *key, const char *value, struct pd_err *err);
/* PD_EINVAL when it cannot be used. No key is read. */
int remote_check(const struct remote_config *c, struct pd_err *err);
bool remote_is_dialect(const char *name);
/* "vllm, sglang, …" */
const char *remote_dialects(void);

int remote_pool_new(struct remote_pool **out, struct pd_err *err);
/* Whatever is asked of its engines, now or later, is PD_ECANCEL. NULL is fine. */
void remote_pool_end(struct remote_pool *p);
/* After the last generator. NULL is fine. */
void remote_pool_free(struct remote_pool *p);

/* The engine of this description; asks nothing of it yet. It lives as long as the pool. */
int remote_engine(struct remote_pool *p, const struct remote_config *c, struct remote_engine **out,
                  struct pd_err *err);
/* Asks what it is and has, once: which model, how long a context. Blocks. */
int remote_probe(struct remote_engine *e, struct pd_err *err);
bool remote_is_probed(const struct remote_engine *e);
/* What remote_probe found, as members of an open object. */
void remote_engine_json(const struct remote_engine *e, struct pd_jw *w);
const char *remote_engine_model(const struct remote_engine *e); /* after the probe */

/* Renders a conversation as text in the place of the engine's own template; its control tokens are
 * found in the text. */
typedef int remote_render_fn(void *user, const struct pd_chat *c, struct pd_buf *out,
                             struct pd_err *err);
/* Probes the engine if that has not been done. name is borrowed; render NULL: the engine's. */
int remote_generator_new(struct remote_engine *e, const char *name, remote_render_fn *render,
                         void *user, struct pd_generator **out, struct pd_err *err);

#endif

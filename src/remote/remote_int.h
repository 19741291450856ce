/* Shared by the files of src/remote: an engine, and what its dialect is asked. */
#ifndef PD_REMOTE_REMOTE_INT_H
#define PD_REMOTE_REMOTE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/client.h"
#include "net/sse.h"
#include "remote/remote.h"

#define REMOTE_REQUEST_MAX ((size_t)64 << 20)
#define REMOTE_CTX_MAX     (1u << 20) /* where an engine does not say how much it holds */
#define REMOTE_NO_TOKEN    (-1)

struct dialect;

struct piece { /* the text of a token */
    int32_t id;
    bool part; /* part of a character: it has a text only with its neighbours */
    char *text;
    uint32_t len;
};

struct remote_engine {
    struct remote_engine *next; /* of the pool */
    struct remote_pool *pool;
    struct remote_config config; /* its texts are its own */
    struct pd_arena arena;
    const struct dialect *dialect;
    struct net_host *host;
    pthread_mutex_t probe_lock; /* one probe at a time; guards the members up to the next lock */
    atomic_bool probed;         /* anyone's */
    char *model;                /* its name for the model */
    uint32_t n_ctx;
    int32_t eos;          /* REMOTE_NO_TOKEN: not known; answers tell */
    bool by_openai;       /* llama-server: ids come by its OpenAI route only */
    atomic_bool new_name; /* openai: max_tokens is called max_completion_tokens */
    int32_t anchor;       /* a token before which others are spelled as they are inside a text */
    char *anchor_text;
    pthread_mutex_t lock;  /* guards pieces, a hash table by id */
    struct piece **pieces; /* NULL: free */
    size_t n_pieces, cap_pieces;
};

/* What is asked for one answer. */
struct ask {
    const int32_t *ids;
    size_t n_ids;
    uint32_t max_tokens;
    uint64_t key; /* of the lane */
    const struct pd_sampling *sampling;
    const char *const *stops; /* NULL-terminated */
    uint32_t n_top;           /* likeliest next tokens to tell, and no stream: a reading */
};

enum answer_end {
    ANSWER_OPEN,    /* no word of its end so far */
    ANSWER_STOPPED, /* by an end token or a stop string: which, the tokens tell */
    ANSWER_EOS,
    ANSWER_LENGTH,
};

/* One answer as it arrives. Tokens are appended to arrays of `max`. */
struct answer {
    struct remote_engine *engine;
    int32_t *ids;
    float *logprobs;
    uint32_t max;
    atomic_uint *n; /* tokens so far: for the job's thread, too */
    struct pd_buf text;
    enum answer_end end;
    bool counted; /* by the engine: the next three */
    uint64_t n_prompt, n_cached, n_generated;
    struct pd_err *err;
    bool again; /* err is of a kind that may not come again */
};

struct dialect {
    const char *name;
    bool chats; /* speaks in messages and texts, not in tokens */
    bool no_seeds;
    const char *key_header, *header; /* as net_host_config has them */
    uint32_t n_top_max;              /* 0: cannot read */
    const char *generate_path;
    const char *chat_path, *tokenize_path, *detokenize_path; /* NULL: it has none */
    int (*probe)(struct remote_engine *e, struct pd_err *err);
    void (*put_ask)(const struct remote_engine *e, const struct ask *a, struct pd_jw *w);
    /* One event's data, or a whole body. Negative: a->err says why. */
    int (*take)(struct answer *a, const struct pd_json *v);
    /* For a reading: the log-probability of each label behind the ids. PD_EREMOTE: one is missing.
     */
    int (*take_top)(const struct remote_engine *e, const struct pd_json *v, const int32_t *labels,
                    uint32_t n_labels, float *out, struct pd_err *err);
};

extern const struct dialect dialect_vllm, dialect_sglang, dialect_llama_server, dialect_openai,
    dialect_anthropic;

/* ---- answer.c: what dialects share ------------------------------------------------------------
 */

/* Appends a token. PD_EREMOTE: more than were asked for. */
int answer_token(struct answer *a, int32_t id, double logprob);
/* The answer makes no sense: PD_EREMOTE, said as "its answer makes no sense: …". */
int answer_nonsense(struct answer *a, const char *what);
/* When v has an error in one of the usual shapes: negative, a->err set. 0: it has none. */
int answer_error(struct answer *a, const struct pd_json *v);
void answer_usage(struct answer *a, const struct pd_json *usage); /* as OpenAI counts */
/* What each part of OpenAI's completions and chats has in common: errors, usage, and the one
 * choice; *out NULL: this part has none. */
int answer_one_choice(struct answer *a, const struct pd_json *v, const struct pd_json **out);
/* One choice of OpenAI's completions, with token ids as vLLM or llama-server tell them. */
int answer_choice(struct answer *a, const struct pd_json *v);
/* Of a reading: fails with what is missing. */
int top_lacks(const struct remote_engine *e, size_t n_top, int32_t label, struct pd_err *err);
bool answer_id(const struct pd_json *v, int32_t *out);
/* Members of an open object. */
void put_ids(struct pd_jw *w, const char *key, const int32_t *ids, size_t n);
void put_stops(struct pd_jw *w, const char *key, const char *const *stops);
void put_bias(struct pd_jw *w, const struct pd_sampling *s); /* as OpenAI has it */

/* ---- engine.c ---------------------------------------------------------------------------------
 */

/* A request that is waited for; body NULL: GET. The answer's JSON is in *out, to be freed. */
int remote_ask(struct remote_engine *e, const char *path, const struct pd_buf *body,
               struct pd_json **out, struct pd_err *err);
/* vLLM's and OpenAI's GET /v1/models: the model's name, if none was configured, and its context. */
int remote_list_models(struct remote_engine *e, struct pd_err *err);

/* ---- tokens.c ---------------------------------------------------------------------------------
 */

/* ids are appended as core/generator.h says. special: control tokens are found in the text; begins:
 * it is a whole text, not what goes on behind one. */
int remote_tokenize(struct remote_engine *e, struct pd_str text, bool special, bool begins,
                    int32_t **io_ids, size_t *io_n, struct pd_err *err);
int remote_detokenize(struct remote_engine *e, const int32_t *ids, size_t n, struct pd_buf *out,
                      struct pd_err *err);
/* As a single token is spelled; what is a part of a character is U+FFFD. */
int remote_spell(struct remote_engine *e, int32_t id, struct pd_buf *out, struct pd_err *err);
int remote_chat(struct remote_engine *e, const struct pd_chat *c, int32_t **io_ids, size_t *io_n,
                struct pd_err *err);
/* Learns how tokens are spelled when they stand inside a text. */
int remote_anchor(struct remote_engine *e, struct pd_err *err);
/* For engines that tell no ids: the id of a text, the same each time. REMOTE_NO_TOKEN: out of
 * memory. */
int32_t remote_intern(struct remote_engine *e, struct pd_str text);
void remote_pieces_free(struct remote_engine *e);

#endif

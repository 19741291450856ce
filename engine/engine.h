/* The engine: local GGUF models, their tokenizers, a shared paged KV cache, and one scheduler
 * thread that batches every request of every loaded model. This header is the folder's only door.
 *
 * Threads: any thread may call anything here unless it says otherwise; one context may only be
 * touched by one thread at a time and not while a request on it is in flight.
 *
 * One arithmetic (docs/design/engine.md): results are a pure function of the model file, the tokens
 * of the context and the sampling key; never of batch company, thread count, ISA, prefill chunking
 * or whether a prefix came from the cache. */
#ifndef PD_ENGINE_ENGINE_H
#define PD_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/chat.h"
#include "base/err.h"
#include "base/queue.h"
#include "engine/isa.h"

struct eng;           /* scheduler, compute pool, page pool */
struct eng_model;     /* immutable, reference-counted */
struct eng_tokenizer; /* immutable, owned by its model or stand-alone */
struct eng_ctx;       /* a token sequence with its KV: tail of a tree of segments */

struct eng_model_info;

struct eng_config {
    unsigned
        n_threads;   /* compute threads; 0 = PONDER_THREADS, else the CPUs this process may use */
    const char *isa; /* scalar avx2 avx512; NULL = PONDER_ISA, else the best the CPU has */
    uint64_t memory_bytes; /* ceiling of models, their working space and pages together; 0 = none */
    uint64_t kv_bytes;     /* ceiling of the page pool; 0 = 1 GiB, or what memory_bytes leaves */
    const char *kv_type;   /* of K and V in the pages: f32 f16 q8_0; NULL = f16 */
    unsigned prefill_chunk; /* most prompt tokens of one request in one step; 0 = 128 */
    unsigned max_rows;      /* most rows in one step; 0 = 512 */
    bool no_prefix_cache;   /* pages that no context holds are not kept, nor looked for */
};

int eng_open(const struct eng_config *config, struct eng **out_eng, struct pd_err *err);
/* All requests done, all contexts freed and, with memory_bytes, all models; NULL is fine. */
void eng_close(struct eng *e);
const char *eng_isa_name(const struct eng *e);
unsigned eng_n_threads(const struct eng *e);
const char *eng_kv_type_name(const struct eng *e);
/* K and V of one position in all layers, as this engine keeps them. */
uint64_t eng_kv_token_bytes(const struct eng *e, const struct eng_model_info *m);

/* A page is used (by contexts), cached (kept for contexts that begin alike, given up when room is
 * wanted) or free (memory of a page that was given up). */
struct eng_stats {
    uint64_t kv_pages_used, kv_pages_peak, kv_page_bytes_used;
    uint64_t kv_pages, kv_pages_cached, kv_pages_free; /* all; used, cached and free make it up */
    uint64_t kv_pages_seen; /* what each context sees, summed: so many times used ones are shared */
    uint64_t kv_bytes_max;  /* ceiling of all pages, as it is now */
    uint64_t prefix_hit_tokens;             /* that were found, and so not evaluated again */
    uint64_t prefix_evictions;              /* cached pages given up */
    uint64_t guessed_tokens, right_guesses; /* by speculation; of them, those that were drawn */
    uint64_t steps, rows;                   /* scheduler steps and rows computed in them */
};
void eng_stats(const struct eng *e, struct eng_stats *out);

/* What this machine can do with so many threads, measured now (a third of a second). */
struct eng_roofline {
    double read_bytes_s;        /* memory, streaming reads */
    double i8_ops_s, f32_ops_s; /* dot products of bytes, multiply-adds; each counts as two */
};
int eng_roofline_measure(unsigned n_threads, struct eng_roofline *out, struct pd_err *err);

/* ---- models ------------------------------------------------------------------------------------
 */

/* What the matrices ask of the machine, for rooflines. The body is all of them but the embedding,
 * of which a row is copied, and the head, which turns a hidden state into logits. Experts are
 * apart: how many of them a step reads depends on its rows. */
struct eng_work {
    uint64_t body_bytes, head_bytes, experts_bytes; /* as stored */
    struct {
        uint64_t i8, f32;   /* by the kind of arithmetic that the type of the matrix asks for */
    } body_macs, head_macs; /* of one row, with the experts that it goes to */
    uint32_t n_experts, n_experts_used;
};

#define ENG_MAX_TYPES 16

struct eng_model_info {
    const char *path, *name, *arch,
        *file_type; /* file_type: "Q8_0", "F16", … (most common matrix type) */
    uint64_t n_params, file_bytes;
    uint32_t n_vocab, n_ctx, n_embd, n_layer, n_head, n_head_kv, head_dim, n_ff;
    uint32_t n_expert, n_expert_used; /* of a mixture, whose n_ff is one expert's; 0: dense */
    uint32_t
        window;     /* positions that some layers, or all, are limited to; 0: they see everything */
    uint32_t n_cls; /* values of the classification head; 0: none */
    const char *head; /* what that is: cls mlp value score (docs/design/heads.md); NULL: none */
    const char *rope; /* how long contexts are reached: none linear yarn longrope llama3; NULL: a
                         file that this build does not run, which leaves out all up to pooling */
    float rope_base, rope_factor;      /* factor: of linear and yarn, else 1 */
    uint32_t n_ctx_orig;               /* the context before it was made longer */
    float attn_softcap, final_softcap; /* 0: none */
    const char *pooling; /* that a classification head was trained with: none mean cls last rank;
                            NULL: not said */
    const char *tokenizer, *pretokenizer; /* as the file calls them; NULL: not there */
    struct {
        const char *name;
        uint32_t n_tensors;
        uint64_t bytes;
    } types[ENG_MAX_TYPES]; /* of the tensors, most bytes first */
    uint32_t n_types;
    uint8_t sha256[32]; /* of the whole file; of all parts, and the head beside it, in a row */
    struct eng_work work;
};

/* What a model takes of memory in an engine. */
struct eng_memory {
    uint64_t weights_bytes;                 /* repacked */
    uint64_t vocab_bytes;                   /* the tokenizer, and the file's other keys */
    uint64_t work_bytes;                    /* of a step, however many contexts take part */
    uint64_t kv_token_bytes, kv_page_bytes; /* K and V of a position; pages are what is allocated */
};
/* Before loading anything but the vocabulary. */
int eng_model_estimate(struct eng *e, const char *path, struct eng_memory *out, struct pd_err *err);
/* All of it but K and V. */
uint64_t eng_memory_fixed(const struct eng_memory *m);
/* K and V of n branches of n_ctx tokens each, the first n_shared of which they have in common. */
uint64_t eng_memory_kv(const struct eng_memory *m, uint64_t n_ctx, uint64_t n_branches,
                       uint64_t n_shared);

/* Maps and validates the file in full before use. PD_ENOENT, PD_EFORMAT with the reason, PD_ENOMEM:
 * also when it would not fit below memory_bytes, before it is loaded. */
int eng_model_open(struct eng *e, const char *path, struct eng_model **out_model,
                   struct pd_err *err);
/* The same checks without the weights: whether this build runs the file, with the head in this file
 * (NULL: in the one beside it, if there is one). */
int eng_model_check(const char *path, const char *head, struct pd_err *err);
struct eng_model *eng_model_ref(struct eng_model *m);
void eng_model_unref(struct eng_model *m);
/* More than one reference is held: by who asks, and by contexts or others. */
bool eng_model_is_shared(const struct eng_model *m);
const struct eng_model_info *eng_model_info(const struct eng_model *m); /* lives as long as m */
const struct eng_tokenizer *eng_model_tokenizer(const struct eng_model *m);
/* The classification head applied to a hidden state [n_embd], as ENG_READ_CLS does: out[n_cls]. For
 * pooled ones: the mean of those that ENG_READ_HIDDEN gave. PD_EINVAL: the model has no head. */
int eng_classify(const struct eng_model *m, const float *hidden, float *out, struct pd_err *err);
/* Metadata without loading weights: `ponder model ls|show`. Prints "key = value" lines when kv is
 * not NULL. */
int eng_model_peek(const char *path, struct eng_model_info *out, struct pd_buf *kv,
                   struct pd_err *err);
void eng_model_info_done(struct eng_model_info *info); /* of eng_model_peek only */
/* A split model is files NAME-00001-of-00003.gguf and so on, of which the first is opened. Whether
 * the path is called like one of them; stem points into it. */
struct eng_part {
    struct pd_str stem;
    unsigned no, count; /* from 1 on */
};
bool eng_model_part(const char *path, struct eng_part *out);
char *eng_model_part_path(const struct eng_part *p, unsigned no); /* malloc'ed; NULL: no memory */
/* Where the head of a model is that its GGUF has not: NAME.head.safetensors beside it. It is loaded
 * with the model, and part of its sha256. malloc'ed; NULL: no memory. */
char *eng_head_path(const char *path);
/* The file's chat template, whatever else is in it. PD_ENOENT: none. */
int eng_model_template(const char *path, struct pd_buf *out, struct pd_err *err);

/* ---- tokenizer ---------------------------------------------------------------------------------
 */

/* From any GGUF, also a vocabulary-only one. */
int eng_tokenizer_open(const char *path, struct eng_tokenizer **out, struct pd_err *err);
void eng_tokenizer_free(struct eng_tokenizer *t);
enum eng_parse {
    ENG_PARSE_PLAIN = 0, /* control tokens' text is ordinary text; user-defined tokens are found */
    ENG_PARSE_SPECIAL = 1, /* control tokens are found in the text */
    ENG_PARSE_START = 2,   /* beside one of these: the text begins here, it does not go on */
};
/* Appends ids to *io_ids (malloc'ed, grown; *io_n counts), which are what comes before:
 * SentencePiece vocabularies may want a blank before a text, and behind each special token. text
 * may be any bytes. */
int eng_tokenize(const struct eng_tokenizer *t, struct pd_str text, enum eng_parse parse,
                 int32_t **io_ids, size_t *io_n, struct pd_err *err);
/* Exact bytes of tokens ("" for control tokens unless special). PD_EINVAL when an id is out of
 * range. */
int eng_detokenize(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                   struct pd_buf *out, struct pd_err *err);
/* The same of a text from its start: without the blank that the vocabulary wants before it. */
int eng_detokenize_whole(const struct eng_tokenizer *t, const int32_t *ids, size_t n, bool special,
                         struct pd_buf *out, struct pd_err *err);
int32_t eng_token_find(const struct eng_tokenizer *t,
                       struct pd_str text);             /* the id whose exact text it is, -1 */
int32_t eng_token_bos(const struct eng_tokenizer *t);   /* begins a text, -1 */
bool eng_token_adds_bos(const struct eng_tokenizer *t); /* whether a text wants it */
bool eng_token_is_end(const struct eng_tokenizer *t, int32_t id); /* ends a text or a turn */
bool eng_token_is_control(const struct eng_tokenizer *t, int32_t id);
uint32_t eng_n_vocab(const struct eng_tokenizer *t);
/* A conversation through a chat template (Jinja; NULL: the file's own) with its generation prompt,
 * as tokens: those of the rendered text, but no control token comes from what a message, a tool or
 * a variable says. BOS is there if the template prints it. PD_EFORMAT: a template that is not there
 * or not supported, never a different prompt; PD_EINVAL: the template refuses the conversation, or
 * would leave its tools out. docs/design/templates.md */
int eng_chat(const struct eng_tokenizer *t, const char *template, const struct pd_chat *chat,
             int32_t **io_ids, size_t *io_n, struct pd_err *err);
/* The same as text, to look at; with a template that is given also for a model that is not here (t
 * NULL): it then has no variables bos_token, eos_token, unk_token. */
int eng_chat_text(const struct eng_tokenizer *t, const char *template, const struct pd_chat *chat,
                  struct pd_buf *out, struct pd_err *err);
const char *eng_chat_own(const struct eng_tokenizer *t); /* the file's template; NULL: none */
const char *eng_chat_builtin(const char *name);          /* a template by name; NULL: none */
const char *eng_chat_builtin_name(size_t i);             /* NULL past the last */

/* ---- constrained output ------------------------------------------------------------------------
 */

/* What a text may say: a grammar in the notation of llama.cpp (GBNF), or a JSON Schema. While a
 * request writes under one, only tokens can be drawn with which the text can still be finished, and
 * end tokens only where it may end; among them each has its own share of probability.
 * docs/design/grammar.md has the notations and what is read more strictly than it could be. */
enum eng_grammar_kind { ENG_GRAMMAR_GBNF, ENG_GRAMMAR_SCHEMA };

#define ENG_GRAMMAR_MAX_BYTES (1 << 20)

struct eng_grammar_spec {
    enum eng_grammar_kind kind;
    struct pd_str text;
    const char *after; /* the text is free up to the first of these, and blanks; NULL: none is */
    const char *begin; /* but only if it begins so; NULL: in any case */
};

/* Immutable, reference-counted. */
struct eng_grammar;

/* For requests to models with this tokenizer, which outlives it; NULL: only to look at texts.
 * PD_EINVAL: what is wrong, and where: an unsupported keyword by its JSON pointer. PD_ECOMPLEX:
 * more than an automaton of bounded size can tell. */
int eng_grammar_new(const struct eng_tokenizer *t, const struct eng_grammar_spec *spec,
                    struct eng_grammar **out, struct pd_err *err);
struct eng_grammar *eng_grammar_ref(struct eng_grammar *g);
void eng_grammar_unref(struct eng_grammar *g); /* NULL is fine */
enum eng_fit { ENG_FIT_NOT, ENG_FIT_BEGINS, ENG_FIT_WHOLE };
/* Whether a text fits, or could be the beginning of one that does. */
int eng_grammar_fit(struct eng_grammar *g, struct pd_str text, enum eng_fit *out,
                    struct pd_err *err);

/* ---- control vectors ---------------------------------------------------------------------------
 */

/* Vectors that are added to the residual stream behind some blocks of a model, each times gamma
 * (activation steering). Layer l names the stream behind the first l blocks, as hidden_states[l]
 * does elsewhere; the file's tensor for it is direction.(l - 1). Immutable, reference-counted;
 * independent of the model they were made for. */
struct eng_steer;

/* All vectors of a GGUF file of architecture "controlvector". PD_EFORMAT: it is none, or not for a
 * model of this shape. */
int eng_steer_open(const char *path, float gamma, const struct eng_model *m, struct eng_steer **out,
                   struct pd_err *err);
/* The one vector v[n_embd] of layer 1 … n_layer. */
int eng_steer_new(const struct eng_model *m, uint32_t layer, const float *v, float gamma,
                  struct eng_steer **out, struct pd_err *err);
/* A file with that vector, as it is. */
int eng_steer_write(const char *path, const struct eng_model *m, uint32_t layer, const float *v,
                    struct pd_err *err);
struct eng_steer *eng_steer_ref(struct eng_steer *s); /* NULL is fine, here and below */
void eng_steer_unref(struct eng_steer *s);

/* ---- contexts ----------------------------------------------------------------------------------
 */

int eng_ctx_new(struct eng *e, struct eng_model *m, struct eng_ctx **out_ctx, struct pd_err *err);
void eng_ctx_free(struct eng_ctx *c);
/* O(1): shares every page with c; both may go on independently (copy on write). */
int eng_ctx_fork(struct eng_ctx *c, struct eng_ctx **out_ctx, struct pd_err *err);
/* Puts tokens behind the context; they are evaluated by the next request. PD_ELIMIT past the
 * model's n_ctx. */
int eng_ctx_append(struct eng_ctx *c, const int32_t *ids, size_t n, struct pd_err *err);
int eng_ctx_rollback(struct eng_ctx *c, size_t n_tokens,
                     struct pd_err *err); /* keep the first n_tokens */
/* What c sees before its own tokens, from now on: those that the blocks have evaluated, in this
 * order, each block as if it began where the one before ends (docs/design/segments.md). c's own
 * tokens are counted from its own first one, here and in requests, wherever they lie. Blocks are
 * contexts of the same model; they are borrowed, until another view or the end of c, and must be at
 * rest while a request on c is in flight, or be lanes of the same race: then each lane sees what
 * the others evaluate in the same step. n 0: an ordinary context again. A fork has the same view.
 * PD_EINVAL: one of another model, c itself, or more than ENG_MAX_BLOCKS. */
#define ENG_MAX_BLOCKS 64
int eng_ctx_view(struct eng_ctx *c, struct eng_ctx *const *blocks, size_t n, struct pd_err *err);
/* Puts tokens [first, end) of `from` behind `to`, with K and V where they have been evaluated: they
 * are what they were, at new positions. `from` stays as it is. PD_EINVAL: `to` has pending tokens
 * where evaluated ones are to come, there are no such tokens, or another model's; PD_ELIMIT as for
 * eng_ctx_append. */
int eng_ctx_move(struct eng_ctx *to, struct eng_ctx *from, size_t first, size_t end,
                 struct pd_err *err);
/* Takes tokens [first, end) out of c: what comes behind them moves up. Pages are given back. */
int eng_ctx_drop(struct eng_ctx *c, size_t first, size_t end, struct pd_err *err);
/* What is evaluated from now on at c's positions from `from` on is steered; s is referenced, NULL:
 * nothing is. K and V of steered positions are those of the steered stream, in this context, its
 * forks and where they are moved; they are never found by contexts that merely begin alike. What is
 * evaluated already stays as it is. Vectors that are all zero, those times gamma 0 among them, are
 * none. PD_EINVAL: of another shape than the model. */
int eng_ctx_steer(struct eng_ctx *c, struct eng_steer *s, size_t from, struct pd_err *err);
size_t eng_ctx_n_tokens(const struct eng_ctx *c);
size_t eng_ctx_n_before(const struct eng_ctx *c); /* of its view, as its blocks are now */
size_t eng_ctx_n_cached(const struct eng_ctx *c); /* of them, with KV */

/* ---- requests ----------------------------------------------------------------------------------
 */

struct eng_sampling {
    float temperature; /* 0: the arg-max, equal logits → lowest id */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
};

#define ENG_MAX_TOP 20 /* likeliest tokens that are told with each */

/* What becomes of the logits before the temperature: bias is added; then for each time that a token
 * is among seen or has been drawn by this request `frequency` is taken off, and `presence` once. */
struct eng_adjust {
    float presence, frequency;
    const int32_t *seen; /* what was written before this request, where that counts */
    uint32_t n_seen;
    const struct pd_bias *bias;
    uint32_t n_bias;
};

enum eng_finish {
    ENG_FINISH_NONE,       /* a PREFILL or SCORE that was done in full */
    ENG_FINISH_EOS,        /* an end token was drawn; it is the last of the tokens */
    ENG_FINISH_STOP,       /* a stop string was completed (see stop); its text stays */
    ENG_FINISH_LENGTH,     /* max_tokens */
    ENG_FINISH_CTX,        /* the model's context is full */
    ENG_FINISH_RACE,       /* its race was decided */
    ENG_FINISH_CONFIDENCE, /* its confidence fell below what was asked for */
    ENG_FINISH_CANCEL,     /* eng_cancel; tokens drawn until then are kept */
    ENG_FINISH_ERROR,      /* see err */
};

enum eng_op {
    ENG_PREFILL,  /* evaluate all pending tokens and keep the last one's logits in the context */
    ENG_GENERATE, /* draw up to max_tokens */
    ENG_SCORE,    /* evaluate pending tokens, read out logits of chosen ids at chosen positions, and
                     log-probabilities */
};

/* Requests that share a race advance in lockstep, one token each a step, and end together as soon
 * as m of them have finished (EOS or STOP): logical time. All must be submitted in one eng_submit
 * call. When one of them sees other contexts (eng_ctx_view) this holds for the evaluation of
 * pending tokens, too: each must have some, and draws when it is through with them. A PREFILL may
 * be among them; it ends when it is done. */
struct eng_race {
    unsigned m;
    unsigned n_finished; /* the scheduler's */
};

/* Guesses at a GENERATE's next tokens, which are then evaluated in one step (docs/design/
 * speculation.md). They change how soon it ends, and nothing else. */
enum eng_speculate {
    ENG_SPECULATE_OFF,
    ENG_SPECULATE_LOOKUP, /* what followed when the text's last tokens were in it before */
    ENG_SPECULATE_DRAFT,  /* what another model draws */
};
#define ENG_DEFAULT_DRAFT 8
#define ENG_MAX_DRAFT     16

/* Of the distribution of the token behind a position (not the last one): the log-probability of the
 * one that stands there, the entropy, and how far it is from the uniform one, KL(uniform || it);
 * all in nats. */
#define ENG_N_NEXT 3
enum eng_read {                  /* what SCORE reads at each position */
                ENG_READ_LABELS, /* logits of labels */
                ENG_READ_HIDDEN, /* the hidden state after the final norm, n_embd values */
                ENG_READ_CLS,   /* the model's classification head, n_cls values, before any softmax
                                 */
                ENG_READ_LAYER, /* the residual stream behind the first `layer` blocks, n_embd
                                   values, steered if the position is */
                ENG_READ_NEXT,  /* what is thought of the next token: ENG_N_NEXT values */
};

/* GENERATE: how sure the model is of a token: -1/k times the sum of the log-probabilities (as in
 * logprobs) of the k likeliest. k 0: nobody asks. A request ends with the token at which the mean
 * over the last `window` tokens, once there are so many, is below `least`; 0: never. */
struct eng_confidence {
    uint32_t k, window;
    double least;
};

struct eng_req {
    /* in: untouched until done */
    enum eng_op op;
    struct eng_ctx *ctx; /* extended in place */
    struct eng_sampling sampling;
    uint64_t key;        /* of the branch; the counter is the token's position, its view included */
    uint32_t max_tokens; /* GENERATE: at least 1 */
    bool ignore_end;     /* GENERATE: end tokens are drawn like any other and end nothing */
    const struct eng_adjust *adjust; /* GENERATE; NULL: logits are drawn from as they are */
    struct eng_grammar *grammar;     /* GENERATE; of the model's tokenizer, or NULL */
    struct pd_str written;           /* what of the text under it is there already */
    uint32_t n_top;                  /* GENERATE: likeliest tokens to tell with each drawn one */
    struct eng_confidence confidence;
    const char *const *stops;      /* NULL-terminated strings, or NULL */
    const char *const *line_stops; /* the same, but one may begin in `before`; they go first */
    struct pd_str before;          /* the end of the text that this one goes on */
    struct eng_race *race;         /* or NULL */
    enum eng_speculate speculate;  /* GENERATE; not in a race, with penalties or a grammar */
    struct eng_model *draft;       /* DRAFT: with the same tokens */
    uint32_t draft_max;            /* most guesses at a time; 0: ENG_DEFAULT_DRAFT */
    bool draft_always;             /* so many each time, whether they are worth it or not */
    const uint32_t
        *at; /* SCORE: positions (ascending, absolute, not yet evaluated) after which to read */
    uint32_t n_at;
    enum eng_read read;
    uint32_t layer;        /* LAYER: 1 … n_layer */
    const int32_t *labels; /* LABELS: ids whose logits are read at each of them */
    uint32_t n_labels;
    bool want_logprobs; /* SCORE: log-probability of each pending token but the context's first */
    void (*done)(struct eng_req *req); /* on the scheduler's thread; must not block. Typically
                                          pushes to a queue */
    struct pd_link link;               /* for done's use */
    void *user;

    /* out: valid when done is called; arrays are malloc'ed, eng_req_done frees */
    int32_t *tokens;  /* GENERATE [n_tokens]; appended to ctx as well (the last one pending) */
    float *logprobs;  /* GENERATE: of each token under the model at temperature 1 unfiltered; SCORE
                         if wanted: of each evaluated token ([n_prompt - n_cached]; the first of a
                         context is 0; of the first behind evaluated tokens NAN unless PREFILL kept
                         their logits) */
    float *logits;    /* SCORE [n_at][n_labels, n_embd, n_cls or ENG_N_NEXT]: what was read */
    int32_t *top_ids; /* GENERATE [n_tokens][n_top], likeliest first, equal ones by id */
    float *top_logprobs; /* theirs, as logprobs */
    float *confidences;  /* GENERATE [n_tokens]; NULL: nobody asked */
    uint32_t n_tokens;
    enum eng_finish finish;
    const char *stop;            /* which of stops or line_stops */
    uint32_t n_prompt, n_cached; /* context tokens at the start; of them evaluated already, here or
                                    for others that began alike */
    uint32_t n_guessed, n_right; /* tokens that were guessed; of them, those that were drawn */
    struct pd_err err;
    atomic_uint progress; /* tokens so far: anyone may read it, and with acquire also these */

    /* the scheduler's */
    void *state;
    atomic_bool cancelled;
};

/* All or none is accepted. Fails with PD_EINVAL (nothing to do, context full…), PD_ECANCEL
 * (closing). */
int eng_submit(struct eng *e, struct eng_req *const *reqs, size_t n, struct pd_err *err);
/* Takes effect within one step; done is still called, with ENG_FINISH_CANCEL unless it was finished
 * already. */
void eng_cancel(struct eng *e, struct eng_req *req);
void eng_req_done(struct eng_req *req); /* frees the outputs */
/* Submit and wait, for those who have nothing else to do. */
int eng_run(struct eng *e, struct eng_req *const *reqs, size_t n, struct pd_err *err);

#endif

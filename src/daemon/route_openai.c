/* POST /v1/chat/completions and /v1/completions: a job for each prompt, attached to its request.
 *
 * Who has a struct completion:
 *
 *   loop        r, begun, late; frees it when over() comes, which is the last thing that does
 *   dispatcher  a part's stored(), started(), ended(): builds its choices; the last part posts
 * over() job         a part's listener: builds chunks of live text
 *
 * Text goes to the loop through `out`, which all of them append to under the lock; the loop empties
 * it. It is bounded as the stream is: a client that reads too slowly ends its job. When the client
 * leaves, its jobs are cancelled, whatever they are at. */
#include "daemon/daemon_int.h"

#include <ev.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "daemon/follow.h"
#include "daemon/openai.h"
#include "daemon/request.h"
#include "daemon/tool_calls.h"

#define REPLY_MAX         ((size_t)32 << 20)
#define TEXT_MAX          ((size_t)16 << 20)
#define ARENA_MAX         ((size_t)256 << 20)
#define PROMPTS_MAX       64
#define RUNS_MAX          10000 /* stretches of a line: it has no more steps */
#define COMPLETION_TOKENS "16"  /* of /v1/completions, where max_tokens is not given */
#define BEGIN_S           5.0 /* a stream that has nothing to say so far begins, and is kept alive */
#define PING_MAX_S        300
#define SEED_BITS         53

enum stream_mode { MODE_ANSWER, MODE_REASONING, MODE_EVENTS };

struct completion;

struct part { /* one prompt */
    struct completion *c;
    size_t index;
    char id[PD_JOB_ID_MAX];
    struct app_job *job; /* while it runs */
    struct pd_listener listener;
    struct openai_text text; /* live: of its one line */
    struct follow follow;    /* live: of a search */
    uint32_t n_told;         /* live: tokens with their log-probabilities */
    size_t n_bytes;          /* of the text of these */
    const struct pd_piece *piece;
    bool role_told;
};

struct completion {
    struct daemon *d;
    struct http_request *r; /* NULL: the client has left */
    bool begun;             /* the stream */
    ev_timer late;
    double ping_s;
    /* from the start on as they are */
    bool chat, continues, stream, include_usage, logprobs, plain, live;
    bool formed, behind; /* the answer has a form; text that is free comes before it */
    enum stream_mode mode;
    int reasoning_field; /* REASONING_BOTH, … */
    size_t n, n_parts;
    int64_t created;
    char id[PD_JOB_ID_MAX + 16];
    char *model, *tools, *unknown;
    const char *warning;
    atomic_uint n_open;   /* parts that are not over */
    pthread_mutex_t lock; /* guards all below */
    struct pd_buf out;
    bool posted;
    /* of the parts that are over */
    struct pd_buf choices, job;
    struct openai_usage usage;
    enum queue_verdict verdict;
    struct pd_err err; /* code PD_OK: none has failed */
    struct part parts[];
};

static void completion_free(struct completion *c)
{
    for (size_t i = 0; i < c->n_parts; i++) {
        openai_text_done(&c->parts[i].text);
        follow_done(&c->parts[i].follow);
    }
    pd_buf_done(&c->out);
    pd_buf_done(&c->choices);
    pd_buf_done(&c->job);
    pthread_mutex_destroy(&c->lock);
    free(c->model);
    free(c->tools);
    free(c->unknown);
    free(c);
}

/* Any thread; a job that is over already stays as it is. Without a queue all are. */
static void cancel_parts(struct completion *c)
{
    for (size_t i = 0; i < c->n_parts && c->d->queue; i++)
        if (c->parts[i].id[0])
            (void)queue_tell(c->d->queue, QUEUE_CANCEL, c->parts[i].id, NULL, NULL, NULL);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void client_left(void *user)
{
    struct completion *c = user;

    c->r = NULL;
    ev_timer_stop(c->d->loop, &c->late);
    cancel_parts(c);
}

static void begin_stream(struct completion *c)
{
    if (c->begun)
        return;
    c->begun = true;
    ev_timer_stop(c->d->loop, &c->late);
    http_set_header(c->r, "Cache-Control", "no-store");
    http_stream_begin(c->r, 200, "text/event-stream");
    http_stream_ping(c->r, c->ping_s);
}

static void on_late(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    begin_stream(w->data);
}

/* What has been said so far goes out. */
static void flush(struct daemon *d, void *arg)
{
    struct completion *c = arg;
    struct pd_buf out;

    (void)d;
    pthread_mutex_lock(&c->lock);
    out = c->out;
    c->out = (struct pd_buf)PD_BUF_INIT(HTTP_STREAM_BACKLOG);
    c->posted = false;
    pthread_mutex_unlock(&c->lock);
    if (c->r && out.len) {
        begin_stream(c);
        if (pd_buf_rc(&out) < 0 || http_stream_write(c->r, pd_buf_str(&out)) < 0) {
            http_stream_abort(c->r);
            client_left(c);
        }
    }
    pd_buf_done(&out);
}

static void refuse(struct completion *c)
{
    if (c->verdict == QUEUE_FULL) {
        api_queue_full(c->r, 5, "too many jobs wait already");
    } else {
        api_fail(c->r, &c->err);
    }
}

/* The error of a stream that has begun, which then ends without [DONE]. */
static void fail_stream(struct completion *c)
{
    const struct api_kind *k = api_kind(c->err.code);
    struct pd_buf b = PD_BUF_INIT(8192);
    struct pd_jw w;

    pd_buf_addz(&b, "data: ");
    pd_jw_init(&w, &b);
    api_error_json(&w, c->err.text, k->type, k->code, NULL, api_request_id(c->r));
    pd_buf_addz(&b, "\n\n");
    (void)http_stream_write(c->r, pd_buf_str(&b));
    pd_buf_done(&b);
    http_stream_end(c->r);
}

static void put_head(const struct completion *c, struct pd_jw *w, const char *object)
{
    pd_jw_put_text(w, "id", c->id);
    pd_jw_put_text(w, "object", object);
    pd_jw_key(w, "created");
    pd_jw_int(w, c->created);
    pd_jw_put_text(w, "model", c->model);
    pd_jw_put_text(w, "system_fingerprint", "ponder-" PONDER_VERSION);
}

static void reply(struct completion *c)
{
    struct pd_buf b = PD_BUF_INIT(REPLY_MAX);
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    put_head(c, &w, c->chat ? "chat.completion" : "text_completion");
    pd_jw_key(&w, "choices");
    pd_buf_addc(&b, '[');
    pd_buf_adds(&b, pd_buf_str(&c->choices));
    pd_buf_addc(&b, ']');
    w.after_key = false;
    w.comma = true;
    pd_jw_key(&w, "usage");
    openai_put_usage(&w, &c->usage);
    pd_buf_adds(&b, pd_buf_str(&c->job));
    pd_jw_end_object(&w);
    api_json(c->r, 200, &b);
}

static void over(struct daemon *d, void *arg)
{
    struct completion *c = arg;

    flush(d, c);
    ev_timer_stop(d->loop, &c->late);
    if (c->err.code == PD_ECANCEL && !d->draining)
        c->err.code = PD_EBUSY; /* somebody has cancelled its job */
    if (c->r && c->err.code != PD_OK && !c->begun)
        refuse(c);
    else if (c->r && c->err.code != PD_OK)
        fail_stream(c);
    else if (c->r && c->stream)
        http_stream_end(c->r);
    else if (c->r)
        reply(c);
    completion_free(c);
}

/* ---- chunks, on a job's thread and the dispatcher's ------------------------------------------ */

/* With the lock held: a chunk up to its choices, an open array. */
static void open_chunk(struct completion *c, struct pd_jw *w)
{
    pd_buf_addz(&c->out, "data: ");
    pd_jw_init(w, &c->out);
    pd_jw_object(w);
    put_head(c, w, c->chat ? "chat.completion.chunk" : "text_completion");
    pd_jw_key(w, "choices");
    pd_jw_array(w);
}

static void close_chunk(struct completion *c, struct pd_jw *w)
{
    pd_jw_end_object(w);
    pd_buf_addz(&c->out, "\n\n");
}

/* The same up to the text of its one choice: the open object `delta`, or the choice itself. */
static void open_choice(struct completion *c, struct pd_jw *w, size_t index)
{
    open_chunk(c, w);
    pd_jw_object(w);
    pd_jw_put_uint(w, "index", index);
    if (c->chat) {
        pd_jw_key(w, "delta");
        pd_jw_object(w);
    }
}

static void end_text(const struct completion *c, struct pd_jw *w)
{
    if (c->chat)
        pd_jw_end_object(w);
}

static void end_choice(struct pd_jw *w)
{
    pd_jw_end_object(w);
    pd_jw_end_array(w);
}

/* Sees to it that the loop takes what is in out; without the lock. */
static void post_flush(struct completion *c)
{
    bool post;

    pthread_mutex_lock(&c->lock);
    post = !c->posted && c->out.len;
    c->posted |= post;
    pthread_mutex_unlock(&c->lock);
    if (post)
        (void)daemon_post(c->d, flush, c);
}

/* logprobs of /v1/completions; *at: bytes of the text before. */
static void put_old_logprobs(struct pd_jw *w, const struct openai_tokens *t, size_t n, size_t *at)
{
    struct pd_buf piece = PD_BUF_INIT(65536);

    pd_jw_object(w);
    pd_jw_key(w, "tokens");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n; k++) {
            pd_buf_clear(&piece);
            (void)eng_detokenize(t[i].tokenizer, &t[i].ids[k], 1, true, &piece, NULL);
            pd_jw_str(w, pd_buf_str(&piece));
        }
    pd_jw_end_array(w);
    pd_jw_key(w, "token_logprobs");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n; k++)
            pd_jw_double(w, (double)t[i].logprobs[k]);
    pd_jw_end_array(w);
    pd_jw_key(w, "top_logprobs");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n; k++) {
            pd_jw_object(w);
            for (size_t m = 0; t[i].top_ids && m < t[i].n_top; m++) {
                pd_buf_clear(&piece);
                (void)eng_detokenize(t[i].tokenizer, &t[i].top_ids[k * t[i].n_top + m], 1, true,
                                     &piece, NULL);
                pd_buf_addc(&piece, '\0');
                pd_jw_put_double(w, pd_buf_str(&piece).ptr,
                                 (double)t[i].top_logprobs[k * t[i].n_top + m]);
            }
            pd_jw_end_object(w);
        }
    pd_jw_end_array(w);
    pd_jw_key(w, "text_offset");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t[i].n; k++) {
            pd_jw_uint(w, *at);
            pd_buf_clear(&piece);
            (void)eng_detokenize(t[i].tokenizer, &t[i].ids[k], 1, true, &piece, NULL);
            *at += piece.len;
        }
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    pd_buf_done(&piece);
}

static void put_logprobs(const struct completion *c, struct pd_jw *w, const struct openai_tokens *t,
                         size_t n, size_t *at)
{
    pd_jw_key(w, "logprobs");
    if (!c->logprobs || n == 0) {
        pd_jw_null(w);
        return;
    }
    if (!c->chat) {
        put_old_logprobs(w, t, n, at);
        return;
    }
    pd_jw_object(w);
    pd_jw_key(w, "content");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        openai_put_tokens(w, &t[i]);
    pd_jw_end_array(w);
    pd_jw_put_text(w, "refusal", NULL);
    pd_jw_end_object(w);
}

static void put_reasoning(const struct completion *c, struct pd_jw *w, struct pd_str s)
{
    if (c->reasoning_field == REASONING_BOTH || c->reasoning_field == REASONING_CONTENT)
        pd_jw_put_str(w, "reasoning_content", s);
    if (c->reasoning_field == REASONING_BOTH || c->reasoning_field == REASONING_PLAIN)
        pd_jw_put_str(w, "reasoning", s);
}

/* With the lock held: more text of choice `index`. */
static void put_delta(struct part *p, size_t index, bool reasoning, struct pd_str text,
                      const struct openai_tokens *tokens, size_t n_tokens)
{
    struct completion *c = p->c;
    struct pd_jw w;

    open_choice(c, &w, index);
    if (reasoning)
        put_reasoning(c, &w, text);
    else
        pd_jw_put_str(&w, c->chat ? "content" : "text", text);
    end_text(c, &w);
    put_logprobs(c, &w, tokens, n_tokens, &p->n_bytes);
    pd_jw_put_text(&w, "finish_reason", NULL);
    end_choice(&w);
    close_chunk(c, &w);
}

static void put_role(struct completion *c, size_t index)
{
    struct pd_jw w;

    open_choice(c, &w, index);
    pd_jw_put_text(&w, "role", "assistant");
    pd_jw_put_text(&w, "content", "");
    end_text(c, &w);
    pd_jw_put_text(&w, "logprobs", NULL);
    pd_jw_put_text(&w, "finish_reason", NULL);
    end_choice(&w);
    close_chunk(c, &w);
}

/* With the lock held: what is new of a live text; the tokens of the piece go with the first of it.
 */
static void put_live(struct part *p, struct pd_buf *reasoning, struct pd_buf *content)
{
    const struct pd_piece *piece = p->piece;
    struct openai_tokens t = {.tokenizer = app_job_tokenizer(p->job)};
    struct pd_buf *outs[] = {reasoning, content};
    size_t index = p->index * p->c->n;

    if (piece && piece->logprobs && piece->n_tokens > p->n_told) {
        t.n_top = (size_t)app_job_core(p->job)->common.top_logprobs;
        t.ids = piece->tokens + p->n_told;
        t.logprobs = piece->logprobs + p->n_told;
        t.n = piece->n_tokens - p->n_told;
        if (piece->top_ids) {
            t.top_ids = piece->top_ids + p->n_told * t.n_top;
            t.top_logprobs = piece->top_logprobs + p->n_told * t.n_top;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (!outs[i] || !outs[i]->len)
            continue;
        if (p->c->chat && !p->role_told)
            put_role(p->c, index);
        p->role_told = true;
        put_delta(p, index, i == 0, pd_buf_str(outs[i]), &t, t.n > 0);
        p->n_told += (uint32_t)t.n;
        t.n = 0;
        pd_buf_clear(outs[i]);
    }
}

/* In MODE_EVENTS: a chunk without text that tells of a node. */
static void put_event(struct completion *c, const char *type, uint32_t node, const char *key,
                      double value)
{
    struct pd_jw w;

    open_chunk(c, &w);
    pd_jw_end_array(&w);
    pd_jw_key(&w, "ponder");
    pd_jw_object(&w);
    pd_jw_put_text(&w, "type", type);
    pd_jw_put_uint(&w, "node", node);
    pd_jw_put_double(&w, key, value);
    pd_jw_end_object(&w);
    close_chunk(c, &w);
}

static void hear_prompt(void *self, const int32_t *tokens, uint32_t n)
{
    struct part *p = self;

    p->text.thinks =
        p->c->chat && openai_opens_thought(app_job_tokenizer(p->job), tokens, n, p->c->continues);
}

static void hear_piece(void *self, const struct pd_piece *piece)
{
    struct part *p = self;
    struct completion *c = p->c;

    p->piece = piece;
    if (c->plain)
        openai_text_add(&p->text, piece->text);
    else
        follow_piece(&p->follow, piece);
    pthread_mutex_lock(&c->lock);
    if (c->plain)
        put_live(p, &p->text.reasoning_out, &p->text.content_out);
    else
        put_live(p, &p->follow.out, NULL);
    if (c->mode == MODE_EVENTS && piece->last)
        put_event(c, "node.added", piece->node, "parent", piece->parent);
    pthread_mutex_unlock(&c->lock);
    p->piece = NULL;
    post_flush(c);
}

static void hear_best(void *self, uint32_t node, double value)
{
    struct part *p = self;
    struct completion *c = p->c;

    if (!c->plain)
        follow_best(&p->follow, node, value);
    pthread_mutex_lock(&c->lock);
    if (!c->plain)
        put_live(p, &p->follow.out, NULL);
    if (c->mode == MODE_EVENTS)
        put_event(c, "node.scored", node, "value", value);
    pthread_mutex_unlock(&c->lock);
    post_flush(c);
}

/* ---- what a job has said, on the dispatcher's thread ------------------------------------------
 */

struct shown { /* a choice as it is shown */
    struct pd_str reasoning, content;
    struct tool_call *calls;
    int n_calls;
    const char *finish;
};

/* text keeps what shown borrows. */
static int show(const struct part *p, const struct openai_choice *choice, bool thinks,
                struct openai_text *text, struct pd_arena *a, struct shown *out)
{
    const struct completion *c = p->c;

    openai_text_init(text, TEXT_MAX);
    text->thinks = thinks;
    text->plain = !c->chat;
    text->has_tools = c->tools != NULL;
    openai_text_add(text, pd_str_of(choice->text));
    openai_text_end(text);
    *out = (struct shown){.reasoning = pd_buf_str(&text->reasoning_out),
                          .content = openai_text_content(text),
                          .finish = choice->ended ? "stop" : "length"};
    if (c->tools)
        out->n_calls = tool_calls_parse(out->content, c->tools, a, &out->calls, &out->content);
    if (out->n_calls > 0)
        out->finish = "tool_calls";
    else if (c->chat && (!c->plain || c->behind) && choice->answer) {
        /* a search: the answer, and how it came */
        out->content = pd_str_of(choice->answer);
        if (c->behind)
            out->reasoning =
                pd_str_sub(pd_str_of(choice->text), 0,
                           (size_t)pd_str_rfind(pd_str_of(choice->text), out->content));
        else if (!c->formed)
            out->reasoning = pd_str_of(choice->text);
    }
    return out->n_calls < 0 || pd_buf_rc(&text->all) < 0 ? PD_ENOMEM : 0;
}

static void put_calls(struct part *p, struct pd_jw *w, const struct shown *s, size_t index,
                      bool delta)
{
    char id[32];

    pd_jw_key(w, "tool_calls");
    pd_jw_array(w);
    for (int i = 0; i < s->n_calls; i++) {
        /* nine letters and digits, as some templates demand; the same for the same job and place */
        snprintf(id, sizeof id, "%.5s%02x%02x", p->id + strlen(p->id) - 5, (unsigned)index & 255,
                 (unsigned)i);
        pd_jw_object(w);
        if (delta) {
            pd_jw_key(w, "index");
            pd_jw_int(w, i);
        }
        pd_jw_put_text(w, "id", id);
        pd_jw_put_text(w, "type", "function");
        pd_jw_key(w, "function");
        pd_jw_object(w);
        pd_jw_put_text(w, "name", s->calls[i].name);
        pd_jw_put_text(w, "arguments", s->calls[i].arguments);
        pd_jw_end_object(w);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
}

static void put_choice_end(struct pd_jw *w, const struct openai_choice *choice)
{
    char node[16];

    pd_jw_key(w, "ponder");
    pd_jw_object(w);
    pd_jw_key(w, "score");
    if (choice->score >= 0)
        pd_jw_double(w, choice->score);
    else
        pd_jw_null(w);
    snprintf(node, sizeof node, "n%" PRIu32, choice->node);
    pd_jw_put_text(w, "node", node);
    pd_jw_put_uint(w, "votes", choice->votes);
    pd_jw_end_object(w);
}

/* With the lock held: a whole choice. */
static void put_choice(struct part *p, struct pd_jw *w, const struct openai_choice *choice,
                       const struct shown *s, size_t index, const struct openai_tokens *t, size_t n)
{
    size_t at = 0;

    pd_jw_object(w);
    pd_jw_put_uint(w, "index", index);
    if (p->c->chat) {
        pd_jw_key(w, "message");
        pd_jw_object(w);
        pd_jw_put_text(w, "role", "assistant");
        pd_jw_key(w, "content");
        if (s->n_calls > 0 && !s->content.len)
            pd_jw_null(w);
        else
            pd_jw_str(w, s->content);
        if (s->reasoning.len)
            put_reasoning(p->c, w, s->reasoning);
        if (s->n_calls > 0)
            put_calls(p, w, s, index, false);
        pd_jw_end_object(w);
    } else {
        pd_jw_put_str(w, "text", s->content);
    }
    put_logprobs(p->c, w, t, n, &at);
    pd_jw_put_text(w, "finish_reason", s->finish);
    put_choice_end(w, choice);
    pd_jw_end_object(w);
}

/* With the lock held: the chunk that ends a choice. */
static void put_finish(struct part *p, const struct openai_choice *choice, const struct shown *s,
                       size_t index)
{
    struct completion *c = p->c;
    struct pd_jw w;

    open_choice(c, &w, index);
    if (!c->chat)
        pd_jw_put_text(&w, "text", "");
    else if (s->n_calls > 0)
        put_calls(p, &w, s, index, true);
    end_text(c, &w);
    pd_jw_put_text(&w, "logprobs", NULL);
    pd_jw_put_text(&w, "finish_reason", s->finish);
    put_choice_end(&w, choice);
    end_choice(&w);
    pd_buf_adds(&c->out, pd_buf_str(&c->job));
    close_chunk(c, &w);
}

/* With the lock held: what of a choice has not been streamed yet, and its end. */
static void stream_choice(struct part *p, const struct openai_choice *choice, const struct shown *s,
                          size_t index, const struct openai_tokens *t, size_t n)
{
    struct completion *c = p->c;
    struct pd_str content = s->content;

    if (c->live && c->plain) { /* the text itself was live: what was held back of it */
        struct openai_text *live = &p->text;
        size_t told = live->state < TEXT_THOUGHT ? 0 : live->done - live->content;

        openai_text_end(live);
        if (live->has_tools)
            content = pd_str_sub(content, told, content.len);
        else
            content = pd_buf_str(&live->content_out);
        if (live->reasoning_out.len)
            put_delta(p, index, true, pd_buf_str(&live->reasoning_out), NULL, 0);
        n = 0;
    }
    if (c->chat && !(c->live && p->role_told))
        put_role(c, index);
    if (!c->live && c->mode != MODE_ANSWER && s->reasoning.len)
        put_delta(p, index, true, s->reasoning, NULL, 0);
    if (content.len)
        put_delta(p, index, false, content, t, n);
    put_finish(p, choice, s, index);
}

static uint64_t count_tokens(const struct eng_tokenizer *t, struct pd_str text)
{
    int32_t *ids = NULL;
    size_t n = 0;

    (void)eng_tokenize(t, text, ENG_PARSE_PLAIN, &ids, &n, NULL);
    free(ids);
    return n;
}

/* With the lock held. */
static int add_result(struct part *p, const struct pd_job *job, const struct pd_result *r,
                      struct pd_arena *a)
{
    struct completion *c = p->c;
    const struct eng_tokenizer *tok = app_job_tokenizer(p->job);
    const struct pd_node_rec *root = &r->trace.nodes[0];
    struct openai_tokens *runs = pd_arena_array(a, RUNS_MAX, sizeof *runs);
    struct openai_choice *choices, none = {.text = "", .score = -1};
    bool thinks = c->chat && openai_opens_thought(tok, root->tokens, root->n_tokens, c->continues),
         cut = false;
    size_t n, n_lines;
    char warning[96];
    struct pd_jw w;

    if (!runs || openai_choices(r, job->form, c->plain, a, &choices, &n, &n_lines) < 0)
        return PD_ENOMEM;
    if (n == 0) { /* a budget that allows nothing */
        choices = &none;
        n = 1;
        cut = true;
    }
    snprintf(warning, sizeof warning, "n is %zu, but %zu of the lines differ", c->n, n);
    if (!c->job.len) {
        pd_jw_init(&w, &c->job);
        w.comma = true; /* it goes behind other members */
        openai_put_job(&w, job, r, n_lines, c->unknown, n < c->n ? warning : c->warning);
    }
    c->usage.prompt += root->n_tokens;
    c->usage.cached += r->trace.n_calls ? r->trace.calls[0].cached_tokens : 0;
    c->usage.generated += r->usage.generated;
    for (size_t i = 0; i < n && i < c->n; i++) {
        struct openai_text text;
        struct shown s;
        size_t index = p->index * c->n + i, n_runs;
        int rc = show(p, &choices[i], thinks, &text, a, &s);

        n_runs = cut ? 0 : openai_line_tokens(r, &choices[i], tok, runs, RUNS_MAX);
        c->usage.content += s.reasoning.len ? count_tokens(tok, s.content)
                            : c->plain      ? r->usage.generated
                                            : count_tokens(tok, s.content);
        if (rc == 0 && c->stream) {
            stream_choice(p, &choices[i], &s, index, runs, n_runs);
        } else if (rc == 0) {
            pd_jw_init(&w, &c->choices);
            w.comma = c->choices.len > 0;
            put_choice(p, &w, &choices[i], &s, index, runs, n_runs);
        }
        openai_text_done(&text);
        if (rc < 0)
            return rc;
    }
    return pd_buf_rc(&c->choices) < 0 || pd_buf_rc(&c->job) < 0 ? PD_ENOMEM : 0;
}

/* With the lock held. */
static void end_chunks(struct completion *c)
{
    struct pd_jw w;

    if (c->include_usage) {
        open_chunk(c, &w);
        pd_jw_end_array(&w);
        pd_jw_key(&w, "usage");
        openai_put_usage(&w, &c->usage);
        close_chunk(c, &w);
    }
    pd_buf_addz(&c->out, "data: [DONE]\n\n");
}

/* The last thing that is done for a part; err NULL: it was good. */
static void part_over(struct part *p, enum queue_verdict verdict, const struct pd_err *err)
{
    struct completion *c = p->c;
    bool first;

    pthread_mutex_lock(&c->lock);
    first = err && c->err.code == PD_OK;
    if (first) {
        c->verdict = verdict;
        c->err = *err;
    }
    pthread_mutex_unlock(&c->lock);
    if (first && c->n_parts > 1)
        cancel_parts(c);
    if (atomic_fetch_sub(&c->n_open, 1) > 1)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->stream && c->err.code == PD_OK)
        end_chunks(c);
    pthread_mutex_unlock(&c->lock);
    if (!daemon_post(c->d, over, c)) /* the loop has ended, and every client has left */
        completion_free(c);
}

static void part_stored(void *user, enum queue_verdict v, const char *id, const struct pd_err *err)
{
    struct pd_err full;

    (void)id;
    pd_fail(&full, PD_EBUSY, "too many jobs wait already");
    if (v != QUEUE_STORED)
        part_over(user, v, err ? err : &full);
}

static void part_started(void *user, struct app_job *job)
{
    struct part *p = user;

    p->job = job;
    if (p->c->live)
        app_job_listen(job, &p->listener);
}

static void part_ended(void *user, const struct queue_end *end)
{
    struct part *p = user;
    struct completion *c = p->c;
    struct pd_arena a;
    struct pd_err err = {0};

    if (strcmp(end->status, "done") == 0 && end->result) {
        pd_arena_init(&a, ARENA_MAX);
        pthread_mutex_lock(&c->lock);
        if (add_result(p, end->job, end->result, &a) < 0)
            pd_fail(&err, PD_ENOMEM, "out of memory for the answer");
        pthread_mutex_unlock(&c->lock);
        pd_arena_done(&a);
    } else if (end->err) {
        err = *end->err;
    } else {
        pd_fail(&err, PD_ECANCEL, "the job was %s", end->status);
    }
    p->job = NULL;
    part_over(p, QUEUE_STORED, err.code == PD_OK ? NULL : &err);
}

/* ---- the request ---------------------------------------------------------------------------- */

struct asked { /* fields of the routes beside those of a job */
    int64_t n, ping_s;
    bool stream, include_usage, logprobs;
    enum stream_mode mode;
};

/* tool_choice: auto and none change nothing here; required, or the name of a tool, is a form. */
static int force_call(struct request *q, const struct pd_json *body, struct request_error *e)
{
    const struct pd_json *choice = pd_json_get(body, "tool_choice"),
                         *tools = pd_json_get(body, "tools");
    const char *word = pd_json_string(choice),
               *name = pd_json_string(pd_json_get(pd_json_get(choice, "function"), "name"));
    struct pd_buf schema = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES);
    struct pd_form *form;
    size_t n;

    if (!choice || pd_json_is_null(choice) ||
        (word && (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0)))
        return 0;
    if (!name && !(word && strcmp(word, "required") == 0))
        return request_bad(e, "unsupported_value", "", "tool_choice",
                           "tool_choice must be auto, none, required or a function's name");
    if (q->app.form)
        return request_bad(e, "unsupported_value", "", "tool_choice",
                           "an answer that must be a call cannot have another form too");
    n = tool_calls_schema(tools, name, &schema);
    form = pd_arena_alloc(&q->arena, sizeof *form);
    if (n == 0) {
        pd_buf_done(&schema);
        return request_bad(e, "unsupported_value", "", "tool_choice",
                           name ? "tools has no function '%.64s'" : "tools has no function", name);
    }
    if (form && pd_buf_rc(&schema) == 0)
        *form =
            (struct pd_form){.schema = true, .text = pd_arena_dup(&q->arena, pd_buf_str(&schema))};
    pd_buf_done(&schema);
    if (!form || !form->text)
        return request_bad(e, "schema_too_complex", "", "tools",
                           "the tools' parameters are too long");
    q->app.form = form;
    return 0;
}

static int parse_mode(const struct pd_json *ponder, enum stream_mode *out, struct request_error *e)
{
    static const char *const names[] = {"answer", "reasoning", "events"};
    const char *mode = NULL;
    int rc = request_text((struct request_object){ponder, "ponder."}, "stream_mode", &mode, e);

    *out = MODE_REASONING;
    if (rc < 0 || !mode)
        return rc;
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i], mode) == 0) {
            *out = (enum stream_mode)i;
            return 0;
        }
    return request_bad(e, "unsupported_value", "ponder.", "stream_mode",
                       "ponder.stream_mode must be answer, reasoning or events");
}

static int parse_logprobs(struct request *q, const struct pd_json *body, bool chat, struct asked *a,
                          struct request_error *e)
{
    struct request_object o = {body, ""};
    int64_t n = -1;
    char text[24];
    int rc;

    if (chat) {
        rc = request_bool(o, "logprobs", &a->logprobs, e);
        if (rc == 0 && !a->logprobs && pd_json_get(body, "top_logprobs") &&
            !pd_json_is_null(pd_json_get(body, "top_logprobs")))
            rc = request_bad(e, "unsupported_value", "", "top_logprobs",
                             "top_logprobs needs logprobs to be true");
        return rc;
    }
    rc = request_int(o, "logprobs", 0, PD_TOP_MAX, &n, e);
    a->logprobs = n >= 0;
    snprintf(text, sizeof text, "%" PRId64, n);
    return rc == 0 && n > 0 ? request_option(q, "top_logprobs", text, e) : rc;
}

static int parse_asked(const struct settings *settings, struct request *q,
                       const struct pd_json *body, bool chat, struct asked *a,
                       struct request_error *e)
{
    struct request_object o = {body, ""},
                          so = {pd_json_get(body, "stream_options"), "stream_options."};
    const struct pd_json *ponder = pd_json_get(body, "ponder");
    bool as_job = false, echo = false;
    int rc;

    *a = (struct asked){.n = 1, .ping_s = (int64_t)settings->sse_ping_interval_s};
    if ((rc = request_int(o, "n", 1, settings->max_n, &a->n, e)) < 0 ||
        (rc = request_bool(o, "stream", &a->stream, e)) < 0 ||
        (rc = request_bool(so, "include_usage", &a->include_usage, e)) < 0 ||
        (rc = request_int(o, "sse_ping_interval_s", -1, PING_MAX_S, &a->ping_s, e)) < 0 ||
        (rc = parse_logprobs(q, body, chat, a, e)) < 0 ||
        (rc = parse_mode(ponder, &a->mode, e)) < 0 ||
        (rc = request_bool((struct request_object){ponder, "ponder."}, "job", &as_job, e)) < 0 ||
        (rc = request_bool(o, "echo", &echo, e)) < 0)
        return rc;
    if (as_job)
        return request_bad(e, "unsupported_value", "ponder.", "job",
                           "a job that outlives its request is submitted with POST /v1/jobs");
    if (echo || (pd_json_get(body, "suffix") && !pd_json_is_null(pd_json_get(body, "suffix"))))
        return request_bad(e, "unsupported_value", "", echo ? "echo" : "suffix",
                           "echo and suffix are not supported");
    return chat ? force_call(q, body, e) : 0;
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint64_t)pd_clock_unix_ms();
    return seed >> (64 - SEED_BITS);
}

/* A model without more words is one sample of it, or n of them, each time others. */
static int set_defaults(struct request *q, const struct pd_json *body, bool chat,
                        const struct asked *a, struct request_error *e)
{
    if (!q->app.strategy) {
        q->app.strategy = a->n > 1 ? "self_consistency" : "single";
        if (a->n > 1 && !q->app.budget_samples)
            q->app.budget_samples = (uint64_t)a->n;
    }
    if (!pd_json_get(body, "seed") && !pd_json_get(pd_json_get(body, "ponder"), "seed"))
        q->app.seed = random_seed();
    return !chat && !pd_json_get(body, "max_tokens")
               ? request_option(q, "max_tokens", COMPLETION_TOKENS, e)
               : 0;
}

/* The prompts of a body: a text, an array of texts, of token ids, or of arrays of these. */
static int prompts(struct request *q, const struct pd_json *body, struct pd_chat **out,
                   size_t *out_n, struct request_error *e)
{
    const struct pd_json *v = pd_json_get(body, "prompt"), *first = pd_json_first(v);
    bool many = first && (pd_json_string(first) || pd_json_is_array(first));
    int rc = 0;

    *out_n = many ? pd_json_size(v) : 1;
    if (!v)
        return request_bad(e, "missing_field", "", "prompt", "prompt is missing");
    if (*out_n > PROMPTS_MAX)
        return request_bad(e, "out_of_range", "", "prompt", "prompt has %zu prompts (at most %d)",
                           *out_n, PROMPTS_MAX);
    v = many ? first : v;
    for (size_t i = 0; i < *out_n && rc == 0; i++, v = pd_json_next(v))
        rc = app_prompt_parse(v, &q->arena, &out[i], &e->err);
    if (rc < 0) {
        e->code = "unsupported_value";
        snprintf(e->param, sizeof e->param, "prompt");
    }
    return rc;
}

/* Texts and tokens of answers are told by the tokenizer of a model that is here. */
static int check_model(const struct request *q, struct request_error *e)
{
    int rc = app_check_local(q->app.model ? q->app.model : app_default_model, &e->err);

    if (rc < 0) {
        pd_err_context(&e->err, "POST /v1/jobs takes it, this route does not");
        e->code = "unsupported_value";
        snprintf(e->param, sizeof e->param, "model");
    }
    return rc;
}

static struct completion *completion_new(struct daemon *d, struct http_request *r,
                                         const struct request *q, bool chat, bool plain,
                                         const struct asked *a, size_t n_parts)
{
    struct completion *c = calloc(1, sizeof *c + n_parts * sizeof c->parts[0]);

    if (!c)
        return NULL;
    c->d = d;
    c->r = r;
    c->chat = chat;
    c->continues = q->app.chat && q->app.chat->continue_last;
    c->plain = plain;
    c->stream = a->stream;
    c->include_usage = a->include_usage;
    c->logprobs = a->logprobs;
    c->mode = a->mode;
    c->warning = q->warning;
    c->reasoning_field = d->settings->reasoning_field;
    c->n = (size_t)a->n;
    c->n_parts = n_parts;
    c->formed = q->app.form != NULL;
    c->behind = q->app.form && q->app.form->after;
    c->live = !c->behind && a->stream && n_parts == 1 && a->n == 1 &&
              (plain || (chat && a->mode != MODE_ANSWER));
    c->ping_s = a->ping_s > 0 ? (double)a->ping_s : 0;
    c->created = pd_clock_unix_ms() / 1000;
    c->model = strdup(q->shown_model ? q->shown_model : app_default_model);
    c->tools = q->app.chat && q->app.chat->tools ? strdup(q->app.chat->tools) : NULL;
    c->unknown = q->unknown.len ? strdup(pd_buf_str(&q->unknown).ptr) : NULL;
    c->out = (struct pd_buf)PD_BUF_INIT(HTTP_STREAM_BACKLOG);
    c->choices = (struct pd_buf)PD_BUF_INIT(REPLY_MAX);
    c->job = (struct pd_buf)PD_BUF_INIT(65536);
    atomic_store(&c->n_open, (unsigned)n_parts);
    pthread_mutex_init(&c->lock, NULL);
    ev_timer_init(&c->late, on_late, BEGIN_S, 0);
    c->late.data = c;
    for (size_t i = 0; i < n_parts; i++) {
        struct part *p = &c->parts[i];

        p->c = c;
        p->index = i;
        p->listener = (struct pd_listener){p, hear_prompt, hear_piece, hear_best};
        openai_text_init(&p->text, TEXT_MAX);
        p->text.plain = !chat;
        p->text.has_tools = c->tools != NULL;
        follow_init(&p->follow);
    }
    return c;
}

static void submit(struct completion *c, const struct request *q, struct pd_chat *const *chats)
{
    static const struct queue_watch watch = {part_stored, part_started, part_ended};
    struct daemon *d = c->d;
    size_t n = c->n_parts;

    http_on_close(c->r, client_left, c);
    if (c->stream)
        ev_timer_start(d->loop, &c->late);
    for (size_t i = 0; i < n; i++) { /* behind the last of them c may be over */
        struct part *p = &c->parts[i];
        struct queue_submission sub = {.request = q->app,
                                       .body = PD_STR(""),
                                       .client = q->client,
                                       .peer_uid = (int64_t)(int32_t)http_peer_uid(c->r),
                                       .priority = q->priority,
                                       .attached = true,
                                       .watch = &watch,
                                       .user = p};
        struct pd_err err;

        sub.request.chat = chats ? chats[i] : q->app.chat;
        sub.request.seed += i; /* the same prompt twice is two samples */
        if (queue_submit(d->queue, &sub, p->id, &err) < 0) {
            p->id[0] = '\0';
            part_over(p, QUEUE_FULL, &err);
        }
    }
}

/* Takes body. */
static void complete(struct daemon *d, struct http_request *r, struct pd_json *body, bool chat)
{
    static const char *const chat_fields[] = {
        "n",        "stream",      "stream_options",      "logprobs",
        "metadata", "tool_choice", "parallel_tool_calls", "sse_ping_interval_s",
        NULL};
    static const char *const prompt_fields[] = {
        "prompt", "n",      "stream",   "stream_options",      "logprobs",
        "echo",   "suffix", "metadata", "sse_ping_interval_s", NULL};
    struct pd_chat *chats[PROMPTS_MAX], without_tools;
    struct completion *c = NULL;
    struct request *q = NULL;
    struct request_error e;
    struct asked a;
    size_t n = 1;
    bool plain = false;
    int rc;

    rc = request_parse(body, chat ? chat_fields : prompt_fields, &q, &e);
    if (rc == 0) {
        plain = !q->app.strategy;
        rc = parse_asked(d->settings, q, body, chat, &a, &e);
    }
    if (rc == 0)
        rc = set_defaults(q, body, chat, &a, &e);
    if (rc == 0)
        rc = check_model(q, &e);
    if (rc == 0 && !chat)
        rc = prompts(q, body, chats, &n, &e);
    if (rc == 0 && chat && pd_json_string(pd_json_get(body, "tool_choice")) &&
        strcmp(pd_json_string(pd_json_get(body, "tool_choice")), "none") == 0) {
        without_tools = *q->app.chat;
        without_tools.tools = NULL;
        q->app.chat = &without_tools;
    }
    if (rc < 0)
        api_parse_error(r, &e);
    else if (!(c = completion_new(d, r, q, chat, plain, &a, n)))
        api_no_memory(r);
    else {
        snprintf(c->id, sizeof c->id, "%s-%.26s", chat ? "chatcmpl" : "cmpl",
                 api_request_id(r)); /* names the request in the log */
        submit(c, q, chat ? NULL : chats);
    }
    request_free(q);
    pd_json_free(body);
}

static void chat_completions(struct daemon *d, struct http_request *r,
                             const struct route_args *args)
{
    complete(d, r, args->body, true);
}

static void completions(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    complete(d, r, args->body, false);
}

const struct route routes_openai[] = {
    {HTTP_POST, "/v1/chat/completions", chat_completions, ROUTE_JSON},
    {HTTP_POST, "/v1/completions", completions, ROUTE_JSON},
    {HTTP_GET, NULL, NULL, 0},
};

#include "daemon/openai.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "core/form.h"
#include "daemon/tool_calls.h"

#define THINK     "<think>"
#define THINK_END "</think>"

/* ---- reasoning and content ------------------------------------------------------------------ */

void openai_text_init(struct openai_text *t, size_t max_bytes)
{
    *t = (struct openai_text){.all = PD_BUF_INIT(max_bytes),
                              .reasoning_out = PD_BUF_INIT(max_bytes),
                              .content_out = PD_BUF_INIT(max_bytes)};
}

void openai_text_done(struct openai_text *t)
{
    pd_buf_done(&t->all);
    pd_buf_done(&t->reasoning_out);
    pd_buf_done(&t->content_out);
}

static struct pd_str rest(const struct openai_text *t)
{
    return pd_str_sub(pd_buf_str(&t->all), t->done, t->all.len);
}

static void skip_blanks(struct openai_text *t)
{
    while (t->done < t->all.len && strchr(" \t\r\n", t->all.data[t->done]))
        t->done++;
}

/* What of s cannot be the beginning of mark, at its end. */
static size_t before_mark(struct pd_str s, struct pd_str mark)
{
    size_t n = mark.len - 1 < s.len ? mark.len - 1 : s.len;

    while (n > 0 && !pd_str_ends(s, pd_str_sub(mark, 0, n)))
        n--;
    return s.len - n;
}

static void emit(struct openai_text *t, struct pd_buf *out, size_t n)
{
    pd_buf_adds(out, pd_str_sub(rest(t), 0, n));
    t->done += n;
}

/* True: the state has changed, there may be more to do. */
static bool begin(struct openai_text *t, bool over)
{
    struct pd_str s;

    if (t->plain) {
        t->state = TEXT_ANSWERS;
        return true;
    }
    skip_blanks(t);
    s = rest(t);
    if (pd_str_starts(s, PD_STR(THINK))) {
        t->done += sizeof THINK - 1;
        t->state = TEXT_THINKS;
        skip_blanks(t);
    } else if (!over && pd_str_starts(PD_STR(THINK), s)) {
        return false;
    } else {
        t->state = t->thinks ? TEXT_THINKS : TEXT_ANSWERS;
        t->done = t->thinks ? t->done : 0; /* blanks that begin a plain answer are its own */
    }
    t->content = t->done;
    return true;
}

static bool think(struct openai_text *t, bool over)
{
    ptrdiff_t at;

    if (t->done == t->content) {
        skip_blanks(t);
        t->content = t->done;
    }
    at = pd_str_find(rest(t), PD_STR(THINK_END));
    if (at >= 0) {
        emit(t, &t->reasoning_out, (size_t)at);
        t->done += sizeof THINK_END - 1;
        t->state = TEXT_THOUGHT;
        return true;
    }
    emit(t, &t->reasoning_out, over ? rest(t).len : before_mark(rest(t), PD_STR(THINK_END)));
    return false;
}

static void advance(struct openai_text *t, bool over)
{
    size_t from;

    if (t->state == TEXT_BEGINS && !begin(t, over))
        return;
    if (t->state == TEXT_THINKS && !think(t, over)) {
        if (over)
            t->content = t->all.len;
        return;
    }
    if (t->state == TEXT_THOUGHT) {
        skip_blanks(t);
        t->content = t->done;
        if (t->done == t->all.len)
            return;
        t->state = TEXT_ANSWERS;
    }
    if (!t->has_tools) {
        emit(t, &t->content_out, rest(t).len);
    } else if (!over) {
        from = tool_calls_free(openai_text_content(t)) + t->content;
        emit(t, &t->content_out, from > t->done ? from - t->done : 0);
    }
}

void openai_text_add(struct openai_text *t, struct pd_str piece)
{
    pd_buf_adds(&t->all, piece);
    advance(t, false);
}

void openai_text_end(struct openai_text *t)
{
    advance(t, true);
}

struct pd_str openai_text_content(const struct openai_text *t)
{
    return t->state < TEXT_THOUGHT ? PD_STR("")
                                   : pd_str_sub(pd_buf_str(&t->all), t->content, t->all.len);
}

bool openai_opens_thought(const struct eng_tokenizer *t, const int32_t *ids, size_t n,
                          bool continues)
{
    struct pd_buf b = PD_BUF_INIT((size_t)64 << 20);
    size_t k = n < 8 || continues ? n : 8;
    struct pd_str s;
    bool opens = false;

    if (eng_detokenize(t, ids + n - k, k, true, &b, NULL) == 0) {
        s = pd_str_trim(pd_buf_str(&b));
        opens = continues ? pd_str_rfind(s, PD_STR(THINK)) > pd_str_rfind(s, PD_STR(THINK_END))
                          : pd_str_ends(s, PD_STR(THINK));
    }
    pd_buf_done(&b);
    return opens;
}

/* ---- choices -------------------------------------------------------------------------------- */

struct line {
    struct openai_choice c;
    const char *key; /* by which it votes; its text, where that is what counts */
    bool first;      /* the job's answer */
};

static int by_rank(const void *a, const void *b)
{
    const struct line *x = a, *y = b;

    if (x->first != y->first)
        return x->first ? -1 : 1;
    if (x->c.ended != y->c.ended)
        return x->c.ended ? -1 : 1;
    if (x->c.score < y->c.score || x->c.score > y->c.score)
        return x->c.score > y->c.score ? -1 : 1;
    if (x->c.votes != y->c.votes)
        return x->c.votes > y->c.votes ? -1 : 1;
    return x->c.node < y->c.node ? -1 : 1;
}

static int by_key(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    return order ? order : by_rank(a, b);
}

/* Whether its line begins at the job's question. */
static bool from_root(const struct pd_trace *t, uint32_t node)
{
    while (strcmp(t->nodes[node].finish, "prompt") != 0)
        node = t->nodes[node].parent;
    return node == 0;
}

static int read_line(const struct pd_result *r, uint32_t node, const struct pd_form *form,
                     bool by_text, struct pd_arena *a, struct line *out)
{
    const struct pd_trace *t = &r->trace;
    const struct pd_node_rec *n = &t->nodes[node];
    struct pd_buf key = PD_BUF_INIT(1 << 20);
    char *text = app_trace_line(t, node);
    struct pd_str answer = {"", 0};

    *out = (struct line){.first = (int64_t)node == r->answer_node};
    out->c.node = node;
    out->c.text = text ? pd_arena_dup(a, pd_str_of(text)) : NULL;
    free(text);
    if (!out->c.text)
        return PD_ENOMEM;
    out->c.ended = strcmp(n->finish, "eos") == 0 || strcmp(n->finish, "stop") == 0;
    if (!form || out->c.ended) /* what has been cut off has no form */
        answer = pd_form_answer(form, pd_str_of(out->c.text));
    out->c.answer = answer.len ? pd_arena_dup(a, answer) : NULL;
    if (answer.len && !by_text && pd_form_key(form, answer, &key) == 0 && key.len)
        out->key = pd_arena_dup(a, pd_buf_str(&key));
    pd_buf_done(&key);
    out->key = out->key ? out->key : out->c.text;
    out->c.score = -1;
    return 0;
}

static void set_scores(const struct pd_trace *t, struct line *lines, size_t n)
{
    size_t i = 0;

    for (size_t k = 0; k < t->n_scores; k++) { /* both in the order of nodes */
        while (i < n && lines[i].c.node < t->scores[k].node_id)
            i++;
        if (i < n && lines[i].c.node == t->scores[k].node_id && t->scores[k].n_steps)
            lines[i].c.score = t->scores[k].value;
    }
}

/* Equal keys stand together, the best of them first: it has the votes of all, and only it stays. */
static size_t merge_equal(struct line *lines, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0, k; i < n; i = k) {
        uint32_t votes = 0;

        for (k = i; k < n && strcmp(lines[k].key, lines[i].key) == 0; k++)
            votes += lines[k].c.ended;
        lines[kept] = lines[i];
        lines[kept++].c.votes = votes;
    }
    return kept;
}

int openai_choices(const struct pd_result *r, const struct pd_form *form, bool by_text,
                   struct pd_arena *a, struct openai_choice **out, size_t *out_n,
                   size_t *out_n_lines)
{
    const struct pd_trace *t = &r->trace;
    struct line *lines = calloc(t->n_nodes + 1, sizeof *lines);
    bool *inner = calloc(t->n_nodes + 1, sizeof *inner);
    size_t n = 0;
    int rc = lines && inner ? 0 : PD_ENOMEM;

    for (size_t i = 1; i < t->n_nodes && rc == 0; i++)
        inner[t->nodes[i].parent] = true;
    for (uint32_t i = 1; i < t->n_nodes && rc == 0; i++)
        if (((int64_t)i == r->answer_node || !inner[i]) &&
            strcmp(t->nodes[i].finish, "prompt") != 0 && from_root(t, i))
            rc = read_line(r, i, form, by_text, a, &lines[n++]);
    *out_n_lines = n;
    if (rc == 0) {
        set_scores(t, lines, n);
        qsort(lines, n, sizeof *lines, by_key);
        n = merge_equal(lines, n);
        qsort(lines, n, sizeof *lines, by_rank);
        *out = pd_arena_array(a, n + 1, sizeof **out);
        rc = *out ? 0 : PD_ENOMEM;
    }
    for (size_t i = 0; i < n && rc == 0; i++)
        (*out)[i] = lines[i].c;
    *out_n = n;
    free(lines);
    free(inner);
    return rc;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void put_token(struct pd_jw *w, const struct eng_tokenizer *t, int32_t id, float logprob)
{
    struct pd_buf b = PD_BUF_INIT(65536);

    (void)eng_detokenize(t, &id, 1, true, &b, NULL);
    pd_jw_put_str(w, "token", pd_buf_str(&b));
    pd_jw_put_double(w, "logprob", (double)logprob);
    pd_jw_key(w, "bytes");
    pd_jw_array(w);
    for (size_t i = 0; i < b.len; i++)
        pd_jw_uint(w, (unsigned char)b.data[i]);
    pd_jw_end_array(w);
    pd_buf_done(&b);
}

void openai_put_tokens(struct pd_jw *w, const struct openai_tokens *t)
{
    for (size_t i = 0; i < t->n; i++) {
        pd_jw_object(w);
        put_token(w, t->tokenizer, t->ids[i], t->logprobs[i]);
        pd_jw_key(w, "top_logprobs");
        pd_jw_array(w);
        for (size_t k = 0; t->top_ids && k < t->n_top; k++) {
            pd_jw_object(w);
            put_token(w, t->tokenizer, t->top_ids[i * t->n_top + k],
                      t->top_logprobs[i * t->n_top + k]);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_object(w);
    }
}

/* Tokens of n that begin before byte `end` of its text. */
static size_t tokens_before(const struct eng_tokenizer *t, const struct pd_node_rec *n, size_t end)
{
    struct pd_buf b = PD_BUF_INIT((size_t)1 << 24);
    size_t i = 0;

    while (i < n->n_tokens && b.len < end &&
           eng_detokenize(t, &n->tokens[i], 1, true, &b, NULL) == 0)
        i++;
    pd_buf_done(&b);
    return i;
}

size_t openai_line_tokens(const struct pd_result *r, const struct openai_choice *c,
                          const struct eng_tokenizer *t, struct openai_tokens *out, size_t max)
{
    const struct pd_node_rec *nodes = r->trace.nodes, *last = &nodes[c->node];
    size_t n = 0, bytes = strlen(c->text);

    for (uint32_t i = c->node; strcmp(nodes[i].finish, "prompt") != 0; i = nodes[i].parent)
        n += nodes[i].logprobs != NULL;
    if (n > max)
        n = max;
    for (uint32_t i = c->node, k = (uint32_t)n; k > 0; i = nodes[i].parent) {
        const struct pd_node_rec *node = &nodes[i];

        if (!node->logprobs)
            continue;
        out[--k] = (struct openai_tokens){.tokenizer = t,
                                          .ids = node->tokens,
                                          .logprobs = node->logprobs,
                                          .top_ids = node->top_ids,
                                          .top_logprobs = node->top_logprobs,
                                          .n = node->n_tokens,
                                          .n_top = node->n_top};
    }
    if (n && strcmp(last->finish, "eos") == 0) {
        out[n - 1].n--;
    } else if (n && strcmp(last->finish, "stop") == 0) {
        size_t before = 0;

        for (uint32_t i = last->parent; strcmp(nodes[i].finish, "prompt") != 0; i = nodes[i].parent)
            before += nodes[i].text.len;
        out[n - 1].n = tokens_before(t, last, bytes > before ? bytes - before : 0);
    }
    return n;
}

void openai_put_usage(struct pd_jw *w, const struct openai_usage *u)
{
    pd_jw_object(w);
    pd_jw_put_uint(w, "prompt_tokens", u->prompt);
    pd_jw_put_uint(w, "completion_tokens", u->generated);
    pd_jw_put_uint(w, "total_tokens", u->prompt + u->generated);
    pd_jw_key(w, "prompt_tokens_details");
    pd_jw_object(w);
    pd_jw_put_uint(w, "cached_tokens", u->cached);
    pd_jw_end_object(w);
    pd_jw_key(w, "completion_tokens_details");
    pd_jw_object(w);
    pd_jw_put_uint(w, "reasoning_tokens",
                   u->generated > u->content ? u->generated - u->content : 0);
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

void openai_put_job(struct pd_jw *w, const struct pd_job *job, const struct pd_result *r,
                    size_t n_lines, const char *unknown, const char *warning)
{
    char text[512];

    pd_jw_key(w, "ponder");
    pd_jw_object(w);
    pd_jw_put_text(w, "job", job->id);
    pd_jw_put_text(w, "strategy", job->strategy->name);
    pd_jw_put_uint(w, "samples", n_lines);
    pd_jw_put_uint(w, "nodes", r->trace.n_nodes ? r->trace.n_nodes - 1 : 0);
    pd_jw_put_text(w, "stopped_by", r->stopped_by);
    pd_jw_put_uint(w, "generated_tokens", r->usage.generated);
    pd_jw_put_uint(w, "discarded_tokens", r->usage.discarded);
    pd_jw_put_uint(w, "prefilled_tokens", r->usage.prefilled);
    pd_jw_put_uint(w, "scored_tokens", r->usage.scored);
    pd_jw_put_uint(w, "engine_calls", r->trace.n_calls);
    pd_jw_put_uint(w, "elapsed_ms", (uint64_t)(r->elapsed_ns / PD_NS_PER_MS));
    pd_jw_put_uint(w, "seed", job->seed);
    pd_jw_put_bool(w, "reproducible", true);
    pd_jw_key(w, "warnings");
    pd_jw_array(w);
    if (unknown) {
        snprintf(text, sizeof text, "ignored, as not known: %.440s", unknown);
        pd_jw_strz(w, text);
    }
    if (warning)
        pd_jw_strz(w, warning);
    pd_jw_end_array(w);
    pd_jw_end_object(w);
}

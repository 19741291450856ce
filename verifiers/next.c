/* See next.h. A line is the prompt by the chat template, then each step and a blank line, as
 * step_tag's without tags. Of each token of a step the distribution that it would be drawn from is
 * read, which is that of the position before it. */
#include "verifiers/next.h"

#include <stdlib.h>

struct next { /* of the job */
    struct reader reader;
    int32_t *prompt; /* malloc'ed */
    size_t n_prompt;
    double ln_vocab;
};

int next_open(struct pd_scorer *s, struct pd_err *err)
{
    struct next *t = pd_arena_alloc(s->arena, sizeof *t);
    struct pd_message room[2];
    struct pd_chat ask = pd_chat_ask(s->system, pd_str_of(s->question), room);
    struct pd_model_traits m;

    if (!t)
        return reader_no_memory(err);
    s->state = t;
    s->gen->ops->traits(s->gen, &m);
    t->ln_vocab = reader_ln(m.n_vocab);
    t->reader = (struct reader){.s = s, .read = PD_READ_NEXT, .n_values = PD_READ_NEXT_VALUES};
    return s->gen->ops->chat(s->gen, &ask, &t->prompt, &t->n_prompt, err);
}

void next_close(struct pd_scorer *s)
{
    struct next *t = s->state;

    reader_done(&t->reader);
    free(t->prompt);
}

/* ends[k]: tokens up to and with step k. */
static int add_line(struct pd_scorer *s, const struct pd_candidate *c, struct reading *r,
                    size_t *ends, struct pd_err *err)
{
    const struct next *t = s->state;
    int rc = 0;

    r->ids = malloc((t->n_prompt + 1) * sizeof *r->ids);
    if (!r->ids)
        return reader_no_memory(err);
    memcpy(r->ids, t->prompt, t->n_prompt * sizeof *r->ids);
    r->n_ids = t->n_prompt;
    for (size_t k = 0; k < c->n_steps && rc == 0; k++) {
        struct pd_buf text = PD_BUF_INIT(1 << 24);

        pd_buf_adds(&text, c->steps[k]);
        pd_buf_addz(&text, "\n\n");
        rc = pd_buf_rc(&text)
                 ? pd_fail(err, pd_buf_rc(&text), "a step is too long to score")
                 : reader_add_text(s->gen, pd_buf_str(&text), -1, &r->ids, &r->n_ids, err);
        pd_buf_done(&text);
        ends[k] = r->n_ids;
    }
    if (rc < 0)
        return rc;
    r->n_at = r->n_ids - t->n_prompt;
    r->at = pd_arena_array(s->arena, r->n_at + 1, sizeof *r->at);
    if (!r->at)
        return reader_no_memory(err);
    for (size_t i = 0; i < r->n_at; i++)
        r->at[i] = (uint32_t)(t->n_prompt - 1 + i);
    return 0;
}

int next_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n, next_value_fn *value,
               struct pd_err *err)
{
    struct next *t = s->state;
    struct reading *rs = pd_arena_array(s->arena, n + 1, sizeof *rs);
    size_t **ends = pd_arena_array(s->arena, n + 1, sizeof *ends);
    int rc = rs && ends ? 0 : reader_no_memory(err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct pd_candidate *c = &cands[i];

        ends[i] = pd_arena_array(s->arena, c->n_steps + 1, sizeof *ends[i]);
        c->values = pd_arena_array(s->arena, c->n_steps + 1, sizeof *c->values);
        rs[i].parent = c->parent_state;
        rc = ends[i] && c->values ? add_line(s, c, &rs[i], ends[i], err) : reader_no_memory(err);
    }
    if (rc == 0)
        rc = reader_run(&t->reader, rs, n, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct pd_candidate *c = &cands[i];
        size_t from = t->n_prompt;

        c->state = rs[i].line;
        c->n_values = rs[i].line ? c->n_steps : 0;
        for (size_t k = 0; k < c->n_values; from = ends[i][k++])
            c->values[k] =
                value(s->params, rs[i].line->values + (from - t->n_prompt) * PD_READ_NEXT_VALUES,
                      ends[i][k] - from, t->ln_vocab);
    }
    for (size_t i = 0; rs && i < n; i++)
        free(rs[i].ids);
    return rc;
}

/* judge: a model grades the whole solution with one token that is never drawn: the logits of the
 * grades are read where its answer would begin, and the reward is their expectation. Scale digits:
 * sum of d p(d) / 9 over 0 to 9; yes_no: p(Yes) against No. Liu et al., G-Eval, arXiv:2303.16634,
 * weigh grades by their probabilities so. What is asked stands behind the solution: a longer line
 * is read from where it goes on. */
#include <stdlib.h>

#include "verifiers/reader.h"

enum scale { SCALE_DIGITS, SCALE_YES_NO };
enum { MAX_GRADES = 10 };

static const struct {
    const char *ask;
    const char *grades[MAX_GRADES];
    uint32_t n;
} scales[] = {
    [SCALE_DIGITS] = {"How good is it, from 0 (wrong) to 9 (right in every step)? Answer with one "
                      "digit.",
                      {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
                      10},
    [SCALE_YES_NO] = {"Is every step right? Answer with Yes or No.", {"No", "Yes"}, 2},
};

struct judge_params {
    int scale;
};

struct judge { /* of the job */
    struct reader reader;
    int32_t grades[MAX_GRADES];
};

static int judge_open(struct pd_scorer *s, struct pd_err *err)
{
    const struct judge_params *p = s->params;
    struct judge *t = pd_arena_alloc(s->arena, sizeof *t);
    uint32_t n = scales[p->scale].n;
    int rc = 0;

    if (!t)
        return reader_no_memory(err);
    s->state = t;
    t->reader = (struct reader){.s = s,
                                .read = PD_READ_LABELS,
                                .labels = t->grades,
                                .n_labels = n,
                                .n_values = n,
                                .n_prompt = READER_NO_PROMPT};
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = reader_token(s->gen, scales[p->scale].grades[i], &t->grades[i], err);
    return rc;
}

static void judge_close(struct pd_scorer *s)
{
    struct judge *t = s->state;

    reader_done(&t->reader);
}

static int ask(struct pd_scorer *s, const struct pd_candidate *c, struct reading *r,
               struct pd_err *err)
{
    const struct judge_params *p = s->params;
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    struct pd_message m = {.role = "user"};
    int rc;

    pd_buf_printf(&text, "Grade the solution of a problem.\n\nProblem:\n%s\n\nSolution:\n",
                  s->question);
    for (size_t k = 0; k < c->n_steps; k++) {
        pd_buf_adds(&text, c->steps[k]);
        pd_buf_addz(&text, "\n\n");
    }
    pd_buf_addz(&text, scales[p->scale].ask);
    m.content = pd_buf_str(&text);
    rc = pd_buf_rc(&text) ? pd_fail(err, pd_buf_rc(&text), "a solution is too long to judge")
                          : s->gen->ops->chat(s->gen, PD_CHAT(&m, 1), &r->ids, &r->n_ids, err);
    pd_buf_done(&text);
    if (rc == 0 && r->n_ids == 0)
        rc = pd_fail(err, PD_EFORMAT, "the chat template of scorer '%s' prints nothing",
                     s->gen->name);
    if (rc == 0)
        r->at[0] = (uint32_t)r->n_ids - 1;
    r->n_at = 1;
    return rc;
}

/* The expected grade, as a part of the best. */
static double expected(const float *logits, uint32_t n)
{
    double max = (double)logits[0], sum = 0, weighted = 0;

    for (uint32_t i = 1; i < n; i++)
        max = (double)logits[i] > max ? (double)logits[i] : max;
    for (uint32_t i = 0; i < n; i++) {
        double w = reader_exp((double)logits[i] - max);

        sum += w;
        weighted += w * i;
    }
    return weighted / sum / (n - 1);
}

static int judge_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n,
                       struct pd_err *err)
{
    struct judge *t = s->state;
    struct reading *rs = pd_arena_array(s->arena, n + 1, sizeof *rs);
    int rc = rs ? 0 : reader_no_memory(err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct pd_candidate *c = &cands[i];

        rs[i].at = pd_arena_array(s->arena, 1, sizeof *rs[i].at);
        c->values = pd_arena_array(s->arena, 1, sizeof *c->values);
        rs[i].parent = c->parent_state;
        rc = rs[i].at && c->values ? ask(s, c, &rs[i], err) : reader_no_memory(err);
    }
    if (rc == 0)
        rc = reader_run(&t->reader, rs, n, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        cands[i].state = rs[i].line;
        cands[i].n_values = rs[i].line ? 1 : 0;
        if (rs[i].line)
            cands[i].values[0] = expected(rs[i].line->values, t->reader.n_values);
    }
    for (size_t i = 0; rs && i < n; i++)
        free(rs[i].ids);
    return rc;
}

static const struct pd_param params[] = {
    PD_CHOICE(judge_params, scale, SCALE_DIGITS, "digits|yes_no", "what grades are"),
    {0},
};

extern const struct pd_verifier verifier_judge;
const struct pd_verifier verifier_judge = {
    .name = "judge",
    .paper = "arXiv:2303.16634",
    .summary = "a model's grade of the whole solution, read from one token's logits",
    .kind = "outcome",
    .params = params,
    .params_size = sizeof(struct judge_params),
    .open = judge_open,
    .score = judge_score,
    .close = judge_close,
};

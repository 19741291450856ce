/* oracle: the perfect verifier of the papers, and the imperfect one with known error rates. It
 * knows the problem's own equations and judges without a model. Label of a step (as in
 * recipes/models/train/traces.py, label_steps, by which the bundled reward model was trained): is
 * the line on track after it? An error stays until a step that starts with "Wait," redoes a right
 * equation. Two differences: a step that only states the answer, which is no step there, is right
 * when the line is on track and the answer is the problem's; and digits are the ASCII ones.
 *
 * Blurred: a right step is seen as right with probability tpr, a wrong one with fpr, and the reward
 * is what an observer with even prior odds knows, P(right | seen), eq. (1). The draw is a function
 * of the job's key and the text of the line up to the step alone: equal text has equal verdicts, in
 * whatever batch, and nothing needs to be kept at a scored node. */
#include "base/hash.h"
#include "base/json.h"
#include "base/rng.h"
#include "core/answer.h"
#include "core/steps.h"
#include "core/verifier.h"

#define ANSWER_MAX_BYTES 4096
#define NUMBER_MAX       (INT64_MAX / 10 - 1) /* larger ones are all the same: in no equation */

struct oracle_params {
    double tpr, fpr;
};

struct equation { /* a op b = c */
    int64_t a, b, c;
    char op;
};

struct oracle { /* of the job */
    struct equation *truth;
    size_t n_truth;
    char *answer; /* its canonical key */
};

/* ---- the truth --------------------------------------------------------------------------------
 */

static int read_equation(const struct pd_json *j, struct equation *out)
{
    const char *op = pd_json_string(pd_json_at(j, 1));

    if (pd_json_size(j) != 4 || !pd_json_int(pd_json_at(j, 0), &out->a) || !op || !op[0] || op[1] ||
        !strchr("+-*/", op[0]) || !pd_json_int(pd_json_at(j, 2), &out->b) ||
        !pd_json_int(pd_json_at(j, 3), &out->c))
        return -1;
    out->op = op[0];
    return 0;
}

static int read_answer(struct pd_scorer *s, const struct pd_json *j, struct pd_err *err)
{
    struct oracle *o = s->state;
    struct pd_buf text = PD_BUF_INIT(ANSWER_MAX_BYTES), key = PD_BUF_INIT(ANSWER_MAX_BYTES);
    int64_t number;
    int rc = 0;

    if (pd_json_int(j, &number))
        pd_buf_printf(&text, "%lld", (long long)number);
    else if (pd_json_string(j))
        pd_buf_addz(&text, pd_json_string(j));
    pd_answer_key(pd_buf_str(&text), &key);
    if (pd_buf_rc(&text) < 0 || pd_buf_rc(&key) < 0 || !key.len)
        rc = pd_fail(err, PD_EFORMAT, "the truth about the problem holds no usable answer");
    else if (!(o->answer = pd_arena_dup(s->arena, pd_buf_str(&key))))
        rc = pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    pd_buf_done(&text);
    pd_buf_done(&key);
    return rc;
}

static int read_truth(struct pd_scorer *s, const struct pd_json *j, struct pd_err *err)
{
    struct oracle *o = s->state;
    const struct pd_json *all = pd_json_get(j, "equations");
    size_t n = pd_json_is_array(all) ? pd_json_size(all) : 0, i = 0;

    if (!n)
        return pd_fail(err, PD_EFORMAT, "the truth about the problem holds no equations");
    o->truth = pd_arena_array(s->arena, n, sizeof *o->truth);
    if (!o->truth)
        return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    for (const struct pd_json *e = pd_json_first(all); e; e = pd_json_next(e), i++)
        if (!pd_json_is_array(e) || read_equation(e, &o->truth[i]) < 0)
            return pd_fail(err, PD_EFORMAT,
                           "equation %zu of the problem is not of the form [a, \"op\", b, c] with "
                           "op one of + - * /",
                           i + 1);
    o->n_truth = n;
    return read_answer(s, pd_json_get(j, "answer"), err);
}

static int check(const void *params, struct pd_err *err)
{
    const struct oracle_params *p = params;

    if (p->tpr < p->fpr)
        return pd_fail(
            err, PD_EINVAL,
            "tpr=%g is below fpr=%g: a right step must not be taken for right less often "
            "than a wrong one",
            p->tpr, p->fpr);
    return 0;
}

static int oracle_open(struct pd_scorer *s, struct pd_err *err)
{
    struct pd_json *j = NULL;
    int rc = check(s->params, err);

    if (rc < 0)
        return rc;
    if (!s->truth)
        return pd_fail(err, PD_EINVAL,
                       "scorer 'oracle' needs the truth about the problem: its answer and its "
                       "equations");
    s->state = pd_arena_alloc(s->arena, sizeof(struct oracle));
    if (!s->state)
        return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
    rc = pd_json_parse(pd_str_of(s->truth), &j, err);
    if (rc < 0)
        pd_err_context(err, "in the truth about the problem");
    else
        rc = read_truth(s, j, err);
    pd_json_free(j);
    return rc;
}

/* ---- labels -----------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes a run of digits off the front of rest. */
static bool take_number(struct pd_str *rest, int64_t *out)
{
    size_t n = 0;

    for (*out = 0; n < rest->len && is_digit(rest->ptr[n]); n++)
        *out = *out > NUMBER_MAX ? INT64_MAX : *out * 10 + (rest->ptr[n] - '0');
    *rest = pd_str_sub(*rest, n, rest->len);
    return n > 0;
}

static bool take(struct pd_str *rest, struct pd_str text)
{
    bool there = pd_str_starts(*rest, text);

    if (there)
        *rest = pd_str_sub(*rest, text.len, rest->len);
    return there;
}

/* Takes " op b = c", what follows a, off the front of rest. */
static bool take_tail(struct pd_str *rest, struct equation *e)
{
    if (!take(rest, PD_STR(" ")) || !rest->len || !memchr("+-*/", rest->ptr[0], 4))
        return false;
    e->op = rest->ptr[0];
    *rest = pd_str_sub(*rest, 1, rest->len);
    return take(rest, PD_STR(" ")) && take_number(rest, &e->b) && take(rest, PD_STR(" = ")) &&
           take_number(rest, &e->c);
}

/* The last "a op b = c" of a step. They do not overlap, as findall takes them: each is looked for
 * behind the one before, or behind the number that began none. */
static bool last_equation(struct pd_str step, struct equation *out)
{
    bool found = false;

    while (step.len) {
        struct equation e = {0};
        struct pd_str rest;

        if (!take_number(&step, &e.a)) {
            step = pd_str_sub(step, 1, step.len);
            continue;
        }
        rest = step;
        if (take_tail(&rest, &e)) {
            *out = e;
            found = true;
            step = rest;
        }
    }
    return found;
}

static bool is_true(const struct oracle *o, const struct equation *e)
{
    for (size_t i = 0; i < o->n_truth; i++) {
        const struct equation *t = &o->truth[i];

        if (t->op != e->op || t->c != e->c)
            continue;
        if (t->a == e->a && t->b == e->b)
            return true;
        if ((t->op == '+' || t->op == '*') && t->a == e->b && t->b == e->a)
            return true;
    }
    return false;
}

/* What the step says is the answer; empty: nothing, or not to its end yet. */
static struct pd_str stated_answer(struct pd_str step)
{
    struct pd_str answer = pd_answer_extract(step);

    return pd_str_find(answer, PD_STR("\\boxed{")) < 0 ? answer : PD_STR("");
}

static bool states_answer(struct pd_str step)
{
    return pd_str_starts(step, PD_STR(PD_THINK_END)) ||
           pd_str_starts(step, PD_STR("The answer is")) ||
           pd_str_find(step, PD_STR("\\boxed{")) >= 0;
}

static bool answer_is_wrong(const struct oracle *o, struct pd_str step)
{
    struct pd_str answer = states_answer(step) ? stated_answer(step) : PD_STR("");
    struct pd_buf key = PD_BUF_INIT(ANSWER_MAX_BYTES);
    bool wrong = false;

    if (answer.len) {
        pd_answer_key(answer, &key);
        wrong = pd_buf_rc(&key) < 0 || !pd_str_eq(pd_buf_str(&key), pd_str_of(o->answer));
    }
    pd_buf_done(&key);
    return wrong;
}

/* Is the line on track after this step, having been so before it or not? */
static bool label(const struct oracle *o, struct pd_str step, bool on_track)
{
    struct equation e = {0};

    if (last_equation(step, &e)) {
        if (!is_true(o, &e))
            return false;
        on_track |= pd_str_starts(step, PD_STR("Wait,"));
    } else if (!states_answer(step)) {
        return false;
    }
    return on_track && !answer_is_wrong(o, step);
}

/* ---- rewards ----------------------------------------------------------------------------------
 */

/* P(right | seen) with P(right) = 1/2. (1) */
static double reward(const struct oracle_params *p, bool seen_right)
{
    if (seen_right)
        return p->tpr / (p->tpr + p->fpr); /* seen: not both are 0 */
    return (1 - p->tpr) / ((1 - p->tpr) + (1 - p->fpr));
}

static int oracle_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n,
                        struct pd_err *err)
{
    const struct oracle_params *p = s->params;

    for (size_t i = 0; i < n; i++) {
        struct pd_candidate *c = &cands[i];
        uint64_t key = s->key; /* of the text so far */
        bool right = true;

        c->values = pd_arena_array(s->arena, c->n_steps + 1, sizeof *c->values);
        if (!c->values)
            return pd_fail(err, PD_ENOMEM, "out of memory for the scorer");
        for (size_t k = 0; k < c->n_steps; k++) {
            uint64_t words[2] = {key, pd_hash64(c->steps[k].ptr, c->steps[k].len)};

            key = pd_hash64(words, sizeof words);
            right = label(s->state, c->steps[k], right);
            c->values[k] = reward(p, pd_rng_uniform(key, 0, 0) < (right ? p->tpr : p->fpr));
        }
        c->n_values = c->n_steps;
    }
    return 0;
}

static const struct pd_param params[] = {
    PD_DOUBLE(oracle_params, tpr, 1, 0, 1, "how often a right step is taken for right"),
    PD_DOUBLE(oracle_params, fpr, 0, 0, 1, "how often a wrong step is taken for right"),
    {0},
};

extern const struct pd_verifier verifier_oracle;
const struct pd_verifier verifier_oracle = {
    .name = "oracle",
    .summary = "the problem's own equations, blurred to stated error rates",
    .kind = "step",
    .no_model = true,
    .params = params,
    .params_size = sizeof(struct oracle_params),
    .check = check,
    .open = oracle_open,
    .score = oracle_score,
};

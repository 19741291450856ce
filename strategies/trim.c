/* trim: thinking is stopped when its thoughts agree, or lead nowhere. Lin et al., TrimR:
 * Verifier-based Training-Free Thinking Compression for Efficient Test-Time Scaling,
 * arXiv:2505.17155, §3. A thought begins at a step that reflects ("Wait", "Alternatively", …). Of
 * each finished thought a verifier says whether it holds an answer, and of two such ones whether
 * they answer alike; both are read as one token, behind a prompt of their own.
 *   Overthinking: `agree` comparisons in a row agree (the count begins again where one does not).
 *   Underthinking: more than `share` of max_thinking and more than `thoughts` thoughts are used,
 * and the last thoughts do not agree; or three thoughts in a row are equal. Then thinking is ended,
 * gently; when the model goes on thinking, with the beginning of an answer. Deviations: the
 * verifier is the model itself; it is asked between steps, not beside them. */
#include "core/search.h"

#define THINK_END "</think>"
#define GENTLE    "I have thought about this for long enough and will answer now.\n" THINK_END "\n"
#define HARD      "\n" THINK_END "\nThe answer is \\boxed{"
#define SENTENCES 50 /* of a thought that the verifier is shown: its last */

struct trim_params {
    int agree, thoughts, max_thinking;
    double share;
};

struct thoughts {
    struct pd_str *all; /* finished ones, each trimmed */
    int n;
    size_t cap;
    int solid; /* the last that holds an answer; -1: none */
    int agreeing, equal;
};

static bool reflects(struct pd_str step)
{
    static const char *const marks[] = {"Wait", "Alternatively", "Hmm", "But wait",
                                        "Let me double-check"};
    struct pd_str t = pd_str_trim(step);

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (pd_str_starts(t, pd_str_of(marks[i])))
            return true;
    return false;
}

/* The last sentences of a thought. */
static struct pd_str tail(struct pd_str t)
{
    size_t at = t.len;
    int n = 0;

    while (at > 0 && n <= SENTENCES) {
        at--;
        n += at + 1 < t.len && (t.ptr[at] == '.' || t.ptr[at] == '!' || t.ptr[at] == '?') &&
             (t.ptr[at + 1] == ' ' || t.ptr[at + 1] == '\n');
    }
    return pd_str_trim(pd_str_sub(t, n > SENTENCES ? at + 1 : 0, t.len));
}

static int yes(struct search *s, const char *question, struct pd_str a, struct pd_str b, bool *out,
               struct pd_err *err)
{
    static const char *const labels[] = {"Y", "N"};
    struct pd_buf text = PD_BUF_INIT(1u << 24);
    struct node *n;
    double p[2];
    int rc;

    pd_buf_addz(&text, "Problem:\n");
    pd_buf_adds(&text, search_question(s));
    pd_buf_addz(&text, "\n\nThought:\n");
    pd_buf_adds(&text, tail(a));
    if (b.ptr) {
        pd_buf_addz(&text, "\n\nAnother thought:\n");
        pd_buf_adds(&text, tail(b));
    }
    pd_buf_printf(&text, "\n\n%s Reply Y for yes or N for no.", question);
    rc = pd_buf_rc(&text) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                              : search_prompt(s, pd_buf_str(&text), true, &n, err);
    pd_buf_done(&text);
    *out = false;
    if (rc < 0 || search_failed(n)) /* too long to be judged: no */
        return rc;
    rc = search_read(s, &n, 1, PD_STR("Reply: "), labels, 2, p, err);
    search_prune(s, n, "read");
    *out = rc == 0 && p[0] > p[1];
    return rc;
}

static void keep_thought(struct search *s, struct thoughts *t, struct pd_str text)
{
    t->all = search_room(s, t->all, (size_t)t->n, &t->cap, sizeof *t->all);
    t->equal = t->n && pd_str_eq(t->all[t->n - 1], text) ? t->equal + 1 : 1;
    t->all[t->n++] = text;
}

/* A thought has ended: whether thinking should, too. */
static int judge(struct search *s, const struct trim_params *p, struct thoughts *t,
                 struct pd_str text, int used, bool *out_stop, struct pd_err *err)
{
    static const struct pd_str none = {0};
    bool solid, same = false;
    struct pd_jw *w;
    int rc;

    keep_thought(s, t, text);
    rc = yes(s, "Does this thought come to a final answer?", text, none, &solid, err);
    if (rc < 0)
        return rc;
    if (solid) {
        if (t->solid >= 0)
            rc = yes(s, "Do these two thoughts come to the same answer?", t->all[t->solid], text,
                     &same, err);
        if (rc < 0)
            return rc;
        t->agreeing = same ? t->agreeing + 1 : 0;
        t->solid = t->n - 1;
    }
    *out_stop = t->agreeing >= p->agree || t->equal >= 3 ||
                (used > p->share * p->max_thinking && t->n > p->thoughts && t->agreeing < 2);
    w = search_decide(s, "thought");
    pd_jw_key(w, "number");
    pd_jw_int(w, t->n);
    pd_jw_put_bool(w, "solid", solid);
    pd_jw_key(w, "agreeing");
    pd_jw_int(w, t->agreeing);
    pd_jw_put_bool(w, "stop", *out_stop);
    return search_decided(s, err);
}

/* Thinks step by step; *at is where it ended, *out_open whether it has to be ended. */
static int think(struct search *s, const struct trim_params *p, struct node **at, bool *out_open,
                 struct pd_err *err)
{
    struct thoughts t = {.solid = -1};
    size_t begin = 0; /* of the thought under way, in the line */
    bool stop = false;
    int rc = 0;

    while (!stop && search_open(*at)) {
        struct node *next;
        struct pd_str line;
        int used;

        rc = search_extend(s, at, 1, UNTIL_STEP, &next, err);
        if (rc < 0)
            return rc;
        if (search_failed(next)) /* nothing more to say */
            break;
        line = search_line(s, next);
        used = (int)search_tokens(next);
        if (pd_str_find(search_text(next), PD_STR(THINK_END)) >= 0) {
            *at = next;
            *out_open = false;
            return 0;
        }
        if (reflects(search_text(next))) {
            size_t end = line.len - search_text(next).len;

            if (end > begin)
                rc = judge(s, p, &t, pd_str_trim(pd_str_sub(line, begin, end)), used, &stop, err);
            if (rc < 0)
                return rc;
            begin = end;
        }
        *at = next;
        stop |= used >= p->max_thinking;
    }
    *out_open = search_open(*at);
    return 0;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct trim_params *p = params;
    struct node *at = search_root(s), *gentle, *answer;
    bool open = false;
    int rc = think(s, p, &at, &open, err);

    if (rc < 0)
        return rc;
    answer = gentle = at;
    if (open) /* 1. Thinking that goes on is ended, */
        rc = search_force(s, at, PD_STR(GENTLE), &gentle, err);
    if (rc == 0 && search_open(gentle))
        rc = search_extend(s, &gentle, 1, UNTIL_END, &answer, err);
    if (rc < 0)
        return rc;
    /* 2. and where that does not lead to an answer, the answer is begun for it. */
    if (open && !(search_finished(answer) && search_key(answer)[0])) {
        search_prune(s, answer, "no_answer");
        rc = search_force(s, at, PD_STR(HARD), &gentle, err);
        if (rc == 0)
            rc = search_extend(s, &gentle, 1, UNTIL_END, &answer, err);
        if (rc < 0)
            return rc;
    }
    return search_answer(s, search_finished(answer) && search_key(answer)[0] ? answer : NULL, err);
}

static const struct pd_param params[] = {
    PD_INT(trim_params, agree, 2, 1, 100, "comparisons in a row that agree: enough thought"),
    PD_INT(trim_params, thoughts, 20, 1, 100000,
           "more thoughts than this without agreement lead nowhere"),
    PD_INT(trim_params, max_thinking, 32000, 1, 1 << 20, "most tokens of thinking"),
    PD_DOUBLE(trim_params, share, 0.5, 0, 1,
              "of max_thinking, before thoughts can be found to lead nowhere"),
    {0},
};

extern const struct pd_strategy strategy_trim;
const struct pd_strategy strategy_trim = {
    .name = "trim",
    .paper = "arXiv:2505.17155",
    .summary = "thinking is stopped when its thoughts agree, or lead nowhere",
    .params = params,
    .params_size = sizeof(struct trim_params),
    .run = run,
};

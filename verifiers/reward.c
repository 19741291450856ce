/* reward: reward models, read as their authors read them. A profile is a row of the table below:
 * how a line becomes tokens, where the model is read, what is read there, and what makes it a
 * probability. Which one it is the model's metadata tell, or the option kind.
 *
 * step_tag       prompt by the chat template; each step, a blank line, a tag token. Labels + and -
 *                at the tag. The bundled reward model.
 * qwen_prm       Zhang et al., arXiv:2501.07301: the chat template with a system message of its
 * own, <extra_0> behind each step, a head of two classes, softmax, class 1. math_shepherd  Wang et
 * al., arXiv:2312.08935, §3.4: question and numbered steps as one text, each step ended by the tag
 * and a line break; + against - at the tag. rlhflow        Xiong et al., 2024: each step is a turn
 * of the user, the first with the question before it, to which the assistant says +; + against -
 * where that is to be said. skywork_o1     He et al., 2024: question, line break, steps each ended
 * by a line break; a value head at the line break, sigmoid. label_token    the chat template; each
 * step, a blank line, a tag if one is given; two labels of the user's choice there. sequence a head
 * of one value, or of two classes, at the end of the whole conversation.
 *
 * Positions are kept as indices from the tokens' making: nothing is looked for in what was read, so
 * that a probability of 0 is one, and a tag that a model writes into its own text is text. A line
 * that does not fit has no score rather than part of one. Step text is tokenised as a text of its
 * own, as the authors' programs do that put a special token behind it. */
#include <stdlib.h>

#include "verifiers/reader.h"

enum template {
    TEMPLATE_CHAT,   /* the chat template asks the question, the answer is the line */
    TEMPLATE_TURNS,  /* each step is a turn of the user */
    TEMPLATE_PLAIN,  /* question and line are one text */
    TEMPLATE_CLOSED, /* a conversation of two turns that is over */
};

struct profile {
    const char *name;
    const char *model_names[4]; /* parts of what the file calls the model, in lower case */
    const char *head;           /* kind of the head that shows it; NULL: none does */
    uint32_t n_head;            /* values of a head that is read; 0: labels */
    enum template template;
    const char *system;                /* the template's system message; NULL: the job's */
    bool numbered;                     /* steps begin with "Step 1: " */
    bool by_lines;                     /* what the tag is for steps holds for the lines of a step */
    const char *first, *next, *behind; /* before the first step and others; between step and tag */
    const char *tag, *good, *bad;
    bool shows; /* a vocabulary with the tag shows it */
};

static const struct profile profiles[] = {
    {.name = "step_tag",
     .template = TEMPLATE_CHAT,
     .behind = "\n\n",
     .tag = "<|step|>",
     .good = "+",
     .bad = "-",
     .shows = true},
    {.name = "qwen_prm",
     .model_names = {"math-prm", "math prm"},
     .head = "mlp",
     .n_head = 2,
     .template = TEMPLATE_CHAT,
     .system = "Please reason step by step, and put your final answer within \\boxed{}.",
     .behind = "",
     .tag = "<extra_0>"},
    {.name = "math_shepherd",
     .model_names = {"math-shepherd", "math shepherd", "math_shepherd"},
     .template = TEMPLATE_PLAIN,
     .numbered = true,
     .first = " ",
     .next = "\n",
     .behind = "",
     .tag = "\xd0\xba\xd0\xb8",
     .good = "+",
     .bad = "-"},
    {.name = "rlhflow",
     .model_names = {"prm-deepseek", "prm deepseek", "prm-mistral", "prm mistral"},
     .template = TEMPLATE_TURNS,
     .good = "+",
     .bad = "-"},
    {.name = "skywork_o1",
     .model_names = {"skywork-o1", "skywork o1"},
     .head = "value",
     .n_head = 1,
     .template = TEMPLATE_PLAIN,
     .by_lines = true,
     .tag = "\n"},
    {.name = "label_token",
     .template = TEMPLATE_CHAT,
     .behind = "\n\n"}, /* tag and labels: options */
    {.name = "sequence", .head = "score", .n_head = 1, .template = TEMPLATE_CLOSED},
};
#define N_PROFILES  (sizeof profiles / sizeof *profiles)
#define KINDS       "auto|step_tag|qwen_prm|math_shepherd|rlhflow|skywork_o1|label_token|sequence"
#define LABEL_TOKEN 6 /* of KINDS */

struct reward_params {
    int kind; /* of KINDS */
    char tag[64], good[64], bad[64];
};

struct reward { /* of the job */
    struct reader reader;
    const struct profile *profile;
    int32_t tag; /* -1: none */
    int32_t labels[2];
    int32_t *prompt; /* malloc'ed; of TURNS and CLOSED: none */
    size_t n_prompt;
};

/* ---- which one it is --------------------------------------------------------------------------
 */

static bool is_named(const char *name, const char *part)
{
    struct pd_buf lower = PD_BUF_INIT(1 << 16);
    bool has;

    for (const char *c = name; *c; c++)
        pd_buf_addc(&lower, *c >= 'A' && *c <= 'Z' ? (char)(*c + 'a' - 'A') : *c);
    has = pd_str_find(pd_buf_str(&lower), pd_str_of(part)) >= 0;
    pd_buf_done(&lower);
    return has;
}

/* By what the file calls the model, else by its head, else by a token that no other model has. */
static const struct profile *find_profile(struct pd_generator *g, const struct pd_model_traits *m)
{
    for (size_t i = 0; m->name && i < N_PROFILES; i++)
        for (size_t k = 0; k < 4 && profiles[i].model_names[k]; k++)
            if (is_named(m->name, profiles[i].model_names[k]))
                return &profiles[i];
    for (size_t i = 0; m->head && i < N_PROFILES; i++)
        if (profiles[i].head && strcmp(profiles[i].head, m->head) == 0)
            return &profiles[i];
    for (size_t i = 0; i < N_PROFILES; i++)
        if (profiles[i].shows && g->ops->find_token(g, profiles[i].tag) >= 0)
            return &profiles[i];
    return NULL;
}

static int set_profile(struct pd_scorer *s, struct reward *t, struct pd_err *err)
{
    const struct reward_params *p = s->params;
    struct pd_model_traits m;

    s->gen->ops->traits(s->gen, &m);
    t->profile = p->kind ? &profiles[p->kind - 1] : find_profile(s->gen, &m);
    if (!t->profile)
        return pd_fail(err, PD_EFORMAT,
                       "scorer '%s' is no reward model that its name, its head or its tokens tell: "
                       "say how it is read, as in --scorer %s:kind=math_shepherd",
                       s->gen->name, s->gen->name);
    t->reader.read = t->profile->n_head ? PD_READ_HEAD : PD_READ_LABELS;
    t->reader.n_values = t->profile->n_head ? m.n_head : 2;
    if (t->profile->template == TEMPLATE_CLOSED)
        s->kind = "outcome";
    if (t->profile->n_head && !m.head)
        return pd_fail(err, PD_EFORMAT,
                       "scorer '%s' has no head, which %s reads: add it with ponder model add "
                       "--head FILE",
                       s->gen->name, t->profile->name);
    if (t->profile->n_head && m.n_head != t->profile->n_head &&
        !(t->profile->template == TEMPLATE_CLOSED && m.n_head == 2))
        return pd_fail(err, PD_EFORMAT, "the head of scorer '%s' has %u values where %s reads %u",
                       s->gen->name, m.n_head, t->profile->name, t->profile->n_head);
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static int set_tokens(struct pd_scorer *s, struct reward *t, struct pd_err *err)
{
    const struct reward_params *p = s->params;
    bool own = p->kind == LABEL_TOKEN;
    const char *tag = own ? (p->tag[0] ? p->tag : NULL) : t->profile->tag;
    const char *labels[2] = {own ? p->good : t->profile->good, own ? p->bad : t->profile->bad};
    int rc = 0;

    t->tag = -1;
    if (tag && (rc = reader_token(s->gen, tag, &t->tag, err)) < 0)
        return rc;
    if (t->reader.read != PD_READ_LABELS)
        return 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = reader_token(s->gen, labels[i], &t->labels[i], err);
    if (rc == 0 && t->labels[0] == t->labels[1])
        rc = pd_fail(err, PD_EINVAL, "the labels '%s' and '%s' are the same token", labels[0],
                     labels[1]);
    t->reader.labels = t->labels;
    t->reader.n_labels = 2;
    return rc;
}

/* BOS, the question, and for lines a line break. */
static int plain_prompt(struct pd_scorer *s, struct reward *t, struct pd_err *err)
{
    struct pd_model_traits m;
    int rc = 0;

    s->gen->ops->traits(s->gen, &m);
    if (m.bos >= 0)
        rc = reader_add_token(m.bos, &t->prompt, &t->n_prompt, err);
    if (rc == 0)
        rc = reader_add_text(s->gen, pd_str_trim(pd_str_of(s->question)), -1, &t->prompt,
                             &t->n_prompt, err);
    if (rc == 0 && t->profile->by_lines)
        rc = reader_add_token(t->tag, &t->prompt, &t->n_prompt, err);
    return rc;
}

static int reward_open(struct pd_scorer *s, struct pd_err *err)
{
    struct reward *t = pd_arena_alloc(s->arena, sizeof *t);
    struct pd_message room[2];
    struct pd_chat ask;
    int rc;

    if (!t)
        return reader_no_memory(err);
    s->state = t;
    t->reader.s = s;
    rc = set_profile(s, t, err);
    if (rc == 0)
        rc = set_tokens(s, t, err);
    if (rc == 0 && t->profile->template == TEMPLATE_CHAT) {
        ask = pd_chat_ask(t->profile->system ? t->profile->system : s->system,
                          pd_str_of(s->question), room);
        rc = s->gen->ops->chat(s->gen, &ask, &t->prompt, &t->n_prompt, err);
    } else if (rc == 0 && t->profile->template == TEMPLATE_PLAIN) {
        rc = plain_prompt(s, t, err);
    }
    t->reader.n_prompt = t->prompt ? t->n_prompt : READER_NO_PROMPT;
    if (rc < 0)
        free(t->prompt);
    return rc;
}

static void reward_close(struct pd_scorer *s)
{
    struct reward *t = s->state;

    reader_done(&t->reader);
    free(t->prompt);
}

/* ---- a line as tokens -------------------------------------------------------------------------
 */

static int add_lines(struct pd_scorer *s, struct pd_str step, struct reading *r, struct pd_err *err)
{
    const struct reward *t = s->state;
    int rc = 0;

    for (bool more = true; more && rc == 0;) {
        ptrdiff_t end = pd_str_find(step, PD_STR("\n"));
        struct pd_str line = pd_str_sub(step, 0, end < 0 ? step.len : (size_t)end);

        if (line.len)
            rc = reader_add_text(s->gen, line, t->tag, &r->ids, &r->n_ids, err);
        if (rc == 0)
            rc = reader_add_token(t->tag, &r->ids, &r->n_ids, err);
        more = end >= 0;
        step = pd_str_sub(step, line.len + 1, step.len);
    }
    return rc;
}

/* The text of step k, from the last token before it to its tag. */
static int add_step(struct pd_scorer *s, struct pd_str step, size_t k, struct reading *r,
                    struct pd_err *err)
{
    const struct reward *t = s->state;
    const struct profile *p = t->profile;
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    int rc;

    if (p->by_lines)
        return add_lines(s, step, r, err);
    if (p->template == TEMPLATE_PLAIN)
        pd_buf_addz(&text, k ? p->next : p->first);
    if (p->numbered && !pd_str_starts(step, PD_STR("Step ")))
        pd_buf_printf(&text, "Step %zu: ", k + 1);
    pd_buf_adds(&text, step);
    pd_buf_addz(&text, p->behind);
    rc = pd_buf_rc(&text)
             ? pd_fail(err, pd_buf_rc(&text), "a step is too long to score")
             : reader_add_text(s->gen, pd_buf_str(&text), t->tag, &r->ids, &r->n_ids, err);
    pd_buf_done(&text);
    return rc == 0 && t->tag >= 0 ? reader_add_token(t->tag, &r->ids, &r->n_ids, err) : rc;
}

/* Prompt and steps; read at the last token of each step. */
static int tagged_line(struct pd_scorer *s, const struct pd_candidate *c, struct reading *r,
                       struct pd_err *err)
{
    const struct reward *t = s->state;
    int rc = 0;

    r->ids = malloc((t->n_prompt + 1) * sizeof *r->ids);
    if (!r->ids)
        return reader_no_memory(err);
    if (t->n_prompt)
        memcpy(r->ids, t->prompt, t->n_prompt * sizeof *r->ids);
    r->n_ids = t->n_prompt;
    for (size_t k = 0; k < c->n_steps && rc == 0; k++) {
        rc = add_step(s, c->steps[k], k, r, err);
        r->at[k] = (uint32_t)r->n_ids - 1;
    }
    r->n_at = c->n_steps;
    return rc;
}

static int join(struct pd_scorer *s, struct pd_str a, const char *between, struct pd_str b,
                struct pd_str *out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    char *copy;

    pd_buf_adds(&text, a);
    pd_buf_addz(&text, between);
    pd_buf_adds(&text, b);
    copy = pd_buf_rc(&text) ? NULL : pd_arena_dup(s->arena, pd_buf_str(&text));
    pd_buf_done(&text);
    *out = pd_str_of(copy);
    return copy ? 0 : reader_no_memory(err);
}

/* Read where the assistant is to answer a step. What earlier turns are rendered as must not depend
 * on later ones, else it would be another prompt than the one that was read. */
static int turns_line(struct pd_scorer *s, const struct pd_candidate *c, struct reading *r,
                      struct pd_err *err)
{
    struct pd_message *m = pd_arena_array(s->arena, 2 * c->n_steps + 1, sizeof *m);
    int rc = m ? 0 : reader_no_memory(err);

    for (size_t k = 0; k < c->n_steps && rc == 0; k++) {
        int32_t *ids = NULL;
        size_t n = 0;

        m[2 * k] = (struct pd_message){.role = "user", .content = c->steps[k]};
        m[2 * k + 1] = (struct pd_message){.role = "assistant", .content = PD_STR("+")};
        if (k == 0)
            rc = join(s, pd_str_of(s->question), " ", c->steps[k], &m[0].content, err);
        if (rc == 0)
            rc = s->gen->ops->chat(s->gen, PD_CHAT(m, 2 * k + 1), &ids, &n, err);
        if (rc == 0 &&
            (n <= r->n_ids || (r->n_ids && memcmp(ids, r->ids, r->n_ids * sizeof *ids) != 0)))
            rc = pd_fail(err, PD_EFORMAT,
                         "the chat template of scorer '%s' changes earlier turns when one is "
                         "added: rlhflow cannot be read with it",
                         s->gen->name);
        if (rc < 0) {
            free(ids);
            break;
        }
        free(r->ids);
        r->ids = ids;
        r->n_ids = n;
        r->at[k] = (uint32_t)n - 1;
    }
    r->n_at = c->n_steps;
    return rc;
}

/* The whole conversation, read at its end. */
static int closed_line(struct pd_scorer *s, const struct pd_candidate *c, struct reading *r,
                       struct pd_err *err)
{
    struct pd_message room[3];
    struct pd_chat chat = pd_chat_ask(s->system, pd_str_of(s->question), room);
    struct pd_str text = c->n_steps ? c->steps[0] : PD_STR("");
    int rc = 0;

    for (size_t k = 1; k < c->n_steps && rc == 0; k++)
        rc = join(s, text, "\n\n", c->steps[k], &text, err);
    room[chat.n_messages++] = (struct pd_message){.role = "assistant", .content = text};
    chat.closed = true;
    if (rc == 0)
        rc = s->gen->ops->chat(s->gen, &chat, &r->ids, &r->n_ids, err);
    if (rc == 0 && r->n_ids == 0)
        rc = pd_fail(err, PD_EFORMAT, "the chat template of scorer '%s' prints nothing",
                     s->gen->name);
    if (rc == 0)
        r->at[0] = (uint32_t)r->n_ids - 1;
    r->n_at = 1;
    return rc;
}

/* ---- scoring ----------------------------------------------------------------------------------
 */

/* Of what was read: good against bad, class 1 against class 0, or the logit itself. */
static double reward(const struct reward *t, const float *v)
{
    if (t->reader.n_values == 1)
        return reader_sigmoid((double)v[0]);
    return t->reader.read == PD_READ_LABELS ? reader_sigmoid((double)v[0] - (double)v[1])
                                            : reader_sigmoid((double)v[1] - (double)v[0]);
}

static int reward_score(struct pd_scorer *s, struct pd_candidate *cands, size_t n,
                        struct pd_err *err)
{
    static int (*const lines[])(struct pd_scorer *, const struct pd_candidate *, struct reading *,
                                struct pd_err *) = {[TEMPLATE_CHAT] = tagged_line,
                                                    [TEMPLATE_TURNS] = turns_line,
                                                    [TEMPLATE_PLAIN] = tagged_line,
                                                    [TEMPLATE_CLOSED] = closed_line};
    struct reward *t = s->state;
    struct reading *rs = pd_arena_array(s->arena, n + 1, sizeof *rs);
    int rc = rs ? 0 : reader_no_memory(err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct pd_candidate *c = &cands[i];

        rs[i].at = pd_arena_array(s->arena, c->n_steps + 1, sizeof *rs[i].at);
        c->values = pd_arena_array(s->arena, c->n_steps + 1, sizeof *c->values);
        rs[i].parent = c->parent_state;
        rc = rs[i].at && c->values ? lines[t->profile->template](s, c, &rs[i], err)
                                   : reader_no_memory(err);
    }
    if (rc == 0)
        rc = reader_run(&t->reader, rs, n, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        cands[i].state = rs[i].line;
        cands[i].n_values = rs[i].line ? rs[i].n_at : 0;
        for (size_t k = 0; k < cands[i].n_values; k++)
            cands[i].values[k] = reward(t, rs[i].line->values + k * t->reader.n_values);
    }
    for (size_t i = 0; rs && i < n; i++)
        free(rs[i].ids);
    return rc;
}

static int check(const void *params, struct pd_err *err)
{
    const struct reward_params *p = params;
    bool labels = p->good[0] && p->bad[0];

    if (p->kind == LABEL_TOKEN && !labels)
        return pd_fail(err, PD_EINVAL, "kind=label_token needs the labels: good=TEXT and bad=TEXT");
    if (p->kind != LABEL_TOKEN && (p->good[0] || p->bad[0] || p->tag[0]))
        return pd_fail(err, PD_EINVAL, "tag, good and bad are options of kind=label_token");
    return 0;
}

static const struct pd_param params[] = {
    PD_CHOICE(reward_params, kind, 0, KINDS, "how the model is read; auto: as its file tells"),
    PD_TEXT(reward_params, tag, "label_token: the token behind each step"),
    PD_TEXT(reward_params, good, "label_token: the token of a right step"),
    PD_TEXT(reward_params, bad, "label_token: the token of a wrong one"),
    {0},
};

extern const struct pd_verifier verifier_reward;
const struct pd_verifier verifier_reward = {
    .name = "reward",
    .paper = "arXiv:2312.08935",
    .summary = "a reward model, read as its authors do",
    .kind = "step",
    .params = params,
    .params_size = sizeof(struct reward_params),
    .check = check,
    .open = reward_open,
    .score = reward_score,
    .close = reward_close,
};

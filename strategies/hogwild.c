/* hogwild: several workers write at once, and each reads what the others write, token by token,
 * through one shared cache. Rodionov et al., Hogwild! Inference: Parallel LLM Generation via
 * Concurrent Attention, arXiv:2504.06261, §3. layout=combined: what all have finished, the others'
 * unfinished steps, one's own (fig. 2); interleaved: unfinished steps are one's own business;
 * contiguous: nothing is ever moved. Deviations: the texts are our own and may be given; workers
 * check for redundant work in turn, every check_every tokens of all of them. With one worker all of
 * it is ordinary decoding of one line. */
#include "core/search.h"

#define MAX_WORKERS 16
#define RULES                                                                                      \
    "You are %s, working on one problem together. You write at the same time, and you see what "   \
    "the others are writing while they write it. Agree early on who does what, or on different "   \
    "ways to the result. Say what you are about to do, take up what others have found, and drop "  \
    "what somebody else does better or has done. If you disagree, do as Alice says. Write short "  \
    "paragraphs, each of which begins with your name.\n\n"
#define CHECK "Wait, am I doing redundant work? (yes/no): "
#define CONCLUDE                                                                                   \
    "\n\nWait, given the limited time, I have to give an answer right now. Considering all my "    \
    "previous attempts, I have to conclude that the final answer is \\boxed{"
#define OTHERS "### Work in progress (others)\n\n"
#define OWN    "<...>\n\n### Work in progress (own)\n\n"

struct hogwild_params {
    int workers, layout, token_budget, check_every, answer_tokens;
    bool stop_on_answer, free_end;
    char rules[2001], check[201], conclude[401];
};

enum { COMBINED, INTERLEAVED, CONTIGUOUS };

static const char *const names[MAX_WORKERS] = {
    "Alice", "Bob",  "Carol", "Dave",    "Erin", "Frank",  "Grace", "Heidi",
    "Ivan",  "Judy", "Kevin", "Mallory", "Nina", "Oliver", "Peggy", "Quentin"};

struct worker {
    struct node *at; /* the end of what it has written; NULL: what it wrote leads nowhere */
    int steps;
    bool moved; /* the block of `at` is common */
};

struct desk {
    struct search *s;
    const struct hogwild_params *p;
    struct worker w[MAX_WORKERS];
    int n;
    struct node *common, *others, *own; /* what all have finished, and the two headings */
    int used, next_check, n_checks;
};

static struct pd_str text_or(const char *given, const char *built_in)
{
    return pd_str_of(*given ? given : built_in);
}

static bool is_open(const struct worker *w)
{
    return w->at && !w->moved && search_open(w->at);
}

/* The problem, and how to work on it together. */
static int make_prompt(struct desk *d, struct pd_err *err)
{
    struct pd_str question = search_question(d->s);
    struct pd_buf text = PD_BUF_INIT(1 << 24), who = PD_BUF_INIT(1 << 10);
    int rc;

    for (int i = 0; i < d->n; i++)
        pd_buf_printf(&who, "%s%s", i == 0 ? "" : i + 1 < d->n ? ", " : " and ", names[i]);
    if (*d->p->rules)
        pd_buf_addz(&text, d->p->rules);
    else
        pd_buf_printf(&text, RULES, who.data ? who.data : "");
    pd_buf_adds(&text, question);
    rc = pd_buf_rc(&text) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                              : search_prompt(d->s, pd_buf_str(&text), false, &d->common, err);
    pd_buf_done(&text);
    pd_buf_done(&who);
    return rc;
}

static int tell(struct desk *d, const char *what, int i, struct node *node, struct node *to,
                struct pd_err *err)
{
    struct pd_jw *w = search_decide(d->s, what);

    pd_jw_key(w, "worker");
    pd_jw_int(w, i);
    search_put_nodes(w, "node", &node, 1);
    if (to)
        search_put_nodes(w, "to", &to, 1);
    return search_decided(d->s, err);
}

/* Worker i begins a step: "**Alice [1]:** ". */
static int begin(struct desk *d, int i, struct pd_err *err)
{
    struct worker *w = &d->w[i];
    struct pd_buf text = PD_BUF_INIT(64);
    struct node *behind = w->at ? w->at : d->common;
    bool goes_on = d->n == 1 || (w->at && d->p->layout == CONTIGUOUS);
    int rc;

    pd_buf_printf(&text, "**%s [%d]:** ", names[i], ++w->steps);
    rc = pd_buf_rc(&text) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a worker's name")
         : goes_on            ? search_force(d->s, behind, pd_buf_str(&text), &w->at, err)
                              : search_block(d->s, behind, pd_buf_str(&text), false, &w->at, err);
    pd_buf_done(&text);
    w->moved = false;
    return rc < 0 ? rc : tell(d, "worker", i, w->at, NULL, err);
}

static int begin_all(struct desk *d, struct pd_err *err)
{
    int rc = 0;

    if (d->n > 1 && d->p->layout == COMBINED) {
        rc = search_block(d->s, d->common, PD_STR(OTHERS), true, &d->others, err);
        if (rc == 0)
            rc = search_block(d->s, d->common, PD_STR(OWN), true, &d->own, err);
        if (rc < 0)
            return rc;
        search_see(d->s, d->others, &d->common, 1);
        search_see(d->s, d->own, &d->common, 1);
    }
    for (int i = 0; i < d->n && rc == 0; i++)
        rc = begin(d, i, err);
    return rc;
}

/* What worker i sees before its own text. */
static void look(struct desk *d, int i)
{
    struct node *sees[MAX_WORKERS + 3] = {d->common};
    int n = 1;

    if (d->p->layout == COMBINED)
        sees[n++] = d->others;
    for (int k = 0; k < d->n && d->p->layout != INTERLEAVED; k++)
        if (k != i && d->w[k].at && !d->w[k].moved)
            sees[n++] = d->w[k].at;
    if (d->p->layout == COMBINED)
        sees[n++] = d->own;
    search_see(d->s, d->w[i].at, sees, n);
}

/* All go on until somebody has finished a step, or it is time for a question. */
static int write(struct desk *d, struct pd_err *err)
{
    static const char *const never[] = {"#", "</think>", NULL};
    struct node *node[MAX_WORKERS];
    int who[MAX_WORKERS], n = 0, left = d->p->token_budget - d->used, rc;

    for (int i = 0; i < d->n; i++)
        if (is_open(&d->w[i])) {
            if (d->n > 1)
                look(d, i);
            who[n] = i;
            node[n++] = d->w[i].at;
        }
    if (d->p->check_every && d->next_check - d->used < left)
        left = d->next_check - d->used;
    rc =
        search_together(d->s, node, n, left > n ? left / n : 1, d->p->free_end ? NULL : never, err);
    for (int k = 0; k < n && rc == 0; k++) {
        d->used += (int)(search_tokens(node[k]) - search_tokens(d->w[who[k]].at));
        d->w[who[k]].at = search_failed(node[k]) ? NULL : node[k];
    }
    return rc;
}

/* A paragraph that ends as a sentence does. */
static bool ends_step(const struct node *n)
{
    struct pd_str text = search_text(n), end = pd_str_trim(text);

    return pd_str_find(text, PD_STR("\n\n")) >= 0 && end.len > 0 &&
           strchr(".!?:)]}\"'`*$", end.ptr[end.len - 1]);
}

/* Worker i's block becomes common. */
static int move(struct desk *d, int i, struct pd_err *err)
{
    struct worker *w = &d->w[i];
    int rc = 0;

    if (d->n == 1)
        d->common = w->at;
    else
        rc = search_join(d->s, d->common, w->at, &d->common, err);
    w->moved = true;
    return rc < 0 ? rc : tell(d, "move", i, w->at, d->common, err);
}

/* Who has finished a step moves it and begins the next; who has finished altogether is through. */
static int settle(struct desk *d, struct pd_err *err)
{
    bool moves = d->p->layout != CONTIGUOUS || d->n == 1;
    int rc = 0;

    for (int i = 0; i < d->n && rc == 0; i++) {
        struct worker *w = &d->w[i];
        bool step = is_open(w) && ends_step(w->at);

        if (!step && !(w->at && !w->moved && search_finished(w->at)))
            continue;
        if (moves)
            rc = move(d, i, err);
        if (rc == 0 && step)
            rc = begin(d, i, err);
    }
    return rc;
}

/* The next worker in turn is asked whether it does what others have done. */
static int ask(struct desk *d, struct pd_err *err)
{
    int i = d->n_checks % d->n, rc;

    for (int k = 0; k < d->n && !is_open(&d->w[i]); k++)
        i = (i + 1) % d->n;
    d->n_checks = i + 1;
    d->next_check += d->p->check_every;
    if (!is_open(&d->w[i]))
        return 0;
    rc = search_force(d->s, d->w[i].at, text_or(d->p->check, CHECK), &d->w[i].at, err);
    return rc < 0 ? rc : tell(d, "check", i, d->w[i].at, NULL, err);
}

static bool goes_on(const struct desk *d)
{
    int n_open = 0;

    for (int i = 0; i < d->n; i++) {
        n_open += is_open(&d->w[i]);
        if (d->p->stop_on_answer && d->w[i].at && search_key(d->w[i].at)[0])
            return false;
    }
    return n_open > 0 && d->p->token_budget - d->used >= n_open; /* a token for everybody */
}

/* Braces that are open at the end. */
static int n_braces(struct pd_str text)
{
    int n = 0;

    for (size_t i = 0; i < text.len; i++)
        n += (text.ptr[i] == '{') - (text.ptr[i] == '}');
    return n;
}

/* Behind all that was written, the answer: greedily, to the end of its braces. */
static int conclude(struct desk *d, struct node **out, struct pd_err *err)
{
    struct pd_str text = text_or(d->p->conclude, CONCLUDE);
    int braces = n_braces(text), left = d->p->answer_tokens, rc;
    struct node *at;

    rc = search_force(d->s, d->common, text, &at, err);
    search_set_temperature(d->s, 0);
    while (rc == 0 && search_open(at) && left > 0) {
        uint32_t before = search_tokens(at);

        rc = search_extend_within(d->s, &at, 1, braces > 0 ? UNTIL_BRACE : UNTIL_END, left, &at,
                                  err);
        if (rc < 0)
            break;
        left -= (int)(search_tokens(at) - before);
        if (braces > 0 && (braces += n_braces(search_text(at))) <= 0)
            rc = search_close(d->s, at, err);
    }
    if (rc < 0)
        return rc;
    if (braces <= 0 && search_finished(at) && search_key(at)[0])
        *out = at;
    else
        search_prune(d->s, at, "no_answer"); /* it is no vote either */
    return 0;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    struct desk d = {.s = s, .p = params};
    struct node *answer = NULL;
    int rc;

    d.n = d.p->workers;
    d.next_check = d.p->check_every;
    /* 1. The problem and the rules; a block for everybody. */
    rc = make_prompt(&d, err);
    if (rc == 0 && search_failed(d.common))
        return search_answer(s, NULL, err); /* too long for the model */
    if (rc == 0)
        rc = begin_all(&d, err);
    /* 2. They write at once; a finished step becomes common. */
    while (rc == 0 && goes_on(&d)) {
        rc = write(&d, err);
        if (rc == 0)
            rc = settle(&d, err);
        if (rc == 0 && d.p->check_every && d.used >= d.next_check)
            rc = ask(&d, err);
    }
    /* 3. What is unfinished is put behind, and somebody concludes. */
    for (int i = 0; i < d.n && rc == 0; i++) {
        if (!d.w[i].at || d.w[i].moved)
            continue;
        if (i + 1 < d.n)
            rc = search_force(s, d.w[i].at, PD_STR("\n\n"), &d.w[i].at, err);
        if (rc == 0)
            rc = move(&d, i, err);
    }
    if (rc == 0)
        rc = conclude(&d, &answer, err);
    return rc < 0 ? rc : search_answer(s, answer, err);
}

static const struct pd_param params[] = {
    PD_INT(hogwild_params, workers, 4, 1, MAX_WORKERS, "workers that write at once"),
    PD_CHOICE(hogwild_params, layout, COMBINED, "combined|interleaved|contiguous",
              "what they see of each other: finished steps and work in progress, finished steps, "
              "each one's whole text"),
    PD_INT(hogwild_params, token_budget, 8192, 1, 1 << 20, "tokens of all workers together"),
    PD_INT(hogwild_params, check_every, 1024, 0, 1 << 20,
           "tokens after which the next worker is asked whether its work is redundant; 0: never"),
    PD_INT(hogwild_params, answer_tokens, 16, 1, 1 << 20, "most tokens of the answer"),
    PD_BOOL(hogwild_params, stop_on_answer, false, "no more work when somebody has an answer"),
    PD_BOOL(hogwild_params, free_end, false,
            "workers may end by themselves; else nobody draws an end, </think> or #"),
    PD_TEXT(hogwild_params, rules, "what is said before the problem; empty: the built-in rules"),
    PD_TEXT(hogwild_params, check, "the question about redundant work; empty: the built-in one"),
    PD_TEXT(hogwild_params, conclude,
            "what the answer is written behind; empty: the built-in text"),
    {0},
};

extern const struct pd_strategy strategy_hogwild;
const struct pd_strategy strategy_hogwild = {
    .name = "hogwild",
    .paper = "arXiv:2504.06261",
    .summary = "workers that write at once and read each other's work in progress",
    .params = params,
    .params_size = sizeof(struct hogwild_params),
    .run = run,
};

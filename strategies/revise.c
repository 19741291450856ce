/* revise: answers in a chain, each a revision of those before it. Snell et al., Scaling LLM
 * Test-Time Compute Optimally can be More Effective than Scaling Model Parameters,
 * arXiv:2408.03314, §6. `chains` chains side by side, samples / chains answers each; a revision
 * sees the question and the last `context` answers of its chain. select=majority: over all answers;
 * verifier: weighted best-of-n within each chain, then among the chains' winners. Deviation: the
 * paper's model is trained to revise; others are asked to, in the words below. */
#include "strategies/choose.h"

struct revise_params {
    int samples, chains, context, select;
};

enum { SELECT_MAJORITY, SELECT_VERIFIER };

static int prompt_with(struct search *s, struct node *const *attempt, int n, struct node **out,
                       struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(1u << 24);
    int rc;

    pd_buf_adds(&b, search_question(s));
    pd_buf_addz(&b, "\n\nHere are earlier attempts at this problem. They may be wrong.\n");
    for (int i = 0; i < n; i++) {
        pd_buf_addz(&b, "\nAttempt:\n");
        pd_buf_adds(&b, pd_str_trim(search_line(s, attempt[i])));
        pd_buf_addz(&b, "\n");
    }
    pd_buf_addz(&b, "\nFind the mistakes in them, if there are any, and solve the problem again.");
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                           : search_prompt(s, pd_buf_str(&b), false, out, err);
    pd_buf_done(&b);
    return rc;
}

/* The prompt of a revision: the question and the last of n attempts, as many as the model's context
 * holds; without any of them it is the question alone. */
static int ask_again(struct search *s, struct node *const *attempt, int n, int context,
                     struct node **out, struct pd_err *err)
{
    int rc = 0;

    *out = search_root(s);
    for (int shown = n < context ? n : context; shown > 0; shown--) {
        rc = prompt_with(s, attempt + n - shown, shown, out, err);
        if (rc < 0 || !search_failed(*out))
            return rc;
        *out = search_root(s);
    }
    return rc;
}

static int select_answer(struct search *s, const struct revise_params *p, struct node *const *all,
                         int n_chains, const int *length, struct node **out, struct pd_err *err)
{
    struct node **done = search_array(s, p->samples), **winner = search_array(s, n_chains);
    int n = 0, n_winners = 0, rc, each = p->samples / n_chains;

    for (int c = 0; c < n_chains; c++) {
        int first = n;

        for (int i = 0; i < length[c]; i++) {
            struct node *x = all[c * each + i];

            if (search_finished(x) && search_key(x)[0])
                done[n++] = x;
        }
        if (p->select == SELECT_MAJORITY || n == first)
            continue;
        rc = search_score(s, done + first, n - first, err);
        if (rc < 0)
            return rc;
        winner[n_winners++] = choose(s, done + first, n - first, VOTE_WEIGHTED, AGGREGATE_LAST);
    }
    *out = p->select == SELECT_MAJORITY
               ? choose(s, done, n, VOTE_MAJORITY, AGGREGATE_LAST)
               : choose(s, winner, n_winners, VOTE_WEIGHTED, AGGREGATE_LAST);
    return 0;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct revise_params *p = params;
    int chains = p->chains < p->samples ? p->chains : p->samples, each = p->samples / chains;
    struct node **all = search_array(s, p->samples); /* chain c: [c * each …] */
    struct node **now = search_array(s, chains), *answer = NULL;
    int *length = search_alloc(s, (size_t)chains * sizeof *length), rc = 0, rc2;

    for (int k = 0; k < each && rc == 0; k++) {
        /* 1. The first answers are the question's own; 2. then each chain revises. */
        for (int c = 0; c < chains && rc == 0; c++) {
            rc = ask_again(s, all + c * each, k, p->context, &now[c], err);
        }
        if (rc == 0)
            rc = search_extend(s, now, chains, UNTIL_END, now, err);
        for (int c = 0; c < chains && rc == 0; c++)
            all[c * each + length[c]++] = now[c];
    }
    if (rc < 0 && rc != PD_EBUDGET)
        return rc;
    /* 3. Not the last one: right answers are revised to wrong ones, too. */
    rc2 = select_answer(s, p, all, chains, length, &answer, err);
    return rc2 < 0 ? rc2 : search_end(s, answer, rc, err);
}

static bool scores(const void *params)
{
    return ((const struct revise_params *)params)->select == SELECT_VERIFIER;
}

static const struct pd_param params[] = {
    PD_INT(revise_params, samples, 8, 1, 256, "answers, over all chains"),
    PD_INT(revise_params, chains, 2, 1, 256,
           "chains side by side; each has samples / chains answers"),
    PD_INT(revise_params, context, 4, 1, 64, "earlier answers that a revision sees"),
    PD_CHOICE(revise_params, select, SELECT_MAJORITY, "majority|verifier",
              "who decides: a vote, or the reward model"),
    {0},
};

extern const struct pd_strategy strategy_revise;
const struct pd_strategy strategy_revise = {
    .name = "revise",
    .paper = "arXiv:2408.03314",
    .summary = "answers in chains, each a revision of those before it",
    .params = params,
    .params_size = sizeof(struct revise_params),
    .scores = scores,
    .run = run,
};

/* hedged: one greedy line against the risk of the sampled ones. Khairi et al., When Life Gives You
 * Samples: The Benefits of Scaling up Inference Compute for Multilingual LLMs, arXiv:2506.20544,
 * §4. One line at T = 0 and samples - 1 at the job's temperature; select=chops: the model first
 * writes a checklist for the question, then names the best of the numbered answers (§4.2), where it
 * cannot be understood the greedy line answers; vote: the majority. Deviation: samples in other
 * languages as evidence (X-MBR) are not drawn. */
#include "strategies/ask.h"

struct hedged_params {
    int samples, select;
};

enum { SELECT_CHOPS, SELECT_VOTE };

static int chops(struct search *s, struct node *const *line, int n, struct node **out,
                 struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(ASK_MAX_BYTES);
    struct pd_str said;
    struct pd_jw *w;
    int rc, *named = search_alloc(s, (size_t)n * sizeof *named);

    pd_buf_adds(&b, search_question(s));
    pd_buf_addz(&b,
                "\n\nDo not answer this. Write a short checklist of what a good answer to it must "
                "fulfil.");
    rc = ask(s, &b, 1, &said, NULL, err);
    if (rc < 0)
        return rc;
    b = (struct pd_buf)PD_BUF_INIT(ASK_MAX_BYTES);
    pd_buf_adds(&b, search_question(s));
    pd_buf_addz(&b, "\n\nA good answer fulfils this checklist:\n");
    pd_buf_adds(&b, said);
    for (int i = 0; i < n; i++) {
        pd_buf_printf(&b, "\n\nAnswer %d:\n", i + 1);
        pd_buf_adds(&b, pd_str_trim(search_line(s, line[i])));
    }
    pd_buf_addz(&b, "\n\nWhich answer is the best one? Say its number only.");
    rc = ask(s, &b, 1, &said, NULL, err);
    if (rc < 0)
        return rc;
    if (ask_numbers(said, n, false, named) == 0)
        named[0] = 0; /* none: the hedge */
    *out = line[named[0] ? named[0] - 1 : 0];
    w = search_decide(s, "chosen");
    search_put_nodes(w, "of", line, n);
    pd_jw_key(w, "number");
    pd_jw_int(w, named[0]);
    return search_decided(s, err);
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct hedged_params *p = params;
    struct node **line = search_array(s, p->samples), *answer = NULL;
    struct tally *votes = tally_new(s);
    double temperature = search_temperature(s);
    int n = 0, rc;

    /* 1. The hedge, and the samples. */
    search_set_temperature(s, 0);
    rc = search_sample(s, search_root(s), 1, UNTIL_END, line, err);
    search_set_temperature(s, temperature);
    if (rc == 0 && p->samples > 1)
        rc = search_sample(s, search_root(s), p->samples - 1, UNTIL_END, line + 1, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < p->samples; i++)
        if (search_finished(line[i]) && search_key(line[i])[0])
            line[n++] = line[i];
    /* 2. Choose; the first that has an answer until then. */
    rc = search_answer(s, n ? line[0] : NULL, err);
    if (rc < 0 || n == 0)
        return rc;
    if (p->select == SELECT_CHOPS && n > 1) {
        rc = chops(s, line, n, &answer, err);
        return rc < 0 ? rc : search_answer(s, answer, err);
    }
    for (int i = 0; i < n; i++)
        tally_vote(votes, line[i], 1);
    return search_answer(s, tally_winner(votes), err);
}

static const struct pd_param params[] = {
    PD_INT(hedged_params, samples, 5, 1, 64, "lines, the greedy one among them"),
    PD_CHOICE(hedged_params, select, SELECT_CHOPS, "chops|vote",
              "the model chooses by a checklist of its own, or the majority"),
    {0},
};

extern const struct pd_strategy strategy_hedged;
const struct pd_strategy strategy_hedged = {
    .name = "hedged",
    .paper = "arXiv:2506.20544",
    .summary = "a greedy line beside sampled ones; the model chooses by its own checklist",
    .params = params,
    .params_size = sizeof(struct hedged_params),
    .run = run,
};

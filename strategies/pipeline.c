/* pipeline: layers of components, each of which makes something of what the one before left. Saad-
 * Falcon et al., Archon: An Architecture Search Framework for Inference-Time Techniques,
 * arXiv:2409.15254, §3. The state is {candidates, critiques, unit tests}; what a layer does not
 * make passes through. The first candidate of the end answers. Deviations: lines without an answer
 * are no candidates; when a verifier drops all, all stay; when nothing can be made of the
 * candidates, they stay; a generator may be any other strategy, which gives one candidate. */
#include <ctype.h>

#include "strategies/ask.h"
#include "strategies/layers.h"

#define ARENA_BYTES ((size_t)1 << 20) /* of parsed layers */
#define CHECKS_MAX  10
#define RETRIES     10 /* for a verdict that can be read */

struct pipeline_params {
    char layers[1024];
};

struct state {
    struct search *s;
    struct node **cand;
    struct pd_str *critique; /* of each; NULL: none */
    int n;
    struct pd_str check[CHECKS_MAX];
    int n_checks;
};

static void add(struct state *st, struct node *const *line, int n)
{
    struct node **all = search_array(st->s, st->n + n);

    memcpy(all, st->cand, (size_t)st->n * sizeof(struct node *));
    st->cand = all;
    for (int i = 0; i < n; i++)
        if (line[i] && search_finished(line[i]) && search_key(line[i])[0])
            st->cand[st->n++] = line[i];
}

/* A prompt: the question, what is there about it, and then what is asked. */
static struct pd_buf begin(const struct state *st)
{
    struct pd_buf b = PD_BUF_INIT(ASK_MAX_BYTES);

    pd_buf_adds(&b, search_question(st->s));
    return b;
}

static void put_candidate(const struct state *st, struct pd_buf *b, int i)
{
    pd_buf_adds(b, pd_str_trim(search_line(st->s, st->cand[i])));
    if (st->critique && st->critique[i].len) {
        pd_buf_addz(b, "\nWhat was said of it: ");
        pd_buf_adds(b, st->critique[i]);
    }
}

static struct pd_buf begin_with_all(const struct state *st)
{
    struct pd_buf b = begin(st);

    for (int i = 0; i < st->n; i++) {
        pd_buf_printf(&b, "\n\nAnswer [%d]:\n", i + 1);
        put_candidate(st, &b, i);
    }
    return b;
}

/* A prompt about each candidate alone. */
static struct pd_buf *about_each(const struct state *st, const char *what)
{
    struct pd_buf *b = search_alloc(st->s, (size_t)st->n * sizeof *b);

    for (int i = 0; i < st->n; i++) {
        b[i] = begin(st);
        pd_buf_addz(&b[i], "\n\nAnswer:\n");
        put_candidate(st, &b[i], i);
        pd_buf_addz(&b[i], what);
    }
    return b;
}

/* The candidates in a new order (from 1), without those that it leaves out. */
static void reorder(struct state *st, const int *order, int n)
{
    struct node **cand = search_array(st->s, n);
    struct pd_str *critique = search_alloc(st->s, (size_t)(n + 1) * sizeof *critique);

    for (int i = 0; i < n; i++) {
        cand[i] = st->cand[order[i] - 1];
        critique[i] = st->critique ? st->critique[order[i] - 1] : PD_STR("");
    }
    st->cand = cand;
    st->critique = st->critique ? critique : NULL;
    st->n = n;
}

static int most(const struct layer_use *u, int n)
{
    return u->options.top_k && u->options.top_k < n ? u->options.top_k : n;
}

static int generate(struct state *st, const struct layer_use *u, struct pd_err *err)
{
    int n = u->strategy ? 1 : u->options.samples, rc;
    struct node **line = search_array(st->s, n);
    const struct search_nested nested = {
        .strategy = u->strategy, .params = u->params, .tokens = (uint64_t)u->options.tokens};

    rc = u->strategy ? search_nest(st->s, &nested, line, err)
                     : search_sample(st->s, search_root(st->s), n, UNTIL_END, line, err);
    if (rc == 0 || (rc == PD_EBUDGET && u->strategy))
        add(st, line, n);
    return rc;
}

/* "[4] > [2] > …": from left to right, what is unknown or repeated is passed over; who is not named
 * comes last, in order. */
static int rank(struct state *st, const struct layer_use *u, struct pd_err *err)
{
    struct pd_buf b = begin_with_all(st);
    int *order = search_alloc(st->s, (size_t)st->n * sizeof *order), n, rc;
    struct pd_str said;

    pd_buf_addz(&b, "\n\nRank these answers from the best to the worst. Say their numbers only, on "
                    "one line, as in [2] > [1].");
    rc = ask(st->s, &b, 1, &said, NULL, err);
    if (rc < 0)
        return rc;
    n = ask_numbers(said, st->n, true, order);
    for (int i = 1; i <= st->n; i++) {
        bool named = false;

        for (int k = 0; k < n; k++)
            named |= order[k] == i;
        if (!named)
            order[n++] = i;
    }
    reorder(st, order, most(u, n));
    return 0;
}

/* What it makes answers the question, and stands in for the candidates; made: the layer's. */
static int fuse(const struct state *st, const struct layer_use *u, struct state *made,
                struct pd_err *err)
{
    struct node *prompt, **line = search_array(st->s, u->options.samples);
    struct pd_buf b = begin_with_all(st);
    int rc;

    pd_buf_addz(&b, "\n\nThese are answers to the question at the beginning. Weigh them, and write "
                    "one answer to it that is better than each.");
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                           : search_prompt(st->s, pd_buf_str(&b), false, &prompt, err);
    pd_buf_done(&b);
    if (rc < 0 || search_failed(prompt))
        return rc;
    rc = search_sample(st->s, prompt, u->options.samples, UNTIL_END, line, err);
    if (rc == 0)
        add(made, line, u->options.samples);
    return rc;
}

static int criticise(struct state *st, struct pd_err *err)
{
    struct pd_str *said = search_alloc(st->s, (size_t)st->n * sizeof *said);
    int rc = ask(st->s,
                 about_each(st, "\n\nName the strengths and the weaknesses of this answer, in a "
                                "few sentences. Do not write another one."),
                 st->n, said, NULL, err);

    st->critique = rc == 0 ? said : st->critique;
    return rc;
}

/* 1: correct, 0: incorrect, -1: it does not say. The last word counts. */
static int verdict(struct pd_str said)
{
    ptrdiff_t right = pd_str_rfind(said, PD_STR("[Correct]"));
    ptrdiff_t wrong = pd_str_rfind(said, PD_STR("[Incorrect]"));

    return right < 0 && wrong < 0 ? -1 : right > wrong;
}

/* A verdict that cannot be read is asked for again, at the job's temperature; a candidate without
 * one stays. */
static int verify(struct state *st, struct pd_err *err)
{
    struct pd_str *said = search_alloc(st->s, (size_t)st->n * sizeof *said);
    struct node **node = search_array(st->s, st->n);
    int *kept = search_alloc(st->s, (size_t)st->n * sizeof *kept), n = 0;
    int rc = ask(st->s,
                 about_each(st, "\n\nIs this answer right? Think about each of its steps, then end "
                                "with [Correct] or [Incorrect]."),
                 st->n, said, node, err);

    for (int i = 0; i < st->n && rc == 0; i++) {
        struct node *prompt = search_failed(node[i]) ? NULL : search_parent(node[i]), *again;
        int is = verdict(said[i]);

        for (int k = 0; is < 0 && prompt && k < RETRIES && search_temperature(st->s) > 0; k++) {
            rc = search_sample(st->s, prompt, 1, UNTIL_END, &again, err);
            if (rc < 0)
                return rc;
            is = verdict(search_line(st->s, again));
        }
        if (is != 0)
            kept[n++] = i + 1;
    }
    if (rc == 0 && n)
        reorder(st, kept, n);
    return rc;
}

/* A check a line, without its number or bullet. */
static int write_checks(struct state *st, const struct layer_use *u, struct pd_err *err)
{
    struct pd_buf b = begin(st);
    struct pd_str said;
    int rc;

    pd_buf_printf(&b,
                  "\n\nDo not answer this. Write %d checks that a good answer to it passes, one a "
                  "line, each a short statement that is true or false of an answer.",
                  u->options.checks);
    rc = ask(st->s, &b, 1, &said, NULL, err);
    st->n_checks = 0;
    while (rc == 0 && said.len && st->n_checks < u->options.checks) {
        ptrdiff_t end = pd_str_find(said, PD_STR("\n"));
        size_t len = end < 0 ? said.len : (size_t)end, i = 0;
        struct pd_str line;

        while (i < len && !isalpha((unsigned char)said.ptr[i]))
            i++;
        line = pd_str_trim(pd_str_sub(said, i, len));
        if (line.len)
            st->check[st->n_checks++] = line;
        said = pd_str_sub(said, len + 1, said.len);
    }
    return rc;
}

static int count(struct pd_str text, struct pd_str word)
{
    int n = 0;

    for (ptrdiff_t at; (at = pd_str_find(text, word)) >= 0; n++)
        text = pd_str_sub(text, (size_t)at + word.len, text.len);
    return n;
}

/* By checks passed, most first; equal ones as they were. */
static int evaluate(struct state *st, const struct layer_use *u, struct pd_err *err)
{
    struct pd_buf what = PD_BUF_INIT(ASK_MAX_BYTES);
    struct pd_str *said = search_alloc(st->s, (size_t)st->n * sizeof *said);
    int *passed = search_alloc(st->s, (size_t)st->n * sizeof *passed), rc;
    int *order = search_alloc(st->s, (size_t)st->n * sizeof *order);

    if (st->n_checks == 0) /* there is nothing to go by */
        return 0;
    pd_buf_addz(&what, "\n\nGo through these checks of the answer, and say [Passed] or [Failed] "
                       "behind the number of each:");
    for (int i = 0; i < st->n_checks; i++) {
        pd_buf_printf(&what, "\n%d. ", i + 1);
        pd_buf_adds(&what, st->check[i]);
    }
    rc = pd_buf_rc(&what) < 0
             ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
             : ask(st->s, about_each(st, pd_buf_str(&what).ptr), st->n, said, NULL, err);
    pd_buf_done(&what);
    for (int i = 0; i < st->n && rc == 0; i++) {
        int k = i;

        passed[i] = count(said[i], PD_STR("[Passed]"));
        for (; k > 0 && passed[order[k - 1] - 1] < passed[i]; k--)
            order[k] = order[k - 1];
        order[k] = i + 1;
    }
    if (rc == 0)
        reorder(st, order, most(u, st->n));
    return rc;
}

static int run_component(struct state *st, const struct layer_use *u, struct state *made,
                         struct pd_err *err)
{
    switch (u->kind) {
    case LAYER_GENERATOR:
        return generate(st, u, err);
    case LAYER_RANKER:
        return rank(st, u, err);
    case LAYER_FUSER:
        return fuse(st, u, made, err);
    case LAYER_CRITIC:
        return criticise(st, err);
    case LAYER_VERIFIER:
        return verify(st, err);
    case LAYER_TESTS:
        return write_checks(st, u, err);
    default:
        return evaluate(st, u, err);
    }
}

static int tell(const struct state *st, const struct layer_use *u, struct node *const *from, int n,
                struct pd_err *err)
{
    struct pd_jw *w = search_decide(st->s, "layer");

    pd_jw_put_text(w, "component", layer_name(u->kind));
    search_put_nodes(w, "of", from, n);
    search_put_nodes(w, "candidates", st->cand, st->n);
    if (u->kind == LAYER_TESTS) {
        pd_jw_key(w, "checks");
        pd_jw_array(w);
        for (int i = 0; i < st->n_checks; i++)
            pd_jw_str(w, st->check[i]);
        pd_jw_end_array(w);
    }
    return search_decided(st->s, err);
}

static int run_layers(struct search *s, const struct layers *l, struct pd_err *err)
{
    struct state st = {.s = s, .cand = search_array(s, 1)}, made = st;
    int rc = 0;

    for (int i = 0; i < l->n && rc == 0; i++) {
        const struct layer_use *u = &l->use[i];
        struct node **from = st.cand;
        int n = st.n;

        if (u->kind != LAYER_GENERATOR && st.n == 0)
            break;
        rc = run_component(&st, u, &made, err);
        if (made.n && (i + 1 == l->n || u[1].layer != u->layer)) { /* the layer's fusers are done */
            st.cand = made.cand;
            st.n = made.n;
            st.critique = NULL;
            made = (struct state){.s = s, .cand = search_array(s, 1)};
        }
        if (rc == 0)
            rc = tell(&st, u, from, n, err);
        if (st.n && (rc == 0 || rc == PD_EBUDGET)) /* the best until now */
            rc = search_end(s, st.cand[0], rc, err);
    }
    return rc;
}

static int run(struct search *s, const void *params, struct pd_err *err)
{
    const struct pipeline_params *p = params;
    struct pd_arena arena;
    struct layers layers;
    int rc;

    pd_arena_init(&arena, ARENA_BYTES);
    rc = layers_parse(pd_str_of(p->layers), &arena, &layers, err);
    if (rc == 0)
        rc = run_layers(s, &layers, err);
    pd_arena_done(&arena);
    return rc;
}

/* Layers that cannot be read are refused when they are run. */
static bool scores(const void *params)
{
    const struct pipeline_params *p = params;
    struct pd_arena arena;
    struct layers l;
    bool any = false;

    pd_arena_init(&arena, ARENA_BYTES);
    if (layers_parse(pd_str_of(p->layers), &arena, &l, NULL) == 0)
        for (int i = 0; i < l.n; i++)
            any |= l.use[i].strategy && pd_strategy_scores(l.use[i].strategy, l.use[i].params);
    pd_arena_done(&arena);
    return any;
}

static const struct pd_param params[] = {
    PD_TEXT(pipeline_params, layers, "components in their order; empty: " LAYERS_DEFAULT),
    {0},
};

extern const struct pd_strategy strategy_pipeline;
const struct pd_strategy strategy_pipeline = {
    .name = "pipeline",
    .paper = "arXiv:2409.15254",
    .summary = "layers: generate, rank, criticise, fuse, verify, check",
    .params = params,
    .params_size = sizeof(struct pipeline_params),
    .scores = scores,
    .run = run,
};

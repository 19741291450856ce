/* The scheduler: results do not depend on how the work was cut up or on who else was there; races
 * are exact; cancel, stop strings and end tokens; bad logits are an error. */
#include "tests/unit/engine_fixture.h"

#include <sched.h>
#include <time.h>

#include "engine/kernels.h"
#include "engine/model.h"

static const char *const questions[3] = {
    "Zoe has 9 stamps. She gives away a third of them. Then she loses 2. How many stamps does Zoe "
    "have now?",
    "Sam has 18 cups. Sam has 4 more cups than Omar. How many cups do Sam and Omar have together?",
    "Ben buys 5 boxes with 4 pens each. How many pens does Ben have?",
};

#define N_OTHERS 7

/* What one lane draws, in an engine cut up in a certain way, alone or in company. */
static void lane(const char *model, const char *isa, unsigned n_threads, unsigned chunk,
                 unsigned max_rows, bool company, struct eng_req *out)
{
    struct eng *e = fx_eng(isa, n_threads, chunk, max_rows);
    struct eng_model *m = fx_model(e, model);
    struct eng_req q[1 + N_OTHERS];
    size_t n_reqs = company ? 1 + N_OTHERS : 1, n;

    for (size_t i = 0; i < n_reqs; i++) {
        int32_t *ids = fx_prompt(m, questions[i % 3], &n);

        q[i] = fx_generate(fx_ctx(e, m, ids, n), i % 2 ? 0.0f : 0.9f, i, 48);
        q[i].sampling.top_p = i % 4 == 0 ? 0.95f : 1.0f;
        q[i].sampling.top_k = i % 3 == 0 ? 40 : 0;
        free(ids);
    }
    /* The lane of interest is not the first. */
    if (company) {
        struct eng_req t = q[0];

        q[0] = q[4];
        q[4] = t;
    }
    fx_run(e, q, n_reqs);
    for (size_t i = 0; i < n_reqs; i++) {
        eng_ctx_free(q[i].ctx);
        if (i == (company ? 4 : 0))
            *out = q[i];
        else
            eng_req_done(&q[i]);
    }
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

static void same_everywhere(const char *model)
{
    static const unsigned chunks[4] = {1, 7, 64, 512};
    static const char *const isas[ENG_N_ISA] = {"scalar", "avx2", "avx512"};
    struct eng_req want, got;
    size_t n_runs = 0;

    lane(model, "scalar", 1, 64, 0, false, &want);
    assert_true(want.n_tokens > 20);
    for (int isa = 0; isa < ENG_N_ISA; isa++) {
        if (!eng_isa_supported((enum eng_isa)isa))
            continue;
        for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
            for (int c = 0; c < 4; c++) {
                bool company = (c + (int)n_threads) % 2;

                if (isa == ENG_ISA_SCALAR && company && c != 1)
                    continue; /* slow, and the kernels have their own test */
                /* Also with a step too small for everybody at once. */
                lane(model, isas[isa], n_threads, chunks[c], c == 1 ? 5 : 0, company, &got);
                fx_same(&want, &got);
                eng_req_done(&got);
                n_runs++;
            }
        }
    }
    printf("# %s: %zu ways of computing it, the same bits\n", model, n_runs);
    fflush(stdout);
    eng_req_done(&want);
}

static void test_same_q8_0(void **state)
{
    (void)state;
    same_everywhere("tiny-base-Q8_0.gguf");
}

static void test_same_f16(void **state)
{
    (void)state;
    same_everywhere("tiny-base-F16.gguf");
}

/* ---- races
 * --------------------------------------------------------------------------------------- */

#define N_LANES 8

static bool ended(const struct eng_req *q)
{
    return q->finish == ENG_FINISH_EOS || q->finish == ENG_FINISH_STOP;
}

/* A race against the lanes run to their ends: everybody has min(own length, length of the m-th)
 * tokens. */
static void race(struct eng *e, struct eng_model *m, unsigned how_many, unsigned n_prefilled,
                 const char *const *stops)
{
    struct eng_req alone[N_LANES], raced[N_LANES];
    struct eng_race r = {.m = how_many};
    uint32_t lengths[N_LANES], limit = 0;
    size_t n, n_ended = 0;
    int32_t *ids = fx_prompt(m, questions[0], &n);

    for (unsigned i = 0; i < N_LANES; i++) {
        /* Lanes whose prompts are of different length and in different states of evaluation. */
        size_t cut = i % 3;

        alone[i] = fx_generate(fx_ctx(e, m, ids, n - cut), 1.0f, 100 + i, 120);
        raced[i] = fx_generate(fx_ctx(e, m, ids, n - cut), 1.0f, 100 + i, 120);
        alone[i].stops = raced[i].stops = stops;
        raced[i].race = &r;
        if (i < n_prefilled) {
            struct eng_req p = {.op = ENG_PREFILL, .ctx = raced[i].ctx};

            fx_run(e, &p, 1);
        }
    }
    fx_run(e, alone, N_LANES);
    for (unsigned i = 0; i < N_LANES; i++) {
        if (ended(&alone[i]))
            lengths[n_ended++] = alone[i].n_tokens;
    }
    assert_true(n_ended >= how_many);
    for (size_t i = 0; i < n_ended; i++) { /* the m-th smallest */
        size_t rank = 0;

        for (size_t j = 0; j < n_ended; j++)
            rank += lengths[j] < lengths[i] || (lengths[j] == lengths[i] && j < i);
        if (rank + 1 == how_many)
            limit = lengths[i];
    }
    fx_run(e, raced, N_LANES);
    for (unsigned i = 0; i < N_LANES; i++) {
        uint32_t want = alone[i].n_tokens < limit ? alone[i].n_tokens : limit;

        assert_int_equal(raced[i].n_tokens, want);
        assert_memory_equal(raced[i].tokens, alone[i].tokens, want * sizeof(int32_t));
        assert_memory_equal(raced[i].logprobs, alone[i].logprobs, want * sizeof(float));
        if (alone[i].n_tokens <= limit)
            assert_int_equal(raced[i].finish, alone[i].finish);
        else
            assert_int_equal(raced[i].finish, ENG_FINISH_RACE);
        assert_int_equal(atomic_load(&raced[i].progress), want);
        eng_ctx_free(alone[i].ctx);
        eng_ctx_free(raced[i].ctx);
        eng_req_done(&alone[i]);
        eng_req_done(&raced[i]);
    }
    free(ids);
    fx_no_pages(e);
}

static void test_race(void **state)
{
    static const char *const stops[] = {"= ", NULL};
    static const char *const all[] = {" ", "e", "t", "I", "i", "o", "a", "n", "<", NULL};

    (void)state;
    for (unsigned chunk = 3; chunk <= 64; chunk += 61) {
        struct eng *e = fx_eng(NULL, 2, chunk, chunk == 3 ? N_LANES : 0);
        struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");

        race(e, m, 1, 0, NULL);
        race(e, m, 3, 4, NULL);
        race(e, m, 2, 0, stops);
        race(e, m, 1, 2, all); /* decided by the first token, before others have drawn theirs */
        eng_model_unref(m);
        eng_close(e);
    }
}

static void test_race_refusals(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 4);
    struct eng_model *m = fx_model(e, "tiny-draft-Q8_0.gguf"),
                     *other = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_race r = {.m = 1};
    struct eng_req q[5], *list[5];
    int32_t one = 5;
    struct pd_err err = {0};

    (void)state;
    for (int i = 0; i < 5; i++) {
        q[i] = fx_generate(fx_ctx(e, m, &one, 1), 1.0f, 0, 4);
        q[i].race = &r;
        list[i] = &q[i];
    }
    assert_int_equal(eng_submit(e, list, 5, &err), PD_EINVAL); /* more lanes than rows in a step */
    r.m = 0;
    assert_int_equal(eng_submit(e, list, 2, &err), PD_EINVAL);
    r.m = 1;
    q[1].op = ENG_PREFILL;
    assert_int_equal(eng_submit(e, list, 2, &err), PD_EINVAL);
    q[1].op = ENG_GENERATE;
    eng_ctx_free(q[1].ctx);
    q[1].ctx = fx_ctx(e, other, &one, 1);
    assert_int_equal(eng_submit(e, list, 2, &err), PD_EINVAL); /* two models */
    list[1] = list[0];
    assert_int_equal(eng_submit(e, list, 2, &err), PD_EINVAL); /* the same context twice */
    fx_run(e, q, 1);
    assert_int_equal(q[0].n_tokens, 4);
    eng_req_done(&q[0]);
    for (int i = 0; i < 5; i++)
        eng_ctx_free(q[i].ctx);
    eng_model_unref(m);
    eng_model_unref(other);
    eng_close(e);
}

/* ---- how requests end
 * ---------------------------------------------------------------------------- */

static void done_to_queue(struct eng_req *q)
{
    pd_queue_push(q->user, &q->link);
}

static struct eng_req *next_done(struct pd_queue *queue)
{
    struct pd_link *l = NULL;

    assert_int_equal(pd_queue_pop_wait(queue, INT64_MAX, &l), 0);
    return pd_container_of(l, struct eng_req, link);
}

static void test_cancel(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 4, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_race race_of_two = {.m = 2};
    struct pd_queue queue;
    struct pd_err err = {0};
    struct eng_req q[3], want, *list[3] = {&q[0], &q[1], &q[2]};
    size_t n;
    int32_t *ids = fx_prompt(m, questions[1], &n);

    (void)state;
    assert_int_equal(pd_queue_init(&queue, 16), 0);
    want = fx_generate(fx_ctx(e, m, ids, n), 0.8f, 1, 60);
    fx_run(e, &want, 1);
    eng_ctx_free(want.ctx);
    for (int round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 3; i++) {
            q[i] = fx_generate(fx_ctx(e, m, ids, n), 0.8f, i, 60);
            q[i].done = done_to_queue;
            q[i].user = &queue;
            q[i].race = i < 2 && round % 2 ? &race_of_two : NULL;
        }
        fx_ok(eng_submit(e, list, 3, &err), &err);
        while (atomic_load(&q[0].progress) < (unsigned)round)
            sched_yield();
        eng_cancel(e, &q[0]);
        if (round % 3 == 0)
            eng_cancel(e, &q[2]);
        for (int i = 0; i < 3; i++) {
            struct eng_req *d = next_done(&queue);

            /* on a busy machine a line may end by itself before the cancel is seen: then it is
             * whole */
            if (d == &q[0] && d->finish != ENG_FINISH_CANCEL)
                assert_true(d->finish == ENG_FINISH_EOS || d->finish == ENG_FINISH_LENGTH ||
                            d->finish == ENG_FINISH_RACE);
            if (d->finish == ENG_FINISH_CANCEL && d != &q[0])
                assert_ptr_equal(d, &q[2]);
            assert_int_equal(eng_ctx_n_tokens(d->ctx), n + d->n_tokens);
            eng_ctx_free(d->ctx);
        }
        fx_same(&want, &q[1]); /* the neighbour noticed nothing */
        fx_no_pages(e);
        for (int i = 0; i < 3; i++)
            eng_req_done(&q[i]);
    }
    eng_req_done(&want);
    free(ids);
    pd_queue_done(&queue);
    eng_model_unref(m);
    eng_close(e);
}

static void test_stops(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    const struct eng_tokenizer *t = eng_model_tokenizer(m);
    struct pd_buf text = PD_BUF_INIT(1u << 20);
    struct pd_err err = {0};
    struct eng_req q, s;
    size_t n, n_found = 0;
    int32_t *ids = fx_prompt(m, questions[2], &n);

    (void)state;
    q = fx_generate(fx_ctx(e, m, ids, n), 0.0f, 0, 200);
    fx_run(e, &q, 1);
    assert_int_equal(q.finish, ENG_FINISH_EOS);
    assert_true(eng_token_is_end(t, q.tokens[q.n_tokens - 1]));
    fx_ok(eng_detokenize(t, q.tokens, q.n_tokens, true, &text, &err), &err);
    /* Every substring of some lengths, as a stop string: cut at the first token after which it is
     * there. */
    for (size_t len = 1; len <= 9; len += 2) {
        for (size_t at = 0; at + len <= text.len; at += 11) {
            char stop[16];
            const char *stops[3] = {"never in this text", stop, NULL};
            struct pd_buf head = PD_BUF_INIT(1u << 20);
            uint32_t want = 0;

            memcpy(stop, text.data + at, len);
            stop[len] = 0;
            do {
                fx_ok(eng_detokenize(t, &q.tokens[want++], 1, true, &head, &err), &err);
            } while (pd_str_find(pd_buf_str(&head), pd_str_of(stop)) < 0);
            s = fx_generate(fx_ctx(e, m, ids, n), 0.0f, 0, 200);
            s.stops = stops;
            fx_run(e, &s, 1);
            assert_int_equal(s.n_tokens, want);
            if (want < q.n_tokens) {
                assert_int_equal(s.finish, ENG_FINISH_STOP);
                assert_ptr_equal(s.stop, stop);
                n_found++;
            }
            eng_ctx_free(s.ctx);
            eng_req_done(&s);
            pd_buf_done(&head);
        }
    }
    assert_true(n_found > 20);
    eng_ctx_free(q.ctx);
    eng_req_done(&q);
    pd_buf_done(&text);
    free(ids);
    eng_model_unref(m);
    eng_close(e);
}

/* A stop string of the line may begin before the lane; the lane's own may not. The text before is
 * drawn first, up to each token in turn. */
static void test_line_stops(void **state)
{
    struct eng *e = fx_eng(NULL, 1, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    const struct eng_tokenizer *t = eng_model_tokenizer(m);
    struct pd_buf text = PD_BUF_INIT(1u << 20);
    struct pd_err err = {0};
    struct eng_req q, s;
    size_t n, at, end, byte = 0;
    int32_t *ids = fx_prompt(m, questions[2], &n);
    char stop[16];
    const char *stops[] = {stop, NULL};
    bool crossed = false;

    (void)state;
    q = fx_generate(fx_ctx(e, m, ids, n), 0.0f, 0, 200);
    fx_run(e, &q, 1);
    fx_ok(eng_detokenize(t, q.tokens, q.n_tokens - 1, true, &text, &err), &err);
    at = text.len / 2; /* the first place of what stands there */
    memcpy(stop, text.data + at, 9);
    stop[9] = '\0';
    at = (size_t)pd_str_find(pd_buf_str(&text), pd_str_of(stop));
    end = at + 9;
    for (uint32_t cut = 1; byte < end; cut++) {
        struct pd_buf head = PD_BUF_INIT(1u << 20);

        fx_ok(eng_detokenize(t, q.tokens, cut, true, &head, &err), &err);
        byte = head.len;
        for (int own = 0; own < 2 && byte < end; own++) {
            struct eng_ctx *c = fx_ctx(e, m, ids, n);

            fx_ok(eng_ctx_append(c, q.tokens, cut, &err), &err);
            s = fx_generate(c, 0.0f, 0, 200);
            s.before = pd_buf_str(&head);
            if (own)
                s.stops = stops;
            else
                s.line_stops = stops;
            fx_run(e, &s, 1);
            crossed |= byte > at && !own;
            if (own && byte > at) {
                assert_int_equal(s.finish, ENG_FINISH_EOS); /* it is not there again */
            } else {
                struct pd_buf rest = PD_BUF_INIT(1u << 20);

                assert_int_equal(s.finish, ENG_FINISH_STOP);
                assert_ptr_equal(s.stop, stop);
                fx_ok(eng_detokenize(t, s.tokens, s.n_tokens, true, &rest, &err), &err);
                assert_true(byte + rest.len >= end);
                rest.len = 0;
                fx_ok(eng_detokenize(t, s.tokens, s.n_tokens - 1, true, &rest, &err), &err);
                assert_true(byte + rest.len < end);
                pd_buf_done(&rest);
            }
            eng_ctx_free(s.ctx);
            eng_req_done(&s);
        }
        pd_buf_done(&head);
    }
    assert_true(crossed);
    eng_ctx_free(q.ctx);
    eng_req_done(&q);
    pd_buf_done(&text);
    free(ids);
    eng_model_unref(m);
    eng_close(e);
}

/* Confidence is that of the k likeliest; a request ends with the first token at which the mean of
 * the last `window` is below what it asked for, and says the same until then as one that did not
 * ask, guessing or not. */
static void test_confidence(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_req whole, cut;
    const uint32_t window = 6;
    uint32_t want = 0;
    double least = 0, low = 1e9;
    size_t n;
    int32_t *ids = fx_prompt(m, questions[0], &n);

    (void)state;
    whole = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 60);
    whole.n_top = 4;
    whole.confidence = (struct eng_confidence){4, 0, 1e9}; /* no window: it is not watched */
    fx_run(e, &whole, 1);
    assert_true(whole.n_tokens > 2 * window);
    for (uint32_t i = 0; i < whole.n_tokens; i++) {
        double sum = 0;

        for (uint32_t k = 0; k < 4; k++)
            sum -= (double)whole.top_logprobs[4 * i + k];
        assert_true(whole.confidences[i] == (float)(sum / 4));
    }
    for (uint32_t i = window; i < whole.n_tokens; i++) { /* the lowest but for the first group */
        double mean = 0;

        for (uint32_t k = i + 1 - window; k <= i; k++)
            mean += (double)whole.confidences[k] / window;
        least = mean < low ? mean + 1e-6 : least;
        want = mean < low ? i + 1 : want;
        low = mean < low ? mean : low;
    }
    for (int speculate = 0; speculate < 2; speculate++) {
        cut = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 60);
        cut.confidence = (struct eng_confidence){4, window, least};
        cut.speculate = speculate ? ENG_SPECULATE_LOOKUP : ENG_SPECULATE_OFF;
        cut.draft_always = true;
        fx_run(e, &cut, 1);
        assert_int_equal(cut.finish, ENG_FINISH_CONFIDENCE);
        assert_in_range(cut.n_tokens, window, want);
        assert_memory_equal(cut.tokens, whole.tokens, cut.n_tokens * sizeof *cut.tokens);
        assert_memory_equal(cut.confidences, whole.confidences,
                            cut.n_tokens * sizeof *cut.confidences);
        low = 0;
        for (uint32_t k = cut.n_tokens - window; k < cut.n_tokens; k++)
            low += (double)cut.confidences[k] / window;
        assert_true(low < least);
        eng_ctx_free(cut.ctx);
        eng_req_done(&cut);
    }
    cut = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 60);
    cut.confidence.k = ENG_MAX_TOP + 1;
    assert_int_equal(eng_run(e, (struct eng_req *const[]){&cut}, 1, NULL), PD_EINVAL);
    eng_ctx_free(cut.ctx);
    eng_ctx_free(whole.ctx);
    eng_req_done(&whole);
    free(ids);
    eng_model_unref(m);
    eng_close(e);
}

/* Penalties go by what the line says, whether this request has drawn it or an earlier one; a bias
 * that forbids what was drawn changes it; the likeliest token is the one that greed takes. */
static void test_adjusted(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_adjust a = {.presence = 20.0f, .frequency = 1.0f};
    struct pd_bias ban = {0, -100.0f};
    struct eng_req plain, whole, head, tail, banned;
    size_t n;
    int32_t *ids = fx_prompt(m, questions[0], &n);

    (void)state;
    plain = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 40);
    fx_run(e, &plain, 1);
    whole = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 40);
    whole.adjust = &a;
    whole.n_top = 3;
    fx_run(e, &whole, 1);
    assert_true(whole.n_tokens > 20);
    assert_true(whole.n_tokens != plain.n_tokens ||
                memcmp(whole.tokens, plain.tokens, plain.n_tokens * sizeof *plain.tokens) != 0);
    head = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 12);
    head.adjust = &a;
    fx_run(e, &head, 1);
    assert_memory_equal(head.tokens, whole.tokens, 12 * sizeof *head.tokens);
    tail = fx_generate(head.ctx, 0.9f, 5, 28);
    a.seen = head.tokens;
    a.n_seen = 12;
    tail.adjust = &a;
    tail.n_top = 3;
    fx_run(e, &tail, 1);
    assert_int_equal(tail.n_tokens, whole.n_tokens - 12);
    assert_memory_equal(tail.tokens, whole.tokens + 12, tail.n_tokens * sizeof *tail.tokens);
    assert_memory_equal(tail.top_ids, whole.top_ids + 36, 3 * tail.n_tokens * sizeof *tail.top_ids);
    assert_memory_equal(tail.top_logprobs, whole.top_logprobs + 36,
                        3 * tail.n_tokens * sizeof *tail.top_logprobs);
    for (uint32_t i = 0; i < whole.n_tokens; i++) {
        assert_true(whole.top_logprobs[3 * i] >= whole.logprobs[i]);
        if (whole.top_ids[3 * i] == whole.tokens[i])
            assert_memory_equal(&whole.top_logprobs[3 * i], &whole.logprobs[i], sizeof(float));
    }
    ban.token = plain.tokens[0];
    banned = fx_generate(fx_ctx(e, m, ids, n), 0.9f, 5, 40);
    banned.adjust = &(struct eng_adjust){.bias = &ban, .n_bias = 1};
    fx_run(e, &banned, 1);
    for (uint32_t i = 0; i < banned.n_tokens; i++)
        assert_int_not_equal(banned.tokens[i], ban.token);
    for (struct eng_req *const *q = (struct eng_req *const[]){&plain, &whole, &head, &banned, NULL};
         *q; q++)
        eng_ctx_free((*q)->ctx);
    for (struct eng_req *const *q =
             (struct eng_req *const[]){&plain, &whole, &head, &tail, &banned, NULL};
         *q; q++)
        eng_req_done(*q);
    free(ids);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

/* A model whose weights are damaged: every operation ends with a message. */
static void test_not_numbers(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-draft-F16.gguf");
    int32_t ids[3] = {5, 6, 7}, label = 9;
    uint32_t at[1] = {2};
    struct eng_req q[4];

    (void)state;
    for (uint32_t i = 0; i < m->info.n_embd; i++)
        m->output_norm[i] = NAN;
    q[0] = fx_generate(fx_ctx(e, m, ids, 3), 0.0f, 0, 5);
    q[1] = fx_generate(fx_ctx(e, m, ids, 3), 1.0f, 0, 5);
    q[1].sampling.top_k = 5;
    q[2] = (struct eng_req){.op = ENG_SCORE, .ctx = fx_ctx(e, m, ids, 3), .want_logprobs = true};
    q[3] = (struct eng_req){.op = ENG_SCORE,
                            .ctx = fx_ctx(e, m, ids, 3),
                            .at = at,
                            .n_at = 1,
                            .labels = &label,
                            .n_labels = 1};
    fx_run(e, q, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(q[i].finish, ENG_FINISH_ERROR);
        assert_int_equal(q[i].err.code, PD_EFORMAT);
        assert_non_null(strstr(q[i].err.text, "not numbers"));
        eng_ctx_free(q[i].ctx);
        eng_req_done(&q[i]);
    }
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

/* What an engine cannot be. */
static void test_config(void **state)
{
    struct eng_config bad = {.isa = "mmx"}, rows = {.max_rows = 1u << 30},
                      threads = {.n_threads = 1u << 20};
    struct pd_err err = {0};
    struct eng *e = NULL;

    (void)state;
    assert_int_equal(eng_open(&bad, &e, &err), PD_EINVAL);
    assert_int_equal(eng_open(&rows, &e, &err), PD_EINVAL);
    assert_int_equal(eng_open(&threads, &e, &err), PD_EINVAL);
    assert_null(e);
    fx_ok(eng_open(NULL, &e, &err), &err);
    assert_true(eng_n_threads(e) >= 1);
    assert_non_null(eng_isa_name(e));
    eng_close(e);
    eng_close(NULL);
}

/* Several threads with contexts and requests of their own on two models. */
struct client {
    struct eng *e;
    struct eng_model *m;
    uint64_t key;
    uint32_t n_tokens;
    bool ok;
};

static void *client(void *arg)
{
    struct client *c = arg;
    struct pd_err err;
    int32_t ids[40];
    struct eng_ctx *root = NULL;

    for (int i = 0; i < 40; i++)
        ids[i] = 10 + (int32_t)((c->key * 37 + (unsigned)i * 11) % 600);
    c->ok = eng_ctx_new(c->e, c->m, &root, &err) == 0 && eng_ctx_append(root, ids, 40, &err) == 0;
    for (int round = 0; c->ok && round < 6; round++) {
        struct eng_ctx *x = NULL;
        struct eng_req q, *list[1] = {&q};

        c->ok = eng_ctx_fork(root, &x, &err) == 0;
        q = fx_generate(x, 1.0f, c->key, 12);
        c->ok = c->ok && eng_run(c->e, list, 1, &err) == 0 && q.finish != ENG_FINISH_ERROR;
        c->n_tokens += q.n_tokens;
        eng_req_done(&q);
        if (round == 2) {
            q = (struct eng_req){.op = ENG_PREFILL, .ctx = root};
            c->ok = c->ok && eng_run(c->e, list, 1, &err) == 0;
        }
        eng_ctx_free(x);
    }
    eng_ctx_free(root);
    return NULL;
}

static void test_threads(void **state)
{
    struct eng *e = fx_eng(NULL, 2, 8, 16);
    struct eng_model *m[2] = {fx_model(e, "tiny-base-Q8_0.gguf"),
                              fx_model(e, "tiny-draft-F16.gguf")};
    struct client c[8];
    pthread_t t[8];

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        c[i] = (struct client){.e = e, .m = m[i % 2], .key = i / 4};
        assert_int_equal(pthread_create(&t[i], NULL, client, &c[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(c[i].ok);
        if (i % 4 >= 2)
            assert_int_equal(c[i].n_tokens, c[i - 2].n_tokens); /* same model, same key */
    }
    fx_no_pages(e);
    eng_model_unref(m[0]);
    eng_model_unref(m[1]);
    eng_close(e);
}

static void test_speed(void **state)
{
    struct eng *e = fx_eng(NULL, 0, 0, 0);
    struct eng_model *m = fx_model(e, "tiny-base-Q8_0.gguf");
    struct eng_req q[16], p;
    struct timespec t0, t1;
    struct eng_ctx *root;
    uint64_t n_tokens = 0;
    double s = 0.0;
    size_t n;
    int32_t *ids = fx_prompt(m, questions[1], &n);

    (void)state;
    root = fx_ctx(e, m, ids, n);
    p = (struct eng_req){.op = ENG_PREFILL, .ctx = root};
    fx_run(e, &p, 1);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 16; i++)
            q[i] = fx_generate(fx_fork(root), 0.8f, round * 16 + i, 128);
        clock_gettime(CLOCK_MONOTONIC, &t0);
        fx_run(e, q, 16);
        clock_gettime(CLOCK_MONOTONIC, &t1);
        s += (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) * 1e-9;
        for (unsigned i = 0; i < 16; i++) {
            n_tokens += q[i].n_tokens;
            eng_ctx_free(q[i].ctx);
            eng_req_done(&q[i]);
        }
    }
    printf("# 16 lanes of tiny-base-Q8_0, %s, %u threads: %.0f tokens/s\n", eng_isa_name(e),
           eng_n_threads(e), (double)n_tokens / s);
    fflush(stdout);
    eng_ctx_free(root);
    free(ids);
    fx_no_pages(e);
    eng_model_unref(m);
    eng_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_q8_0),  cmocka_unit_test(test_same_f16),
        cmocka_unit_test(test_race),       cmocka_unit_test(test_race_refusals),
        cmocka_unit_test(test_cancel),     cmocka_unit_test(test_stops),
        cmocka_unit_test(test_line_stops), cmocka_unit_test(test_adjusted),
        cmocka_unit_test(test_confidence), cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_config),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

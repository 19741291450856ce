/* A model of the built-in engine behind the fake engine's dialect vllm: prints its port, and serves
 * until its standard input ends. A search that is told this address is to come out as one on the
 * model itself, bit for bit.
 *
 * usage: bridge MODEL */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/app_int.h"
#include "app/generator_local.h"
#include "base/clock.h"
#include "tests/support/fake_engine.h"

#define ARENA_MAX ((size_t)64 << 20)

struct bridge {
    struct app *app;
    struct eng_model *model;
};

static void need(int rc, const struct pd_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "bridge: %s\n", err->text);
        abort();
    }
}

/* A job's generator, for one request. */
static struct pd_generator *open_generator(struct bridge *b)
{
    struct pd_generator *g = NULL;
    struct pd_err err;

    need(app_generator_new(app_engine(b->app), b->model, "bridged", NULL, &g, &err), &err);
    return g;
}

static double number(const struct pd_json *request, const char *key, double none)
{
    (void)pd_json_number(pd_json_get(request, key), &none);
    return none;
}

static void draw(void *self, const struct fake_ask *ask, struct fake_drawn *out)
{
    struct pd_generator *g = open_generator(self);
    const struct pd_sampling sampling = {.temperature = number(ask->request, "temperature", 1),
                                         .top_k = (int)number(ask->request, "top_k", 0),
                                         .top_p = number(ask->request, "top_p", 1),
                                         .min_p = number(ask->request, "min_p", 0),
                                         .n_top = ask->n_top};
    struct pd_lane lane = {.op = PD_LANE_GENERATE,
                           .sampling = &sampling,
                           .key = ask->seed,
                           .max_tokens = ask->max_tokens,
                           .line_stops = ask->stops},
                   *list = &lane;
    struct pd_err err;

    need(g->ops->ctx_new(g, &lane.ctx, &err), &err);
    need(g->ops->ctx_append(g, lane.ctx, ask->ids, ask->n_ids, &err), &err);
    need(g->ops->submit(g, &list, 1, &err), &err);
    need(g->ops->wait(g, PD_NEVER_NS, &list), NULL);
    need(lane.end == PD_END_ERROR ? lane.err.code : 0, &lane.err);
    *out = (struct fake_drawn){.ids = malloc((lane.n_tokens + 1) * sizeof *out->ids),
                               .logprobs = malloc((lane.n_tokens + 1) * sizeof *out->logprobs),
                               .n = lane.n_tokens,
                               .eos = lane.end == PD_END_EOS,
                               .stopped = lane.end == PD_END_LINE};
    memcpy(out->ids, lane.tokens, lane.n_tokens * sizeof *out->ids);
    memcpy(out->logprobs, lane.logprobs, lane.n_tokens * sizeof *out->logprobs);
    if (ask->n_top && lane.n_tokens) {
        out->n_top = ask->n_top;
        out->top_ids = malloc(ask->n_top * sizeof *out->top_ids);
        out->top_logprobs = malloc(ask->n_top * sizeof *out->top_logprobs);
        memcpy(out->top_ids, lane.top_ids, ask->n_top * sizeof *out->top_ids);
        memcpy(out->top_logprobs, lane.top_logprobs, ask->n_top * sizeof *out->top_logprobs);
    }
    g->ops->release(g, &lane);
    g->ops->ctx_free(g, lane.ctx);
    g->ops->free(g);
}

static void tokenize(void *self, const struct pd_json *request, int32_t **ids, size_t *n)
{
    struct bridge *b = self;
    struct pd_generator *g = open_generator(b);
    const char *prompt = pd_json_string(pd_json_get(request, "prompt"));
    struct pd_chat *chat = NULL;
    struct pd_arena arena;
    bool begins = false;
    struct pd_err err;

    pd_arena_init(&arena, ARENA_MAX);
    (void)pd_json_bool(pd_json_get(request, "add_special_tokens"), &begins);
    if (!prompt) {
        need(app_chat_parse(request, &arena, &chat, &err), &err);
        need(g->ops->chat(g, chat, ids, n, &err), &err);
    } else if (begins) {
        need(g->ops->chat(g, &(struct pd_chat){.text = pd_str_of(prompt)}, ids, n, &err), &err);
    } else {
        need(eng_tokenize(eng_model_tokenizer(b->model), pd_str_of(prompt), ENG_PARSE_SPECIAL, ids,
                          n, &err),
             &err);
    }
    pd_arena_done(&arena);
    g->ops->free(g);
}

static void detokenize(void *self, const int32_t *ids, size_t n, struct pd_buf *out)
{
    struct bridge *b = self;

    (void)eng_detokenize(eng_model_tokenizer(b->model), ids, n, true, out, NULL);
}

int main(int argc, char **argv)
{
    struct bridge b = {0};
    struct fake_model model = {&b, draw, tokenize, detokenize, 0};
    struct fake_config c = {.dialect = "vllm", .model = &model};
    struct fake_engine *f;
    struct pd_err err;
    char *path = NULL, byte;

    need(app_open(&(struct app_config){.no_trace = true}, &b.app, &err), &err);
    need(app_start_engine(b.app, NULL, &err), &err);
    need(app_find_model(argc > 1 ? argv[1] : app_default_model, &path, &err), &err);
    need(app_model(b.app, path, &b.model, &err), &err);
    free(path);
    model.n_ctx = eng_model_info(b.model)->n_ctx;
    f = fake_engine_start(&c);
    printf("%u\n", (unsigned)fake_engine_port(f));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    fake_engine_stop(f);
    eng_model_unref(b.model);
    app_close(b.app);
    return 0;
}

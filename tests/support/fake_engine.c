#include "tests/support/fake_engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#define BODY_MAX ((size_t)16 << 20)
#define STACK    ((size_t)256 << 10)
#define STOPS_MAX 32

struct fake_engine {
    struct fake_config c;
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_uint n_connections, n_open;
    atomic_bool leaving;
    _Atomic int64_t closed_ns;
    pthread_mutex_t lock; /* guards below */
    struct fake_fault fault;
    unsigned n_generated;
    struct pd_buf head, body;
};

struct conn {
    struct fake_engine *f;
    int fd;
    struct pd_buf in;   /* read, not used */
    struct pd_buf body; /* of the request */
    struct fake_fault fault;
    int n_events;
    bool broken; /* nothing more is to be said */
};

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fake engine: %s: %s\n", what, strerror(errno));
        abort();
    }
}

/* ---- the model ---------------------------------------------------------------------------------- */

struct draw {
    struct pd_buf ids; /* int32_t: prompt and what was drawn */
    size_t n_prompt, n, max;
    uint64_t seed, state;
    const struct pd_json *stops;
    struct pd_buf text;
    const char *stopped_by; /* a stop string */
    bool eos, over;
    float logprob;
    int32_t token;
    const struct fake_model *model; /* which has drawn all of this already */
    struct fake_drawn drawn;
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void put_token_text(struct pd_buf *out, int32_t id)
{
    if (id == FAKE_EOS)
        pd_buf_addz(out, "<eos>");
    else if (id == FAKE_BLANK_LINE)
        pd_buf_addz(out, "\n\n");
    else
        pd_buf_addc(out, (char)id);
}

static void next_drawn(struct draw *d, const struct fake_model *model)
{
    d->token = d->drawn.ids[d->n];
    d->logprob = d->drawn.logprobs[d->n];
    d->over = ++d->n == d->drawn.n;
    d->eos = d->over && d->drawn.eos;
    if (!d->eos)
        model->detokenize(model->self, &d->token, 1, &d->text);
    for (const struct pd_json *s = pd_json_first(d->stops); s && d->over; s = pd_json_next(s))
        if (d->drawn.stopped &&
            pd_str_find(pd_buf_str(&d->text), pd_str_of(pd_json_string(s))) >= 0)
            d->stopped_by = pd_json_string(s);
}

static void draw_token(struct draw *d, unsigned length)
{
    uint64_t r;

    if (d->model) {
        next_drawn(d, d->model);
        return;
    }
    d->state = mix(d->state + (uint64_t)d->token + 1);
    r = mix(d->state ^ d->seed);
    d->token = d->n + 1 == length         ? FAKE_EOS
               : length                   ? 'a' + (int32_t)(r % 26)
               : d->n > 3 && r % 100 < 6  ? FAKE_EOS
               : d->n > 1 && r % 100 < 20 ? FAKE_BLANK_LINE
               : r % 100 < 22             ? '7'
                                          : 'a' + (int32_t)(r % 26);
    d->logprob = -(float)((r >> 32) % 4096) / 1024;
    d->n++;
    if (d->token == FAKE_EOS)
        d->eos = true;
    else
        put_token_text(&d->text, d->token);
    for (const struct pd_json *s = pd_json_first(d->stops); s && !d->eos; s = pd_json_next(s))
        if (pd_str_find(pd_buf_str(&d->text), pd_str_of(pd_json_string(s))) >= 0)
            d->stopped_by = pd_json_string(s);
    d->over = d->eos || d->stopped_by || d->n >= d->max;
}

/* ---- sockets ------------------------------------------------------------------------------------ */

static void say(struct conn *c, struct pd_str s)
{
    size_t piece = c->fault.kind == FAKE_BYTES ? 1 : s.len;

    for (size_t at = 0; at < s.len && !c->broken;) {
        size_t n = s.len - at < piece ? s.len - at : piece;
        ssize_t sent = send(c->fd, s.ptr + at, n, MSG_NOSIGNAL);

        if (sent <= 0) {
            c->broken = true;
            atomic_store(&c->f->closed_ns, pd_clock_now_ns());
        } else {
            at += (size_t)sent;
        }
    }
}

static void sayf(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void sayf(struct conn *c, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    need(vasprintf(&text, fmt, args) >= 0, "memory");
    va_end(args);
    say(c, pd_str_of(text));
    free(text);
}

static void drop(struct conn *c, bool reset)
{
    struct linger now = {1, 0};

    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    c->broken = true;
}

/* Waits until the client closes. */
static void stall(struct conn *c)
{
    char byte;

    while (!atomic_load(&c->f->leaving)) {
        struct pollfd p = {c->fd, POLLIN, 0};

        if (poll(&p, 1, 20) > 0 && recv(c->fd, &byte, 1, MSG_DONTWAIT) <= 0)
            break;
    }
    atomic_store(&c->f->closed_ns, pd_clock_now_ns());
    c->broken = true;
}

static bool client_left(struct conn *c)
{
    char byte;

    if (recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
        atomic_store(&c->f->closed_ns, pd_clock_now_ns());
        c->broken = true;
    }
    return c->broken;
}

static void reply(struct conn *c, int status, const char *header, const char *body)
{
    sayf(c,
         "HTTP/1.1 %d X\r\nContent-Type: application/json; charset=utf-8\r\n%s%sContent-Length: "
         "%zu\r\n\r\n%s",
         status, header ? header : "", header ? "\r\n" : "", strlen(body), body);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static bool is(const struct conn *c, const char *dialect)
{
    return strcmp(c->f->c.dialect, dialect) == 0;
}

static void put_str(struct pd_jw *w, const char *key, struct pd_str s)
{
    pd_jw_key(w, key);
    pd_jw_str(w, s);
}

static void put_list(struct pd_jw *w, const char *key, double v, bool whole)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    if (whole)
        pd_jw_int(w, (int64_t)v);
    else
        pd_jw_double(w, v);
    pd_jw_end_array(w);
}

static void put_top(struct pd_jw *w, const struct fake_drawn *drawn)
{
    char key[32];

    pd_jw_key(w, "top_logprobs");
    pd_jw_array(w);
    pd_jw_object(w);
    for (size_t i = 0; i < drawn->n_top; i++) {
        snprintf(key, sizeof key, "token_id:%d", (int)drawn->top_ids[i]);
        pd_jw_key(w, key);
        pd_jw_double(w, (double)drawn->top_logprobs[i]);
    }
    pd_jw_end_object(w);
    pd_jw_end_array(w);
}

static void put_vllm_choice(struct pd_jw *w, const struct draw *d, struct pd_str text)
{
    pd_jw_object(w);
    pd_jw_key(w, "index");
    pd_jw_int(w, 0);
    put_str(w, "text", text);
    put_list(w, "token_ids", d->token, true);
    pd_jw_key(w, "logprobs");
    pd_jw_object(w);
    put_list(w, "token_logprobs", (double)d->logprob, false);
    if (d->drawn.n_top)
        put_top(w, &d->drawn);
    pd_jw_end_object(w);
    pd_jw_key(w, "finish_reason");
    pd_jw_strz(w, !d->over ? NULL : d->eos || d->stopped_by ? "stop" : "length");
    pd_jw_key(w, "stop_reason");
    pd_jw_strz(w, d->stopped_by);
    pd_jw_end_object(w);
}

static void put_chat_choice(struct pd_jw *w, const struct draw *d, struct pd_str text)
{
    pd_jw_object(w);
    pd_jw_key(w, "index");
    pd_jw_int(w, 0);
    pd_jw_key(w, "delta");
    pd_jw_object(w);
    put_str(w, "content", text);
    pd_jw_end_object(w);
    pd_jw_key(w, "logprobs");
    pd_jw_object(w);
    pd_jw_key(w, "content");
    pd_jw_array(w);
    if (text.len) {
        pd_jw_object(w);
        put_str(w, "token", text);
        pd_jw_key(w, "logprob");
        pd_jw_double(w, (double)d->logprob);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    pd_jw_end_object(w);
    pd_jw_key(w, "finish_reason");
    pd_jw_strz(w, !d->over ? NULL : d->eos || d->stopped_by ? "stop" : "length");
    pd_jw_end_object(w);
}

static void put_usage(struct pd_jw *w, const struct draw *d)
{
    pd_jw_key(w, "usage");
    pd_jw_object(w);
    pd_jw_key(w, "prompt_tokens");
    pd_jw_uint(w, d->n_prompt);
    pd_jw_key(w, "completion_tokens");
    pd_jw_uint(w, d->n);
    pd_jw_key(w, "prompt_tokens_details");
    pd_jw_object(w);
    pd_jw_key(w, "cached_tokens");
    pd_jw_uint(w, d->n_prompt / 2);
    pd_jw_end_object(w);
    pd_jw_end_object(w);
}

static void put_llama_counts(struct pd_jw *w, const struct draw *d)
{
    pd_jw_key(w, "stop_type");
    pd_jw_strz(w, d->eos ? "eos" : d->stopped_by ? "word" : "limit");
    pd_jw_key(w, "tokens_predicted");
    pd_jw_uint(w, d->n);
    pd_jw_key(w, "tokens_evaluated");
    pd_jw_uint(w, d->n_prompt);
    pd_jw_key(w, "truncated");
    pd_jw_bool(w, false);
}

static void put_llama(struct pd_jw *w, const struct draw *d, struct pd_str text, bool last,
                      bool stream)
{
    put_str(w, "content", text);
    pd_jw_key(w, "tokens");
    pd_jw_array(w);
    if (!last || !stream)
        pd_jw_int(w, d->token);
    pd_jw_end_array(w);
    pd_jw_key(w, "stop");
    pd_jw_bool(w, last);
    if (!last || !stream) {
        pd_jw_key(w, "completion_probabilities");
        pd_jw_array(w);
        pd_jw_object(w);
        pd_jw_key(w, "id");
        pd_jw_int(w, d->token);
        pd_jw_key(w, "logprob");
        pd_jw_double(w, (double)d->logprob);
        pd_jw_key(w, "top_logprobs");
        pd_jw_array(w);
        for (int id = 'a'; id <= 'z' && !stream; id++) { /* the further on, the less likely */
            pd_jw_object(w);
            pd_jw_key(w, "id");
            pd_jw_int(w, id);
            pd_jw_key(w, "logprob");
            pd_jw_double(w, 'a' - 1 - id);
            pd_jw_end_object(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_object(w);
        pd_jw_end_array(w);
    }
    if (last)
        put_llama_counts(w, d);
}

static void put_sglang(struct pd_jw *w, const struct draw *d, const float *logprobs, bool stream)
{
    const int32_t *ids = (const int32_t *)(const void *)d->ids.data + d->n_prompt;

    put_str(w, "text", pd_buf_str(&d->text));
    pd_jw_key(w, "output_ids");
    pd_jw_array(w);
    for (size_t i = 0; i < d->n; i++)
        pd_jw_int(w, ids[i]);
    pd_jw_end_array(w);
    pd_jw_key(w, "meta_info");
    pd_jw_object(w);
    pd_jw_key(w, "prompt_tokens");
    pd_jw_uint(w, d->n_prompt);
    pd_jw_key(w, "completion_tokens");
    pd_jw_uint(w, d->n);
    pd_jw_key(w, "cached_tokens");
    pd_jw_uint(w, 0);
    pd_jw_key(w, "output_token_logprobs");
    pd_jw_array(w);
    for (size_t i = 0; i < d->n; i++) {
        pd_jw_array(w);
        pd_jw_double(w, (double)logprobs[i]);
        pd_jw_int(w, ids[i]);
        pd_jw_null(w);
        pd_jw_end_array(w);
    }
    pd_jw_end_array(w);
    if (!stream) {
        pd_jw_key(w, "output_top_logprobs");
        pd_jw_array(w);
        pd_jw_array(w);
        for (int id = 'a'; id <= 'z'; id++) {
            pd_jw_array(w);
            pd_jw_double(w, 'a' - 1 - id);
            pd_jw_int(w, id);
            pd_jw_null(w);
            pd_jw_end_array(w);
        }
        pd_jw_end_array(w);
        pd_jw_end_array(w);
    }
    pd_jw_key(w, "finish_reason");
    if (d->over) {
        pd_jw_object(w);
        pd_jw_key(w, "type");
        pd_jw_strz(w, d->eos || d->stopped_by ? "stop" : "length");
        pd_jw_key(w, "matched");
        if (d->eos)
            pd_jw_int(w, FAKE_EOS);
        else
            pd_jw_strz(w, d->stopped_by);
        pd_jw_end_object(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_end_object(w);
}

static void put_anthropic(struct pd_jw *w, struct pd_str text)
{
    put_str(w, "type", PD_STR("content_block_delta"));
    pd_jw_key(w, "index");
    pd_jw_int(w, 0);
    pd_jw_key(w, "delta");
    pd_jw_object(w);
    put_str(w, "type", PD_STR("text_delta"));
    put_str(w, "text", text);
    pd_jw_end_object(w);
}

static void put_part(struct conn *c, struct pd_jw *w, const struct draw *d, const float *logprobs,
                     struct pd_str text, bool stream)
{
    pd_jw_object(w);
    if (is(c, "vllm") || is(c, "openai")) {
        pd_jw_key(w, "choices");
        pd_jw_array(w);
        for (int i = 0; i < (c->fault.kind == FAKE_TWO_CHOICES ? 2 : 1); i++)
            if (is(c, "vllm"))
                put_vllm_choice(w, d, text);
            else
                put_chat_choice(w, d, text);
        pd_jw_end_array(w);
        if (!stream)
            put_usage(w, d);
    } else if (is(c, "anthropic")) {
        put_anthropic(w, text);
    } else if (is(c, "sglang")) {
        put_sglang(w, d, logprobs, stream);
    } else {
        put_llama(w, d, text, !stream, stream);
    }
    pd_jw_end_object(w);
}

static const char *error_of(const struct conn *c)
{
    return is(c, "sglang")
               ? "{\"object\":\"error\",\"message\":\"the cache is full\",\"type\":"
                 "\"InternalServerError\",\"param\":null,\"code\":500}"
           : is(c, "anthropic")
               ? "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
                 "\"the cache is full\"},\"request_id\":\"req_1\"}"
           : is(c, "llama-server")
               ? "{\"error\":{\"code\":500,\"message\":\"the cache is full\",\"type\":"
                 "\"server_error\"}}"
               : "{\"error\":{\"message\":\"the cache is full\",\"type\":\"InternalServerError\","
                 "\"param\":null,\"code\":500}}";
}

/* One event, as a chunk. */
static void event(struct conn *c, struct pd_str data)
{
    struct pd_buf b = PD_BUF_INIT(BODY_MAX);
    const char *end = c->fault.kind == FAKE_CRLF ? "\r\n" : "\n";

    if (c->broken)
        return;
    if (c->fault.kind == FAKE_CRLF)
        pd_buf_addz(&b, ": ping\r\nid: 7\r\nretry: 100\r\nevent: message\r\n");
    pd_buf_printf(&b, "data: %.*s%s%s", (int)data.len, data.ptr, end, end);
    sayf(c, "%zx\r\n", b.len);
    say(c, pd_buf_str(&b));
    say(c, PD_STR("\r\n"));
    pd_buf_done(&b);
    c->n_events++;
}

/* What is to go wrong behind so many events does. */
static void fault_now(struct conn *c)
{
    if (c->broken || c->n_events != c->fault.n)
        return;
    switch (c->fault.kind) {
    case FAKE_CUT:
        drop(c, false);
        break;
    case FAKE_RESET:
        drop(c, true);
        break;
    case FAKE_STALL:
        stall(c);
        break;
    case FAKE_ERROR:
        event(c, pd_str_of(error_of(c)));
        event(c, PD_STR("[DONE]"));
        say(c, PD_STR("0\r\n\r\n"));
        drop(c, false);
        break;
    case FAKE_GARBAGE:
        event(c, PD_STR("{\"choices\":[{\"text\":\"half of"));
        break;
    default:
        break;
    }
}

static void sleep_us(unsigned us)
{
    struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};

    if (us)
        nanosleep(&t, NULL);
}

static void eventf(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void eventf(struct conn *c, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    need(vasprintf(&text, fmt, args) >= 0, "memory");
    va_end(args);
    event(c, pd_str_of(text));
    free(text);
}

/* What is before and behind the text; faults count the events of the text. */
static void begin_anthropic(struct conn *c, const struct draw *d)
{
    eventf(c,
           "{\"type\":\"message_start\",\"message\":{\"role\":\"assistant\",\"usage\":{"
           "\"input_tokens\":%zu,\"cache_read_input_tokens\":%zu,\"output_tokens\":1}}}",
           d->n_prompt - d->n_prompt / 2, d->n_prompt / 2);
    eventf(c, "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","
              "\"text\":\"\"}}");
    eventf(c, "{\"type\":\"ping\"}");
    c->n_events = 0;
}

static void end_anthropic(struct conn *c, const struct draw *d)
{
    eventf(c, "{\"type\":\"content_block_stop\",\"index\":0}");
    if (c->fault.kind != FAKE_NO_FINAL)
        eventf(c,
               "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\"},\"usage\":{"
               "\"output_tokens\":%zu}}",
               d->eos          ? "end_turn"
               : d->stopped_by ? "stop_sequence"
                               : "max_tokens",
               d->n);
    if (c->fault.kind == FAKE_LATE_CUT)
        drop(c, false);
    eventf(c, "{\"type\":\"message_stop\"}");
}

static void answer(struct conn *c, struct draw *d, bool stream)
{
    struct pd_buf part = PD_BUF_INIT(BODY_MAX);
    float *logprobs = calloc(d->max + 1, sizeof *logprobs);
    struct pd_jw w;

    need(logprobs != NULL, "memory");
    if (stream)
        sayf(c, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
             c->fault.kind == FAKE_TYPE ? "text/html" : "text/event-stream; charset=utf-8");
    if (is(c, "anthropic"))
        begin_anthropic(c, d);
    while (!d->over && !c->broken) {
        size_t before = d->text.len;

        fault_now(c);
        if (c->broken || client_left(c))
            break;
        sleep_us(c->f->c.token_us);
        draw_token(d, c->f->c.length);
        logprobs[d->n - 1] = d->logprob;
        pd_buf_add(&d->ids, &d->token, sizeof d->token);
        if (!stream)
            continue;
        if (d->over && c->fault.kind == FAKE_NO_FINAL)
            break;
        pd_buf_clear(&part);
        pd_jw_init(&w, &part);
        put_part(c, &w, d, logprobs, pd_str_sub(pd_buf_str(&d->text), before, d->text.len), true);
        event(c, pd_buf_str(&part));
    }
    if (stream && !c->broken && is(c, "llama-server") && c->fault.kind != FAKE_NO_FINAL) {
        pd_buf_clear(&part);
        pd_jw_init(&w, &part);
        pd_jw_object(&w);
        put_llama(&w, d, PD_STR(""), true, true);
        pd_jw_end_object(&w);
        event(c, pd_buf_str(&part));
    }
    if (is(c, "anthropic"))
        end_anthropic(c, d);
    if (c->fault.kind == FAKE_LATE_CUT)
        drop(c, false);
    if (stream && !c->broken && (is(c, "vllm") || is(c, "openai"))) {
        pd_buf_clear(&part);
        pd_jw_init(&w, &part);
        pd_jw_object(&w);
        pd_jw_key(&w, "choices");
        pd_jw_array(&w);
        pd_jw_end_array(&w);
        put_usage(&w, d);
        pd_jw_end_object(&w);
        event(c, pd_buf_str(&part));
    }
    if (stream && !is(c, "llama-server") && !is(c, "anthropic"))
        event(c, PD_STR("[DONE]"));
    if (stream) {
        say(c, PD_STR("0\r\n\r\n"));
    } else {
        pd_buf_clear(&part);
        pd_jw_init(&w, &part);
        put_part(c, &w, d, logprobs, pd_buf_str(&d->text), false);
        reply(c, 200, NULL, pd_buf_str(&part).ptr);
    }
    free(logprobs);
    pd_buf_done(&part);
}

static int64_t number(const struct pd_json *v, const char *a, const char *b, int64_t none)
{
    int64_t n;

    if (pd_json_int(pd_json_get(v, a), &n) || pd_json_int(pd_json_get(v, b), &n))
        return n;
    return none;
}

static void ask_model(struct conn *c, const struct pd_json *q, struct draw *d)
{
    const char *stops[STOPS_MAX + 1] = {NULL}, *seed = strstr(c->body.data, "\"seed\":");
    size_t n = 0;

    for (const struct pd_json *s = pd_json_first(d->stops); s && n < STOPS_MAX;
         s = pd_json_next(s))
        stops[n++] = pd_json_string(s);
    d->model->draw(d->model->self,
                   &(struct fake_ask){.ids = (const int32_t *)(const void *)d->ids.data,
                                      .n_ids = d->n_prompt,
                                      .max_tokens = (uint32_t)d->max,
                                      .n_top = (uint32_t)number(q, "logprobs", "logprobs", 0),
                                      /* a number of JSON has no 64 bits */
                                      .seed = seed ? (uint64_t)strtoll(seed + 7, NULL, 10) : 0,
                                      .request = q,
                                      .stops = stops},
                   &d->drawn);
    d->over = d->drawn.n == 0;
}

static void generate(struct conn *c, const struct pd_json *q)
{
    const struct pd_json *how = is(c, "sglang") ? pd_json_get(q, "sampling_params") : q;
    const struct pd_json *ids = pd_json_get(q, is(c, "sglang") ? "input_ids" : "prompt");
    struct draw d = {.ids = PD_BUF_INIT(BODY_MAX), .text = PD_BUF_INIT(BODY_MAX)};
    bool stream = false;

    pd_json_bool(pd_json_get(q, "stream"), &stream);
    if (pd_json_string(pd_json_get(pd_json_at(pd_json_get(q, "messages"), 0), "content"))) {
        const char *text =
            pd_json_string(pd_json_get(pd_json_at(pd_json_get(q, "messages"), 0), "content"));

        for (; *text; text++, d.n_prompt++)
            d.state = mix(d.state + (unsigned char)*text);
    }
    for (const struct pd_json *v = pd_json_first(ids); v; v = pd_json_next(v)) {
        int64_t id;
        int32_t token;

        need(pd_json_int(v, &id), "a prompt of ids");
        token = (int32_t)id;
        pd_buf_add(&d.ids, &token, sizeof token);
        d.state = mix(d.state + (uint64_t)id + 1);
        d.n_prompt++;
    }
    d.max = (size_t)number(how, "max_tokens", "n_predict", number(how, "max_new_tokens",
                                                                  "max_completion_tokens", 16));
    d.seed = (uint64_t)number(how, "seed", "seed", 1);
    d.stops = pd_json_get(how, "stop");
    d.model = c->f->c.model;
    if (d.model)
        ask_model(c, q, &d);
    answer(c, &d, stream);
    pd_buf_done(&d.ids);
    pd_buf_done(&d.text);
    free(d.drawn.ids);
    free(d.drawn.logprobs);
    free(d.drawn.top_ids);
    free(d.drawn.top_logprobs);
}

/* ---- other routes ------------------------------------------------------------------------------- */

static void put_text_tokens(struct pd_jw *w, struct pd_str text, bool special)
{
    for (size_t i = 0; i < text.len; i++) {
        struct pd_str rest = pd_str_sub(text, i, text.len);

        if (special && pd_str_starts(rest, PD_STR("<eos>"))) {
            pd_jw_int(w, FAKE_EOS);
            i += 4;
        } else if (pd_str_starts(rest, PD_STR("\n\n"))) {
            pd_jw_int(w, FAKE_BLANK_LINE);
            i++;
        } else {
            pd_jw_int(w, (unsigned char)text.ptr[i]);
        }
    }
}

static void put_rendered(struct pd_buf *out, const struct pd_json *messages)
{
    for (const struct pd_json *m = pd_json_first(messages); m; m = pd_json_next(m)) {
        const char *role = pd_json_string(pd_json_get(m, "role")),
                   *content = pd_json_string(pd_json_get(m, "content"));

        pd_buf_printf(out, "<%s>%s<eos>", role ? role : "", content ? content : "");
    }
    pd_buf_addz(out, "<assistant>");
}

static void tokenize_by_model(struct conn *c, const struct fake_model *m, const struct pd_json *q)
{
    struct pd_buf out = PD_BUF_INIT(BODY_MAX);
    int32_t *ids = NULL;
    size_t n = 0;
    struct pd_jw w;

    m->tokenize(m->self, q, &ids, &n);
    pd_jw_init(&w, &out);
    pd_jw_object(&w);
    pd_jw_key(&w, "tokens");
    pd_jw_array(&w);
    for (size_t i = 0; i < n; i++)
        pd_jw_int(&w, ids[i]);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    reply(c, 200, NULL, pd_buf_str(&out).ptr);
    pd_buf_done(&out);
    free(ids);
}

static void tokenize(struct conn *c, const struct pd_json *q)
{
    const char *text = pd_json_string(pd_json_get(q, "content"));
    struct pd_buf out = PD_BUF_INIT(BODY_MAX), rendered = PD_BUF_INIT(BODY_MAX);
    bool special = true;
    struct pd_jw w;

    if (c->f->c.model) {
        tokenize_by_model(c, c->f->c.model, q);
        return;
    }
    text = text ? text : pd_json_string(pd_json_get(q, "prompt"));
    pd_json_bool(pd_json_get(q, "parse_special"), &special);
    if (!text) {
        put_rendered(&rendered, pd_json_get(q, "messages"));
        text = pd_buf_str(&rendered).ptr;
    }
    pd_jw_init(&w, &out);
    pd_jw_object(&w);
    pd_jw_key(&w, "tokens");
    pd_jw_array(&w);
    put_text_tokens(&w, pd_str_of(text), special);
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    reply(c, 200, NULL, pd_buf_str(&out).ptr);
    pd_buf_done(&out);
    pd_buf_done(&rendered);
}

static void detokenize(struct conn *c, const struct pd_json *q)
{
    struct pd_buf text = PD_BUF_INIT(BODY_MAX), out = PD_BUF_INIT(BODY_MAX);
    struct pd_jw w;

    for (const struct pd_json *v = pd_json_first(pd_json_get(q, "tokens")); v;
         v = pd_json_next(v)) {
        int64_t id = 0;
        int32_t token;

        pd_json_int(v, &id);
        token = (int32_t)id;
        if (c->f->c.model)
            c->f->c.model->detokenize(c->f->c.model->self, &token, 1, &text);
        else
            put_token_text(&text, token);
    }
    pd_jw_init(&w, &out);
    pd_jw_object(&w);
    put_str(&w, is(c, "llama-server") ? "content" : is(c, "sglang") ? "text" : "prompt",
            pd_buf_str(&text)); /* what is no character becomes U+FFFD */
    pd_jw_end_object(&w);
    reply(c, 200, NULL, pd_buf_str(&out).ptr);
    pd_buf_done(&text);
    pd_buf_done(&out);
}

static void render(struct conn *c, const struct pd_json *q)
{
    struct pd_buf text = PD_BUF_INIT(BODY_MAX), out = PD_BUF_INIT(BODY_MAX);
    struct pd_jw w;

    put_rendered(&text, pd_json_get(q, "messages"));
    pd_jw_init(&w, &out);
    pd_jw_object(&w);
    put_str(&w, "prompt", pd_buf_str(&text));
    pd_jw_end_object(&w);
    reply(c, 200, NULL, pd_buf_str(&out).ptr);
    pd_buf_done(&text);
    pd_buf_done(&out);
}

static bool takes_key(struct conn *c, const char *head)
{
    char want[256];

    snprintf(want, sizeof want, "\r\n%s %s\r\n",
             is(c, "anthropic") ? "x-api-key:" : "Authorization: Bearer",
             c->f->c.key ? c->f->c.key : "");
    return !c->f->c.key || strcasestr(head, want);
}

static void note_request(struct conn *c, const char *head)
{
    struct fake_engine *f = c->f;
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->n_generated++;
    if (n >= f->fault.request && n - f->fault.request < (f->fault.times ? f->fault.times : 1))
        c->fault = f->fault;
    pd_buf_clear(&f->head);
    pd_buf_clear(&f->body);
    pd_buf_addz(&f->head, head);
    pd_buf_adds(&f->body, pd_buf_str(&c->body));
    pthread_mutex_unlock(&f->lock);
}

static void list_models(struct conn *c)
{
    char text[128];

    snprintf(text, sizeof text,
             "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"max_model_len\":%zu}]}",
             c->f->c.model ? c->f->c.model->n_ctx : 4096);
    reply(c, 200, NULL, text);
}

static void route(struct conn *c, const char *head)
{
    static const char *const paths[] = {"/v1/completions ", "/generate ", "/completion ",
                                        "/v1/chat/completions ", "/v1/messages "};
    const char *path = strchr(head, ' ') + 1;
    struct pd_json *q = NULL;
    bool generates = false;

    pd_json_parse(pd_buf_str(&c->body), &q, NULL);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        generates |= strncmp(path, paths[i], strlen(paths[i])) == 0;
    if (generates) /* the probe of llama-server, too */
        note_request(c, head);
    if (is(c, "silent"))
        stall(c);
    else if (!takes_key(c, head))
        reply(c, 401, NULL, "{\"error\":{\"message\":\"no such key\",\"code\":401}}");
    else if (c->fault.kind == FAKE_CLOSE)
        drop(c, false);
    else if (c->fault.kind == FAKE_STATUS)
        reply(c, c->fault.n, c->fault.header, c->fault.text);
    else if (generates)
        generate(c, q);
    else if (strncmp(path, "/v1/models ", 11) == 0)
        list_models(c);
    else if (strncmp(path, "/props ", 7) == 0)
        reply(c, 200, NULL,
              "{\"default_generation_settings\":{\"n_ctx\":4096},\"eos_token\":\"<eos>\"}");
    else if (strncmp(path, "/tokenize ", 10) == 0)
        tokenize(c, q);
    else if (strncmp(path, "/detokenize ", 12) == 0)
        detokenize(c, q);
    else if (strncmp(path, "/apply-template ", 16) == 0)
        render(c, q);
    else
        reply(c, 404, NULL, "{\"detail\":\"Not Found\"}");
    pd_json_free(q);
}

/* ---- life --------------------------------------------------------------------------------------- */

/* Until `want` bytes, or (0) the end of a head, are there: their number, 0 when the client left. */
static size_t read_more(struct conn *c, size_t want)
{
    for (;;) {
        ptrdiff_t end = pd_str_find(pd_buf_str(&c->in), PD_STR("\r\n\r\n"));
        struct pollfd p = {c->fd, POLLIN, 0};
        char bytes[65536];
        ssize_t n;

        if (!want && end >= 0)
            return (size_t)end + 4;
        if (want && c->in.len >= want)
            return want;
        if (atomic_load(&c->f->leaving))
            return 0;
        if (poll(&p, 1, 50) <= 0)
            continue;
        n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n <= 0)
            return 0;
        pd_buf_add(&c->in, bytes, (size_t)n);
    }
}

static void take(struct conn *c, struct pd_buf *out, size_t n)
{
    pd_buf_clear(out);
    pd_buf_add(out, c->in.data, n);
    memmove(c->in.data, c->in.data + n, c->in.len - n + 1);
    c->in.len -= n;
}

static void *serve(void *arg)
{
    struct conn *c = arg;
    struct pd_buf head = PD_BUF_INIT(BODY_MAX);
    size_t n;

    c->in = c->body = (struct pd_buf)PD_BUF_INIT(BODY_MAX);
    while (!c->broken && (n = read_more(c, 0))) {
        const char *length;

        take(c, &head, n);
        length = strcasestr(head.data, "\r\nContent-Length: ");
        n = length ? strtoul(length + 18, NULL, 10) : 0;
        if (n && !read_more(c, n))
            break;
        if (n)
            take(c, &c->body, n);
        else
            pd_buf_clear(&c->body);
        c->fault = (struct fake_fault){.kind = FAKE_NONE};
        c->n_events = 0;
        route(c, head.data);
    }
    close(c->fd);
    atomic_fetch_sub(&c->f->n_open, 1);
    pd_buf_done(&head);
    pd_buf_done(&c->in);
    pd_buf_done(&c->body);
    free(c);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct fake_engine *f = arg;
    pthread_attr_t attr;
    int one = 1;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    while (!atomic_load(&f->leaving)) {
        struct pollfd p = {f->listener, POLLIN, 0};
        struct conn *c;
        pthread_t t;
        int fd;

        if (poll(&p, 1, 20) <= 0)
            continue;
        fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        atomic_fetch_add(&f->n_connections, 1);
        atomic_fetch_add(&f->n_open, 1);
        c = calloc(1, sizeof *c);
        need(c != NULL, "memory");
        c->f = f;
        c->fd = fd;
        need(pthread_create(&t, &attr, serve, c) == 0, "a thread");
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

struct fake_engine *fake_engine_start(const struct fake_config *config)
{
    struct fake_engine *f = calloc(1, sizeof *f);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(config->port)};
    socklen_t len = sizeof at;
    int one = 1;

    need(f != NULL, "memory");
    f->c = *config;
    f->head = f->body = (struct pd_buf)PD_BUF_INIT(BODY_MAX);
    pthread_mutex_init(&f->lock, NULL);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(f->listener >= 0, "a socket");
    setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    need(bind(f->listener, (struct sockaddr *)&at, sizeof at) == 0 &&
             listen(f->listener, 4096) == 0 &&
             getsockname(f->listener, (struct sockaddr *)&at, &len) == 0,
         "listening");
    f->port = ntohs(at.sin_port);
    need(pthread_create(&f->thread, NULL, accept_all, f) == 0, "a thread");
    return f;
}

void fake_engine_stop(struct fake_engine *f)
{
    atomic_store(&f->leaving, true);
    pthread_join(f->thread, NULL);
    while (atomic_load(&f->n_open)) /* each sees it within its poll */
        sleep_us(1000);
    close(f->listener);
    pd_buf_done(&f->head);
    pd_buf_done(&f->body);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

uint16_t fake_engine_port(const struct fake_engine *f)
{
    return f->port;
}

void fake_engine_fault(struct fake_engine *f, const struct fake_fault *fault)
{
    pthread_mutex_lock(&f->lock);
    f->fault = *fault;
    f->n_generated = 0;
    pthread_mutex_unlock(&f->lock);
}

unsigned fake_engine_generated(struct fake_engine *f)
{
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->n_generated;
    pthread_mutex_unlock(&f->lock);
    return n;
}

unsigned fake_engine_connections(struct fake_engine *f)
{
    return atomic_load(&f->n_connections);
}

unsigned fake_engine_open(struct fake_engine *f)
{
    return atomic_load(&f->n_open);
}

const char *fake_engine_head(struct fake_engine *f)
{
    return pd_buf_str(&f->head).ptr;
}

const char *fake_engine_body(struct fake_engine *f)
{
    return pd_buf_str(&f->body).ptr;
}

int64_t fake_engine_closed_ns(struct fake_engine *f)
{
    return atomic_load(&f->closed_ns);
}

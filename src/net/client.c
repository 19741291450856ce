#include "net/client.h"

#include <assert.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"

#define BACKOFF_NS      (500 * PD_NS_PER_MS)
#define DELAY_MAX_NS    (120 * PD_NS_PER_S)
#define PROBE_NS        (15 * PD_NS_PER_S)
#define OPEN_FAILURES   5
#define GROW_SUCCESSES  20
#define TICK_MS         20 /* how late a repetition goes out, or a stall is seen */
#define INFLATE_MAX     64
#define INFLATE_FREE    65536 /* bytes that may come of anything */
#define ERROR_BODY_MAX  65536
#define QUOTED_MAX      512
#define EVENTS_AT_ONCE  256
#define KEEPALIVE_S     30L

struct net_client {
    CURLM *multi;
    int epoll, wake;
    pthread_t thread;
    bool running;
    struct pd_queue inbox;
    atomic_bool leaving, ending, cancels; /* ending: all calls end; cancels: some call wants to */
    int64_t curl_timer_ns;        /* PD_NEVER_NS: none */
    _Atomic(struct net_host *) hosts; /* newest first; they stay */
    uint64_t n_draws; /* of jitter */
};

struct call_list {
    struct net_call *head, **tail;
    size_t n;
};

struct net_host {
    struct net_client *client;
    struct net_host *next;
    struct net_host_config c;
    struct curl_slist *headers;
    struct call_list waiting, wired;
    unsigned limit, successes; /* in flight at most; since the limit last changed */
    unsigned failures;         /* in a row; from OPEN_FAILURES on the circuit is open */
    int64_t probe_at_ns;
    bool probing;
};

struct net_transfer { /* one attempt */
    CURL *easy;
    char *url;
    struct net_call *call;
    int64_t last_ns; /* when something came */
    bool first;      /* something has come */
    bool probe;
    int data_rc;
    size_t n_bytes;
    int64_t retry_after_ns; /* -1: not said */
};

/* ---- lists ---------------------------------------------------------------------------------- */

static void list_init(struct call_list *l)
{
    *l = (struct call_list){.tail = &l->head};
}

static void list_add(struct call_list *l, struct net_call *call)
{
    call->next = NULL;
    *l->tail = call;
    l->tail = &call->next;
    l->n++;
}

static void list_remove(struct call_list *l, struct net_call *call)
{
    struct net_call **at = &l->head;

    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    if (l->tail == &call->next)
        l->tail = at;
    l->n--;
}

/* ---- what an answer says ---------------------------------------------------------------------- */

static void put_escaped(struct pd_buf *out, struct pd_str s)
{
    struct pd_str cut = pd_str_sub(s, 0, QUOTED_MAX);

    if (cut.len < s.len)
        cut.len = pd_utf8_complete(cut);
    for (size_t i = 0; i < cut.len; i++)
        if ((unsigned char)cut.ptr[i] < 32 || cut.ptr[i] == 127)
            pd_buf_printf(out, "\\x%02x", (unsigned char)cut.ptr[i]);
        else
            pd_buf_addc(out, cut.ptr[i]);
    if (cut.len < s.len)
        pd_buf_addz(out, "…");
}

static void code_text(const struct pd_json *v, char code[NET_CODE_MAX])
{
    int64_t n;

    if (pd_json_string(v))
        snprintf(code, NET_CODE_MAX, "%s", pd_json_string(v));
    else if (pd_json_int(v, &n))
        snprintf(code, NET_CODE_MAX, "%lld", (long long)n);
}

void net_error_text(struct pd_str body, struct pd_buf *out, char code[NET_CODE_MAX])
{
    struct pd_json *root = NULL;
    const struct pd_json *e, *detail;
    const char *message = NULL;
    char none[NET_CODE_MAX];

    code = code ? code : none;
    code[0] = '\0';
    if (pd_json_parse(pd_str_trim(body), &root, NULL) < 0) {
        put_escaped(out, pd_str_trim(body));
        return;
    }
    e = pd_json_get(root, "error");
    detail = pd_json_get(root, "detail");
    e = pd_json_is_object(e) ? e : root; /* nested, or flat */
    message = pd_json_string(pd_json_get(e, "message"));
    message = message ? message : pd_json_string(pd_json_get(root, "error"));
    message = message ? message : pd_json_string(detail);
    code_text(pd_json_get(e, "type"), code);
    code_text(pd_json_get(e, "code"), code);
    if (!message && pd_json_is_array(detail)) { /* of a checked body: where, and what is wrong */
        for (const struct pd_json *d = pd_json_first(detail); d; d = pd_json_next(d)) {
            const char *msg = pd_json_string(pd_json_get(d, "msg"));
            const struct pd_json *loc = pd_json_get(d, "loc");

            if (out->len)
                pd_buf_addz(out, "; ");
            for (size_t i = 0; i < pd_json_size(loc); i++) {
                const char *at = pd_json_string(pd_json_at(loc, i));
                int64_t n;

                if (at)
                    pd_buf_printf(out, "%s%s", i ? "." : "", at);
                else if (pd_json_int(pd_json_at(loc, i), &n))
                    pd_buf_printf(out, "%s%lld", i ? "." : "", (long long)n);
            }
            pd_buf_addz(out, ": ");
            put_escaped(out, pd_str_of(msg ? msg : "invalid"));
        }
    } else {
        put_escaped(out, message ? pd_str_of(message) : pd_str_trim(body));
    }
    pd_json_free(root);
}

void net_host_redact(const struct net_host *h, struct pd_buf *text)
{
    struct pd_str key = pd_str_of(h->c.key);
    ptrdiff_t at;

    while (key.len && (at = pd_str_find(pd_buf_str(text), key)) >= 0) {
        struct pd_buf copy = PD_BUF_INIT(text->max);
        struct pd_str all = pd_buf_str(text);

        pd_buf_adds(&copy, pd_str_sub(all, 0, (size_t)at));
        pd_buf_addz(&copy, "***");
        pd_buf_adds(&copy, pd_str_sub(all, (size_t)at + key.len, all.len));
        pd_buf_done(text);
        *text = copy;
    }
}

/* ---- one attempt ------------------------------------------------------------------------------ */

static void content_type(struct net_transfer *t)
{
    const char *type = NULL;
    size_t n = 0;

    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    for (; type && type[n] && type[n] != ';' && type[n] != ' ' &&
           n + 1 < sizeof t->call->content_type;
         n++)
        t->call->content_type[n] = (char)tolower((unsigned char)type[n]);
    t->call->content_type[n] = '\0';
}

static bool inflates(struct net_transfer *t)
{
    curl_off_t raw = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &raw);
    return t->n_bytes > INFLATE_FREE && t->n_bytes / INFLATE_MAX > (size_t)raw;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *user)
{
    struct net_transfer *t = user;
    struct net_call *call = t->call;
    struct pd_str piece = {bytes, one * n};

    if (!t->first)
        call->first_ms = pd_clock_unix_ms();
    t->first = true;
    t->last_ns = pd_clock_now_ns();
    t->n_bytes += piece.len;
    if (!call->status) {
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &call->status);
        content_type(t);
    }
    if (call->status != 200) { /* of a long one the beginning says enough */
        pd_buf_adds(&call->error_body,
                    pd_str_sub(piece, 0, ERROR_BODY_MAX - call->error_body.len));
        return piece.len;
    }
    if (t->n_bytes > NET_BODY_MAX || inflates(t))
        t->data_rc = pd_fail(&call->err, PD_ELIMIT, "the answer is larger than %zu MiB, or than %d "
                             "times what was sent of it", NET_BODY_MAX >> 20, INFLATE_MAX);
    else
        t->data_rc = call->data(call, piece);
    return t->data_rc < 0 ? 0 : piece.len;
}

static int64_t retry_after(CURL *easy)
{
    struct curl_header *h = NULL;
    curl_off_t s = 0;
    double ms;

    if (curl_easy_header(easy, "retry-after-ms", 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
        pd_parse_double(pd_str_of(h->value), &ms) && ms >= 0)
        return ms * 1e6 < (double)DELAY_MAX_NS ? (int64_t)(ms * 1e6) : DELAY_MAX_NS;
    if (curl_easy_header(easy, "retry-after", 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
        return -1;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &s); /* seconds, or a date */
    return s * PD_NS_PER_S < DELAY_MAX_NS ? s * PD_NS_PER_S : DELAY_MAX_NS;
}

/* Ends what goes on, too: the connection is closed then. */
static void transfer_free(struct net_client *c, struct net_transfer *t)
{
    if (!t)
        return;
    if (t->easy)
        curl_multi_remove_handle(c->multi, t->easy);
    curl_easy_cleanup(t->easy);
    free(t->url);
    free(t);
}

static void end_call(struct net_call *call)
{
    pd_buf_done(&call->error_body);
    call->done(call);
}

/* Without having been on the wire (again). */
static void end_waiting(struct net_call *call)
{
    list_remove(&call->host->waiting, call);
    end_call(call);
}

static bool worth_repeating(long status)
{
    static const long again[] = {408, 425, 429, 500, 502, 503, 504, 529};

    for (size_t i = 0; i < sizeof again / sizeof *again; i++)
        if (again[i] == status)
            return true;
    return false;
}

static enum net_verdict judge_status(struct net_call *call, const struct net_transfer *t)
{
    struct net_host *h = call->host;
    struct pd_buf text = PD_BUF_INIT(ERROR_BODY_MAX * 8);
    char code[NET_CODE_MAX];
    bool quota;
    long s = call->status;

    if (s >= 300 && s < 400) {
        pd_fail(&call->err, PD_EREMOTE,
                "it redirects (status %ld); no redirect is followed: name the address it leads to",
                s);
        pd_buf_done(&text);
        return NET_DONE;
    }
    net_error_text(pd_buf_str(&call->error_body), &text, code);
    net_host_redact(h, &text);
    quota = s == 429 && (strcmp(code, "insufficient_quota") == 0 ||
                         /* a limit of spending does not say when to come again */
                         (strcmp(code, "rate_limit_error") == 0 && t->retry_after_ns < 0));
    pd_fail(&call->err,
            s == 401 || s == 403 || quota        ? PD_EPERM
            : s == 404                           ? PD_ENOENT
            : s == 400 || s == 413 || s == 422   ? PD_EINVAL
                                                 : PD_EREMOTE,
            "status %ld%s%s", s, text.len ? ": " : "", text.len ? text.data : "");
    pd_buf_done(&text);
    return worth_repeating(s) && !quota ? NET_AGAIN : NET_DONE;
}

static enum net_verdict judge(struct net_call *call, struct net_transfer *t, CURLcode code)
{
    long errno_value = 0;

    if (t->data_rc < 0) /* call->err says why */
        return NET_DONE;
    if (code == CURLE_OK && call->status == 200) {
        call->err.code = PD_OK;
        return NET_DONE;
    }
    if (code == CURLE_OK)
        return judge_status(call, t);
    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &errno_value);
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        pd_fail(&call->err, PD_ENOMEM, "out of memory");
        return NET_DONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        pd_fail(&call->err, PD_EREMOTE, "nobody answers (%s)",
                errno_value ? strerror((int)errno_value) : curl_easy_strerror(code));
        return NET_AGAIN;
    case CURLE_OPERATION_TIMEDOUT:
        pd_fail(&call->err, PD_EREMOTE, "no connection within %.3g s",
                (double)call->host->c.connect_ns / 1e9);
        return NET_AGAIN;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        pd_fail(&call->err, PD_EREMOTE, "the connection broke off (%s)", curl_easy_strerror(code));
        return NET_AGAIN;
    default: /* certificates, protocols, bad encodings: the next time would be the same */
        pd_fail(&call->err, PD_EREMOTE, "%s", curl_easy_strerror(code));
        return NET_DONE;
    }
}

static int64_t delay(struct net_call *call, int64_t retry_after_ns)
{
    struct net_host *h = call->host;
    int64_t base = h->c.backoff_ns ? h->c.backoff_ns : BACKOFF_NS, most;
    unsigned k = call->attempt - 1;

    if (retry_after_ns >= 0)
        return retry_after_ns;
    most = k < 20 && base << k < DELAY_MAX_NS ? base << k : DELAY_MAX_NS;
    return (int64_t)(pd_rng_uniform((uint64_t)(uintptr_t)h->client, h->client->n_draws++, 0) *
                     (double)most);
}

/* What the attempt's end says about the host. */
static void learn(struct net_host *h, const struct net_call *call, enum net_verdict verdict)
{
    if (call->status == 429 || call->status == 503) {
        h->limit = h->limit > 1 ? h->limit / 2 : 1;
        h->successes = 0;
    }
    if (verdict == NET_AGAIN && call->status != 429) {
        if (++h->failures >= OPEN_FAILURES)
            h->probe_at_ns =
                pd_clock_now_ns() + (h->c.probe_ns ? h->c.probe_ns : PROBE_NS);
        return;
    }
    h->failures = 0;
    if (call->err.code == PD_OK && ++h->successes >= GROW_SUCCESSES) {
        h->limit += h->limit < h->c.max_inflight;
        h->successes = 0;
    }
}

static void fail_waiting(struct net_host *h, const struct pd_err *err)
{
    struct net_call *next;

    for (struct net_call *call = h->waiting.head; call; call = next) {
        next = call->next;
        call->err = *err;
        end_waiting(call);
    }
}

/* The attempt is over with call->err and the client's verdict; what still moves of it is cut off. */
static void end_attempt(struct net_transfer *t, enum net_verdict verdict)
{
    struct net_call *call = t->call;
    struct net_host *h = call->host;
    int64_t retry_after_ns = t->retry_after_ns;
    bool probe = t->probe, failed_probe;
    struct pd_err err;

    call->ended_ms = pd_clock_unix_ms();
    call->transfer = NULL;
    list_remove(&h->wired, call);
    transfer_free(h->client, t);
    if (call->err.code != PD_OK && call->err.code != PD_ECANCEL)
        pd_err_context(&call->err, "%s", h->c.name);
    verdict = call->end ? call->end(call, verdict) : verdict;
    if (call->err.code != PD_ECANCEL)
        learn(h, call, verdict);
    failed_probe = probe && verdict == NET_AGAIN;
    h->probing = probe ? false : h->probing;
    err = call->err;
    if (verdict == NET_AGAIN && call->attempt < h->c.tries && !failed_probe) {
        call->not_before_ns = pd_clock_now_ns() + delay(call, retry_after_ns);
        list_add(&h->waiting, call);
    } else {
        end_call(call);
    }
    if (failed_probe)
        fail_waiting(h, &err);
}

static bool set_options(struct net_transfer *t)
{
    const struct net_host *h = t->call->host;
    CURL *e = t->easy;
    bool ok = asprintf(&t->url, "%s%s", h->c.url, t->call->path) >= 0;

    t->url = ok ? t->url : NULL;
    ok = ok && curl_easy_setopt(e, CURLOPT_URL, t->url) == CURLE_OK;
    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(h->c.connect_ns / PD_NS_PER_MS));
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, h->headers);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    if (t->call->body.ptr) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->call->body.len);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, t->call->body.ptr);
    }
    return ok;
}

static void launch(struct net_host *h, struct net_call *call, bool probe)
{
    struct net_transfer *t = calloc(1, sizeof *t);

    list_remove(&h->waiting, call);
    if (t) {
        t->call = call;
        t->probe = probe;
        t->easy = curl_easy_init();
        t->last_ns = pd_clock_now_ns();
        t->retry_after_ns = -1;
    }
    if (!t || !t->easy || !set_options(t)) {
        transfer_free(h->client, t);
        pd_fail(&call->err, PD_ENOMEM, "out of memory for a request");
        end_call(call);
        return;
    }
    h->probing |= probe;
    call->transfer = t;
    call->attempt++;
    call->status = 0;
    call->content_type[0] = '\0';
    call->err = (struct pd_err){0};
    pd_buf_clear(&call->error_body);
    call->started_ms = pd_clock_unix_ms();
    call->first_ms = call->ended_ms = 0;
    list_add(&h->wired, call);
    if (call->begin)
        call->begin(call);
    curl_multi_add_handle(h->client->multi, t->easy);
}

/* ---- the thread ------------------------------------------------------------------------------- */

static void take_inbox(struct net_client *c)
{
    struct pd_link *next;

    for (struct pd_link *l = pd_queue_take_all(&c->inbox); l; l = next) {
        struct net_call *call = pd_container_of(l, struct net_call, link);

        next = l->next;
        list_add(&call->host->waiting, call);
    }
}

static bool is_cancelled(const struct net_call *call)
{
    return atomic_load(&call->cancelled) || atomic_load(&call->host->client->ending);
}

static void end_cancelled(struct net_host *h)
{
    struct net_call *next;

    for (struct net_call *call = h->wired.head; call; call = next) {
        next = call->next;
        if (is_cancelled(call)) {
            pd_fail(&call->err, PD_ECANCEL, "cancelled");
            end_attempt(call->transfer, NET_DONE);
        }
    }
    for (struct net_call *call = h->waiting.head; call; call = next) {
        next = call->next;
        if (is_cancelled(call)) {
            pd_fail(&call->err, PD_ECANCEL, "cancelled");
            end_waiting(call);
        }
    }
}

static void end_stalled(struct net_host *h, int64_t now)
{
    struct net_call *next;

    for (struct net_call *call = h->wired.head; call; call = next) {
        struct net_transfer *t = call->transfer;
        int64_t limit = h->c.stall_ns * (t->first ? 1 : 2);

        next = call->next;
        if (now - t->last_ns < limit)
            continue;
        pd_fail(&call->err, PD_EREMOTE, "nothing came for %.3g s", (double)limit / 1e9);
        end_attempt(t, NET_AGAIN);
    }
}

/* Lets out what may go. */
static void pump(struct net_host *h, int64_t now)
{
    bool open = h->failures >= OPEN_FAILURES;
    struct net_call *next;

    for (struct net_call *call = h->waiting.head; call && h->wired.n < h->limit; call = next) {
        next = call->next;
        if (open && (h->probing || now < h->probe_at_ns))
            return;
        if (call->not_before_ns > now && !open)
            continue;
        launch(h, call, open);
    }
}

static void on_ended(struct net_client *c)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(c->multi, &left))) {
        struct net_transfer *t = NULL;
        CURLcode code = m->data.result;
        enum net_verdict verdict;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        if (!t->call->status) { /* an answer without a body */
            curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->call->status);
            content_type(t);
        }
        t->retry_after_ns = retry_after(t->easy);
        verdict = judge(t->call, t, code);
        end_attempt(t, verdict);
    }
}

static int timeout_ms(const struct net_client *c)
{
    int64_t now = pd_clock_now_ns(), ms = -1;

    for (const struct net_host *h = c->hosts; h; h = h->next)
        if (h->wired.n || h->waiting.n)
            ms = TICK_MS;
    if (c->curl_timer_ns != PD_NEVER_NS) {
        int64_t left = (c->curl_timer_ns - now + PD_NS_PER_MS - 1) / PD_NS_PER_MS;

        left = left < 0 ? 0 : left;
        ms = ms < 0 || left < ms ? left : ms;
    }
    return (int)ms;
}

static void *client_thread(void *arg)
{
    struct net_client *c = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    int running;

    while (!atomic_load(&c->leaving)) {
        int n = epoll_wait(c->epoll, events, EVENTS_AT_ONCE, timeout_ms(c));
        int64_t now = pd_clock_now_ns();
        uint64_t woken;
        bool cancels;

        for (int i = 0; i < n; i++) {
            unsigned e = events[i].events;

            if (events[i].data.fd == c->wake)
                (void)!read(c->wake, &woken, sizeof woken);
            else
                curl_multi_socket_action(c->multi, events[i].data.fd,
                                         (e & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                             (e & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                             (e & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
                                         &running);
        }
        if (now >= c->curl_timer_ns) {
            c->curl_timer_ns = PD_NEVER_NS;
            curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        on_ended(c);
        cancels = atomic_exchange(&c->cancels, false); /* what is cancelled is in the inbox by now */
        take_inbox(c);
        if (cancels || atomic_load(&c->ending))
            for (struct net_host *h = c->hosts; h; h = h->next)
                end_cancelled(h);
        for (struct net_host *h = c->hosts; h; h = h->next) {
            end_stalled(h, now);
            pump(h, now);
        }
    }
    return NULL;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    struct net_client *c = user;
    struct epoll_event e = {.data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(c->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    e.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    epoll_ctl(c->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);
    curl_multi_assign(c->multi, fd, c);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *user)
{
    struct net_client *c = user;

    (void)multi;
    c->curl_timer_ns = ms < 0 ? PD_NEVER_NS : pd_clock_now_ns() + ms * PD_NS_PER_MS;
    return 0;
}

static void wake(struct net_client *c)
{
    uint64_t one = 1;

    (void)!write(c->wake, &one, sizeof one);
}

/* ---- from outside ------------------------------------------------------------------------------
 */

int net_client_new(struct net_client **out, struct pd_err *err)
{
    struct net_client *c = calloc(1, sizeof *c);
    struct epoll_event e = {.events = EPOLLIN};
    struct rlimit files;
    sigset_t all, old;
    int e_thread, rc = 0;

    if (!c || pd_queue_init(&c->inbox, SIZE_MAX) < 0) {
        free(c);
        return pd_fail(err, PD_ENOMEM, "out of memory for the HTTP client");
    }
    /* one descriptor a stream: as many as this process may have */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    c->curl_timer_ns = PD_NEVER_NS;
    c->multi = curl_multi_init();
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e.data.fd = c->wake;
    if (!c->multi)
        rc = pd_fail(err, PD_ENOMEM, "out of memory for the HTTP client");
    else if (c->epoll < 0 || c->wake < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->wake, &e) < 0)
        rc = pd_fail_errno(err, errno, "cannot start the HTTP client");
    if (rc == 0) {
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
        curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
        sigfillset(&all); /* signals are for other threads */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        e_thread = pthread_create(&c->thread, NULL, client_thread, c);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        c->running = e_thread == 0;
        if (e_thread)
            rc = pd_fail_errno(err, e_thread, "cannot start the HTTP client's thread");
    }
    if (rc < 0) {
        net_client_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void net_client_end(struct net_client *c)
{
    atomic_store(&c->ending, true);
    wake(c);
}

static void host_free(struct net_host *h)
{
    curl_slist_free_all(h->headers);
    free((char *)(uintptr_t)h->c.name);
    free((char *)(uintptr_t)h->c.url);
    free((char *)(uintptr_t)h->c.key);
    free(h);
}

void net_client_free(struct net_client *c)
{
    struct net_host *next;

    if (!c)
        return;
    if (c->running) {
        atomic_store(&c->leaving, true);
        wake(c);
        pthread_join(c->thread, NULL);
    }
    for (struct net_host *h = c->hosts; h; h = next) {
        assert(!h->waiting.n && !h->wired.n);
        next = h->next;
        host_free(h);
    }
    if (c->multi)
        curl_multi_cleanup(c->multi);
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->wake >= 0)
        close(c->wake);
    pd_queue_done(&c->inbox);
    free(c);
}

/* NULL, or what is wrong with it. */
static const char *check_url(const char *url)
{
    struct pd_str s = pd_str_of(url), rest;
    ptrdiff_t slash;

    if (pd_str_starts(s, PD_STR("http://")))
        rest = pd_str_sub(s, 7, s.len);
    else if (pd_str_starts(s, PD_STR("https://")))
        rest = pd_str_sub(s, 8, s.len);
    else
        return "it must begin with http:// or https://";
    slash = pd_str_find(rest, PD_STR("/"));
    if (pd_str_find(pd_str_sub(rest, 0, slash < 0 ? rest.len : (size_t)slash), PD_STR("@")) >= 0)
        return "names and passwords have no place in it: give a key by key_file";
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.ptr[i] <= ' ' || rest.ptr[i] == 127 || strchr("?#", rest.ptr[i]))
            return "it must be a plain address, without blanks, ? and #";
    return rest.len && slash != 0 ? NULL : "the host is missing";
}

static int add_line(struct net_host *h, const char *line)
{
    struct curl_slist *more = curl_slist_append(h->headers, line);

    h->headers = more ? more : h->headers;
    return more ? 0 : PD_ENOMEM;
}

static int add_key(struct net_host *h)
{
    const char *name = h->c.key_header;
    char *line = NULL;
    int rc = asprintf(&line, "%s%s%s", name ? name : "Authorization: Bearer", name ? ": " : " ",
                      h->c.key) < 0
                 ? PD_ENOMEM
                 : add_line(h, line);

    free(line);
    return rc;
}

int net_host_new(struct net_client *c, const struct net_host_config *config, struct net_host **out,
                 struct pd_err *err)
{
    const char *wrong = check_url(config->url);
    struct pd_str key = pd_str_of(config->key);
    struct net_host *h;
    int rc;

    if (wrong)
        return pd_fail(err, PD_EINVAL, "the address '%s' of an engine: %s", config->url, wrong);
    for (size_t i = 0; i < key.len; i++)
        if ((unsigned char)key.ptr[i] <= ' ' || (unsigned char)key.ptr[i] >= 127)
            return pd_fail(err, PD_EINVAL, "the key of %s has a character that no key has",
                           config->name);
    h = calloc(1, sizeof *h);
    if (!h)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    h->client = c;
    h->c = *config;
    h->limit = config->max_inflight;
    list_init(&h->waiting);
    list_init(&h->wired);
    h->c.name = strdup(config->name);
    h->c.url = pd_str_dup(pd_str_ends(pd_str_of(config->url), PD_STR("/"))
                              ? (struct pd_str){config->url, strlen(config->url) - 1}
                              : pd_str_of(config->url));
    h->c.key = config->key ? strdup(config->key) : NULL;
    rc = h->c.name && h->c.url && (h->c.key || !config->key) ? 0 : PD_ENOMEM;
    if (rc == 0)
        rc = add_line(h, "Content-Type: application/json");
    if (rc == 0)
        rc = add_line(h, "Expect:");
    if (rc == 0 && config->header)
        rc = add_line(h, config->header);
    if (rc == 0 && key.len)
        rc = add_key(h);
    if (rc < 0) {
        host_free(h);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    h->next = atomic_load(&c->hosts);
    while (!atomic_compare_exchange_weak(&c->hosts, &h->next, h))
        ;
    *out = h;
    return 0;
}

void net_call_start(struct net_host *h, struct net_call *call)
{
    call->host = h;
    call->attempt = 0;
    call->status = 0;
    call->not_before_ns = 0;
    call->transfer = NULL;
    call->error_body = (struct pd_buf)PD_BUF_INIT(ERROR_BODY_MAX);
    call->err = (struct pd_err){0};
    pd_queue_push(&h->client->inbox, &call->link);
    wake(h->client);
}

void net_call_cancel(struct net_call *call)
{
    struct net_client *c = call->host->client;

    atomic_store(&call->cancelled, true);
    atomic_store(&c->cancels, true);
    wake(c);
}

/* ---- calls that are waited for ----------------------------------------------------------------- */

struct waiter {
    struct net_call *calls;
    struct pd_buf *outs;
    size_t n_open;        /* guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t ended;
};

static struct pd_buf *out_of(const struct net_call *call)
{
    const struct waiter *w = call->user;

    return &w->outs[call - w->calls];
}

static void wait_begin(struct net_call *call)
{
    pd_buf_clear(out_of(call));
}

static int wait_data(struct net_call *call, struct pd_str bytes)
{
    return pd_buf_adds(out_of(call), bytes) < 0
               ? pd_fail(&call->err, PD_ELIMIT, "the answer is too large")
               : 0;
}

static void wait_done(struct net_call *call)
{
    struct waiter *w = call->user;

    pthread_mutex_lock(&w->lock);
    if (--w->n_open == 0)
        pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
}

int net_calls_wait(struct net_host *h, struct net_call *calls, struct pd_buf *outs, size_t n,
                   struct pd_err *err)
{
    struct waiter w = {.calls = calls, .outs = outs, .n_open = n};

    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.ended, NULL);
    for (size_t i = 0; i < n; i++) {
        calls[i].begin = wait_begin;
        calls[i].data = wait_data;
        calls[i].done = wait_done;
        calls[i].user = &w;
        net_call_start(h, &calls[i]);
    }
    pthread_mutex_lock(&w.lock);
    while (w.n_open)
        pthread_cond_wait(&w.ended, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.ended);
    pthread_mutex_destroy(&w.lock);
    for (size_t i = 0; i < n; i++)
        if (calls[i].err.code != PD_OK) {
            if (err)
                *err = calls[i].err;
            return calls[i].err.code;
        }
    return 0;
}

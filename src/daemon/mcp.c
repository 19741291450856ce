/* MCP over streamable HTTP: POST /mcp, one JSON-RPC message a request.
 *
 *   a notification   202
 *   a request        its answer as JSON; tools/call that takes longer than SSE_AFTER_S as an event
 *                    stream when the client accepts one, with progress before the answer
 *
 * A session is what scopes the ids of running calls, so that notifications/cancelled finds the
 * right one. Leaving is not cancelling (the protocol says so): the work goes on. Sessions that were
 * not used for longest are forgotten; their clients are told (404) and begin a new one. */
#include "daemon/mcp_int.h"

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/id.h"

#define SSE_AFTER_S  1.0
#define MESSAGE_MAX  ((size_t)16 << 20)
#define SESSIONS_MAX 256
#define ID_TEXT_MAX  256 /* of a request id or a progress token, as JSON */
#define PARSE_ERROR  (-32700)
#define BAD_REQUEST  (-32600)
#define NO_METHOD    (-32601)
#define BAD_PARAMS   (-32602)
#define INTERNAL     (-32603)

static const char *const versions[] = {"2025-11-25", "2025-06-18", "2025-03-26"};
#define N_VERSIONS (sizeof versions / sizeof *versions)

struct mcp_session {
    struct mcp_session *next; /* the one used last comes first */
    char id[PD_ID_MAX];
};

struct mcp_wire {
    struct mcp_call call;
    struct mcp_wire *prev, *next; /* of all running calls */
    struct http_request *r;       /* NULL: the client has left */
    struct pd_json *message;      /* call.args is in it */
    char session[PD_ID_MAX];      /* "" : none */
    char *id, *token;             /* JSON; token NULL: no progress wanted */
    bool accepts_stream, streaming;
    ev_timer late;
};

struct mcp {
    struct mcp_session *sessions;
    struct mcp_wire *calls;
};

/* ---- messages ------------------------------------------------------------------------------ */

static char *json_text(const struct pd_json *v)
{
    struct pd_buf b = PD_BUF_INIT(ID_TEXT_MAX);
    struct pd_jw w;
    char *text;

    pd_jw_init(&w, &b);
    pd_jw_value(&w, v);
    text = pd_buf_rc(&b) == 0 ? pd_buf_take(&b) : NULL;
    pd_buf_done(&b);
    return text;
}

static void begin(struct pd_jw *w, struct pd_buf *b, const char *id)
{
    pd_jw_init(w, b);
    pd_jw_object(w);
    pd_jw_put_text(w, "jsonrpc", "2.0");
    if (id) {
        pd_jw_key(w, "id");
        pd_jw_raw(w, pd_str_of(id));
    }
}

static void put_error(struct pd_buf *b, const char *id, int code, const char *message)
{
    struct pd_jw w;

    begin(&w, b, id ? id : "null");
    pd_jw_key(&w, "error");
    pd_jw_object(&w);
    pd_jw_key(&w, "code");
    pd_jw_int(&w, code);
    pd_jw_put_text(&w, "message", message);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
}

static void reply_error(struct http_request *r, unsigned status, const char *id, int code,
                        const char *message)
{
    struct pd_buf b = PD_BUF_INIT(8192);

    put_error(&b, id, code, message);
    api_json(r, status, &b);
}

static int send_event(struct mcp_wire *c, const struct pd_buf *message)
{
    struct pd_buf b = PD_BUF_INIT(MESSAGE_MAX + 64);
    int rc;

    pd_buf_addz(&b, "event: message\ndata: ");
    pd_buf_adds(&b, pd_buf_str(message));
    pd_buf_addz(&b, "\n\n");
    rc = pd_buf_rc(&b) < 0 ? PD_ENOMEM : http_stream_write(c->r, pd_buf_str(&b));
    pd_buf_done(&b);
    return rc;
}

/* ---- a call's life ------------------------------------------------------------------------- */

static void client_left(void *user)
{
    struct mcp_wire *c = user;

    c->r = NULL;
    ev_timer_stop(c->call.d->loop, &c->late);
}

static void end_call(struct mcp_wire *c, struct pd_buf *message)
{
    struct mcp *m = c->call.d->mcp;

    ev_timer_stop(c->call.d->loop, &c->late);
    if (c->r && c->call.cancelled && !c->streaming)
        http_reply(c->r, 202, NULL, PD_STR("")); /* nobody reads an answer */
    else if (c->r && c->streaming) {
        if (c->call.cancelled || send_event(c, message) == 0)
            http_stream_end(c->r);
        else
            http_stream_abort(c->r);
    } else if (c->r) {
        api_json(c->r, 200, message);
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        m->calls = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pd_buf_done(message);
    pd_json_free(c->message);
    free(c->id);
    free(c->token);
    free(c);
}

static void end_with_result(struct mcp_wire *c, const struct pd_buf *structured, const char *text,
                            bool is_error)
{
    struct pd_buf b = PD_BUF_INIT(MESSAGE_MAX);
    struct pd_jw w;

    begin(&w, &b, c->id);
    pd_jw_key(&w, "result");
    pd_jw_object(&w);
    pd_jw_key(&w, "content");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "type", "text");
    pd_jw_key(&w, "text");
    if (text)
        pd_jw_strz(&w, text);
    else
        pd_jw_str(&w, pd_buf_str(structured));
    pd_jw_end_object(&w);
    pd_jw_end_array(&w);
    if (structured) {
        pd_jw_key(&w, "structuredContent");
        pd_jw_raw(&w, pd_buf_str(structured));
    }
    pd_jw_put_bool(&w, "isError", is_error);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    if (pd_buf_rc(&b) < 0) {
        pd_buf_done(&b);
        b = PD_BUF_INIT(MESSAGE_MAX);
        put_error(&b, c->id, INTERNAL, "the result is too large");
    }
    end_call(c, &b);
}

void mcp_done(struct mcp_call *call, struct pd_buf *structured, const char *text)
{
    if (pd_buf_rc(structured) < 0)
        end_with_result(call->wire, NULL, "the result is too large", true);
    else
        end_with_result(call->wire, structured, text, false);
    pd_buf_done(structured);
}

void mcp_failed(struct mcp_call *call, const char *message)
{
    end_with_result(call->wire, NULL, message, true);
}

void mcp_bad_arguments(struct mcp_call *call, const char *message)
{
    struct pd_buf b = PD_BUF_INIT(8192);

    put_error(&b, call->wire->id, BAD_PARAMS, message);
    end_call(call->wire, &b);
}

void mcp_progress(struct mcp_call *call, uint64_t progress, uint64_t total, const char *message)
{
    struct mcp_wire *c = call->wire;
    struct pd_buf b = PD_BUF_INIT(8192);
    struct pd_jw w;

    if (!c->r || !c->streaming || !c->token || call->cancelled)
        return;
    begin(&w, &b, NULL);
    pd_jw_put_text(&w, "method", "notifications/progress");
    pd_jw_key(&w, "params");
    pd_jw_object(&w);
    pd_jw_key(&w, "progressToken");
    pd_jw_raw(&w, pd_str_of(c->token));
    pd_jw_put_uint(&w, "progress", progress);
    if (total > 0) {
        pd_jw_put_uint(&w, "total", total);
    }
    pd_jw_put_text(&w, "message", message);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    send_event(c, &b); /* a client that does not read will miss it, and its answer too */
    pd_buf_done(&b);
}

/* It takes long: the client hears that it is being worked on. */
static void on_late(struct ev_loop *loop, ev_timer *w, int events)
{
    struct mcp_wire *c = w->data;

    (void)loop, (void)events;
    c->streaming = true;
    http_set_header(c->r, "Cache-Control", "no-store");
    http_stream_begin(c->r, 200, "text/event-stream");
    http_stream_ping(c->r, 15);
}

/* ---- methods ------------------------------------------------------------------------------- */

static void put_server(struct pd_jw *w, const char *version)
{
    pd_jw_put_text(w, "protocolVersion", version);
    pd_jw_key(w, "capabilities");
    pd_jw_raw(w, PD_STR("{\"tools\":{\"listChanged\":false}}"));
    pd_jw_key(w, "serverInfo");
    pd_jw_object(w);
    pd_jw_put_text(w, "name", "ponder");
    pd_jw_put_text(w, "title", "ponder");
    pd_jw_put_text(w, "version", PONDER_VERSION);
    pd_jw_end_object(w);
    pd_jw_put_text(
        w, "instructions",
        "solve answers one hard question by search over many lines of thought of a small "
        "local model. For long work use submit_job, then job_status and job_result.");
}

static struct mcp_session *find_session(struct mcp *m, const char *id)
{
    for (struct mcp_session **at = &m->sessions; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct mcp_session *s = *at;

            *at = s->next;
            s->next = m->sessions;
            m->sessions = s;
            return s;
        }
    return NULL;
}

static struct mcp_session *new_session(struct mcp *m)
{
    struct mcp_session *s = calloc(1, sizeof *s), **at = &m->sessions;
    size_t n = 1;

    if (!s || pd_id_new("mcp_", s->id, NULL) < 0) {
        free(s);
        return NULL;
    }
    s->next = m->sessions;
    m->sessions = s;
    while (*at && n++ <= SESSIONS_MAX)
        at = &(*at)->next;
    if (*at) {
        free(*at);
        *at = NULL;
    }
    return s;
}

static void initialize(struct daemon *d, struct http_request *r, const char *id,
                       const struct pd_json *params)
{
    const char *wanted = pd_json_string(pd_json_get(params, "protocolVersion"));
    struct mcp_session *s = new_session(d->mcp);
    struct pd_buf b = PD_BUF_INIT(8192);
    size_t v = 0;
    struct pd_jw w;

    if (!s) {
        reply_error(r, 500, id, INTERNAL, "out of memory");
        return;
    }
    for (size_t i = 0; wanted && i < N_VERSIONS; i++)
        if (strcmp(wanted, versions[i]) == 0)
            v = i;
    begin(&w, &b, id);
    pd_jw_key(&w, "result");
    pd_jw_object(&w);
    put_server(&w, versions[v]);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    http_set_header(r, "Mcp-Session-Id", s->id);
    api_json(r, 200, &b);
}

static void list_tools(struct http_request *r, const char *id)
{
    struct pd_buf b = PD_BUF_INIT(1 << 18);
    struct pd_jw w;

    begin(&w, &b, id);
    pd_jw_key(&w, "result");
    pd_jw_object(&w);
    pd_jw_key(&w, "tools");
    pd_jw_array(&w);
    for (const struct mcp_tool *t = mcp_tools; t->name; t++) {
        pd_jw_object(&w);
        pd_jw_put_text(&w, "name", t->name);
        pd_jw_put_text(&w, "title", t->title);
        pd_jw_put_text(&w, "description", t->description);
        pd_jw_key(&w, "inputSchema");
        pd_jw_raw(&w, pd_str_of(t->input));
        pd_jw_key(&w, "outputSchema");
        pd_jw_raw(&w, pd_str_of(t->output));
        pd_jw_key(&w, "annotations");
        pd_jw_raw(&w, pd_str_of(t->annotations));
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    pd_jw_end_object(&w);
    api_json(r, 200, &b);
}

/* Whether one of the media types of Accept is an event stream. */
static bool accepts_stream(const struct http_request *r)
{
    const char *accept = http_header(r, "Accept");

    return accept && strcasestr(accept, "text/event-stream") != NULL;
}

/* Takes id and message. */
static void call_tool(struct daemon *d, struct http_request *r, const char *session, char *id,
                      struct pd_json *message)
{
    const struct pd_json *params = pd_json_get(message, "params");
    const struct pd_json *args = pd_json_get(params, "arguments");
    const struct pd_json *token = pd_json_get(pd_json_get(params, "_meta"), "progressToken");
    const char *name = pd_json_string(pd_json_get(params, "name"));
    const struct mcp_tool *tool = mcp_tools;
    struct mcp_wire *c;

    while (tool->name && (!name || strcmp(tool->name, name) != 0))
        tool++;
    if (!tool->name || (args && !pd_json_is_object(args))) {
        reply_error(r, 200, id, BAD_PARAMS,
                    tool->name ? "arguments must be an object" : "there is no such tool");
        free(id);
        pd_json_free(message);
        return;
    }
    c = calloc(1, sizeof *c);
    if (!c) {
        reply_error(r, 500, id, INTERNAL, "out of memory");
        free(id);
        pd_json_free(message);
        return;
    }
    c->call = (struct mcp_call){.d = d, .args = args, .wire = c};
    c->r = r;
    c->message = message;
    c->id = id;
    c->token = token ? json_text(token) : NULL;
    snprintf(c->session, sizeof c->session, "%s", session);
    c->accepts_stream = accepts_stream(r);
    c->next = d->mcp->calls;
    if (c->next)
        c->next->prev = c;
    d->mcp->calls = c;
    ev_timer_init(&c->late, on_late, SSE_AFTER_S, 0);
    c->late.data = c;
    if (c->accepts_stream)
        ev_timer_start(d->loop, &c->late);
    http_on_close(r, client_left, c);
    tool->run(&c->call);
}

static void cancel_call(struct mcp_wire *c)
{
    c->call.cancelled = true;
    if (c->call.cancel)
        c->call.cancel(&c->call);
}

void mcp_cancel_all(struct daemon *d)
{
    for (struct mcp_wire *c = d->mcp->calls; c; c = c->next)
        cancel_call(c);
}

static void cancelled(struct daemon *d, const char *session, const struct pd_json *params)
{
    const struct pd_json *id = pd_json_get(params, "requestId");
    char *text = id ? json_text(id) : NULL;

    for (struct mcp_wire *c = d->mcp->calls; c && text; c = c->next)
        if (strcmp(c->session, session) == 0 && strcmp(c->id, text) == 0) {
            cancel_call(c);
            if (c->call.job[0])
                (void)queue_tell(d->queue, QUEUE_CANCEL, c->call.job, NULL, NULL, NULL);
        }
    free(text);
}

/* ---- the route ----------------------------------------------------------------------------- */

/* Takes message; NULL: it is no JSON, and err says why. */
static void take_message(struct daemon *d, struct http_request *r, struct pd_json *message,
                         const struct pd_err *err)
{
    const char *session = http_header(r, "Mcp-Session-Id");
    const struct pd_json *id_json, *params;
    const char *method;
    char *id;

    if (!message) {
        reply_error(r, 400, NULL, PARSE_ERROR, err->text);
        return;
    }
    method = pd_json_string(pd_json_get(message, "method"));
    params = pd_json_get(message, "params");
    id_json = pd_json_get(message, "id");
    id = id_json && !pd_json_is_null(id_json) ? json_text(id_json) : NULL;
    if (!pd_json_is_object(message) ||
        (id_json && (!id || pd_json_is_object(id_json) || pd_json_is_array(id_json)))) {
        reply_error(r, 400, NULL, BAD_REQUEST,
                    "one JSON-RPC message is expected, its id a string or a number");
    } else if (session && !find_session(d->mcp, session)) {
        reply_error(r, 404, id, BAD_REQUEST, "this session is over: initialize again");
    } else if (!id) { /* a notification, or an answer to a question we never ask */
        if (method && strcmp(method, "notifications/cancelled") == 0)
            cancelled(d, session ? session : "", params);
        http_reply(r, 202, NULL, PD_STR(""));
    } else if (!method) {
        http_reply(r, 202, NULL, PD_STR(""));
    } else if (strcmp(method, "initialize") == 0) {
        initialize(d, r, id, params);
    } else if (strcmp(method, "ping") == 0) {
        struct pd_buf b = PD_BUF_INIT(1024);
        struct pd_jw w;

        begin(&w, &b, id);
        pd_jw_key(&w, "result");
        pd_jw_raw(&w, PD_STR("{}"));
        pd_jw_end_object(&w);
        api_json(r, 200, &b);
    } else if (strcmp(method, "tools/list") == 0) {
        list_tools(r, id);
    } else if (strcmp(method, "tools/call") == 0) {
        call_tool(d, r, session ? session : "", id, message);
        return; /* both are the call's now */
    } else {
        reply_error(r, 200, id, NO_METHOD, "this method is not known here");
    }
    free(id);
    pd_json_free(message);
}

static void post(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    const char *version = http_header(r, "MCP-Protocol-Version");
    size_t v = 0;

    (void)args;
    while (version && v < N_VERSIONS && strcmp(version, versions[v]) != 0)
        v++;
    if (v == N_VERSIONS)
        reply_error(r, 400, NULL, BAD_REQUEST,
                    "this MCP-Protocol-Version is not spoken here: 2025-11-25, 2025-06-18 and "
                    "2025-03-26 are");
    else
        api_parse(d, r, take_message);
}

static void end_session(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    const char *id = http_header(r, "Mcp-Session-Id");
    struct mcp_session *s = id ? find_session(d->mcp, id) : NULL;

    (void)args;
    if (!s) {
        reply_error(r, 404, NULL, BAD_REQUEST, "there is no such session");
        return;
    }
    d->mcp->sessions = s->next; /* found ones come first */
    free(s);
    http_reply(r, 204, NULL, PD_STR(""));
}

struct mcp *mcp_new(void)
{
    return calloc(1, sizeof(struct mcp));
}

void mcp_free(struct mcp *m)
{
    while (m && m->sessions) {
        struct mcp_session *s = m->sessions;

        m->sessions = s->next;
        free(s);
    }
    free(m);
}

const struct route routes_mcp[] = {
    {HTTP_POST, "/mcp", post, 0},
    {HTTP_DELETE, "/mcp", end_session, 0},
    {HTTP_GET, NULL, NULL, 0},
};

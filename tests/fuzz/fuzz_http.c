/* Bytes as what a client sends, in pieces and with pauses that the input chooses: the first byte
 * says how requests are answered, then each piece has its length before it (0: the client reads
 * what came). The server must neither crash nor lose a request: each that was handed out ends. */
#include <ev.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

struct client {
    unsigned how, admitted, handled, finished;
    struct http_request *held;
};

static void gone(void *user)
{
    struct client *c = user;

    c->held = NULL;
}

static void admit(void *user, struct http_request *r)
{
    struct client *c = user;

    c->admitted++;
    if ((c->how & 8) && http_query(r, "no"))
        http_reply(r, 403, NULL, PD_STR(""));
}

static void handle(void *user, struct http_request *r)
{
    struct client *c = user;
    const char *key, *value;

    c->handled++;
    for (unsigned i = 0; http_query_at(r, i, &key, &value); i++)
        if (!key || !value)
            abort();
    switch (c->how & 3) {
    case 0:
        http_reply(r, 200, "text/plain", http_body(r));
        break;
    case 1:
        c->held = r;
        http_on_close(r, gone, c);
        break;
    default:
        http_stream_begin(r, 200, "text/event-stream");
        c->held = r;
        http_on_close(r, gone, c);
        http_stream_write(r, http_body(r));
        break;
    }
}

static void finished(void *user, const struct http_request *r)
{
    struct client *c = user;

    c->finished++;
    if (http_status(r) < 200)
        abort();
}

static void answer_held(struct client *c)
{
    struct http_request *r = c->held;

    if (!r)
        return;
    c->held = NULL;
    switch (c->how & 3) {
    case 1:
        http_reply(r, 202, NULL, PD_STR("later"));
        break;
    case 2:
        http_stream_end(r);
        break;
    default:
        http_stream_abort(r);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct client client = {.how = n_bytes > 0 ? data[0] : 0};
    const struct http_config c = {.max_body = 4096,
                                  .max_connections = 1,
                                  .header_s = 10,
                                  .stall_s = 30,
                                  .idle_s = 75,
                                  .user = &client,
                                  .admit = admit,
                                  .handle = handle,
                                  .finished = finished};
    struct ev_loop *loop = ev_loop_new(EVFLAG_NOENV);
    struct http_server *s;
    int ends[2];

    if (!loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0 ||
        http_server_new(loop, &c, &s, NULL) < 0 || http_server_add(s, ends[1], NULL) < 0)
        abort();
    for (size_t at = 1; at < n_bytes;) {
        size_t n = data[at++];
        char heard[4096];

        n = n < n_bytes - at ? n : n_bytes - at;
        if (n > 0)
            (void)!send(ends[0], data + at, n, MSG_NOSIGNAL);
        for (int i = 0; i < 4; i++)
            ev_run(loop, EVRUN_NOWAIT);
        if (n == 0) {
            answer_held(&client);
            while (recv(ends[0], heard, sizeof heard, 0) > 0)
                ;
        }
        at += n;
    }
    if (client.how & 4)
        close(ends[0]);
    for (int i = 0; i < 4; i++)
        ev_run(loop, EVRUN_NOWAIT);
    answer_held(&client);
    http_server_free(s);
    ev_loop_destroy(loop);
    if (!(client.how & 4))
        close(ends[0]);
    if (client.handled > client.admitted || client.admitted > client.finished)
        abort();
    return 0;
}

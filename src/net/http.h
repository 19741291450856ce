/* An HTTP/1.1 server on a libev loop, over libmicrohttpd in its external-epoll mode; that library
 * is named in http.c only.
 *
 * Everything here happens on the loop's thread. A request is handed to `handle` when its body is
 * complete, and lives until it has been answered to the end (http_reply, http_stream_end,
 * http_stream_abort) or its client has left (http_on_close): after that the pointer is dead.
 *
 * What a client may send is bounded: the request line and headers by HTTP_HEADER_BYTES (431, 414),
 * fields by HTTP_MAX_FIELDS (431), bodies by max_body (413; a chunked one ends the connection),
 * time by the deadlines of http_limits. Two lengths for one body are refused (400), other transfer
 * codings than chunked too (501). */
#ifndef PD_NET_HTTP_H
#define PD_NET_HTTP_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define HTTP_HEADER_BYTES   24576 /* request line and headers of one request */
#define HTTP_MAX_FIELDS     100
#define HTTP_STREAM_BACKLOG ((size_t)1 << 20) /* what a slow reader may leave unread */

struct ev_loop;
struct http_server;
struct http_request;

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_DELETE, HTTP_OTHER };

struct http_config {
    size_t max_body;
    unsigned max_connections; /* more are closed at once */
    double header_s;          /* from the connection (or the end of idling) to the last header */
    double stall_s;           /* between two pieces of a body, or of an answer nobody reads */
    double idle_s;            /* between two requests of a connection */
    void *user;
    /* At the end of the headers: may reply, and the body is then not read. */
    void (*admit)(void *user, struct http_request *r);
    void (*handle)(void *user, struct http_request *r);
    /* The request is over; its pointer is good for this call. */
    void (*finished)(void *user, const struct http_request *r);
};

int http_server_new(struct ev_loop *loop, const struct http_config *c, struct http_server **out,
                    struct pd_err *err);
/* Accepts on a listening socket from now on. The descriptor is the server's. */
int http_server_listen(struct http_server *s, int fd, struct pd_err *err);
/* Serves a connection that is there already. The descriptor is the server's, also on failure. */
int http_server_add(struct http_server *s, int fd, struct pd_err *err);
void http_server_stop_listening(struct http_server *s);
void http_server_set_max_body(struct http_server *s, size_t max_body); /* of requests to come */
/* Ends every connection (their close callbacks run) and frees. NULL is fine. */
void http_server_free(struct http_server *s);
unsigned http_server_connections(const struct http_server *s);
unsigned http_server_requests(const struct http_server *s); /* being read or answered */
unsigned http_server_streams(const struct http_server *s);

/* ---- a request ----------------------------------------------------------------------------- */

enum http_method http_method(const struct http_request *r);
const char *http_method_name(const struct http_request *r);
const char *http_path(const struct http_request *r); /* without the query; percent-decoded */
/* NULL: not there. Borrowed like all that follow, for the life of the request. */
const char *http_query(const struct http_request *r, const char *key);
const char *http_header(const struct http_request *r, const char *name);
/* The n-th (from 0) parameter of the query; false: no more. */
bool http_query_at(const struct http_request *r, unsigned n, const char **out_key,
                   const char **out_value);
struct pd_str http_body(const struct http_request *r);
bool http_is_tcp(const struct http_request *r);
uid_t http_peer_uid(const struct http_request *r); /* of a unix socket; (uid_t)-1: not known */
/* The caller's, from admit to finished. */
void http_set_user(struct http_request *r, void *user);
void *http_user(const struct http_request *r);
unsigned http_status(const struct http_request *r);  /* 0: not yet; 499: the client left */
double http_seconds(const struct http_request *r);   /* since its headers were complete */
size_t http_bytes_out(const struct http_request *r); /* of the body */

/* ---- the answer ---------------------------------------------------------------------------- */

/* Before http_reply or http_stream_begin; at most 8, copied. */
void http_set_header(struct http_request *r, const char *name, const char *value);
/* body is copied. content_type NULL: none. */
void http_reply(struct http_request *r, unsigned status, const char *content_type,
                struct pd_str body);
/* Begins an answer in pieces. */
void http_stream_begin(struct http_request *r, unsigned status, const char *content_type);
/* Takes a copy. PD_ELIMIT: the client reads too slowly, or no memory is left: end it. */
int http_stream_write(struct http_request *r, struct pd_str piece);
/* Comment lines of an event stream after so many seconds of silence; 0: none. */
void http_stream_ping(struct http_request *r, double every_s);
void http_stream_end(struct http_request *r);
void http_stream_abort(struct http_request *r); /* without the end that says it was complete */
/* gone(user), once, when the client leaves before the answer is complete. */
void http_on_close(struct http_request *r, void (*gone)(void *user), void *user);

#endif

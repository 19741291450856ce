/* An HTTP client for many requests at once, over libcurl's multi interface on a thread of its own;
 * libcurl is named in client.c only (and by the CLI's small blocking client of one daemon).
 *
 * A net_client is the thread. A net_host is one endpoint with what is known of its health: how many
 * requests it may have at a time, and whether it answers at all. A net_call is one request with its
 * repetitions.
 *
 *   start ─▶ waiting ─▶ on the wire ─▶ end() ─┬─▶ done()
 *               ▲        begin, data          │
 *               └────── later, once more ◀────┘
 *
 * Rules that hold for every call:
 *  1. It waits while its host has max_inflight on the wire. That bound halves on 429 and 503 and
 *     grows by one with every 20 successes, up to what was configured.
 *  2. Tried again, `tries` times in all: what did not connect, broke off or stalled; status 408, 425,
 *     429, 500, 502, 503, 504, 529 (but no 429 that says the quota is used up); and what end() says.
 *     The delay is Retry-After (retry-after-ms first), at most 120 s, else 0.5 s × 2^k with full
 *     jitter.
 *  3. Five failures in a row open the host's circuit: nothing goes out but one call every 15 s. When
 *     that one fails too, those that wait fail with it; when it succeeds, all go on.
 *  4. Redirects are errors: keys go to the host that was named, and nowhere else.
 *  5. An answer is cut off at NET_BODY_MAX, and where it inflates beyond 64 times its size.
 *
 * Threads: any but for net_client_free, when nobody else is at it. Callbacks run on the client's thread and must not block; they may start
 * and cancel calls. */
#ifndef PD_NET_CLIENT_H
#define PD_NET_CLIENT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/queue.h"

#define NET_BODY_MAX ((size_t)64 << 20)

struct net_client;
struct net_host;
struct net_transfer;

int net_client_new(struct net_client **out, struct pd_err *err);
/* Cancels all calls, and from now on each that is started: nobody is waited for any more. */
void net_client_end(struct net_client *c);
/* All calls must have come to their end. NULL is fine. */
void net_client_free(struct net_client *c);

struct net_host_config {
    const char *name; /* in messages: "engine 'big' at http://…" */
    const char *url;  /* http://… or https://…; what paths are put behind */
    const char *key;  /* NULL: none; sent as Authorization: Bearer, or … */
    const char *key_header; /* … as this header; NULL: not */
    const char *header;     /* one more, "NAME: VALUE"; NULL: none */
    unsigned max_inflight, tries;
    int64_t connect_ns, stall_ns; /* to connect; between bytes (twice that to the first one) */
    int64_t backoff_ns, probe_ns; /* 0: those of rules 2 and 3 */
};
/* Copies the config; lives as long as the client. PD_EINVAL: the address or the key is none. */
int net_host_new(struct net_client *c, const struct net_host_config *config, struct net_host **out,
                 struct pd_err *err);
/* Puts *** where the host's key stands in a text from it. */
void net_host_redact(const struct net_host *h, struct pd_buf *text);

enum net_verdict { NET_DONE, NET_AGAIN };

struct net_call { /* the caller's, until done() */
    /* in: not to be changed before done() */
    const char *path;   /* "/v1/completions" */
    struct pd_str body; /* JSON to POST; ptr NULL: a GET */
    /* An attempt begins: forget what the last one brought. */
    void (*begin)(struct net_call *call);
    /* More of the body of a 200. Negative: end the attempt with this code (call->err is the
     * caller's to fill). */
    int (*data)(struct net_call *call, struct pd_str bytes);
    /* An attempt has ended with err (code PD_OK: a whole 200), which may be changed. verdict is what
     * the client would do now: the caller may say otherwise. */
    enum net_verdict (*end)(struct net_call *call, enum net_verdict verdict);
    void (*done)(struct net_call *call); /* the last thing that happens to it */
    void *user;
    /* out, of the last attempt, for end() and done() */
    struct pd_err err;       /* PD_EREMOTE, PD_EPERM (401, 403), PD_ETIMEOUT, PD_ECANCEL, … */
    unsigned attempt;        /* from 1; 0: it never went out */
    long status;             /* of HTTP; 0: none */
    char content_type[64];   /* lower case, without parameters; "" none */
    struct pd_buf error_body; /* of a status that is not 200; of data() nothing is here */
    int64_t started_ms, first_ms, ended_ms;
    /* the client's */
    struct pd_link link;
    struct net_host *host;
    struct net_call *next; /* in the host's list of those that wait, or are on the wire */
    struct net_transfer *transfer;
    int64_t not_before_ns;
    atomic_bool cancelled;
};

void net_call_start(struct net_host *h, struct net_call *call);
/* Closes its connection at once; done() comes with PD_ECANCEL, unless the call was over. Before the
 * caller has freed it, of course. */
void net_call_cancel(struct net_call *call);
/* n calls and the wait for their ends, on a thread that may block. Of the callbacks only end is used
 * (NULL: none); the body of the i-th 200 is left in outs[i]. The first error, if there is one;
 * each call has its own. */
int net_calls_wait(struct net_host *h, struct net_call *calls, struct pd_buf *outs, size_t n,
                   struct pd_err *err);

/* What an error body in any of the usual four shapes says, as one line; else the body itself, cut and
 * escaped. Appended to out. code (may be NULL): its code or type as text, "" when there is none. */
#define NET_CODE_MAX 64
void net_error_text(struct pd_str body, struct pd_buf *out, char code[NET_CODE_MAX]);

#endif

/* An engine elsewhere for tests: an HTTP server of one dialect on a port of the loopback, with texts
 * that follow from prompt and seed, and with faults when a test asks for them. A thread for each
 * connection. A token is a byte, or one of those below. */
#ifndef PD_TESTS_FAKE_ENGINE_H
#define PD_TESTS_FAKE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

enum { FAKE_EOS = 256, FAKE_BLANK_LINE, FAKE_N_TOKENS }; /* "<eos>", "\n\n" */

enum fake_fault_kind {
    FAKE_NONE,
    FAKE_STATUS,        /* answers with status `n` and `text` as its body, `header` besides */
    FAKE_CUT,           /* closes behind n events */
    FAKE_RESET,         /* the same with an RST */
    FAKE_STALL,         /* says nothing more behind n events */
    FAKE_NO_FINAL,      /* leaves the part with the end out, but not [DONE] */
    FAKE_ERROR,         /* an error of its dialect behind n events, then [DONE] */
    FAKE_GARBAGE,       /* what is no JSON behind n events */
    FAKE_TWO_CHOICES,   /* more choices than were asked for */
    FAKE_TYPE,          /* 200 with text/html */
    FAKE_LATE_CUT,      /* cuts the connection behind the part with the end */
    FAKE_BYTES,         /* a write for each byte: nothing is wrong with it */
    FAKE_CRLF,          /* comments, CRLF and other fields: neither */
    FAKE_CLOSE,         /* closes as soon as the request is there */
};

struct fake_fault {
    enum fake_fault_kind kind;
    unsigned request; /* the how many-th one that generates, from 0 */
    unsigned times;   /* it and how many in all; 0: once */
    int n;
    const char *text, *header;
};

struct fake_ask { /* for a model */
    const int32_t *ids;
    size_t n_ids;
    uint32_t max_tokens;
    uint64_t seed;
    uint32_t n_top; /* the likeliest next tokens to tell */
    const struct pd_json *request; /* temperature, top_k, top_p, min_p */
    const char *const *stops;      /* NULL-terminated */
};

struct fake_drawn { /* arrays are malloc'ed */
    int32_t *ids;
    float *logprobs;
    size_t n;
    bool eos; /* its last token ended it */
    bool stopped;
    int32_t *top_ids; /* [n_top], of the first token */
    float *top_logprobs;
    size_t n_top;
};

/* Behind dialect vllm, in the place of texts that follow from prompt and seed. Several threads. */
struct fake_model {
    void *self;
    void (*draw)(void *self, const struct fake_ask *ask, struct fake_drawn *out);
    /* Of a body of /tokenize: malloc'ed. */
    void (*tokenize)(void *self, const struct pd_json *request, int32_t **ids, size_t *n);
    void (*detokenize)(void *self, const int32_t *ids, size_t n, struct pd_buf *out);
    size_t n_ctx;
};

struct fake_config {
    const char *dialect;     /* or "silent": never says a word */
    const char *key;         /* that clients must have; NULL: none */
    unsigned token_us;       /* time to draw a token */
    unsigned length;         /* of every answer; 0: as it comes */
    uint16_t port;           /* 0: any */
    const struct fake_model *model; /* NULL: none */
};

struct fake_engine;
struct fake_engine *fake_engine_start(const struct fake_config *c); /* aborts when it cannot */
void fake_engine_stop(struct fake_engine *f);
uint16_t fake_engine_port(const struct fake_engine *f);
/* From now on; requests count from 0 again. */
void fake_engine_fault(struct fake_engine *f, const struct fake_fault *fault);
unsigned fake_engine_generated(struct fake_engine *f);   /* requests that generate, since then */
unsigned fake_engine_connections(struct fake_engine *f); /* accepted so far */
unsigned fake_engine_open(struct fake_engine *f);        /* of these not closed */
/* The last request that generates: its head, and its body. Valid until the next one. */
const char *fake_engine_head(struct fake_engine *f);
const char *fake_engine_body(struct fake_engine *f);
int64_t fake_engine_closed_ns(struct fake_engine *f); /* when a client last closed in mid-answer */

#endif

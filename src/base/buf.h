/* Growing byte buffer with a ceiling. The first failure sticks: later appends do nothing and
 * pd_buf_rc() tells, so that a run of appends needs one check at its end. Owner: who holds it. */
#ifndef PD_BASE_BUF_H
#define PD_BASE_BUF_H

#include "base/str.h"

struct pd_buf {
    char *data; /* always NUL-terminated when not NULL */
    size_t len, cap, max;
    int rc; /* 0, PD_ENOMEM or PD_ELIMIT */
};

#define PD_BUF_INIT(max_bytes) ((struct pd_buf){NULL, 0, 0, (max_bytes), 0})

void pd_buf_done(struct pd_buf *b);
void pd_buf_clear(struct pd_buf *b); /* empty, reusable, memory kept, rc reset */
int pd_buf_reserve(struct pd_buf *b, size_t more);
int pd_buf_add(struct pd_buf *b, const void *bytes, size_t n);
int pd_buf_adds(struct pd_buf *b, struct pd_str s);
int pd_buf_addz(struct pd_buf *b, const char *z);
int pd_buf_addc(struct pd_buf *b, char c);
int pd_buf_printf(struct pd_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *pd_buf_take(struct pd_buf *b); /* the caller owns it; "" when empty, NULL when rc != 0 */
static inline struct pd_str pd_buf_str(const struct pd_buf *b)
{
    return (struct pd_str){b->data ? b->data : "", b->len};
}
static inline int pd_buf_rc(const struct pd_buf *b)
{
    return b->rc;
}

#endif

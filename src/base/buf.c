#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define FIRST_CAP 64

void pd_buf_done(struct pd_buf *b)
{
    if (!b)
        return;
    free(b->data);
    *b = PD_BUF_INIT(b->max);
}

void pd_buf_clear(struct pd_buf *b)
{
    b->len = 0;
    b->rc = 0;
    if (b->data)
        b->data[0] = '\0';
}

int pd_buf_reserve(struct pd_buf *b, size_t more)
{
    size_t need, cap;
    char *data;

    if (b->rc != 0)
        return b->rc;
    if (more > b->max - b->len)
        return b->rc = PD_ELIMIT;
    if (__builtin_add_overflow(b->len, more, &need) || need == SIZE_MAX)
        return b->rc = PD_ENOMEM;
    need++; /* the NUL */
    if (need <= b->cap)
        return 0;
    cap = b->cap > 0 ? b->cap : FIRST_CAP;
    while (cap < need)
        cap = cap <= SIZE_MAX / 2 ? cap * 2 : need;
    if (cap - 1 > b->max)
        cap = b->max + 1; /* still >= need: more fits below max */
    data = realloc(b->data, cap);
    if (!data)
        return b->rc = PD_ENOMEM;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int pd_buf_add(struct pd_buf *b, const void *bytes, size_t n)
{
    int rc = pd_buf_reserve(b, n);

    if (rc < 0)
        return rc;
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int pd_buf_adds(struct pd_buf *b, struct pd_str s)
{
    return pd_buf_add(b, s.ptr, s.len);
}

int pd_buf_addz(struct pd_buf *b, const char *z)
{
    return pd_buf_adds(b, pd_str_of(z));
}

int pd_buf_addc(struct pd_buf *b, char c)
{
    return pd_buf_add(b, &c, 1);
}

int pd_buf_printf(struct pd_buf *b, const char *fmt, ...)
{
    va_list args, again;
    int n, rc;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (b->rc == 0 && n < 0)
        b->rc = PD_ENOMEM; /* with the formats we use there is no other reason */
    rc = pd_buf_reserve(b, n > 0 ? (size_t)n : 0);
    if (rc == 0) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

char *pd_buf_take(struct pd_buf *b)
{
    char *data;

    if (pd_buf_reserve(b, 0) < 0) /* makes the "" of an empty buffer */
        return NULL;
    data = b->data;
    *b = PD_BUF_INIT(b->max);
    return data;
}

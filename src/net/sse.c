#include "net/sse.h"

#include <stdio.h>

void sse_init(struct sse *s, int (*event)(void *user, const char *type, struct pd_str data),
              void *user)
{
    *s = (struct sse){.event = event,
                      .user = user,
                      .line = PD_BUF_INIT(SSE_LINE_MAX),
                      .data = PD_BUF_INIT(SSE_EVENT_MAX)};
}

void sse_done(struct sse *s)
{
    pd_buf_done(&s->line);
    pd_buf_done(&s->data);
}

static int end_event(struct sse *s)
{
    int rc = pd_buf_rc(&s->data);

    if (rc == 0 && s->has_data)
        rc = s->event(s->user, s->type, pd_buf_str(&s->data));
    pd_buf_clear(&s->data);
    s->has_data = false;
    s->type[0] = '\0';
    return rc;
}

/* One line without its end. */
static int take_line(struct sse *s, struct pd_str line)
{
    ptrdiff_t colon = pd_str_find(line, PD_STR(":"));
    struct pd_str field = pd_str_sub(line, 0, colon < 0 ? line.len : (size_t)colon);
    struct pd_str value = pd_str_sub(line, field.len + 1, line.len);

    if (line.len == 0)
        return end_event(s);
    if (pd_str_starts(value, PD_STR(" ")))
        value = pd_str_sub(value, 1, value.len);
    if (pd_str_eq(field, PD_STR("event"))) {
        snprintf(s->type, sizeof s->type, "%.*s", (int)value.len, value.ptr);
    } else if (pd_str_eq(field, PD_STR("data"))) {
        if (s->has_data)
            pd_buf_addc(&s->data, '\n');
        s->has_data = true;
        pd_buf_adds(&s->data, value);
    } /* else a comment, id, retry, or a field of a later day */
    return pd_buf_rc(&s->data);
}

static int end_line(struct sse *s)
{
    const struct pd_str bom = PD_STR("\xef\xbb\xbf");
    struct pd_str line = pd_buf_str(&s->line);
    int rc = pd_buf_rc(&s->line);

    if (!s->begun && pd_str_starts(line, bom))
        line = pd_str_sub(line, bom.len, line.len);
    s->begun = true;
    rc = rc < 0 ? rc : take_line(s, line);
    pd_buf_clear(&s->line);
    return rc;
}

int sse_feed(struct sse *s, struct pd_str bytes)
{
    int rc = 0;

    for (size_t i = 0; i < bytes.len && rc == 0;) {
        size_t from = i;

        if (s->after_cr && bytes.ptr[i] == '\n') { /* the second half of CRLF */
            s->after_cr = false;
            i++;
            continue;
        }
        s->after_cr = false;
        while (i < bytes.len && bytes.ptr[i] != '\n' && bytes.ptr[i] != '\r')
            i++;
        rc = pd_buf_add(&s->line, bytes.ptr + from, i - from);
        if (rc == 0 && i < bytes.len) {
            s->after_cr = bytes.ptr[i++] == '\r';
            rc = end_line(s);
        }
    }
    return rc;
}

#include "net/sse.h"

void net_sse_init(struct net_sse *s, size_t max_bytes,
                  int (*each)(void *user, const struct net_sse_event *e), void *user)
{
    *s = (struct net_sse){
        .line = PD_BUF_INIT(max_bytes), .data = PD_BUF_INIT(max_bytes), .each = each, .user = user};
}

void net_sse_done(struct net_sse *s)
{
    pd_buf_done(&s->line);
    pd_buf_done(&s->data);
}

void net_sse_restart(struct net_sse *s)
{
    pd_buf_clear(&s->line);
    pd_buf_clear(&s->data);
    s->type[0] = '\0';
    s->has_data = s->after_cr = s->begun = false;
}

static int end_event(struct net_sse *s)
{
    const struct net_sse_event e = {s->id, s->type, pd_buf_str(&s->data)};
    int rc = s->has_data ? s->each(s->user, &e) : 0;

    pd_buf_clear(&s->data);
    s->has_data = false;
    s->type[0] = '\0';
    return rc;
}

static int set_text(char *to, size_t size, struct pd_str value)
{
    if (value.len >= size)
        return PD_ELIMIT;
    if (value.len)
        memcpy(to, value.ptr, value.len);
    to[value.len] = '\0';
    return 0;
}

/* One line without its end. */
static int take_line(struct net_sse *s, struct pd_str line)
{
    ptrdiff_t colon = pd_str_find(line, PD_STR(":"));
    struct pd_str field = pd_str_sub(line, 0, colon < 0 ? line.len : (size_t)colon);
    struct pd_str value = pd_str_sub(line, field.len + 1, line.len);

    if (line.len == 0)
        return end_event(s);
    if (pd_str_starts(value, PD_STR(" ")))
        value = pd_str_sub(value, 1, value.len);
    if (pd_str_eq(field, PD_STR("id")))
        return set_text(s->id, sizeof s->id, value);
    if (pd_str_eq(field, PD_STR("event")))
        return set_text(s->type, sizeof s->type, value);
    if (pd_str_eq(field, PD_STR("data"))) {
        if (s->has_data)
            pd_buf_addc(&s->data, '\n');
        s->has_data = true;
        pd_buf_adds(&s->data, value);
        return pd_buf_rc(&s->data) < 0 ? PD_ELIMIT : 0;
    }
    return 0; /* a comment, or a field of a later day */
}

static int end_line(struct net_sse *s)
{
    const struct pd_str bom = PD_STR("\xef\xbb\xbf");
    struct pd_str line = pd_buf_str(&s->line);
    int rc;

    if (!s->begun && pd_str_starts(line, bom))
        line = pd_str_sub(line, bom.len, line.len);
    s->begun = true;
    rc = take_line(s, line);
    pd_buf_clear(&s->line);
    return rc;
}

int net_sse_add(struct net_sse *s, struct pd_str piece)
{
    int rc = 0;

    for (size_t i = 0; i < piece.len && rc == 0;) {
        size_t from = i;

        if (s->after_cr && piece.ptr[i] == '\n') { /* the second half of CRLF */
            s->after_cr = false;
            i++;
            continue;
        }
        s->after_cr = false;
        while (i < piece.len && piece.ptr[i] != '\n' && piece.ptr[i] != '\r')
            i++;
        if (pd_buf_add(&s->line, piece.ptr + from, i - from) < 0)
            return PD_ELIMIT;
        if (i < piece.len) {
            s->after_cr = piece.ptr[i++] == '\r';
            rc = end_line(s);
        }
    }
    return rc;
}

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
    s->after_cr = false;
}

static int end_event(struct net_sse *s)
{
    const struct net_sse_event e = {s->id, s->type, pd_buf_str(&s->data)};
    int rc = s->data.len ? s->each(s->user, &e) : 0;

    pd_buf_clear(&s->data);
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
        if (s->data.len)
            pd_buf_addc(&s->data, '\n');
        pd_buf_adds(&s->data, value);
        return pd_buf_rc(&s->data) < 0 ? PD_ELIMIT : 0;
    }
    return 0; /* a comment, or a field of a later day */
}

int net_sse_add(struct net_sse *s, struct pd_str piece)
{
    int rc = 0;

    for (size_t i = 0; i < piece.len && rc == 0; i++) {
        char c = piece.ptr[i];
        bool ends = c == '\r' || (c == '\n' && !s->after_cr);

        if (ends) {
            rc = take_line(s, pd_buf_str(&s->line));
            pd_buf_clear(&s->line);
        } else if (c != '\n') {
            pd_buf_addc(&s->line, c);
            rc = pd_buf_rc(&s->line) < 0 ? PD_ELIMIT : 0;
        }
        s->after_cr = c == '\r';
    }
    return rc;
}

/* Stop strings of a job: the text that ends a line and is not of it. A node keeps all it drew, the
 * stop string too, so that its text is that of its tokens; the line's text ends before it. */
#include "core/search_int.h"

size_t pd_stop_at(const char *const *stops, struct pd_str line, size_t n_last)
{
    size_t begin = line.len, end = line.len + 1;

    for (const char *const *s = stops; s && *s; s++) {
        struct pd_str stop = pd_str_of(*s);
        size_t old = line.len - n_last, from = old + 1 > stop.len ? old + 1 - stop.len : 0;
        ptrdiff_t at = pd_str_find(pd_str_sub(line, from, line.len), stop);

        if (at >= 0 && from + (size_t)at + stop.len < end) {
            begin = from + (size_t)at;
            end = begin + stop.len;
        }
    }
    return begin;
}

size_t search_stop_free(const struct pd_job *job, struct pd_str text)
{
    size_t held = 0;

    for (const char *const *s = job->stops; s && *s; s++) {
        struct pd_str stop = pd_str_of(*s);
        size_t n = stop.len - 1 < text.len ? stop.len - 1 : text.len;

        while (n > held && !pd_str_ends(text, pd_str_sub(stop, 0, n)))
            n--;
        held = n > held ? n : held;
    }
    return text.len - held;
}

struct pd_str search_stop_before(struct search *s, const struct node *n)
{
    char *text = search_alloc(s, PD_STOP_MAX_BYTES);
    size_t at = PD_STOP_MAX_BYTES;

    for (; !n->prompt && at > 0; n = n->parent) {
        size_t len = n->text.len < at ? n->text.len : at;

        if (len)
            memcpy(text + (at -= len), n->text.ptr + n->text.len - len, len);
    }
    return (struct pd_str){text + at, PD_STOP_MAX_BYTES - at};
}

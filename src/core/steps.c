/* See steps.h. */
#include "core/steps.h"

struct pd_str *pd_steps_split(struct pd_arena *a, struct pd_str text, size_t *out_n)
{
    size_t max = 1, n = 0, from = 0;
    struct pd_str *steps;

    for (size_t i = 0; i + 1 < text.len; i++)
        max += (text.ptr[i] == '\n' && text.ptr[i + 1] == '\n') || text.ptr[i] == '<';
    steps = pd_arena_array(a, max, sizeof *steps);
    if (!steps)
        return NULL;
    while (from <= text.len) {
        struct pd_str rest = pd_str_sub(text, from, text.len);
        ptrdiff_t blank = pd_str_find(rest, PD_STR(PD_STEP_DELIMITER));
        ptrdiff_t think = pd_str_find(rest, PD_STR(PD_THINK_END));
        size_t end = rest.len, skip = 0;
        struct pd_str step;

        if (blank >= 0) {
            end = (size_t)blank;
            skip = 2;
        }
        if (think > 0 && (size_t)think < end) { /* at 0 it opens this very step */
            end = (size_t)think;
            skip = 0;
        }
        step = pd_str_trim(pd_str_sub(rest, 0, end));
        if (step.len)
            steps[n++] = step;
        if (end == rest.len)
            break;
        from += end + skip;
    }
    *out_n = n;
    return steps;
}

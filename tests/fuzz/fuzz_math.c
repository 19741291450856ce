/* Bytes as two answers, with a line's end between them. Comparing them gives the same both ways
 * round and again; an answer is never another than itself; and a key is the same each time. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/math.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check_key(struct pd_str s)
{
    struct pd_buf once = PD_BUF_INIT(1 << 16), twice = PD_BUF_INIT(1 << 16);

    if (pd_math_key(s, &once) != pd_math_key(s, &twice) ||
        !pd_str_eq(pd_buf_str(&once), pd_buf_str(&twice)))
        abort();
    pd_buf_done(&once);
    pd_buf_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct pd_str all = {(const char *)data, n_bytes}, a, b;
    struct pd_math_result r, back;
    ptrdiff_t at = pd_str_find(all, PD_STR("\n"));

    a = pd_str_sub(all, 0, at < 0 ? all.len : (size_t)at);
    b = at < 0 ? a : pd_str_sub(all, (size_t)at + 1, all.len);
    pd_math_compare(a, b, &r);
    pd_math_compare(b, a, &back);
    if (r.verdict != back.verdict || !r.reason[0])
        abort();
    pd_math_compare(a, a, &r);
    if (r.verdict == PD_MATH_DIFFERENT)
        abort();
    check_key(a);
    check_key(b);
    return 0;
}

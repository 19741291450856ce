/* Bytes as a JSON text. What is refused has an error that says why; what is taken means something
 * that can be written and read again to the same: so the checks before the parser and the parser
 * agree on where strings, escapes and values end. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define DEPTH_MAX 64

/* Every string is UTF-8 without a NUL in it, no key is there twice, nothing is deeper than it may
 * be. */
static void check(const struct pd_json *v, int depth)
{
    const char *text = pd_json_string(v);

    if (depth > DEPTH_MAX || (text && !pd_utf8_valid(pd_str_of(text))))
        abort();
    for (const struct pd_json *m = pd_json_first(v); m; m = pd_json_next(m)) {
        if (pd_json_is_object(v) && pd_json_get(v, pd_json_key(m)) != m)
            abort();
        check(m, depth + 1);
    }
}

static void write_out(const struct pd_json *v, struct pd_buf *out)
{
    struct pd_jw w;

    pd_jw_init(&w, out);
    pd_jw_value(&w, v);
    if (pd_buf_rc(out) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct pd_buf once = PD_BUF_INIT((size_t)1 << 26), twice = PD_BUF_INIT((size_t)1 << 26);
    struct pd_json *v = NULL, *again = NULL;
    struct pd_err err = {0};

    if (pd_json_parse((struct pd_str){(const char *)data, n_bytes}, &v, &err) < 0) {
        if (v || err.code == PD_OK || !err.text[0])
            abort();
        return 0;
    }
    check(v, 0);
    write_out(v, &once);
    if (pd_json_parse(pd_buf_str(&once), &again, &err) < 0)
        abort();
    write_out(again, &twice);
    if (!pd_str_eq(pd_buf_str(&once), pd_buf_str(&twice)))
        abort();
    pd_json_free(v);
    pd_json_free(again);
    pd_buf_done(&once);
    pd_buf_done(&twice);
    return 0;
}

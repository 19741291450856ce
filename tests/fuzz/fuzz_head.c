/* Any bytes as the file of a head: the first says how wide the model is. What is taken has all its
 * numbers, and they are numbers. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check(const float *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        if (!isfinite(v[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct eng_head_file h;
    struct pd_err err = {0};

    if (n_bytes == 0)
        return 0;
    if (eng_head_parse((struct pd_str){(const char *)data + 1, n_bytes - 1}, data[0], &h, &err) <
        0) {
        if (err.code == PD_OK || !err.text[0])
            abort();
        return 0;
    }
    check(h.dense, (size_t)h.n_mid * data[0]);
    check(h.dense_bias, h.n_mid);
    check(h.out, (size_t)h.n_cls * h.n_mid);
    check(h.out_bias, h.n_cls);
    eng_head_done(&h);
    return 0;
}

/* Heads of reward models as safetensors files: with the numbers that tests/reference/readouts.py
 * has, too, or as a test writes them. */
#ifndef PD_TESTS_HEAD_FILE_H
#define PD_TESTS_HEAD_FILE_H

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* header and data as a file has them. */
static inline void head_bytes(struct pd_buf *out, const char *header, const void *data, size_t n)
{
    uint64_t length = strlen(header);

    for (int i = 0; i < 8; i++)
        pd_buf_addc(out, (char)(length >> 8 * i));
    pd_buf_addz(out, header);
    if (pd_buf_add(out, data, n) < 0)
        abort();
}

static inline void head_values(struct pd_buf *out, size_t n, uint64_t seed, double scale)
{
    for (uint64_t i = 1; i <= n; i++) {
        double bits = (double)((i * 2654435761u + seed * 40503u) % (UINT64_C(1) << 32));
        float v = (float)((bits / 2147483648.0 - 1) * scale);

        if (pd_buf_add(out, &v, sizeof(v)) < 0)
            abort();
    }
}

/* kind: mlp value score, of a model n_embd wide. */
static inline void head_of_kind(struct pd_buf *out, const char *kind, size_t n_embd)
{
    struct pd_buf data = PD_BUF_INIT(1 << 20), header = PD_BUF_INIT(4096);
    size_t n = n_embd;

    if (strcmp(kind, "mlp") == 0) {
        size_t at[] = {48 * n * 4, 48 * n * 4 + 48 * 4, 48 * n * 4 + 48 * 4 + 2 * 48 * 4,
                       48 * n * 4 + 48 * 4 + 2 * 48 * 4 + 8};

        head_values(&data, 48 * n, 1, 0.03);
        head_values(&data, 48, 2, 0.5);
        head_values(&data, 96, 3, 0.6);
        head_values(&data, 2, 4, 0.5);
        pd_buf_printf(
            &header,
            "{\"__metadata__\":{\"format\":\"pt\"},"
            "\"score.0.weight\":{\"dtype\":\"F32\",\"shape\":[48,%zu],\"data_offsets\":[0,%zu]},"
            "\"score.0.bias\":{\"dtype\":\"F32\",\"shape\":[48],\"data_offsets\":[%zu,%zu]},"
            "\"score.2.weight\":{\"dtype\":\"F32\",\"shape\":[2,48],\"data_offsets\":[%zu,%zu]},"
            "\"score.2.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}}",
            n, at[0], at[0], at[1], at[1], at[2], at[2], at[3]);
    } else if (strcmp(kind, "value") == 0) {
        head_values(&data, n, 5, 0.05);
        head_values(&data, 1, 6, 0.5);
        pd_buf_printf(&header,
                      "{\"v_head.summary.weight\":{\"dtype\":\"F32\",\"shape\":[1,%zu],"
                      "\"data_offsets\":[0,%zu]},\"v_head.summary.bias\":{\"dtype\":\"F32\","
                      "\"shape\":[1],\"data_offsets\":[%zu,%zu]}}",
                      n, 4 * n, 4 * n, 4 * n + 4);
    } else {
        head_values(&data, n, 7, 0.05);
        pd_buf_printf(&header,
                      "{\"score.weight\":{\"dtype\":\"F32\",\"shape\":[1,%zu],"
                      "\"data_offsets\":[0,%zu]}}",
                      n, 4 * n);
    }
    head_bytes(out, header.data, data.data, data.len);
    pd_buf_done(&data);
    pd_buf_done(&header);
}

#endif

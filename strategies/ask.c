#include "strategies/ask.h"

int ask(struct search *s, struct pd_buf *questions, int n, struct pd_str *out_said,
        struct node **out_node, struct pd_err *err)
{
    struct node **node = out_node ? out_node : search_array(s, n), **open = search_array(s, n);
    double temperature = search_temperature(s);
    int rc = 0, n_open = 0;

    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = pd_buf_rc(&questions[i]) < 0
                     ? pd_fail(err, PD_ENOMEM, "out of memory for a prompt")
                     : search_prompt(s, pd_buf_str(&questions[i]), true, &node[i], err);
        pd_buf_done(&questions[i]);
        if (rc == 0 && !search_failed(node[i]))
            open[n_open++] = node[i];
    }
    if (rc < 0)
        return rc;
    search_set_temperature(s, 0);
    if (n_open)
        rc = search_extend(s, open, n_open, UNTIL_END, open, err);
    search_set_temperature(s, temperature);
    for (int i = n; i-- > 0 && rc == 0;) {
        out_said[i] = PD_STR("");
        if (!search_failed(node[i])) {
            node[i] = open[--n_open];
            out_said[i] = pd_str_trim(search_line(s, node[i]));
        }
    }
    return rc;
}

int ask_numbers(struct pd_str text, int n, bool bracketed, int *out)
{
    int count = 0;

    for (size_t i = 0; i < text.len; i++) {
        int64_t v;
        size_t k = i;
        bool skip;

        while (k < text.len && text.ptr[k] >= '0' && text.ptr[k] <= '9')
            k++;
        skip =
            bracketed && (i == 0 || text.ptr[i - 1] != '[' || k == text.len || text.ptr[k] != ']');
        if (k > i && pd_parse_i64(pd_str_sub(text, i, k), &v) && v >= 1 && v <= n) {
            for (int j = 0; j < count; j++)
                skip |= out[j] == (int)v;
            if (!skip)
                out[count++] = (int)v;
        }
        i = k > i ? k - 1 : i;
    }
    return count;
}

/* Data sets in others' forms: see dataset.h. */
#include "app/dataset.h"

#include <string.h>

#include "base/hash.h"
#include "base/rng.h"

#define CHOICES 4

/* GSM8K: a worked solution, and behind #### the answer. */
static int finish_gsm8k(const struct pd_json *line, const char *id, struct pd_buf *question,
                        struct pd_buf *answer, struct pd_err *err)
{
    struct pd_str all = pd_buf_str(answer), last;
    ptrdiff_t at = pd_str_rfind(all, PD_STR("####"));

    (void)line;
    (void)id;
    (void)question;
    last = pd_str_trim(pd_str_sub(all, at < 0 ? all.len : (size_t)at + 4, all.len));
    if (!last.len)
        return pd_fail(err, PD_EFORMAT, "its answer has no final one behind '####'");
    memmove(answer->data, last.ptr, last.len);
    answer->len = last.len;
    answer->data[last.len] = '\0';
    return 0;
}

/* GPQA: the right answer and three wrong ones. They become choices A to D, in an order that depends
 * on the problem's id alone. */
static int finish_gpqa(const struct pd_json *line, const char *id, struct pd_buf *question,
                       struct pd_buf *answer, struct pd_err *err)
{
    static const char *const members[CHOICES] = {"Correct Answer", "Incorrect Answer 1",
                                                 "Incorrect Answer 2", "Incorrect Answer 3"};
    uint64_t key = pd_hash64(id, strlen(id));
    int order[CHOICES] = {0, 1, 2, 3};

    for (int i = CHOICES - 1; i > 0; i--) { /* Fisher and Yates */
        int k = (int)(pd_rng_uniform(key, (uint64_t)i, 0) * (i + 1)), t = order[i];

        order[i] = order[k];
        order[k] = t;
    }
    pd_buf_clear(answer);
    pd_buf_addc(question, '\n');
    for (int i = 0; i < CHOICES; i++) {
        const char *text = pd_json_string(pd_json_get(line, members[order[i]]));
        struct pd_str s = pd_str_trim(pd_str_of(text));

        if (!s.len)
            return pd_fail(err, PD_EFORMAT, "it has no choice '%s'", members[order[i]]);
        pd_buf_printf(question, "\n(%c) %.*s", 'A' + i, (int)s.len, s.ptr);
        if (order[i] == 0)
            pd_buf_addc(answer, (char)('A' + i));
    }
    return 0;
}

static const struct dataset_format formats[] = {
    {.name = "plain", .id = {"id"}, .question = {"question"}, .answer = {"answer"}},
    {.name = "gsm8k",
     .id = {"id"},
     .question = {"question"},
     .answer = {"answer"},
     .grade = PD_GRADE_MATH,
     .finish = finish_gsm8k},
    {.name = "math500",
     .id = {"unique_id"},
     .question = {"problem"},
     .answer = {"answer"},
     .grade = PD_GRADE_MATH},
    {.name = "aime",
     .id = {"id", "ID"},
     .question = {"problem", "Problem"},
     .answer = {"answer", "Answer"},
     .grade = PD_GRADE_MATH},
    {.name = "gpqa",
     .id = {"Record ID"},
     .question = {"Question"},
     .answer = {"Correct Answer"},
     .grade = PD_GRADE_MATH,
     .finish = finish_gpqa},
};

int dataset_format_find(const char *name, const struct dataset_format **out, struct pd_err *err)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0) {
            *out = &formats[i];
            return 0;
        }
    return pd_fail(err, PD_EINVAL,
                   "no data set format '%.60s': there are plain, gsm8k, math500, aime and gpqa",
                   name);
}

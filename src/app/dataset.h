/* Data sets in the forms that others publish them in (JSON Lines; the data stay with the user): how
 * a line becomes a problem. No thread of its own, no state. */
#ifndef PD_APP_DATASET_H
#define PD_APP_DATASET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "core/grade.h"

struct dataset_format {
    const char *name;
    const char *id[3], *question[3], *answer[3]; /* members, the first that is there; NULL ends */
    enum pd_grade grade;                         /* unless a recipe says another */
    /* Makes the problem of the members' texts, where these are not yet it; id: the problem's. NULL:
     * they are. PD_EFORMAT. */
    int (*finish)(const struct pd_json *line, const char *id, struct pd_buf *question,
                  struct pd_buf *answer, struct pd_err *err);
};

/* "plain" (id, question, answer), "gsm8k", "math500", "aime", "gpqa". PD_EINVAL names them. */
int dataset_format_find(const char *name, const struct dataset_format **out, struct pd_err *err);

#endif

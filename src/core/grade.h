/* Whether an answer is the expected one. Any thread, no state. */
#ifndef PD_CORE_GRADE_H
#define PD_CORE_GRADE_H

#include "base/err.h"
#include "base/str.h"

#define PD_GRADES "exact|numeric|math_equal|regex" /* their names */
enum pd_grade {
    PD_GRADE_EXACT,   /* the same canonical key, by which votes are grouped too */
    PD_GRADE_NUMERIC, /* the last numbers of both are equal: integers, decimals, fractions */
    PD_GRADE_MATH,    /* they mean the same: math.h; what cannot be decided is not right */
    PD_GRADE_REGEX,   /* what is expected is a regular expression that all of the answer matches */
};

/* PD_EINVAL names the ones there are. */
int pd_grade_find(const char *name, enum pd_grade *out, struct pd_err *err);
const char *pd_grade_name(enum pd_grade g);
/* PD_EINVAL: nothing can be graded by this expected answer (no number in it, no regular
 * expression). */
int pd_grade_check(enum pd_grade g, struct pd_str expect, struct pd_err *err);
bool pd_grade(enum pd_grade g, struct pd_str answer, struct pd_str expect);

#endif

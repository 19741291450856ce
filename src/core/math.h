/* Answers by their meaning: 1/2 is 0.5, \frac{\sqrt 2}{2} is 1/\sqrt{2}, {1, 2} is {2, 1}. LaTeX as
 * models write it and plain text are read into one form; what exact arithmetic can decide it
 * decides, what is left is evaluated with proven error bounds. Any thread, no state; time and
 * memory have ceilings that hostile text does not pass. docs/design/math.md */
#ifndef PD_CORE_MATH_H
#define PD_CORE_MATH_H

#include "base/buf.h"

enum pd_math_verdict {
    PD_MATH_UNDECIDED, /* no proof of either, or a matter of what the problem asks for */
    PD_MATH_EQUAL,
    PD_MATH_DIFFERENT,
};

struct pd_math_result {
    enum pd_math_verdict verdict;
    char reason[200]; /* one sentence without a trailing period */
};

/* The verdict is the same when the two change places. It is not transitive (5 km is 5, and 5 is
 * 5 m): what groups by meaning uses pd_math_key. */
void pd_math_compare(struct pd_str answer, struct pd_str expect, struct pd_math_result *out);
/* A text that answers of one meaning share, appended to out: of numbers, closed forms, polynomials,
 * and of lists, sets, tuples, intervals and matrices of them. Answers with one key never compare as
 * different; equal ones may have several keys. PD_ENOENT: it is none of these. */
int pd_math_key(struct pd_str answer, struct pd_buf *out);
const char *pd_math_verdict_name(enum pd_math_verdict v); /* "equal", "different", "undecided" */

#endif

/* What a line of thought answers. */
#ifndef PD_CORE_ANSWER_H
#define PD_CORE_ANSWER_H

#include "base/buf.h"

/* The last balanced \boxed{…}; else the text after the last "final answer is" / "answer is" /
 * "answer:" up to the end of the line; else empty. Borrowed from text. */
struct pd_str pd_answer_extract(struct pd_str text);
/* Canonical key, by which votes are grouped: appended to out; empty stays empty. It has one form of
 * numbers, closed forms, polynomials and lists of them (pd_math_key), and of words. */
int pd_answer_key(struct pd_str answer, struct pd_buf *out);

#endif

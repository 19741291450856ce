/* Other strategies named in an option: "beam(samples=4, expand=2)". */
#ifndef PD_STRATEGIES_NESTED_H
#define PD_STRATEGIES_NESTED_H

#include "base/arena.h"
#include "core/search.h"

/* Takes what is before the next `separator` outside of brackets, trimmed, off the text. */
struct pd_str nested_take(struct pd_str *io_rest, char separator);
/* "NAME" or "NAME(ARGUMENTS)", trimmed. PD_EINVAL: the brackets do not match. */
int nested_split(struct pd_str text, struct pd_str *out_name, struct pd_str *out_args,
                 struct pd_err *err);
/* A strategy with its options, KEY=VALUE separated by commas; a value with commas stands in
 * brackets. params live in the arena. PD_EINVAL says what is wrong. */
int nested_parse(struct pd_str text, struct pd_arena *arena, const struct pd_strategy **out,
                 void **out_params, struct pd_err *err);

#endif

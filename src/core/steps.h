/* A line of thought cut into steps: at blank lines, and before the end of thinking. */
#ifndef PD_CORE_STEPS_H
#define PD_CORE_STEPS_H

#include "base/arena.h"

#define PD_STEP_DELIMITER "\n\n"
#define PD_THINK          "<think>"
#define PD_THINK_END      "</think>"

/* Trimmed, non-empty steps of text, borrowed from it; the array is in the arena. NULL: out of
 * memory. */
struct pd_str *pd_steps_split(struct pd_arena *a, struct pd_str text, size_t *out_n);

#endif

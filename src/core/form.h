/* The form of an answer: a grammar or a JSON Schema that what a line says at last must fit. The
 * generator sees to it while it draws (its lanes have the form, see generator.h); what the text
 * before it says is free where a line thinks first. docs/design/grammar.md */
#ifndef PD_CORE_FORM_H
#define PD_CORE_FORM_H

#include "base/buf.h"

struct pd_form {
    bool schema; /* text is a JSON Schema, else a grammar in GBNF */
    const char *text;
    const char *after; /* lines are free up to the first of these; NULL: as job.h says */
    const char *begin; /* but only if they begin so; NULL: in any case */
    const char *names; /* the member of the JSON object that names the answer; NULL: all is it */
};

/* What a line answers, borrowed from it: with a form (NULL: none) all that fits that, else, and
 * where a grammar's text names an answer, as pd_answer_extract. */
struct pd_str pd_form_answer(const struct pd_form *f, struct pd_str line);
/* Its canonical key, appended to out: of JSON the same whatever the order of members and the white
 * space is. */
int pd_form_key(const struct pd_form *f, struct pd_str answer, struct pd_buf *out);
/* Whether a line has not come to the part with the form yet. */
bool pd_form_is_ahead(const struct pd_form *f, struct pd_str line);

#endif

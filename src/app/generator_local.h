/* The built-in engine as a core/generator.h generator (private to src/app). */
#ifndef PD_APP_GENERATOR_LOCAL_H
#define PD_APP_GENERATOR_LOCAL_H

#include "app/app.h"
#include "core/generator.h"
#include "engine/engine.h"

/* For one job; holds a reference to m; name and chat_template (Jinja; NULL: the model's own) are
 * borrowed. */
int app_generator_new(struct eng *e, struct eng_model *m, const char *name,
                      const char *chat_template, struct pd_generator **out, struct pd_err *err);
/* From now on its lanes guess at their next tokens; draft: a model with the same tokens, or NULL.
 */
int app_generator_speculate(struct pd_generator *g, const struct app_decode *how,
                            struct eng_model *draft, struct pd_err *err);
/* From now on its contexts are steered behind their prompts; s is taken over. */
void app_generator_steer(struct pd_generator *g, struct eng_steer *s);
/* The grammar of a form, for texts (t NULL) or a model's tokens; errors as eng_grammar_new. */
int app_grammar_new(const struct eng_tokenizer *t, const struct pd_form *f,
                    struct eng_grammar **out, struct pd_err *err);

#endif

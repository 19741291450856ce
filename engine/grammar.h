/* Constrained output (private to the engine): grammars as pushdown automata over bytes, and which
 * tokens of a vocabulary may come next. docs/design/grammar.md
 *
 * A grammar is immutable but for its cache of masks, which is the scheduler's: grammar_mask is for
 * one thread. All else any thread may call. Masks are a function of the grammar and the text. */
#ifndef PD_ENGINE_GRAMMAR_H
#define PD_ENGINE_GRAMMAR_H

#include "engine/engine.h"

/* Where a text stands in a grammar. A text is added byte by byte; what it was before is kept, so
 * that bytes can be taken away again. */
struct grammar_text {
    struct eng_grammar *g;
    struct grammar_item *items; /* of all sets, one behind the other */
    size_t n_items, cap_items;
    size_t *sets; /* [n_sets] where each begins in items; set i is behind i bytes */
    size_t n_sets, cap_sets;
    uint64_t work; /* spent since it was last set to 0 */
    bool open;     /* a rule that began before the text may end anywhere */
};

/* The empty text. PD_ENOMEM. */
int grammar_text_init(struct grammar_text *t, struct eng_grammar *g, struct pd_err *err);
void grammar_text_done(struct grammar_text *t);
/* Adds a text; PD_EINVAL when it does not fit: then as much as does has been added. PD_ELIMIT: the
 * grammar can read it in too many ways. */
int grammar_text_add(struct grammar_text *t, struct pd_str text, struct pd_err *err);
/* The same of a token's. */
int grammar_text_add_token(struct grammar_text *t, int32_t id, struct pd_err *err);
bool grammar_text_whole(const struct grammar_text *t); /* it may end here */

size_t grammar_mask_words(size_t n_vocab);
/* Sets the bits of the tokens that may come next, and clears all others; mask has
 * grammar_mask_words(n_vocab) words. End tokens may come where the text may end. Returns how many
 * there are; PD_ENOMEM, PD_ELIMIT. */
int64_t grammar_mask(struct grammar_text *t, uint64_t *mask, size_t n_vocab, struct pd_err *err);

const struct eng_tokenizer *grammar_tokenizer(const struct eng_grammar *g);

#endif

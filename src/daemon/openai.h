/* What the OpenAI-compatible routes make of a job: its text cut into reasoning and content, its
 * lines as choices in rank order, log-probabilities, usage. Any thread; nothing here knows of HTTP.
 */
#ifndef PD_DAEMON_OPENAI_H
#define PD_DAEMON_OPENAI_H

#include "app/app.h"
#include "base/json.h"

/* ---- reasoning and content ------------------------------------------------------------------ */

/* A text that comes in pieces: what stands in <think>…</think>, then the rest, each without the
 * blanks that it begins with. Of a text with tools what may be a call is held back to the end. */
struct openai_text {
    struct pd_buf all; /* so far */
    enum { TEXT_BEGINS, TEXT_THINKS, TEXT_THOUGHT, TEXT_ANSWERS } state;
    size_t done;    /* bytes of all that are dealt with */
    size_t content; /* where the content begins, once it does */
    bool thinks;    /* the prompt has opened a thought */
    bool plain;     /* all of it is content, whatever it says */
    bool has_tools;
    struct pd_buf reasoning_out, content_out; /* what is new; the caller takes and clears it */
};
void openai_text_init(struct openai_text *t, size_t max_bytes);
void openai_text_done(struct openai_text *t);
void openai_text_add(struct openai_text *t, struct pd_str piece);
/* No more comes: what was held back is reasoning or content too. With tools the content is left
 * where it is, see openai_text_content. */
void openai_text_end(struct openai_text *t);
struct pd_str openai_text_content(const struct openai_text *t); /* all of it so far, held or not */

/* Whether a prompt ends by opening a thought; continues: or in the middle of one, begun by the
 * message that is to go on. */
bool openai_opens_thought(const struct eng_tokenizer *t, const int32_t *ids, size_t n,
                          bool continues);

/* ---- choices -------------------------------------------------------------------------------- */

struct openai_choice {
    uint32_t node;
    const char *text;   /* its line */
    const char *answer; /* what the line names as its answer; NULL: nothing */
    bool ended;         /* it ended by itself, or by a stop string */
    double score;       /* -1: not scored */
    uint32_t votes;     /* ended lines with the same answer */
};
/* The lines of a result from the best to the worst, without those that say (by_text: literally) the
 * same as a better one (form: of the job's answers, or NULL): the answer first, then what ended,
 * then by score, votes and age. All in the arena. PD_ENOMEM. */
int openai_choices(const struct pd_result *r, const struct pd_form *form, bool by_text,
                   struct pd_arena *a, struct openai_choice **out, size_t *out_n,
                   size_t *out_n_lines);

/* ---- JSON ----------------------------------------------------------------------------------- */

struct openai_tokens { /* of a stretch of a line */
    const struct eng_tokenizer *tokenizer;
    const int32_t *ids;
    const float *logprobs;
    const int32_t *top_ids; /* [n][n_top]; NULL: none */
    const float *top_logprobs;
    size_t n, n_top;
};
/* Items of logprobs.content, into an open array. */
void openai_put_tokens(struct pd_jw *w, const struct openai_tokens *t);
/* The stretches of a line, from its beginning, at most max: how many. The end token and what
 * belongs to a stop string are not among them. */
size_t openai_line_tokens(const struct pd_result *r, const struct openai_choice *c,
                          const struct eng_tokenizer *t, struct openai_tokens *out, size_t max);
/* {"prompt_tokens":…} of n results together; n_content: tokens of what is shown as content. */
struct openai_usage {
    uint64_t prompt, cached, generated, content;
};
void openai_put_usage(struct pd_jw *w, const struct openai_usage *u);
/* "ponder":{…} */
void openai_put_job(struct pd_jw *w, const struct pd_job *job, const struct pd_result *r,
                    size_t n_lines, const char *unknown, const char *warning);

#endif

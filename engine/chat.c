/* Chat: messages through a template into the tokens of a prompt.
 *
 * 1. The ids are those of tokenising the rendered text as a whole, control tokens included, as long
 *    as no message holds the text of one.
 * 2. What a message says is never a control token, not even together with what the template says
 *    beside it: the origin of every rendered byte goes to the tokenizer (tok_run).
 *
 * Roles are one of three words, and count as the template's text: `'<|' + role + '|>'` is a token.
 */
#include "engine/jinja.h"
#include "engine/tokenizer_int.h"

#include <stdlib.h>

/* Written for this program; each prints what the model family of its name was trained on, without
 * tools. `none` is for models without a conversation: the texts as they are. */
static const struct {
    const char *name, *text;
} builtins[] = {
    {"none", "{{ bos_token if add_bos_token }}"
             "{% for m in messages %}{{ m.content }}{{ '\n\n' if not loop.last }}{% endfor %}"},
    {"chatml", "{{ bos_token if add_bos_token }}"
               "{% for m in messages %}"
               "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
               "{% endfor %}"
               "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"},
    {"llama2", "{{ bos_token }}{% set ns = namespace(system='') %}"
               "{% for m in messages %}"
               "{% if m.role == 'system' %}"
               "{% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
               "{% elif m.role == 'user' %}"
               "{{ (bos_token if loop.previtem and loop.previtem.role == 'assistant' else '') + "
               "'[INST] ' + ns.system + m.content | trim + ' [/INST]' }}"
               "{% set ns.system = '' %}"
               "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"},
    {"llama3",
     "{{ bos_token }}{% for m in messages %}"
     "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + "
     "'<|eot_id|>' }}{% endfor %}"
     "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt }}"},
    {"mistral", "{{ bos_token }}{% set ns = namespace(system='') %}"
                "{% for m in messages %}"
                "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
                "{% elif m.role == 'user' %}"
                "{{ '[INST] ' + ns.system + m.content + ' [/INST]' }}{% set ns.system = '' %}"
                "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"},
    {"gemma", "{{ bos_token }}{% set ns = namespace(system='') %}"
              "{% for m in messages %}"
              "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}{% else %}"
              "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\n' + "
              "ns.system + m.content | trim + '<end_of_turn>\n' }}{% set ns.system = '' %}"
              "{% endif %}{% endfor %}"
              "{{ '<start_of_turn>model\n' if add_generation_prompt }}"},
    {"phi3", "{{ bos_token if add_bos_token }}{% for m in messages %}"
             "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
             "{{ '<|assistant|>\n' if add_generation_prompt }}"},
    {"deepseek-r1",
     "{{ bos_token }}{% for m in messages %}"
     "{% if m.role == 'system' %}{{ m.content }}"
     "{% elif m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
     "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}"
     "{% endif %}{% endfor %}"
     "{{ '<｜Assistant｜><think>\n' if add_generation_prompt }}"},
};

#define N_BUILTINS (sizeof(builtins) / sizeof(builtins[0]))

const char *eng_chat_builtin(const char *name)
{
    for (size_t i = 0; i < N_BUILTINS; i++)
        if (strcmp(builtins[i].name, name) == 0)
            return builtins[i].text;
    return NULL;
}

const char *eng_chat_builtin_name(size_t i)
{
    return i < N_BUILTINS ? builtins[i].name : NULL;
}

const char *eng_chat_own(const struct eng_tokenizer *t)
{
    return t->chat_template;
}

/* A variable with the text of a special token; not there when the model has none. */
static void set_token(struct jinja *j, const struct eng_tokenizer *t, const char *name, int32_t id)
{
    if (id >= 0)
        jinja_set(j, name, jinja_string(j, tok_text(t, id), JINJA_TEMPLATE));
}

static int set_messages(struct jinja *j, const struct eng_message *messages, size_t n,
                        struct pd_err *err)
{
    static const char *const roles[] = {"system", "user", "assistant", NULL};
    struct jinja_value list = jinja_list(j);

    for (size_t i = 0; i < n; i++) {
        struct jinja_value m = jinja_dict(j);
        size_t r = 0;

        while (roles[r] && (!messages[i].role || strcmp(roles[r], messages[i].role) != 0))
            r++;
        if (!roles[r])
            return pd_fail(err, PD_EINVAL,
                           "message %zu has the role '%.32s' (known: system, user, assistant)", i,
                           messages[i].role ? messages[i].role : "");
        jinja_put(j, m, "role", jinja_string(j, pd_str_of(roles[r]), JINJA_TEMPLATE));
        jinja_put(j, m, "content", jinja_string(j, messages[i].content, JINJA_DATA));
        jinja_append(j, list, m);
    }
    jinja_set(j, "messages", list);
    return 0;
}

/* The rendered text lives as long as *out_j. */
static int render(const struct eng_tokenizer *t, const char *template,
                  const struct eng_message *messages, size_t n_messages, struct jinja **out_j,
                  struct jinja_text *out, struct pd_err *err)
{
    const char *source = template ? template : t->chat_template;
    struct jinja *j;
    int rc;

    if (n_messages == 0)
        return pd_fail(err, PD_EINVAL, "a chat needs at least one message");
    if (!source)
        return pd_fail(err, PD_EFORMAT,
                       "the model has no chat template: name one with --chat-template (none: the "
                       "question as it is)");
    rc = jinja_new(pd_str_of(source), &j, err);
    if (rc == 0) {
        set_token(j, t, "bos_token", t->bos);
        set_token(j, t, "eos_token", t->eos);
        set_token(j, t, "unk_token", t->unk);
        jinja_set(j, "add_bos_token", jinja_bool(t->add_bos));
        jinja_set(j, "add_generation_prompt", jinja_bool(true));
        rc = set_messages(j, messages, n_messages, err);
        if (rc < 0) {
            jinja_free(j);
            return rc;
        }
        rc = jinja_render(j, out, err);
        if (rc < 0)
            jinja_free(j);
    }
    if (rc < 0) {
        pd_err_context(err, template ? "in the chat template" : "in the model's chat template");
        return rc;
    }
    *out_j = j;
    return 0;
}

/* Stretches of one origin. */
static int runs_of(const struct jinja_text *text, struct tok_run **out, struct pd_err *err)
{
    struct tok_run *runs;
    size_t n = 1;

    for (size_t i = 1; i < text->len; i++)
        n += text->origin[i] != text->origin[i - 1];
    runs = calloc(n, sizeof(*runs));
    if (!runs)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    n = 0;
    for (size_t i = 0; i < text->len; i++)
        if (i + 1 == text->len || text->origin[i + 1] != text->origin[i]) {
            runs[n].end = i + 1;
            runs[n++].parse =
                text->origin[i] == JINJA_TEMPLATE ? ENG_PARSE_SPECIAL : ENG_PARSE_PLAIN;
        }
    runs[0].parse |= ENG_PARSE_START; /* a prompt is a text, not what goes on behind one */
    *out = runs;
    return 0;
}

int eng_chat(const struct eng_tokenizer *t, const char *template,
             const struct eng_message *messages, size_t n_messages, int32_t **io_ids, size_t *io_n,
             struct pd_err *err)
{
    struct tok_run *runs = NULL;
    struct jinja_text text;
    struct jinja *j = NULL;
    int rc = render(t, template, messages, n_messages, &j, &text, err);

    if (rc == 0)
        rc = runs_of(&text, &runs, err);
    if (rc == 0)
        rc = tok_encode(t, (struct pd_str){text.ptr, text.len}, runs, io_ids, io_n, err);
    free(runs);
    jinja_free(j);
    return rc;
}

int eng_chat_text(const struct eng_tokenizer *t, const char *template,
                  const struct eng_message *messages, size_t n_messages, struct pd_buf *out,
                  struct pd_err *err)
{
    struct jinja_text text;
    struct jinja *j = NULL;
    int rc = render(t, template, messages, n_messages, &j, &text, err);

    if (rc == 0 && pd_buf_adds(out, (struct pd_str){text.ptr, text.len}) < 0)
        rc = pd_fail(err, pd_buf_rc(out), "no room for a prompt of %zu bytes", text.len);
    jinja_free(j);
    return rc;
}

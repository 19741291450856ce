/* Chat: messages through a template into the tokens of a prompt.
 *
 * 1. The ids are those of tokenising the rendered text as a whole, control tokens included, as long
 *    as no message holds the text of one.
 * 2. What a message says is never a control token, not even together with what the template says
 *    beside it: the origin of every rendered byte goes to the tokenizer (tok_run).
 *
 * Roles are one of four words, and count as the template's text: `'<|' + role + '|>'` is a token.
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

/* A template that never names what it is to print would leave it out without a word. */
static int check_named(const char *source, const char *name, const char *what, struct pd_err *err)
{
    return pd_str_find(pd_str_of(source), pd_str_of(name)) >= 0
               ? 0
               : pd_fail(err, PD_EINVAL,
                         "the template does not know of %s: take a model that was trained with "
                         "tools, or name another with --chat-template",
                         what);
}

/* *out is to be freed also when it fails. */
static int parse(const char *json, const char *what, bool (*is)(const struct pd_json *),
                 struct pd_json **out, struct pd_err *err)
{
    int rc;

    *out = NULL;
    rc = pd_json_parse(pd_str_of(json), out, err);
    if (rc == 0 && !is(*out))
        rc = pd_fail(err, PD_EINVAL, "not an %s", is == pd_json_is_array ? "array" : "object");
    if (rc < 0)
        pd_err_context(err, "in %s", what);
    return rc;
}

/* Clients send arguments as the text of an object, templates expect the object. */
static struct jinja_value tool_call(struct jinja *j, const struct pd_json *call)
{
    const struct pd_json *function = pd_json_get(call, "function");
    const char *text = pd_json_string(pd_json_get(function, "arguments"));
    struct jinja_value v = jinja_of_json(j, call, JINJA_DATA), f;
    struct pd_json *arguments = NULL;

    if (text && pd_json_parse(pd_str_of(text), &arguments, NULL) == 0 &&
        pd_json_is_object(arguments)) {
        f = jinja_of_json(j, function, JINJA_DATA);
        jinja_put(j, f, "arguments", jinja_of_json(j, arguments, JINJA_DATA));
        jinja_put(j, v, "function", f);
    }
    pd_json_free(arguments);
    return v;
}

static int put_tool_calls(struct jinja *j, struct jinja_value message, const char *json,
                          struct pd_err *err)
{
    struct jinja_value list = jinja_list(j);
    struct pd_json *calls;
    int rc = parse(json, "tool_calls", pd_json_is_array, &calls, err);

    for (const struct pd_json *c = pd_json_first(calls); c && rc == 0; c = pd_json_next(c))
        jinja_append(j, list, tool_call(j, c));
    jinja_put(j, message, "tool_calls", list);
    pd_json_free(calls);
    return rc;
}

static void put_text(struct jinja *j, struct jinja_value message, const char *key, const char *text)
{
    if (text)
        jinja_put(j, message, key, jinja_string(j, pd_str_of(text), JINJA_DATA));
}

static int set_messages(struct jinja *j, const char *source, const struct pd_message *messages,
                        size_t n, struct pd_err *err)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", NULL};
    struct jinja_value list = jinja_list(j);
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct pd_message *from = &messages[i];
        struct jinja_value m = jinja_dict(j);
        size_t r = 0;

        while (roles[r] && (!from->role || strcmp(roles[r], from->role) != 0))
            r++;
        if (!roles[r])
            return pd_fail(
                err, PD_EINVAL,
                "message %zu has the role '%.32s' (known: system, user, assistant, tool)", i,
                from->role ? from->role : "");
        if (strcmp(roles[r], "tool") == 0)
            rc = check_named(source, "tool", "messages of tools", err);
        jinja_put(j, m, "role", jinja_string(j, pd_str_of(roles[r]), JINJA_TEMPLATE));
        jinja_put(j, m, "content",
                  from->content.ptr ? jinja_string(j, from->content, JINJA_DATA)
                                    : jinja_of_json(j, NULL, JINJA_DATA));
        put_text(j, m, "reasoning_content", from->reasoning);
        put_text(j, m, "reasoning", from->reasoning);
        put_text(j, m, "tool_call_id", from->tool_call_id);
        put_text(j, m, "name", from->name);
        if (rc == 0 && from->tool_calls) {
            rc = check_named(source, "tool_calls", "tool calls", err);
            if (rc == 0)
                rc = put_tool_calls(j, m, from->tool_calls, err);
        }
        jinja_append(j, list, m);
    }
    jinja_set(j, "messages", list);
    return rc;
}

static int set_tools(struct jinja *j, const char *source, const char *json, struct pd_err *err)
{
    struct pd_json *tools;
    int rc = parse(json, "the tools", pd_json_is_array, &tools, err);

    if (rc == 0 && pd_json_size(tools)) {
        rc = check_named(source, "tools", "tools", err);
        jinja_set(j, "tools", jinja_of_json(j, tools, JINJA_DATA));
    }
    pd_json_free(tools);
    return rc;
}

static int set_variables(struct jinja *j, const char *json, struct pd_err *err)
{
    static const char *const ours[] = {"messages",     "tools",     "add_generation_prompt",
                                       "bos_token",    "eos_token", "unk_token",
                                       "add_bos_token"};
    struct pd_json *all;
    int rc = parse(json, "the template's variables", pd_json_is_object, &all, err);

    for (const struct pd_json *v = pd_json_first(all); v && rc == 0; v = pd_json_next(v)) {
        for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
            if (strcmp(pd_json_key(v), ours[i]) == 0)
                rc = pd_fail(err, PD_EINVAL, "the template's variable '%s' is not for you to set",
                             ours[i]);
        jinja_set(j, pd_json_key(v), jinja_of_json(j, v, JINJA_DATA));
    }
    pd_json_free(all);
    return rc;
}

/* Of a turn that is to go on the template prints all that is before it, and its text follows. */
static int check_continue(const struct pd_chat *c, struct pd_err *err)
{
    const struct pd_message *last = &c->messages[c->n_messages - 1];

    if (!last->role || strcmp(last->role, "assistant") != 0)
        return pd_fail(err, PD_EINVAL, "only a message of the assistant can be continued");
    if (last->tool_calls || last->reasoning || !last->content.ptr)
        return pd_fail(err, PD_EINVAL,
                       "a message can be continued that has content, and neither reasoning nor "
                       "tool calls beside it");
    return 0;
}

static int set_chat(struct jinja *j, const struct eng_tokenizer *t, const char *source,
                    const struct pd_chat *c, struct pd_err *err)
{
    int rc;

    if (t) {
        set_token(j, t, "bos_token", t->bos);
        set_token(j, t, "eos_token", t->eos);
        set_token(j, t, "unk_token", t->unk);
        jinja_set(j, "add_bos_token", jinja_bool(t->add_bos));
    }
    jinja_set(j, "add_generation_prompt", jinja_bool(!c->closed));
    rc = set_messages(j, source, c->messages, c->n_messages - c->continue_last, err);
    if (rc == 0 && c->tools)
        rc = set_tools(j, source, c->tools, err);
    if (rc == 0 && c->variables)
        rc = set_variables(j, c->variables, err);
    return rc;
}

struct prompt {
    struct jinja *j;        /* its memory */
    struct jinja_text text; /* rendered */
    struct pd_str more;     /* behind it: a message's */
};

static int render(const struct eng_tokenizer *t, const char *template, const struct pd_chat *c,
                  struct prompt *out, struct pd_err *err)
{
    const char *source = template ? template : t->chat_template;
    struct jinja *j = NULL;
    int rc = 0;

    if (c->n_messages == 0)
        return pd_fail(err, PD_EINVAL, "a chat needs at least one message");
    if (!source)
        return pd_fail(err, PD_EFORMAT,
                       "the model has no chat template: name one with --chat-template (none: the "
                       "question as it is)");
    if (c->continue_last)
        rc = check_continue(c, err);
    if (rc < 0)
        return rc;
    rc = jinja_new(pd_str_of(source), &j, err);
    if (rc == 0) {
        rc = set_chat(j, t, source, c, err);
        if (rc < 0) {
            jinja_free(j);
            return rc;
        }
        rc = jinja_render(j, &out->text, err);
        if (rc < 0)
            jinja_free(j);
    }
    if (rc < 0) {
        pd_err_context(err, template ? "in the chat template" : "in the model's chat template");
        return rc;
    }
    out->j = j;
    out->more = c->continue_last ? c->messages[c->n_messages - 1].content : PD_STR("");
    return 0;
}

static uint8_t origin(const struct prompt *p, size_t i)
{
    return i < p->text.len ? p->text.origin[i] : JINJA_DATA;
}

/* The text in one piece, and its stretches of one origin. */
static int runs_of(const struct prompt *p, struct pd_buf *whole, struct tok_run **out,
                   struct pd_err *err)
{
    struct tok_run *runs;
    size_t n = 1;

    pd_buf_adds(whole, (struct pd_str){p->text.ptr, p->text.len});
    pd_buf_adds(whole, p->more);
    for (size_t i = 1; i < whole->len; i++)
        n += origin(p, i) != origin(p, i - 1);
    runs = calloc(n, sizeof(*runs));
    if (!runs || pd_buf_rc(whole) < 0) {
        free(runs);
        return pd_fail(err, PD_ENOMEM, "out of memory for a prompt");
    }
    n = 0;
    for (size_t i = 0; i < whole->len; i++)
        if (i + 1 == whole->len || origin(p, i + 1) != origin(p, i)) {
            runs[n].end = i + 1;
            runs[n++].parse = origin(p, i) == JINJA_TEMPLATE ? ENG_PARSE_SPECIAL : ENG_PARSE_PLAIN;
        }
    runs[0].parse |= ENG_PARSE_START; /* a prompt is a text, not what goes on behind one */
    *out = runs;
    return 0;
}

int eng_chat(const struct eng_tokenizer *t, const char *template, const struct pd_chat *chat,
             int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    struct pd_buf whole = PD_BUF_INIT(SIZE_MAX / 2);
    struct tok_run *runs = NULL;
    struct prompt p = {0};
    int rc = render(t, template, chat, &p, err);

    if (rc == 0)
        rc = runs_of(&p, &whole, &runs, err);
    if (rc == 0)
        rc = tok_encode(t, pd_buf_str(&whole), runs, io_ids, io_n, err);
    free(runs);
    pd_buf_done(&whole);
    jinja_free(p.j);
    return rc;
}

int eng_chat_text(const struct eng_tokenizer *t, const char *template, const struct pd_chat *chat,
                  struct pd_buf *out, struct pd_err *err)
{
    struct prompt p = {0};
    int rc = render(t, template, chat, &p, err);

    if (rc == 0) {
        pd_buf_adds(out, (struct pd_str){p.text.ptr, p.text.len});
        if (pd_buf_adds(out, p.more) < 0)
            rc = pd_fail(err, pd_buf_rc(out), "no room for a prompt of %zu bytes",
                         p.text.len + p.more.len);
    }
    jinja_free(p.j);
    return rc;
}

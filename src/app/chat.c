/* Conversations as JSON: the members messages, tools, chat_template_kwargs and
 * continue_final_message of a request, or prompt in place of these, as OpenAI's routes and the
 * servers that follow them take them. A stored request has them in the same form. */
#include "app/app_int.h"

#include <stdio.h>
#include <stdlib.h>

#define CHAT_MAX_BYTES ((size_t)16 << 20) /* as a stored request */

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory for the messages");
}

/* A string member; absent or null is NULL. */
static int text_of(const struct pd_json *message, const char *key, struct pd_arena *a,
                   const char **out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(message, key);

    *out = NULL;
    if (!v || pd_json_is_null(v))
        return 0;
    if (!pd_json_string(v))
        return pd_fail(err, PD_EINVAL, "%s must be a string", key);
    *out = pd_arena_dup(a, pd_str_of(pd_json_string(v)));
    return *out ? 0 : no_memory(err);
}

/* A member that is passed on as it is, as text. */
static int json_of(const struct pd_json *of, const char *key, bool (*is)(const struct pd_json *),
                   struct pd_arena *a, const char **out, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(of, key);
    struct pd_buf b = PD_BUF_INIT(CHAT_MAX_BYTES);
    struct pd_jw w;

    *out = NULL;
    if (!v || pd_json_is_null(v))
        return 0;
    if (!is(v))
        return pd_fail(err, PD_EINVAL, "%s must be an %s", key,
                       is == pd_json_is_array ? "array" : "object");
    pd_jw_init(&w, &b);
    pd_jw_value(&w, v);
    if (pd_buf_rc(&b) == 0)
        *out = pd_arena_dup(a, pd_buf_str(&b));
    pd_buf_done(&b);
    return *out ? 0 : no_memory(err);
}

/* A string, null, or an array of parts {"type":"text","text":…}, whose texts follow each other. */
static int content_of(const struct pd_json *message, struct pd_arena *a, struct pd_str *out,
                      struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(message, "content");
    struct pd_buf b = PD_BUF_INIT(CHAT_MAX_BYTES);

    *out = (struct pd_str){0};
    if (!v || pd_json_is_null(v))
        return 0;
    if (!pd_json_string(v) && !pd_json_is_array(v))
        return pd_fail(err, PD_EINVAL, "content must be a string or an array of text parts");
    pd_buf_addz(&b, pd_json_string(v) ? pd_json_string(v) : "");
    for (const struct pd_json *p = pd_json_first(v); p; p = pd_json_next(p)) {
        const char *type = pd_json_string(pd_json_get(p, "type"));
        const char *text = pd_json_string(pd_json_get(p, "text"));

        if (!type || strcmp(type, "text") != 0 || !text) {
            pd_buf_done(&b);
            return pd_fail(err, PD_EINVAL,
                           "content has a part of type '%.32s': models here read text only",
                           type ? type : "");
        }
        pd_buf_addz(&b, text);
    }
    out->ptr = pd_buf_rc(&b) < 0 ? NULL : pd_arena_dup(a, pd_buf_str(&b));
    out->len = b.len;
    pd_buf_done(&b);
    return out->ptr ? 0 : no_memory(err);
}

static int check_tool_calls(const struct pd_json *message, struct pd_err *err)
{
    const struct pd_json *calls = pd_json_get(message, "tool_calls");

    for (const struct pd_json *c = pd_json_first(calls); c; c = pd_json_next(c))
        if (!pd_json_string(pd_json_get(pd_json_get(c, "function"), "name")))
            return pd_fail(err, PD_EINVAL, "tool_calls must be of functions with a name");
    return 0;
}

static int read_message(const struct pd_json *v, struct pd_arena *a, struct pd_message *out,
                        struct pd_err *err)
{
    static const struct {
        const char *role, *as;
    } roles[] = {{"system", "system"},
                 {"developer", "system"}, /* its new name at OpenAI */
                 {"user", "user"},
                 {"assistant", "assistant"},
                 {"tool", "tool"}};
    const char *role = pd_json_string(pd_json_get(v, "role"));
    int rc;

    *out = (struct pd_message){0};
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(roles[i].role, role) == 0)
            out->role = roles[i].as;
    if (!out->role)
        return pd_fail(err, PD_EINVAL, "role must be system, developer, user, assistant or tool");
    rc = content_of(v, a, &out->content, err);
    if (rc == 0)
        rc = text_of(v, "name", a, &out->name, err);
    if (rc == 0)
        rc = text_of(v, "tool_call_id", a, &out->tool_call_id, err);
    if (rc == 0)
        rc = text_of(v, "reasoning_content", a, &out->reasoning, err);
    if (rc == 0 && !out->reasoning)
        rc = text_of(v, "reasoning", a, &out->reasoning, err);
    if (rc == 0)
        rc = json_of(v, "tool_calls", pd_json_is_array, a, &out->tool_calls, err);
    if (rc == 0)
        rc = check_tool_calls(v, err);
    if (rc == 0 && !out->content.ptr && !out->tool_calls)
        rc = pd_fail(err, PD_EINVAL, "there is no content");
    return rc;
}

static int parse_messages(const struct pd_json *request, struct pd_arena *a, struct pd_chat **out,
                          struct pd_err *err)
{
    const struct pd_json *list = pd_json_get(request, "messages"), *v = pd_json_first(list);
    const struct pd_json *go_on = pd_json_get(request, "continue_final_message");
    struct pd_chat *c = pd_arena_alloc(a, sizeof *c);
    struct pd_message *m = pd_arena_array(a, pd_json_size(list) + 1, sizeof *m);
    int rc = c && m ? 0 : no_memory(err);

    if (rc == 0 && (!pd_json_is_array(list) || !v))
        rc = pd_fail(err, PD_EINVAL, "messages must be an array of at least one message");
    for (size_t i = 0; v && rc == 0; i++, v = pd_json_next(v)) {
        rc = read_message(v, a, &m[i], err);
        if (rc < 0)
            pd_err_context(err, "in messages[%zu]", i);
    }
    if (rc < 0)
        return rc;
    c->messages = m;
    c->n_messages = pd_json_size(list);
    rc = json_of(request, "tools", pd_json_is_array, a, &c->tools, err);
    if (rc == 0)
        rc = json_of(request, "chat_template_kwargs", pd_json_is_object, a, &c->variables, err);
    c->continue_last = strcmp(m[c->n_messages - 1].role, "assistant") == 0;
    if (rc == 0 && go_on && !pd_json_is_null(go_on) && !pd_json_bool(go_on, &c->continue_last))
        rc = pd_fail(err, PD_EINVAL, "continue_final_message must be true or false");
    *out = c;
    return rc;
}

static int text_tokens(const struct eng_tokenizer *t, struct pd_str text, int32_t **io_ids,
                       size_t *io_n, struct pd_err *err)
{
    const struct pd_message empty = {.role = "user", .content = PD_STR("")};
    int rc = eng_chat(t, eng_chat_builtin("none"), PD_CHAT(&empty, 1), io_ids, io_n, err);
    size_t n_before = rc == 0 ? *io_n : 0;

    if (rc == 0)
        rc = eng_tokenize(t, text, ENG_PARSE_SPECIAL | ENG_PARSE_START, io_ids, io_n, err);
    if (rc == 0 && n_before && *io_n > n_before && (*io_ids)[n_before] == (*io_ids)[0]) {
        --*io_n; /* it has its own */
        memmove(*io_ids, *io_ids + n_before, *io_n * sizeof **io_ids);
    }
    return rc;
}

int app_prompt_tokens(const struct eng_tokenizer *t, const struct pd_chat *c, int32_t **io_ids,
                      size_t *io_n, struct pd_err *err)
{
    if (c->text.ptr)
        return text_tokens(t, c->text, io_ids, io_n, err);
    for (size_t i = 0; i < c->n_ids; i++)
        if ((uint32_t)c->ids[i] >= eng_n_vocab(t))
            return pd_fail(err, PD_EINVAL, "prompt: %d is not a token of this model (0 to %u)",
                           c->ids[i], eng_n_vocab(t) - 1);
    *io_ids = malloc(c->n_ids * sizeof **io_ids);
    if (!*io_ids)
        return no_memory(err);
    memcpy(*io_ids, c->ids, c->n_ids * sizeof **io_ids);
    *io_n = c->n_ids;
    return 0;
}

int app_prompt_parse(const struct pd_json *prompt, struct pd_arena *a, struct pd_chat **out,
                     struct pd_err *err)
{
    struct pd_chat *c = pd_arena_alloc(a, sizeof *c);
    int32_t *ids = pd_arena_array(a, pd_json_size(prompt) + 1, sizeof *ids);
    const struct pd_json *v = pd_json_first(prompt);
    int64_t id;

    if (!c || !ids)
        return no_memory(err);
    if (pd_json_string(prompt)) {
        c->text = pd_str_of(pd_arena_dup(a, pd_str_of(pd_json_string(prompt))));
    } else if (pd_json_is_array(prompt) && v) {
        for (; v; v = pd_json_next(v)) {
            if (!pd_json_int(v, &id) || id < 0 || id > INT32_MAX)
                return pd_fail(err, PD_EINVAL, "prompt must be a text or an array of token ids");
            ids[c->n_ids++] = (int32_t)id;
        }
        c->ids = ids;
    }
    if (!c->text.len && !c->n_ids)
        return pd_fail(err, PD_EINVAL, "prompt must be a text or an array of token ids, not empty");
    *out = c;
    return 0;
}

int app_chat_parse(const struct pd_json *request, struct pd_arena *a, struct pd_chat **out,
                   struct pd_err *err)
{
    if (pd_json_get(request, "prompt") && !pd_json_get(request, "messages"))
        return app_prompt_parse(pd_json_get(request, "prompt"), a, out, err);
    return parse_messages(request, a, out, err);
}

static void put_json(struct pd_jw *w, const char *key, const char *json)
{
    if (json) {
        pd_jw_key(w, key);
        pd_jw_raw(w, pd_str_of(json));
    }
}

void app_chat_json(const struct pd_chat *c, struct pd_jw *w)
{
    if (c->text.ptr || c->n_ids) {
        pd_jw_key(w, "prompt");
        if (c->text.ptr) {
            pd_jw_str(w, c->text);
            return;
        }
        pd_jw_array(w);
        for (size_t i = 0; i < c->n_ids; i++)
            pd_jw_int(w, c->ids[i]);
        pd_jw_end_array(w);
        return;
    }
    pd_jw_key(w, "messages");
    pd_jw_array(w);
    for (size_t i = 0; i < c->n_messages; i++) {
        const struct pd_message *m = &c->messages[i];

        pd_jw_object(w);
        pd_jw_put_given(w, "role", m->role);
        pd_jw_key(w, "content");
        if (m->content.ptr)
            pd_jw_str(w, m->content);
        else
            pd_jw_null(w);
        pd_jw_put_given(w, "reasoning_content", m->reasoning);
        put_json(w, "tool_calls", m->tool_calls);
        pd_jw_put_given(w, "tool_call_id", m->tool_call_id);
        pd_jw_put_given(w, "name", m->name);
        pd_jw_end_object(w);
    }
    pd_jw_end_array(w);
    put_json(w, "tools", c->tools);
    put_json(w, "chat_template_kwargs", c->variables);
    pd_jw_put_bool(w, "continue_final_message", c->continue_last);
}

int app_stops_parse(const struct pd_json *request, struct pd_arena *a, const char *const **out,
                    size_t *out_n, struct pd_err *err)
{
    const struct pd_json *v = pd_json_get(request, "stop");
    size_t n = pd_json_string(v) ? 1 : pd_json_size(v);
    const char **stops;

    *out = NULL;
    *out_n = 0;
    if (!v || pd_json_is_null(v))
        return 0;
    if (!pd_json_string(v) && !pd_json_is_array(v))
        return pd_fail(err, PD_EINVAL, "stop must be a string or an array of strings");
    if (n > PD_STOPS_MAX)
        return pd_fail(err, PD_EINVAL, "stop has %zu strings (at most %d)", n, PD_STOPS_MAX);
    stops = pd_arena_array(a, n + 1, sizeof *stops);
    if (!stops)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *text = pd_json_string(pd_json_is_array(v) ? pd_json_at(v, i) : v);

        if (!text || !*text || strlen(text) > PD_STOP_MAX_BYTES)
            return pd_fail(err, PD_EINVAL, "stop strings have 1 to %d bytes", PD_STOP_MAX_BYTES);
        stops[i] = pd_arena_dup(a, pd_str_of(text));
        if (!stops[i])
            return no_memory(err);
    }
    *out = n ? stops : NULL;
    *out_n = n;
    return 0;
}

int app_bias_parse(const struct pd_json *request, struct pd_arena *a, const struct pd_bias **out,
                   size_t *out_n, struct pd_err *err)
{
    const struct pd_json *all = pd_json_get(request, "logit_bias"), *v = pd_json_first(all);
    size_t n = pd_json_size(all);
    struct pd_bias *list;

    *out = NULL;
    *out_n = 0;
    if (!all || pd_json_is_null(all))
        return 0;
    if (!pd_json_is_object(all))
        return pd_fail(err, PD_EINVAL, "logit_bias must be an object of token ids");
    if (n > PD_BIAS_MAX)
        return pd_fail(err, PD_EINVAL, "logit_bias has %zu tokens (at most %d)", n, PD_BIAS_MAX);
    list = pd_arena_array(a, n + 1, sizeof *list);
    if (!list)
        return no_memory(err);
    for (size_t i = 0; i < n; i++, v = pd_json_next(v)) {
        uint64_t token;
        double bias;

        if (!pd_parse_u64(pd_str_of(pd_json_key(v)), &token) || token > INT32_MAX)
            return pd_fail(err, PD_EINVAL, "logit_bias: '%.32s' is not a token id", pd_json_key(v));
        if (!pd_json_number(v, &bias) || bias < -100 || bias > 100)
            return pd_fail(err, PD_EINVAL, "logit_bias of token %.32s must be between -100 and 100",
                           pd_json_key(v));
        list[i] = (struct pd_bias){(int32_t)token, (float)bias};
    }
    *out = n ? list : NULL;
    *out_n = n;
    return 0;
}

int app_schema_text(const struct pd_json *schema, struct pd_arena *a, const char **out,
                    struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(ENG_GRAMMAR_MAX_BYTES);
    struct pd_jw w;

    pd_jw_init(&w, &b);
    pd_jw_value(&w, schema);
    *out = pd_buf_rc(&b) < 0 ? NULL : pd_arena_dup(a, pd_buf_str(&b));
    pd_buf_done(&b);
    return *out ? 0
                : pd_fail(err, PD_ECOMPLEX, "the schema: it has more than %d bytes",
                          ENG_GRAMMAR_MAX_BYTES);
}

/* The schema that response_format means; NULL: none. */
static int response_schema(const struct pd_json *format, struct pd_arena *a, const char **out,
                           struct pd_err *err)
{
    const char *type = pd_json_string(pd_json_get(format, "type"));
    const struct pd_json *schema = pd_json_get(format, "schema"); /* llama-server's place for it */

    *out = NULL;
    if (type && strcmp(type, "text") == 0)
        return 0;
    if (type && strcmp(type, "json_object") == 0 && !schema) {
        *out = "{\"type\":\"object\"}";
        return 0;
    }
    if (type && strcmp(type, "json_schema") == 0 && !schema)
        schema = pd_json_get(pd_json_get(format, "json_schema"), "schema");
    else if (!type || strcmp(type, "json_object") != 0)
        return pd_fail(err, PD_EINVAL,
                       "response_format must be of the type text, json_object or json_schema");
    if (!schema)
        return pd_fail(err, PD_EINVAL, "response_format.json_schema.schema is missing");
    return app_schema_text(schema, a, out, err);
}

int app_form_parse(const struct pd_json *request, struct pd_arena *a, const struct pd_form **out,
                   struct pd_err *err)
{
    static const char *const keys[] = {"response_format", "json_schema", "grammar",
                                       "constrain_after"};
    const struct pd_json *v[4];
    const char *text = NULL, *after;
    struct pd_form *f;
    int rc = 0;

    *out = NULL;
    for (int i = 0; i < 4; i++) {
        v[i] = pd_json_get(request, keys[i]);
        v[i] = v[i] && !pd_json_is_null(v[i]) ? v[i] : NULL;
    }
    if (v[0])
        rc = response_schema(v[0], a, &text, err);
    if (rc == 0 && (text != NULL) + (v[1] != NULL) + (v[2] != NULL) > 1)
        return pd_fail(err, PD_EINVAL,
                       "response_format, json_schema and grammar exclude each other: give one");
    if (rc == 0 && v[1])
        rc = app_schema_text(v[1], a, &text, err);
    if (rc < 0)
        return rc;
    if (v[2] && !pd_json_string(v[2]))
        return pd_fail(err, PD_EINVAL, "grammar must be a string");
    after = pd_json_string(v[3]);
    if (v[3] && (!after || !*after || strlen(after) > PD_STOP_MAX_BYTES))
        return pd_fail(err, PD_EINVAL, "constrain_after must be a string of 1 to %d bytes",
                       PD_STOP_MAX_BYTES);
    if (!text && !v[2])
        return 0;
    f = pd_arena_alloc(a, sizeof *f);
    if (!f)
        return no_memory(err);
    *f = (struct pd_form){.schema = !v[2],
                          .text = v[2] ? pd_arena_dup(a, pd_str_of(pd_json_string(v[2]))) : text,
                          .after = after ? pd_arena_dup(a, pd_str_of(after)) : NULL};
    if (!f->text || (after && !f->after))
        return no_memory(err);
    *out = f;
    return 0;
}

void app_form_json(const struct pd_form *f, struct pd_jw *w)
{
    if (!f)
        return;
    if (f->schema) {
        pd_jw_key(w, "json_schema");
        pd_jw_raw(w, pd_str_of(f->text));
    } else {
        pd_jw_put_given(w, "grammar", f->text);
    }
    pd_jw_put_given(w, "constrain_after", f->after);
}

void app_shape_json(const struct pd_job *j, struct pd_jw *w)
{
    char id[16];

    if (j->stops) {
        pd_jw_key(w, "stop");
        pd_jw_array(w);
        for (const char *const *s = j->stops; *s; s++)
            pd_jw_strz(w, *s);
        pd_jw_end_array(w);
    }
    if (j->n_logit_bias) {
        pd_jw_key(w, "logit_bias");
        pd_jw_object(w);
        for (size_t i = 0; i < j->n_logit_bias; i++) {
            snprintf(id, sizeof id, "%d", j->logit_bias[i].token);
            pd_jw_put_double(w, id, (double)j->logit_bias[i].bias);
        }
        pd_jw_end_object(w);
    }
    app_form_json(j->form, w);
}

int app_chat_copy(const struct pd_chat *c, struct pd_arena *a, struct pd_chat **out,
                  struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(CHAT_MAX_BYTES);
    struct pd_json *json = NULL;
    struct pd_jw w;
    int rc;

    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    app_chat_json(c, &w);
    pd_jw_end_object(&w);
    rc = pd_buf_rc(&b) < 0 ? pd_fail(err, pd_buf_rc(&b), "the messages are too long")
                           : pd_json_parse(pd_buf_str(&b), &json, err);
    if (rc == 0)
        rc = app_chat_parse(json, a, out, err);
    pd_json_free(json);
    pd_buf_done(&b);
    return rc;
}

int app_chat_question(const struct pd_chat *c, struct pd_buf *out)
{
    const struct pd_message *m = c->n_messages ? &c->messages[c->n_messages - 1] : NULL;

    for (size_t i = c->n_messages; i-- > 0;)
        if (strcmp(c->messages[i].role, "user") == 0) {
            m = &c->messages[i];
            break;
        }
    pd_buf_adds(out, m ? m->content : c->text);
    for (size_t i = 0; i < c->n_ids; i++)
        pd_buf_printf(out, "%s%d", i ? " " : "", c->ids[i]);
    return pd_buf_rc(out);
}

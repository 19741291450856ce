/* Chat templates. There is no Jinja here: the template is read for its structure, and only what is
 * ChatML in every branch that eng_chat can reach is accepted. From the template come the generation
 * prompt, a default system message if there is one, and whether the text starts with the BOS token.
 *
 * The template becomes two strings: what its main part prints and what `if add_generation_prompt`
 * prints, with the role, the content and everything unknown as single bytes. In them ChatML is a
 * plain search. */
#include "engine/tokenizer_int.h"

#include <stdlib.h>

#define TEMPLATE_MAX_BYTES ((size_t)1 << 20) /* real ones are below 20 KiB */

enum mark { MARK_ROLE = 1, MARK_CONTENT, MARK_BOS, MARK_UNKNOWN, MARK_STATEMENT, MARK_END };

struct chatml {
    struct pd_buf main, generation;
    struct pd_str system;    /* default system message, in main; ptr NULL: none */
    bool bos;                /* the template starts with bos_token */
    bool rewrites_assistant; /* does something to former answers (cuts out thoughts, calls tools) */
};

struct reader {
    struct pd_str text;
    size_t at;
    struct chatml *out;
    unsigned depth; /* of ifs within `if add_generation_prompt`, 0: outside */
    unsigned mute;  /* depth from which on the text is of a branch not taken, 0: none */
    bool trim_left,
        trim_line; /* of the next text: all white space (`-%}`), one newline (trim_blocks) */
};

static int refuse(struct pd_err *err, const char *why)
{
    return pd_fail(err, PD_EFORMAT,
                   "this build knows ChatML templates only: the model's chat template %s", why);
}

static bool has(struct pd_str s, const char *what)
{
    return pd_str_find(s, pd_str_of(what)) >= 0;
}

static void emit(struct reader *r, struct pd_str s)
{
    if (r->mute == 0)
        pd_buf_adds(r->depth > 0 ? &r->out->generation : &r->out->main, s);
}

static void emit_mark(struct reader *r, enum mark mark)
{
    char c = (char)mark;

    emit(r, (struct pd_str){&c, 1});
}

/* A string literal at the start of s: prints it and returns its length with quotes, 0 when it is
 * none or holds an escape other than \n \t \\ \' \". */
static size_t literal(struct reader *r, struct pd_str s)
{
    char quote = s.len > 0 ? s.ptr[0] : '\0';

    if (quote != '\'' && quote != '"')
        return 0;
    for (size_t i = 1; i < s.len; i++) {
        char c = s.ptr[i];

        if (c == quote)
            return i + 1;
        if (c == '\\') {
            if (++i == s.len)
                return 0;
            c = s.ptr[i];
            if (c == 'n')
                c = '\n';
            else if (c == 't')
                c = '\t';
            else if (c != '\\' && c != '\'' && c != '"')
                return 0;
        }
        emit(r, (struct pd_str){&c, 1});
    }
    return 0;
}

static bool is_one_of(struct pd_str s, const char *const *names)
{
    for (; *names != NULL; names++)
        if (pd_str_eq(s, pd_str_of(*names)))
            return true;
    return false;
}

/* {{ a + b + … }} */
static void expression(struct reader *r, struct pd_str s)
{
    static const char *const roles[] = {"message.role", "message['role']", "message[\"role\"]",
                                        NULL};
    static const char *const contents[] = {"message.content", "message['content']",
                                           "message[\"content\"]", "content", NULL};

    for (;;) {
        struct pd_str term;
        size_t n;

        s = pd_str_trim(s);
        n = literal(r, s);
        if (n == 0) {
            while (n < s.len && s.ptr[n] != '+')
                n++;
            term = pd_str_trim(pd_str_sub(s, 0, n));
            emit_mark(r, is_one_of(term, roles)                 ? MARK_ROLE
                         : is_one_of(term, contents)            ? MARK_CONTENT
                         : pd_str_eq(term, PD_STR("bos_token")) ? MARK_BOS
                                                                : MARK_UNKNOWN);
        }
        s = pd_str_trim(pd_str_sub(s, n, s.len));
        if (s.len == 0)
            return;
        if (s.ptr[0] != '+') { /* a filter, a condition, … */
            emit_mark(r, MARK_UNKNOWN);
            return;
        }
        s = pd_str_sub(s, 1, s.len);
    }
}

/* {% … %} */
static int statement(struct reader *r, struct pd_str s, struct pd_err *err)
{
    bool is_if = pd_str_starts(s, PD_STR("if ")) || pd_str_starts(s, PD_STR("if("));

    if (r->depth == 0) {
        if (is_if && (pd_str_eq(s, PD_STR("if add_generation_prompt")) ||
                      pd_str_ends(s, PD_STR("and add_generation_prompt")))) {
            if (r->out->generation.len > 0)
                return refuse(err, "has several generation prompts");
            r->depth = 1;
        } else
            emit_mark(r, MARK_STATEMENT);
        return 0;
    }
    if (is_if) {
        r->depth++;
        if (r->mute > 0)
            return 0;
        /* The variable is never set here, so this branch is never taken. */
        if (!pd_str_eq(s, PD_STR("if enable_thinking is defined and enable_thinking is false")))
            return refuse(err, "has a conditional generation prompt");
        r->mute = r->depth;
        return 0;
    }
    if (pd_str_eq(s, PD_STR("endif"))) {
        if (r->mute == r->depth)
            r->mute = 0;
        r->depth--;
        return 0;
    }
    if (pd_str_eq(s, PD_STR("else"))) {
        if (r->mute == 0)
            r->mute = r->depth;
        else if (r->mute == r->depth)
            r->mute = 0;
        return 0;
    }
    return r->mute > 0 && r->mute < r->depth ? 0 : refuse(err, "computes its generation prompt");
}

/* Text outside of braces, up to the next tag; the white space around tags goes as in the usual
 * renderers (trim_blocks and lstrip_blocks). */
static void plain_text(struct reader *r, size_t end)
{
    struct pd_str s = pd_str_sub(r->text, r->at, end);
    bool tag = end < r->text.len;

    if (r->trim_left) {
        while (s.len > 0 && strchr(" \t\r\n", s.ptr[0]) != NULL)
            s = pd_str_sub(s, 1, s.len);
    } else if (r->trim_line && s.len > 0 && s.ptr[0] == '\n')
        s = pd_str_sub(s, 1, s.len);
    if (tag && end + 2 < r->text.len && r->text.ptr[end + 2] == '-') {
        while (s.len > 0 && strchr(" \t\r\n", s.ptr[s.len - 1]) != NULL)
            s.len--;
    } else if (tag && r->text.ptr[end + 1] != '{') {
        size_t n = s.len;

        while (n > 0 && (s.ptr[n - 1] == ' ' || s.ptr[n - 1] == '\t'))
            n--;
        if (n == 0 ? r->at == 0 || r->text.ptr[end - s.len - 1] == '\n' : s.ptr[n - 1] == '\n')
            s.len = n;
    } else if (!tag && s.len > 0 && s.ptr[s.len - 1] == '\n')
        s.len--; /* the file's last newline */
    emit(r, s);
}

/* Where the tag that starts at `at` ends (offset of its closing brace pair), or the text's length.
 */
static size_t tag_end(struct pd_str text, size_t at, char kind)
{
    char close = kind == '{' ? '}' : kind, quote = '\0';

    for (size_t i = at + 2; i + 1 < text.len; i++) {
        char c = text.ptr[i];

        if (quote != '\0') {
            if (c == '\\')
                i++;
            else if (c == quote)
                quote = '\0';
        } else if (kind != '#' && (c == '\'' || c == '"'))
            quote = c;
        else if (c == close && text.ptr[i + 1] == '}')
            return i;
    }
    return text.len;
}

static int read_template(struct reader *r, struct pd_err *err)
{
    while (r->at < r->text.len) {
        size_t open = r->at, close;
        struct pd_str body;
        char kind;
        int rc;

        while (open < r->text.len && !(r->text.ptr[open] == '{' && open + 1 < r->text.len &&
                                       memchr("{%#", r->text.ptr[open + 1], 3) != NULL))
            open++;
        plain_text(r, open);
        if (open == r->text.len)
            break;
        kind = r->text.ptr[open + 1];
        close = tag_end(r->text, open, kind);
        if (close == r->text.len)
            return refuse(err, "has an unclosed tag");
        body = pd_str_sub(r->text, open + 2, close);
        r->trim_left = body.len > 0 && body.ptr[body.len - 1] == '-';
        r->trim_line = kind != '{';
        if (body.len > 0 && (body.ptr[0] == '-' || body.ptr[0] == '+'))
            body = pd_str_sub(body, 1, body.len);
        if (body.len > 0 && r->trim_left)
            body.len--;
        body = pd_str_trim(body);
        r->at = close + 2;
        if (kind == '{')
            expression(r, body);
        else if (kind == '%' && (rc = statement(r, body, err)) < 0)
            return rc;
    }
    if (r->depth > 0)
        return refuse(err, "has an unclosed block");
    return 0;
}

static int find_system(struct chatml *c, struct pd_str template, struct pd_err *err)
{
    const struct pd_str open = PD_STR("<|im_start|>system\n"), close = PD_STR("<|im_end|>\n");
    struct pd_str rest = pd_buf_str(&c->main);
    ptrdiff_t at;

    while ((at = pd_str_find(rest, open)) >= 0) {
        size_t n = 0;

        rest = pd_str_sub(rest, (size_t)at + open.len, rest.len);
        while (n < rest.len && (unsigned char)rest.ptr[n] >= MARK_END &&
               !pd_str_starts(pd_str_sub(rest, n, rest.len), close))
            n++;
        if (n == rest.len || (unsigned char)rest.ptr[n] < MARK_END)
            continue; /* the user's system message, or that of tools */
        if (c->system.ptr != NULL && !pd_str_eq(c->system, pd_str_sub(rest, 0, n)))
            return refuse(err, "has several default system messages");
        c->system = pd_str_sub(rest, 0, n);
    }
    if (c->system.ptr != NULL && !has(template, "messages[0]"))
        return refuse(err, "has a system message of its own");
    return 0;
}

static void chatml_done(struct chatml *c)
{
    pd_buf_done(&c->main);
    pd_buf_done(&c->generation);
}

static int chatml_read(struct pd_str template, struct chatml *c, struct pd_err *err)
{
    static const char message[] = {'<', '|', 'i', 'm',       '_',  's',          't', 'a', 'r',
                                   't', '|', '>', MARK_ROLE, '\n', MARK_CONTENT, '<', '|', 'i',
                                   'm', '_', 'e', 'n',       'd',  '|',          '>', '\n'};
    struct reader r = {.text = template, .out = c};
    struct pd_str main;
    size_t n = 0;
    int rc;

    if (!has(template, "<|im_start|>") || !has(template, "<|im_end|>"))
        return refuse(err, "has no <|im_start|> and <|im_end|>");
    for (size_t i = 0; i < template.len; i++)
        if ((unsigned char)template.ptr[i] < MARK_END)
            return refuse(err, "has control characters");
    rc = read_template(&r, err);
    if (rc < 0)
        return rc;
    if (pd_buf_rc(&c->main) < 0 || pd_buf_rc(&c->generation) < 0)
        return pd_fail(err, PD_ENOMEM, "no memory for a chat template of %zu bytes", template.len);
    main = pd_buf_str(&c->main);
    if (pd_str_find(main, (struct pd_str){message, sizeof(message)}) < 0)
        return refuse(err, "does not print messages as ChatML does");
    if (!pd_str_starts(pd_buf_str(&c->generation), PD_STR("<|im_start|>assistant\n")))
        return refuse(err, "has no generation prompt that starts with <|im_start|>assistant");
    for (size_t i = 0; i < c->generation.len; i++)
        if ((unsigned char)c->generation.data[i] < MARK_END)
            return refuse(err, "computes its generation prompt");
    while (n < main.len &&
           (main.ptr[n] == MARK_STATEMENT || main.ptr[n] == '\n' || main.ptr[n] == ' '))
        n++;
    c->bos = n < main.len && main.ptr[n] == MARK_BOS;
    c->rewrites_assistant =
        has(template, "</think>") || has(template, "reasoning_content") || has(template, "split(");
    return find_system(c, template, err);
}

/* ---- rendering ----------------------------------------------------------------------------------
 */

static int add_id(int32_t **io_ids, size_t *io_n, int32_t id, struct pd_err *err)
{
    int32_t *ids = realloc(*io_ids, (*io_n + 1) * sizeof(*ids));

    if (ids == NULL)
        return pd_fail(err, PD_ENOMEM, "out of memory");
    *io_ids = ids;
    ids[(*io_n)++] = id;
    return 0;
}

/* `role\ncontent` is cut and merged as one text, as it is when a rendered template is tokenised. */
static int add_message(const struct eng_tokenizer *t, const char *role, struct pd_str content,
                       int32_t start, int32_t end, int32_t **io_ids, size_t *io_n,
                       struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(SIZE_MAX / 2); /* the tokenizer has its own ceiling */
    int rc;

    pd_buf_addz(&text, role);
    pd_buf_addc(&text, '\n');
    pd_buf_adds(&text, content);
    if (pd_buf_rc(&text) < 0)
        rc = pd_fail(err, PD_ENOMEM, "no memory for a message of %zu bytes", content.len);
    else if ((rc = add_id(io_ids, io_n, start, err)) == 0 &&
             (rc = eng_tokenize(t, pd_buf_str(&text), ENG_PARSE_PLAIN, io_ids, io_n, err)) == 0 &&
             (rc = add_id(io_ids, io_n, end, err)) == 0)
        rc = eng_tokenize(t, PD_STR("\n"), ENG_PARSE_PLAIN, io_ids, io_n, err);
    pd_buf_done(&text);
    return rc;
}

int eng_chat(const struct eng_tokenizer *t, const struct eng_message *messages, size_t n_messages,
             int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    static const char *const roles[] = {"system", "user", "assistant", NULL};
    struct chatml c = {
        PD_BUF_INIT(TEMPLATE_MAX_BYTES), PD_BUF_INIT(TEMPLATE_MAX_BYTES), {NULL, 0}, false, false};
    int32_t start = eng_token_find(t, PD_STR("<|im_start|>")),
            end = eng_token_find(t, PD_STR("<|im_end|>"));
    size_t n_before = *io_n;
    int rc;

    if (n_messages == 0)
        return pd_fail(err, PD_EINVAL, "a chat needs at least one message");
    if (t->chat_template == NULL)
        return pd_fail(err, PD_EFORMAT, "the model has no chat template");
    if (strlen(t->chat_template) > TEMPLATE_MAX_BYTES)
        return pd_fail(err, PD_EFORMAT, "the model's chat template is longer than %zu bytes",
                       TEMPLATE_MAX_BYTES);
    rc = chatml_read(pd_str_of(t->chat_template), &c, err);
    if (rc < 0)
        goto out;
    if (start < 0 || end < 0 || t->types[start] == TOK_NORMAL || t->types[end] == TOK_NORMAL) {
        rc = pd_fail(err, PD_EFORMAT,
                     "the chat template is ChatML, but the vocabulary has no special "
                     "tokens <|im_start|> and <|im_end|>");
        goto out;
    }
    for (size_t i = 0; i < n_messages; i++) {
        if (!is_one_of(pd_str_of(messages[i].role), roles)) {
            rc = pd_fail(err, PD_EINVAL,
                         "message %zu has the role '%.32s' (known: system, user, assistant)", i,
                         messages[i].role != NULL ? messages[i].role : "");
            goto out;
        }
        if (c.rewrites_assistant && strcmp(messages[i].role, "assistant") == 0) {
            rc = refuse(err, "rewrites former answers");
            goto out;
        }
    }
    if (c.bos && t->bos < 0) {
        rc = pd_fail(err, PD_EFORMAT,
                     "the chat template wants a BOS token, but the model names none");
        goto out;
    }
    if ((c.bos || t->add_bos) && (rc = add_id(io_ids, io_n, t->bos, err)) < 0)
        goto out;
    if (c.system.ptr != NULL && strcmp(messages[0].role, "system") != 0 &&
        (rc = add_message(t, "system", c.system, start, end, io_ids, io_n, err)) < 0)
        goto out;
    for (size_t i = 0; i < n_messages; i++)
        if ((rc = add_message(t, messages[i].role, messages[i].content, start, end, io_ids, io_n,
                              err)) < 0)
            goto out;
    rc = eng_tokenize(t, pd_buf_str(&c.generation), ENG_PARSE_SPECIAL, io_ids, io_n, err);
out:
    if (rc < 0)
        *io_n = n_before;
    chatml_done(&c);
    return rc;
}

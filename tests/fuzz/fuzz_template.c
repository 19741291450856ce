/* A chat template of foreign bytes, with foreign messages: the source, then after each NUL a
 * message, whose first byte is its role (s u a). What comes out comes out again, its bytes know
 * where they are from, and no control token of the prompt is a message's. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/jinja.h"
#include "engine/tokenizer_int.h"
#include "tests/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

enum { MAX_MESSAGES = 8 };

/* A byte that each message is made to end with and no template can write that does not hold it or
 * one of its spellings. */
#define MARK        '\x7f'
#define MARK_STRING "\x7f"

static const char *const spellings[] = {MARK_STRING, "7f", "7F", "177"};

/* Of a ChatML model; made once, as it takes longer than rendering. */
static const struct eng_tokenizer *tokenizer(void)
{
    static struct eng_tokenizer *t;
    struct vocabulary v;

    if (t)
        return t;
    vocabulary_init_bpe(&v, "qwen2");
    vocabulary_add(&v, PD_STR("<|im_start|>"), 3, 0);
    vocabulary_add(&v, PD_STR("<|im_end|>"), 3, 0);
    gb_u32(&v.gb, "tokenizer.ggml.bos_token_id", 256);
    gb_u32(&v.gb, "tokenizer.ggml.eos_token_id", 257);
    if (vocabulary_open(&v, &t, NULL) < 0)
        abort();
    return t;
}

/* The messages behind the source, with content in buf. */
static size_t read_messages(struct pd_str rest, struct pd_buf *buf, struct pd_message *out)
{
    size_t n = 0, at[MAX_MESSAGES];

    while (rest.len > 0 && n < MAX_MESSAGES) {
        struct pd_str tail = pd_str_sub(rest, 1, rest.len); /* behind the NUL */
        ptrdiff_t end = pd_str_find(tail, (struct pd_str){"", 1});
        size_t len = end < 0 ? tail.len : (size_t)end;
        char role = len ? tail.ptr[0] : 'u';

        out[n] = (struct pd_message){.role = role == 's'   ? "system"
                                             : role == 'a' ? "assistant"
                                                           : "user"};
        at[n] = buf->len;
        pd_buf_adds(buf, pd_str_sub(tail, len ? 1 : 0, len));
        out[n].content.len = buf->len + 1 - at[n];
        pd_buf_addc(buf, MARK);
        n++;
        rest = pd_str_sub(tail, len, tail.len);
    }
    if (pd_buf_rc(buf) < 0)
        abort();
    for (size_t i = 0; i < n; i++)
        out[i].content.ptr = buf->data + at[i];
    return n;
}

/* Renders by the interpreter alone; 0 or an error. */
static int render(struct pd_str source, const struct pd_message *messages, size_t n,
                  struct pd_buf *out, bool check_mark)
{
    struct jinja_value list;
    struct jinja_text text;
    struct jinja *j;
    int rc = jinja_new(source, &j, NULL);

    if (rc < 0)
        return rc;
    list = jinja_list(j);
    for (size_t i = 0; i < n; i++) {
        struct jinja_value m = jinja_dict(j);

        jinja_put(j, m, "role", jinja_string(j, pd_str_of(messages[i].role), JINJA_TEMPLATE));
        jinja_put(j, m, "content", jinja_string(j, messages[i].content, JINJA_DATA));
        jinja_append(j, list, m);
    }
    jinja_set(j, "messages", list);
    jinja_set(j, "add_generation_prompt", jinja_bool(true));
    rc = jinja_render(j, &text, NULL);
    if (rc == 0) {
        if (pd_buf_add(out, text.ptr, text.len) < 0)
            abort();
        for (size_t i = 0; i < text.len; i++)
            if (text.origin[i] > JINJA_DATA ||
                (check_mark && text.ptr[i] == MARK && text.origin[i] != JINJA_DATA))
                abort();
    }
    jinja_free(j);
    return rc;
}

static void try_prompt(const char *source, const struct pd_message *messages, size_t n)
{
    const struct eng_tokenizer *t = tokenizer();
    struct pd_buf text = PD_BUF_INIT(SIZE_MAX / 2), back = PD_BUF_INIT(SIZE_MAX / 2);
    int32_t *ids = NULL;
    size_t n_ids = 0;

    if (eng_chat_text(t, source, PD_CHAT(messages, n), &text, NULL) == 0) {
        if (eng_chat(t, source, PD_CHAT(messages, n), &ids, &n_ids, NULL) < 0 ||
            eng_detokenize(t, ids, n_ids, true, &back, NULL) < 0 ||
            !pd_str_eq(pd_buf_str(&text), pd_buf_str(&back)))
            abort();
        free(ids);
    }
    pd_buf_done(&text);
    pd_buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct pd_str all = {(const char *)data, n_bytes};
    ptrdiff_t nul = pd_str_find(all, (struct pd_str){"", 1});
    struct pd_str source = pd_str_sub(all, 0, nul < 0 ? n_bytes : (size_t)nul);
    struct pd_buf contents = PD_BUF_INIT(SIZE_MAX / 2), once = PD_BUF_INIT(SIZE_MAX / 2),
                  again = PD_BUF_INIT(SIZE_MAX / 2);
    struct pd_message messages[MAX_MESSAGES];
    size_t n = read_messages(pd_str_sub(all, source.len, n_bytes), &contents, messages);
    bool check_mark = true;
    char *text;
    int rc;

    for (size_t i = 0; i < sizeof(spellings) / sizeof(*spellings); i++)
        check_mark = check_mark && pd_str_find(source, pd_str_of(spellings[i])) < 0;
    rc = render(source, messages, n, &once, check_mark);
    if (render(source, messages, n, &again, check_mark) != rc ||
        !pd_str_eq(pd_buf_str(&once), pd_buf_str(&again)))
        abort();
    text = pd_str_dup(source);
    if (!text)
        abort();
    if (rc == 0 && n > 0)
        try_prompt(text, messages, n);
    free(text);
    pd_buf_done(&contents);
    pd_buf_done(&once);
    pd_buf_done(&again);
    return 0;
}

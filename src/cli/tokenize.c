/* `ponder tokenize` and `ponder detokenize`. */
#include "cli/cli.h"

#include <stdlib.h>

#define PIECE_MAX_BYTES (1u << 20)
#define ID_SEPARATORS   " ,\t\r\n[]"

struct tokenize {
    const char *model, *file;
    bool special, bos;
};

static int open_tokenizer(const struct tokenize *o, struct eng_tokenizer **out, struct pd_err *err)
{
    char *path = NULL;
    int rc = app_find_model(o->model ? o->model : app_default_model, &path, err);

    if (rc == 0)
        rc = eng_tokenizer_open(path, out, err);
    free(path);
    return rc;
}

/* Text as a string, other bytes as an array of numbers. */
static void bytes_json(struct pd_jw *w, struct pd_str s)
{
    if (pd_utf8_valid(s)) {
        pd_jw_str(w, s);
        return;
    }
    pd_jw_array(w);
    for (size_t i = 0; i < s.len; i++)
        pd_jw_int(w, (unsigned char)s.ptr[i]);
    pd_jw_end_array(w);
}

static int print_tokens(const struct cli *cli, const struct eng_tokenizer *t, const int32_t *ids,
                        size_t n, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1), piece = PD_BUF_INIT(PIECE_MAX_BYTES);
    struct pd_jw w;
    int rc = 0;

    if (!cli->json) {
        for (size_t i = 0; i < n; i++)
            printf("%s%d", i > 0 ? " " : "", ids[i]);
        putchar('\n');
        return 0;
    }
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "tokens");
    pd_jw_array(&w);
    for (size_t i = 0; i < n && rc == 0; i++) {
        pd_buf_clear(&piece);
        rc = eng_detokenize(t, &ids[i], 1, true, &piece, err);
        pd_jw_object(&w);
        pd_jw_key(&w, "id");
        pd_jw_int(&w, ids[i]);
        pd_jw_key(&w, "piece");
        bytes_json(&w, pd_buf_str(&piece));
        pd_jw_end_object(&w);
    }
    pd_jw_end_array(&w);
    pd_jw_end_object(&w);
    if (rc == 0 && pd_buf_rc(&b) < 0)
        rc = cli_no_memory(err);
    if (rc == 0)
        cli_print_json(&b);
    pd_buf_done(&piece);
    pd_buf_done(&b);
    return rc;
}

static int add_bos(const struct eng_tokenizer *t, int32_t **io_ids, size_t *io_n,
                   struct pd_err *err)
{
    int32_t bos = eng_token_bos(t);

    if (bos < 0)
        return pd_fail(err, PD_EINVAL, "this vocabulary has no BOS token: leave out --bos");
    *io_ids = malloc(sizeof(**io_ids));
    if (!*io_ids)
        return cli_no_memory(err);
    (*io_ids)[0] = bos;
    *io_n = 1;
    return 0;
}

int cli_tokenize(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    static const struct cli_usage usage_text = {
        "tokenize [TEXT] [options]",
        "Token ids of the argument, of -f FILE or of standard input.",
    };
    struct tokenize o = {0};
    struct cli_option table[] = {
        {"model", 'm', CLI_TEXT, &o.model, "MODEL", "name or GGUF file, also vocabulary only", 0, 0,
         false, false},
        {"file", 'f', CLI_TEXT, &o.file, "FILE", "read the text from FILE (- is standard input)", 0,
         0, false, false},
        {"special", 0, CLI_FLAG, &o.special, NULL, "the text of control tokens stands for them", 0,
         0, false, false},
        {"bos", 0, CLI_FLAG, &o.bos, NULL, "begin with the vocabulary's BOS token", 0, 0, false,
         false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct pd_buf text = PD_BUF_INIT(0);
    struct eng_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    int n = cli_options(cli, argc, argv, table, &usage_text, err), rc;

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n > 1)
        return pd_fail(err, PD_EINVAL,
                       "one text only: put it in quotes (see ponder tokenize --help)");
    rc = cli_input(n > 0 ? argv[1] : NULL, o.file, &text, err);
    if (rc == 0)
        rc = open_tokenizer(&o, &t, err);
    if (rc == 0 && o.bos)
        rc = add_bos(t, &ids, &n_ids, err);
    if (rc == 0)
        rc = eng_tokenize(t, pd_buf_str(&text),
                          ENG_PARSE_START | (o.special ? ENG_PARSE_SPECIAL : ENG_PARSE_PLAIN), &ids,
                          &n_ids, err);
    if (rc == 0)
        rc = print_tokens(cli, t, ids, n_ids, err);
    free(ids);
    eng_tokenizer_free(t);
    pd_buf_done(&text);
    return rc;
}

/* Cuts text into numbers (it is changed); appends them to *io_ids. */
static int parse_ids(char *text, int32_t **io_ids, size_t *io_n, struct pd_err *err)
{
    char *save = NULL;

    for (char *word = strtok_r(text, ID_SEPARATORS, &save); word;
         word = strtok_r(NULL, ID_SEPARATORS, &save)) {
        int64_t id;
        int32_t *grown;

        if (!pd_parse_i64(pd_str_of(word), &id) || id < 0 || id > INT32_MAX)
            return pd_fail(err, PD_EINVAL, "'%.40s' is not a token id", word);
        if ((*io_n & (*io_n - 1)) == 0) { /* full at every power of two */
            grown = realloc(*io_ids, (*io_n > 0 ? 2 * *io_n : 1) * sizeof(**io_ids));
            if (!grown)
                return cli_no_memory(err);
            *io_ids = grown;
        }
        (*io_ids)[(*io_n)++] = (int32_t)id;
    }
    return 0;
}

static void print_text(const struct cli *cli, struct pd_str text)
{
    struct pd_buf b = PD_BUF_INIT(SIZE_MAX - 1);
    struct pd_jw w;

    if (cli->json) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        pd_jw_key(&w, "text");
        bytes_json(&w, text);
        pd_jw_end_object(&w);
        cli_print_json(&b);
        pd_buf_done(&b);
    } else {
        cli_print_bytes(text);
    }
}

int cli_detokenize(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    static const struct cli_usage usage_text = {
        "detokenize [TOKEN…] [options]",
        "The exact bytes of token ids: of the arguments, of -f FILE or of standard input.",
    };
    struct tokenize o = {0};
    struct cli_option table[] = {
        {"model", 'm', CLI_TEXT, &o.model, "MODEL", "name or GGUF file, also vocabulary only", 0, 0,
         false, false},
        {"file", 'f', CLI_TEXT, &o.file, "FILE", "read the ids from FILE (- is standard input)", 0,
         0, false, false},
        {"special", 0, CLI_FLAG, &o.special, NULL, "show control tokens as their text", 0, 0, false,
         false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct pd_buf in = PD_BUF_INIT(0), text = PD_BUF_INIT(SIZE_MAX - 1);
    struct eng_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    int n = cli_options(cli, argc, argv, table, &usage_text, err), rc = n < 0 ? n : 0;

    if (n < 0 || cli->help)
        return rc;
    for (int i = 1; i <= n && rc == 0; i++)
        rc = parse_ids(argv[i], &ids, &n_ids, err);
    if (rc == 0 && n == 0)
        rc = cli_input(NULL, o.file, &in, err);
    if (rc == 0 && in.len > 0)
        rc = parse_ids(in.data, &ids, &n_ids, err);
    if (rc == 0)
        rc = open_tokenizer(&o, &t, err);
    if (rc == 0)
        rc = eng_detokenize_whole(t, ids, n_ids, o.special, &text, err);
    if (rc == 0)
        print_text(cli, pd_buf_str(&text));
    free(ids);
    eng_tokenizer_free(t);
    pd_buf_done(&in);
    pd_buf_done(&text);
    return rc;
}

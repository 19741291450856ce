/* What masks cost: `masks VOCABULARY [TOKENS]` writes texts under some forms with random logits,
 * first with nothing known of the form, then again, and tells milliseconds a token: of the mask,
 * and of drawing without and with it. VOCABULARY is any GGUF that has one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/grammar.h"
#include "engine/sample.h"
#include "engine/tokenizer_int.h"

static const struct {
    const char *name;
    enum eng_grammar_kind kind;
    const char *text;
} forms[] = {
    {"book", ENG_GRAMMAR_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\"},\"year\":{\"type\":"
     "\"integer\",\"minimum\":1500,\"maximum\":2100},\"authors\":{\"type\":\"array\",\"items\":{"
     "\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"born\":{\"type\":"
     "\"string\",\"format\":\"date\"}},\"required\":[\"name\"]}},\"kind\":{\"enum\":[\"novel\","
     "\"poem\",\"play\"]}},\"required\":[\"title\",\"authors\"]}"},
    {"long string", ENG_GRAMMAR_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\",\"minLength\":100,"
     "\"maxLength\":200}},\"required\":[\"text\"]}"},
    {"any JSON", ENG_GRAMMAR_SCHEMA, "true"},
    {"grammar", ENG_GRAMMAR_GBNF,
     "root ::= (line \"\\n\")+\nline ::= [a-z]+ (\" \" [a-z]+)* (\"(\" line \")\")?"},
};

struct cost {
    double mask, worst, plain, masked;
    size_t n;
};

static double since_ms(int64_t t0)
{
    return (double)(pd_clock_now_ns() - t0) / 1e6;
}

/* One text of at most n tokens. */
static int write_text(struct eng_grammar *g, const struct eng_kernels *k, float *logits,
                      struct sample_scratch *scratch, uint64_t seed, size_t n, struct cost *c,
                      struct pd_err *err)
{
    static const struct sample_counts none;
    static const struct eng_sampling sampling = {1.0f, 0, 1.0f, 0.0f};
    uint32_t n_vocab = eng_n_vocab(grammar_tokenizer(g));
    uint64_t *mask = calloc(grammar_mask_words(n_vocab), sizeof(*mask));
    struct grammar_text text;
    struct sample_drawn d = {0};
    int rc = mask ? grammar_text_init(&text, g, err) : PD_ENOMEM;

    for (uint64_t i = 0; i < n && rc == 0; i++) {
        int64_t t0 = pd_clock_now_ns(), count = grammar_mask(&text, mask, n_vocab, err);
        double ms = since_ms(t0);

        if (count <= 0) {
            rc = count < 0 ? (int)count : pd_fail(err, PD_EINVAL, "no token can go on");
            break;
        }
        for (uint32_t id = 0; id < n_vocab; id++)
            logits[id] = (float)pd_rng_uniform(seed, i, id) * 8;
        c->worst = ms > c->worst ? ms : c->worst;
        t0 = pd_clock_now_ns();
        sample_token(k, logits, n_vocab, &sampling, NULL, &none, NULL, seed, i, scratch, &d);
        c->plain += since_ms(t0);
        t0 = pd_clock_now_ns();
        sample_token(k, logits, n_vocab, &sampling, NULL, &none, mask, seed, i, scratch, &d);
        c->masked += since_ms(t0);
        c->n++;
        if (!eng_token_is_end(grammar_tokenizer(g), d.id)) {
            t0 = pd_clock_now_ns();
            rc = grammar_text_add_token(&text, d.id, err);
            ms += since_ms(t0);
        } else {
            n = 0;
        }
        c->mask += ms;
    }
    if (mask)
        grammar_text_done(&text);
    free(mask);
    return rc;
}

static int measure(const struct eng_tokenizer *t, size_t f, size_t n, struct pd_err *err)
{
    const struct eng_grammar_spec spec = {.kind = forms[f].kind, .text = pd_str_of(forms[f].text)};
    const struct eng_kernels *k = eng_kernels(ENG_ISA_SCALAR);
    float *logits = calloc(eng_n_vocab(t), sizeof(*logits));
    struct sample_scratch scratch = {0};
    struct eng_grammar *g = NULL;
    int64_t t0 = pd_clock_now_ns();
    int rc = eng_grammar_new(t, &spec, &g, err);

    for (int i = ENG_N_ISA - 1; i > 0; i--)
        if (eng_isa_supported((enum eng_isa)i)) {
            k = eng_kernels((enum eng_isa)i);
            break;
        }
    printf("%-12s compiled in %.1f ms\n", forms[f].name, since_ms(t0));
    if (rc == 0 && (!logits || sample_scratch_init(&scratch, eng_n_vocab(t)) < 0))
        rc = pd_fail(err, PD_ENOMEM, "out of memory");
    for (int round = 0; round < 2 && rc == 0; round++) {
        struct cost c = {0};

        for (uint64_t seed = 0; seed < 4 && rc == 0; seed++)
            rc = write_text(g, k, logits, &scratch, seed, n, &c, err);
        if (rc == 0)
            printf("%-12s %5zu tokens, ms a token: mask %.3f (most %.2f), draw %.3f, masked %.3f\n",
                   round ? "  again" : "  first", c.n, c.mask / (double)c.n, c.worst,
                   c.plain / (double)c.n, c.masked / (double)c.n);
    }
    eng_grammar_unref(g);
    sample_scratch_done(&scratch);
    free(logits);
    return rc;
}

int main(int argc, char **argv)
{
    struct eng_tokenizer *t = NULL;
    struct pd_err err = {0};
    uint64_t n = 100;
    int rc;

    if (argc < 2 || (argc > 2 && !pd_parse_u64(pd_str_of(argv[2]), &n))) {
        fputs("usage: masks VOCABULARY [TOKENS]\n", stderr);
        return 2;
    }
    rc = eng_tokenizer_open(argv[1], &t, &err);
    if (rc == 0) {
        int64_t t0 = pd_clock_now_ns();
        const struct tok_tree *tree = tok_tree_of(t);

        printf("%u tokens, a tree of %u nodes in %.1f ms\n", eng_n_vocab(t),
               tree ? tree->n_nodes : 0, since_ms(t0));
        if (!tree)
            rc = pd_fail(&err, PD_ENOMEM, "out of memory");
    }
    for (size_t f = 0; f < sizeof(forms) / sizeof(*forms) && rc == 0; f++)
        rc = measure(t, f, n, &err);
    if (rc < 0)
        fprintf(stderr, "masks: %s\n", err.text);
    eng_tokenizer_free(t);
    return rc < 0;
}

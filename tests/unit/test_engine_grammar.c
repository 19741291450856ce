/* Grammars: what fits each construct of GBNF and each keyword of JSON Schema; what is refused and
 * how; the tokens of a mask against trying every one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/grammar.h"
#include "engine/tokenizer_int.h"
#include "tests/vocabulary.h"

static struct eng_grammar *make(enum eng_grammar_kind kind, const char *text,
                                const struct eng_tokenizer *t)
{
    const struct eng_grammar_spec spec = {.kind = kind, .text = pd_str_of(text)};
    struct eng_grammar *g = NULL;
    struct pd_err err = {0};

    if (eng_grammar_new(t, &spec, &g, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return g;
}

static enum eng_fit fit(struct eng_grammar *g, struct pd_str text)
{
    enum eng_fit f = ENG_FIT_NOT;
    struct pd_err err = {0};

    if (eng_grammar_fit(g, text, &f, &err) < 0)
        fail_msg("%s", err.text);
    return f;
}

struct example {
    const char *text;
    const char *fit[9], *not [9]; /* whole texts, and those that are none */
};

/* Of what fits every beginning begins a text, and the text does not begin any that does not fit. */
static void check_examples(enum eng_grammar_kind kind, const struct example *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct eng_grammar *g = make(kind, e[i].text, NULL);

        for (const char *const *z = e[i].fit; *z; z++)
            for (size_t k = 0; k <= strlen(*z); k++) {
                enum eng_fit f = fit(g, pd_str_sub(pd_str_of(*z), 0, k));

                if (f == ENG_FIT_NOT || ((*z)[k] == '\0' && f != ENG_FIT_WHOLE))
                    fail_msg("%s: '%.*s' of '%s' does not fit", e[i].text, (int)k, *z, *z);
            }
        for (const char *const *z = e[i].not ; *z; z++)
            if (fit(g, pd_str_of(*z)) == ENG_FIT_WHOLE)
                fail_msg("%s: '%s' fits", e[i].text, *z);
        eng_grammar_unref(g);
    }
}

static void every_construct_of_gbnf(void **state)
{
    static const struct example examples[] = {
        {"root ::= \"abc\"", {"abc"}, {"", "ab", "abcd", "abd"}},
        {"root ::= \"\"", {""}, {"a"}},
        {"root ::= \"a\" | \"bc\" | \"b\"", {"a", "b", "bc"}, {"c", "ab"}},
        {"root ::= \"a\"* \"b\"+ \"c\"?", {"b", "aab", "abbc"}, {"a", "acb", "bcc"}},
        {"root ::= \"a\"{2} \"b\"{1,} \"c\"{0,2}", {"aab", "aabbcc"}, {"ab", "aaab", "aabccc"}},
        {"root ::= (\"a\" | \"b\" \"c\")+ # comment\n", {"a", "bca"}, {"", "b", "ac"}},
        {"root ::= [a-cx\\]-]", {"a", "c", "x", "]", "-"}, {"d", "", "aa"}},
        {"root ::= [^a-y\\n]+", {"z", "A\xc3\xa9", "\xe2\x82\xac"}, {"a", "\n", "\xc3"}},
        {"root ::= [\xc3\xa0-\xc3\xbf]", {"\xc3\xa9"}, {"\xc3", "e", "\xc2\xa9"}},
        {"root ::= .", {"a", "\n", "\xf0\x9f\x98\x80"}, {"", "\x80", "ab", "\xed\xa0\x80"}},
        {"root ::= \"\\x41\\u00e9\\U0001F600\\n\"", {"A\xc3\xa9\xf0\x9f\x98\x80\n"}, {"A"}},
        {"# first\nroot ::= item (\",\" item)*\n\nitem ::= [0-9]+\n", {"1", "12,3"}, {",", "1,"}},
        {"root ::=\n  \"a\"\n  | \"b\"\n  | c\nc ::= \"c\"", {"a", "b", "c"}, {"d"}},
        {"root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"(x", "x)", "()"}},
        {"root ::= root \"+\" root | \"1\"", {"1", "1+1+1"}, {"1+", "+1"}},
        {"root ::= e e \"x\"\ne ::= \"a\" | \"\"", {"x", "ax", "aax"}, {"aaax", "a"}},
        {"root ::= n \"b\"\nn ::= m | \"a\" n\nm ::= n | \"\"", {"b", "aab"}, {"a", "ba"}},
        {"root ::= p | \"y\"\np ::= p \"x\" | \"x\"", {"x", "xxx", "y"}, {"", "xy"}},
        {"root ::= \"y\" | never\nnever ::= \"x\" never", {"y"}, {"x", "xy"}},
    };

    (void)state;
    check_examples(ENG_GRAMMAR_GBNF, examples, sizeof(examples) / sizeof(*examples));
}

static void every_keyword_of_json_schema(void **state)
{
    static const struct example examples[] = {
        {"true", {"1", "null", "[1, {\"a\": []}]", "\"x\"", "-1.5e+3"}, {"", "tru", "[1", "01"}},
        {"{\"type\":\"null\"}", {"null"}, {"nul", "0"}},
        {"{\"type\":[\"boolean\",\"null\"]}", {"true", "false", "null"}, {"0", "\"true\""}},
        {"{\"type\":\"integer\"}", {"0", "-1", "1234567890123456"}, {"-0", "01", "1.0", "", "-"}},
        {"{\"type\":\"number\"}", {"0", "-0.5", "1e9", "12.25E-3"}, {".5", "1.", "1e", "+1"}},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":12}",
         {"3", "9", "10", "12"},
         {"2", "13", "0", "-3", "31", "1"}},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":-3,\"exclusiveMaximum\":3}",
         {"-2", "-1", "0", "2"},
         {"-3", "3", "-0"}},
        {"{\"type\":\"integer\",\"minimum\":998}", {"998", "1000", "99999"}, {"997", "-998"}},
        {"{\"type\":\"integer\",\"maximum\":-15}", {"-15", "-20", "-100"}, {"-14", "-9", "15"}},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
         {"0", "0.0", "0.5", "1", "1.0", "0.999999"},
         {"1.1", "-0.5", "2", "1.01", "10"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1.5}",
         {"0.1", "0.0001", "1.49", "1"},
         {"0", "0.0", "1.5", "1.50", "1.6"}},
        {"{\"type\":\"number\",\"minimum\":-2.25,\"maximum\":-0.5}",
         {"-2.25", "-0.5", "-0.50", "-1", "-2.2"},
         {"-2.26", "-0.4", "0.5", "-3", "-0.499"}},
        {"{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":0,\"maximum\":100}",
         {"0", "7", "98"},
         {"1", "105", "-7"}},
        {"{\"type\":\"integer\",\"multipleOf\":5}", {"0", "-15", "20"}, {"12", "-"}},
        {"{\"type\":\"string\"}",
         {"\"\"", "\"a\\n\\u00e9\xc3\xa9\"", "\"\\ud83d\\ude00\"", "\"\\u0001\""},
         {"\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\\u0000\"", "\"\\ude00\""}},
        {"{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}",
         {"\"a\"", "\"\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\n\\u00e9b\""},
         {"\"\"", "\"abcd\""}},
        {"{\"type\":\"string\",\"maxLength\":9000}", {"\"\"", "\"abc\""}, {"abc"}},
        {"{\"type\":\"string\",\"pattern\":\"^[a-c]+\\\\d?$\"}",
         {"\"a\"", "\"abc7\""},
         {"\"\"", "\"d\"", "\"a77\""}},
        {"{\"type\":\"string\",\"pattern\":\"b{2}\"}", {"\"bb\"", "\"abbc\""}, {"\"b\"", "\"\""}},
        {"{\"type\":\"string\",\"pattern\":\"^(x|\\\"\\\\\\\\|\\\\n)$\"}",
         {"\"x\"", "\"\\\"\\\\\"", "\"\\n\""},
         {"\"\"\"", "\"\n\""}},
        {"{\"type\":\"string\",\"pattern\":\"^a*$\",\"minLength\":2,\"maxLength\":3}",
         {"\"aa\"", "\"aaa\""},
         {"\"a\"", "\"aaaa\"", "\"ab\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"2023-12-31\"", "\"2000-02-29\""},
         {"\"2023-02-29\"", "\"2024-13-01\"", "\"1900-02-29\"", "\"2024-04-31\""}},
        {"{\"type\":\"string\",\"format\":\"time\"}",
         {"\"23:59:59Z\"", "\"00:00:00.25+02:00\""},
         {"\"24:00:00Z\"", "\"12:00:00\""}},
        {"{\"type\":\"string\",\"format\":\"date-time\"}",
         {"\"2024-02-29T12:30:00Z\""},
         {"\"2024-02-29 12:30:00Z\""}},
        {"{\"type\":\"string\",\"format\":\"uuid\"}",
         {"\"01234567-89ab-cdef-0123-456789abcdef\""},
         {"\"01234567-89ab-cdef-0123-456789abcde\""}},
        {"{\"type\":\"string\",\"format\":\"ipv4\"}", {"\"255.0.10.1\""}, {"\"256.0.0.1\""}},
        {"{\"type\":\"string\",\"format\":\"email\"}", {"\"a.b@c.org\""}, {"\"a@b\"", "\"@\""}},
        {"{\"enum\":[\"a\",1,null,{\"b\":[true]}]}",
         {"\"a\"", "1", "null", "{\"b\":[true]}"},
         {"\"b\"", "11", "2"}},
        {"{\"type\":\"string\",\"enum\":[\"a\",1]}", {"\"a\""}, {"1"}},
        {"{\"const\":\"x\\\"y\"}", {"\"x\\\"y\""}, {"\"x\""}},
        {"{\"type\":\"array\"}", {"[]", "[1, \"a\"]", "[\n  [ ]\n]"}, {"[1,]", "[,]", "[1 2]"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}",
         {"[1,2]", "[1, 2, 3]"},
         {"[]", "[1]", "[1,2,3,4]", "[1,\"a\"]"}},
        {"{\"type\":\"array\",\"items\":{\"const\":1},\"maxItems\":0}", {"[]"}, {"[1]"}},
        {"{\"prefixItems\":[{\"const\":1},{\"const\":2}]}", {"[1,2]"}, {"[1]", "[1,2,3]"}},
        {"{\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2},\"minItems\":2}",
         {"[1,2]", "[1, 2, 2]"},
         {"[1]", "[2,2]"}},
        {"{\"prefixItems\":[{\"const\":1}],\"items\":false}", {"[1]"}, {"[1,2]"}},
        {"{\"type\":\"array\",\"uniqueItems\":false,\"items\":{\"const\":1}}", {"[1,1]"}, {"[2]"}},
        {"{\"type\":\"object\"}",
         {"{}", "{\"a\": 1, \"b\": {\"c\": []}}"},
         {"{a:1}", "{\"a\"}", "{\"a\":1,}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{"
         "\"const\":3}},\"required\":[\"b\"]}",
         {"{\"b\":2}", "{\"a\": 1, \"b\": 2}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"b\":2,\"c\":3}"},
         {"{}", "{\"a\":1}", "{\"b\":2,\"a\":1}", "{\"b\":2,\"d\":4}", "{\"b\":1}"}},
        {"{\"properties\":{\"a\":{\"const\":1}}}", {"{}", "{\"a\":1}"}, {"{\"b\":1}", "1"}},
        {"{\"properties\":{\"a\":{\"const\":1}},\"required\":[\"z\"]}",
         {"{\"z\":null}", "{\"a\":1,\"z\":[2]}"},
         {"{\"a\":1}", "{}"}},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{"
         "\"const\":2}}",
         {"{}", "{\"ab\":1}", "{\"ab\":1,\"a\":2,\"abc\":2}", "{\"\":2}"},
         {"{\"ab\":2}", "{\"x\":1}", "{\"\\u0061b\":2}"}},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
         {"{}", "{\"x\":1}"},
         {"{\"x\":\"1\"}"}},
        {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
         {"12", "\"a\""},
         {"\"ab\"", "null"}},
        {"{\"type\":\"string\",\"anyOf\":[{\"maxLength\":1},{\"minLength\":3}]}",
         {"\"\"", "\"a\"", "\"abc\""},
         {"\"ab\"", "1"}},
        {"{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"integer\"}]}", {"null", "3"}, {"\"\""}},
        {"{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"a\"},\"x\":{\"const\":1}},\"required\":["
         "\"k\"]},{\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":[\"k\"]}]}",
         {"{\"k\":\"a\"}", "{\"k\":\"a\",\"x\":1}", "{\"k\":\"b\"}"},
         {"{\"k\":\"b\",\"x\":1}"}},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{"
         "\"properties\":{\"a\":{\"minimum\":5},\"b\":{\"const\":2}}}]}",
         {"{\"a\":5}", "{\"a\":12,\"b\":2}"},
         {"{\"a\":4}", "{}", "{\"b\":2}"}},
        {"{\"allOf\":[{\"type\":\"integer\",\"minimum\":2},{\"maximum\":3}]}", {"2", "3"}, {"4"}},
        {"{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"next\":{"
         "\"anyOf\":[{\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},\"required\":[\"next\"]}}}",
         {"{\"next\":null}", "{\"next\": {\"next\": null}}"},
         {"{}", "{\"next\":{}}"}},
        {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[], [[]]]"}, {"[1]"}},
        {"{\"title\":\"t\",\"description\":\"d\",\"default\":1,\"examples\":[1],\"$comment\":\"c\","
         "\"$id\":\"x\",\"$schema\":\"y\",\"deprecated\":false,\"readOnly\":true,\"type\":"
         "\"null\"}",
         {"null"},
         {"1"}},
    };

    (void)state;
    check_examples(ENG_GRAMMAR_SCHEMA, examples, sizeof(examples) / sizeof(*examples));
}

/* ---- what is refused ---- */

static void errors_name_what_and_where(void **state)
{
    static const struct {
        enum eng_grammar_kind kind;
        const char *text, *message;
    } cases[] = {
        {ENG_GRAMMAR_GBNF, "root ::= x", "the grammar: there is no rule 'x'"},
        {ENG_GRAMMAR_GBNF, "a ::= \"x\"", "the grammar: there is no rule 'root'"},
        {ENG_GRAMMAR_GBNF, "root ::= \"a", "line 1, column 12: the quotation mark"},
        {ENG_GRAMMAR_GBNF, "root ::= \"a\"\nroot ::= \"b\"",
         "line 2, column 1: this rule is there"},
        {ENG_GRAMMAR_GBNF, "root ::= [z-a]", "column 14: this range of characters is empty"},
        {ENG_GRAMMAR_GBNF, "root ::= \"a\"{3,2}", "the most times are fewer than the least"},
        {ENG_GRAMMAR_GBNF, "root ::= (\"a\"", "the parenthesis that ends a group is missing"},
        {ENG_GRAMMAR_GBNF, "root ::= \"\\q\"", "column 12: no such escape"},
        {ENG_GRAMMAR_GBNF, "root ::= \"a\" root", "no text fits it"},
        {ENG_GRAMMAR_GBNF, "root = \"a\"", "'::=' is missing"},
        {ENG_GRAMMAR_SCHEMA, "{\"type\":\"strin\"}", "at '#/type': this is no type"},
        {ENG_GRAMMAR_SCHEMA, "{\"properties\":{\"a/b\":{\"not\":{}}}}",
         "the schema: at '#/properties/a~1b/not': this keyword is not supported"},
        {ENG_GRAMMAR_SCHEMA, "{\"items\":{\"uniqueItems\":true}}", "'#/items/uniqueItems': only"},
        {ENG_GRAMMAR_SCHEMA, "{\"format\":\"color\"}", "'#/format': this format is not supported"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"a(?=b)\"}", "'#/pattern': character 3 of the pattern"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"(a)\\\\1\"}", "this escape is not supported"},
        {ENG_GRAMMAR_SCHEMA, "{\"$ref\":\"#/$defs/x\"}", "'#/$ref': what this refers to is not"},
        {ENG_GRAMMAR_SCHEMA, "{\"$ref\":\"http://x\"}", "only references within the schema"},
        {ENG_GRAMMAR_SCHEMA, "{\"minimum\":3,\"maximum\":2}", "no number is within these bounds"},
        {ENG_GRAMMAR_SCHEMA, "{\"minLength\":3,\"maxLength\":2}", "minLength is greater"},
        {ENG_GRAMMAR_SCHEMA, "{\"minItems\":3,\"maxItems\":2}", "no array has so few"},
        {ENG_GRAMMAR_SCHEMA, "{\"allOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "no type"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"^a$\",\"minLength\":2}", "no string has this form"},
        {ENG_GRAMMAR_SCHEMA, "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}",
         "'#/oneOf/1': this alternative of oneOf is not seen to exclude"},
        {ENG_GRAMMAR_SCHEMA,
         "{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}",
         "'#/required/0': this is required, but"},
        {ENG_GRAMMAR_SCHEMA, "{\"enum\":[1],\"type\":\"string\"}", "none of these values fits"},
        {ENG_GRAMMAR_SCHEMA, "{\"enum\":[\"a\"],\"minLength\":1}", "beside type alone"},
        {ENG_GRAMMAR_SCHEMA, "false", "at '#': nothing fits false"},
        {ENG_GRAMMAR_SCHEMA, "[1]", "at '#': a schema must be an object or true"},
        {ENG_GRAMMAR_SCHEMA, "{\"type\":", "the schema: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct eng_grammar_spec spec = {.kind = cases[i].kind,
                                              .text = pd_str_of(cases[i].text)};
        struct eng_grammar *g = NULL;
        struct pd_err err = {0};

        assert_int_equal(eng_grammar_new(NULL, &spec, &g, &err), PD_EINVAL);
        if (!strstr(err.text, cases[i].message))
            fail_msg("%s: '%s' does not say '%s'", cases[i].text, err.text, cases[i].message);
    }
}

/* Few bytes that ask for very much: refused, whatever was spent on them. */
static void the_evil_is_too_complex(void **state)
{
    static const struct {
        enum eng_grammar_kind kind;
        const char *text;
    } cases[] = {
        {ENG_GRAMMAR_GBNF, "root ::= ((((\"a\"{100}){100}){100}){100}){100}"},
        {ENG_GRAMMAR_GBNF, "root ::= [ab]* \"a\" [ab]{30}"},
        {ENG_GRAMMAR_GBNF, "root ::= (\"a\"? \"b\"?){99999}"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"^(a|b)*a(a|b){30}$\"}"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"(x{1000}){1000}\"}"},
        {ENG_GRAMMAR_SCHEMA, "{\"pattern\":\"a{30}\",\"minLength\":1000,\"maxLength\":9000}"},
        {ENG_GRAMMAR_SCHEMA, "{\"minLength\":1000000}"},
        {ENG_GRAMMAR_SCHEMA, "{\"items\":{\"maxLength\":200},\"minItems\":99000}"},
    };
    struct pd_buf b = PD_BUF_INIT(1 << 20);
    struct eng_grammar *g = NULL;
    struct pd_err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct eng_grammar_spec spec = {.kind = cases[i].kind,
                                              .text = pd_str_of(cases[i].text)};

        if (eng_grammar_new(NULL, &spec, &g, &err) != PD_ECOMPLEX)
            fail_msg("%s is not too complex", cases[i].text);
        assert_non_null(strstr(err.text, "too complex"));
    }
    /* four choices of forty beside each other are 40^4 alternatives */
    pd_buf_addz(&b, "{\"allOf\":[");
    for (int k = 0; k < 4; k++) {
        pd_buf_addz(&b, k ? ",{\"anyOf\":[" : "{\"anyOf\":[");
        for (int i = 0; i < 40; i++)
            pd_buf_printf(&b, "%s{\"minimum\":%d}", i ? "," : "", 100 * k + i);
        pd_buf_addz(&b, "]}");
    }
    pd_buf_addz(&b, "]}");
    assert_int_equal(eng_grammar_new(NULL,
                                     &(struct eng_grammar_spec){.kind = ENG_GRAMMAR_SCHEMA,
                                                                .text = pd_buf_str(&b)},
                                     &g, &err),
                     PD_ECOMPLEX);
    pd_buf_done(&b);
}

/* ---- masks ---- */

static const struct {
    enum eng_grammar_kind kind;
    const char *text, *after, *begin;
} masked[] = {
    {ENG_GRAMMAR_GBNF, "root ::= [0-9]+ (\"+\" [0-9]+)*", NULL, NULL},
    {ENG_GRAMMAR_GBNF, "root ::= root \"+\" root | \"1\" | \"(\" root \")\"", NULL, NULL},
    {ENG_GRAMMAR_GBNF, "root ::= s \"!\"\ns ::= (\"a\" | \"b\" s \"b\" | .)*", NULL, NULL},
    {ENG_GRAMMAR_GBNF,
     "root ::= \"a\" x | \"b\" x\nx ::= y? y? \"1\"\ny ::= \"(\" x \")\" | z\n"
     "z ::= \"\" | \"2\" z",
     NULL, NULL},
    {ENG_GRAMMAR_SCHEMA, "true", NULL, NULL},
    {ENG_GRAMMAR_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":"
     "\"integer\"},\"list\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"ab\",\"\xc3\xa9\"]}}},"
     "\"required\":[\"name\",\"list\"]}",
     NULL, NULL},
    {ENG_GRAMMAR_SCHEMA,
     "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":"
     "\"boolean\"},{\"type\":\"string\",\"maxLength\":3}]}}",
     NULL, NULL},
    {ENG_GRAMMAR_SCHEMA, "{\"type\":\"integer\"}", "</think>", NULL},
    {ENG_GRAMMAR_SCHEMA, "{\"type\":\"integer\"}", "</think>", "<think>"},
};

enum { EOS = 256, OTHER_CONTROL, THINK, THINK_END };

/* All bytes, and pieces that run over the ends of rules and of characters. */
static struct eng_tokenizer *vocabulary(void)
{
    static const char *const pieces[] = {
        "{\"",      "\":",      "\": \"",    "\", \"", "\"}",     "[[",    "]]",     "],",
        "}",        "true",     "alse",      "12",     "1+1",     "+(",    ")+",     "((",
        "))",       "aa",       "ab",        "ba!",    "name\"",  "list",  "\xa9\"", "e\xcc",
        "\xc3\xa9", "b\xc3",    "\\u",       "00e",    "\\\"",    ", ",    "</",     "think>",
        ">1",       ">\n\n4",   "</think>2", "1)",     "2))",     "(2",    "}}",     "]}",
        "\xf0\x9f", "\x98\x80", "0,",        "null",   "<think>", "\"a\"", "\"ab",   "\n  ",
        ":\"",      "!"};
    struct eng_tokenizer *t = NULL;
    struct vocabulary v;

    vocabulary_init_bpe(&v, "gpt-2");
    vocabulary_add(&v, PD_STR("<|end|>"), 3, 0);
    vocabulary_add(&v, PD_STR("<|other|>"), 3, 0);
    vocabulary_add(&v, PD_STR("<think>"), 3, 0);
    vocabulary_add(&v, PD_STR("</think>"), 3, 0);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        struct pd_buf mapped = PD_BUF_INIT(64);

        vocabulary_map(&mapped, pd_str_of(pieces[i]));
        vocabulary_add(&v, pd_buf_str(&mapped), 1, 0);
        pd_buf_done(&mapped);
    }
    gb_u32(&v.gb, "tokenizer.ggml.eos_token_id", EOS);
    assert_int_equal(vocabulary_open(&v, &t, NULL), 0);
    return t;
}

/* The definition: a token may come if the text with it is the beginning of one that fits; one that
 * controls the model where nothing is constrained yet; an end where the text is whole. */
static bool may_come(const struct eng_tokenizer *t, struct eng_grammar *g, size_t k,
                     struct pd_str text, int32_t id)
{
    struct pd_buf b = PD_BUF_INIT(1 << 16);
    struct pd_str after = pd_str_of(masked[k].after), begin = pd_str_of(masked[k].begin);
    bool yes, is_free;

    if (id == EOS)
        return fit(g, text) == ENG_FIT_WHOLE;
    pd_buf_adds(&b, text);
    pd_buf_adds(&b, tok_text(t, id));
    yes = fit(g, pd_buf_str(&b)) != ENG_FIT_NOT;
    is_free = after.len && (!begin.len || pd_str_starts(pd_buf_str(&b), begin)) &&
              (pd_str_find(pd_buf_str(&b), after) < 0 || pd_str_ends(pd_buf_str(&b), after));
    if (eng_token_is_control(t, id) && !is_free)
        yes = false;
    pd_buf_done(&b);
    return yes;
}

static void a_mask_has_the_tokens_that_fit(void **state)
{
    struct eng_tokenizer *t = vocabulary();
    uint32_t n_vocab = eng_n_vocab(t);
    uint64_t mask[16];

    (void)state;
    for (size_t k = 0; k < sizeof(masked) / sizeof(*masked); k++) {
        const struct eng_grammar_spec spec = {.kind = masked[k].kind,
                                              .text = pd_str_of(masked[k].text),
                                              .after = masked[k].after,
                                              .begin = masked[k].begin};
        struct eng_grammar *g;
        struct pd_err err = {0};

        assert_int_equal(eng_grammar_new(t, &spec, &g, &err), 0);
        for (uint64_t walk = 0; walk < 12; walk++) {
            struct grammar_text text;
            struct pd_buf so_far = PD_BUF_INIT(1 << 16);
            bool over = false;

            assert_int_equal(grammar_text_init(&text, g, &err), 0);
            for (uint64_t step = 0; step < 14 && !over; step++) {
                int64_t n = grammar_mask(&text, mask, n_vocab, &err);
                int64_t pick = (int64_t)(pd_rng_uniform(77 * k + walk, step, 0) * (double)n);
                int32_t next = -1;

                assert_true(n > 0);
                for (int32_t id = 0; (uint32_t)id < n_vocab; id++) {
                    bool has = mask[id / 64] >> (id % 64) & 1;

                    if (has != may_come(t, g, k, pd_buf_str(&so_far), id))
                        fail_msg("%s: behind '%s' token %d '%.*s' is%s allowed", masked[k].text,
                                 pd_buf_str(&so_far).ptr, id, (int)tok_text(t, id).len,
                                 tok_text(t, id).ptr, has ? "" : " not");
                    if (has && pick-- == 0)
                        next = id;
                }
                over = next == EOS;
                if (!over) {
                    pd_buf_adds(&so_far, tok_text(t, next));
                    assert_int_equal(grammar_text_add_token(&text, next, &err), 0);
                }
            }
            grammar_text_done(&text);
            pd_buf_done(&so_far);
        }
        eng_grammar_unref(g);
    }
    eng_tokenizer_free(t);
}

/* A grammar that reads a text in ever more ways: an error, not a hang. */
static void too_many_readings_are_an_error(void **state)
{
    struct eng_grammar *g = make(ENG_GRAMMAR_GBNF,
                                 "root ::= r | s\nr ::= \"a\" r r | \"a\" s t | t\n"
                                 "s ::= \"a\" s s s | \"a\" r t | \"b\" t\nt ::= \"a\" t r | \"\"",
                                 NULL);
    struct pd_str text = {NULL, 20000};
    char *as = malloc(text.len);
    enum eng_fit f;
    struct pd_err err = {0};

    (void)state;
    assert_non_null(as);
    memset(as, 'a', text.len);
    text.ptr = as;
    assert_int_equal(eng_grammar_fit(g, text, &f, &err), PD_ELIMIT);
    free(as);
    eng_grammar_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct_of_gbnf),
        cmocka_unit_test(every_keyword_of_json_schema),
        cmocka_unit_test(errors_name_what_and_where),
        cmocka_unit_test(the_evil_is_too_complex),
        cmocka_unit_test(a_mask_has_the_tokens_that_fit),
        cmocka_unit_test(too_many_readings_are_an_error),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

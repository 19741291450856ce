#include "app/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))
#define HEAD    "{\"ponder_recipe\":1,\"name\":\"x\",\"dataset\":{\"path\":\"dev.jsonl\"},\n"

static struct recipe *parse(const char *text)
{
    struct recipe *r = NULL;
    struct pd_err err = {0};

    if (recipe_parse("x.json", pd_str_of(text), &r, &err) < 0)
        fail_msg("%s", err.text);
    return r;
}

static void grids_make_variants(void **state)
{
    static const struct {
        const char *name, *entry, *options;
        bool plain, added;
    } want[] = {
        {"greedy", "greedy", "max_tokens=99 temperature=0", false, false},
        {"bon@4 vote=weighted", "bon", "max_tokens=99 samples=4 vote=weighted", true, false},
        {"bon@4 vote=none", "bon", "max_tokens=99 samples=4 vote=none", true, false},
        {"bon@8 vote=weighted", "bon", "max_tokens=99 samples=8 vote=weighted", true, false},
        {"bon@8 vote=none", "bon", "max_tokens=99 samples=8 vote=none", true, false},
        {"beam", "beam", "max_tokens=99 samples=16 expand=2", true, false},
        {"baseline", "baseline", "max_tokens=99 samples=16", true, true},
    };
    struct recipe *r =
        parse(HEAD "\"generator\":{\"sampling\":{\"max_tokens\":99}},\"strategies\":["
                   "{\"name\":\"greedy\",\"strategy\":\"single\",\"sampling\":{\"temperature\":0}},"
                   "{\"name\":\"bon\",\"strategy\":\"best_of_n\",\"samples\":[4,8],"
                   "\"options\":{\"vote\":[\"weighted\",\"none\"]},\"scorer\":\"oracle\"},"
                   "{\"strategy\":\"beam\",\"samples\":16,\"options\":{\"expand\":2}}],"
                   "\"repeats\":3,\"seed\":5,\"budget\":{\"tokens_per_problem\":1000}}");

    (void)state;
    assert_int_equal(r->n_variants, N_OF(want));
    for (size_t i = 0; i < N_OF(want); i++) {
        const struct recipe_variant *v = &r->variants[i];
        struct pd_buf all = PD_BUF_INIT(4096);

        for (size_t k = 0; k < v->n_options; k++)
            pd_buf_printf(&all, "%s%s", k ? " " : "", v->options[k]);
        assert_string_equal(v->name, want[i].name);
        assert_string_equal(v->entry, want[i].entry);
        assert_string_equal(pd_buf_str(&all).ptr, want[i].options);
        assert_int_equal(v->plain, want[i].plain);
        assert_int_equal(v->added, want[i].added);
        pd_buf_done(&all);
    }
    assert_null(r->variants[0].scorer);
    assert_string_equal(r->variants[1].scorer, "oracle");
    assert_string_equal(r->variants[5].scorer, "tiny-prm");
    assert_int_equal(r->repeats, 3);
    assert_int_equal(r->budget.tokens, 1000);
    recipe_free(r);
}

/* No other majority when there is one that is as expensive as all else, or none is wanted. */
static void baseline_when_needed(void **state)
{
    struct recipe *r = parse(HEAD "\"strategies\":[{\"strategy\":\"self_consistency\","
                                  "\"samples\":8},{\"strategy\":\"dvts\",\"samples\":8}]}");

    (void)state;
    assert_int_equal(r->n_variants, 2);
    recipe_free(r);
    r = parse(HEAD "\"baseline\":0,\"strategies\":[{\"strategy\":\"dvts\",\"samples\":8}]}");
    assert_int_equal(r->n_variants, 1);
    recipe_free(r);
    r = parse(HEAD "\"baseline\":64,\"strategies\":[{\"strategy\":\"dvts\",\"samples\":8}]}");
    assert_int_equal(r->n_variants, 2);
    assert_int_equal(r->variants[1].samples, 64);
    recipe_free(r);
}

static void says_what_is_wrong_and_where(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"{}", "x.json:1:1: not a recipe: \"ponder_recipe\": 1 is missing"},
        {"{\"ponder_recipe\":2}", "x.json:1:2: ponder_recipe: expected a whole number from 1 to 1"},
        {"{\"ponder_recipe\":1}", "x.json:1:1: \"name\" is missing"},
        {"{\"ponder_recipe\":1,\"name\":\"a b\"}",
         "x.json:1:20: a name has 1 to 64 letters, digits, dots, dashes or underscores"},
        {"{\"ponder_recipe\":1,\"name\":\"x\"}", "x.json:1:1: \"dataset\" is missing"},
        {HEAD "\"strategys\":[]}",
         "x.json:2:1: unknown key 'strategys': did you mean 'strategies'?"},
        {HEAD "\"strategies\":[]}",
         "x.json:2:1: \"strategies\" is missing or empty: nothing is to be done"},
        {HEAD "\"strategies\":[{\"strategy\":\"bestofn\"}]}",
         "x.json:2:16: no strategy 'bestofn': did you mean 'best_of_n'?"},
        {HEAD "\"strategies\":[{\"strategy\":\"single\"},{\"strategy\":\"single\"}]}",
         "x.json:2:37: there are two strategies 'single'"},
        {HEAD "\"strategies\":[{\"strategy\":\"single\",\"samples\":4}]}",
         "x.json:2:36: single has no option 'samples' (see ponder solve --strategies)"},
        {HEAD "\"strategies\":[{\"strategy\":\"beam\",\"options\":{\"expnd\":4}}]}",
         "x.json:2:45: beam has no option 'expnd': did you mean 'expand'?"},
        {HEAD "\"strategies\":[{\"strategy\":\"beam\",\"samples\":[4,\n0]}]}",
         "x.json:3:1: samples=0: expected an integer from 1 to 256"},
        {HEAD "\"strategies\":[{\"strategy\":\"beam\",\"samples\":[]}]}",
         "x.json:2:34: samples: an empty array makes no job"},
        {HEAD "\"strategies\":[{\"strategy\":\"beam\",\"samples\":4,\"options\":{\"samples\":8}}]}",
         "x.json:2:57: samples is set twice"},
        {HEAD "\"generator\":{\"sampling\":{\"temprature\":1}}}",
         "x.json:2:26: sampling has no option 'temprature': did you mean 'temperature'?"},
        {HEAD "\"generator\":{\"sampling\":{\"top_p\":[0.5,1]}}}",
         "x.json:2:26: top_p: one value here; an array of them belongs to a strategy"},
        {HEAD "\"generator\":{\"step\":{\"delimiter\":\".\"}}}",
         "x.json:2:22: delimiter: steps end with an empty line, \"\\n\\n\", in this build"},
        {HEAD "\"grade\":{\"type\":\"maths\"}}",
         "x.json:2:10: no grader 'maths': there are exact, numeric, math_equal and regex"},
        {HEAD "\"budget\":{\"tokens\":5}}",
         "x.json:2:11: unknown key 'tokens' (there are: tokens_per_problem, seconds_per_problem, "
         "nodes_per_problem, wrap_up, wrap_reserve)"},
        {HEAD "\"report\":[\"scalling\"]}",
         "x.json:2:11: report: expected scaling, table, steps or length"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct recipe *r = NULL;
        struct pd_err err = {0};

        assert_int_equal(recipe_parse("x.json", pd_str_of(cases[i].text), &r, &err), PD_EFORMAT);
        assert_string_equal(err.text, cases[i].error);
    }
}

/* Derived numbers are pinned: another seed or id would be another experiment. */
static void seeds_and_ids_are_derived(void **state)
{
    struct recipe *r = parse(HEAD "\"seed\":20260117,\"strategies\":["
                                  "{\"name\":\"a\",\"strategy\":\"self_consistency\","
                                  "\"samples\":[4,8]},{\"strategy\":\"single\"}]}");
    const struct recipe_variant *a4 = &r->variants[0], *a8 = &r->variants[1], *s = &r->variants[2];
    char one[PD_JOB_ID_MAX], other[PD_JOB_ID_MAX];

    (void)state;
    assert_true(recipe_seed(r, a4, "p1", 0) == recipe_seed(r, a8, "p1", 0)); /* paired */
    assert_true(recipe_seed(r, a4, "p1", 0) != recipe_seed(r, s, "p1", 0));
    assert_true(recipe_seed(r, a4, "p1", 0) != recipe_seed(r, a4, "p2", 0));
    assert_true(recipe_seed(r, a4, "p1", 0) != recipe_seed(r, a4, "p1", 1));
    assert_true(recipe_seed(r, a4, "p1", 0) < UINT64_C(1) << 53);
    assert_true(recipe_seed(r, a4, "p1", 0) == UINT64_C(1421383221631300));
    recipe_job_id("run_01M86YC0123K65108GS70D991Y", a4, "p1", 0, one);
    assert_string_equal(one, "job_01M86YC012BNSMQABC1PXDK5PG");
    recipe_job_id("run_01M86YC0123K65108GS70D991Y", a8, "p1", 0, other);
    assert_string_not_equal(one, other);
    recipe_free(r);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Lines as the data sets have them: invented ones. */
static void reads_the_forms_of_others(void **state)
{
    static const struct {
        const char *format, *line, *id, *question, *expect, *error;
        enum pd_grade grade;
    } cases[] = {
        {"gsm8k", "{\"question\":\"Q\",\"answer\":\"2+3=<<2+3=5>>5\\n#### 1,005\"}", "line-1", "Q",
         "1,005", NULL, PD_GRADE_MATH},
        {"gsm8k", "{\"question\":\"Q\",\"answer\":\"5\"}", NULL, NULL, NULL,
         ":1: its answer has no final one behind '####'", PD_GRADE_MATH},
        {"math500",
         "{\"problem\":\"P\",\"solution\":\"S\",\"answer\":\"\\\\frac12\",\"unique_id\":"
         "\"test/algebra/1.json\"}",
         "test/algebra/1.json", "P", "\\frac12", NULL, PD_GRADE_MATH},
        {"aime", "{\"id\":60,\"problem\":\"P\",\"answer\":\"204\"}", "60", "P", "204", NULL,
         PD_GRADE_MATH},
        {"aime", "{\"ID\":\"2024-I-1\",\"Problem\":\"P\",\"Answer\":33}", "2024-I-1", "P", "33",
         NULL, PD_GRADE_MATH},
        {"gpqa",
         "{\"Record ID\":\"rec1\",\"Question\":\"Q?\",\"Correct Answer\":\"right\\n\","
         "\"Incorrect Answer 1\":\"x\",\"Incorrect Answer 2\":\"y\","
         "\"Incorrect Answer 3\":\"z\"}",
         "rec1", NULL, "?", NULL, PD_GRADE_MATH},
        {"gpqa", "{\"Question\":\"Q?\",\"Correct Answer\":\"right\"}", NULL, NULL, NULL,
         ":1: it has no choice 'Incorrect Answer", PD_GRADE_MATH},
    };
    char dir[] = "/tmp/ponder-recipe-XXXXXX", path[64], recipe[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/p.jsonl", dir);
    snprintf(recipe, sizeof recipe, "%s/r.json", dir);
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct pd_err err = {0};
        struct recipe *r = NULL;
        char text[512];

        snprintf(text, sizeof text,
                 "{\"ponder_recipe\":1,\"name\":\"x\",\"dataset\":{\"path\":\"p.jsonl\","
                 "\"format\":\"%s\"},\"strategies\":[{\"strategy\":\"single\"}]}",
                 cases[i].format);
        write_text(path, cases[i].line);
        write_text(recipe, text);
        assert_int_equal(recipe_load(recipe, &r, &err), 0);
        assert_int_equal(r->grade, cases[i].grade);
        if (cases[i].error) {
            assert_true(recipe_problems(r, &err) < 0);
            assert_non_null(strstr(err.text, cases[i].error));
        } else {
            assert_int_equal(recipe_problems(r, &err), 0);
            assert_string_equal(r->problems[0].id, cases[i].id);
            if (strcmp(cases[i].expect, "?") != 0) {
                assert_string_equal(r->problems[0].question, cases[i].question);
                assert_string_equal(r->problems[0].expect, cases[i].expect);
            } else { /* the right one stands at the letter that is expected */
                char right[16];

                snprintf(right, sizeof right, "(%s) right", r->problems[0].expect);
                assert_int_equal(strlen(r->problems[0].expect), 1);
                assert_non_null(strstr(r->problems[0].question, right));
                for (const char *z = "xyz"; *z; z++) {
                    char wrong[8];

                    snprintf(wrong, sizeof wrong, ") %c", *z);
                    assert_non_null(strstr(r->problems[0].question, wrong));
                }
            }
        }
        recipe_free(r);
    }
    unlink(path);
    unlink(recipe);
    rmdir(dir);
}

static void reads_problems(void **state)
{
    static const struct {
        const char *data, *more, *error; /* error NULL: good */
    } cases[] = {
        {"{\"key\":\"a\",\"q\":\"1+1?\",\"a\":2}\n\n{\"key\":7,\"q\":\"x\",\"a\":\"3.5\"}", "",
         NULL},
        {"{\"q\":\"1+1?\",\"a\":2}\n{\"a\":2}", "", ":2: it has no question"},
        {"{\"q\":\"1+1?\"}", "", ":1: it has no answer"},
        {"{\"q\":\"1+1?\",\"a\":2}\n{", "", ":2: not JSON"},
        {"{\"key\":1,\"q\":\"a\",\"a\":2}\n{\"key\":\"1\",\"q\":\"b\",\"a\":2}", "",
         "two problems are called '1'"},
        {"\n", "", "there are no problems in it"},
        {"{\"q\":\"a\",\"a\":\"many\"}", ",\"grade\":{\"type\":\"numeric\"}",
         ":1: the answer cannot be graded by (numeric): there is no number in 'many'"},
        {"{\"q\":\"a\",\"a\":\"1\"}", ",\"sha\":1", "another data set"},
    };
    char dir[] = "/tmp/ponder-recipe-XXXXXX", path[64], recipe[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/p.jsonl", dir);
    snprintf(recipe, sizeof recipe, "%s/r.json", dir);
    for (size_t i = 0; i < N_OF(cases); i++) {
        bool sha = strstr(cases[i].more, "sha") != NULL;
        struct pd_err err = {0};
        struct recipe *r = NULL;
        char text[512];

        snprintf(text, sizeof text,
                 "{\"ponder_recipe\":1,\"name\":\"x\",\"dataset\":{\"path\":\"p.jsonl\","
                 "\"id\":\"key\",\"question\":\"q\",\"answer\":\"a\"%s},\"strategies\":"
                 "[{\"strategy\":\"single\"}]%s}",
                 sha ? ",\"sha256\":\"12\"" : "", sha ? "" : cases[i].more);
        write_text(path, cases[i].data);
        write_text(recipe, text);
        assert_int_equal(recipe_load(recipe, &r, &err), 0);
        if (cases[i].error) {
            assert_true(recipe_problems(r, &err) < 0);
            assert_non_null(strstr(err.text, cases[i].error));
        } else {
            assert_int_equal(recipe_problems(r, &err), 0);
            assert_int_equal(r->n_problems, 2);
            assert_string_equal(r->problems[0].id, "a");
            assert_string_equal(r->problems[0].expect, "2");
            assert_string_equal(r->problems[1].id, "7");
            assert_string_equal(r->problems[1].expect, "3.5");
        }
        recipe_free(r);
    }
    remove(path);
    remove(recipe);
    remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids_make_variants),
        cmocka_unit_test(baseline_when_needed),
        cmocka_unit_test(says_what_is_wrong_and_where),
        cmocka_unit_test(seeds_and_ids_are_derived),
        cmocka_unit_test(reads_problems),
        cmocka_unit_test(reads_the_forms_of_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "app/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static char file_a[] = "/tmp/settings-a-XXXXXX", file_b[] = "/tmp/settings-b-XXXXXX";

static int make_files(void **state)
{
    (void)state;
    close(mkstemp(file_a));
    close(mkstemp(file_b));
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(file_a);
    unlink(file_b);
    return 0;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct settings *of(const char *text)
{
    struct settings *s = settings_new();
    struct pd_err err = {0};

    assert_non_null(s);
    put(file_a, text);
    if (settings_add_file(s, file_a, &err) < 0 || settings_check(s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static const struct settings_row *row(const char *key)
{
    const struct settings_row *r = settings_rows;

    while (strcmp(r->key, key) != 0)
        r++;
    return r;
}

static void defaults_need_no_file(void **state)
{
    struct settings *s = of("");

    (void)state;
    assert_int_equal(s->max_jobs, 4);
    assert_int_equal(s->max_body, 8 << 20);
    assert_int_equal(s->listen.n, 0);
    assert_null(s->data_dir);
    assert_string_equal(s->origins[row("limits.max_jobs") - settings_rows], "default");
    settings_unref(s);
    s = of(" // nothing\n /* at all */\n");
    assert_int_equal(s->max_jobs, 4);
    settings_unref(s);
}

static void every_type_is_read(void **state)
{
    struct settings *s = of("{\"ponder_config\": 1, \"listen\": [\"unix\", \"http://[::1]:0\"],\n"
                            "\"data_dir\": \"/d\", /* as it is */ \"drain_timeout_s\": 1.5,\n"
                            "\"limits\": {\"memory\": \"12GiB\", \"max_body\": 2048},\n"
                            "\"engines\": {\"local\": {\"type\": \"gguf\", \"threads\": 3}},\n"
                            "\"log\": {\"level\": \"debug\"}, \"trace\": {\"content\": true}}");
    char place[64];

    (void)state;
    assert_int_equal(s->listen.n, 2);
    assert_string_equal(s->listen.items[1], "http://[::1]:0");
    assert_string_equal(s->data_dir, "/d");
    assert_true(s->drain_timeout_s == 1.5);
    assert_true(s->memory == (UINT64_C(12) << 30));
    assert_int_equal(s->max_body, 2048);
    assert_int_equal(s->threads, 3);
    assert_int_equal(s->log_level, 4);
    snprintf(place, sizeof place, "%s:3:12", file_a);
    assert_string_equal(s->origins[row("limits.memory") - settings_rows], place);
    settings_unref(s);
}

static void later_goes_over_earlier(void **state)
{
    struct settings *s =
        of("{\"ponder_config\": 1, \"limits\": {\"max_jobs\": 2, \"max_n\": 8},\n"
           "\"models\": {\"a\": {\"file\": \"x.gguf\"}, \"b\": {\"alias\": \"a\"}},\n"
           "\"profiles\": {\"p\": {\"strategy\": \"beam\"}}}");
    const char *nine = "9";

    (void)state;
    put(file_b,
        "{\"ponder_config\": 1, \"limits\": {\"max_jobs\": 3},\n"
        "\"models\": {\"a\": {\"file\": \"y.gguf\"}},\n"
        "\"profiles\": {\"p\": {\"strategy\": \"single\"}, \"q\": {\"strategy\": \"mcts\"}}}");
    assert_int_equal(settings_add_file(s, file_b, NULL), 0);
    assert_int_equal(s->max_jobs, 3);
    assert_int_equal(s->max_n, 8);
    assert_int_equal(s->n_models, 2);
    assert_string_equal(settings_model(s, "a")->file, "y.gguf");
    assert_string_equal(settings_model(s, "b")->alias, "a");
    assert_int_equal(s->n_profiles, 2);
    assert_string_equal(settings_profile(s, "p")->strategy, "single");
    assert_null(settings_profile(s, "none"));
    assert_int_equal(settings_set(s, row("limits.max_jobs"), &nine, 1, "--max-jobs", NULL), 0);
    assert_int_equal(s->max_jobs, 9);
    assert_string_equal(s->origins[row("limits.max_jobs") - settings_rows], "--max-jobs");
    settings_unref(s);
}

static void errors_name_the_place(void **state)
{
    static const struct {
        const char *text, *place, *what;
    } cases[] = {
        {"{\"ponder_config\": 1,\n \"limits\": {\"max_que\": 1}}",
         ":2:13:", "limits.max_que is not known; is it limits.max_queue?"},
        {"{\"ponder_config\": 1,\n \"limit\": {}}", ":2:2:", "is it limits?"},
        {"{\"ponder_config\": 1,\n  \"modles\": {}}", ":2:3:", "is it models?"},
        {"{\"ponder_config\": 1, \"xyzzy\": 1}", ":1:22:", "xyzzy is not known"},
        {"{\"limits\": {}}", ":1:1:", "ponder_config is missing"},
        {"{\"ponder_config\": 2}", ":1:2:", "must be 1"},
        {"[1]", ":1:1:", "is an object"},
        {"{\"ponder_config\": 1,\n\"limits\": 3}", ":2:1:", "limits must be an object"},
        {"{\"ponder_config\": 1,\n\"limits\": {\"max_jobs\": 0}}",
         ":2:12:", "limits.max_jobs must be a whole number from 1 to 256, not '0'"},
        {"{\"ponder_config\": 1,\n\"limits\": {\"max_jobs\": \"3\"}}",
         ":2:12:", "must be a number"},
        {"{\"ponder_config\": 1,\n\"limits\": {\"memory\": \"much\"}}", ":2:12:", "must be a size"},
        {"{\"ponder_config\": 1,\n\"listen\": \"unix\"}", ":2:1:", "an array of texts"},
        {"{\"ponder_config\": 1,\n\"listen\": [\"unix\", 3]}", ":2:20:", "an array of texts"},
        {"{\"ponder_config\": 1,\n\"log\": {\"level\": \"loud\"}}",
         ":2:9:", "must be one of error|warning|info|request|debug"},
        {"{\"ponder_config\": 1,\n\"engines\": {\"big\": {\"type\": \"vlm\", \"url\": \"x\"}}}",
         ":2:21:", "no dialect 'vlm'"},
        {"{\"ponder_config\": 1,\n\"engines\": {\"big\": {\"type\": \"vllm\", \"uri\": \"x\"}}}",
         ":2:37:", "is it engines.big.url?"},
        {"{\"ponder_config\": 1,\n\"engines\": {\"big\": {\"type\": \"vllm\", \"retries\": 0}}}",
         ":2:37:", "retries must be a whole number from 1"},
        {"{\"ponder_config\": 1,\n\"engines\": {\"two\": {\"type\": \"gguf\"}}}",
         ":2:13:", "the engine of type gguf is called 'local'"},
        {"{\"ponder_config\": 1,\n\"engines\": {\"local\": {\"thread\": 1}}}",
         ":2:23:", "is it engines.local.threads?"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m\": {\"engine\": \"big\", \"id\": \"x\"}}}",
         ":2:18:", "no engine 'big' in engines"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m\": {\"engine\": \"big\", \"file\": \"x\"}}}",
         ":2:18:", "no engine 'big' in engines"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m\": {}}}",
         ":2:12:", "needs a file, or the alias"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m\": {\"file\": \"f\", \"alias\": \"a\"}}}",
         ":2:12:", "needs a file, or the alias"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m@x\": {\"file\": \"f\"}}}",
         ":2:12:", "the name of a model"},
        {"{\"ponder_config\": 1,\n\"models\": {\"m\": {\"file\": \"f\", \"sha256\": \"12\"}}}",
         ":2:31:", "64 digits"},
        {"{\"ponder_config\": 1,\n\"scorers\": {\"s\": {\"file\": \"f\", \"kind\": \"outcome\"}}}",
         ":2:32:", "scorers of steps only"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {}}}", ":2:14:", "strategy is missing"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {\"strategy\": \"beem\"}}}",
         ":2:20:", "is it beam"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {\"strategy\": \"beam\",\n\"options\": "
         "{\"sampels\": 4}}}}",
         ":3:13:", "is it profiles.p.options.samples?"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {\"strategy\": \"beam\",\n\"options\": "
         "{\"samples\": -4}}}}",
         ":3:13:", "samples=-4: expected"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {\"strategy\": \"beam\",\n\"budget\": "
         "{\"token\": 4}}}}",
         ":3:12:", "is it profiles.p.budget.tokens?"},
        {"{\"ponder_config\": 1,\n\"profiles\": {\"p\": {\"strategy\": \"beam\",\n\"effort\": "
         "{\"low\": {\"seconds\": 0}}}}}",
         ":3:20:", "seconds must be a number above 0"},
        {"{\"ponder_config\": 1,\n\"trace\": {\"content\": false}}", ":2:11:", "can only be true"},
        {"{\"ponder_config\": 1,\n\"trace\": {\"keep_days\": 9}}", ":2:11:", "trace.keep_days"},
        {"{\"ponder_config\": 1,\n \"log\" {}}", "line 2, column 8", "':' is missing"},
        {"{\"ponder_config\": 1,\n /* x", "line 2, column 2", "has no end"},
        {"{\"ponder_config\": 1,\n\"log\": {}, \"log\": {}}", "line 2, column 12", "twice"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct settings *s = settings_new();
        struct pd_err err = {0};

        put(file_a, cases[i].text);
        assert_int_equal(settings_add_file(s, file_a, &err), PD_EFORMAT);
        if (!strstr(err.text, cases[i].place) || !strstr(err.text, cases[i].what) ||
            strncmp(err.text, file_a, strlen(file_a)) != 0)
            fail_msg("'%s' gives: %s", cases[i].text, err.text);
        settings_unref(s);
    }
}

static void values_of_options_are_checked(void **state)
{
    struct settings *s = settings_new();
    struct pd_err err;
    const char *bad = "0";

    (void)state;
    assert_int_equal(settings_set(s, row("limits.max_queue"), &bad, 1, "--max-queue", &err),
                     PD_EINVAL);
    assert_string_equal(err.text, "--max-queue must be a whole number from 1 to 1000000, not '0'");
    assert_int_equal(s->max_queue, 256);
    settings_unref(s);
}

static void the_whole_is_checked(void **state)
{
    static const char *const bad[] = {
        "{\"ponder_config\": 1, \"models\": {\"a\": {\"alias\": \"b\"}, \"b\": {\"alias\": "
        "\"a\"}}}",
        "{\"ponder_config\": 1, \"allow_users\": [\"no such user\"]}",
    };
    struct settings *s;

    (void)state;
    for (size_t i = 0; i < N_OF(bad); i++) {
        s = settings_new();
        put(file_a, bad[i]);
        assert_int_equal(settings_add_file(s, file_a, NULL), 0);
        assert_int_equal(settings_check(s, NULL), PD_EFORMAT);
        settings_unref(s);
    }
    s = of("{\"ponder_config\": 1, \"allow_users\": [\"root\", \"4711\"]}");
    assert_int_equal(s->n_allow_uids, 2);
    assert_int_equal(s->allow_uids[0], 0);
    assert_int_equal(s->allow_uids[1], 4711);
    assert_false(s->allow_all);
    settings_unref(s);
}

/* Finds "key=" in the options; the last of a name counts. */
static const char *option(const struct app_request *r, const char *key)
{
    const char *found = NULL;

    for (size_t i = 0; i < r->n_options; i++)
        if (strncmp(r->options[i], key, strlen(key)) == 0)
            found = r->options[i] + strlen(key);
    return found;
}

static void profiles_fill_what_is_not_said(void **state)
{
    struct settings *s =
        of("{\"ponder_config\": 1, \"profiles\": {\"p\": {\"strategy\": \"best_of_n\",\n"
           "\"options\": {\"samples\": 8, \"temperature\": 0.5}, \"scorer\": \"mine\",\n"
           "\"budget\": {\"tokens\": 1000, \"seconds\": 2, \"wrap_up\": \"So\"},\n"
           "\"effort\": {\"low\": {\"samples\": 2}, \"high\": {\"tokens\": 5000}}},\n"
           "\"q\": {\"strategy\": \"best_of_n\", \"options\": {\"samples\": 8}}}}");
    const struct settings_profile *p = settings_profile(s, "p"), *q = settings_profile(s, "q");
    static const char *const said[] = {"temperature=0.9", "samples=3"};
    struct app_request r = {0};
    struct pd_arena a;

    (void)state;
    pd_arena_init(&a, 1 << 20);
    assert_int_equal(settings_apply(p, -1, &a, &r, NULL), 0);
    assert_string_equal(r.strategy, "best_of_n");
    assert_string_equal(r.scorer, "mine");
    assert_string_equal(r.budget.wrap_up, "So");
    assert_true(r.budget.tokens == 1000 && r.budget.seconds == 2);
    assert_string_equal(option(&r, "samples="), "8");
    assert_string_equal(option(&r, "temperature="), "0.5");

    r = (struct app_request){
        .scorer = "theirs", .budget = {.tokens = 7}, .options = said, .n_options = 2};
    assert_int_equal(settings_apply(p, EFFORT_HIGH, &a, &r, NULL), 0);
    assert_string_equal(r.scorer, "theirs");
    assert_true(r.budget.tokens == 7);
    assert_string_equal(option(&r, "samples="), "3");
    assert_string_equal(option(&r, "temperature="), "0.9");
    assert_true(r.budget_samples == 0);

    r = (struct app_request){0};
    assert_int_equal(settings_apply(p, EFFORT_LOW, &a, &r, NULL), 0);
    assert_true(r.budget_samples == 2 && r.budget.tokens == 1000);
    assert_null(option(&r, "samples=")); /* given once */

    r = (struct app_request){0};
    assert_int_equal(settings_apply(p, EFFORT_HIGH, &a, &r, NULL), 0);
    assert_true(r.budget.tokens == 5000);
    assert_string_equal(option(&r, "samples="), "8");

    r = (struct app_request){0}; /* a profile without efforts: as a strategy by its name */
    assert_int_equal(settings_apply(q, EFFORT_MEDIUM, &a, &r, NULL), 0);
    assert_true(r.budget_samples == settings_effort_samples[EFFORT_MEDIUM]);
    assert_null(option(&r, "samples="));
    pd_arena_done(&a);
    settings_unref(s);
}

static void models_are_found_by_their_settings(void **state)
{
    struct settings *s =
        of("{\"ponder_config\": 1, \"models\": {\n"
           "\"mine\": {\"file\": \"tiny-base-Q8_0.gguf\"},\n"
           "\"other\": {\"alias\": \"mine\"}, \"third\": {\"alias\": \"tiny-base\"},\n"
           "\"gone\": {\"file\": \"nowhere.gguf\"}}}");
    static const char *const names[] = {"mine", "other", "third"};
    char *bundled = NULL, *path = NULL;
    struct pd_err err;

    (void)state;
    assert_int_equal(app_find_model("tiny-base", &bundled, NULL), 0);
    settings_install(s);
    for (size_t i = 0; i < N_OF(names); i++) {
        assert_int_equal(app_find_model(names[i], &path, NULL), 0);
        assert_string_equal(path, bundled);
        free(path);
    }
    assert_int_equal(app_find_model("gone", &path, &err), PD_ENOENT);
    assert_non_null(strstr(err.text, "nowhere.gguf"));
    settings_install(NULL);
    assert_int_equal(app_find_model("mine", &path, NULL), PD_ENOENT);
    free(bundled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_need_no_file),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(later_goes_over_earlier),
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(values_of_options_are_checked),
        cmocka_unit_test(the_whole_is_checked),
        cmocka_unit_test(profiles_fill_what_is_not_said),
        cmocka_unit_test(models_are_found_by_their_settings),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}

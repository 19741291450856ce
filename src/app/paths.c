/* Where things are: database, data folders, bundled problems. */
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/app_int.h"
#include "app/settings.h"
#include "base/file.h"
#include "base/json.h"

const char app_default_model[] = "tiny-base";
const char app_default_scorer[] = "tiny-prm";
const char app_default_draft[] = "tiny-draft";

#define PROBLEMS_MAX_BYTES ((size_t)64 << 20)
#define TEMPLATE_MAX_BYTES ((size_t)1 << 20)

char *app_join(const char *a, const char *between, const char *b)
{
    char *s = NULL;

    return asprintf(&s, "%s%s%s", a, between, b) < 0 ? NULL : s;
}

static const char *env(const char *name)
{
    const char *v = getenv(name);

    return v && v[0] ? v : NULL;
}

static const char *home(void)
{
    const struct passwd *user = env("HOME") ? NULL : getpwuid(getuid());

    return env("HOME") ? env("HOME") : user ? user->pw_dir : "/";
}

char *app_db_path(const char *data_dir)
{
    struct settings *s = settings_current();
    char *path = NULL;

    if (!data_dir && s)
        data_dir = s->data_dir;
    if (data_dir || (data_dir = env("PONDER_DATA_DIR")))
        path = app_join(data_dir, "/", "ponder.db");
    else if (env("XDG_STATE_HOME"))
        path = app_join(env("XDG_STATE_HOME"), "/", "ponder/ponder.db");
    else
        path = app_join(home(), "/", ".local/state/ponder/ponder.db");
    settings_unref(s);
    return path;
}

char *settings_user_path(void)
{
    return env("XDG_CONFIG_HOME") ? app_join(env("XDG_CONFIG_HOME"), "/", "ponder/ponder.json")
                                  : app_join(home(), "/", ".config/ponder/ponder.json");
}

char *app_runtime_path(const char *name)
{
    char *db, *path = NULL;

    if (env("RUNTIME_DIRECTORY"))
        return app_join(env("RUNTIME_DIRECTORY"), "/", name);
    if (env("XDG_RUNTIME_DIR"))
        return app_join(env("XDG_RUNTIME_DIR"), "/ponder/", name);
    if (geteuid() == 0)
        return app_join("/run/ponder", "/", name);
    db = app_db_path(NULL);
    if (db && strrchr(db, '/')) {
        *strrchr(db, '/') = '\0';
        path = app_join(db, "/", name);
    }
    free(db);
    return path;
}

/* The bundled files: of the source tree when the program runs in the build tree that made it (also
 * when the trees have moved together), of the installed place otherwise. */
static char *bundle_folder(void)
{
    char exe[PATH_MAX], *status, *tree, *found;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    exe[n > 0 ? n : 0] = '\0';
    if (strrchr(exe, '/'))
        *strrchr(exe, '/') = '\0';
    status = app_join(exe, "/", "config.status");
    if (!status || !pd_file_exists(status)) {
        free(status);
        return strdup(PONDER_PKGDATADIR);
    }
    free(status);
    tree = PONDER_TOP_SRCDIR[0] == '/' ? strdup(PONDER_TOP_SRCDIR "/recipes")
                                       : app_join(exe, "/", PONDER_TOP_SRCDIR "/recipes");
    found = tree ? realpath(tree, NULL) : NULL;
    free(tree);
    return found;
}

/* The settings have the variable's value too, once they have been read. */
static char *named_models_folder(void)
{
    struct settings *s = settings_current();
    const char *folder = s && s->models_dir ? s->models_dir : env("PONDER_MODELS_DIR");
    char *copy = strdup(folder ? folder : "");

    settings_unref(s);
    return copy;
}

char *app_data_folder(const char *kind, int i)
{
    char *s = NULL;

    switch (i) {
    case APP_FOLDER_NAMED:
        s = strcmp(kind, "models") == 0 ? named_models_folder() : strdup("");
        break;
    case APP_FOLDER_USER:
        if (env("XDG_DATA_HOME"))
            s = app_join(env("XDG_DATA_HOME"), "/ponder/", kind);
        else
            s = app_join(home(), "/.local/share/ponder/", kind);
        break;
    case APP_FOLDER_BUNDLED:
        s = bundle_folder();
        if (s) {
            char *folder = app_join(s, "/", kind);

            free(s);
            s = folder;
        }
        break;
    default:
        break;
    }
    return s;
}

int app_find_template(const char *name, char **out_text, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(TEMPLATE_MAX_BYTES), names = PD_BUF_INIT(4096);
    const char *builtin = eng_chat_builtin(name);
    int rc = 0;

    if (builtin) {
        pd_buf_addz(&text, builtin);
    } else if (pd_file_exists(name)) {
        rc = pd_read_file(name, &text, err);
        if (rc == 0 && (!pd_utf8_valid(pd_buf_str(&text)) ||
                        (text.len > 0 && memchr(text.data, '\0', text.len))))
            rc = pd_fail(err, PD_EFORMAT, "the chat template '%s' is not valid UTF-8 text", name);
    } else {
        for (size_t i = 0; eng_chat_builtin_name(i); i++)
            pd_buf_printf(&names, "%s%s", i > 0 ? ", " : "", eng_chat_builtin_name(i));
        rc = pd_fail(err, PD_ENOENT, "no chat template '%s': neither a file nor one of %s", name,
                     names.data ? names.data : "");
    }
    if (rc == 0) {
        *out_text = pd_buf_take(&text);
        if (!*out_text)
            rc = pd_fail(err, PD_ENOMEM, "out of memory");
    }
    pd_buf_done(&text);
    pd_buf_done(&names);
    return rc;
}

char *app_problem_truth(const struct pd_json *problem)
{
    struct pd_buf b = PD_BUF_INIT(PROBLEMS_MAX_BYTES);
    struct pd_jw w;

    if (!pd_json_get(problem, "equations"))
        return NULL;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "answer");
    pd_jw_value(&w, pd_json_get(problem, "answer"));
    pd_jw_key(&w, "equations");
    pd_jw_value(&w, pd_json_get(problem, "equations"));
    pd_jw_end_object(&w);
    return pd_buf_take(&b);
}

/* 1 found, 0 not in this file, negative error. */
static int find_in(const char *path, const char *id, char **question, char **answer, char **truth,
                   struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(PROBLEMS_MAX_BYTES);
    struct pd_str rest;
    int rc = pd_read_file(path, &text, err), found = 0;

    for (rest = pd_buf_str(&text); rc == 0 && !found && rest.len;) {
        ptrdiff_t nl = pd_str_find(rest, PD_STR("\n"));
        struct pd_str line = pd_str_sub(rest, 0, nl < 0 ? rest.len : (size_t)nl);
        struct pd_json *j = NULL;
        const char *got;
        int64_t number;

        rest = pd_str_sub(rest, line.len + 1, rest.len);
        if (!pd_str_trim(line).len)
            continue;
        rc = pd_json_parse(line, &j, err);
        got = rc == 0 ? pd_json_string(pd_json_get(j, "id")) : NULL;
        if (got && strcmp(got, id) == 0) {
            const char *q = pd_json_string(pd_json_get(j, "question"));
            const char *a = pd_json_string(pd_json_get(j, "answer"));

            *question = strdup(q ? q : "");
            if (a)
                *answer = strdup(a);
            else if (!pd_json_int(pd_json_get(j, "answer"), &number) ||
                     asprintf(answer, "%lld", (long long)number) < 0)
                *answer = NULL;
            *truth = app_problem_truth(j);
            found = 1;
        }
        pd_json_free(j);
    }
    if (rc < 0)
        pd_err_context(err, "in '%s'", path);
    pd_buf_done(&text);
    return rc < 0 ? rc : found;
}

int app_find_problem(const char *id, char **out_question, char **out_answer, char **out_truth,
                     struct pd_err *err)
{
    char *folder;
    int rc = 0;

    for (int i = 1; rc == 0 && (folder = app_data_folder("problems", i)); i++) {
        char *path = app_join(folder, "/", "dev.jsonl");

        if (path && pd_file_exists(path))
            rc = find_in(path, id, out_question, out_answer, out_truth, err);
        free(path);
        free(folder);
    }
    if (rc == 0)
        return pd_fail(err, PD_ENOENT, "no bundled problem '%s' (they are dev-0001 to dev-0500)",
                       id);
    return rc < 0 ? rc : 0;
}

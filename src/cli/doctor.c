#define PCRE2_CODE_UNIT_WIDTH 8
#include "cli/cli.h"

#include <errno.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_WARN_BYTES (UINT64_C(1) << 30)
#define DISK_FAIL_BYTES (UINT64_C(64) << 20)

static const struct cli_usage usage_text = {
    "doctor [options]",
    "Checks this machine and installation; exits 1 when something fails.",
};

enum health { OK, WARN, FAIL };

struct doctor {
    const struct cli *cli;
    struct pd_buf json;
    struct pd_jw w;
    bool failed;
};

__attribute__((format(printf, 4, 5))) static void say(struct doctor *d, const char *what,
                                                      enum health h, const char *fmt, ...)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    d->failed |= h == FAIL;
    if (d->cli->json) {
        pd_jw_object(&d->w);
        pd_jw_key(&d->w, "check");
        pd_jw_strz(&d->w, what);
        pd_jw_key(&d->w, "status");
        pd_jw_strz(&d->w, names[h]);
        pd_jw_key(&d->w, "text");
        pd_jw_strz(&d->w, text);
        pd_jw_end_object(&d->w);
        return;
    }
    printf("%-4s  %-10s ", names[h], what);
    cli_text(stdout, pd_str_of(text), -1);
    putchar('\n');
}

static void check_engine(struct doctor *d, unsigned n_threads)
{
    const struct eng_config config = {.n_threads = n_threads};
    struct pd_err err = {0};
    struct eng *e = NULL;

    if (eng_open(&config, &e, &err) < 0) {
        say(d, "cpu", FAIL, "%s", err.text);
        return;
    }
    say(d, "cpu", OK, "kernels %s; possible: scalar%s%s", eng_isa_name(e),
        eng_isa_supported(ENG_ISA_AVX2) ? " avx2" : "",
        eng_isa_supported(ENG_ISA_AVX512) ? " avx512" : "");
    say(d, "threads", OK, "%u compute threads", eng_n_threads(e));
    eng_close(e);
}

/* path up to its nearest parent that exists; path is shortened. */
static void nearest_folder(char *path)
{
    while (!pd_file_exists(path)) {
        char *slash = strrchr(path, '/');

        if (!slash) {
            strcpy(path, path[0] != '\0' ? "." : "");
            return;
        }
        slash[slash == path ? 1 : 0] = '\0';
    }
}

static void check_disk(struct doctor *d, const char *folder)
{
    struct statvfs fs;
    uint64_t left;

    if (statvfs(folder, &fs) < 0) {
        say(d, "disk", FAIL, "cannot ask for the free space of '%s': %s", folder, strerror(errno));
        return;
    }
    left = (uint64_t)fs.f_bavail * fs.f_frsize;
    say(d, "disk",
        left < DISK_FAIL_BYTES   ? FAIL
        : left < DISK_WARN_BYTES ? WARN
                                 : OK,
        "%.1f GB free at %s", (double)left / 1e9, folder);
}

static void check_data(struct doctor *d, const char *db_path)
{
    char *folder = strdup(db_path), *slash;
    struct store *s = NULL;
    struct pd_err err = {0};
    int rc;

    if (!folder) {
        say(d, "data", FAIL, "out of memory");
        return;
    }
    slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    nearest_folder(folder);
    if (access(folder, W_OK | X_OK) < 0)
        say(d, "data", FAIL, "'%s' is not writable: %s", folder, strerror(errno));
    else
        say(d, "data", OK, "%s", db_path);
    check_disk(d, folder);
    free(folder);

    rc = store_open(db_path, STORE_READ, &s, &err);
    if (rc == PD_ENOENT)
        say(d, "database", OK, "none yet; the first job makes it");
    else if (rc < 0)
        say(d, "database", FAIL, "%s", err.text);
    else
        say(d, "database", OK, "readable (ponder trace verify checks all of it)");
    store_close(s);
}

static void check_models(struct doctor *d)
{
    const char *const defaults[] = {app_default_model, app_default_scorer};
    struct app_model_file *files = NULL;
    struct pd_err err = {0};
    size_t n = 0, broken = 0;

    if (app_list_models(&files, &n, &err) < 0) {
        say(d, "models", FAIL, "%s", err.text);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct eng_model_info m;

        if (eng_model_peek(files[i].path, &m, NULL, &err) < 0) {
            say(d, "models", FAIL, "%s: %s", files[i].path, err.text);
            broken++;
        } else {
            eng_model_info_done(&m);
        }
    }
    say(d, "models", n > broken ? OK : WARN, "%zu found (see ponder model ls)", n);
    app_list_models_free(files, n);
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        char *path = NULL;

        if (app_find_model(defaults[i], &path, &err) < 0)
            say(d, "models", WARN, "%s", err.text);
        free(path);
    }
}

static void check_sandbox(struct doctor *d)
{
    struct pd_err err = {0};

    if (app_check_sandbox(&err) < 0)
        say(d, "sandbox", WARN, "%s", err.text);
    else
        say(d, "sandbox", OK, "programs that are not trusted can be run");
}

static void check_versions(struct doctor *d)
{
    char pcre2[64] = "?";

    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    say(d, "versions", OK, "ponder %s, SQLite %s, PCRE2 %s", PONDER_VERSION, store_sqlite_version(),
        pcre2);
}

int cli_doctor(struct cli *cli, int argc, char **argv, struct pd_err *err)
{
    const char *data_dir = NULL;
    uint64_t threads = 0;
    struct cli_option table[] = {
        {"data-dir", 0, CLI_TEXT, &data_dir, "DIR", "where traces are kept", 0, 0, false, false},
        {"threads", 0, CLI_NUMBER, &threads, "N", "compute threads (0: all CPUs)", 0, 1024, false,
         false},
        {NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, false, false},
    };
    struct doctor d = {.cli = cli, .json = PD_BUF_INIT(1u << 20)};
    char *db_path;
    int n = cli_options(cli, argc, argv, table, &usage_text, err);

    if (n < 0 || cli->help)
        return n < 0 ? n : CLI_EXIT_OK;
    if (n > 0)
        return pd_fail(err, PD_EINVAL, "doctor takes no arguments (see ponder doctor --help)");
    db_path = app_db_path(data_dir);
    if (!db_path)
        return cli_no_memory(err);
    pd_jw_init(&d.w, &d.json);
    pd_jw_array(&d.w);
    check_engine(&d, (unsigned)threads);
    check_data(&d, db_path);
    check_models(&d);
    check_sandbox(&d);
    check_versions(&d);
    pd_jw_end_array(&d.w);
    if (cli->json)
        cli_print_json(&d.json);
    pd_buf_done(&d.json);
    free(db_path);
    return d.failed ? CLI_EXIT_NEGATIVE : CLI_EXIT_OK;
}

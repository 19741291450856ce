/* Models by name, and the user's own ones: added, named, checked and removed.
 *
 * A model is a file NAME.gguf in one of the folders. What `ponder model add` found out about it
 * stands beside it in NAME.json, written first: a crash leaves a record without a model, which
 * nobody looks at, and never a model without its record. An alias is a symbolic link without a
 * record. A split model NAME is the files NAME-00001-of-00003.gguf and so on; the first is written
 * last and removed first, so that it is never there without the others. A head that the GGUF has
 * not is NAME.head.safetensors, one file more in all of this. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app_int.h"
#include "app/settings.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

#define NAME_MAX_BYTES   200 /* with ".gguf" and what a draft adds below the 255 of file systems */
#define RECORD_MAX_BYTES 65536

static int no_memory(struct pd_err *err)
{
    return pd_fail(err, PD_ENOMEM, "out of memory");
}

/* ---- finding
 * ------------------------------------------------------------------------------------- */

/* folder/NAME and an ending; NULL: out of memory. */
static char *in_folder(const char *folder, const char *name, const char *ending)
{
    char *stem = app_join(folder, "/", name), *path = stem ? app_join(stem, "", ending) : NULL;

    free(stem);
    return path;
}

static bool has_record(const char *folder, const char *name)
{
    char *path = in_folder(folder, name, ".json");
    bool has = path && pd_file_exists(path);

    free(path);
    return has;
}

/* The file's name without folder and ending; of a part of a split model, the model's. */
static char *name_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    struct pd_str name = pd_str_of(slash ? slash + 1 : file);
    struct eng_part part;

    if (eng_model_part(name.ptr, &part))
        name = part.stem;
    else if (pd_str_ends(name, PD_STR(".gguf")))
        name.len -= 5;
    return pd_str_dup(name);
}

/* The first part of the split model NAME in folder; NULL: none there. */
static char *find_split(const char *folder, const char *name)
{
    DIR *d = opendir(folder);
    char *path = NULL;

    for (struct dirent *e; d && !path && (e = readdir(d));) {
        struct eng_part part;

        if (eng_model_part(e->d_name, &part) && part.no == 1 &&
            pd_str_eq(part.stem, pd_str_of(name)))
            path = app_join(folder, "/", e->d_name);
    }
    if (d)
        closedir(d);
    return path;
}

/* What the link points to, as a name; NULL: no alias. */
static char *alias_target(const char *folder, const char *name)
{
    char *path = in_folder(folder, name, ".gguf"), target[PATH_MAX];
    ssize_t n = path && !has_record(folder, name) ? readlink(path, target, sizeof target - 1) : -1;

    free(path);
    if (n < 0)
        return NULL;
    target[n] = '\0';
    return name_of(target);
}

/* A file as a setting names it: a path, or its name in one of the folders. */
static int find_file(const char *file, char **out_path, struct pd_err *err)
{
    char *folder, *path = NULL;

    if (strchr(file, '/')) {
        path = pd_file_exists(file) ? strdup(file) : NULL;
    } else {
        for (int i = 0; !path && (folder = app_data_folder("models", i)); i++) {
            path = folder[0] ? app_join(folder, "/", file) : NULL;
            if (path && !pd_file_exists(path)) {
                free(path);
                path = NULL;
            }
            free(folder);
        }
    }
    if (!path)
        return pd_fail(err, PD_ENOENT, "no model file '%s'", file);
    *out_path = realpath(path, NULL);
    free(path);
    return *out_path ? 0 : no_memory(err);
}

static int find_in_folders(const char *name, char **out_path, struct pd_err *err)
{
    static const char *const endings[] = {".gguf", "-Q8_0.gguf", "-F16.gguf"};
    char *folder, *path;

    for (int i = 0; (folder = app_data_folder("models", i)); i++) {
        path = NULL;
        for (size_t k = 0; k < sizeof endings / sizeof *endings && folder[0] && !path; k++) {
            path = in_folder(folder, name, endings[k]);
            if (path && !pd_file_exists(path)) {
                free(path);
                path = NULL;
            }
        }
        if (!path && folder[0])
            path = find_split(folder, name);
        free(folder);
        if (path) {
            *out_path = realpath(path, NULL); /* it goes into the trace: the same from any folder */
            free(path);
            return *out_path ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");
        }
    }
    return pd_fail(err, PD_ENOENT,
                   "no model '%s': give a .gguf file, or a name that 'ponder model ls' lists",
                   name);
}

/* The setting of this name, or of the alias of this name; NULL: none has a file. */
static const struct settings_model *configured(const struct settings *s, const char **io_name)
{
    const struct settings_model *m = settings_model(s, *io_name);

    if (m && m->alias) {
        *io_name = m->alias;
        m = settings_model(s, *io_name);
    }
    return m;
}

static int not_here(const struct settings_model *m, struct pd_err *err)
{
    return pd_fail(err, PD_EINVAL, "model '%s' is served by the engine '%s': it has no file here",
                   m->name, m->engine);
}

int app_check_local(const char *name, struct pd_err *err)
{
    struct settings *s = settings_current();
    const struct settings_model *m = s ? configured(s, &name) : NULL;
    int rc = !s ? no_memory(err) : m && m->engine ? not_here(m, err) : 0;

    settings_unref(s);
    return rc;
}

int app_find_model(const char *name, char **out_path, struct pd_err *err)
{
    struct settings *s = settings_current();
    const struct settings_model *m = s ? configured(s, &name) : NULL;
    int rc;

    if (!s)
        return no_memory(err);
    if (m && m->engine) {
        rc = not_here(m, err);
    } else if (m) {
        rc = find_file(m->file, out_path, err);
        if (rc < 0)
            pd_err_context(err, "model '%s'", name);
    } else if (strchr(name, '/') || pd_str_ends(pd_str_of(name), PD_STR(".gguf"))) {
        *out_path = pd_file_exists(name) ? realpath(name, NULL) : NULL;
        rc = *out_path ? 0 : pd_fail(err, PD_ENOENT, "no model file '%s'", name);
    } else {
        rc = find_in_folders(name, out_path, err);
    }
    settings_unref(s);
    return rc;
}

int app_check_model(const char *name, const struct eng_model_info *info, struct pd_err *err)
{
    struct settings *s = settings_current();
    const struct settings_model *m = s ? configured(s, &name) : NULL;
    char hex[PD_SHA256_HEX];
    int rc = s ? 0 : no_memory(err);

    pd_hex(info->sha256, PD_SHA256_BYTES, hex);
    if (m && m->sha256 && strcmp(m->sha256, hex) != 0)
        rc = pd_fail(err, PD_EFORMAT,
                     "model '%s': '%s' has the sha256 %.12s…, not the %.12s… of the configuration",
                     name, info->path, hex, m->sha256);
    settings_unref(s);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct app_model_file *)a)->name,
                  ((const struct app_model_file *)b)->name);
}

/* Those that the settings name; they hide files of the same name. */
static int list_configured(struct app_model_file **out, size_t *out_n, struct pd_err *err)
{
    struct settings *s = settings_current();
    struct app_model_file *files = s ? calloc(s->n_models + 1, sizeof *files) : NULL;
    size_t n = 0;
    bool whole = files != NULL;

    for (size_t i = 0; whole && i < s->n_models; i++) {
        const struct settings_model *m = &s->models[i];
        char *path = NULL;

        if (app_find_model(m->name, &path, NULL) < 0) /* the file may come later */
            continue;
        files[n++] = (struct app_model_file){
            .name = strdup(m->name), .path = path, .alias_of = m->alias ? strdup(m->alias) : NULL};
        whole = files[n - 1].name && (!m->alias || files[n - 1].alias_of);
    }
    settings_unref(s);
    if (!whole) {
        app_list_models_free(files, n);
        return no_memory(err);
    }
    *out = files;
    *out_n = n;
    return 0;
}

int app_list_models(struct app_model_file **out, size_t *out_n, struct pd_err *err)
{
    struct app_model_file *files = NULL;
    size_t n = 0;
    char *folder;
    int rc = list_configured(&files, &n, err);

    if (rc < 0)
        return rc;
    for (int i = 0; (folder = app_data_folder("models", i)); i++) {
        DIR *d = folder[0] ? opendir(folder) : NULL;

        for (struct dirent *e; d && (e = readdir(d));) {
            struct pd_str file = pd_str_of(e->d_name);
            struct app_model_file *grown;
            struct eng_part part;
            bool known = false;
            char *name;

            if (!pd_str_ends(file, PD_STR(".gguf")) ||
                (eng_model_part(e->d_name, &part) && part.no > 1))
                continue;
            name = name_of(e->d_name);
            for (size_t k = 0; k < n && name; k++) /* the folder named first wins */
                known |= strcmp(files[k].name, name) == 0;
            grown = known ? NULL : realloc(files, (n + 1) * sizeof *files);
            if (grown)
                files = grown;
            if (!name || !grown) {
                free(name);
                continue;
            }
            files[n] = (struct app_model_file){.name = name,
                                               .path = app_join(folder, "/", e->d_name),
                                               .alias_of = alias_target(folder, name),
                                               .recorded = has_record(folder, name)};
            n++;
        }
        if (d)
            closedir(d);
        free(folder);
    }
    if (n)
        qsort(files, n, sizeof *files, by_name);
    *out = files;
    *out_n = n;
    return 0;
}

void app_list_models_free(struct app_model_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(files[i].name);
        free(files[i].path);
        free(files[i].alias_of);
    }
    free(files);
}

/* ---- the user's own
 * ------------------------------------------------------------------------------ */

/* The folder that is added to: the one the variable names, else the user's. */
static char *own_folder(void)
{
    char *folder = app_data_folder("models", APP_FOLDER_NAMED);

    if (folder && folder[0])
        return folder;
    free(folder);
    return app_data_folder("models", APP_FOLDER_USER);
}

/* Whether the two paths lead to one file or folder. */
static bool same_place(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int check_name(const char *name, struct pd_err *err)
{
    struct pd_str s = pd_str_of(name);
    char *file = app_join(name, "", ".gguf");
    struct eng_part part;
    bool good = file && !eng_model_part(file, &part) && s.len > 0 && s.len <= NAME_MAX_BYTES &&
                pd_utf8_valid(s) && name[0] != '.' && name[0] != '-' &&
                !pd_str_ends(s, PD_STR(".gguf"));

    free(file);

    for (size_t i = 0; good && i < s.len; i++)
        good = name[i] != '/' && (unsigned char)name[i] >= 0x20 && name[i] != 0x7f;
    return good ? 0
                : pd_fail(err, PD_EINVAL,
                          "a model's name has 1 to %d bytes of UTF-8, no '/' and no control "
                          "characters, does not begin with '.' or '-' and does not end in .gguf or "
                          "-00001-of-00002",
                          NAME_MAX_BYTES);
}

/* A name that would change what another one means, or be hidden by it, is taken. */
static int check_free(const char *name, struct pd_err *err)
{
    struct pd_err ignored;
    char *path = NULL;
    int rc = app_find_model(name, &path, &ignored);

    if (rc == PD_ENOENT)
        return 0;
    if (rc == 0)
        rc = pd_fail(err, PD_EINVAL, "there is a model '%s' already: %s", name, path);
    else if (err)
        *err = ignored;
    free(path);
    return rc;
}

/* ---- records
 * ------------------------------------------------------------------------------------- */

static int write_record(const char *folder, const struct app_model_record *r, struct pd_err *err)
{
    struct pd_buf b = PD_BUF_INIT(RECORD_MAX_BYTES);
    char *path = in_folder(folder, r->name, ".json"), added[PD_RFC3339_SIZE];
    struct pd_draft d;
    struct pd_jw w;
    int rc = path ? 0 : no_memory(err);

    pd_clock_rfc3339(pd_clock_unix_ms(), added);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "ponder_model");
    pd_jw_int(&w, 1);
    pd_jw_put_text(&w, "sha256", r->sha256);
    pd_jw_put_uint(&w, "bytes", r->bytes);
    pd_jw_put_text(&w, "added", added);
    pd_jw_put_text(&w, "source", r->source);
    pd_jw_end_object(&w);
    pd_buf_addc(&b, '\n');
    if (rc == 0 && pd_buf_rc(&b) < 0)
        rc = no_memory(err);
    if (rc == 0)
        rc = pd_draft_open(&d, path, err);
    if (rc == 0) {
        rc = pd_draft_write(&d, pd_buf_str(&b), err);
        if (rc == 0)
            rc = pd_draft_commit(&d, err);
        pd_draft_done(&d);
    }
    pd_buf_done(&b);
    free(path);
    return rc;
}

static int read_record(const char *path, struct app_model_record *out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(RECORD_MAX_BYTES);
    struct pd_json *j = NULL;
    const char *sha256, *source;
    int64_t version, bytes;
    int rc = pd_read_file(path, &text, err);

    if (rc == 0 && (rc = pd_json_parse(pd_buf_str(&text), &j, err)) < 0)
        pd_err_context(err, "the record '%s'", path);
    if (rc == 0) {
        sha256 = pd_json_string(pd_json_get(j, "sha256"));
        source = pd_json_string(pd_json_get(j, "source"));
        if (!pd_json_int(pd_json_get(j, "ponder_model"), &version) || version != 1 || !sha256 ||
            strlen(sha256) != PD_SHA256_HEX - 1 || !source ||
            !pd_json_int(pd_json_get(j, "bytes"), &bytes) || bytes < 0) {
            rc = pd_fail(err, PD_EFORMAT,
                         "'%s' is not the record of a model: remove the model and add it again",
                         path);
        } else {
            memcpy(out->sha256, sha256, PD_SHA256_HEX);
            out->bytes = (uint64_t)bytes;
            out->source = strdup(source);
            rc = out->source ? 0 : no_memory(err);
        }
    }
    pd_json_free(j);
    pd_buf_done(&text);
    return rc;
}

bool app_recorded_sha256(const char *path, char sha256[PD_SHA256_HEX])
{
    struct app_model_record r = {0};
    char *folder = strdup(path), *name = name_of(path),
         *slash = folder ? strrchr(folder, '/') : NULL;
    char *record = NULL;
    bool known;

    if (slash && name) {
        *slash = '\0';
        record = in_folder(folder, name, ".json");
    }
    known = record && pd_file_exists(record) && read_record(record, &r, NULL) == 0;
    if (known)
        memcpy(sha256, r.sha256, PD_SHA256_HEX);
    app_model_record_done(&r);
    free(folder);
    free(name);
    free(record);
    return known;
}

void app_model_record_done(struct app_model_record *r)
{
    free(r->name);
    free(r->path);
    free(r->source);
    *r = (struct app_model_record){0};
}

/* The files of a model: one, or the parts of a split one; then the head beside it. */
struct files {
    char **path;
    size_t n, n_parts; /* n_parts + 1: with a head */
};

static void files_done(struct files *f)
{
    for (size_t i = 0; f->path && i < f->n; i++)
        free(f->path[i]);
    free(f->path);
    *f = (struct files){0};
}

/* head: another one than the one beside the first file; NULL: that, if it is there. */
static int files_of(const char *first, const char *head, struct files *out, struct pd_err *err)
{
    struct eng_part part = {.no = 0};
    bool split = eng_model_part(first, &part) && part.no == 1 && part.count > 1;
    size_t n = split ? part.count : 1;
    struct files f = {calloc(n + 1, sizeof(*f.path)), n, n};
    bool whole = f.path != NULL;
    char *beside;

    for (size_t i = 0; whole && i < n; i++) {
        f.path[i] = split ? eng_model_part_path(&part, (unsigned)i + 1) : strdup(first);
        whole = f.path[i] != NULL;
    }
    beside = whole ? head ? strdup(head) : eng_head_path(first) : NULL;
    whole = beside != NULL;
    if (whole && (head || pd_file_exists(beside)))
        f.path[f.n++] = beside;
    else
        free(beside);
    if (!whole) {
        files_done(&f);
        return no_memory(err);
    }
    *out = f;
    return 0;
}

/* Of all files in a row. */
static int hash_files(const struct files *f, char hex[PD_SHA256_HEX], struct pd_err *err)
{
    struct pd_sha256 *h = pd_sha256_new();
    uint8_t sum[PD_SHA256_BYTES];
    int rc = h ? 0 : no_memory(err);

    for (size_t i = 0; i < f->n && rc == 0; i++)
        rc = pd_sha256_add_file(h, f->path[i], err);
    if (rc == 0) {
        pd_sha256_end(h, sum);
        pd_hex(sum, sizeof sum, hex);
    }
    pd_sha256_free(h);
    return rc;
}

int app_hash_model(const char *path, char hex[PD_SHA256_HEX], struct pd_err *err)
{
    struct files f;
    int rc = files_of(path, NULL, &f, err);

    if (rc < 0)
        return rc;
    rc = hash_files(&f, hex, err);
    files_done(&f);
    return rc;
}

/* Where the model NAME of this folder is, or would be. */
static char *own_path(const char *folder, const char *name)
{
    char *path = find_split(folder, name);

    return path ? path : in_folder(folder, name, ".gguf");
}

int app_verify_model(const char *name, struct app_model_record *out, char now[PD_SHA256_HEX],
                     struct pd_err *err)
{
    struct app_model_record r = {.name = strdup(name)};
    char *folder, *record = NULL;
    int rc = r.name ? 0 : no_memory(err);

    for (int i = 0; rc == 0 && !record && (folder = app_data_folder("models", i)); i++) {
        if (folder[0] && has_record(folder, name)) {
            record = in_folder(folder, name, ".json");
            r.path = own_path(folder, name);
        }
        free(folder);
    }
    if (rc == 0 && !record)
        rc = pd_fail(err, PD_ENOENT,
                     "no record of '%s': it is not one that 'ponder model add' has added", name);
    if (rc == 0)
        rc = r.path ? read_record(record, &r, err) : no_memory(err);
    if (rc == 0)
        rc = app_hash_model(r.path, now, err);
    free(record);
    if (rc < 0)
        app_model_record_done(&r);
    else
        *out = r;
    return rc;
}

/* ---- adding, naming, removing
 * ---------------------------------------------------------------------- */

/* Puts a link there in one step, also over another one. */
static int put_link(const char *target, const char *path, struct pd_err *err)
{
    char *part = app_join(path, "", ".part");
    int rc = part ? 0 : no_memory(err);

    if (rc == 0 && ((unlink(part) < 0 && errno != ENOENT) || symlink(target, part) < 0 ||
                    rename(part, path) < 0))
        rc = pd_fail_errno(err, errno, "cannot write '%s'", path);
    free(part);
    return rc;
}

/* Where the i-th file of the model NAME goes, whose GGUF has n parts. */
static char *place_of(const char *folder, const char *name, size_t i, size_t n)
{
    struct eng_part part = {.count = (unsigned)n};
    char *stem, *path;

    if (i == n) {
        stem = place_of(folder, name, 0, n);
        path = stem ? eng_head_path(stem) : NULL;
        free(stem);
        return path;
    }
    if (n == 1)
        return in_folder(folder, name, ".gguf");
    stem = app_join(folder, "/", name);
    part.stem = pd_str_of(stem ? stem : "");
    path = stem ? eng_model_part_path(&part, (unsigned)i + 1) : NULL;
    free(stem);
    return path;
}

/* A file on its way: a copy, or what a link will point to. */
struct arrival {
    struct pd_draft draft;
    char *source, *path;
};

static int arrive(struct arrival *a, const char *from, bool link, struct pd_err *err)
{
    int rc;

    a->source = realpath(from, NULL);
    if (!a->source || !a->path)
        return no_memory(err);
    if (link)
        return 0;
    rc = pd_draft_open(&a->draft, a->path, err);
    return rc < 0 ? rc : pd_draft_copy(&a->draft, from, err);
}

/* Hash and size of what arrived: of the copies, so that the record is of the bytes that are kept.
 */
static int measure(const struct arrival *a, size_t n, bool link, struct app_model_record *r,
                   struct pd_err *err)
{
    struct files f = {calloc(n, sizeof(*f.path)), n, n};
    struct stat st;
    int rc = f.path ? 0 : no_memory(err);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        f.path[i] = link ? a[i].source : a[i].draft.part;
        if (stat(f.path[i], &st) < 0)
            rc = pd_fail_errno(err, errno, "cannot look at '%s'", f.path[i]);
        else
            r->bytes += (uint64_t)st.st_size;
    }
    if (rc == 0)
        rc = hash_files(&f, r->sha256, err);
    free(f.path); /* the names are the arrivals' */
    return rc;
}

int app_add_model(const char *file, const char *name, const char *head, bool link,
                  struct app_model_record *out, struct pd_err *err)
{
    struct app_model_record r = {.name = name ? strdup(name) : name_of(file)};
    char *folder = own_folder();
    struct files from = {0};
    struct arrival *a = NULL;
    int rc = r.name && folder ? check_name(r.name, err) : no_memory(err);

    if (rc == 0 && head && link) /* the engine looks beside the file that the link leads to */
        rc = pd_fail(err, PD_EINVAL,
                     "a link and a head do not go together: put the head beside the file, as "
                     "NAME.head.safetensors, or copy both");
    if (rc == 0)
        rc = check_free(r.name, err);
    if (rc == 0)
        rc = eng_model_check(file, head, err);
    if (rc == 0)
        rc = pd_mkdirs(folder, 0755, err);
    if (rc == 0)
        rc = files_of(file, head, &from, err);
    if (rc == 0 && !(a = calloc(from.n, sizeof(*a))))
        rc = no_memory(err);
    for (size_t i = 0; rc == 0 && i < from.n; i++) {
        a[i].draft.fd = -1;
        a[i].path = place_of(folder, r.name, i, from.n_parts);
    }
    for (size_t i = 0; rc == 0 && i < from.n; i++)
        rc = arrive(&a[i], from.path[i], link, err);
    if (rc == 0)
        rc = measure(a, from.n, link, &r, err);
    if (rc == 0) {
        r.source = strdup(a[0].source);
        r.path = strdup(a[0].path);
        rc = r.source && r.path ? write_record(folder, &r, err) : no_memory(err);
    }
    for (size_t i = from.n; rc == 0 && i-- > 0;)
        rc = link ? put_link(a[i].source, a[i].path, err) : pd_draft_commit(&a[i].draft, err);
    for (size_t i = 0; a && i < from.n; i++) {
        pd_draft_done(&a[i].draft);
        free(a[i].source);
        free(a[i].path);
    }
    free(a);
    files_done(&from);
    free(folder);
    if (rc < 0)
        app_model_record_done(&r);
    else
        *out = r;
    return rc;
}

int app_alias_model(const char *name, const char *target, struct pd_err *err)
{
    char *folder = own_folder(), *path = NULL, *file = NULL, *old = NULL, *slash;
    int rc = folder ? check_name(name, err) : no_memory(err);

    if (rc == 0)
        rc = app_find_model(target, &file, err);
    if (rc == 0) {
        path = in_folder(folder, name, ".gguf");
        rc = path ? 0 : no_memory(err);
    }
    old = rc == 0 ? alias_target(folder, name) : NULL;
    if (rc == 0 && !old) /* an alias may be given another meaning */
        rc = check_free(name, err);
    if (rc == 0)
        rc = pd_mkdirs(folder, 0755, err);
    if (rc == 0) {
        slash = strrchr(file, '/');
        *slash = '\0'; /* a link inside the folder survives that the folder moves */
        if (same_place(file, folder)) {
            rc = put_link(slash + 1, path, err);
        } else {
            *slash = '/';
            rc = put_link(file, path, err);
        }
    }
    free(folder);
    free(path);
    free(file);
    free(old);
    return rc;
}

/* An alias in folder, other than name itself, that stands for the file; NULL: none. */
static char *alias_for(const char *folder, const char *name, const char *file)
{
    DIR *d = opendir(folder);
    char *found = NULL;

    for (struct dirent *e; d && !found && (e = readdir(d));) {
        struct pd_str entry = pd_str_of(e->d_name);
        char *alias, *target, *path;

        if (!pd_str_ends(entry, PD_STR(".gguf")))
            continue;
        alias = name_of(e->d_name);
        target = alias ? alias_target(folder, alias) : NULL;
        path = target ? in_folder(folder, alias, ".gguf") : NULL;
        if (path && strcmp(alias, name) != 0 && same_place(path, file))
            found = strdup(alias);
        free(alias);
        free(target);
        free(path);
    }
    if (d)
        closedir(d);
    return found;
}

int app_remove_model(const char *name, struct pd_err *err)
{
    char *folder = own_folder(), *bundle = app_data_folder("models", APP_FOLDER_BUNDLED);
    char *path = NULL, *record = NULL, *alias = NULL, *target = NULL, *elsewhere = NULL;
    struct files files = {0};
    struct stat st;
    int rc = folder && bundle ? check_name(name, err) : no_memory(err);

    if (rc == 0) {
        path = own_path(folder, name);
        record = in_folder(folder, name, ".json");
        rc = path && record ? 0 : no_memory(err);
    }
    if (rc == 0 && (lstat(path, &st) < 0 || same_place(folder, bundle))) {
        rc = app_find_model(name, &elsewhere, err);
        if (rc == 0)
            rc = pd_fail(err, PD_EPERM,
                         "only your own models can be removed; '%s' is bundled or elsewhere: %s",
                         name, elsewhere);
    }
    if (rc == 0)
        target = alias_target(folder, name);
    if (rc == 0 && !target && (alias = alias_for(folder, name, path)))
        rc = pd_fail(err, PD_EBUSY, "alias '%s' stands for '%s': remove it first", alias, name);
    if (rc == 0)
        rc = files_of(path, NULL, &files, err);
    for (size_t i = 0; rc == 0 && i < files.n; i++)
        if (unlink(files.path[i]) < 0 && (i == 0 || errno != ENOENT))
            rc = pd_fail_errno(err, errno, "cannot remove '%s'", files.path[i]);
    if (rc == 0 && unlink(record) < 0 && errno != ENOENT)
        rc = pd_fail_errno(err, errno, "cannot remove '%s'", record);
    files_done(&files);
    free(folder);
    free(bundle);
    free(path);
    free(record);
    free(alias);
    free(target);
    free(elsewhere);
    return rc;
}

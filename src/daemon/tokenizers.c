/* Tokenizers of model files, kept open: reading a vocabulary takes longer than what most requests
 * ask of it. A file that has changed is opened again. Any thread; the lock is a leaf that is held
 * while a file is opened, too, so that it is opened once. */
#include "daemon/daemon_int.h"

#include <stdlib.h>
#include <sys/stat.h>

#define KEPT_MAX 4 /* vocabularies have some 10 MB */

struct tokenizer_entry {
    struct tokenizer_entry *next; /* the one used last comes first */
    char *path;
    struct stat seen; /* of the file */
    struct eng_tokenizer *t;
    uint32_t n_ctx;
    unsigned n_users;
    bool listed;
};

struct tokenizers {
    pthread_mutex_t lock; /* guards all below, and the entries' users and lists */
    struct tokenizer_entry *list;
};

struct tokenizers *tokenizers_new(void)
{
    struct tokenizers *t = calloc(1, sizeof *t);

    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void entry_free(struct tokenizer_entry *e)
{
    eng_tokenizer_free(e->t);
    free(e->path);
    free(e);
}

/* Takes *at out of the list. */
static void unlist(struct tokenizer_entry **at)
{
    struct tokenizer_entry *e = *at;

    *at = e->next;
    e->listed = false;
    if (e->n_users == 0)
        entry_free(e);
}

void tokenizers_free(struct tokenizers *t)
{
    if (!t)
        return;
    while (t->list)
        unlist(&t->list);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int entry_open(const char *path, const struct stat *st, struct tokenizer_entry **out,
                      struct pd_err *err)
{
    struct tokenizer_entry *e = calloc(1, sizeof *e);
    struct eng_model_info info;
    int rc;

    if (!e || !(e->path = strdup(path))) {
        free(e);
        return pd_fail(err, PD_ENOMEM, "out of memory");
    }
    e->seen = *st;
    rc = eng_model_peek(path, &info, NULL, err);
    if (rc == 0) {
        e->n_ctx = info.n_ctx;
        eng_model_info_done(&info);
        rc = eng_tokenizer_open(path, &e->t, err);
    }
    if (rc == 0)
        *out = e;
    else
        entry_free(e);
    return rc;
}

/* With the lock held: the entry, first in the list. */
static int find(struct tokenizers *t, const char *path, const struct stat *st,
                struct tokenizer_entry **out, struct pd_err *err)
{
    struct tokenizer_entry **at = &t->list, *e = NULL;
    size_t n = 0;
    int rc;

    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    if (*at && same_file(&(*at)->seen, st)) {
        e = *at;
        *at = e->next;
    } else {
        rc = entry_open(path, st, &e, err);
        if (rc < 0)
            return rc;
        if (*at)
            unlist(at);
        for (at = &t->list; *at && ++n < KEPT_MAX;)
            at = &(*at)->next;
        if (*at)
            unlist(at);
        e->listed = true;
    }
    e->next = t->list;
    t->list = *out = e;
    return 0;
}

int tokenizers_take(struct tokenizers *t, const char *model, struct tokenizer *out,
                    struct pd_err *err)
{
    struct tokenizer_entry *e = NULL;
    char *path = NULL;
    struct stat st;
    int rc = app_find_model(model ? model : app_default_model, &path, err);

    if (rc == 0 && stat(path, &st) < 0)
        rc = pd_fail(err, PD_ENOENT, "the file of model '%s' is gone", model);
    if (rc == 0) {
        pthread_mutex_lock(&t->lock);
        rc = find(t, path, &st, &e, err);
        if (rc == 0)
            e->n_users++;
        pthread_mutex_unlock(&t->lock);
    }
    if (rc == 0)
        *out = (struct tokenizer){e->t, e->n_ctx, e};
    free(path);
    return rc;
}

void tokenizers_give_back(struct tokenizers *t, struct tokenizer *back)
{
    struct tokenizer_entry *e = back->entry;

    if (!e)
        return;
    pthread_mutex_lock(&t->lock);
    if (--e->n_users == 0 && !e->listed)
        entry_free(e);
    pthread_mutex_unlock(&t->lock);
}

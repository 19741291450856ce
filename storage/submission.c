/* Reading the queue of a daemon back: what was submitted and has not come to its end. On the
 * caller's thread. */
#include "storage/store_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int store_idem_find(struct store *s, const char *key, char out_id[PD_JOB_ID_MAX],
                    uint8_t out_body_sha256[32], struct pd_err *err)
{
    struct reading r = {.s = s, .err = err};
    bool found = false;

    pthread_mutex_lock(&s->read_lock);
    store_read_begin(&r,
                     "SELECT j.id,s.body_sha256 FROM job j JOIN submission s ON s.job_id=j.id"
                     " WHERE j.idem_key=?",
                     key);
    if (store_read_next(&r)) {
        const unsigned char *id = sqlite3_column_text(r.st, 0);
        const void *sha = sqlite3_column_blob(r.st, 1);

        found = id && strlen((const char *)id) < PD_JOB_ID_MAX && sha &&
                sqlite3_column_bytes(r.st, 1) == 32;
        if (found) {
            strcpy(out_id, (const char *)id);
            memcpy(out_body_sha256, sha, 32);
        } else {
            r.rc = pd_fail(err, PD_EFORMAT,
                           "database '%s' is damaged: the submission under key "
                           "'%s'",
                           s->path, key);
        }
    }
    store_read_end(&r);
    pthread_mutex_unlock(&s->read_lock);
    if (r.rc == 0 && !found)
        return pd_fail(err, PD_ENOENT, "no job has the key '%s'", key);
    return r.rc;
}

static void take_place(struct reading *r, struct store_place *p)
{
    const unsigned char *id = sqlite3_column_text(r->st, r->i++);
    const unsigned char *status = sqlite3_column_text(r->st, r->i++);
    const unsigned char *client;

    snprintf(p->id, sizeof(p->id), "%s", id ? (const char *)id : "");
    snprintf(p->status, sizeof(p->status), "%s", status ? (const char *)status : "");
    p->seq = store_take_int(r);
    p->priority = (int32_t)store_take_int(r);
    p->attached = store_take_int(r) != 0;
    client = sqlite3_column_text(r->st, r->i++);
    p->client = strdup(client ? (const char *)client : "");
    if (!p->client)
        store_read_no_memory(r);
}

int store_queue_load(struct store *s, const char *job_id, struct store_place **out, size_t *out_n,
                     int64_t *out_last_seq, struct pd_err *err)
{
    static const char columns[] = "SELECT j.id,j.status,s.seq,s.priority,s.attached,s.client FROM";
    struct reading r = {.s = s, .err = err};
    struct store_place *places = NULL, *more;
    size_t n = 0, cap = 0;
    int64_t last = 0;
    char sql[256];

    snprintf(sql, sizeof(sql), "%s %s", columns,
             job_id ? "job j LEFT JOIN submission s ON s.job_id=j.id WHERE j.id=?"
                    : "job j JOIN submission s ON s.job_id=j.id WHERE"
                      " j.status IN('queued','running') ORDER BY j.status='queued',s.seq");
    store_read_lock(&r);
    store_read_begin(&r, sql, job_id);
    while (store_read_next(&r)) {
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            more = reallocarray(places, cap, sizeof(*places));
            if (!more) {
                store_read_no_memory(&r);
                break;
            }
            places = more;
        }
        memset(&places[n], 0, sizeof(*places));
        take_place(&r, &places[n++]);
    }
    store_read_end(&r);
    store_read_begin(&r, "SELECT max(seq) FROM submission", NULL);
    if (store_read_next(&r))
        last = store_take_int(&r);
    store_read_end(&r);
    store_read_unlock(&r);

    if (r.rc == 0 && job_id && n == 0)
        r.rc = pd_fail(err, PD_ENOENT, "no job is named '%s'", job_id);
    if (r.rc < 0) {
        store_queue_free(places, n);
        return r.rc;
    }
    *out = places;
    *out_n = n;
    if (out_last_seq)
        *out_last_seq = last;
    return 0;
}

void store_queue_free(struct store_place *places, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(places[i].client);
    free(places);
}

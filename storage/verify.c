/* Checking a file: what SQLite can say about it, and what only we know. On the caller's thread. */
#include "storage/store_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

#define FINDINGS_MAX 200 /* lines of a report; a file with more is beyond reading them */

struct check {
    struct store *s;
    struct pd_buf *report;
    size_t n_findings;
};

__attribute__((format(printf, 2, 3))) static void found(struct check *c, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (++c->n_findings > FINDINGS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    pd_buf_printf(c->report, "%s\n", line);
}

/* Every row of sql is a finding, its first column says which. */
static void rows_are_findings(struct check *c, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->s->rdb, sql, -1, &st, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            const unsigned char *z = sqlite3_column_text(st, 0);

            if (!z || strcmp((const char *)z, "ok") != 0) /* integrity_check says ok in a row */
                found(c, "%s", z ? (const char *)z : "?");
        }
    }
    if (rc != SQLITE_DONE)
        found(c, "cannot be read: %s", sqlite3_errmsg(c->s->rdb));
    sqlite3_finalize(st);
}

static void foreign_keys(struct check *c)
{
    rows_are_findings(c,
                      "SELECT 'table '||\"table\"||', row '||coalesce(rowid,'?')||': the row of '"
                      "||parent||' it refers to is missing' FROM pragma_foreign_key_check");
}

static void blobs(struct check *c)
{
    sqlite3_stmt *st = NULL;
    uint8_t sha[PD_SHA256_BYTES];
    int rc = sqlite3_prepare_v2(c->s->rdb, "SELECT id,sha256,size,data FROM blob ORDER BY id", -1,
                                &st, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            long long id = sqlite3_column_int64(st, 0);
            const void *want = sqlite3_column_blob(st, 1);
            size_t n_want = (size_t)sqlite3_column_bytes(st, 1);
            const void *data = sqlite3_column_blob(st, 3);
            size_t n = (size_t)sqlite3_column_bytes(st, 3);

            if (sqlite3_column_int64(st, 2) != (sqlite3_int64)n)
                found(c, "blob %lld: has %zu bytes, should have %lld", id, n,
                      (long long)sqlite3_column_int64(st, 2));
            pd_sha256_bytes(n ? data : "", n, sha);
            if (n_want != sizeof(sha) || memcmp(want, sha, sizeof(sha)) != 0)
                found(c, "blob %lld: its bytes do not have its SHA-256", id);
        }
    }
    if (rc != SQLITE_DONE)
        found(c, "blobs cannot be read: %s", sqlite3_errmsg(c->s->rdb));
    sqlite3_finalize(st);
}

/* What the rows of a job say about each other. Sums are only those of jobs that ended: a running
 * job's node may stand before its call's last number. */
static const char *const ledger[] = {
    "SELECT 'job '||job_id||': calls are numbered up to '||max(seq)||' but there are '||count(*)"
    " FROM call WHERE job_id IS NOT NULL GROUP BY job_id"
    " HAVING max(seq)<>count(*)-1 OR min(seq)<>0",
    "SELECT 'job '||job_id||': call '||seq||' has '||cached_tokens||' cached tokens of a prompt of "
    "'"
    "||prompt_tokens FROM call WHERE cached_tokens>prompt_tokens OR cached_tokens<0"
    " OR generated_tokens<0",
    "SELECT 'job '||n.job_id||': node '||n.id||' names call '||n.call_id||', which is missing'"
    " FROM node n JOIN job j ON j.id=n.job_id LEFT JOIN call c ON c.job_id=n.job_id AND"
    " c.seq=n.call_id WHERE n.call_id IS NOT NULL AND c.id IS NULL"
    " AND j.status IN('done','failed','cancelled')",
    "SELECT 'job '||s.job_id||': score of node '||s.node_id||' names call '||s.call_id||"
    "', which is missing' FROM score s JOIN job j ON j.id=s.job_id LEFT JOIN call c ON"
    " c.job_id=s.job_id AND c.seq=s.call_id WHERE s.call_id IS NOT NULL AND c.id IS NULL"
    " AND j.status IN('done','failed','cancelled')",
    "SELECT 'job '||n.job_id||': parent '||n.parent||' of node '||n.id||' is missing'"
    " FROM node n LEFT JOIN node p ON p.job_id=n.job_id AND p.id=n.parent"
    " WHERE n.parent IS NOT NULL AND p.id IS NULL",
    "SELECT 'job '||j.id||': its answer node '||j.answer_node||' is missing' FROM job j"
    " LEFT JOIN node n ON n.job_id=j.id AND n.id=j.answer_node"
    " WHERE j.answer_node IS NOT NULL AND n.id IS NULL",
    "SELECT 'job '||n.job_id||': node '||n.id||' has '||n.n_tokens||' tokens, but '||b.size||"
    "' bytes of them' FROM node n JOIN blob b ON b.id IN(n.tokens_id,n.logprobs_id)"
    " WHERE b.size<>4*n.n_tokens",
    "SELECT 'job '||n.job_id||': node '||n.id||' has '||n.n_tokens||' tokens, but its call '||c.seq"
    "||' generated '||c.generated_tokens FROM node n JOIN call c ON c.job_id=n.job_id AND"
    " c.seq=n.call_id WHERE c.op='generate' AND n.n_tokens<>c.generated_tokens",
    /* Tokens with log-probabilities were sampled, and every sampled token was paid for by a call.
     * Calls may have more: what an interrupted job had drawn by then is in no node. */
    "SELECT 'job '||j.id||': '||n.tokens||' sampled tokens, but its calls generated '||"
    "coalesce(c.tokens,0) FROM job j"
    " JOIN (SELECT job_id,sum(n_tokens) AS tokens FROM node WHERE logprobs_id IS NOT NULL AND"
    " call_id IS NOT NULL GROUP BY job_id) n ON n.job_id=j.id"
    " LEFT JOIN (SELECT job_id,sum(generated_tokens) AS tokens FROM call GROUP BY job_id) c"
    " ON c.job_id=j.id"
    " WHERE n.tokens>coalesce(c.tokens,0) AND j.status IN('done','failed','cancelled')",
};

/* From version 2 on. */
static const char *const feed[] = {
    "SELECT 'job '||job_id||': its feed is numbered up to '||max(seq)||' but has '||count(*)||"
    "' entries' FROM feed GROUP BY job_id HAVING max(seq)<>count(*) OR min(seq)<>1",
    "SELECT 'job '||job_id||': node '||id||' is missing in the feed' FROM (SELECT job_id,id FROM "
    "node"
    " EXCEPT SELECT job_id,ref FROM feed WHERE type='node.added')",
    "SELECT 'job '||job_id||': the score of node '||node_id||' is missing in the feed' FROM score"
    " WHERE id IN (SELECT id FROM score EXCEPT SELECT ref FROM feed WHERE type='node.scored')",
    "SELECT 'job '||job_id||': '||type||' of row '||ref||' stands '||count(*)||"
    "' times in the feed' FROM feed WHERE type IN('node.added','node.scored')"
    " GROUP BY job_id,type,ref HAVING count(*)>1",
    "SELECT 'job '||f.job_id||': entry '||f.seq||' of its feed tells of row '||f.ref||"
    "', which is missing' FROM feed f WHERE CASE"
    " WHEN f.type='node.scored' THEN NOT EXISTS(SELECT 1 FROM score s WHERE s.id=f.ref)"
    " WHEN f.type='budget' THEN NOT EXISTS(SELECT 1 FROM call c WHERE c.job_id=f.job_id AND"
    "  c.seq=f.ref)"
    " WHEN f.type LIKE 'node.%' OR f.type LIKE 'answer.%' THEN NOT EXISTS(SELECT 1 FROM node n"
    "  WHERE n.job_id=f.job_id AND n.id=f.ref) END",
    "SELECT 'job '||id||' is '||status||', but its feed does not say so' FROM job j"
    " WHERE status IN('done','failed','cancelled') AND NOT EXISTS(SELECT 1 FROM feed f"
    " WHERE f.job_id=j.id AND f.type='job.'||j.status)",
};

int store_verify(struct store *s, struct pd_buf *report, struct pd_err *err)
{
    struct check c = {s, report, 0};

    pthread_mutex_lock(&s->read_lock);
    sqlite3_exec(s->rdb, "BEGIN", NULL, NULL, NULL); /* one state of the file for all checks */
    rows_are_findings(&c, "PRAGMA integrity_check");
    foreign_keys(&c);
    blobs(&c);
    for (size_t i = 0; i < sizeof(ledger) / sizeof(*ledger); i++)
        rows_are_findings(&c, ledger[i]);
    for (size_t i = 0; i < sizeof(feed) / sizeof(*feed) && store_db_version(s->rdb) >= 2; i++)
        rows_are_findings(&c, feed[i]);
    if (!sqlite3_get_autocommit(s->rdb))
        sqlite3_exec(s->rdb, "ROLLBACK", NULL, NULL, NULL);
    pthread_mutex_unlock(&s->read_lock);

    if (c.n_findings > FINDINGS_MAX)
        pd_buf_printf(report, "… and %zu more\n", c.n_findings - FINDINGS_MAX);
    if (c.n_findings)
        return pd_fail(err, PD_EDIFFER, "database '%s': %zu findings", s->path, c.n_findings);
    return 0;
}

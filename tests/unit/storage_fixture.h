/* What tests of the trace database share: a folder of their own, a store that opens, records to put
 * into it. */
#ifndef PD_TESTS_STORAGE_FIXTURE_H
#define PD_TESTS_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/store_int.h"

static char dir[256], db[300]; /* of the running test */

static inline int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    snprintf(dir, sizeof(dir), "%s/ponder-storage-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    snprintf(db, sizeof(db), "%s/sub/trace.db", dir);
    return 0;
}

static inline int rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int teardown(void **state)
{
    (void)state;
    return nftw(dir, rm, 8, FTW_DEPTH | FTW_PHYS);
}

static inline struct store *open_ok(enum store_open mode)
{
    struct pd_err err = {0};
    struct store *s = NULL;

    if (store_open(db, mode, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

#define ok(call)                                                                                   \
    do {                                                                                           \
        struct pd_err err_ = {0};                                                                  \
        struct pd_err *e = &err_;                                                                  \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, err_.text);                                                  \
    } while (0)

static inline struct pd_job_rec job_rec(const char *id)
{
    return (struct pd_job_rec){
        .id = id,
        .strategy = "beam",
        .options = "{\"width\":4}",
        .model = "tiny",
        .status = "running",
        .request = PD_STR("{\"question\":\"What is 6*7? \\u00e9\"}"),
        .budget = "{}",
        .created_ms = 1000,
        .answer_node = -1,
        .correct = -1,
        .sequential = -1,
    };
}

static inline struct pd_node_rec node_rec(uint32_t id)
{
    return (struct pd_node_rec){
        .id = id, .status = "open", .text = PD_STR("x"), .finish = "step", .call_id = -1};
}

static inline void assert_z(const char *a, const char *b)
{
    if (!a || !b)
        assert_true(a == b);
    else
        assert_string_equal(a, b);
}

static inline void verify_clean(struct store *s)
{
    struct pd_buf report = PD_BUF_INIT(1 << 20);
    struct pd_err err = {0};

    if (store_verify(s, &report, &err) < 0)
        fail_msg("%s: %s", err.text, pd_buf_str(&report).ptr);
    assert_int_equal(report.len, 0);
    pd_buf_done(&report);
}

/* Writes sql into the file behind the store's back, as an accident would. */
static inline void tamper(const char *sql)
{
    sqlite3 *c = NULL;
    char *why = NULL;

    assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
    if (sqlite3_exec(c, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(c);
}

#endif

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_base_file.XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void reads_whole_files(void **state)
{
    struct pd_buf b = PD_BUF_INIT(100000), small = PD_BUF_INIT(10);
    char *path = pd_path_join(dir, "f");
    static char bytes[50000];
    struct pd_err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7);
    write_file(path, bytes, sizeof(bytes));
    assert_int_equal(pd_read_file(path, &b, &err), 0);
    assert_int_equal(b.len, sizeof(bytes));
    assert_memory_equal(b.data, bytes, sizeof(bytes));

    pd_buf_addz(&small, "ab");
    assert_int_equal(pd_read_file(path, &small, &err), PD_ELIMIT);
    assert_string_equal(small.data, "ab");
    assert_non_null(strstr(err.text, "limit of 10 bytes"));
    pd_buf_done(&small);

    write_file(path, "0123456789", 10);
    assert_int_equal(pd_read_file(path, &small, &err), 0); /* exactly the ceiling */
    assert_string_equal(small.data, "0123456789");
    pd_buf_done(&small);

    write_file(path, "", 0);
    assert_int_equal(pd_read_file(path, &small, &err), 0);
    assert_string_equal(small.data, "");

    assert_true(pd_file_exists(path));
    assert_int_equal(unlink(path), 0);
    assert_false(pd_file_exists(path));
    assert_int_equal(pd_read_file(path, &small, &err), PD_ENOENT);
    assert_int_equal(pd_read_file(dir, &small, &err), PD_EIO);
    pd_buf_done(&small);
    pd_buf_done(&b);
    free(path);
}

static void reads_standard_input(void **state)
{
    struct pd_buf b = PD_BUF_INIT(100);
    int ends[2], old_stdin = dup(STDIN_FILENO);

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "hello", 5), 5);
    close(ends[1]);
    assert_true(dup2(ends[0], STDIN_FILENO) >= 0);
    assert_int_equal(pd_read_file("-", &b, NULL), 0);
    assert_string_equal(b.data, "hello");
    close(ends[0]);
    if (old_stdin >= 0) {
        dup2(old_stdin, STDIN_FILENO);
        close(old_stdin);
    }
    pd_buf_done(&b);
}

static void makes_directories(void **state)
{
    char *a = pd_path_join(dir, "a"), *ab = pd_path_join(a, "b"),
         *slashes = pd_path_join(dir, "a//b/");
    char *below_file = pd_path_join(a, "f/g"), *f = pd_path_join(a, "f");
    struct pd_err err = {0};
    struct stat st;

    (void)state;
    assert_int_equal(pd_mkdirs(slashes, 0700, &err), 0);
    assert_int_equal(pd_mkdirs(ab, 0700, &err), 0); /* once more is no error */
    assert_int_equal(stat(ab, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(pd_mkdirs("/", 0700, &err), 0);
    assert_int_equal(pd_mkdirs("", 0700, &err), PD_EINVAL);
    write_file(f, "x", 1);
    assert_int_equal(pd_mkdirs(f, 0700, &err), PD_EIO);
    assert_int_equal(pd_mkdirs(below_file, 0700, &err), PD_EIO);
    assert_non_null(strstr(err.text, "Not a directory"));
    assert_int_equal(unlink(f), 0);
    assert_int_equal(rmdir(ab), 0);
    assert_int_equal(rmdir(a), 0);
    free(a);
    free(ab);
    free(slashes);
    free(below_file);
    free(f);
}

static void joins_paths(void **state)
{
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *joined = pd_path_join(cases[i][0], cases[i][1]);

        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

static void drafts_appear_whole_or_not_at_all(void **state)
{
    char *path = pd_path_join(dir, "f"), *part = pd_path_join(dir, ".f.part");
    char *copy = pd_path_join(dir, "copy");
    struct pd_buf b = PD_BUF_INIT(100);
    struct pd_err err = {0};
    struct pd_draft d, second;

    (void)state;
    write_file(part, "what a crash has left", 21);
    assert_int_equal(pd_draft_open(&d, path, &err), 0);
    assert_int_equal(pd_draft_write(&d, PD_STR("one"), &err), 0);
    assert_int_equal(pd_draft_open(&second, path, &err), PD_EBUSY);
    assert_non_null(strstr(err.text, "another process"));
    assert_false(pd_file_exists(path));
    assert_int_equal(pd_draft_commit(&d, &err), 0);
    pd_draft_done(&d);
    assert_false(pd_file_exists(part));

    assert_int_equal(pd_draft_open(&d, path, &err), 0);
    assert_int_equal(pd_draft_write(&d, PD_STR("two"), &err), 0);
    pd_draft_done(&d); /* not committed: nothing has changed */
    assert_false(pd_file_exists(part));
    assert_int_equal(pd_read_file(path, &b, &err), 0);
    assert_string_equal(b.data, "one");

    assert_int_equal(pd_draft_open(&d, copy, &err), 0);
    assert_int_equal(pd_draft_copy(&d, dir, &err), PD_EIO); /* a directory cannot be read */
    assert_int_equal(pd_draft_copy(&d, path, &err), 0);
    assert_int_equal(pd_draft_commit(&d, &err), 0);
    pd_draft_done(&d);
    pd_buf_clear(&b);
    assert_int_equal(pd_read_file(copy, &b, &err), 0);
    assert_string_equal(b.data, "one");

    assert_int_equal(pd_draft_open(&d, "/nowhere/f", &err), PD_ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/f"));
    pd_buf_done(&b);
    unlink(path);
    unlink(copy);
    free(path);
    free(part);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_whole_files),
        cmocka_unit_test(reads_standard_input),
        cmocka_unit_test(makes_directories),
        cmocka_unit_test(joins_paths),
        cmocka_unit_test(drafts_appear_whole_or_not_at_all),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

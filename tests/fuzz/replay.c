/*
 * main() for a fuzz target outside a fuzzer: hands every file of tests/fuzz/<name>.in/ (or the
 * files named on the command line) to LLVMFuzzerTestOneInput and reports in TAP. Reaching the
 * next line is the test: a crash or a sanitizer report ends the program early.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* The input is copied to a block of exactly its size, so that reading past it is seen. */
static int replay(const char *path)
{
    uint8_t *data = NULL;
    long n_bytes;
    int rc = -1;
    FILE *f = fopen(path, "rb");

    if (!f)
        return -1;
    if (fseek(f, 0, SEEK_END) < 0 || (n_bytes = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) < 0)
        goto out;
    data = malloc(n_bytes > 0 ? (size_t)n_bytes : 1);
    if (!data || fread(data, 1, (size_t)n_bytes, f) != (size_t)n_bytes)
        goto out;
    LLVMFuzzerTestOneInput(data, (size_t)n_bytes);
    rc = 0;
out:
    free(data);
    fclose(f);
    return rc;
}

static int report(int number, const char *path)
{
    int rc = replay(path);

    printf("%s %d - %s\n", rc < 0 ? "not ok" : "ok", number, path);
    fflush(stdout);
    return rc;
}

int main(int argc, char **argv)
{
    const char *srcdir = getenv("PONDER_TEST_SRCDIR");
    const char *slash = strrchr(argv[0], '/');
    char dir[4096], path[8192];
    struct dirent **found = NULL;
    int n_files, failed = 0;

    if (argc > 1) {
        printf("1..%d\n", argc - 1);
        for (int i = 1; i < argc; i++)
            failed |= report(i, argv[i]) < 0;
        return failed;
    }
    snprintf(dir, sizeof(dir), "%s/tests/fuzz/%s.in", srcdir ? srcdir : ".",
             slash ? slash + 1 : argv[0]);
    n_files = scandir(dir, &found, visible, alphasort);
    if (n_files <= 0) {
        printf("1..1\nnot ok 1 - no inputs in %s: %s\n", dir,
               n_files < 0 ? strerror(errno) : "empty");
        free(found);
        return 1;
    }
    printf("1..%d\n", n_files);
    for (int i = 0; i < n_files; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, found[i]->d_name);
        failed |= report(i + 1, path) < 0;
        free(found[i]);
    }
    free(found);
    return failed;
}

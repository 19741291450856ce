/* The fake engine as a program, for scripts and for measuring: prints its port, and serves until its
 * standard input ends.
 *
 * usage: fake_engine DIALECT [MICROSECONDS-A-TOKEN [TOKENS-AN-ANSWER]] */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/fake_engine.h"

int main(int argc, char **argv)
{
    struct fake_config c = {.dialect = argc > 1 ? argv[1] : "vllm"};
    struct fake_engine *f;
    char byte;

    if (argc > 2)
        c.token_us = (unsigned)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        c.length = (unsigned)strtoul(argv[3], NULL, 10);
    f = fake_engine_start(&c);
    printf("%u\n", (unsigned)fake_engine_port(f));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    fake_engine_stop(f);
    return 0;
}

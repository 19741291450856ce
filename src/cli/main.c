/* The program `ponder`. Place-holder until the verbs are here: it knows --version only. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("ponder " PONDER_VERSION);
        return 0;
    }
    fputs("usage: ponder --version\n", stderr);
    return 2;
}

/* Writes a model file with random weights: a shape of tests/support/random_model.c in a tensor
 * type. For tests by hand, measurements and comparisons; the tests themselves call the library. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random_model.h"

static void help(void)
{
    puts("usage: make_model [options] SHAPE TYPE FILE.gguf\n"
         "Writes a model with random weights, a vocabulary and a chat template.\n"
         "\n"
         "  TYPE             F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K,\n"
         "                   or a mix: Q3_K_M Q4_K_M Q5_K_M. The output matrix of a quantised\n"
         "                   model is Q6_K (Q8_0 where 256 does not divide the width)\n"
         "  -p, --pure       the output matrix is of the type as well\n"
         "  -s, --seed N     another model of the same shape (default 1)\n"
         "  -l, --layers N   fewer or more layers than the shape has\n"
         "  -h, --help       this\n"
         "\n"
         "  SHAPE            architecture  layers  width  heads/kv  head  feed-forward  tokens");
    for (const struct random_model *m = random_models; m->name; m++)
        printf("  %-18s %-12s %6u %6u %6u/%u %6u %13u %7u\n", m->name, m->arch, m->n_layer,
               m->n_embd, m->n_head, m->n_head_kv, m->head_dim, m->n_ff, m->n_vocab);
}

static uint64_t number(const char *what, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t v = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0' || *text == '-' || v < min || v > max) {
        fprintf(stderr, "make_model: %s is '%s'; %" PRIu64 " to %" PRIu64 " is possible\n", what,
                text, min, max);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"pure", no_argument, NULL, 'p'},
        {"seed", required_argument, NULL, 's'},
        {"layers", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const struct random_model *shape;
    struct random_model m;
    struct pd_err err = {0};
    uint64_t seed = 1;
    uint32_t n_layer = 0;
    bool pure = false;
    int c;

    while ((c = getopt_long(argc, argv, "ps:l:h", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            pure = true;
            break;
        case 's':
            seed = number("--seed", optarg, 0, UINT64_MAX);
            break;
        case 'l':
            n_layer = (uint32_t)number("--layers", optarg, 1, 40);
            break;
        case 'h':
            help();
            return 0;
        default:
            fputs("make_model --help says what is possible\n", stderr);
            return 2;
        }
    }
    if (argc - optind != 3) {
        fputs("make_model wants SHAPE TYPE FILE.gguf; --help lists them\n", stderr);
        return 2;
    }
    shape = random_model_find(argv[optind]);
    if (!shape) {
        fprintf(stderr, "make_model: no shape '%s'; --help lists them\n", argv[optind]);
        return 2;
    }
    m = *shape;
    if (n_layer)
        m.n_layer = n_layer;
    if (random_model_write(&m, argv[optind + 1], pure, seed, argv[optind + 2], &err) < 0) {
        fprintf(stderr, "make_model: %s\n", err.text);
        return 1;
    }
    return 0;
}

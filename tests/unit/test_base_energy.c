#include "base/energy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[64];

static void put(const char *zone, const char *file, const char *text)
{
    char path[160];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", root, zone);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", root, zone, file);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void zone(const char *name, const char *what, const char *uj)
{
    put(name, "name", what);
    put(name, "max_energy_range_uj", "1000000000\n");
    put(name, "energy_uj", uj);
}

static void near(double got, double want)
{
    if (!(got > want - 1e-9 && got < want + 1e-9))
        fail_msg("%g J are not %g J", got, want);
}

static int make(void **state)
{
    (void)state;
    strcpy(root, "/tmp/ponder-energy-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int drop(void **state)
{
    char command[96];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void packages_are_summed(void **state)
{
    struct pd_energy e;

    (void)state;
    zone("intel-rapl:0", "package-0\n", "1000000\n");
    zone("intel-rapl:0:0", "core\n", "500000\n"); /* in package 0 */
    zone("intel-rapl:1", "package-1\n", "7000000\n");
    zone("intel-rapl:2", "psys\n", "9000000\n"); /* both, and the rest of the board */
    pd_energy_start(&e, root);
    assert_int_equal(e.n, 2);
    near(e.joules, 0);
    put("intel-rapl:0", "energy_uj", "3500000\n");
    put("intel-rapl:0:0", "energy_uj", "2500000\n");
    put("intel-rapl:1", "energy_uj", "7250000\n");
    put("intel-rapl:2", "energy_uj", "99000000\n");
    pd_energy_read(&e);
    near(e.joules, 2.75);
    pd_energy_read(&e);
    near(e.joules, 2.75);
}

static void counters_go_round(void **state)
{
    struct pd_energy e;

    (void)state;
    zone("intel-rapl:0", "package-0\n", "999000000\n");
    pd_energy_start(&e, root);
    put("intel-rapl:0", "energy_uj", "500000\n");
    pd_energy_read(&e);
    near(e.joules, 1.5);
}

static void nothing_to_read_is_no_energy(void **state)
{
    struct pd_energy e;

    (void)state;
    put("intel-rapl:0", "name", "package-0\n"); /* a counter that only root may read */
    put("intel-rapl:0", "max_energy_range_uj", "1000\n");
    pd_energy_start(&e, root);
    assert_int_equal(e.n, 0);
    pd_energy_read(&e);
    near(e.joules, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packages_are_summed, make, drop),
        cmocka_unit_test_setup_teardown(counters_go_round, make, drop),
        cmocka_unit_test_setup_teardown(nothing_to_read_is_no_energy, make, drop),
    };

    return cmocka_run_group_tests_name("base/energy", tests, NULL, NULL);
}

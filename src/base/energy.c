/* Energy: see energy.h. */
#include "base/energy.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool read_number(const char *path, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    unsigned long long v;
    bool ok = f && fscanf(f, "%llu", &v) == 1;

    if (ok)
        *out = v;
    if (f)
        fclose(f);
    return ok;
}

/* Zone intel-rapl:N is a package; intel-rapl:N:M is a part of one; psys, the whole board, has the
 * packages in it. (AMD's packages have this name too.) */
static bool is_package(const char *root, unsigned zone)
{
    char path[160], name[32] = "";
    FILE *f;
    bool ok;

    snprintf(path, sizeof path, "%s/intel-rapl:%u/name", root, zone);
    f = fopen(path, "re");
    ok = f && fscanf(f, "%31s", name) == 1 && strncmp(name, "package", 7) == 0;
    if (f)
        fclose(f);
    return ok;
}

void pd_energy_start(struct pd_energy *e, const char *root)
{
    *e = (struct pd_energy){0};
    for (unsigned zone = 0; zone < PD_ENERGY_PACKAGES_MAX; zone++) {
        char range[160];

        snprintf(range, sizeof range, "%s/intel-rapl:%u/max_energy_range_uj", root, zone);
        snprintf(e->packages[e->n].path, sizeof e->packages[e->n].path,
                 "%s/intel-rapl:%u/energy_uj", root, zone);
        if (is_package(root, zone) && read_number(range, &e->packages[e->n].range_uj) &&
            read_number(e->packages[e->n].path, &e->packages[e->n].last_uj))
            e->n++;
    }
}

void pd_energy_read(struct pd_energy *e)
{
    for (size_t i = 0; i < e->n; i++) {
        uint64_t now, last = e->packages[i].last_uj;

        if (!read_number(e->packages[i].path, &now))
            continue;
        e->joules +=
            (double)(now >= last ? now - last : now + e->packages[i].range_uj - last) / 1e6;
        e->packages[i].last_uj = now;
    }
}

/* Energy that the processors have used, where the kernel lets it be read (Linux powercap, RAPL): of
 * the whole machine, whoever used it. One thread at a time. */
#ifndef PD_BASE_ENERGY_H
#define PD_BASE_ENERGY_H

#include <stddef.h>
#include <stdint.h>

#define PD_ENERGY_ROOT         "/sys/class/powercap"
#define PD_ENERGY_PACKAGES_MAX 16

struct pd_energy {
    size_t n; /* packages; 0: none can be read */
    struct {
        char path[160]; /* of its counter */
        uint64_t last_uj, range_uj;
    } packages[PD_ENERGY_PACKAGES_MAX];
    double joules; /* since the start */
};

/* Counts from now on. root: PD_ENERGY_ROOT. */
void pd_energy_start(struct pd_energy *e, const char *root);
/* Brings joules up to now. A counter that has gone round once since the last call is understood:
 * that takes minutes at least. */
void pd_energy_read(struct pd_energy *e);

#endif

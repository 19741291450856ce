/* Instruction sets that the arithmetic is written for, from the slowest to the best. */
#ifndef PD_ENGINE_ISA_H
#define PD_ENGINE_ISA_H

#include <stdbool.h>

enum eng_isa { ENG_ISA_SCALAR, ENG_ISA_AVX2, ENG_ISA_AVX512, ENG_N_ISA };

bool eng_isa_supported(enum eng_isa isa); /* by this CPU; any thread */

#endif

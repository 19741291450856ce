/* Control vectors as rows of a step see them (private to the engine). */
#ifndef PD_ENGINE_STEER_H
#define PD_ENGINE_STEER_H

#include "engine/engine.h"

struct eng_steer {
    atomic_uint refs;
    bool nothing; /* every vector is zero, or there is none */
    uint32_t n_embd, n_layer;
    float *scaled[]; /* [n_layer][n_embd]: what is added behind each block; NULL: nothing */
};

#endif

/* The rows of engine/kv_type/. */
#ifndef PD_ENGINE_KV_TYPE_INT_H
#define PD_ENGINE_KV_TYPE_INT_H

#include "engine/kernels.h"

extern const struct eng_kv_type eng_kv_f16, eng_kv_q8_0; /* eng_kv_f32: kernels.h */

#endif

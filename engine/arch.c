/* The table of architectures. A new one is a row, and a flag for what no other has. */
#include "engine/arch.h"

#include <stddef.h>

const struct eng_arch eng_archs[] = {
    {.name = "llama", /* Llama, Mistral, Mixtral, SmolLM and many that share their shape */
     .qkv_bias = ENG_MAY,
     .bias = ENG_MAY,
     .experts = ENG_MAY,
     .window = ENG_MAY},
    {.name = "qwen2", .neox = true, .qkv_bias = ENG_MUST},
    {.name = "qwen3", .neox = true, .qk_norm = true},
    {.name = "qwen3moe", .neox = true, .qk_norm = true, .experts = ENG_MUST},
    {.name = "phi3", .neox = true, .fused = true, .window = ENG_MAY},
    {.name = "gemma", .neox = true, .gelu = true, .scale_embd = true},
    {.name = "gemma2",
     .neox = true,
     .gelu = true,
     .scale_embd = true,
     .post_norm = true,
     .window = ENG_MAY,
     .window_default = 4096,
     .window_period = 2,
     .attn_softcap = 50,
     .final_softcap = 30,
     .wide_layers = 46},
    {.name = "gemma3",
     .neox = true,
     .gelu = true,
     .scale_embd = true,
     .qk_norm = true,
     .post_norm = true,
     .window = ENG_MUST,
     .window_period = 6,
     .local_freq_base = 10000,
     .wide_layers = 62},
    {0},
};

const struct eng_arch *eng_arch_find(struct pd_str name)
{
    for (const struct eng_arch *a = eng_archs; a->name; a++) {
        if (pd_str_eq(name, pd_str_of(a->name)))
            return a;
    }
    return NULL;
}

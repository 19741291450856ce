# engine: model files, tokenizer, KV cache, scheduler. Door: engine/engine.h.
engine_libengine_a_SOURCES = \
	engine/engine.h engine/gguf.c engine/gguf.h engine/model.c engine/model.h engine/describe.c \
	engine/arch.c engine/arch.h engine/shape.c engine/shape.h \
	engine/tokenizer.c engine/tokenizer.h engine/tokenizer_int.h engine/vocab.c engine/chat.c \
	engine/jinja.h engine/jinja_int.h engine/jinja_lex.c engine/jinja_parse.c engine/jinja_eval.c \
	engine/jinja_value.c engine/jinja_text.c engine/jinja_filter.c \
	engine/pretok.c engine/pretok.h \
	engine/grammar.c engine/grammar.h engine/grammar_int.h engine/grammar_expr.c engine/grammar_compile.c \
	engine/grammar_gbnf.c engine/grammar_pattern.c engine/grammar_schema.c engine/token_tree.c \
	engine/kv.c engine/kv.h engine/kv_pool.c engine/ctx.c engine/view.c engine/forward.c engine/forward.h \
	engine/attention.c engine/attention.h engine/moe.c engine/moe.h \
	engine/sample.c engine/sample.h engine/spec.c engine/spec.h engine/sched.c

# The kernels' archive has its own flags (the order of operations is the contract: no fast-math).
# It uses src/base only, never the rest of the engine.
engine_libkernels_a_SOURCES = \
	engine/isa.h engine/kernels.c engine/kernels.h engine/kernels_int.h engine/kernels_avx2.c engine/kernels_avx512.c \
	engine/kernels_simd_int.h engine/simd_int.h engine/simd_math_int.h engine/math.c engine/math_int.h engine/pool.c \
	engine/roofline.c \
	engine/kv_type.c engine/kv_type_int.h engine/kv_type/attn_int.h \
	engine/kv_type/f32.c engine/kv_type/f16.c engine/kv_type/q8_0.c \
	engine/quant.c engine/quant_int.h engine/quant/float_mm_int.h \
	engine/quant/int8_mm_int.h engine/quant/nibble_mm_int.h \
	engine/quant/f32.c engine/quant/f16.c engine/quant/bf16.c \
	engine/quant/q8_0.c engine/quant/q4_0.c engine/quant/q4_1.c engine/quant/q5_0.c engine/quant/q5_1.c \
	engine/quant/k_int.h engine/quant/k_mm_int.h engine/quant/k_scales_int.h \
	engine/quant/q2_k.c engine/quant/q3_k.c engine/quant/q4_k.c engine/quant/q5_k.c engine/quant/q6_k.c
engine_libkernels_a_CFLAGS = $(COMMON_CFLAGS) $(KERNEL_OPT_CFLAGS) $(KERNEL_CFLAGS)

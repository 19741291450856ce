# engine: model files, tokenizer, KV cache, scheduler. Door: engine/engine.h.
engine_libengine_a_SOURCES = \
	engine/gguf.c engine/gguf.h engine/model.c engine/model.h engine/model_int.h \
	engine/tokenizer.c engine/tokenizer.h engine/tokenizer_int.h engine/chat.c \
	engine/pretok.c engine/pretok.h

# The kernels' archive has its own flags (the order of operations is the contract: no fast-math).
# It uses src/base only, never the rest of the engine.
engine_libkernels_a_SOURCES =
engine_libkernels_a_CFLAGS = $(COMMON_CFLAGS) $(KERNEL_OPT_CFLAGS) $(KERNEL_CFLAGS)

# src/remote: engines elsewhere. A dialect is one file here and one row of the table in engine.c.
src_remote_libremote_a_SOURCES = \
	src/remote/anthropic.c \
	src/remote/answer.c \
	src/remote/engine.c \
	src/remote/generator.c \
	src/remote/llama_server.c \
	src/remote/openai.c \
	src/remote/remote.h \
	src/remote/remote_int.h \
	src/remote/sglang.c \
	src/remote/tokens.c \
	src/remote/vllm.c

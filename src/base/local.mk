# src/base: the ground floor. One line per file, headers too.
src_base_libbase_a_SOURCES = \
	src/base/arena.c \
	src/base/arena.h \
	src/base/buf.c \
	src/base/buf.h \
	src/base/chat.h \
	src/base/clock.c \
	src/base/clock.h \
	src/base/err.c \
	src/base/err.h \
	src/base/file.c \
	src/base/file.h \
	src/base/hash.c \
	src/base/hash.h \
	src/base/id.c \
	src/base/id.h \
	src/base/json.c \
	src/base/json.h \
	src/base/jsonc.c \
	src/base/jsonc.h \
	src/base/queue.c \
	src/base/queue.h \
	src/base/record.h \
	src/base/rng.c \
	src/base/rng.h \
	src/base/str.c \
	src/base/str.h

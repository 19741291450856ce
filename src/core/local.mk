# src/core: job, search verbs, budget, trace, interfaces.
src_core_libcore_a_SOURCES = \
	src/core/answer.c \
	src/core/answer.h \
	src/core/calibration.c \
	src/core/calibration.h \
	src/core/form.c \
	src/core/form.h \
	src/core/generator.h \
	src/core/given.c \
	src/core/grade.c \
	src/core/grade.h \
	src/core/grow.c \
	src/core/job.c \
	src/core/job.h \
	src/core/node.c \
	src/core/param.c \
	src/core/param.h \
	src/core/read.c \
	src/core/score.c \
	src/core/search.c \
	src/core/search.h \
	src/core/search_int.h \
	src/core/stats.c \
	src/core/stats.h \
	src/core/steps.c \
	src/core/steps.h \
	src/core/stops.c \
	src/core/strategy.h \
	src/core/tally.c \
	src/core/together.c \
	src/core/trace_digest.c \
	src/core/verifier.h

# src/cli: main and the verbs of `ponder`.
bin_PROGRAMS += ponder
ponder_SOURCES = \
	src/cli/bench.c \
	src/cli/cli.h \
	src/cli/client.c \
	src/cli/client.h \
	src/cli/config.c \
	src/cli/doctor.c \
	src/cli/engine.c \
	src/cli/job.c \
	src/cli/main.c \
	src/cli/mcp.c \
	src/cli/model.c \
	src/cli/options.c \
	src/cli/perplexity.c \
	src/cli/replay.c \
	src/cli/remote.c \
	src/cli/run.c \
	src/cli/serve.c \
	src/cli/show.c \
	src/cli/solve.c \
	src/cli/tokenize.c \
	src/cli/trace.c \
	src/cli/tree.c \
	src/cli/ui.c
ponder_LDADD = $(PONDER_ARCHIVES) $(PONDER_LIBS)

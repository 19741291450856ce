# src/cli: main and the verbs of `ponder`.
bin_PROGRAMS += ponder
ponder_SOURCES = \
	src/cli/main.c
ponder_LDADD = $(PONDER_ARCHIVES) $(PONDER_LIBS)

# src/cli: main and the verbs of `ponder`.
bin_PROGRAMS += ponder
ponder_SOURCES = \
	src/cli/bench.c \
	src/cli/cli.h \
	src/cli/client.c \
	src/cli/client.h \
	src/cli/complete.c \
	src/cli/config.c \
	src/cli/doctor.c \
	src/cli/engine.c \
	src/cli/job.c \
	src/cli/main.c \
	src/cli/mcp.c \
	src/cli/model.c \
	src/cli/options.c \
	src/cli/perplexity.c \
	src/cli/progress.c \
	src/cli/replay.c \
	src/cli/remote.c \
	src/cli/report.c \
	src/cli/run.c \
	src/cli/runs.c \
	src/cli/score.c \
	src/cli/serve.c \
	src/cli/show.c \
	src/cli/solve.c \
	src/cli/tokenize.c \
	src/cli/top.c \
	src/cli/trace.c \
	src/cli/tree.c \
	src/cli/ui.c
ponder_LDADD = $(PONDER_ARCHIVES) $(PONDER_LIBS)

# What completes the command line, installed where Debian's shells look, and as C strings for
# `ponder completion`.
EXTRA_DIST += src/cli/completion/ponder.bash
zshcompletiondir = $(datadir)/zsh/vendor-completions
dist_zshcompletion_DATA = src/cli/completion/_ponder
fishcompletiondir = $(datadir)/fish/vendor_completions.d
dist_fishcompletion_DATA = src/cli/completion/ponder.fish
bashcompletiondir = $(datadir)/bash-completion/completions
install-data-hook:
	$(MKDIR_P) '$(DESTDIR)$(bashcompletiondir)'
	$(INSTALL_DATA) $(srcdir)/src/cli/completion/ponder.bash '$(DESTDIR)$(bashcompletiondir)/ponder'
uninstall-hook:
	rm -f '$(DESTDIR)$(bashcompletiondir)/ponder'

cli/completion/bash.inc: $(srcdir)/src/cli/completion/ponder.bash
	$(C_STRING) $(srcdir)/src/cli/completion/ponder.bash >$@.tmp && mv $@.tmp $@
cli/completion/zsh.inc: $(srcdir)/src/cli/completion/_ponder
	$(C_STRING) $(srcdir)/src/cli/completion/_ponder >$@.tmp && mv $@.tmp $@
cli/completion/fish.inc: $(srcdir)/src/cli/completion/ponder.fish
	$(C_STRING) $(srcdir)/src/cli/completion/ponder.fish >$@.tmp && mv $@.tmp $@
COMPLETION_STRINGS = cli/completion/bash.inc cli/completion/zsh.inc cli/completion/fish.inc
src/cli/complete.$(OBJEXT): $(COMPLETION_STRINGS)
CLEANFILES += $(COMPLETION_STRINGS)

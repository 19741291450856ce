# strategies: one search algorithm per file. Adding one is one line in STRATEGY_SRCS: the table
# is generated from that list, each file x.c defining `const struct pd_strategy strategy_x`.
# Files that are not a strategy (the table itself, shared helpers, headers) go to the second list.
STRATEGY_SRCS = \
	strategies/best_of_n.c \
	strategies/self_consistency.c \
	strategies/single.c

strategies_libstrategies_a_SOURCES = $(STRATEGY_SRCS) \
	strategies/table.c
nodist_strategies_libstrategies_a_SOURCES = strategies/table.inc

strategies/table.inc: $(srcdir)/strategies/local.mk
	$(AM_V_GEN)$(MKDIR_P) $(@D) && for f in $(STRATEGY_SRCS); do \
	  b=$${f##*/}; echo "X($${b%.c})"; done >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += strategies/table.inc
CLEANFILES += strategies/table.inc

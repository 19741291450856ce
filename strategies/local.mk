# strategies: one search algorithm per file. Adding one is one line in STRATEGY_SRCS: the table
# is generated from that list, each file x.c defining `const struct pd_strategy strategy_x`.
# Files that are not a strategy (the table itself, shared helpers, headers) go to the second list.
STRATEGY_SRCS = \
	strategies/ab_mcts.c \
	strategies/adaptive_consistency.c \
	strategies/adaptive_restart.c \
	strategies/astar.c \
	strategies/beam.c \
	strategies/best_of_n.c \
	strategies/budget_force.c \
	strategies/compute_optimal.c \
	strategies/deepconf.c \
	strategies/dvts.c \
	strategies/early_stopping_consistency.c \
	strategies/elastic.c \
	strategies/first_finish.c \
	strategies/hedged.c \
	strategies/hogwild.c \
	strategies/lookahead.c \
	strategies/mbr.c \
	strategies/mcts.c \
	strategies/parallel_tempering.c \
	strategies/particle_filter.c \
	strategies/particle_gibbs.c \
	strategies/pipeline.c \
	strategies/resample_limit.c \
	strategies/revise.c \
	strategies/self_consistency.c \
	strategies/short_m_at_k.c \
	strategies/single.c \
	strategies/spec_reason.c \
	strategies/subtask_prune.c \
	strategies/trim.c

strategies_libstrategies_a_SOURCES = $(STRATEGY_SRCS) \
	strategies/ask.c \
	strategies/ask.h \
	strategies/beam.h \
	strategies/choose.c \
	strategies/choose.h \
	strategies/layers.c \
	strategies/layers.h \
	strategies/nested.c \
	strategies/nested.h \
	strategies/resample.c \
	strategies/resample.h \
	strategies/smc.c \
	strategies/smc.h \
	strategies/table.c \
	strategies/thompson.c \
	strategies/thompson.h
nodist_strategies_libstrategies_a_SOURCES = strategies/table.inc

strategies/table.inc: $(srcdir)/strategies/local.mk
	$(AM_V_GEN)$(MKDIR_P) $(@D) && for f in $(STRATEGY_SRCS); do \
	  b=$${f##*/}; echo "X($${b%.c})"; done >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += strategies/table.inc
CLEANFILES += strategies/table.inc

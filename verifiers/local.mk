# verifiers: one judge per file. Adding one is one line in VERIFIER_SRCS: the table
# is generated from that list, each file x.c defining `const struct pd_verifier verifier_x`.
# Files that are not a verifier (the table itself, shared helpers, headers) go to the second list.
VERIFIER_SRCS = \
	verifiers/judge.c \
	verifiers/mean_logprob.c \
	verifiers/oracle.c \
	verifiers/reward.c \
	verifiers/self_certainty.c \
	verifiers/tail_entropy.c

verifiers_libverifiers_a_SOURCES = $(VERIFIER_SRCS) \
	verifiers/next.c verifiers/next.h verifiers/reader.c verifiers/reader.h \
	verifiers/table.c
nodist_verifiers_libverifiers_a_SOURCES = verifiers/table.inc

verifiers/table.inc: $(srcdir)/verifiers/local.mk
	$(AM_V_GEN)$(MKDIR_P) $(@D) && for f in $(VERIFIER_SRCS); do \
	  b=$${f##*/}; echo "X($${b%.c})"; done >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += verifiers/table.inc
CLEANFILES += verifiers/table.inc

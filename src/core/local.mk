# src/core: job, search verbs, budget, trace, interfaces.
src_core_libcore_a_SOURCES =

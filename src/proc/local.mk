# src/proc: child processes in a sandbox.
src_proc_libproc_a_SOURCES = \
	src/proc/proc.h \
	src/proc/sandbox.c

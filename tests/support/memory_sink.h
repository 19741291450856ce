/* A sink (core/job.h) that keeps the stream of records in memory, in order, and gives back the
 * trace that storage would hold had the process died after any prefix of it. As in storage, a row
 * replaces the one of the same key, but calls, which add up. One thread. */
#ifndef PD_TESTS_MEMORY_SINK_H
#define PD_TESTS_MEMORY_SINK_H

#include "core/job.h"

struct memory_record;

struct memory_sink {
    struct pd_sink sink; /* hand &memory.sink to the job */
    struct pd_arena arena;
    struct memory_record **records;
    size_t n, cap;
    long fail_at; /* this record (0: the first of all) and all later ones fail with PD_EIO; -1: none
                   */
    bool broken;  /* an error sticks */
    size_t n_flush; /* calls of flush */
};

void memory_sink_init(struct memory_sink *m);
void memory_sink_done(struct memory_sink *m);
/* Forgets all but the first n records: the process died there. Traces taken before stay valid. */
void memory_sink_cut(struct memory_sink *m, size_t n);
/* What the first n records (at most all) add up to; lives until memory_sink_done. */
struct pd_trace *memory_sink_trace(struct memory_sink *m, size_t n);

#endif

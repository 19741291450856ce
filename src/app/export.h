/* Traces in other programs' forms, and back. */
#ifndef PD_APP_EXPORT_H
#define PD_APP_EXPORT_H

#include "app/app.h"

#define EXPORT_FORMATS "jsonl|otlp-json|inspect|perfetto"

/* Each appends one job to out; PD_ENOMEM sticks in out. texts: of the model, and of what it was
 * asked; without them they are null, or not there.
 *
 * jsonl: one record a line, as they are stored: job, nodes, scores, calls, events. import_jsonl
 * takes it back. array: the same as elements of one array.
 * otlp-json: a line of the OpenTelemetry protocol, one trace: the job as a span, its calls as
 * spans in it, by the conventions for generative AI; scores are events.
 * inspect: a log of one sample, as inspect_ai reads it.
 * perfetto: trace events, as Perfetto and chrome://tracing read them: calls over time. */
void export_jsonl(const struct pd_trace *t, bool texts, struct pd_buf *out);
void export_array(const struct pd_trace *t, struct pd_buf *out);
void export_otlp(const struct pd_trace *t, bool texts, struct pd_buf *out);
void export_inspect(const struct pd_trace *t, bool texts, struct pd_buf *out);
void export_perfetto(const struct pd_trace *t, struct pd_buf *out);

/* Stores the jobs of lines of jsonl, flushed, with their ids. A job's run is kept if the database
 * has it. PD_EFORMAT: what is wrong in which line; PD_EINVAL: such a job is there already, or what
 * a job's rows say is not what its digest was made of. Jobs before the bad one stay. */
int import_jsonl(struct store *s, struct pd_str text, uint64_t *out_n_jobs, struct pd_err *err);

#endif

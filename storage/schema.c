/* The tables. user_version counts their versions; a change appends a step to db.c and never edits
 * what has been released.
 *
 * - blob: every text, token array and request, once, by SHA-256 of its bytes. enc says how the
 * first user stored it: 'raw' bytes, 'i32' little-endian token numbers, 'f32' little-endian floats.
 * Equal bytes are one row whatever they mean, so a reader goes by the column that refers to it.
 * - node.parent is NULL for the root. node.call_id and score.call_id are call.seq, the number of
 * the call within its job, counted from 0 in order of storing.
 * - call.key is empty for local engines: their results are looked up by node.
 * - seeds are the 64 bits of an unsigned number; SQLite shows them signed. */
#include "storage/store_int.h"

const char store_schema_sql[] =
    "CREATE TABLE blob(id INTEGER PRIMARY KEY,"
    " sha256 BLOB NOT NULL UNIQUE CHECK(length(sha256)=32), size INTEGER NOT NULL,"
    " enc TEXT NOT NULL, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE artifact(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " sha256 BLOB, size INTEGER, mtime_ns INTEGER, meta TEXT NOT NULL DEFAULT '{}') STRICT;"
    "CREATE TABLE run(id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL,"
    " finished_ms INTEGER, status TEXT NOT NULL, recipe_id INTEGER NOT NULL REFERENCES blob(id),"
    " lock TEXT NOT NULL, seed INTEGER NOT NULL, host TEXT NOT NULL) STRICT;"
    "CREATE TABLE run_artifact(run_id TEXT NOT NULL REFERENCES run(id) ON DELETE CASCADE,"
    " artifact_id INTEGER NOT NULL REFERENCES artifact(id), role TEXT NOT NULL,"
    " PRIMARY KEY(run_id,artifact_id,role)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE job(id TEXT PRIMARY KEY, run_id TEXT REFERENCES run(id) ON DELETE CASCADE,"
    " problem_key TEXT, repeat INTEGER NOT NULL DEFAULT 0, strategy TEXT NOT NULL,"
    " options TEXT NOT NULL, model TEXT NOT NULL, scorer TEXT, seed INTEGER NOT NULL,"
    " status TEXT NOT NULL, stopped_by TEXT, idem_key TEXT UNIQUE,"
    " request_id INTEGER NOT NULL REFERENCES blob(id), budget TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, started_ms INTEGER, finished_ms INTEGER,"
    " answer_node INTEGER, answer TEXT, correct INTEGER, error TEXT, rng BLOB, peer_uid INTEGER,"
    " digest TEXT) STRICT;"
    "CREATE TABLE node(job_id TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,"
    " id INTEGER NOT NULL, parent INTEGER, depth INTEGER NOT NULL, step INTEGER NOT NULL,"
    " status TEXT NOT NULL, prune_reason TEXT, text_id INTEGER REFERENCES blob(id),"
    " tokens_id INTEGER REFERENCES blob(id), logprobs_id INTEGER REFERENCES blob(id),"
    " n_tokens INTEGER NOT NULL, logprob REAL, finish TEXT, stop TEXT, seed INTEGER NOT NULL,"
    " call_id INTEGER, visits INTEGER, value REAL, created_ms INTEGER NOT NULL,"
    " PRIMARY KEY(job_id,id)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE score(id INTEGER PRIMARY KEY, job_id TEXT NOT NULL, node_id INTEGER NOT NULL,"
    " scorer TEXT NOT NULL, kind TEXT NOT NULL, value REAL NOT NULL, steps TEXT, call_id INTEGER,"
    " UNIQUE(job_id,node_id,scorer),"
    " FOREIGN KEY(job_id,node_id) REFERENCES node(job_id,id) ON DELETE CASCADE) STRICT;"
    "CREATE TABLE call(id INTEGER PRIMARY KEY,"
    " job_id TEXT REFERENCES job(id) ON DELETE CASCADE, seq INTEGER NOT NULL,"
    " engine TEXT NOT NULL, dialect TEXT NOT NULL, op TEXT NOT NULL, model TEXT NOT NULL,"
    " attempt INTEGER NOT NULL, outcome TEXT NOT NULL, http INTEGER, key BLOB NOT NULL,"
    " request_id INTEGER REFERENCES blob(id), response_id INTEGER REFERENCES blob(id),"
    " prompt_tokens INTEGER, cached_tokens INTEGER, generated_tokens INTEGER,"
    " started_ms INTEGER NOT NULL, first_ms INTEGER, ended_ms INTEGER, error TEXT) STRICT;"
    "CREATE TABLE event(job_id TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,"
    " seq INTEGER NOT NULL, t_ms INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY(job_id,seq)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX job_status ON job(status,created_ms);"
    "CREATE INDEX job_created ON job(created_ms);"
    "CREATE INDEX job_run ON job(run_id);"
    "CREATE INDEX call_key ON call(key);"
    "CREATE UNIQUE INDEX call_job ON call(job_id,seq);"
    /* What a job cost. prompt_tokens counts whole prompts; what was not cached was computed. */
    "CREATE VIEW v_job_cost AS SELECT j.id AS job_id, j.run_id, j.problem_key, j.repeat,"
    " j.strategy, j.model, j.scorer, j.status, j.stopped_by, j.answer, j.correct,"
    " (SELECT count(*) FROM node n WHERE n.job_id=j.id) AS n_nodes, count(c.id) AS n_calls,"
    " coalesce(sum(c.prompt_tokens),0) AS prompt_tokens,"
    " coalesce(sum(c.cached_tokens),0) AS cached_tokens,"
    " coalesce(sum(c.generated_tokens),0) AS generated_tokens,"
    " coalesce(sum(CASE WHEN c.op<>'score' THEN c.prompt_tokens-c.cached_tokens END),0)"
    " AS prefilled_tokens,"
    " coalesce(sum(CASE WHEN c.op='score' THEN c.prompt_tokens-c.cached_tokens END),0)"
    " AS scored_tokens,"
    " j.finished_ms-j.started_ms AS wall_ms"
    " FROM job j LEFT JOIN call c ON c.job_id=j.id GROUP BY j.id;";

/* The tables. user_version counts their versions; a change appends a step to db.c and never edits
 * what has been released.
 *
 * - blob: every text, token array and request, once, by SHA-256 of its bytes. enc says how the
 * first user stored it: 'raw' bytes, 'i32' little-endian token numbers, 'f32' little-endian floats.
 * Equal bytes are one row whatever they mean, so a reader goes by the column that refers to it.
 * - node.parent is NULL for the root. node.call_id and score.call_id are call.seq, the number of
 * the call within its job, counted from 0 in order of storing.
 * - call.key is the SHA-256 of the request to an engine elsewhere, and empty for the local one. A
 * replay needs neither: results are looked up by node.
 * - seeds are the 64 bits of an unsigned number; SQLite shows them signed.
 * - submission: the jobs that were submitted to a daemon, in order; its queue is those of them that
 * wait or run.
 * - feed: what watchers of a job see, numbered from 1 without gaps. An entry names the row that it
 * tells of and repeats nothing of it but what the row may lose: ref is node.id, score.id, call.seq
 * or event.seq by the type; note is the reason of a pruning, the error or what stopped a job, the
 * tokens generated up to a 'budget' entry. Triggers write it, so whoever changes the rows cannot
 * forget it, and an entry is in the file exactly when its row is. */
#include "storage/store_int.h"

static const char version_1[] =
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

/* Milliseconds since 1970, once per statement. */
#define NOW_MS "CAST(round((julianday('now')-2440587.5)*86400000) AS INTEGER)"

/* In a trigger: one more entry of the job's feed, if `when` holds. */
#define FEED(job, type, ref, note, when)                                                           \
    "INSERT INTO feed SELECT " job ",coalesce((SELECT max(seq) FROM feed WHERE job_id=" job        \
    "),0)+1," NOW_MS "," type "," ref "," note " WHERE " when ";"

#define JOB_EVENT                                                                                  \
    FEED("NEW.id", "'answer.final'", "NEW.answer_node", "NULL",                                    \
         "NEW.status='done' AND NEW.answer_node IS NOT NULL")                                      \
    FEED("NEW.id", "'job.'||CASE NEW.status WHEN 'running' THEN 'started' ELSE NEW.status END",    \
         "NULL", "CASE NEW.status WHEN 'failed' THEN NEW.error ELSE NEW.stopped_by END", "1")

#define NODE_ENDED                                                                                 \
    FEED("NEW.job_id", "'answer.candidate'", "NEW.id", "NULL", "NEW.status='finished'")            \
    FEED("NEW.job_id", "'node.pruned'", "NEW.id", "NEW.prune_reason", "NEW.status='pruned'")

/* The newest entry of that type. */
#define LATEST(column, type)                                                                       \
    "(SELECT " column " FROM feed INDEXED BY feed_latest WHERE job_id=NEW.job_id AND type='" type  \
    "' ORDER BY seq DESC LIMIT 1)"

static const char version_2[] =
    "CREATE TABLE submission(seq INTEGER PRIMARY KEY,"
    " job_id TEXT NOT NULL UNIQUE REFERENCES job(id) ON DELETE CASCADE, client TEXT NOT NULL,"
    " priority INTEGER NOT NULL, attached INTEGER NOT NULL, body_sha256 BLOB NOT NULL) STRICT;"
    "CREATE TABLE feed(job_id TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,"
    " seq INTEGER NOT NULL, t_ms INTEGER NOT NULL, type TEXT NOT NULL, ref INTEGER, note TEXT,"
    " PRIMARY KEY(job_id,seq)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX feed_latest ON feed(job_id,type,seq)"
    " WHERE type='budget' OR type='job.started';"
    /* Jobs that are there already: in the order of their nodes, as nobody knows a better one. */
    "INSERT INTO feed(job_id,seq,t_ms,type,ref,note)"
    " SELECT job,row_number() OVER (PARTITION BY job ORDER BY part,node,kind,ref),t,type,ref,note"
    " FROM (SELECT id AS job,0 AS part,0 AS node,0 AS kind,coalesce(started_ms,created_ms) AS t,"
    "  'job.started' AS type,NULL AS ref,NULL AS note FROM job"
    " UNION ALL SELECT job_id,1,id,0,created_ms,'node.added',id,NULL FROM node"
    " UNION ALL SELECT job_id,1,id,1,created_ms,'answer.candidate',id,NULL FROM node"
    "  WHERE status='finished'"
    " UNION ALL SELECT s.job_id,1,s.node_id,2,n.created_ms,'node.scored',s.id,NULL FROM score s"
    "  JOIN node n ON n.job_id=s.job_id AND n.id=s.node_id"
    " UNION ALL SELECT job_id,1,id,3,created_ms,'node.pruned',id,prune_reason FROM node"
    "  WHERE status='pruned'"
    " UNION ALL SELECT id,2,0,0,coalesce(finished_ms,created_ms),'answer.final',answer_node,NULL"
    "  FROM job WHERE status='done' AND answer_node IS NOT NULL"
    " UNION ALL SELECT id,2,0,1,coalesce(finished_ms,created_ms),'job.'||status,NULL,"
    "  CASE status WHEN 'failed' THEN error ELSE stopped_by END FROM job WHERE status<>'running');"
    "CREATE TRIGGER feed_job_added AFTER INSERT ON job BEGIN " JOB_EVENT "END;"
    "CREATE TRIGGER feed_job_changed AFTER UPDATE OF status ON job WHEN OLD.status<>NEW.status"
    " BEGIN " JOB_EVENT "END;"
    "CREATE TRIGGER feed_node_added AFTER INSERT ON node BEGIN " FEED(
        "NEW.job_id", "'node.added'", "NEW.id", "NULL", "1") NODE_ENDED
    "END;"
    "CREATE TRIGGER feed_node_changed AFTER UPDATE OF status ON node WHEN OLD.status<>NEW.status"
    " BEGIN " NODE_ENDED "END;"
    "CREATE TRIGGER feed_score_added AFTER INSERT ON score BEGIN " FEED(
        "NEW.job_id", "'node.scored'", "NEW.id", "NULL",
        "1") "END;"
             "CREATE TRIGGER feed_call_added AFTER INSERT ON call WHEN NEW.job_id IS NOT NULL "
             "AND " NOW_MS ">=coalesce(" LATEST("t_ms", "budget") ",0)+1000 BEGIN " FEED(
                 "NEW.job_id", "'budget'", "NEW.seq",
                 "coalesce(" LATEST("note",
                                    "budget") ",0)+(SELECT sum(generated_tokens) FROM call WHERE"
                                              " job_id=NEW.job_id AND seq>coalesce(" LATEST(
                                                  "ref", "budget") ",-1))",
                 "1") "END;"
                      "CREATE TRIGGER feed_event_added AFTER INSERT ON event WHEN "
                      "NEW.type='engine.retry' BEGIN " FEED("NEW.job_id", "NEW.type", "NEW.seq",
                                                            "NULL", "1") "END;";

/* job.variant: which of a recipe's strategies and parameters the job tries. */
static const char version_3[] =
    "ALTER TABLE job ADD COLUMN variant TEXT;"
    /* Accuracy against cost, a row for each variant of a run. */
    "CREATE VIEW v_scaling AS SELECT run_id,variant,count(*) AS jobs,sum(correct) AS correct,"
    " avg(correct) AS accuracy,avg(generated) AS generated_tokens,max(generated) AS most_tokens"
    " FROM (SELECT run_id,variant,correct,(SELECT coalesce(sum(generated_tokens),0) FROM call c"
    "  WHERE c.job_id=j.id) AS generated FROM job j WHERE run_id IS NOT NULL AND status='done')"
    " GROUP BY run_id,variant;"
    /* By whom a blob is used: so that it can go with its last user, and SQLite need not look
     * through whole tables for those that a foreign key protects. */
    "CREATE INDEX node_text ON node(text_id);"
    "CREATE INDEX node_tokens ON node(tokens_id) WHERE tokens_id IS NOT NULL;"
    "CREATE INDEX node_logprobs ON node(logprobs_id) WHERE logprobs_id IS NOT NULL;"
    "CREATE INDEX job_request ON job(request_id);"
    "CREATE INDEX call_request ON call(request_id) WHERE request_id IS NOT NULL;"
    "CREATE INDEX call_response ON call(response_id) WHERE response_id IS NOT NULL;"
    "CREATE INDEX run_recipe ON run(recipe_id);";

/* job.sequential: tokens of the longest chain of dependent decode steps. node.confidences_id: how
 * sure the model was of each token, where a strategy goes by it. */
static const char version_4[] =
    "ALTER TABLE job ADD COLUMN sequential INTEGER;"
    "ALTER TABLE node ADD COLUMN confidences_id INTEGER REFERENCES blob(id);"
    "CREATE INDEX node_confidences ON node(confidences_id) WHERE confidences_id IS NOT NULL;";

const char *const store_schema_steps[STORE_USER_VERSION] = {version_1, version_2, version_3,
                                                            version_4};

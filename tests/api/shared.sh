#!/bin/sh
# What the daemon shares with other processes, and how it ends: followers of jobs that run elsewhere,
# texts that nobody uses, SIGTERM with streams open. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
export PONDER_THREADS=1 XDG_CONFIG_HOME="$tmp/config"
has() { grep -q "$1" "$tmp/out"; } # an expression
question='"model":"tiny-base","messages":[{"role":"user","content":"What is 3 + 4?"}]'
many='{'$question',"ponder":{"strategy":"self_consistency","options":{"samples":200},"seed":3}}'
follow() # ID: its events into the file `events`, in the background
{
    curl -sN --max-time 120 --unix-socket "$socket" "http://localhost/v1/jobs/$1/events" \
        >"$tmp/events" 2>/dev/null &
    follower=$!
    until grep -q 'event: job.paused' "$tmp/events"; do sleep 0.05; done
}
paused_job() # submits one and pauses it, in $id
{
    post /v1/jobs "$many"
    id=$(field id)
    api POST "/v1/jobs/$id/pause" -H 'Content-Type: application/json' -d '{}'
    has '"status":"paused"'
}

# ---- a follower here, the job elsewhere
start_daemon
point 'the daemon serves' $?
paused_job
point 'a job that waits' $?
follow "$id"
run solve --resume "$id" --json && has '"status":"done"'
point 'another process runs it' $?
wait "$follower" && grep -q 'event: job.done' "$tmp/events" &&
    [ "$(grep -c 'event: node.added' "$tmp/events")" = 201 ]
point 'the follower sees all of it, to its end' $?

# ---- texts that nobody uses
run trace gc --json && [ "$(cat "$tmp/out")" = '{"freed":0,"bytes":0}' ]
point 'gc beside the daemon: everything is in use' $?
api DELETE "/v1/jobs/$id" && [ "$status" = 204 ] && run trace gc --json &&
    [ "$(cat "$tmp/out")" = '{"freed":0,"bytes":0}' ] && run trace verify
point 'DELETE leaves nothing for gc' $?
free_pages() # of the database, with what its log still holds
{
    "${PYTHON:-python3}" -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA freelist_count").fetchone()[0])' "$tmp/data/ponder.db"
}
[ "$(free_pages)" -gt 0 ] && run trace gc --shrink && grep -q '^freed 0 texts' "$tmp/out" && [ "$(free_pages)" -eq 0 ]
point 'gc --shrink leaves no free page' $?

# ---- the end with a stream open and nothing running
stop_daemon
start_daemon --drain-timeout 1000
paused_job
follow "$id"
kill "$daemon"
i=0
while kill -0 "$daemon" 2>/dev/null && [ $i -lt 600 ]; do # far less than it would wait
    sleep 0.05
    i=$((i + 1))
done
! kill -0 "$daemon" 2>/dev/null
point 'SIGTERM does not wait for who only watches' $?
kill -KILL "$daemon" 2>/dev/null
wait "$daemon"
daemon=
wait "$follower"
start_daemon
api GET "/v1/jobs/$id" && has '"status":"paused"'
point 'the job is as it was' $?
stop_daemon
point 'SIGTERM' $?
described
finish

#!/bin/sh
# What the daemon shares with other processes, and how it ends: followers of jobs that run elsewhere,
# texts that nobody uses, SIGTERM with streams open. TAP.
ponder=${PONDER_TEST_BUILDDIR:-.}/ponder
tmp=$(mktemp -d) || exit 1
export PONDER_DATA_DIR="$tmp/data" XDG_RUNTIME_DIR="$tmp" XDG_CONFIG_HOME="$tmp/config"
export PONDER_THREADS=1
unset PONDER_CONFIG PONDER_HOST PONDER_SEED PONDER_STRATEGY PONDER_OPTION PONDER_PROBLEM
daemon=
trap 'stop_daemon; rm -rf "$tmp"' EXIT

n=0
failed=0
point() # NAME STATUS
{
    n=$((n + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $n - $1"
        return
    fi
    failed=1
    echo "not ok $n - $1"
    head -c 2000 "$tmp/out" | sed 's/^/# /'
    echo
    head -n 5 "$tmp/err" | sed 's/^/# /'
}
socket=$tmp/ponder/ponder.sock
start_daemon() # ARGUMENTS...
{
    "$ponder" serve "$@" 2>>"$tmp/log" &
    daemon=$!
    until curl -sf --unix-socket "$socket" http://localhost/health >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || { sed 's/^/# /' "$tmp/log"; return 1; }
        sleep 0.05
    done
}
stop_daemon() # its exit code
{
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null
    wait "$daemon"
    code=$?
    daemon=
    return $code
}
# api METHOD PATH [CURL'S ARGUMENTS...]: body in out, status in $status
api()
{
    method=$1
    path=$2
    shift 2
    status=$(curl -s --unix-socket "$socket" -X "$method" -o "$tmp/out" -D "$tmp/headers" \
        -w '%{http_code}' "$@" "http://localhost$path" 2>"$tmp/err")
}
post() # PATH BODY [CURL'S ARGUMENTS...]
{
    path=$1
    printf '%s' "$2" >"$tmp/body"
    shift 2
    api POST "$path" -H 'Content-Type: application/json' --data-binary "@$tmp/body" "$@"
}
has() { grep -q "$1" "$tmp/out"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$tmp/out" | head -n 1; }
run() { "$ponder" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; }
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
before=$(stat -c %s "$tmp/data/ponder.db")
run trace gc --shrink && grep -q '^freed 0 texts' "$tmp/out" &&
    [ "$(stat -c %s "$tmp/data/ponder.db")" -lt "$before" ]
point 'gc --shrink makes the file smaller' $?

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
echo "1..$n"
exit $failed

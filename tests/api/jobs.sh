#!/bin/sh
# The daemon's job routes with curl, and `ponder job` and `ponder solve --host` as clients of it. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
PONDER_THREADS=1
has() { grep -q "$1" "$tmp/out"; }
# refused STATUS CODE PARAM: what the last answer was
refused()
{
    [ "$status" = "$1" ] && has "\"code\":\"$2\"" && has "\"param\":$3" && has '"request_id":"'
}

question='"model":"tiny-base","messages":[{"role":"user","content":"What is 3 + 4?"}]'
small='{'$question',"ponder":{"strategy":"self_consistency","options":{"samples":4},"seed":3}}'
large='{'$question',"ponder":{"strategy":"mcts","options":{"samples":100},"seed":3}}'
endless='{'$question',"ponder":{"strategy":"mcts","options":{"samples":100000},"seed":3}}'

start_daemon --max-jobs 1 --max-queue 3
point 'the daemon serves' $?

# ---- submitting and looking
post /v1/jobs "$small"
id=$(field id)
[ "$status" = 202 ] && grep -qi "^location: /v1/jobs/$id" "$tmp/headers" && has '"object":"job"'
point 'POST /v1/jobs: 202 and where it is' $?
api GET "/v1/jobs/$id/events"
[ "$status" = 200 ] && grep -qi '^content-type: text/event-stream' "$tmp/headers"
point 'events: a stream that ends with the job' $?
cp "$tmp/out" "$tmp/events"
sed -n 's/^id: //p' "$tmp/events" | awk '$1 != NR { exit 1 } END { exit NR < 10 }'
point 'events are numbered from 1 without gaps' $?
sed -n 's/^event: //p' "$tmp/events" >"$tmp/types"
[ "$(head -n 1 "$tmp/types")" = job.queued ] && [ "$(sed -n 2p "$tmp/types")" = job.started ] &&
    [ "$(tail -n 1 "$tmp/types")" = job.done ] && [ "$(grep -c node.added "$tmp/types")" = 5 ] &&
    [ "$(grep -c answer.candidate "$tmp/types")" = 4 ] && grep -q answer.final "$tmp/types"
point 'events: queued, started, a node for each line, the answer, done' $?
api GET "/v1/jobs/$id/events" -H 'Last-Event-ID: 4'
sed -n '/^id: 5$/,$p' "$tmp/events" | cmp - "$tmp/out" >"$tmp/err"
point 'Last-Event-ID: the rest, byte for byte' $?
api GET "/v1/jobs/$id/events?since=4"
sed -n '/^id: 5$/,$p' "$tmp/events" | cmp - "$tmp/out" >"$tmp/err"
point '?since= too' $?
api GET "/v1/jobs/$id/events?since=999999"
[ "$status" = 200 ] && [ ! -s "$tmp/out" ]
point 'past the end of a job that ended: nothing, and the end' $?
api GET "/v1/jobs/$id"
digest=$(field digest)
[ "$status" = 200 ] && has '"status":"done"' && has '"stopped_by":"answer"' && [ -n "$digest" ]
point 'GET: its state' $?
api GET "/v1/jobs/$id/answer" && [ "$status" = 200 ] && has "\"digest\":\"$digest\"" && has '"answer":"' &&
    has '"support":{'
point 'answer' $?
api GET "/v1/jobs/$id/tree" && has '"children":\[{' && has '"nodes_total":5'
point 'tree, nested' $?
api GET "/v1/jobs/$id/tree?form=flat&max=3" && [ "$(grep -o '"node":' "$tmp/out" | wc -l)" = 3 ]
point 'tree, flat, at most 3 nodes' $?
api GET "/v1/jobs/$id/tree?depth=0" && has '"children":\[\]'
point 'tree, to a depth' $?
api GET "/v1/jobs/$id/calls" && [ "$(grep -o '"op":"generate"' "$tmp/out" | wc -l)" = 4 ]
point 'calls' $?

# ---- idempotency
post /v1/jobs "$small" -H 'Idempotency-Key: k 1'
first=$(field id)
[ "$status" = 202 ]
point 'a key: the first time 202' $?
post /v1/jobs "$small" -H 'Idempotency-Key: k 1'
[ "$status" = 200 ] && [ "$(field id)" = "$first" ]
point 'the same body: 200 and the same job' $?
post /v1/jobs "$large" -H 'Idempotency-Key: k 1'
refused 409 idempotency_mismatch null
point 'another body: 409' $?

# ---- what is refused
post /v1/jobs '{"model":"tiny-base"}'
refused 400 missing_field '"messages"'
point 'no messages' $?
post /v1/jobs '{'"$question"',"ponder":{"budget":{"tokens":0}}}'
refused 400 out_of_range '"ponder.budget.tokens"'
point 'a budget of nothing' $?
post /v1/jobs '{'"$question"',"ponder":{"strategi":"beam"}}'
refused 400 unknown_field '"ponder.strategi"'
point 'an unknown field' $?
post /v1/jobs '{'"$question"',"colour":1}'
[ "$status" = 400 ] && has unknown_field
point 'an unknown field at the top' $?
post /v1/jobs '{"a":1,"a":2}'
refused 400 bad_json null
point 'a key twice' $?
post /v1/jobs '{"model":"no-such","messages":[{"role":"user","content":"x"}]}'
[ "$status" = 404 ] && has model_not_found
point 'a model that is not there' $?
api POST /v1/jobs -H 'Content-Type: text/plain' -d x
refused 415 content_type null
point 'not JSON' $?
for path in /v1/jobs/job_0 /v1/jobs/job_0/events /v1/jobs/job_0/tree /v1/jobs/job_0/answer; do
    api GET "$path"
    refused 404 job_not_found null
    point "GET $path" $?
done
api POST /v1/jobs/job_0/cancel
refused 404 job_not_found null
point 'cancelling what is not there' $?
api GET "/v1/jobs?status=asleep"
refused 400 unsupported_value '"status"'
point 'a list of no status' $?
api GET "/v1/jobs?cursor=x"
refused 400 unsupported_value '"cursor"'
point 'no cursor' $?

# ---- steering
"$ponder" job wait "$first" >/dev/null 2>&1
post /v1/jobs "$endless" && running=$(field id)
until api GET "/v1/jobs/$running" && has '"status":"running"'; do sleep 0.02; done
api GET "/v1/jobs/$running/answer"
refused 409 bad_state null
point 'a job that runs has no answer yet' $?
post /v1/jobs "$small" && waiting=$(field id)
post /v1/jobs "$small" && removed=$(field id)
post /v1/jobs "$small" && other=$(field id)
post /v1/jobs "$small"
refused 429 queue_full null && grep -qi '^retry-after: [0-9]' "$tmp/headers"
point 'the queue is full: 429' $?
api POST "/v1/jobs/$waiting/pause" && has '"status":"paused"'
point 'pausing one that waits' $?
api POST "/v1/jobs/$waiting/pause" && has '"status":"paused"' && [ "$status" = 200 ]
point 'twice' $?
api DELETE "/v1/jobs/$removed"
[ "$status" = 204 ] && api GET "/v1/jobs/$removed" && [ "$status" = 404 ]
point 'removing one that waits' $?
api POST "/v1/jobs/$running/pause" && has '"status":"paused"' && has '"finished_ms":null'
point 'pausing the one that runs' $?
api GET "/v1/jobs?status=paused&limit=1" && has '"object":"list"' && [ "$(field id)" = "$waiting" ]
point 'the list has what is paused, newest first' $?
"$ponder" job wait "$other" >/dev/null 2>&1
point 'the next one runs' $?
api POST "/v1/jobs/$running/resume" && has '"status":"\(queued\|running\)"' && [ "$status" = 200 ]
point 'resuming' $?
api POST "/v1/jobs/$running/cancel" && has '"status":"cancelled"' && has '"stopped_by":"user"'
point 'cancelling it' $?
api POST "/v1/jobs/$running/cancel" && has '"status":"cancelled"' && [ "$status" = 200 ] &&
    api POST "/v1/jobs/$running/resume" && has '"status":"cancelled"'
point 'what ended stays as it is' $?
api GET "/v1/jobs/$running/events" && tail -n 4 "$tmp/out" | grep -q '^event: job.cancelled'
point 'its events end with that' $?
api DELETE "/v1/jobs/$running"
[ "$status" = 204 ] && api DELETE "/v1/jobs/$running" && [ "$status" = 404 ]
point 'removing it' $?
api POST "/v1/jobs/$waiting/resume" && "$ponder" job wait "$waiting" >/dev/null 2>&1
point 'what was paused goes on' $?

post /v1/jobs "$large" && running=$(field id)
curl -sN --unix-socket "$socket" "http://localhost/v1/jobs/$running/events" >"$tmp/live" 2>/dev/null &
reader=$!
until grep -q '^event: job.started' "$tmp/live"; do sleep 0.02; done
for i in 1 2 3; do
    api POST "/v1/jobs/$running/pause" && api POST "/v1/jobs/$running/resume"
done
wait "$reader"
sed -n 's/^id: //p' "$tmp/live" | awk '$1 != NR { exit 1 } END { exit NR < 100 }' &&
    [ "$(sed -n 's/^event: //p' "$tmp/live" | tail -n 1)" = job.done ]
point 'one stream saw all of it: started, paused, resumed, done' $?
want=$(PONDER_DATA_DIR="$tmp/alone" "$ponder" solve -s mcts -o samples=100 --seed 3 \
    --json 'What is 3 + 4?' 2>/dev/null | sed -n 's/.*"digest":"\([^"]*\)".*/\1/p')
api GET "/v1/jobs/$running" && [ -n "$want" ] && [ "$(field digest)" = "$want" ]
point 'its digest is that of an undisturbed embedded run' $?

# ---- pages of a list
: >"$tmp/ids"
cursor=
while :; do
    api GET "/v1/jobs?limit=2${cursor:+&cursor=$cursor}"
    grep -o '"id":"job_[^"]*"' "$tmp/out" >>"$tmp/ids"
    cursor=$(field next_cursor)
    [ -n "$cursor" ] || break
done
[ "$(wc -l <"$tmp/ids")" = 5 ] && [ "$(sort -u "$tmp/ids" | wc -l)" = 5 ]
point 'a list page by page: each job once' $?

# ---- ponder job
id=$("$ponder" job submit -s self_consistency -o samples=4 --seed 3 'What is 3 + 4?' 2>"$tmp/err")
run job wait "$id" && run job show "$id" && has "^digest *$digest"
point 'job submit, wait, show: the same digest' $?
run job show --json "$id" && has "\"digest\":\"$digest\""
point 'job show --json' $?
run job watch "$id" && [ "$(sed -n '1s/ *\([0-9]*\) *\([a-z.]*\).*/\1 \2/p' "$tmp/out")" = '1 job.queued' ] &&
    tail -n 1 "$tmp/out" | grep -q 'job.done'
point 'job watch' $?
run job watch --json --since 2 "$id" && head -n 1 "$tmp/out" | grep -q '^{"event":"node.added","seq":3,' &&
    [ "$(grep -vc '^{"event".*}$' "$tmp/out")" = 0 ]
point 'job watch --json --since' $?
run job ls --status done --limit 2 && [ "$(wc -l <"$tmp/out")" = 2 ] && head -n 1 "$tmp/out" | grep -q "^$id "
point 'job ls' $?
run job ls --json --limit 0 && [ "$(grep -c '"object":"job"' "$tmp/out")" = 6 ]
point 'job ls --json: all' $?
printf '%s' "$endless" >"$tmp/job.json"
run job submit -f "$tmp/job.json" --idempotency-key k2 --json && has '"status":"' && id=$(field id)
point 'job submit -f --idempotency-key' $?
run job pause "$id" && has "^$id paused" && run job resume "$id"
point 'job pause, resume' $?
run job wait --timeout 0.001 "$id"
[ $? = 4 ] && grep -q 'time to wait is over' "$tmp/err"
point 'job wait --timeout: exit 4' $?
run job cancel "$id" && has "^$id cancelled"
point 'job cancel' $?
run job wait "$id"
[ $? = 6 ]
point 'job wait of a cancelled one: exit 6' $?
run job rm "$id" && has "^$id removed" && ! run job rm "$id" && grep -q 'there is no job' "$tmp/err"
point 'job rm' $?
run job show job_0
[ $? = 3 ]
point 'no such job: exit 3' $?
run --host "unix://$tmp/nobody" job ls
[ $? = 4 ] && grep -q 'no daemon answers at' "$tmp/err"
point 'no daemon: exit 4' $?
run job fly
[ $? = 2 ]
point 'no such verb: exit 2' $?

# ---- solve --host: what an embedded run prints
same() # ARGUMENTS...: standard output but for times, ids and what the daemon's cache had already
{
    PONDER_DATA_DIR="$tmp/alone" "$ponder" solve "$@" 2>/dev/null >"$tmp/embedded"
    code=$?
    "$ponder" --host "unix://$socket" solve "$@" >"$tmp/out" 2>"$tmp/err"
    [ $? = $code ] && clean <"$tmp/embedded" >"$tmp/a" && clean <"$tmp/out" >"$tmp/b" &&
        diff "$tmp/a" "$tmp/b" >"$tmp/err"
    point "solve --host $*" $?
}
clean()
{
    sed 's/job_[0-9A-Z]*/ID/g; s/^time .*//; s/"elapsed_ms":[0-9]*/T/
        s/[0-9]* prefilled, [0-9]* cached, [0-9]* scored/C/; s/([0-9]* cached)/C/
        s/"prefilled":[0-9]*,"cached":[0-9]*,"scored":[0-9]*/C/'
}
same -p dev-0003 -o samples=4
same -p dev-0003 -o samples=4 --json
same -p dev-0003 -s beam -o width=2 -o expand=2 --show tree --usage
same --show answer -s single 'What is 12 + 30?'
same -s single --expect 1234 'What is 12 + 30?'
same -q --budget-tokens 5 -s single --system 'Be brief.' 'What is 12 + 30?'
PONDER_HOST="unix://$tmp/nobody" run solve --no-daemon -s single 'What is 1 + 1?'
point 'solve --no-daemon' $?
run --host "unix://$socket" solve --no-trace 'x'
[ $? = 2 ] && grep -q "daemon's to decide" "$tmp/err"
point 'what the daemon decides is refused' $?
run --host "unix://$socket" trace ls
[ $? = 2 ]
point 'verbs that work on files say so' $?

# ---- the end and a new start
post /v1/jobs "$large" && running=$(field id)
post /v1/jobs "$small" && waiting=$(field id)
stop_daemon
code=$?
cp "$tmp/log" "$tmp/err"
[ "$code" = 0 ]
point 'SIGTERM: a clean end' $?
start_daemon --max-jobs 2 --listen unix --listen http://127.0.0.1:0
run job wait "$running" && run job wait "$waiting" && run job show --json "$running" &&
    [ "$(field digest)" = "$want" ]
point 'what ran or waited at the end goes on, with the same digest' $?
port=$(sed -n 's/.*http:\/\/127.0.0.1:\([0-9]*\).*/\1/p' "$tmp/log" | tail -n 1)
run --host "http://127.0.0.1:$port" job show "$running" && has "^digest *$want"
point 'over TCP, with the token' $?
PONDER_TOKEN_FILE=/dev/null run --host "http://127.0.0.1:$port" job show "$running"
[ $? = 7 ]
point 'without it: exit 7' $?
stop_daemon
point 'and again' $?
run trace verify
point 'the database is whole' $?
described
finish

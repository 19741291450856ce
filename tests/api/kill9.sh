#!/bin/sh
# kill -9 of the daemon at random moments while clients submit jobs: what was acknowledged is there, once, and
# ends with the digest it would have had. TAP. PONDER_TEST_KILLS or the first argument: how many kills (30).
ponder=${PONDER:-$PONDER_TEST_BUILDDIR/ponder}
tmp=$(mktemp -d) || exit 1
export PONDER_DATA_DIR="$tmp/data" XDG_RUNTIME_DIR="$tmp" PONDER_THREADS=1
unset PONDER_HOST PONDER_SEED PONDER_STRATEGY PONDER_OPTION PONDER_PROBLEM
daemon=
client=
trap 'kill -9 $daemon $client 2>/dev/null; wait 2>/dev/null; rm -rf "$tmp"' EXIT
kills=${1:-${PONDER_TEST_KILLS:-30}}
seeds='1 2 3 4 5'
question='What is 3 + 4?'
socket=$tmp/ponder/ponder.sock

start_daemon()
{
    "$ponder" serve --max-jobs 2 --max-queue 10000 -q 2>>"$tmp/log" &
    daemon=$!
    until curl -sf --unix-socket "$socket" http://localhost/health >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || return 1
        sleep 0.02
    done
}
# A client that does not give up: each job under a key of its own, until that is acknowledged.
submit_jobs()
{
    k=0
    while [ ! -e "$tmp/stop" ]; do
        k=$((k + 1))
        seed=$((k % 5 + 1))
        body='{"model":"tiny-base","messages":[{"role":"user","content":"'$question'"}],"ponder":
            {"strategy":"best_of_n","options":{"samples":24},"seed":'$seed',"priority":'$((k % 3))'}}'
        until id=$(curl -sf --max-time 10 --unix-socket "$socket" -H 'Content-Type: application/json' \
            -H "Idempotency-Key: key-$k" -d "$body" http://localhost/v1/jobs |
            sed -n 's/^{"id":"\([^"]*\)".*/\1/p') && [ -n "$id" ]; do
            sleep 0.02
        done
        echo "$id $seed" >>"$tmp/acknowledged"
        sleep 0.1
    done
}

echo 1..4
for seed in $seeds; do
    PONDER_DATA_DIR="$tmp/alone" "$ponder" solve -s best_of_n -o samples=24 --seed $seed --json "$question" \
        2>/dev/null | sed -n 's/.*"digest":"\([^"]*\)".*/'$seed' \1/p' >>"$tmp/want"
done
: >"$tmp/acknowledged"
submit_jobs &
client=$!
n=0
while [ "$n" -lt "$kills" ]; do
    start_daemon || break
    n=$((n + 1))
    sleep "$(awk "BEGIN { print $((n * 37 % 100)) / 100 }")"
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null
done
[ "$n" = "$kills" ] && echo "ok 1 - the daemon starts after every kill" || {
    echo "not ok 1 - the daemon starts after every kill"
    sed 's/^/# /' "$tmp/log"
}
start_daemon
: >"$tmp/stop"
wait "$client"
client=
jobs=$(wc -l <"$tmp/acknowledged")
whole=1
while read -r id seed; do
    "$ponder" job wait "$id" >/dev/null 2>"$tmp/err"
    got=$("$ponder" job show --json "$id" 2>>"$tmp/err" | sed -n 's/.*"digest":"\([^"]*\)".*/\1/p')
    want=$(sed -n "s/^$seed //p" "$tmp/want")
    [ -n "$got" ] && [ "$got" = "$want" ] && continue
    whole=0
    echo "# job $id of seed $seed: digest '$got', expected '$want'"
    sed 's/^/# /' "$tmp/err"
done <"$tmp/acknowledged"
echo "# $n kills, $jobs jobs acknowledged"
[ "$whole" = 1 ] && [ "$jobs" -gt 0 ] && echo "ok 2 - every acknowledged job ends as it would have" ||
    echo "not ok 2 - every acknowledged job ends as it would have"
stored=$("$ponder" job ls --json --limit 0 | wc -l)
[ "$stored" = "$jobs" ] && [ "$(cut -d ' ' -f 1 "$tmp/acknowledged" | sort -u | wc -l)" = "$jobs" ] &&
    echo "ok 3 - a job for each key and no other" ||
    echo "not ok 3 - a job for each key and no other: $stored stored, $jobs acknowledged"
kill "$daemon"
wait "$daemon" 2>/dev/null
daemon=
"$ponder" trace verify >"$tmp/out" 2>&1 && echo "ok 4 - the database is whole" || {
    echo "not ok 4 - the database is whole"
    sed 's/^/# /' "$tmp/out"
}

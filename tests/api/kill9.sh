#!/bin/sh
# kill -9 of the daemon at random moments while clients submit jobs: what was acknowledged is there, once, and
# ends with the digest it would have had. TAP. PONDER_TEST_KILLS or the first argument: how many kills (30).
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
PONDER_THREADS=1
client=
trap 'kill $client 2>/dev/null; stop_daemon KILL; rm -rf "$tmp"' EXIT
kills=${1:-${PONDER_TEST_KILLS:-30}}
seeds='1 2 3 4 5'
question='What is 3 + 4?'
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

for seed in $seeds; do
    PONDER_DATA_DIR="$tmp/alone" "$ponder" solve -s best_of_n -o samples=24 --seed $seed --json "$question" \
        2>/dev/null | sed -n 's/.*"digest":"\([^"]*\)".*/'$seed' \1/p' >>"$tmp/want"
done
: >"$tmp/acknowledged"
submit_jobs &
client=$!
started=0
while [ "$started" -lt "$kills" ]; do
    start_daemon --max-jobs 2 --max-queue 10000 -q || break
    started=$((started + 1))
    sleep "$(awk "BEGIN { print $((started * 37 % 100)) / 100 }")"
    stop_daemon KILL
done
[ "$started" = "$kills" ]
point 'the daemon starts after every kill' $?
start_daemon --max-jobs 2 --max-queue 10000 -q
: >"$tmp/stop"
wait "$client"
client=
jobs=$(wc -l <"$tmp/acknowledged")
whole=1
while read -r id seed; do
    "$ponder" job wait "$id" >/dev/null 2>"$tmp/err"
    run job show --json "$id"
    got=$(field digest)
    want=$(sed -n "s/^$seed //p" "$tmp/want")
    [ -n "$got" ] && [ "$got" = "$want" ] && continue
    whole=0
    echo "# job $id of seed $seed: digest '$got', expected '$want'"
done <"$tmp/acknowledged"
echo "# $kills kills, $jobs jobs acknowledged"
[ "$whole" = 1 ] && [ "$jobs" -gt 0 ]
point 'every acknowledged job ends as it would have' $?
run job ls --json --limit 0
[ "$(wc -l <"$tmp/out")" = "$jobs" ] && [ "$(cut -d ' ' -f 1 "$tmp/acknowledged" | sort -u | wc -l)" = "$jobs" ]
point 'a job for each key and no other' $?
stop_daemon
run trace verify
point 'the database is whole' $?
finish

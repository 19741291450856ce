#!/bin/sh
# `ponder top` against a daemon with work: once, as JSON, and on a terminal that is a pseudo one. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
PONDER_THREADS=1
fails 4 'no daemon answers' top --once
fails 2 'top takes no arguments' top now

start_daemon --max-jobs 1
run top
[ $? -eq 0 ] && has 'jobs     0 running, 0 waiting' && has 'JOB '
point 'off a terminal: one table, without jobs' $?
first=$("$ponder" job submit -s mcts -o samples=100000 --budget-tokens 900000 'What is 3 + 4?')
second=$("$ponder" job submit -s mcts -o samples=100000 'What is 4 + 4?')
live() { api GET "/v1/jobs/$first" && has '"progress":{"live":' && ! has '"tokens":0,"best"'; }
eventually live
point 'a job that runs tells what it is at' $?
api GET "/v1/jobs/$second"
has '"progress":null'
point 'one that waits does not' $?
run top --once
has 'jobs     1 running, 1 waiting' && grep -q "^$first running   mcts .*/900000 .* What is 3 + 4?$" "$tmp/out" &&
    grep -q "^$second queued    mcts .* What is 4 + 4?$" "$tmp/out" && grep -q '^KV  *[1-9][0-9]* pages used' "$tmp/out"
point 'top --once' $?
run top --json
has '{"running":1,"waiting":1,"tokens_per_second":' && has "\"jobs\":[{\"id\":\"$first\"" && [ "$(wc -l <"$tmp/out")" = 1 ]
point 'top --json' $?

if ! command -v script >/dev/null 2>&1; then
    echo '# no script(1): nothing is drawn'
    described
    finish
fi
mkfifo "$tmp/keys"
: >"$tmp/out"
TERM=xterm script -qefc "stty rows 12 cols 100; exec '$ponder' top" /dev/null <"$tmp/keys" >"$tmp/out" 2>"$tmp/err" &
top=$!
exec 9>"$tmp/keys"
eventually grep -q 'c cancel' "$tmp/out" && has "$first" && has "$second"
point 'on a terminal: the jobs and the keys' $?
printf '\033[B' >&9
printf c >&9
eventually grep -qF "cancel $second? y/n" "$tmp/out"
point 'down and c: asks about the second job' $?
printf n >&9
printf 'kc' >&9
eventually grep -qF "cancel $first? y/n" "$tmp/out"
point 'n leaves it; up and c: about the first' $?
printf y >&9
eventually grep -qF "$first was cancelled" "$tmp/out"
point 'y cancels it' $?
printf q >&9
exec 9>&-
wait $top
point 'q ends' $?
tail -c 32 "$tmp/out" | grep -qF "$(printf '\033[?25h\033[?1049l')"
point 'and leaves the terminal as it was' $?
api GET "/v1/jobs/$first" && has '"status":"cancelled"' && api GET "/v1/jobs/$second" && ! has '"status":"cancelled"'
point 'one was cancelled, the other not' $?
described
finish

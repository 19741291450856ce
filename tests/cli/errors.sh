#!/bin/sh
# What goes wrong gives one line that says so, the right exit code, and loses nothing. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
models=${PONDER_MODELS_DIR:-recipes/models}

"$ponder" solve -s single -p dev-0001 >/dev/null 2>&1 # a database to work with

fails 2 'no verb'
fails 2 'unknown verb' frobnicate
fails 2 'unknown option --bad' solve --bad
fails 2 'unknown option -z' solve -z
fails 2 'needs an argument' solve --seed
fails 2 'takes no argument' solve --usage=3 hello
fails 2 'no question' solve
fails 2 'one question' solve one two
fails 2 'nope' solve -s nope hello
fails 2 'vote' solve -o vote=nope hello
fails 2 'nope' solve -o nope=1 hello
fails 2 'samples' solve -o samples=99999999 hello
fails 2 'samples' solve -o samples=-1 hello
fails 2 'temperature' solve -o temperature=nan hello
fails 2 'the oracle knows the bundled problems only: give one with -p' solve --scorer oracle hello
fails 2 "scorer 'oracle' has no option 'nope' (it has: tpr, fpr)" solve --scorer oracle:nope=1 -p dev-0001
fails 2 'tpr=1.5: expected a number from 0 to 1' solve --scorer oracle:tpr=1.5 -p dev-0001
fails 2 'KEY=VALUE' solve --scorer oracle: -p dev-0001
fails 2 'tpr=0.2 is below fpr=0.3' solve --scorer oracle:fpr=0.3,tpr=0.2 -p dev-0001
fails 2 'seed' solve --seed 9007199254740992 hello
fails 2 'budget-tokens' solve --budget-tokens 0 hello
fails 2 'budget-seconds' solve --budget-seconds -1 hello
fails 2 'show' solve --show everything hello
fails 2 'resume' solve --resume job_0 --seed 2
fails 2 'replay needs one id' replay
fails 2 'needs ls' trace
fails 2 'not a token id' detokenize x
fails 3 'nothere' solve -m nothere hello
fails 3 'nothere' solve --scorer nothere hello
fails 3 'nothere.gguf' tokenize -m ./nothere.gguf hello
fails 3 'dev-99999' solve -p dev-99999
fails 3 'job_nope' trace show job_nope
fails 3 'job_nope' replay job_nope
fails 3 'nofile' solve -f "$tmp/nofile"
fails 2 'talk to a daemon' --host unix:///nowhere doctor
PONDER_SEED=x fails 2 'PONDER_SEED' solve hello
PONDER_JSON=maybe fails 2 'PONDER_JSON' doctor

# Files that are not what they should be.
: >"$tmp/empty.gguf"
head -c 100000 "$models/tiny-base-Q8_0.gguf" >"$tmp/short.gguf"
head -c 5000 /dev/zero >"$tmp/zero.gguf"
fails 3 'empty.gguf' solve -m "$tmp/empty.gguf" hello
fails 3 'short.gguf' solve -m "$tmp/short.gguf" hello
fails 3 'zero.gguf' model show "$tmp/zero.gguf"
mkdir "$tmp/foreign"
echo 'this is no database, only a text that is long enough' >"$tmp/foreign/ponder.db"
before=$(cksum <"$tmp/foreign/ponder.db")
fails 3 'database' solve --data-dir "$tmp/foreign" -s single -p dev-0001 --json
[ "$(cksum <"$tmp/foreign/ponder.db")" = "$before" ]; point 'a foreign file is left alone' $?
if [ "$(id -u)" -ne 0 ]; then
    mkdir -m 500 "$tmp/locked"
    fails 7 'locked' solve --data-dir "$tmp/locked" -s single -p dev-0001 --json
fi
: >"$tmp/file"
fails 8 'file' solve --data-dir "$tmp/file/below" -s single -p dev-0001 --json

# Too little budget for an answer.
"$ponder" solve --json --budget-tokens 3 -p dev-0001 >"$tmp/out" 2>"$tmp/err" </dev/null
[ $? -eq 5 ] && grep -q '"answer":null' "$tmp/out" && grep -q '^ponder: no answer' "$tmp/err"
point 'exit 5: the budget is spent before any answer' $?

# Standard output that does not take it.
"$ponder" --version >&- 2>"$tmp/err"
[ $? -eq 8 ] && grep -q 'standard output' "$tmp/err"; point 'exit 8: closed standard output' $?
if [ -w /dev/full ]; then
    "$ponder" solve -s single -p dev-0001 >/dev/full 2>"$tmp/err" </dev/null
    [ $? -eq 8 ] && grep -q 'standard output' "$tmp/err"; point 'exit 8: full disk' $?
fi

"$ponder" --log-format json frobnicate 2>"$tmp/err"
grep -q '^{"level":"error","message":".*"}$' "$tmp/err"; point 'messages as JSON' $?

# An interrupted job says how to go on, and ends as if nothing had been.
slow='-o samples=48 -o aggregate=min'
# shellcheck disable=SC2086
"$ponder" solve --json --no-trace $slow -p dev-0003 >"$tmp/out" 2>"$tmp/err" </dev/null
whole=$(sed -n 's/.*"digest":"\([^"]*\)".*/\1/p' "$tmp/out")
for case in INT:130 TERM:143; do
    data=$tmp/data-$case
    # shellcheck disable=SC2086 # a background job of a script ignores SIGINT unless it is asked for
    ( exec env --default-signal=INT "$ponder" solve --data-dir "$data" $slow -p dev-0003 ) \
        >"$tmp/out" 2>"$tmp/err" </dev/null &
    pid=$!
    for i in $(seq 200); do
        "$ponder" trace ls --data-dir "$data" 2>/dev/null | grep -q . && break
        sleep 0.02
    done
    kill -s "${case%:*}" "$pid"
    wait "$pid"
    got=$?
    id=$(sed -n 's/^ponder: resumable: ponder solve --resume //p' "$tmp/err")
    [ "$got" -eq "${case#*:}" ] && [ -n "$id" ]; point "SIG${case%:*} stops it cleanly (exit $got)" $?
    "$ponder" solve --json --data-dir "$data" --resume "$id" >"$tmp/out" 2>"$tmp/err" </dev/null &&
        grep -q "\"digest\":\"$whole\"" "$tmp/out"
    point 'the resumed job has the digest of an undisturbed one' $?
done

"$ponder" trace verify >"$tmp/out" 2>"$tmp/err"; point 'the database is sound' $?

finish

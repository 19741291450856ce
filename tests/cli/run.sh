#!/bin/sh
# `ponder run`: the same digest whatever the threads, the kernels, the concurrency and however often it is killed. TAP.
# PONDER_TEST_KILLS: how many times (20).
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
unset PONDER_THREADS PONDER_ISA
run() { "$ponder" run "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; }
digest() { sed -n 's/.*"digest":"\([0-9a-f]*\)".*/\1/p' "$tmp/out"; }
field() { sed -n "s/.*\"$1\":\([0-9a-z]*\).*/\1/p" "$tmp/out"; }

cat >"$tmp/r.json" <<'END'
{ "ponder_recipe": 1, // an experiment
  "name": "small", "seed": 7,
  "dataset": { "path": "dev.jsonl", "limit": 2 },
  "generator": { "sampling": { "max_tokens": 160 } },
  "strategies": [
    { "name": "greedy", "strategy": "single", "sampling": { "temperature": 0 } },
    { "name": "majority", "strategy": "self_consistency", "samples": [2, 4] },
    { "name": "bon", "strategy": "best_of_n", "samples": 4, "options": { "vote": ["weighted", "none"] } },
    { "strategy": "beam", "samples": 4, "scorer": "oracle" } ],
  "repeats": 2 }
END

run "$tmp/r.json" --dry-run && grep -q '^together  *24 ' "$tmp/out" && [ ! -e "$tmp/data/none" ]
point 'a plan' $?
run "$tmp/r.json" --out "$tmp/a" --json && [ "$(field jobs)" = 24 ] && [ "$(field done)" = 24 ] &&
    [ "$(field failed)" = 0 ] && [ "$(field whole)" = true ]
point 'a run' $?
want=$(digest)
cmp -s "$tmp/r.json" "$tmp/a/recipe.json" && [ "$(wc -l <"$tmp/a/results.jsonl")" -eq 24 ] &&
    grep -q "\"digest\":\"$want\"" "$tmp/a/lock.json"
point 'its folder' $?
run "$tmp/r.json" --dry-run && grep -q '^time  *about ' "$tmp/out"; point 'a plan with times' $?

run "$tmp/r.json" --out "$tmp/a" --json && [ "$(field found)" = 24 ] && [ "$(digest)" = "$want" ]
point 'again: nothing is computed' $?
run "$tmp/r.json" --out "$tmp/a" --json --fresh && [ "$(field found)" = 0 ] && [ "$(digest)" = "$want" ]
point '--fresh computes all' $?
run "$tmp/r.json" --out "$tmp/b" --json --concurrency 1 --threads 1 --prefill-chunk 7 && [ "$(digest)" = "$want" ]
point 'one job at a time, one thread' $?
PONDER_ISA=scalar run "$tmp/r.json" --out "$tmp/c" --json --concurrency 24 --threads 2 && [ "$(digest)" = "$want" ]
point 'all jobs at once, scalar kernels' $?
run "$tmp/r.json" --out "$tmp/b" --expect-digest "$want"; point '--expect-digest' $?
run "$tmp/r.json" --out "$tmp/b" --expect-digest 1234; [ $? -eq 1 ] && grep -q "differs: digest $want" "$tmp/err"
point 'exit 1 for another digest' $?

# Parts of it first.
run "$tmp/r.json" --out "$tmp/d" --json --only bon --limit 1 && [ "$(field jobs)" = 4 ] && [ "$(field whole)" = false ]
point '--only and --limit' $?
part=$(digest)
run "$tmp/r.json" --out "$tmp/a" --json --only bon --limit 1 && [ "$(digest)" = "$part" ]
point 'the digest of the same part of the whole' $?
run "$tmp/r.json" --out "$tmp/d" --json && [ "$(field found)" = 4 ] && [ "$(digest)" = "$want" ]
point 'then the rest' $?
run "$tmp/r.json" --out "$tmp/d" --only bom; [ $? -eq 2 ] && grep -q 'greedy, majority, bon, beam' "$tmp/err"
point 'no such strategy' $?

# Interrupted, and killed.
"$ponder" run "$tmp/r.json" --out "$tmp/e" >"$tmp/out" 2>"$tmp/err" </dev/null &
pid=$!
while ! "$ponder" trace ls --limit 0 --json 2>/dev/null | grep -q '"status":"running"' && kill -0 "$pid" 2>/dev/null; do :; done
kill -INT "$pid" 2>/dev/null
wait "$pid"
status=$?
[ "$status" -eq 130 ] && grep -q 'the same command goes on' "$tmp/err" || [ "$status" -eq 0 ]
point 'interrupted' $?
kills=${PONDER_TEST_KILLS:-20}
from=$(date +%s.%N)
run "$tmp/r.json" --out "$tmp/f" --json
whole=$(awk "BEGIN { print $(date +%s.%N) - $from }")
k=0
alive=0
while [ "$k" -lt "$kills" ]; do
    "$ponder" run "$tmp/r.json" --out "$tmp/e" >/dev/null 2>&1 </dev/null &
    pid=$!
    sleep "$(awk "BEGIN { print $whole * ($k * 37 % 100) / 300 }")"
    kill -9 "$pid" 2>/dev/null && alive=$((alive + 1))
    wait "$pid" 2>/dev/null
    k=$((k + 1))
done
echo "# $alive kills while it was at work"
[ "$alive" -gt 0 ] && run "$tmp/r.json" --out "$tmp/e" --json && [ "$(digest)" = "$want" ]
point 'killed again and again: the same digest' $?
"$ponder" trace verify >"$tmp/out" 2>"$tmp/err"; point 'the database is whole' $?

# What must not be mixed up.
sed 's/"seed": 7/"seed": 8/' "$tmp/r.json" >"$tmp/other.json"
run "$tmp/other.json" --out "$tmp/a"; [ $? -eq 1 ] && grep -q 'another recipe' "$tmp/err"
point 'a folder is of one recipe' $?
run "$tmp/other.json" --out "$tmp/g" --json && [ "$(digest)" != "$want" ]; point 'another seed: another digest' $?
PONDER_DATA_DIR="$tmp/elsewhere" run "$tmp/r.json" --out "$tmp/a" --json --expect-digest "$want" &&
    [ "$(field found)" = 0 ]
point 'recipe and lock reproduce in another database' $?
sed -i 's/"seed"/"sede"/' "$tmp/other.json"
run "$tmp/other.json" --out "$tmp/h"; [ $? -eq 3 ] &&
    grep -q "other.json:2:20: unknown key 'sede': did you mean 'seed'" "$tmp/err" && [ ! -e "$tmp/h" ]
point 'what is wrong, where, and what is meant' $?

# A job that cannot be done is one that failed; the others are not.
printf '{"id":"good","question":"Ann has 2 cups. How many cups does Ann have?","answer":2}\n{"id":"long","question":"%s","answer":2}\n' \
    "$(awk 'BEGIN { for (i = 0; i < 3000; i++) printf "cup " }')" >"$tmp/two.jsonl"
echo '{"ponder_recipe":1,"name":"two","dataset":{"path":"two.jsonl"},"strategies":[{"strategy":"single"}],"repeats":3}' \
    >"$tmp/two.json"
run "$tmp/two.json" --out "$tmp/i"; [ $? -eq 1 ] && grep -q '3 done (0 of them before), 3 failed' "$tmp/out"
point 'failed jobs: exit 1, and the rest is done' $?
run "$tmp/two.json" --out "$tmp/j" --fail-on-error 0 --concurrency 1; [ $? -eq 8 ] &&
    grep -q '1 of 6 jobs failed' "$tmp/err"
point '--fail-on-error ends it' $?

finish

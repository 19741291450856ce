#!/bin/sh
# Every verb of `ponder` does what its help says. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

run --version && grep -q '^ponder [0-9]' "$tmp/out"; point 'version' $?
status=0
for verb in '' solve replay trace model bench tokenize detokenize doctor; do
    # shellcheck disable=SC2086
    run $verb --help && grep -q "^usage: ponder ${verb:-VERB}" "$tmp/out" || status=1
done
point 'help of every verb' $status

run solve -p dev-0001 -o samples=4
point 'solve a bundled problem' $?
status=0
for line in 'Zoe has 9 stamps' '^ 1\. \[[01]\.[0-9][0-9]\] ' '^answer ' '^support .* of 4 lines agree' \
    '^tokens .* generated .*discarded.* prefilled.* cached.* scored' '^time ' '^trace    job_' \
    'ponder trace show job_' 'ponder replay job_.* --verify'; do
    grep -q "$line" "$tmp/out" || { status=1; echo "# missing: $line"; }
done
point 'what solve prints' $status
[ -s "$tmp/err" ] && status=1
point 'no progress off the terminal in a short job' $status

run solve --json -p dev-0001 -o samples=4
point 'solve --json' $?
status=0
[ "$(wc -l <"$tmp/out")" -eq 1 ] || status=1
for key in answer strategy stopped_by support agree of steps text score tokens usage generated \
    discarded prefilled cached scored seed digest trace elapsed_ms correct; do
    grep -q "\"$key\":" "$tmp/out" || { status=1; echo "# missing: $key"; }
done
point 'the members of its one object' $status
id=$(field trace)
digest=$(field digest)

run trace show "$id" --digest && [ "$(cat "$tmp/out")" = "$digest" ]
point 'trace show --digest is the digest of solve' $?
run trace show "$id" && grep -q '└─ ' "$tmp/out" && grep -q '<- answer' "$tmp/out"
point 'trace show draws the tree' $?
run trace show "$id" --json && head -c 1 "$tmp/out" | grep -q '\['
point 'trace show --json' $?
run trace export "$id" --format jsonl && head -n 1 "$tmp/out" | grep -q '^{"type":"job",' &&
    [ "$(grep -c '^{"type":"node",' "$tmp/out")" -eq 5 ] && grep -q '^{"type":"score"' "$tmp/out" &&
    grep -q '^{"type":"call"' "$tmp/out" && ! grep -qv '^{"type":".*}$' "$tmp/out"
point 'trace export' $?
run trace ls --limit 1 && [ "$(wc -l <"$tmp/out")" -eq 1 ] && grep -q "^$id " "$tmp/out"
point 'trace ls shows the newest first' $?
run trace verify && grep -q '^ok: ' "$tmp/out"; point 'trace verify' $?

run replay "$id" --verify && [ "$(cat "$tmp/out")" = "identical: digest $digest" ]
point 'replay --verify computes the same' $?
PONDER_MODELS_DIR="$tmp/none" run replay "$id" --verify --engine recorded && grep -q "$digest" "$tmp/out"
point 'replay from the record' $?
run replay "$id" --json && [ "$(field digest)" = "$digest" ] && grep -q '"identical":true' "$tmp/out"
point 'replay --json' $?

PONDER_SEED=7 PONDER_STRATEGY=single run solve --json -p dev-0001 && grep -q '"seed":7,' "$tmp/out" &&
    grep -q '"strategy":"single"' "$tmp/out"
point 'options from variables' $?
PONDER_SEED=7 run solve --json -s single --seed 8 -p dev-0001 && grep -q '"seed":8,' "$tmp/out"
point 'an option wins over its variable' $?
PONDER_PROBLEM=dev-0001 run solve -s single 'Ann has 2 cups. She finds 3 more. How many?' &&
    ! grep -q Zoe "$tmp/out"
point 'a given question wins over PONDER_PROBLEM' $?
echo 'Ann has 2 cups. She finds 3 more. How many cups does Ann have now?' >"$tmp/q"
"$ponder" solve --json -s single -o temperature=0 <"$tmp/q" >"$tmp/out" 2>"$tmp/err" &&
    first=$(field digest) && run solve --json -s single -o temperature=0 -f "$tmp/q" &&
    [ "$first" = "$(field digest)" ]
point 'the question from standard input and from a file' $?
run solve --no-trace --data-dir "$tmp/unused" -s single -p dev-0001 && [ ! -e "$tmp/unused" ]
point 'no trace' $?
run solve --strategies && grep -q '^best_of_n: ' "$tmp/out" && grep -q 'vote=weighted' "$tmp/out"
point 'solve --strategies' $?

run solve --json -s single -o temperature=0 -p dev-0001
answer=$(field answer)
run solve -s single -o temperature=0 -p dev-0001 --expect "$answer"; point 'expected answer' $?
run solve -s single -o temperature=0 -p dev-0001 --expect "\\frac{2}{2} \\cdot $answer.0" --grade math_equal &&
    grep -q '^grading  equal: they are the same in exact arithmetic' "$tmp/out"
point 'an answer that means the expected one' $?
run solve -s single -o temperature=0 -p dev-0001 --expect many --grade numeric; [ $? -eq 2 ] &&
    grep -q "there is no number in 'many'" "$tmp/err"
point 'an expected answer that cannot be graded by' $?
run solve -s single -o temperature=0 -p dev-0001 --expect 123456; [ $? -eq 1 ]
point 'exit 1 for another answer' $?

run model ls && grep -q '^tiny-base' "$tmp/out" && run model ls --json && ! grep -qv '^{.*}$' "$tmp/out"
point 'model ls' $?
run model show tiny-base && grep -q '^general.architecture = llama' "$tmp/out" &&
    grep -qE '^sha256   [0-9a-f]{64}$' "$tmp/out"
point 'model show' $?

run tokenize --json 'a ÷' && grep -qF '{"id":195,"piece":[195]}' "$tmp/out"
point 'pieces that are not UTF-8 are byte arrays' $?
# no first bytes of what Unicode's form C replaces
head -c 4096 /dev/urandom | LC_ALL=C tr '\314-\317\340-\364' x >"$tmp/random"
"$ponder" tokenize -f "$tmp/random" >"$tmp/ids" 2>"$tmp/err" &&
    "$ponder" detokenize -f "$tmp/ids" >"$tmp/out" 2>>"$tmp/err" && cmp -s "$tmp/random" "$tmp/out"
point 'tokenize and detokenize give random bytes back' $?
# shellcheck disable=SC2046
run detokenize $("$ponder" tokenize 'It is 9 / 3 = 3.') && [ "$(cat "$tmp/out")" = 'It is 9 / 3 = 3.' ]
point 'ids as arguments' $?
run tokenize --bos a && [ "$(cat "$tmp/out")" = '759 97' ]
point 'tokenize --bos begins with BOS' $?

# A record stands for itself, whatever ended the search.
id=
for budget in '--budget-seconds 0.05' '--budget-seconds 0.3' '--budget-tokens 200' '--budget-nodes 5'; do
    # shellcheck disable=SC2086
    "$ponder" solve --json -o samples=64 $budget -p dev-0003 >"$tmp/out" 2>"$tmp/err" </dev/null
    id=$(field trace) digest=$(field digest)
    run replay "$id" && run replay --verify "$id" && run trace show "$id" --digest &&
        [ "$(cat "$tmp/out")" = "$digest" ]
    point "replays after $budget" $?
done
run solve --json -o samples=4 --budget-tokens 200 --wrap-up 'The answer is: ' -p dev-0003
id=$(field trace) digest=$(field digest)
grep -q '"stopped_by":"tokens"' "$tmp/out" && run trace show "$id" --digest &&
    [ "$(cat "$tmp/out")" = "$digest" ] && run replay --verify "$id"
point 'a wrapped-up job says what stopped it, and replays' $?
long=$(i=0; while [ $i -lt 68 ]; do printf 'Sam has 18 cups. '; i=$((i + 1)); done)
"$ponder" solve -s single --wrap-up 'So the answer is' "$long How many?" >"$tmp/out" 2>"$tmp/err" </dev/null
[ $? -eq 1 ] && grep -q 'no answer' "$tmp/err"; point 'no room for a wrap-up is no answer' $?

# A judge without a model.
run solve --json -p dev-0007 -o samples=16 --scorer oracle && grep -q '"correct":true' "$tmp/out" &&
    grep -q '"scorer":"oracle"' "$tmp/out" && grep -q '"scored":0,"scorer_passes":16' "$tmp/out" &&
    ! grep -qE '"score":0?\.[0-9]' "$tmp/out"
point 'the oracle picks a right line, at no cost' $?
run solve --json -p dev-0003 -o samples=16 --scorer oracle:tpr=0.9,fpr=0.1 &&
    grep -q '"scorer":"oracle:tpr=0.9,fpr=0.1"' "$tmp/out" && grep -qE '"score":0\.9[,}]' "$tmp/out"
status=$?
id=$(field trace) digest=$(field digest)
[ $status -eq 0 ] && run trace export "$id" --format jsonl &&
    grep -q '^{"type":"score".*"call":null}' "$tmp/out" && ! grep -q '"op":"score"' "$tmp/out"
point 'an oracle that errs, at no cost' $?
mkdir "$tmp/models" && cp "${PONDER_MODELS_DIR:-recipes/models}"/tiny-base-Q8_0.gguf "$tmp/models"
XDG_DATA_HOME="$tmp/none" PONDER_MODELS_DIR="$tmp/models" run replay "$id" --verify &&
    [ "$(cat "$tmp/out")" = "identical: digest $digest" ] &&
    run replay "$id" --engine recorded && grep -q "$digest" "$tmp/out"
point 'replay --verify of it' $?
run solve --resume "$id" --json && [ "$(field digest)" = "$digest" ]; point 'resume of it' $?
PONDER_SCORER=oracle run solve --json -s single 'Ann has 2 cups. How many?' && ! grep -q oracle "$tmp/out"
point 'a scorer without use stays out' $?

# One owner a job.
"$ponder" solve -o samples=256 -p dev-0003 --data-dir "$tmp/own" >/dev/null 2>&1 </dev/null &
id=
while [ -z "$id" ]; do
    id=$("$ponder" trace ls --json --data-dir "$tmp/own" 2>/dev/null | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
done
"$ponder" solve --resume "$id" --data-dir "$tmp/own" >"$tmp/out" 2>"$tmp/err" </dev/null
[ $? -eq 4 ] && grep -q 'running in another process' "$tmp/err"; point 'exit 4: the job runs elsewhere' $?
wait

run doctor && grep -q '^ok    cpu ' "$tmp/out" && grep -q 'SQLite 3.*PCRE2 10' "$tmp/out"
point 'doctor' $?

finish

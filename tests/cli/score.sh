#!/bin/sh
# `ponder score`: steps of a solution, a scorer on labelled ones, its calibration, and the answers that
# are withheld for it. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

PONDER_BUNDLED=${PONDER_TEST_SRCDIR:-.}/recipes/models
PONDER_MODELS_DIR=$tmp/models
export PONDER_MODELS_DIR
mkdir -p "$PONDER_MODELS_DIR"
cp "$PONDER_BUNDLED/tiny-prm-Q8_0.gguf" "$PONDER_BUNDLED/tiny-base-Q8_0.gguf" "$PONDER_MODELS_DIR"

echo 'Mia has 12 red pens and 3 times as many blue pens. How many pens has she in all?' >"$tmp/problem"
printf 'It is 12 * 3 = 36 blue pens.\n\nIn all there are 12 + 36 = 48 pens.\n' >"$tmp/steps"
run score --problem "$tmp/problem" --steps "$tmp/steps"
[ "$(grep -c '^[01]\.[0-9]*  I' "$tmp/out")" -eq 2 ] && grep -q '^last .* min .* prod .* mean ' "$tmp/out"
point 'two steps and four aggregates' $?
run score --problem "$tmp/problem" --steps "$tmp/steps" --json
grep -q '"kind":"step","steps":\[{"text":"It is 12 \* 3 = 36 blue pens.","score":0' "$tmp/out" &&
    [ "$(wc -l <"$tmp/out")" -eq 1 ]
point 'one JSON value' $?
run score --problem "$tmp/problem" --steps "$tmp/steps" --scorer tiny-base:kind=judge --json
grep -q '"kind":"outcome"' "$tmp/out" && grep -q '"score":null' "$tmp/out"
point 'a judge has no reward of a step' $?

# Problems, a right and a wrong solution of each.
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
    for wrong in 0 1; do
        printf '{"problem":"Mia has %d red pens and gets 3 more. How many has she?","steps":["Now Mia has %d + 3 = %d pens.","</think>\\nThe answer is \\\\boxed{%d}."],"label":%d}\n' \
            $i $i $((i + 3 + wrong)) $((i + 3 + wrong)) $((wrong - 1))
    done
done >"$tmp/labels"
run score --evaluate "$tmp/labels" --json
grep -q '"lines":48,"skipped":0,"steps":72,"threshold":0.5,"f1":' "$tmp/out" &&
    grep -q '"within_problems":24,' "$tmp/out" && grep -q '"calibration_file":null' "$tmp/out"
point 'a scorer on labelled lines' $?
run solve -p dev-0001 --abstain-below 0.5 --no-trace
[ $? -eq 3 ] && grep -q "'tiny-prm' is not calibrated: ponder score" "$tmp/err"
point 'no confidence without a calibration' $?
run score --evaluate "$tmp/labels" --calibrate isotonic
[ -s "$PONDER_MODELS_DIR/tiny-prm.calibration.json" ] && grep -q ' calibrated (each half' "$tmp/out"
point 'a calibration is kept with the model' $?
run solve -p dev-0001 --no-trace --json
grep -q '"confidence":[01]' "$tmp/out"
point 'a result has a confidence' $?
run solve -p dev-0001 --no-trace --abstain-below 1 --json -o samples=2 --seed 3
code=$?
grep -q '"answer":null.*"confidence":0' "$tmp/out" && [ $code -eq 1 ] ||
    grep -q '"confidence":1,' "$tmp/out"
point 'an answer of less is none' $?
cp "$PONDER_BUNDLED/tiny-prm-F16.gguf" "$PONDER_MODELS_DIR/tiny-prm-Q8_0.gguf"
run solve -p dev-0001 --abstain-below 0.5 --no-trace
[ $? -eq 3 ] && grep -q 'of another scorer or model file' "$tmp/err"
point 'a calibration is of one file' $?

echo '{"problem":"P","steps":["a"],"label":1}' >"$tmp/bad"
run score --evaluate "$tmp/bad"
[ $? -eq 3 ] && grep -q "bad', line 1: label must be the index\|line 1" "$tmp/err"
point 'a bad label is told with its line' $?
run score --evaluate "$tmp/labels" --steps "$tmp/steps"
[ $? -eq 2 ] && run score --steps "$tmp/steps"
[ $? -eq 2 ]
point 'one thing or the other' $?
finish

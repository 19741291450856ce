#!/bin/sh
# Traces in the forms of other programs, back from JSON Lines, and a copy of the database. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

run solve -s beam -o samples=4 -p dev-0008 --expect 1; [ $? -le 1 ]; point 'a job to export' $?
id=$(sed -n 's/^trace *//p' "$tmp/out")
other=$(mktemp -d "$tmp/other.XXXXXX")

run trace export "$id" && cp "$tmp/out" "$tmp/job.jsonl" && run trace show "$id" --digest && cp "$tmp/out" "$tmp/digest" &&
    run trace import "$tmp/job.jsonl" --data-dir "$other" && [ "$(cat "$tmp/out")" = '1 jobs' ]
point 'JSON Lines into another database' $?
run trace show "$id" --digest --data-dir "$other" && cmp -s "$tmp/out" "$tmp/digest" &&
    run trace export "$id" --data-dir "$other" && cmp -s "$tmp/out" "$tmp/job.jsonl"
point 'the same id, the same digest, the same lines' $?
run trace verify --data-dir "$other"; point 'and a sound database' $?
run trace import "$tmp/job.jsonl" --data-dir "$other"; [ $? -eq 2 ] && grep -q 'line 1: job .* is in the database already' "$tmp/err"
point 'once is enough' $?
run trace ls --limit 0 --data-dir "$other" && [ "$(wc -l <"$tmp/out")" -eq 1 ]; point 'and it is still there' $?

third=$(mktemp -d "$tmp/third.XXXXXX")
sed '3s/"tokens":\[[0-9]*/"tokens":[7/' "$tmp/job.jsonl" >"$tmp/changed.jsonl"
run trace import "$tmp/changed.jsonl" --data-dir "$third"; [ $? -eq 2 ] && grep -q 'has not the digest it says' "$tmp/err"
point 'a changed token is found' $?
sed '3s/"tokens":\[[^]]*\]/"tokens":"seven"/' "$tmp/job.jsonl" >"$tmp/changed.jsonl"
run trace import "$tmp/changed.jsonl" --data-dir "$third"; [ $? -eq 3 ] && grep -q "changed.jsonl': line 3: 'tokens' is missing or no array" "$tmp/err"
point 'and what has another form' $?
run trace ls --limit 0 --data-dir "$third" && [ ! -s "$tmp/out" ]; point 'of which nothing stays' $?
tail -n +2 "$tmp/job.jsonl" >"$tmp/changed.jsonl"
"$ponder" trace import - --data-dir "$third" <"$tmp/changed.jsonl" 2>"$tmp/err"; [ $? -eq 3 ] && grep -q 'a node before any job' "$tmp/err"
point 'a job has to come first' $?
run trace export "$id" --redact && cp "$tmp/out" "$tmp/redacted" && ! grep -q 'coins' "$tmp/redacted" && grep -q 'coins' "$tmp/job.jsonl" &&
    ! run trace import "$tmp/redacted" --data-dir "$third" && grep -q 'exported without texts' "$tmp/err"
point 'without texts' $?

for f in otlp-json inspect perfetto; do
    run trace export "$id" --format $f && cp "$tmp/out" "$tmp/$f" && python3 "$src/tests/cli/export.py" $f "$tmp/$f" "$tmp/job.jsonl" \
        >"$tmp/out" 2>"$tmp/err"
    point $f $?
done
grep -q coins "$tmp/otlp-json"; [ $? -eq 1 ] && run trace export "$id" --format otlp-json --content && grep -q coins "$tmp/out"
point 'texts leave in OTLP when they are asked for' $?
run trace export "$id" --format inspect --redact && ! grep -q coins "$tmp/out"; point 'and not in inspect when they are refused' $?

run trace backup "$tmp/copy.db" && mkdir "$tmp/restored" && cp "$tmp/copy.db" "$tmp/restored/ponder.db" &&
    run trace verify --data-dir "$tmp/restored" && run trace export "$id" --data-dir "$tmp/restored" && cmp -s "$tmp/out" "$tmp/job.jsonl"
point 'a backup has it all' $?
run trace backup "$tmp/copy.db"; [ $? -eq 2 ] && grep -q 'a backup overwrites nothing' "$tmp/err"; point 'and overwrites nothing' $?
run trace backup "$tmp/none/copy.db"; [ $? -eq 3 ] && [ ! -e "$tmp/none" ]; point 'a folder that is not there' $?
# Somebody writes all the while.
(for i in 1 2 3 4 5 6; do "$ponder" solve -s single -p dev-0008 --seed $i -q >/dev/null 2>&1; done) &
run trace backup "$tmp/busy.db" && mkdir "$tmp/busy" && cp "$tmp/busy.db" "$tmp/busy/ponder.db" && run trace verify --data-dir "$tmp/busy"
point 'while another process writes' $?
wait
finish

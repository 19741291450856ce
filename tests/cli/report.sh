#!/bin/sh
# What can be done with a run: reports (every figure recomputed, pictures well-formed and drawn), runs ls|show|diff|rm,
# replay of all its jobs. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

cat >"$tmp/r.json" <<'END'
{ "ponder_recipe": 1, "name": "small<&", "seed": 3,
  "dataset": { "path": "dev.jsonl", "limit": 6 },
  "generator": { "sampling": { "max_tokens": 200 } },
  "strategies": [
    { "name": "greedy", "strategy": "single", "sampling": { "temperature": 0 } },
    { "name": "bon", "strategy": "best_of_n", "samples": [2, 8] },
    { "name": "beam", "strategy": "beam", "samples": 4, "scorer": "oracle" },
    { "name": "votes", "strategy": "best_of_n", "samples": 4, "options": { "vote": ["none", "majority"] } } ],
  "repeats": 2 }
END
run run "$tmp/r.json" --out "$tmp/a"; [ $? -eq 3 ] && grep -q 'r.json:1:23: a name has' "$tmp/err"
point 'a name of other characters is refused' $?
sed -i 's/small<&/small/' "$tmp/r.json"
run run "$tmp/r.json" --out "$tmp/a" && grep -q '^variant .* accuracy ' "$tmp/out"
point 'a run ends with its table' $?
status=0
views='scaling table steps length reliability difficulty abstention tree timeline'
for file in report.html table.csv $(for f in $views; do echo "$f.svg"; done); do
    [ -s "$tmp/a/report/$file" ] || { status=1; echo "# missing: $file"; }
done
point 'its folder has the report' $status

id=$(sed -n 's/.*"run":"\([^"]*\)".*/\1/p' "$tmp/a/lock.json")
run report "$tmp/a" --json && cp "$tmp/out" "$tmp/report.json" &&
    python3 "$src/tests/cli/report.py" "$tmp/data/ponder.db" "$tmp/report.json" "$src/recipes/problems/dev.jsonl" \
        >"$tmp/out" 2>"$tmp/err" && [ ! -s "$tmp/out" ]
point 'every figure recomputed from the database' $?
python3 - "$tmp/a/lock.json" >"$tmp/bench" <<'END'
import json, sys
for m in json.load(open(sys.argv[1]))["models"]:
    points = [{"what": "prefill", "tokens": n, "median_tokens_s": 1000} for n in (16, 4096)]
    points += [{"what": "decode", "branches": n, "median_tokens_s": 1000 * n / (n + 1)} for n in (3, 1, 2, 4, 5, 6, 7, 8)]
    print(json.dumps({"model": {"sha256": m["sha256"]}, "points": points}))
END
run report "$tmp/a" --json --bench "$tmp/bench" && cp "$tmp/out" "$tmp/ideal.json" &&
    python3 "$src/tests/cli/report.py" "$tmp/data/ponder.db" "$tmp/ideal.json" "$src/recipes/problems/dev.jsonl" ideal \
        >"$tmp/out" 2>"$tmp/err" && [ ! -s "$tmp/out" ]
point 'idealised seconds by measurements' $?
echo '{"x":1}' >"$tmp/no-bench"
run report "$tmp/a" --bench "$tmp/no-bench"; [ $? -eq 3 ] && grep -q 'measurements, line 1: .*ponder bench' "$tmp/err"
point 'measurements of something else' $?
sed 's/"right":[0-9]*/"right":99/' "$tmp/report.json" >"$tmp/wrong.json"
python3 "$src/tests/cli/report.py" "$tmp/data/ponder.db" "$tmp/wrong.json" "$src/recipes/problems/dev.jsonl" >"$tmp/out"
grep -q 'greedy right: 99, recomputed' "$tmp/out"; point 'which a wrong one does not pass' $?

run report "$id" --format csv && [ "$(wc -l <"$tmp/out")" -eq 7 ] && cmp -s "$tmp/out" "$tmp/a/report/table.csv" &&
    awk -F, 'NF != 30 { exit 1 }' "$tmp/out"
point 'csv' $?
run report "$id" --ascii && grep -q '^  a greedy$' "$tmp/out" && ! LC_ALL=C grep -q '[^ -~]' "$tmp/out"
point 'text in ASCII' $?
LC_ALL=C.UTF-8 run report "$id" && grep -q '⠒ majority at equal cost' "$tmp/out"; point 'text in braille' $?
run report "$id" --x flop --format svg && grep -q '>FLOP per problem (log scale)<' "$tmp/out" &&
    grep -q '>majority, equal cost<' "$tmp/out"
point 'over FLOP' $?
run report "$id" --x seconds --format svg && ! grep -q '>majority, equal cost<' "$tmp/out"; point 'over seconds' $?
run report "$id" --x ideal --format svg; [ $? -eq 2 ] && grep -q 'not known of any variant' "$tmp/err"
point 'over what is not known' $?
run report "$id" "$id" --format svg -o "$tmp/two.svg" && [ ! -s "$tmp/out" ] && grep -q 'small: greedy' "$tmp/two.svg"
point 'two runs in one picture' $?
status=0
for f in $views; do
    run report "$id" --format svg --view $f && cmp -s "$tmp/out" "$tmp/a/report/$f.svg" || status=1
    python3 -c 'import sys, xml.etree.ElementTree as t
s = "{http://www.w3.org/2000/svg}"
r = t.parse(sys.argv[1]).getroot()
assert r.tag == s + "svg" and r.find(s + "title").text
w, h = float(r.get("width")), float(r.get("height"))
for e in r.iter():
    for at, most in (("x", w), ("x1", w), ("x2", w), ("cx", w), ("y", h), ("y1", h), ("y2", h), ("cy", h)):
        assert 0 <= float(e.get(at, 0)) <= most, (e.tag, e.attrib)' "$tmp/a/report/$f.svg" 2>"$tmp/err" || status=1
done
point 'pictures are well-formed, and within their frames' $status
job=$(python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT id FROM job WHERE variant = ?", ("bon@2",)).fetchone()[0])' "$tmp/data/ponder.db")
run report "$id" --format svg --view tree --job "$job" && grep -q '>Search of bon@2 on dev-' "$tmp/out" &&
    [ "$(grep -c '<circle' "$tmp/out")" -eq 3 ]
point 'the tree of one job' $?
run report "$id" --format svg --view tree --job job_none; [ $? -eq 3 ] && grep -q 'job_none' "$tmp/err"
point 'exit 3: no such job' $?
if command -v rsvg-convert >/dev/null; then
    status=0
    for f in $views; do
        run report "$id" --format png --view $f && python3 -c 'import struct, sys, xml.etree.ElementTree as t, zlib
png = open(sys.argv[1], "rb").read()
svg = t.parse(sys.argv[2]).getroot()
assert png[:8] == b"\x89PNG\r\n\x1a\n"
width, height, bits, colour = struct.unpack(">IIBB", png[16:26])
assert (width, height) == (2 * float(svg.get("width")), 2 * float(svg.get("height")))
at, data = 8, b""
while at < len(png):
    n, kind = struct.unpack(">I4s", png[at:at + 8])
    data += png[at + 8:at + 8 + n] if kind == b"IDAT" else b""
    at += 12 + n
assert len(set(zlib.decompress(data))) > 20  # something is drawn' "$tmp/out" "$tmp/a/report/$f.svg" || status=1
    done
    point 'PNG, twice as large' $status
    (PATH=/nonexistent; run report "$id" --format png)
    [ $? -eq 3 ] && grep -q 'apt install librsvg2-bin' "$tmp/err"
    point 'without the program that draws it' $?
else
    for name in 'PNG, twice as large' 'without the program that draws it'; do
        n=$((n + 1))
        echo "ok $n - $name # SKIP no rsvg-convert"
    done
fi
html=$tmp/a/report/report.html
[ "$(wc -c <"$html")" -lt 1048576 ] && ! grep -o 'https\{0,1\}://[^"< ]*' "$html" | grep -qv '^http://www.w3.org/2000/svg' &&
    ! grep -qi '<script\|<link rel="style\|@import\|src=' "$html"
point 'the HTML is small and whole by itself' $?
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -n "$browser" ]; then
    timeout 240 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$tmp/browser" --enable-logging=stderr \
        --screenshot="$tmp/shot.png" --window-size=1000,2400 "file://$html" >"$tmp/out" 2>"$tmp/err" </dev/null
    [ "$(wc -c <"$tmp/shot.png")" -gt 20000 ] && ! grep -q ':CONSOLE' "$tmp/err"
    point 'a browser draws it without complaint' $?
else
    n=$((n + 1))
    echo "ok $n - a browser draws it without complaint # SKIP no chromium"
fi

run runs ls && grep -q "^$id .* 72 of 72 jobs  small$" "$tmp/out"; point 'runs ls' $?
run runs ls --json && grep -q "^{\"id\":\"$id\",\"name\":\"small\",\"status\":\"done\"" "$tmp/out"; point 'runs ls --json' $?
digest=$(sed -n 's/.*"digest":"\([0-9a-f]*\)".*/\1/p' "$tmp/a/lock.json")
run runs show "$tmp/a" && grep -q "^digest   $digest$" "$tmp/out" && grep -q ' tiny-prm, scorer$' "$tmp/out"
point 'runs show' $?
sed 's/"seed": 3/"seed": 4/; s/"limit": 6/"limit": 2/' "$tmp/r.json" >"$tmp/other.json"
run run "$tmp/other.json" --out "$tmp/b" -q && run runs diff "$id" "$tmp/b" && grep -q '^recipe ' "$tmp/out" &&
    grep -q '^bon@8 .* 0 of 4; first on dev-000' "$tmp/out"
point 'runs diff' $?
run run "$tmp/r.json" --out "$tmp/c" -q && run runs diff "$tmp/a" "$tmp/c" --json &&
    [ "$(grep -o '"jobs":12,"same":12' "$tmp/out" | wc -l)" -eq 6 ]
point 'runs diff of the same' $?

run replay "$tmp/b" --verify && [ "$(cat "$tmp/out")" = 'identical: 24 jobs, computed again' ]
point 'replay --verify computes all jobs again' $?
PONDER_MODELS_DIR="$tmp/none" run replay "$id" && [ "$(cat "$tmp/out")" = 'identical: 72 jobs, from their records' ]
point 'replay from the records, without a model' $?
# The last token of one line becomes another one.
python3 - "$tmp/data/ponder.db" "$(sed -n 's/.*"run":"\([^"]*\)".*/\1/p' "$tmp/b/lock.json")" <<'END'
import hashlib, sqlite3, struct, sys
db = sqlite3.connect(sys.argv[1])
job, node, tokens = db.execute(
    "SELECT n.job_id, n.id, b.data FROM job j JOIN node n ON n.job_id = j.id JOIN blob b ON b.id = n.tokens_id"
    " WHERE j.run_id = ? AND j.variant = 'bon@8' AND j.problem_key = 'dev-0002' AND j.repeat = 1 AND n.id = 3",
    (sys.argv[2],)).fetchone()
ids = list(struct.unpack(f"<{len(tokens) // 4}i", tokens))
ids[5] = 7
data = struct.pack(f"<{len(ids)}i", *ids)
at = db.execute("INSERT INTO blob(sha256,size,enc,data) VALUES(?,?,'i32',?)",
                (hashlib.sha256(data).digest(), len(data), data)).lastrowid
db.execute("UPDATE node SET tokens_id = ? WHERE job_id = ? AND id = ?", (at, job, node))
db.commit()
END
run replay "$tmp/b" --verify; [ $? -eq 1 ] && grep -q 'bon@8 on dev-0002 (job job_.*node 3, token 5: [0-9]* now, 7 stored' "$tmp/err"
point 'the first difference: which input, which node, which token' $?
run replay "$tmp/b"; [ $? -eq 1 ] && grep -q 'bon@8 on dev-0002 .*differs: digest' "$tmp/err"
point 'a record that was changed does not have its digest' $?

run runs rm "$tmp/b" "$tmp/c" && run runs ls && [ "$(wc -l <"$tmp/out")" -eq 1 ] && run trace ls --limit 0 &&
    [ "$(wc -l <"$tmp/out")" -eq 72 ]
point 'runs rm, with all jobs' $?
run runs show "$tmp/b"; [ $? -eq 3 ] && grep -q 'has no run' "$tmp/err"; point 'exit 3: no such run' $?
run report "$tmp"; [ $? -eq 3 ] && grep -q 'has no lock.json' "$tmp/err"; point 'exit 3: not the folder of a run' $?

finish

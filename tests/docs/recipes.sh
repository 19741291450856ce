#!/bin/sh
# docs/recipe.schema.json knows the keys that the program knows, and docs/recipes.md shows a recipe that runs. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

# keys WHERE RECIPE: the keys that the error about an unknown one lists, against the schema's properties there.
keys()
{
    echo "$2" >"$tmp/k.json"
    "$ponder" run "$tmp/k.json" --out "$tmp/k" >"$tmp/out" 2>"$tmp/err"
    python3 - "$src/docs/recipe.schema.json" "$1" "$tmp/err" >"$tmp/out" 2>&1 <<'END'
import json, re, sys
at = json.load(open(sys.argv[1]))
for part in filter(None, sys.argv[2].split("/")):
    at = at[part]
known = re.search(r"\(there are: (.*)\)", open(sys.argv[3]).read()).group(1).split(", ")
assert sorted(known) == sorted(at["properties"]) and not at["additionalProperties"], (known, sorted(at["properties"]))
END
    point "keys of ${1:-the whole}" $?
}
no='"qqqqqqqqqqqqqqqqqqqq":1'
head='"ponder_recipe":1,"name":"x","dataset":{"path":"dev.jsonl"}'
keys '' "{$no}"
keys properties/dataset "{\"ponder_recipe\":1,\"name\":\"x\",\"dataset\":{$no}}"
keys properties/generator "{$head,\"generator\":{$no}}"
keys properties/generator/properties/step "{$head,\"generator\":{\"step\":{$no}}}"
keys properties/budget "{$head,\"budget\":{$no}}"
keys properties/grade "{$head,\"grade\":{$no}}"
keys properties/strategies/items "{$head,\"strategies\":[{$no}]}"

awk '/^```$/ { on = 0 } on { print } /^```jsonc$/ { on = 1 }' "$src/docs/recipes.md" >"$tmp/example.json"
[ -s "$tmp/example.json" ] && "$ponder" run "$tmp/example.json" --out "$tmp/run" --limit 1 >"$tmp/out" 2>"$tmp/err"
point 'the example runs' $?
"$ponder" run "$tmp/example.json" --dry-run >"$tmp/out" 2>"$tmp/err" && status=0
for variant in greedy majority@4 majority@16 beam@4 beam@16 bon@16; do
    grep -q "^$variant " "$tmp/out" || status=1
    grep -q "$variant" "$src/docs/recipes.md" || status=1
done
point 'and has the variants that the text says' $status

finish

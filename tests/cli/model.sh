#!/bin/sh
# `ponder model`: the life of a user's own models. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
bundle=${PONDER_MODELS_DIR:-recipes/models}
export XDG_DATA_HOME="$tmp/share"
unset PONDER_MODELS_DIR
own=$XDG_DATA_HOME/ponder/models

cp "$bundle/tiny-draft-Q8_0.gguf" "$tmp/mine.gguf"
sum=$(sha256sum <"$tmp/mine.gguf" | cut -d ' ' -f 1)

run model verify && grep -q 'no models were added' "$tmp/err"
point 'nothing to verify' $?
run model add "$tmp/mine.gguf" && grep -q "^sha256   $sum$" "$tmp/out" &&
    grep -q 'chat template: known' "$tmp/out"
point 'add' $?
cmp -s "$tmp/mine.gguf" "$own/mine.gguf" && [ "$(ls -A "$own" | tr '\n' ' ')" = 'mine.gguf mine.json ' ]
point 'a copy and its record, nothing else' $?
run model add --json --name other --link "$tmp/mine.gguf" && [ "$(wc -l <"$tmp/out")" -eq 1 ] &&
    grep -q "\"sha256\":\"$sum\"" "$tmp/out" && grep -q '"template_problem":null' "$tmp/out" &&
    [ -L "$own/other.gguf" ]
point 'add --link --name --json' $?
run model alias short mine && [ "$(readlink "$own/short.gguf")" = mine.gguf ]
point 'alias' $?
run model alias bundled tiny-base && run model show bundled && grep -q 'tiny-base-Q8_0.gguf' "$tmp/out"
point 'alias of a bundled model' $?
run model alias bundled mine && [ "$(readlink "$own/bundled.gguf")" = mine.gguf ]
point 'an alias may be given another meaning' $?
run model ls && grep -q '^mine  .*mine.gguf$' "$tmp/out" && grep -q '^short  .* -> mine$' "$tmp/out" &&
    grep -q '^other  ' "$tmp/out" && grep -q '^tiny-base-Q8_0 ' "$tmp/out"
point 'ls' $?
run model ls --json && grep '"name":"short"' "$tmp/out" | grep -q '"alias_of":"mine","added":false' &&
    grep '"name":"mine"' "$tmp/out" | grep -q '"alias_of":null,"added":true'
point 'ls --json' $?
run tokenize -m short hello
point 'an alias is a model' $?

run model verify && [ "$(cat "$tmp/out")" = 'ok     mine
ok     other' ]
point 'verify' $?
printf 'x' | dd of="$tmp/mine.gguf" bs=1 seek=200000 conv=notrunc 2>/dev/null
run model verify && status=1 || status=$?
[ "$status" -eq 1 ] && grep -q '^ok     mine$' "$tmp/out" && grep -q '^differs other: sha256 ' "$tmp/out" &&
    grep -q '1 of 2 models' "$tmp/err"
point 'verify: a byte has changed' $?
run model verify --json other mine && status=1 || status=$?
[ "$status" -eq 1 ] && grep '"name":"other"' "$tmp/out" | grep -q '"ok":false' &&
    grep '"name":"mine"' "$tmp/out" | grep -q '"ok":true'
point 'verify --json NAME' $?

fails 4 "alias 'bundled' stands for\|alias 'short' stands for" model rm mine
run model rm short && run model rm bundled && run model rm mine && run model rm other &&
    [ -z "$(ls -A "$own")" ] && [ -e "$tmp/mine.gguf" ]
point 'rm leaves nothing, and what a link pointed to' $?

fails 7 'only your own models can be removed' model rm tiny-base-Q8_0
fails 3 "no model 'nothere'" model rm nothere
fails 3 "no model 'nothere'" model alias x nothere
fails 3 "no record of 'tiny-base-Q8_0'" model verify tiny-base-Q8_0
fails 2 "there is a model 'tiny-base' already" model add --name tiny-base "$tmp/mine.gguf"
fails 2 "there is a model 'tiny-base' already" model alias tiny-base tiny-draft
for name in .hidden -x a/b '' x.gguf "$(printf 'a\tb')" "$(printf '\377')"; do
    fails 2 "a model's name has" model add "--name=$name" "$tmp/mine.gguf"
done
fails 2 'model ls has no option --name' model ls --name x
fails 2 'model needs ls' model add
head -c 100000 "$bundle/tiny-base-Q8_0.gguf" >"$tmp/short.gguf"
fails 3 'short.gguf' model add "$tmp/short.gguf"
fails 3 'nothere.gguf' model add "$tmp/nothere.gguf"
[ -z "$(ls -A "$own")" ]
point 'what was refused left nothing behind' $?

# ---- what a model is and takes
run model show tiny-base && grep -q '^runs     yes$' "$tmp/out" &&
    grep -q '^types    Q8_0 .* in 36 tensors, F32 ' "$tmp/out" && grep -q '^rope     none, base 10000$' "$tmp/out" &&
    grep -q 'tokenizer gpt2 with pre-tokenizer qwen2$' "$tmp/out" && ! grep -q '^experts' "$tmp/out"
point 'show: what the model is made of' $?
run model show --json tiny-base && grep -q '"runs":true,"problem":null' "$tmp/out" &&
    grep -q '"types":\[{"type":"Q8_0","tensors":36,' "$tmp/out" && grep -q '"rope":"none"' "$tmp/out"
point 'show --json' $?
run model show --template tiny-base && grep -q '^{% for message in messages %}' "$tmp/out" &&
    cp "$tmp/out" "$tmp/own.jinja" &&
    run solve --no-trace --json -s single -p dev-0001 && sum=$(sed 's/.*"digest":"\([^"]*\)".*/\1/' "$tmp/out") &&
    run solve --no-trace --json -s single -p dev-0001 --chat-template "$tmp/own.jinja" && grep -q "$sum" "$tmp/out"
point 'show --template prints what --chat-template takes' $?
run model show --template --json tiny-base && grep -q '"chat_template":"{% for' "$tmp/out"
point 'show --template --json' $?
run model show tiny-base --estimate --ctx 256 --branches 1,64 --prompt-shared 100 --threads 2 --json &&
    total=$(sed 's/.*"branches":64,.*"total_bytes":\([0-9]*\)}.*/\1/' "$tmp/out") &&
    program=$(sed 's/.*"program_bytes":\([0-9]*\),.*/\1/' "$tmp/out") && limit=$((total - program)) &&
    [ "$program" -gt 1000000 ] && [ "$limit" -gt 5000000 ] &&
    grep -q '"kv_token_bytes":1280,"ctx":256,"prompt_shared":100' "$tmp/out"
point 'show --estimate --json' $?
run model show tiny-base --estimate --branches 1,64 --kv-type q8_0 && grep -q '^  64  .* MB .* MB$' "$tmp/out" &&
    grep -q '680 bytes a token in q8_0; branches of 512 tokens$' "$tmp/out"
point 'show --estimate' $?
run solve --no-trace -m tiny-base -s self_consistency -o samples=64 -p dev-0001 --memory-limit "$limit"
point 'what was estimated is enough' $?
fails 8 'loading .*tiny-base.* MB (weights .* for each token .*memory limit of 2.0 MB' \
    solve --no-trace -s single -p dev-0001 --memory-limit 2000000
fails 2 'ctx: 513 tokens are more than the 512' model show tiny-base --estimate --ctx 513
fails 2 'prompt-shared: 65 tokens are more than the 64' model show tiny-base --estimate --ctx 64 --prompt-shared 65
fails 2 'ctx is of --estimate' model show tiny-base --ctx 64
fails 2 'model ls has no option --estimate' model ls --estimate
fails 3 "no model 'nothere'" model show nothere --estimate

# ---- control vectors (strategies.md 10.4)
for q in 'Mia has 18 beads. She finds 4 more. How many beads does Mia have?' \
    'Sam has 30 cups. He loses 12. How many cups does Sam have?' \
    'Zoe has 7 pens. She buys 5 more. How many pens does Zoe have now?'; do
    printf '{"question":"%s","short":"So it is 22.\\n\\n</think>\\nThe answer is \\\\boxed{22}.",' "$q"
    printf '"long":"It is 20 + 2 = 22. It is 20 + 2 = 22.\\n\\nIt is 20 + 2 = 22.\\n\\n"}\n'
done >"$tmp/pairs.jsonl"
run model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 2 --kl-max 0.5 -o "$tmp/v.gguf" --json &&
    grep -q '"layer":2,"pairs":3,.*"checked":3,' "$tmp/out" && cp "$tmp/v.gguf" "$tmp/again.gguf" &&
    gamma=$(sed 's/.*"gamma":\([^,]*\),.*/\1/' "$tmp/out")
point 'steer: a vector' $?
python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); sys.exit(not (
    r["steered_tokens"] < r["plain_tokens"] and 0 < r["kl"] <= 0.5 and r["gamma"] > 0))' "$tmp/out"
point 'steer: answers are shorter, and not too far away' $?
run model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 2 --kl-max 0.5 -o "$tmp/v.gguf" &&
    grep -q "^use      ponder solve -o steer=$tmp/v.gguf -o steer_gamma=" "$tmp/out" &&
    cmp -s "$tmp/v.gguf" "$tmp/again.gguf"
point 'steer: the same file again' $?
digest() {
    run solve --json --data-dir "$tmp/data" -s self_consistency -o samples=2 -p dev-0003 "$@" &&
        sed 's/.*"digest":"\([^"]*\)".*/\1/' "$tmp/out"
}
plain=$(digest) && none=$(digest -o steer="$tmp/v.gguf" -o steer_gamma=0) && [ "$plain" = "$none" ]
point 'solve -o steer_gamma=0 is no steering' $?
with=$(digest -o steer="$tmp/v.gguf" -o steer_gamma="$gamma") && [ "$plain" != "$with" ]
point 'solve -o steer is another job' $?
run trace ls --data-dir "$tmp/data" --json --limit 1 && id=$(sed 's/.*"id":"\([^"]*\)".*/\1/' "$tmp/out") &&
    run replay --data-dir "$tmp/data" --verify "$id" && grep -q "^identical: digest $with" "$tmp/out"
point 'replay --verify of a steered job' $?
moved=$(digest -o steer="$tmp/again.gguf" -o steer_gamma="$gamma") && [ "$with" = "$moved" ]
point 'the digest has the vectors, not the name of their file' $?
run model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 1 --kl-max 2 -o "$tmp/v.gguf"
fails 3 'v.gguf. is not the file this job ran with' replay --data-dir "$tmp/data" --verify "$id"
fails 3 'nothere.gguf' solve --no-trace -p dev-0001 -o steer="$tmp/nothere.gguf"
fails 3 "architecture is 'llama', not controlvector" solve --no-trace -p dev-0001 -s single \
    -o steer="$bundle/tiny-base-Q8_0.gguf"
fails 2 'model steer needs --pairs, --layer and --out' model steer tiny-base --layer 1
fails 2 'there is no layer 6 to read: the model has 1 to 5' \
    model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 6 -o "$tmp/x.gguf"
echo '{"question":"x","short":"y"}' >>"$tmp/pairs.jsonl"
fails 3 'pairs.jsonl., line 4: a pair is' model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 1 -o "$tmp/x.gguf"
fails 2 'kl-max=0 is not' model steer tiny-base --pairs "$tmp/pairs.jsonl" --layer 1 -o "$tmp/x.gguf" --kl-max 0
[ ! -e "$tmp/x.gguf" ]
point 'steer: what was refused left nothing behind' $?

mkdir -p "$own"
cp "$bundle/tiny-draft-Q8_0.gguf" "$own/broken.gguf"
echo '{"ponder_model":1,"sha256":"no"}' >"$own/broken.json"
fails 3 'broken.json.* is not the record of a model' model verify broken
echo '{' >"$own/broken.json"
fails 3 'broken.json' model verify

finish

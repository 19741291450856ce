#!/bin/sh
# Jobs on an engine elsewhere: the fake one in each dialect, and ponder's own daemon. TAP.
build=${PONDER_TEST_BUILDDIR:-.}
ponder=$build/ponder
tmp=$(mktemp -d) || exit 1
export PONDER_DATA_DIR="$tmp/data" PONDER_THREADS=2 XDG_CONFIG_HOME="$tmp/config"
unset PONDER_PROBLEM PONDER_SEED PONDER_STRATEGY PONDER_OPTION PONDER_MODEL PONDER_CONFIG NO_COLOR http_proxy
mkfifo "$tmp/stop"

n=0
failed=0
point() # NAME STATUS
{
    n=$((n + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $n - $1"
        return
    fi
    failed=1
    echo "not ok $n - $1"
    head -n 5 "$tmp/out" "$tmp/err" | sed 's/^/# /'
}
run() { "$ponder" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$tmp/out"; }

start() # DIALECT: url=http://…
{
    "$build/tests/tools/fake_engine" "$1" <"$tmp/stop" >"$tmp/port" &
    exec 9>"$tmp/stop"
    while [ ! -s "$tmp/port" ]; do sleep 0.05; done
    url=http://127.0.0.1:$(cat "$tmp/port")
}
stop()
{
    exec 9>&-
    wait
    : >"$tmp/port"
}
trap 'exec 9>&-; rm -rf "$tmp"' EXIT

for dialect in vllm sglang llama-server openai anthropic; do
    start "$dialect"
    set -- -s self_consistency -o samples=6
    [ "$dialect" != sglang ] || set -- "$@" --chat-template none
    run --json solve 'What is 3 + 4?' -m "$dialect+$url" "$@"
    id=$(field trace) # there may be no answer in these texts, but a job that was done
    digest=$(field digest)
    [ -n "$id" ] && [ -n "$digest" ]
    point "$dialect: a job" $?
    stop # without its engine
    run --json replay "$id"
    [ "$(field digest)" = "$digest" ]
    point "$dialect: replays from its record" $?
    run --json trace export "$id"
    [ "$(grep -c '"type":"call".*"attempt":1' "$tmp/out")" -ge 6 ] &&
        grep -q "\"dialect\":\"$dialect\"" "$tmp/out"
    point "$dialect: its requests are calls" $?
done
run trace verify
point 'the ledger holds' $?

start vllm
mkdir -p "$XDG_CONFIG_HOME/ponder"
cat >"$XDG_CONFIG_HOME/ponder/ponder.json" <<END
{ "ponder_config": 1,
  "engines": { "big": { "type": "vllm", "url": "$url", "max_inflight": 3 } },
  "models": { "far": { "engine": "big", "id": "fake" }, "gone": { "engine": "big", "id": "x" } } }
END
run engine ls && grep -q "^big *vllm *$url" "$tmp/out"
point 'engine ls' $?
run engine probe big && grep -q '^model *fake' "$tmp/out" && grep -q '^context *4096' "$tmp/out"
point 'engine probe' $?
run --json solve 'What is 3 + 4?' -m far -s self_consistency -o samples=3
[ -n "$(field digest)" ]
point 'a model of the configuration' $?
run solve 'What is 3 + 4?' -m gone -s single
[ $? -ne 0 ] && grep -q "engine 'big' has no model 'x' (it has: fake)" "$tmp/err"
point 'a model that the engine lacks' $?
run solve 'What is 3 + 4?' -m far -s single -o speculate=lookup
[ $? -ne 0 ] && grep -q 'speculate is for models of the local engine' "$tmp/err"
point 'no speculation elsewhere' $?
stop
run solve 'What is 3 + 4?' -m far -s single
[ $? -eq 4 ] && grep -q "engine 'big'.*nobody answers" "$tmp/err"
point 'an engine that is not there' $?
start openai
run solve -m "openai+$url" -s beam --scorer oracle -p dev-0001
[ $? -ne 0 ] && grep -q 'dialect openai) has no searches by steps' "$tmp/err"
point 'a search by steps needs token ids' $?
stop

echo "1..$n"
exit "$failed"

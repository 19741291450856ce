#!/bin/sh
# A search does not know where its model is: each strategy comes out the same, bit for bit, on a model of the
# built-in engine and on the same model behind HTTP (tests/tools/bridge); where one cannot run there, it says what is
# lacking. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
build=${PONDER_TEST_BUILDDIR:-.}
mkfifo "$tmp/stop"
"$build/tests/tools/bridge" tiny-base <"$tmp/stop" >"$tmp/port" &
exec 9>"$tmp/stop"
trap 'exec 9>&-; rm -rf "$tmp"' EXIT
until [ -s "$tmp/port" ] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
url=http://127.0.0.1:$(cat "$tmp/port")

solve() # MODEL STRATEGY: $digest
{
    set -- "$@" -o max_tokens=100
    [ "$2" != compute_optimal ] || set -- "$@" -o 'table=.5;1@1,self_consistency(samples=6),1,1;2@1,beam,1,1'
    model=$1
    strategy=$2
    shift 2
    run --json -q solve -p dev-0001 -m "$model" -s "$strategy" "$@" --budget-tokens 2000
    digest=$(field digest)
}
for strategy in $(sed 's/^X(\(.*\))$/\1/' "$build/strategies/table.inc"); do
    solve "vllm+$url" "$strategy"
    case $strategy in
    hogwild) # attention over what others write: no HTTP interface has it
        grep -q "lines that see each other .* (dialect vllm) cannot do that" "$tmp/err" ;;
    subtask_prune) # writes in a form of its own
        grep -q '(dialect vllm) has no answers of a given form' "$tmp/err" ;;
    deepconf) # goes by the confidence of each token
        grep -q '(dialect vllm) has no confidences of tokens' "$tmp/err" ;;
    adaptive_restart) # reads how likely a token is that is not always a likely one
        [ -n "$digest" ] || grep -q 'tells the likeliest 20 next tokens, and token' "$tmp/err" ;;
    *)
        elsewhere=$digest
        solve tiny-base "$strategy"
        [ -n "$digest" ] && [ "$digest" = "$elsewhere" ] ;;
    esac
    point "$strategy" $?
done
echo '{"type":"object"}' >"$tmp/schema"
run solve -m "vllm+$url" -s single --schema "$tmp/schema" -p dev-0001
[ $? -ne 0 ] && grep -q '(dialect vllm) has no answers of a given form' "$tmp/err"
point 'no answers of a given form' $?
exec 9>&-
wait
finish

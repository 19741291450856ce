#!/bin/sh
# What determines a job's result beside its question is stored with it: a replay uses that, whatever
# the environment says now. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
# solve ARGUMENTS...: sets id and digest
solve()
{
    run solve --json -p dev-0003 -o samples=4 "$@" && id=$(field trace) && digest=$(field digest)
}
verified() { run replay "$id" --verify && [ "$(cat "$tmp/out")" = "identical: digest $digest" ]; }
request() { run trace export "$id" --format jsonl && head -n 1 "$tmp/out"; }

# ---- the type of the KV cache
solve
point 'solve' $?
plain=$digest
request | grep -q kv_type && status=1 || status=0
point 'the usual type is not written down' $status
solve --kv-type f16 && [ "$digest" = "$plain" ] && ! request | grep -q kv_type
point '--kv-type f16 is the usual one' $?
seen=$plain
for type in f32 q8_0; do
    solve --kv-type $type && ! echo "$seen" | grep -q "$digest" && request | grep -q "kv_type.*$type"
    point "$type gives other bits and is written down" $?
    seen="$seen $digest"
    verified
    point "a replay computes with $type again" $?
    PONDER_KV_TYPE=f16 verified
    point "whatever the variable says" $?
    run replay "$id" && grep -q "$digest" "$tmp/out"
    point "a replay from the record of $type" $?
done
PONDER_KV_TYPE=q8_0 solve && [ "$digest" = "${seen##* }" ]
point 'PONDER_KV_TYPE' $?
run solve -v --no-trace -s single -p dev-0001 --kv-type q8_0 && grep -q 'KV in q8_0' "$tmp/err"
point 'solve -v says the type' $?
run solve -v --resume "$id" --json && [ "$(field digest)" = "$digest" ]
point 'a job that is done needs no engine' $?
fails 2 'kv-type must be one of f32|f16|q8_0' solve --kv-type q4_0 hello
fails 2 'kv-type cannot be changed with --resume' solve --resume "$id" --kv-type f16
PONDER_KV_TYPE=x fails 2 'PONDER_KV_TYPE must be one of' solve hello

# ---- the chat template
cat >"$tmp/loud.jinja" <<'END'
{{ bos_token }}{% for m in messages %}{{ m.content | upper }}{% endfor %} ANSWER:
END
for template in none chatml "$tmp/loud.jinja"; do
    solve --chat-template "$template" && [ "$digest" != "$plain" ] && request | grep -q chat_template
    point "--chat-template ${template##*/} gives another prompt and is written down" $?
    verified
    point 'a replay has the same prompt' $?
    PONDER_CHAT_TEMPLATE=none verified
    point 'whatever the variable says' $?
done
loud=$id loud_digest=$digest
PONDER_CHAT_TEMPLATE="$tmp/loud.jinja" solve && [ "$digest" = "$loud_digest" ]
point 'PONDER_CHAT_TEMPLATE' $?
echo '{{ messages[0].content }}' >"$tmp/loud.jinja"
id=$loud digest=$loud_digest
verified
point 'the file has changed: the stored text counts' $?
rm "$tmp/loud.jinja"
verified
point 'the file is gone: the stored text counts' $?
run replay "$id" && grep -q "$digest" "$tmp/out"
point 'a replay from the record' $?
fails 2 'chat-template cannot be changed with --resume' solve --resume "$id" --chat-template none
fails 3 'no chat template .*loud.jinja.*: neither a file nor one of none, chatml' \
    solve --chat-template "$tmp/loud.jinja" hello
printf 'a\377' >"$tmp/bad.jinja"
fails 3 'bad.jinja.*not valid UTF-8' solve --chat-template "$tmp/bad.jinja" hello
echo '{% include "other" %}' >"$tmp/bad.jinja"
fails 3 "in the chat template.*include" solve --chat-template "$tmp/bad.jinja" hello
echo '{{ raise_exception("no questions") }}' >"$tmp/bad.jinja"
fails 2 'no questions' solve --chat-template "$tmp/bad.jinja" hello

finish

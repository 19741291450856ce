#!/bin/sh
# The daemon and engines elsewhere: jobs run on them; routes that need the model's file say that there is none; an
# engine that does not answer costs nobody else anything. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
export PONDER_THREADS=1 XDG_CONFIG_HOME="$tmp/config"
question='"messages":[{"role":"user","content":"What is 3 + 4?"}],"seed":5'
fake=${PONDER_TEST_BUILDDIR:-.}/tests/tools/fake_engine
mkfifo "$tmp/stop" # all run until it is closed
"$fake" vllm <"$tmp/stop" >"$tmp/vllm" &
"$fake" silent <"$tmp/stop" >"$tmp/silent" &
silent=$!
"$fake" silent <"$tmp/stop" >"$tmp/mute" &
exec 9>"$tmp/stop"
eventually [ -s "$tmp/vllm" ]
eventually [ -s "$tmp/silent" ]
eventually [ -s "$tmp/mute" ]
mkdir -p "$XDG_CONFIG_HOME/ponder"
cat >"$XDG_CONFIG_HOME/ponder/ponder.json" <<END
{ "ponder_config": 1,
  "engines": { "big": { "type": "vllm", "url": "http://127.0.0.1:$(cat "$tmp/vllm")" },
               "silent": { "type": "vllm", "url": "http://127.0.0.1:$(cat "$tmp/silent")", "retries": 1 },
               "mute": { "type": "vllm", "url": "http://127.0.0.1:$(cat "$tmp/mute")" },
               "dead": { "type": "vllm", "url": "http://127.0.0.1:9", "retries": 1 } },
  "models": { "far": { "engine": "big", "id": "fake" }, "gone": { "engine": "dead", "id": "x" },
              "silent": { "engine": "silent", "id": "x" },
              "mute": { "engine": "mute", "id": "x" }, "also": { "alias": "far" } } }
END
start_daemon
point 'the daemon serves' $?

api GET /v1/engines && has '"name":"local"' && has '"name":"big","type":"vllm","url":"http://127.0.0.1'
point 'engines: those of the configuration' $?
api POST /v1/engines/big/probe && [ "$status" = 200 ] && has '"model":"fake","context":4096'
point 'probe' $?
api POST /v1/engines/dead/probe && [ "$status" = 502 ] && has 'nobody answers'
point 'probe of one that is not there' $?

refused() # a point: that the last request was
{
    [ "$status" = 400 ] && has "model 'far' is served by the engine 'big': it has no file here"
    point "$path: no model elsewhere" $?
}
post /tokenize '{"model":"far","content":"a"}'
refused
post /detokenize '{"model":"far","tokens":[97]}'
refused
post /apply-template "{\"model\":\"far\",$question}"
refused
post /v1/models/far/load '{}'
refused
post /v1/models/far/unload '{}'
refused
path=/props
api GET '/props?model=far'
refused
path=/v1/models/far
api GET /v1/models/far
refused
post /v1/score '{"model":"far","problem":"What is 3 + 4?","solutions":[["3 + 4 = 7"]]}'
refused
post /v1/rerank '{"model":"far","query":"What is 3 + 4?","documents":["3 + 4 = 7"]}'
refused
post /v1/chat/completions "{\"model\":\"far\",$question}"
refused
has '"param":"model"' && has 'POST /v1/jobs takes it'
point 'and says what to do' $?
post /v1/chat/completions "{\"model\":\"also@self_consistency\",$question}"
refused
post /v1/completions '{"model":"far","prompt":"3 + 4"}'
refused

submit() # MODEL: a job, its answer in $tmp/waits, while this goes on
{
    curl -s --unix-socket "$socket" -H 'Content-Type: application/json' -d "{\"model\":\"$1\",$question}" \
        http://localhost/v1/jobs >"$tmp/waits" &
    waits=$!
}
connected() { grep -q "$(printf ':%04X 01' "$(cat "$tmp/$1")")" /proc/net/tcp; } # ENGINE
post /v1/jobs "{\"model\":\"far\",$question,\"ponder\":{\"strategy\":\"self_consistency\"}}"
id=$(field id)
[ "$status" = 202 ] && eventually sh -c "'$ponder' -H 'unix://$socket' job show '$id' | grep -q done"
point 'a job' $?
submit silent
eventually connected silent
post /v1/chat/completions "{\"model\":\"tiny-base\",$question}" && [ "$status" = 200 ] && kill -0 "$waits"
point 'and one here, while an engine that says nothing is waited for' $?
kill "$silent"
wait "$waits"
grep -q 'broke off' "$tmp/waits"
point 'until that one broke off' $?
post /v1/jobs "{\"model\":\"http://127.0.0.1:1\",$question}" && [ "$status" -ge 400 ]
point 'requests name no addresses' $?
post /v1/jobs "{\"model\":\"gone\",$question}" && [ "$status" = 502 ] && has 'nobody answers'
point 'a job for an engine that is not there' $?
submit mute
eventually connected mute
stop_daemon
point 'SIGTERM, while a job waits for an engine' $?
wait "$waits"
exec 9>&-
described
finish

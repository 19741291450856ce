#!/bin/sh
# The Model Context Protocol, over HTTP and through `ponder mcp`. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
start_daemon
ask() # CURL'S ARGUMENTS...
{
    api POST /mcp -H 'Content-Type: application/json' "$@"
}
status() { [ "$status" = "$1" ]; }
call() # TOOL ARGUMENTS [HEADER]
{
    ask -H "${3:-X-None: 1}" -d '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"'"$1"'","arguments":'"$2"'}}'
}

# ---- the protocol
ask -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}'
has '"id":1,"result":{"protocolVersion":"2025-06-18"' && has '"serverInfo":{"name":"ponder"'
point 'initialize: the version that the client wants' $?
session=$(sed -n 's/^Mcp-Session-Id: \([^\r]*\).*/\1/p' "$tmp/headers")
[ -n "$session" ]
point 'and a session' $?
ask -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"1999-01-01"}}'
has '"protocolVersion":"2025-11-25"'
point 'an unknown version gets the newest' $?
ask -H "Mcp-Session-Id: $session" -d '{"jsonrpc":"2.0","method":"notifications/initialized"}'
status 202
point 'a notification: 202' $?
ask -H 'MCP-Protocol-Version: 1' -d '{"jsonrpc":"2.0","id":2,"method":"ping"}'
status 400
point 'a version in the header that is not spoken: 400' $?
ask -H 'Mcp-Session-Id: mcp_other' -d '{"jsonrpc":"2.0","id":2,"method":"ping"}'
status 404
point 'a session that is over: 404' $?
ask -d '{"jsonrpc":"2.0","id":"a","method":"ping"}'
has '{"jsonrpc":"2.0","id":"a","result":{}}'
point 'ping' $?
ask -d '[1,2'
status 400 && has '"code":-32700'
point 'not JSON' $?
ask -d '{"jsonrpc":"2.0","id":{},"method":"ping"}'
status 400 && has '"code":-32600'
point 'an id that is none' $?
ask -d '{"jsonrpc":"2.0","id":3,"method":"resources/list"}'
has '"code":-32601'
point 'a method that is not there' $?
api GET /mcp
status 405
point 'GET: 405' $?
ask -H 'Origin: http://evil.example' -d '{"jsonrpc":"2.0","id":3,"method":"ping"}'
status 403
point 'a foreign Origin: 403' $?

# ---- the tools
ask -d '{"jsonrpc":"2.0","id":4,"method":"tools/list"}'
missing=
for tool in solve submit_job job_status job_result cancel_job score_steps list_models explain_trace; do
    has "\"name\":\"$tool\"" || missing="$missing $tool"
done
[ -z "$missing" ] && has '"inputSchema":{"type":"object"' && has '"readOnlyHint": true'
point 'tools/list' $?
call list_models '{}'
has '"structuredContent":{"models":[' && has '"isError":false'
point 'list_models' $?
question='"question":"Mia has 18 beads. She finds 4 more. How many beads does Mia have?"'
call solve "{$question,\"options\":{\"samples\":4},\"seed\":7}"
has '"status":"done"' && has '"answer":"22"'
point 'solve' $?
call solve "{$question,\"speed\":9}"
has '"code":-32602' && has 'speed is not an argument'
point 'an argument that is not known' $?
call solve '{}'
has '"code":-32602' && has 'question is missing'
point 'an argument that is missing' $?
call solve "{$question,\"strategy\":\"nonsense\"}"
has '"isError":true' && has 'nonsense'
point 'a strategy that is not there is a failure of the work' $?
call dance '{}'
has '"code":-32602'
point 'a tool that is not there' $?
call submit_job "{$question,\"options\":{\"samples\":4},\"idempotency_key\":\"k\"}"
job=$(sed -n 's/.*"structuredContent":{"job":"\([^"]*\)".*/\1/p' "$tmp/out")
call submit_job "{$question,\"options\":{\"samples\":4},\"idempotency_key\":\"k\"}"
[ -n "$job" ] && has "$job"
point 'submit_job twice with one key is one job' $?
call submit_job "{$question,\"options\":{\"samples\":5},\"idempotency_key\":\"k\"}"
has '"isError":true' && has 'idempotency_key was used'
point 'but not with other arguments' $?
"$ponder" job wait "$job" >/dev/null 2>&1
call job_status "{\"job\":\"$job\"}"
has '"status":"done"'
point 'job_status' $?
call job_result "{\"job\":\"$job\"}"
has '"answer":"22"' && has '"steps":[{"text":"' && has "\"structuredContent\":{\"job\":\"$job\""
point 'job_result' $?
call explain_trace "{\"job\":\"$job\",\"max_nodes\":2}"
has '"nodes_total":5' && has '(3 more)'
point 'explain_trace' $?
call score_steps '{"problem":"Mia has 18 beads. She finds 4 more. How many?","steps":["18 + 4 = 22.","The answer is 22."]}'
has '"structuredContent":{"scorer":"tiny-prm","steps":[0.' && has '"aggregate":{"min":' && has '"isError":false'
point 'score_steps' $?
call score_steps '{"problem":"x","steps":["a",""]}'
has '"isError":true' && has 'a step is not empty'
point 'score_steps: an empty step' $?
call score_steps '{"problem":"x","steps":"a"}'
has '"code":-32602'
point 'score_steps: no array' $?
call score_steps '{"problem":"x","steps":["a"],"scorer":"nope"}'
has '"isError":true' && has "no model 'nope'"
point 'score_steps: no such scorer' $?
call job_result '{"job":"job_0"}'
has '"isError":true'
point 'no such job' $?

# Long work: progress, and a cancellation that ends it
cat >"$tmp/long" <<END
{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"_meta":{"progressToken":"p"},"name":"solve","arguments":{"question":"What is 3 + 4?","strategy":"mcts","options":{"samples":100000},"seed":3}}}
END
curl -sS -N -o "$tmp/stream" --unix-socket "$socket" -H 'Content-Type: application/json' \
    -H "Mcp-Session-Id: $session" -H 'Accept: application/json, text/event-stream' -d @"$tmp/long" \
    http://localhost/mcp 2>"$tmp/err" &
long=$!
eventually grep -qs notifications/progress "$tmp/stream"
grep -q '"progressToken":"p","progress":[0-9]' "$tmp/stream"
point 'work that takes long tells its progress' $?
ask -H "Mcp-Session-Id: $session" -d '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}'
wait $long
[ $? -eq 0 ] && ! grep -q '"id":9' "$tmp/stream"
point 'cancelled: it ends without an answer' $?
"$ponder" job ls --status cancelled --json >"$tmp/out" 2>&1
has '"strategy":"mcts"'
point 'and so does its job' $?

# ---- the bridge
printf '%s\n' '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}' \
    '{"jsonrpc":"2.0","method":"notifications/initialized"}' '' 'nonsense' \
    '{"jsonrpc":"2.0","id":2,"method":"tools/list"}' >"$tmp/in"
"$ponder" mcp <"$tmp/in" >"$tmp/out" 2>"$tmp/err"
[ $? -eq 0 ] && [ "$(wc -l <"$tmp/out")" -eq 3 ] && [ ! -s "$tmp/err" ] &&
    sed -n 1p "$tmp/out" | grep -q '"id":1,"result"' && sed -n 2p "$tmp/out" | grep -q -- -32700 &&
    sed -n 3p "$tmp/out" | grep -q '"id":2,"result"'
point 'ponder mcp: a line for each message that has an answer' $?
echo '{"jsonrpc":"2.0","id":5,"method":"ping"}' | "$ponder" --host "unix://$tmp/nobody" mcp >"$tmp/out" 2>&1
has '"id":5,"error"' && has 'no daemon answers'
point 'without a daemon: an error that says so' $?
stop_daemon
point 'the daemon ends with 0' $?
(
    printf '%s\n' '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
    printf '%s\n' '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"solve","arguments":{'"$question"',"options":{"samples":4},"seed":7}}}'
    eventually grep -q '"id":2' "$tmp/out"
) | "$ponder" mcp --standalone >"$tmp/out" 2>"$tmp/err"
has '"answer":"22"'
point 'ponder mcp --standalone' $?

described
finish

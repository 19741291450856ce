#!/bin/sh
# docs/openapi.json describes what `ponder serve` does: the file is sound, has every route and no other, and is
# what the daemon serves. Its schemas are held against real requests and replies by the other scripts of this
# folder, see described() in tests/support/daemon.sh. Who adds a route describes it in that file. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
if ! can_describe; then
    echo '1..0 # SKIP no python3 with jsonschema'
    exit 0
fi
openapi file >"$tmp/out" 2>"$tmp/err"
point 'the file is an OpenAPI 3.1 document' $?
openapi routes "$src"/src/daemon/route_*.c "$src"/src/daemon/mcp.c >"$tmp/out" 2>"$tmp/err"
point 'it has every route, and no other' $?

start_daemon --listen unix --listen http://127.0.0.1:0
api GET /openapi.json
cmp "$tmp/out" "$src/docs/openapi.json" >"$tmp/err" 2>&1
point 'the daemon serves it' $?

# What the other scripts do not ask for.
for path in /health /v1/health /ready /version /metrics /v1/models /v1/models/tiny-base /v1/jobs /nowhere \
    '/v1/jobs/a/b/c' '/v1/models/nope' /v1/engines /props '/props?model=tiny-prm' '/props?model=nope' \
    '/props?model=a/b'; do
    api GET "$path"
done
for path in /v1/models/tiny-prm/load /v1/models/tiny-prm/unload /v1/models/nope/load /v1/engines/local/probe \
    /v1/engines/nope/probe; do
    api POST "$path"
done
api PUT /v1/jobs
api POST /version
api DELETE /mcp
api DELETE /mcp -H 'Mcp-Session-Id: mcp_none'
api POST /v1/jobs -H 'Content-Type: text/plain' -d '{}'
api GET /v1/jobs -H 'Origin: http://elsewhere.example'
post /v1/jobs '{"messages":[{"role":"user","content":"1 + 1?"}],"ponder":{"options":{"samples":2}}}'
[ "$status" = 202 ]
point 'a request from each corner' $?
port=$(sed -n 's/.*http:\/\/127.0.0.1:\([0-9]*\).*/\1/p' "$tmp/log" | tail -n 1)
status=$(curl -s -o "$tmp/out" -D "$tmp/headers" -w '%{http_code}' "http://127.0.0.1:$port/version")
record GET /version
[ "$status" = 401 ]
point 'and without a token' $?
described

# The checks see what is wrong.
mkdir "$tmp/wrong"
wrong() # NAME WORDS METHOD PATH STATUS TYPE REQUEST REPLY
{
    printf '%s\0' "$3" "$4" "$5" >"$tmp/wrong/1.args"
    printf 'HTTP/1.1 %s\r\nContent-Type: %s\r\n\r\n' "$5" "$6" >"$tmp/wrong/1.headers"
    printf '%s' "$7" >"$tmp/wrong/1.sent"
    printf '%s' "$8" >"$tmp/wrong/1.out"
    ! openapi exchanges "$tmp/wrong" >"$tmp/out" 2>"$tmp/err" && has "$2"
    point "it is noticed: $1" $?
}
json=application/json
wrong 'a member that is not described' 'more' GET /ready 200 $json '' '{"status":"ok","more":1}'
wrong 'a member that is missing' 'required' GET /ready 200 $json '' '{}'
wrong 'another status' '418 is not described' GET /ready 418 $json '' '{}'
wrong 'another type' 'text/html' GET /ready 200 text/html '' '{"status":"ok"}'
wrong 'an event that is not described' 'seq' GET /v1/jobs/x/events 200 text/event-stream '' 'data: {"seq":0}'
wrong 'a parameter that is not described' 'colour' GET '/v1/jobs?colour=red' 200 $json '' \
    '{"object":"list","data":[],"has_more":false,"next_cursor":null}'
wrong 'a request that should not have been taken' 'taken, but' POST /detokenize 200 $json '{"tokens":"x"}' \
    '{"content":"","prompt":""}'
wrong 'a request that should not have been refused' 'refused' POST /v1/jobs 400 $json \
    '{"messages":[{"role":"user","content":"x"}]}' \
    '{"error":{"message":"m","type":"invalid_request_error","param":"messages","code":"out_of_range"},"request_id":"r"}'
finish

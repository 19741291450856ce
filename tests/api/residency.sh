#!/bin/sh
# Models in the daemon's memory: loaded and unloaded, by request and by need. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
export PONDER_THREADS=1 XDG_CONFIG_HOME="$tmp/config"
has() { grep -q "$1" "$tmp/out"; } # an expression
loaded() # MODEL true|false: what /v1/models says of it
{
    api GET "/v1/models/$1" && has "\"loaded\":$2"
}
cli() { run "$@" -H "unix://$socket"; }
question='"messages":[{"role":"user","content":"What is 3 + 4?"}],"seed":5'

# ---- no limit: a model stays until it is unloaded
start_daemon
point 'the daemon serves' $?
api GET /v1/engines && has '"name":"local","type":"gguf","up":false' && has '"models":\[\]'
point 'engines: nothing is loaded yet' $?
loaded tiny-base false && has '"engine":"local"' && has '"sha256":null' && has '"ctx":512'
point 'a model that is not loaded' $?
post /v1/models/tiny-base/load '{}' && [ "$status" = 200 ] && has '"loaded":true'
point 'load' $?
loaded tiny-base true && has '"sha256":"[0-9a-f]\{64\}"'
point 'is loaded, and its hash is known' $?
api GET /v1/engines && has '"up":true' && has 'tiny-base-Q8_0.gguf","sha256":"[0-9a-f]*","in_use":false'
point 'engines: which models' $?
api POST /v1/engines/local/probe && [ "$status" = 200 ] && api POST /v1/engines/big/probe &&
    [ "$status" = 404 ]
point 'probe' $?
api GET /props && [ "$status" = 200 ] && has '"n_ctx":512' && has '"chat_template":"' &&
    api GET '/props?model=nothing' && [ "$status" = 404 ] &&
    api GET '/props?model=/etc/passwd' && [ "$status" = 400 ]
point 'props' $?
cli model load tiny-prm && loaded tiny-prm true && cli model unload tiny-prm &&
    loaded tiny-prm false && cli model unload tiny-prm
point 'model load, model unload, and that is idempotent' $?
post /v1/models/nothing/load '{}' && [ "$status" = 404 ] && has '"code":"model_not_found"' &&
    post /v1/models/nothing/unload '{}' && [ "$status" = 404 ]
point 'a model that is not there' $?
post /v1/jobs '{"model":"tiny-base",'"$question"',"ponder":{"strategy":"self_consistency","options":{"samples":256}}}'
id=$(field id)
until api GET "/v1/jobs/$id" && has '"status":"running"'; do sleep 0.05; done
post /v1/models/tiny-base/unload '{}' && [ "$status" = 409 ] && has '"code":"bad_state"'
point 'a model in use stays' $?
api POST "/v1/jobs/$id/cancel" -H 'Content-Type: application/json' -d '{}'
post /v1/models/tiny-base/unload '{}' && [ "$status" = 200 ] && loaded tiny-base false
point 'and goes when its jobs have ended' $?
post /v1/chat/completions '{"model":"tiny-base",'"$question"'}' && [ "$status" = 200 ] &&
    loaded tiny-base true
point 'who needs it loads it again' $?
post /v1/score '{"model":"tiny-prm","problem":"What is 3 + 4?","solutions":[["3 + 4 = 7"]]}' &&
    [ "$status" = 200 ] && loaded tiny-prm true
point 'score loads its model' $?
stop_daemon
point 'SIGTERM' $?

# ---- with room for one of them
start_daemon --memory-limit 8.5MB
point 'the daemon serves with a memory limit' $?
post /v1/models/tiny-base/load '{}' && loaded tiny-base true
point 'one fits' $?
post /v1/models/tiny-prm/load '{}' && loaded tiny-prm true && loaded tiny-base false
point 'the next one drives it out' $?
post /v1/chat/completions '{"model":"tiny-base",'"$question"'}' && [ "$status" = 200 ] &&
    loaded tiny-base true && loaded tiny-prm false
point 'so does a job' $?
post /v1/chat/completions '{"model":"tiny-base@best_of_n",'"$question"'}' && [ "$status" = 507 ] &&
    has '"code":"memory_limit"' && has 'memory limit'
point 'a job whose models do not fit together is told so' $?
post /v1/chat/completions '{"model":"tiny-base",'"$question"'}' && [ "$status" = 200 ]
point 'others go on' $?
stop_daemon
point 'SIGTERM with a memory limit' $?
described
finish

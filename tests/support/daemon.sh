# Sourced by test scripts that need a daemon: tap.sh, and one daemon at a time on a socket of its own.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

if ! command -v curl >/dev/null 2>&1; then
    echo '1..0 # SKIP no curl'
    exit 0
fi
export XDG_RUNTIME_DIR="$tmp"
unset RUNTIME_DIRECTORY
socket=$tmp/ponder/ponder.sock
daemon=
trap 'stop_daemon; rm -rf "$tmp"' EXIT

start_daemon() # ARGUMENTS...: its messages go to $tmp/log
{
    "$ponder" serve "$@" >>"$tmp/log" 2>&1 </dev/null &
    daemon=$!
    until curl -sf --unix-socket "$socket" http://localhost/health >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || { sed 's/^/# /' "$tmp/log"; return 1; }
        sleep 0.02
    done
}
stop_daemon() # [SIGNAL]: its exit code
{
    [ -n "$daemon" ] || return 0
    kill "-${1:-TERM}" "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    code=$?
    daemon=
    return $code
}

openapi() { PYTHONDONTWRITEBYTECODE=1 "${PYTHON:-python3}" "$src/tests/api/openapi.py" "$@"; }
can_describe() { "${PYTHON:-python3}" -c 'import jsonschema' 2>/dev/null; }
export PONDER_TEST_EXCHANGES="$tmp/exchanges" # where requests and replies are kept for described()
mkdir "$PONDER_TEST_EXCHANGES"
n_recorded=0
record() # METHOD PATH [CURL'S ARGUMENTS...]: the exchange whose reply is in $status, headers and out
{
    n_recorded=$((n_recorded + 1))
    kept=$PONDER_TEST_EXCHANGES/$n_recorded
    [ ! -e "$tmp/body" ] || cp "$tmp/body" "$kept.sent"
    [ ! -e "$tmp/headers" ] || cp "$tmp/headers" "$kept.headers"
    [ ! -e "$tmp/out" ] || cp "$tmp/out" "$kept.out"
    recorded_method=$1
    recorded_path=$2
    shift 2
    printf '%s\0' "$recorded_method" "$recorded_path" "$status" "$@" >"$kept.args"
}
described() # a point: docs/openapi.json describes what was asked and answered so far
{
    can_describe || { echo '# no python3 with jsonschema: nothing is held against docs/openapi.json'; return; }
    openapi exchanges "$PONDER_TEST_EXCHANGES" >"$tmp/out" 2>"$tmp/err"
    point 'docs/openapi.json describes all of that' $?
}
# api METHOD PATH [CURL'S ARGUMENTS...]: body in $tmp/out, headers in $tmp/headers, status in $status
api()
{
    method=$1
    path=$2
    shift 2
    status=$(curl -s --unix-socket "$socket" -X "$method" -o "$tmp/out" -D "$tmp/headers" \
        -w '%{http_code}' "$@" "http://localhost$path" 2>"$tmp/err")
    record "$method" "$path" "$@"
}
post() # PATH BODY [CURL'S ARGUMENTS...]
{
    path=$1
    printf '%s' "$2" >"$tmp/body"
    shift 2
    api POST "$path" -H 'Content-Type: application/json' --data-binary "@$tmp/body" "$@"
    rm "$tmp/body"
}
# eventually COMMAND...: until it is true, or a minute has passed
eventually()
{
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || return 1
        sleep 0.1
    done
}

#!/bin/sh
# The OpenAI-compatible routes of `ponder serve`: TAP by openai.py beside this script, with nothing but the
# standard library.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "1..0 # SKIP no python3: the OpenAI-compatible routes are not tested"
    exit 0
fi
start_daemon --max-jobs 1 || exit 1
{ PYTHONDONTWRITEBYTECODE=1 "$python" "$src/tests/api/openai.py" "$socket"; echo $? >"$tmp/code"; } |
    tee "$tmp/points"
n=$(grep -c '^\(not \)*ok ' "$tmp/points")
failed=$(cat "$tmp/code")
described
stop_daemon
cp "$tmp/log" "$tmp/err"
point 'the daemon ends with 0' $?
finish

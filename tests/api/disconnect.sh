#!/bin/sh
# What becomes of requests whose client leaves, see disconnect.py. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "1..0 # SKIP no python3"
    exit 0
fi
start_daemon --max-jobs 2 || exit 1
{ PYTHONDONTWRITEBYTECODE=1 "$python" "$src/tests/api/disconnect.py" "$socket"; echo $? >"$tmp/code"; } |
    tee "$tmp/points"
n=$(grep -c '^\(not \)*ok ' "$tmp/points")
failed=$(cat "$tmp/code")
stop_daemon
cp "$tmp/log" "$tmp/err"
point 'the daemon ends with 0' $?
finish

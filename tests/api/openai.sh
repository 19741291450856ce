#!/bin/sh
# The OpenAI-compatible routes of `ponder serve` on a private socket: TAP by openai.py beside this
# script, with nothing but the standard library.
src=${PONDER_TEST_SRCDIR:-.}
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "1..0 # SKIP no python3: the OpenAI-compatible routes are not tested"
    exit 0
fi
tmp=$(mktemp -d) || exit 1
PONDER_DATA_DIR="$tmp/data" PONDER_THREADS=2 "${PONDER_TEST_BUILDDIR:-.}/ponder" serve --max-jobs 1 \
    --listen "unix://$tmp/sock" 2>"$tmp/log" &
daemon=$!
PYTHONDONTWRITEBYTECODE=1 "$python" "$src/tests/api/openai.py" "$tmp/sock"
status=$?
kill "$daemon" 2>/dev/null
wait "$daemon" || { echo "# the daemon ended with $?"; sed 's/^/# /' "$tmp/log"; status=1; }
rm -rf "$tmp"
exit $status

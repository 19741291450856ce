#!/bin/sh
# docs/agents.md does what it says: its sh examples run, in order, against a daemon of their own. TAP.
ponder=${PONDER_TEST_BUILDDIR:-.}/ponder
page=${PONDER_TEST_SRCDIR:-.}/docs/agents.md
tmp=$(mktemp -d) || exit 1
daemon=
stop()
{
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; }
    rm -rf "$tmp"
}
trap stop EXIT
for v in $(env | sed -n 's/^\(PONDER_[A-Z_]*\)=.*/\1/p'); do
    case $v in PONDER_MODELS_DIR | PONDER_ISA) ;; *) unset "$v" ;; esac
done
export XDG_RUNTIME_DIR="$tmp" PONDER_DATA_DIR="$tmp/data" PONDER_THREADS=2
unset RUNTIME_DIRECTORY

if ! command -v curl >/dev/null 2>&1; then
    echo "1..0 # SKIP no curl"
    exit 0
fi
"$ponder" serve >"$tmp/log" 2>&1 </dev/null &
daemon=$!
tries=0
until [ -S "$tmp/ponder/ponder.sock" ] || [ $tries -gt 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
done

# One script that says before each block which it is.
awk '/^```sh$/ { on = 1; n++; print "echo \"== " n "\""; next }
     /^```$/ { on = 0; next }
     on { print }' "$page" >"$tmp/all.sh"
blocks=$(grep -c '^echo "== ' "$tmp/all.sh")
(cd "$tmp" && sh -e all.sh) >"$tmp/out" 2>&1
status=$?
done=$(grep -c '^== ' "$tmp/out")
[ "$status" -eq 0 ] || done=$((done - 1))
n=0
failed=0
while [ $n -lt "$blocks" ]; do
    n=$((n + 1))
    if [ $n -le "$done" ]; then
        echo "ok $n - example $n"
    else
        failed=1
        echo "not ok $n - example $n"
        tail -n 5 "$tmp/out" | cut -c1-300 | sed 's/^/# /'
    fi
done
n=$((n + 1))
if grep -q '"content":"22"' "$tmp/out"; then
    echo "ok $n - and the answer is there"
else
    failed=1
    echo "not ok $n - and the answer is there"
fi
echo "1..$n"
exit $failed

#!/bin/sh
# docs/agents.md does what it says: its sh examples run, in order, against a daemon of their own. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/daemon.sh"
page=$src/docs/agents.md
start_daemon

# One script that says before each block which it is.
awk '/^```sh$/ { on = 1; n++; print "echo \"== " n "\""; next }
     /^```$/ { on = 0; next }
     on { print }' "$page" >"$tmp/all.sh"
blocks=$(grep -c '^echo "== ' "$tmp/all.sh")
(cd "$tmp" && sh -e all.sh) >"$tmp/out" 2>&1
status=$?
done=$(grep -c '^== ' "$tmp/out")
[ "$status" -eq 0 ] || done=$((done - 1))
while [ $n -lt "$blocks" ]; do
    [ $n -lt "$done" ]
    point "example $((n + 1))" $?
done
has '"content":"22"'
point 'and the answer is there' $?
finish

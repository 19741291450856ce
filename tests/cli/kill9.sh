#!/bin/sh
# kill -9 at random moments of a 16-sample job, resumed each time: the final digest is that of the undisturbed job,
# and the database stays whole. The same once with a job of every strategy, of which some steps are recorded when it is
# killed. TAP. PONDER_TEST_KILLS: how many kills (50).
ponder=${PONDER:-$PONDER_TEST_BUILDDIR/ponder}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export PONDER_DATA_DIR="$dir"
kills=${PONDER_TEST_KILLS:-50}

digest()
{
    sed -n 's/.*"digest":"\([0-9a-f]*\)".*/\1/p'
}

# killed PERCENT ARGS…: runs a solve and kills it after that share of an undisturbed run's time
killed()
{
    delay=$(awk "BEGIN { print $whole * $1 / 100 }")
    shift
    "$ponder" solve "$@" --json >/dev/null 2>&1 &
    pid=$!
    sleep "$delay"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}

# running: the id of a job that was not finished
running()
{
    "$ponder" trace ls --json 2>/dev/null | grep '"status":"running"' | head -n 1 | sed 's/.*"id":"\([^"]*\)".*/\1/'
}

echo 1..4
set -- --problem dev-0008 -o samples=16 -o max_tokens=300 --seed 9
from=$(date +%s.%N)
want=$("$ponder" solve "$@" --json 2>/dev/null | digest)
whole=$(awk "BEGIN { print $(date +%s.%N) - $from }")
[ -n "$want" ] && echo "ok 1 - undisturbed" || echo "not ok 1 - undisturbed"

same=1
resumed=0
n=0
while [ "$n" -lt "$kills" ]; do
    killed $((n * 37 % 100)) "$@"
    n=$((n + 1))
    id=$(running)
    [ -n "$id" ] || continue # killed before it was acknowledged, or after its end
    while [ "$n" -lt "$kills" ] && [ $((n % 3)) -ne 0 ]; do
        killed $((n * 61 % 100)) --resume "$id"
        n=$((n + 1))
    done
    got=$("$ponder" solve --resume "$id" --json 2>"$dir/err" | digest)
    resumed=$((resumed + 1))
    if [ "$got" != "$want" ]; then
        same=0
        echo "# job $id after kill $n: digest '$got', expected '$want'"
        sed 's/^/# /' "$dir/err"
    fi
done
echo "# $n kills, $resumed jobs resumed"
[ "$same" = 1 ] && [ "$resumed" -gt 0 ] && echo "ok 2 - same digest after every kill" ||
    echo "not ok 2 - same digest after every kill"
# Every strategy: killed half-way, or somewhat later or sooner when it was over or not yet known by then.
same=1
resumed=0
for strategy in $("$ponder" solve --strategies | sed -n 's/^\([a-z_]*\): .*/\1/p'); do
    set -- --problem dev-0008 -s "$strategy" -o max_tokens=300 --seed 9
    [ "$strategy" = compute_optimal ] &&
        set -- "$@" -o 'table=0.5;1@1,self_consistency(samples=6),1,1;2@1,beam(samples=4,expand=2),1,1'
    from=$(date +%s.%N)
    want=$("$ponder" solve "$@" --json 2>/dev/null | digest)
    whole=$(awk "BEGIN { print $(date +%s.%N) - $from }")
    id=
    for percent in 50 75 60 40 85; do
        [ -n "$id" ] || { killed $percent "$@"; id=$(running); }
    done
    [ -n "$id" ] || continue
    got=$("$ponder" solve --resume "$id" --json 2>"$dir/err" | digest)
    resumed=$((resumed + 1))
    [ -n "$want" ] && [ "$got" = "$want" ] || { same=0; echo "# $strategy: '$got', expected '$want'"; }
done
echo "# $resumed strategies resumed"
[ "$same" = 1 ] && [ "$resumed" -gt 0 ] && echo "ok 3 - every strategy resumes to the same digest" ||
    echo "not ok 3 - every strategy resumes to the same digest"

"$ponder" trace verify >/dev/null 2>&1 && echo "ok 4 - the database is whole" ||
    echo "not ok 4 - the database is whole"

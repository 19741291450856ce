#!/bin/sh
# Every recipe of the tree gives the digest that recipes/digests pins, on its first problems. After the bundled models
# have changed, recipes/renew.sh pins them again. TAP.
src=${PONDER_TEST_SRCDIR:-.}
ponder=${PONDER:-$PONDER_TEST_BUILDDIR/ponder}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export PONDER_DATA_DIR="$tmp/data"
unset PONDER_SEED PONDER_LIMIT PONDER_ONLY

n=0
failed=0
for recipe in "$src"/recipes/*.json; do
    name=$(basename "$recipe" .json)
    n=$((n + 1))
    pin=$(grep "^$name " "$src/recipes/digests")
    limit=$(echo "$pin" | cut -d' ' -f2)
    if "$ponder" run "$recipe" --out "$tmp/$name" --limit "${limit:-1}" --expect-digest "$(echo "$pin" | cut -d' ' -f3)" \
        >"$tmp/out" 2>"$tmp/err" </dev/null; then
        echo "ok $n - $name"
    else
        failed=1
        echo "not ok $n - $name"
        sed 's/^/# /' "$tmp/err"
    fi
done
n=$((n + 1))
if [ "$(wc -l <"$src/recipes/digests")" -eq $((n - 1)) ] && [ $n -gt 3 ]; then
    echo "ok $n - nothing else is pinned"
else
    failed=1
    echo "not ok $n - nothing else is pinned"
fi
echo "1..$n"
exit $failed

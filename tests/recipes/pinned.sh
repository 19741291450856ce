#!/bin/sh
# Every recipe of the tree gives the digest that recipes/digests pins, on its first problems. After the bundled models
# have changed, recipes/renew.sh pins them again. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

for recipe in "$src"/recipes/*.json; do
    name=$(basename "$recipe" .json)
    pin=$(grep "^$name " "$src/recipes/digests")
    limit=$(echo "$pin" | cut -d' ' -f2)
    run run "$recipe" --out "$tmp/$name" --limit "${limit:-1}" --expect-digest "$(echo "$pin" | cut -d' ' -f3)"
    point "$name" $?
done
[ $n -gt 2 ] && [ "$(wc -l <"$src/recipes/digests")" -eq $n ]
point 'nothing else is pinned' $?
finish

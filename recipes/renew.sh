#!/bin/sh
# Pins the recipes of this folder again, after the bundled models have changed: recipes/digests, what
# tests/recipes/pinned.sh expects of the first problems. With --pictures they are also run as a whole, and their
# reports' pictures and tables go to docs/experiments (half an hour on two cores); the pages' words do not
# change by themselves.  usage: recipes/renew.sh [--pictures]  (PONDER: the program, ./ponder)
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
ponder=${PONDER:-$here/../ponder}
limit=2
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
PONDER_MODELS_DIR=${PONDER_MODELS_DIR:-$here/models}
export PONDER_MODELS_DIR

for recipe in "$here"/*.json; do
    name=$(basename "$recipe" .json)
    "$ponder" run "$recipe" --out "$tmp/$name" --data-dir "$tmp/data" --limit $limit --json >"$tmp/out" || exit 1
    echo "$name $limit $(sed 's/.*"digest":"\([0-9a-f]*\)".*/\1/' "$tmp/out")"
done >"$tmp/digests" && cp "$tmp/digests" "$here/digests" && cat "$here/digests"
[ "$1" = --pictures ] || exit 0

# The picture that stands on a recipe's page: accuracy over tokens, or what its question is about.
picture_of()
{
    case $1 in
    compute-optimal) echo '--view difficulty' ;;
    imperfect-verifiers) echo '--view abstention' ;;
    spec-reason) echo '--x flop' ;;
    esac
}
for recipe in "$here"/*.json; do
    name=$(basename "$recipe" .json)
    "$ponder" run "$recipe" --out "$tmp/$name" --data-dir "$tmp/data" --concurrency 8 &&
        # shellcheck disable=SC2046 # options
        "$ponder" report "$tmp/$name" --data-dir "$tmp/data" --format svg $(picture_of "$name") \
            -o "$here/../docs/experiments/$name.svg" &&
        "$ponder" report "$tmp/$name" --data-dir "$tmp/data" --ascii >"$here/../docs/experiments/$name.txt" || exit 1
done

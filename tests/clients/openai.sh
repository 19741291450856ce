#!/bin/sh
# The openai npm client against `ponder serve`: openai.sh [BUILD_DIR]. See README.md beside this.
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-build}" && pwd) || exit 2
tmp=$(mktemp -d) || exit 1
trap 'kill "$daemon" 2>/dev/null; rm -rf "$tmp"' EXIT
cp "$here/openai.mjs" "$tmp/" && cd "$tmp" || exit 1
npm install --no-audit --no-fund --silent "openai@${OPENAI_VERSION:-7}" || exit 1
PONDER_DATA_DIR="$tmp/data" XDG_RUNTIME_DIR="$tmp" PONDER_MODELS_DIR="${PONDER_MODELS_DIR:-$here/../../recipes/models}" \
    "$build/ponder" serve --listen unix --listen http://127.0.0.1:0 2>"$tmp/log" &
daemon=$!
i=0
until url=$(sed -n 's/.*address=\(http:[^ ]*\).*/\1/p' "$tmp/log") && [ -n "$url" ]; do
    i=$((i + 1))
    [ "$i" -lt 100 ] || { cat "$tmp/log"; exit 1; }
    sleep 0.1
done
node openai.mjs "$url" "$(cat "$tmp/ponder/token")"

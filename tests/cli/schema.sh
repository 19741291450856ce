#!/bin/sh
# What `ponder solve --schema` and --grammar write: TAP by schema.py beside this script.
src=${PONDER_TEST_SRCDIR:-.}
python=${PYTHON:-python3}
if ! "$python" -c 'import jsonschema' 2>/dev/null; then
    echo "1..0 # SKIP no python3-jsonschema: nobody judges what is written by a schema"
    exit 0
fi
tmp=$(mktemp -d) || exit 1
PONDER_DATA_DIR="$tmp/data" PONDER_THREADS=2 PYTHONDONTWRITEBYTECODE=1 \
    "$python" "$src/tests/cli/schema.py" "${PONDER_TEST_BUILDDIR:-.}/ponder" "$tmp"
status=$?
rm -rf "$tmp"
exit $status

#!/bin/sh
# The problem generator and the documents that the bundled models are trained on: TAP by
# problems.py beside this script, with nothing but the standard library.
src=${PONDER_TEST_SRCDIR:-.}
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "1..0 # SKIP no python3: the problem generator is not tested"
    exit 0
fi
PYTHONDONTWRITEBYTECODE=1 exec "$python" "$src/tests/recipes/problems.py" "$src"

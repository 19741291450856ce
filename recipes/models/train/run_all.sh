#!/bin/sh
# Train the three models, write their GGUF files and the problem set, and measure them.
#
# Everything is written to $OUT (default: out/ beside this script); the bundled models stay as they
# are. BASE, PRM, DRAFT and SAMPLE are the lengths of the trainings and of the PRM's sampling in CPU
# seconds of one core; the defaults take about an hour and a half. EVAL=0 leaves the measuring out.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PY=${PY:-/usr/bin/python3}
OUT=${OUT:-$here/out}
BASE=${BASE:-2300}
PRM=${PRM:-1500}
DRAFT=${DRAFT:-900}
SAMPLE=${SAMPLE:-150}
EVAL=${EVAL:-1}

if ! command -v "$PY" >/dev/null; then
    echo "run_all.sh: no Python at $PY; install the Debian package python3 or set PY" >&2
    exit 1
fi
for pair in numpy:python3-numpy torch:python3-torch; do
    if ! "$PY" -c "import ${pair%%:*}" 2>/dev/null; then
        echo "run_all.sh: $PY has no ${pair%%:*}; install the Debian package ${pair##*:}" >&2
        exit 1
    fi
done

mkdir -p "$OUT"
tok=$OUT/tokenizer.json
set_file=$OUT/problems-dev.jsonl

step() {
    script=$1
    shift
    echo "== $script $*"
    "$PY" "$here/$script" "$@"
}

step bpe.py "$tok" --merges 768 --seed 1
step train.py "$OUT/base.pt" --tok "$tok" --model base --cpu "$BASE" --batch 4096 --seed 1000
step train_prm.py "$OUT/base.pt" "$OUT/prm.pt" --tok "$tok" --cpu "$PRM" --sample-cpu "$SAMPLE" \
    --lr 4e-3 --batch 3200 --extra 3 --cache "$OUT/own.json" --seed 2000
step train.py "$OUT/draft.pt" --tok "$tok" --model draft --cpu "$DRAFT" --batch 3000 --lr 1e-2 \
    --tagged 0 --seed 1000
for m in base draft prm; do
    for t in F16 Q8_0; do
        step export_gguf.py "$OUT/$m.pt" "$OUT/tiny-$m-$t.gguf" --tok "$tok" --type "$t" \
            --name "tiny-$m"
    done
done
step make_sets.py "$set_file" --prefix dev --seed 314159 --count 500
if [ "$EVAL" != 0 ]; then
    step evaluate.py "$OUT/base.pt" "$OUT/prm.pt" "$set_file" --tok "$tok"
    step search.py "$OUT/base.pt" "$OUT/prm.pt" "$OUT/draft.pt" "$set_file" --tok "$tok"
fi

#!/bin/sh
# Train three models, write their GGUF files and the problem set, and measure them: one command,
# which goes on where it was stopped when it is started again.
#
#   run_all.sh [--unit] [--device cpu|cuda] [--threads N] [--out FOLDER]
#
# --unit makes the byte-tiny trio for unit tests (minutes) in place of the bundled one (hours).
# The bundled models stay as they are. Environment: PY (/usr/bin/python3); BASE_STEPS, DRAFT_STEPS,
# PRM_STEPS, PROBLEMS (sampled for the reward model), EVAL (problems to measure on; 0: none).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PY=${PY:-/usr/bin/python3}
unit=
device=cpu
threads=1
out=
while [ $# -gt 0 ]; do
    case $1 in
    --unit) unit=unit- ;;
    --device | --threads | --out)
        [ $# -gt 1 ] || { echo "run_all.sh: $1 needs a value" >&2; exit 2; }
        case $1 in --device) device=$2 ;; --threads) threads=$2 ;; *) out=$2 ;; esac
        shift
        ;;
    *) echo "run_all.sh: unknown option '$1' (see the top of the file)" >&2; exit 2 ;;
    esac
    shift
done
out=${out:-$here/${unit}out}

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

if [ -n "$unit" ]; then
    merges=122 batch=4096 levels=4,2,0,0 name=unit
    steps="${BASE_STEPS:-1500} ${DRAFT_STEPS:-600} ${PRM_STEPS:-500}"
    problems=${PROBLEMS:-512} eval=${EVAL:-100}
else
    merges=762 batch=8192 levels=3,4,4,4 name=tiny
    steps="${BASE_STEPS:-12000} ${DRAFT_STEPS:-4000} ${PRM_STEPS:-4000}"
    problems=${PROBLEMS:-6000} eval=${EVAL:-500}
fi
# shellcheck disable=SC2086 # three numbers
set -- $steps

mkdir -p "$out"
tok=$out/tokenizer.json
dev=$out/dev.jsonl

run()
{
    script=$1
    shift
    echo "== $script $*"
    "$PY" "$here/$script" "$@"
}
machine="--tok $tok --device $device --threads $threads"

[ -f "$tok" ] || run bpe.py "$tok" --merges "$merges" --seed 1
run make_sets.py "$dev" --seed 314159 --count 500
# shellcheck disable=SC2086 # $machine is words
{
    run train.py "$out/base.pt" --model "${unit}base" --steps "$1" --batch "$batch" \
        --levels "$levels" --seed 1000 $machine
    run train.py "$out/draft.pt" --model "${unit}draft" --steps "$2" --batch "$batch" --lr 1e-2 \
        --levels "$levels" --seed 1001 $machine
    run collect.py "$out/own.jsonl" "$out/base.pt" "$out/draft.pt" --problems "$problems" \
        --levels "$levels" --seed 2000 $machine
    run train_prm.py "$out/base.pt" "$out/prm.pt" --samples "$out/own.jsonl" --steps "$3" \
        --batch "$batch" --levels "$levels" --seed 3000 $machine
}
for m in base draft prm; do
    run export_gguf.py "$out/$m.pt" "$out/$name-$m-Q8_0.gguf" --tok "$tok" --name "$name-$m"
done
# shellcheck disable=SC2086
[ "$eval" -eq 0 ] || for m in draft base; do
    run evaluate.py "$dev" "$out/$m.pt" --prm "$out/prm.pt" --max "$eval" \
        --json "$out/figures-$m.json" $machine
done

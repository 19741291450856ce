# Sourced by test scripts: the program as $ponder, a folder for each run as $tmp, points in TAP. The
# environment tells the program nothing but where the bundled models are.
#
#   . "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
#   run --version && grep -q '^ponder' "$tmp/out"
#   point 'the version' $?
#   finish
ponder=${PONDER_TEST_BUILDDIR:-.}/ponder
src=${PONDER_TEST_SRCDIR:-.}
for v in $(env | sed -n 's/^\(PONDER_[A-Z_]*\)=.*/\1/p'); do
    case $v in PONDER_MODELS_DIR | PONDER_ISA | PONDER_TEST_*) ;; *) unset "$v" ;; esac
done
unset NO_COLOR
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export PONDER_DATA_DIR="$tmp/data" PONDER_THREADS=2

n=0
failed=0
shown='out err' # files in $tmp whose first lines are shown when a point fails
point() # NAME STATUS
{
    n=$((n + 1))
    if [ "$2" -eq 0 ]; then
        echo "ok $n - $1"
        return
    fi
    failed=1
    echo "not ok $n - $1"
    for f in $shown; do
        head -n 20 "$tmp/$f" 2>/dev/null | cut -c1-1000 | sed "s/^/# $f: /"
    done
}
finish()
{
    echo "1..$n"
    exit $failed
}
run() { "$ponder" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; }
# fails CODE WORDS ARGUMENTS...: that exit code, and one line on standard error with these words
fails()
{
    code=$1
    words=$2
    shift 2
    run "$@"
    got=$?
    [ "$got" -eq "$code" ] && [ "$(wc -l <"$tmp/err")" -eq 1 ] && grep -q "^ponder: .*$words" "$tmp/err"
    verdict=$?
    [ "$got" -eq "$code" ] || echo "# exit $got instead of $code"
    point "exit $code: $*" $verdict
}
has() { grep -qF -- "$1" "$tmp/out"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$tmp/out" | head -n 1; } # of JSON

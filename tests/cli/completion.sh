#!/bin/sh
# What a line that is being typed may become, asked of the program, and through the shells that are here. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
PATH=$(dirname "$ponder"):$PATH
unset XDG_RUNTIME_DIR
export HOME="$tmp"

# may WORD... -- CANDIDATE...: these and no others
may()
{
    line=
    while [ "$1" != '=' ]; do
        line="$line|$1"
        set -- "$@" "$1"
        shift
    done
    shift
    wanted=$1
    shift
    "$ponder" __complete "$@" >"$tmp/all" 2>"$tmp/err"
    cut -f 1 "$tmp/all" | tr '\n' ' ' | sed 's/ $//' >"$tmp/out"
    [ "$(cat "$tmp/out")" = "$wanted" ] && [ ! -s "$tmp/err" ]
    point "${line#|} -> $wanted" $?
}
may so = 'solve'
may tok = 'tokenize'
may '' = "$("$ponder" --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p' | tr '\n' ' ' | sed 's/ $//')"
may nothing = ''
may --hos = '--host'
may --host unix jo = 'job'
may --log-format '' = 'text json'
may solve --budget = '--budget-tokens --budget-seconds --budget-nodes --budget-samples'
may solve --show '' = 'tree steps answer'
may solve --show=st = '--show=steps'
may solve --kv-type q = 'q8_0'
may solve -s be = 'beam best_of_n'
may solve --strategy=be = '--strategy=beam --strategy=best_of_n'
may solve -m tiny-p = 'tiny-prm-F16 tiny-prm-Q8_0'
may solve -s beam -o wid = ''
may solve -s beam -o exp = 'expand='
may solve -o exp = ''
may solve -sbeam -o exp = 'expand='
may solve --strategy=beam -o exp = 'expand='
may solve -o speculate= = 'speculate=off speculate=lookup speculate=draft'
may solve -o speculate=l = 'speculate=lookup'
may solve --system --show = ''
may solve -f '' = ':files'
may solve --frobnicate x = ''
may job sho = 'show'
may job ls --st = '--status'
may job show --st = ''
may job ls --status q = 'queued'
may job submit -s be = 'beam best_of_n'
may model '' = 'ls show add verify alias rm load unload steer'
may model show tiny-p = 'tiny-prm-F16 tiny-prm-Q8_0'
may model alias x tiny-p = 'tiny-prm-F16 tiny-prm-Q8_0'
may model add '' = ':files'
may model verify tiny-prm-F16 tiny-p = 'tiny-prm-F16 tiny-prm-Q8_0'
may trace show '' = ''
may completion '' = 'bash zsh fish'
may completion bash '' = ''
id=$("$ponder" solve -q --json -s single -o max_tokens=5 'What is 1 + 1?' | sed -n 's/.*"trace":"\([^"]*\)".*/\1/p')
may trace show job_ = "$id"
may replay "$id" = "$id"
may solve --resume '' = "$id"
may job show '' = ''

# Every option of every verb is offered: what --help lists.
status=0
for verb in $("$ponder" --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p'); do
    "$ponder" "$verb" --help | sed -n 's/^ *\(-., \)*\(--[a-z-]*\) .*/\2/p' | sort >"$tmp/help"
    "$ponder" __complete "$verb" --log >/dev/null 2>"$tmp/err" || status=1
    for part in "" $("$ponder" __complete "$verb" '' | cut -f 1); do
        "$ponder" __complete "$verb" $part -- | cut -f 1
    done | sort -u >"$tmp/out"
    cmp -s "$tmp/help" "$tmp/out" || { echo "# $verb: $(comm -3 "$tmp/help" "$tmp/out" | tr '\n' ' ')"; status=1; }
done
point 'every option of every verb' $status

# ---- the shells
for shell in bash zsh fish; do
    run completion $shell && [ "$(head -n 40 "$tmp/out" | grep -c __complete)" = 1 ]
    point "the script for $shell" $?
done
fails 2 'needs bash, zsh or fish' completion csh
if command -v bash >/dev/null 2>&1; then
    cat >"$tmp/try.bash" <<'END'
. <(ponder completion bash)
try() # LINE CANDIDATES
{
    COMP_LINE=$1 COMP_POINT=${#1}
    _ponder
    [[ ${COMPREPLY[*]} == "$2" ]] || echo "[$1] became [${COMPREPLY[*]}]"
}
try 'ponder so' 'solve'
try 'ponder solve --show=t' 'tree'
try 'ponder solve -s beam -o exp' 'expand='
try 'ponder solve -o speculate=d' 'draft'
try 'ponder  job   ls --status ' 'queued running paused done failed cancelled'
try 'ponder solve -f x' ''
COMP_LINE='ponder solve --kv' COMP_POINT=9
_ponder
[[ ${COMPREPLY[*]} == solve ]] || echo "in the middle of the line: [${COMPREPLY[*]}]"
[[ $(complete -p ponder) == 'complete -F _ponder ponder' ]] || complete -p ponder
END
    bash --norc "$tmp/try.bash" >"$tmp/out" 2>"$tmp/err"
    [ $? -eq 0 ] && [ ! -s "$tmp/out" ]
    point 'bash' $?
else
    echo '# no bash'
fi
if command -v fish >/dev/null 2>&1; then
    fish --no-config -c 'ponder completion fish | source
        complete -C "ponder so"; complete -C "ponder solve -s bea"; complete -C "ponder solve -o speculate=d"' \
        2>"$tmp/err" | cut -f 1 | tr '\n' ' ' >"$tmp/out"
    [ "$(cat "$tmp/out")" = 'solve beam speculate=draft ' ]
    point 'fish' $?
else
    echo '# no fish'
fi
# typed SHELL...: a line with tabs, typed at the shell on a terminal; what it became is run
typed()
{
    rm -f "$tmp/keys"
    mkfifo "$tmp/keys"
    : >"$tmp/out"
    TERM=dumb script -qefc "$*" /dev/null <"$tmp/keys" >"$tmp/out" 2>"$tmp/err" &
    exec 9>"$tmp/keys"
    printf '. "%s/rc"; echo rea''dy\n' "$tmp" >&9
    tries=0
    until grep -q '^ready' "$tmp/out" || [ $tries -gt 200 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    printf 'ponder toke\t-m tiny-prm-Q\t--js\t "12"\nexit\n' >&9
    exec 9>&-
    wait $!
    has '"tokens":[{"id":'
}
if command -v script >/dev/null 2>&1 && command -v bash >/dev/null 2>&1; then
    echo '. <(ponder completion bash)' >"$tmp/rc"
    typed bash --norc --noprofile -i
    point 'typed in bash' $?
fi
if command -v script >/dev/null 2>&1 && command -v zsh >/dev/null 2>&1; then
    echo 'autoload -U compinit; compinit -D; . <(ponder completion zsh)' >"$tmp/rc"
    typed zsh -f -i
    point 'typed in zsh' $?
else
    echo '# no zsh'
fi
finish

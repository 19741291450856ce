#!/bin/sh
# docs/strategies/ says what the program does: a page for every strategy and no other, every option
# with its default, and examples that run and print what the page shows. TAP.
#
# In an example `…` stands for any text, alone on a line for any lines; ID is the newest trace.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"
docs=$src/docs/strategies
shown=why
# same A B: the two files are equal; the difference is why they are not
same() { diff "$1" "$2" >"$tmp/why" 2>&1; }

# What the program says, as `STRATEGY OPTION DEFAULT`; the options of all stand in README.md.
"$ponder" solve --strategies >"$tmp/list" && "$ponder" solve --strategies --json >"$tmp/json" || exit 1
awk '/^every strategy:/ { name = "README"; next }
    /^[a-z_]+: / { name = substr($1, 1, length($1) - 1) }
    /^    / { i = index($1, "="); print name, substr($1, 1, i - 1), substr($1, i + 1) }' \
    "$tmp/list" | sort >"$tmp/options"
tr '{' '\n' <"$tmp/json" | sed -n 's/^"name":"\([^"]*\)","summary".*/\1/p' | sort >"$tmp/names"
sed -n 's/^\([a-z_]*\): .*/\1/p' "$tmp/list" | sort >"$tmp/names.text"
same "$tmp/names" "$tmp/names.text" && [ -s "$tmp/names" ] && [ -s "$tmp/options" ]
point 'the program lists the same strategies as text and as JSON' $?

# Pages: < has no page, > has no strategy.
for f in "$docs"/*.md; do basename "$f" .md; done | grep -vx README | sort >"$tmp/pages"
same "$tmp/names" "$tmp/pages"; point 'one page for every strategy, and no other' $?
grep -o '^| \[[a-z_]*\]([a-z_]*\.md)' "$docs/README.md" |
    sed 's/^| \[\(.*\)\](\(.*\)\.md)$/\1 \2/' | sort >"$tmp/rows"
sed 's/.*/& &/' "$tmp/names" >"$tmp/want"
same "$tmp/want" "$tmp/rows"; point 'one row for every strategy in the overview, with a link' $?
status=0
: >"$tmp/why"
sed -n 's/^\([a-z_]*\): \(.*\)/\1 \2/p' "$tmp/list" | sed 's/, arXiv:[0-9.]*$//' >"$tmp/summaries"
while read -r name summary; do
    escaped=$(printf '%s\n' "$name" | sed 's/_/\\_/g')
    grep -A 1 -Fx "*$escaped*" "$src/docs/ponder.1.scd" | tr -d '\t' | sed 's/\\//g' | grep -Fqx "$summary" ||
        { status=1; echo "$name: $summary" >>"$tmp/why"; }
done <"$tmp/summaries"
point 'every strategy with its summary in the manual page' $status

# Options: < is missing on the page or has another default there, > is no option.
while read -r page; do
    grep "^$page " "$tmp/options" >"$tmp/want"
    awk -v page="$page" '/^## / { on = /^## Options/ }
        on && /^\| `[^`]+` \| `[^`]*` \|/ { split($0, cell, "`"); print page, cell[2], cell[4] }' \
        "$docs/$page.md" 2>/dev/null | sort >"$tmp/got"
    same "$tmp/want" "$tmp/got"; point "$page: every option with its default" $?
done <<EOF
$(cat "$tmp/names")
README
EOF

# Examples: command I of all pages in $tmp/ex/I.cmd (page, then command), its output in I.want.
mkdir "$tmp/ex"
awk -v dir="$tmp/ex" 'FNR == 1 { page = FILENAME; sub(/.*\//, "", page); out = "" }
    /^    \$ (\.\/)?ponder / {
        if (out) close(out)
        out = sprintf("%s/%03d.", dir, ++i)
        print page >(out "cmd"); sub(/^    \$ (\.\/)?/, ""); print >(out "cmd"); close(out "cmd")
        out = out "want"; printf "" >out
        seen[page]++
        next
    }
    /^    \$ / || !/^    / { if (out) close(out); out = "" }
    out { print substr($0, 5) >out }
    END { for (p in seen) print p }' "$docs"/*.md | sed 's/\.md$//' | grep -vx README | sort >"$tmp/seen"
same "$tmp/names" "$tmp/seen"; point 'every page has an example' $?

ponder() { "$ponder" "$@"; }
for cmd in "$tmp"/ex/*.cmd; do
    page=$(sed -n 1p "$cmd")
    line=$(sed -n 2p "$cmd")
    id=$(ponder trace ls --limit 1 2>/dev/null | sed 's/ .*//')
    eval "$(printf '%s\n' "$line" | sed "s/ ID\$/ $id/; s/ ID / $id /g")" >"$tmp/out" 2>&1 </dev/null
    status=$?
    { echo "exit $status"; tail -n 3 "$tmp/out"; } >"$tmp/why"
    point "$page: $line" $status
    [ $status -eq 0 ] || continue
    # Each line that is shown is in the output, in this order.
    awk 'function fits(text, shown,    part, k, i, at) {
            k = split(shown, part, "…")
            if (k == 1)
                return text == shown
            if (substr(text, 1, length(part[1])) != part[1])
                return 0
            text = substr(text, length(part[1]) + 1)
            for (i = 2; i < k; i++) {
                if (!(at = index(text, part[i])) && part[i] != "")
                    return 0
                if (part[i] != "")
                    text = substr(text, at + length(part[i]))
            }
            return length(text) >= length(part[k]) &&
                substr(text, length(text) - length(part[k]) + 1) == part[k]
        }
        FILENAME == ARGV[1] { if ($0 !~ /^[ │]*…$/) shown[++n] = $0; next }
        BEGIN { at = 1 }
        at <= n && fits($0, shown[at]) { at++ }
        END { if (at <= n) { print "not in the output: " shown[at]; exit 1 } }' \
        "${cmd%.cmd}.want" "$tmp/out" >"$tmp/why"
    point "$page: what it prints" $?
done

finish

#!/bin/sh
# `ponder bench`: the form of what it prints and that the figures agree with each other; never how
# fast anything is. TAP.
. "${PONDER_TEST_SRCDIR:-.}/tests/support/tap.sh"

run bench --reps 2 --prefill 40 --branches 1,3 --workers 1,2 --prompt 16,33 --gen 4
point 'bench' $?
status=0
for line in '^machine  .*, 2 threads, kernels [a-z0-9]*, KV in f16$' '^  read .* GB/s (' '^  int8 .* Gop/s (' \
    '^  fp32 .* Gop/s (' '^model    tiny-base: llama, mostly Q8_0, ' '^  load .* ms (' \
    '^memory .* MB resident' '^fork .* ns (' '^prefill  *1  *-  *40 .* % .* \(memory\|compute\) ' \
    '^decode  *1  *16  *4 ' '^decode  *3  *16  *4 ' '^decode  *1  *33  *4 ' \
    '^decode  *3  *33  *4 ' '^workers  *1  *16  *4 ' '^workers  *2  *33  *4  *[0-9.]* '; do
    grep -q "$line" "$tmp/out" || { status=1; echo "# missing: $line"; }
done
[ "$(grep -c '^decode' "$tmp/out")" -eq 4 ] && [ "$(grep -c '^workers' "$tmp/out")" -eq 4 ] || status=1
[ "$(awk '{ if (length($0) > 99) n++ } END { print n + 0 }' "$tmp/out")" -eq 0 ] || status=1
[ ! -s "$tmp/err" ] || status=1
point 'what bench prints' $status

run bench --json --reps 3 --prefill 8 --branches 1,2 --prompt 16 --gen 4
point 'bench --json' $?
[ "$(wc -l <"$tmp/out")" -eq 1 ] && [ ! -s "$tmp/err" ]
point 'one JSON value and nothing else' $?
# Every series has a value of each round: two commas in the list.
status=0
for key in read_bytes_s i8_ops_s f32_ops_s load_s fork_ns tokens_s; do
    grep -q "\"$key\":\[[0-9.e+]*,[0-9.e+]*,[0-9.e+]*\]" "$tmp/out" ||
        { status=1; echo "# not three values: $key"; }
done
point 'raw values of each round' $status
# share = median / roofline, and the median lies among the values.
tr '{' '\n' <"$tmp/out" | sed -n 's/^"what".*"tokens_s":\[\([^]]*\)\],"median_tokens_s":\([^,]*\),"roofline_tokens_s":\([^,]*\),.*"share":\([^,]*\),.*/\1 \2 \3 \4/p' \
    >"$tmp/points"
awk '{ split($1, v, ","); found = 0
       for (i in v) if (v[i] == $2) found = 1
       d = $4 - $2 / $3
       if (!found || $3 <= 0 || d > 1e-6 || d < -1e-6) bad = 1 }
     END { exit bad || NR != 3 }' "$tmp/points"
point 'medians and shares' $?
# A page holds 32 positions: the prompt's half page, and one of each of two branches.
tr '{' '\n' <"$tmp/out" | sed -n 's/^"what":"decode","branches":\([0-9]*\).*"kv_bytes":\([0-9]*\).*/\1 \2/p' \
    >"$tmp/kv"
awk '{ kv[$1] = $2 } END { exit !(kv[1] > 0 && kv[2] * 2 == kv[1] * 3) }' "$tmp/kv"
point 'branches share the pages of the prompt' $?

# Perplexity, beside double precision:
# tests/reference/forward.py --perplexity 64 MODEL $(ponder tokenize -m MODEL -f text)
cat >"$tmp/text" <<'END'
Omar has 18 + 4 = 22 cups.
Paul has 22 + 3 = 25 cups.
Noah has 25 - 16 = 9 cups.
Sam and Paul have 22 + 25 = 47 cups.
Sam and Paul and Noah have 47 + 9 = 56 cups.
Nina now has 100 * 2 = 200 apples.
Nina now has 200 + 126 = 326 apples.
Paul now has 778 - 41 = 737 apples.
The friends get 5 * 11 = 55 apples.
Zoe now has 9 / 3 = 3 stamps.
END
for reference in tiny-base-F16:60.64935 tiny-base-Q8_0:59.27102; do
    run bench -m "${reference%:*}" --perplexity "$tmp/text" --ctx 64 --json
    sed 's/.*"chunks":\([0-9]*\),"tokens":\([0-9]*\),.*"perplexity":\([0-9.]*\),.*/\1 \2 \3/' "$tmp/out" |
        awk -v want="${reference#*:}" '{ off = $3 / want - 1
            exit !($1 == 2 && $2 == 62 && off < 0.005 && off > -0.005) }'
    point "perplexity of ${reference%:*}" $?
done
run bench --perplexity "$tmp/text" --ctx 64 && grep -q '^perplexity 59\.[0-9]* ± [0-9.]*, of 62 tokens in 2 chunks of 64$' "$tmp/out"
point 'perplexity as text' $?
run bench --perplexity "$tmp/text" --ctx 256 && status=1 || status=$?
[ "$status" -eq 2 ] && grep -q 'fewer than one chunk of 256' "$tmp/err"
point 'a text shorter than a chunk' $?
run bench --perplexity "$tmp/text" --ctx 513 && status=1 || status=$?
[ "$status" -eq 2 ] && grep -q 'more than the 512 of this model' "$tmp/err"
point 'a chunk longer than the context' $?

# What is asked for and cannot be is refused.
run bench --prefill 100000 && status=1 || status=$?
[ "$status" -eq 2 ] && grep -q 'more than the 512 of this model' "$tmp/err"
point 'longer than the context' $?
run bench --branches 1,x && status=1 || status=$?
[ "$status" -eq 2 ] && grep -q -- "--branches must be whole numbers" "$tmp/err"
point 'not a list of numbers' $?
run bench --branches 1,, && status=1 || status=$?
[ "$status" -eq 2 ]
point 'an empty place in a list' $?
run bench tiny-base && status=1 || status=$?
[ "$status" -eq 2 ] && grep -q 'takes no operand' "$tmp/err"
point 'an operand' $?

finish

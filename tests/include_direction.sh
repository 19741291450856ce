#!/bin/sh
# The arrows between folders: reads every #include line of the tree and checks it against the
# table below (docs: who may include whom). TAP, one point per folder, then two that prove the
# check itself can fail. A folder that does not exist yet has nothing to say and is passed over.
#
# usage: include_direction.sh [TREE]

top=${1:-${PONDER_TEST_SRCDIR:-.}}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

folders='src/base src/core src/net src/proc src/remote src/app src/daemon src/cli
engine storage strategies verifiers tests'

# check TREE FOLDER: prints one line per forbidden include, nothing when all is well.
check()
{
    find "$1/$2" -type f \( -name '*.[ch]' -o -name '*.inc' -o -name '*.def' \) |
        LC_ALL=C sort >"$tmp/files"
    [ -s "$tmp/files" ] || return 0
    while IFS= read -r file; do
        grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "$file" |
            sed "s|^|${file#"$1"/}:|"
    done <"$tmp/files" | awk -v folder="$2" '
BEGIN {
    # folder -> prefixes (a folder) and exact names (a door) it may include
    may["src/base"]   = "base/"
    may["engine"]     = "engine/ base/"
    may["storage"]    = "storage/ base/"
    may["src/core"]   = "core/ base/"
    may["strategies"] = "strategies/ core/ base/"
    may["verifiers"]  = "verifiers/ core/ base/"
    may["src/net"]    = "net/ core/ base/"
    may["src/proc"]   = "proc/ core/ base/"
    may["src/remote"] = "remote/ net/ core/ base/"
    doors = "engine/engine.h storage/storage.h proc/proc.h remote/remote.h " \
            "strategies/strategies.h strategies/table.inc verifiers/verifiers.h verifiers/table.inc"
    may["src/app"]    = "app/ core/ base/ " doors
    may["src/daemon"] = "daemon/ app/ net/ core/ base/"
    may["src/cli"]    = "cli/ app/ net/ base/ daemon/daemon.h"
    may["tests"]      = "tests/ base/ core/ net/ proc/ remote/ app/ daemon/ cli/ engine/ storage/ " \
                        "strategies/ verifiers/"
    n_may = split(may[folder] " config.h", allowed, " ")

    # a library belongs to one place (and tests may use them all)
    owner["cJSON.h"] = owner["cjson/cJSON.h"] = "src/base/json.c"
    owner["sqlite3.h"] = "storage/"
    owner["microhttpd.h"] = "src/net/http.c"
    owner["curl/curl.h"] = "src/"
    owner["ev.h"] = "src/"
}
{
    # path:line:#include "name" or <name>
    file = $0; sub(/:.*/, "", file)
    where = $0; sub(/:[[:space:]]*#.*/, "", where)
    quoted = $0 ~ /include[[:space:]]*"/
    name = $0; sub(/^[^"<]*["<]/, "", name); sub(/[">].*/, "", name)
    if (!quoted) {
        if (folder != "tests" && (name in owner) && index(file, owner[name]) != 1)
            print where ": <" name "> belongs to " owner[name]
        next
    }
    if (name ~ /(^|\/)\.\.?\//) {
        print where ": \"" name "\" must start at the top, without . and .."
        next
    }
    for (i = 1; i <= n_may; i++) {
        a = allowed[i]
        if (name == a || (a ~ /\/$/ && index(name, a) == 1))
            next
    }
    print where ": " folder " may not include \"" name "\""
}'
}

n=0
failed=0
point() # NAME FILE-WITH-COMPLAINTS
{
    n=$((n + 1))
    if [ -s "$2" ]; then
        failed=1
        echo "not ok $n - $1"
        sed 's/^/# /' "$2"
    else
        echo "ok $n - $1"
    fi
}

for folder in $folders; do
    [ -d "$top/$folder" ] || continue
    check "$top" "$folder" >"$tmp/out"
    point "$folder" "$tmp/out"
done
[ "$n" -gt 0 ] || echo "no folder of the table under $top" >"$tmp/none"
[ "$n" -gt 0 ] || point "the tree is there" "$tmp/none"

# The check must see a wrong arrow, a closed door, a relative path and a borrowed library ...
mkdir -p "$tmp/t/src/base" "$tmp/t/src/app"
printf '#include "core/job.h"\n # include "../x.h"\n#include <sqlite3.h>\n' >"$tmp/t/src/base/a.c"
printf '#include "engine/kv.h"\n#include "job.h"\n' >"$tmp/t/src/app/b.c"
{ check "$tmp/t" src/base; check "$tmp/t" src/app; } >"$tmp/out"
: >"$tmp/bad"
[ "$(wc -l <"$tmp/out")" -eq 5 ] || { echo "expected 5 complaints, got:"; cat "$tmp/out"; } >"$tmp/bad"
point "wrong includes are found" "$tmp/bad"
# ... and keep quiet about right ones.
printf '#include "base/err.h"\n#include <cjson/cJSON.h>\n' >"$tmp/t/src/base/json.c"
rm "$tmp/t/src/base/a.c"
printf '#include "app/run.h"\n#include "engine/engine.h"\n' >"$tmp/t/src/app/b.c"
{ check "$tmp/t" src/base; check "$tmp/t" src/app; } >"$tmp/out"
point "right includes are passed" "$tmp/out"

echo "1..$n"
exit "$failed"

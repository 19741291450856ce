# Completion of ponder in bash: the program itself says what a word may become.
_ponder()
{
    local line=${COMP_LINE:0:COMP_POINT} words reply word cut
    IFS=$' \t\n' read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=('')
    word=${words[${#words[@]} - 1]}
    cut=${word%"${word##*[=:]}"} # readline's word begins behind these
    COMPREPLY=()
    mapfile -t reply < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    for word in "${reply[@]}"; do
        if [[ $word == :files ]]; then
            compopt -o default 2>/dev/null
            continue
        fi
        word=${word%%$'\t'*}
        COMPREPLY+=("${word#"$cut"}")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _ponder ponder

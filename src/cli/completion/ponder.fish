# Completion of ponder in fish: the program itself says what a word may become.
function __ponder_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$word" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path "$word"
        else
            echo $line
        end
    end
end
complete -c ponder -f -a '(__ponder_complete)'

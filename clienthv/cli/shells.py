"""How bash, zsh and fish ask for completions: a script for each, and the lines that they are answered with.

Click has scripts of its own, which change from release to release. In bash, theirs do not complete words with a colon,
which PCI addresses, USB ids and URIs have: bash takes it for the end of a word (man bash, COMP_WORDBREAKS).
"""

from __future__ import annotations

import os
from typing import ClassVar, Final

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

from clienthv.cli.text import visible
from clienthv.errors import ClienthvError

VARIABLE: Final = "_CLIENTHV_COMPLETE"  # as click derives it from the program's name

_BASH: Final = """\
# Completion of clienthv in bash. For one user:
#   clienthv completion bash > ~/.local/share/bash-completion/completions/clienthv
_clienthv_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" kind value about files=
    local word="${line##*[[:space:]]}"
    [[ $word == --*=* ]] && word="${word#*=}"
    # What bash has cut off the word already may not be offered again.
    local before=
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && before="${word%"${word##*:}"}"
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value about; do
        case $kind in
            plain) COMPREPLY+=("${value#"$before"}") ;;
            file) files=yes ;;
        esac
    done < <(_CLIENTHV_COMPLETE=bash_complete COMP_WORDS="$line" "$1" 2>/dev/null)
    if [[ -n $files && ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default
    elif [[ -n $files ]]; then
        compopt -o filenames
        while IFS= read -r value; do COMPREPLY+=("${value#"$before"}"); done < <(compgen -f -- "$word")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *// ]] && compopt -o nospace
}
complete -o nosort -F _clienthv_complete clienthv
"""

_ZSH: Final = """\
#compdef clienthv
# Completion of clienthv in zsh. For one user, into a folder that fpath names before compinit runs:
#   clienthv completion zsh > ~/.zfunc/_clienthv
_clienthv() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX" answer kind value about files=
    local -a told
    for answer in ${(f)"$(_CLIENTHV_COMPLETE=zsh_complete COMP_WORDS="$line" ${words[1]} 2>/dev/null)"}; do
        IFS=$'\\t' read -r kind value about <<< "$answer"
        case $kind in
            plain) told+=("${value//:/\\\\:}${about:+:$about}") ;;
            file) files=yes ;;
        esac
    done
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    (( $#told )) && _describe -V clienthv told
    [[ -n $files ]] && _files
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _clienthv "$@"
else
    compdef _clienthv clienthv
fi
"""

_FISH: Final = """\
# Completion of clienthv in fish. For one user:
#   clienthv completion fish > ~/.config/fish/completions/clienthv.fish
function __clienthv_complete
    set -l word (commandline -ct)
    set -l before (string match -r -- '^--[a-z-]+=' $word)
    set -lx COMP_WORDS (commandline -cp | string collect)
    for answer in (env _CLIENTHV_COMPLETE=fish_complete clienthv 2>/dev/null)
        set -l told (string split \\t -- $answer)
        switch $told[1]
            case plain
                printf '%s%s\\t%s\\n' "$before" $told[2] "$told[3]"
            case file
                __fish_complete_path "$word"
        end
    end
end
complete --command clienthv --no-files --arguments '(__clienthv_complete)'
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class _Lines(ShellComplete):
    """One answer on each line: its kind, the word, and what it is, with tabs between."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that one: the line up to the cursor is in COMP_WORDS."""
        line = os.environ.get("COMP_WORDS", "")
        words = split_arg_string(line)[1:]
        typing = words.pop() if words and not line[-1:].isspace() else ""
        return words, typing

    def format_completion(self, item: CompletionItem) -> str:
        """One answer. Names come from elsewhere: nothing in them may look like another one."""
        return "\t".join(visible(text) for text in (item.type, str(item.value), item.help or ""))

    def complete(self) -> str:
        """All answers; none where something is wrong, which the command itself will tell."""
        try:
            return super().complete()
        except (ClienthvError, OSError):
            return ""


class _Bash(_Lines):
    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH


class _Zsh(_Lines):
    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = _ZSH


class _Fish(_Lines):
    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = _FISH


def register() -> None:
    """Have click answer the three shells by these."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)

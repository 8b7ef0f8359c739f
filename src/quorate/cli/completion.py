"""`quorate completion`: what a shell needs to complete commands, options, jobs, agents and pools."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.output import note, on_terminal

app = new_group("Print the completion script of a shell.")


class Shell(StrEnum):
    """The shells whose scripts there are."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


#: Where each shell looks by itself.
_PLACES = {
    Shell.BASH: "~/.local/share/bash-completion/completions/quorate",
    Shell.ZSH: '"${fpath[1]}/_quorate"',
    Shell.FISH: "~/.config/fish/completions/quorate.fish",
}

#: Each asks `quorate` itself with the words so far (cli/shells.py answers), and offers files where it knows nothing.
_SCRIPTS = {
    Shell.BASH: """\
_quorate() {
    local IFS=$'\\n' offer
    COMPREPLY=()
    while read -r offer; do
        COMPREPLY+=("$offer")
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _QUORATE_COMPLETE=complete_bash "$1" 2>/dev/null)
}
complete -o default -o nosort -F _quorate quorate
""",
    Shell.ZSH: """\
#compdef quorate
_quorate() {
    local -a offers
    offers=("${(@f)$(_QUORATE_COMPLETE=complete_zsh "${words[1]}" "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${offers[1]} ]]; then
        _describe -V quorate offers
    else
        _files
    fi
}
# Read as a file of $fpath, it is the function itself that is wanted now.
if [[ ${funcstack[1]} == _quorate ]]; then _quorate "$@"; else compdef _quorate quorate; fi
""",
    Shell.FISH: """\
function __quorate_offers
    set -l offers (_QUORATE_COMPLETE=complete_fish quorate (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if test -n "$offers"
        printf '%s\\n' $offers
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c quorate -f -k -a '(__quorate_offers)'
""",
}


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell.

    \b
      quorate completion bash > ~/.local/share/bash-completion/completions/quorate
    """
    print(_SCRIPTS[shell], end="")
    if on_terminal():
        note(f"to keep it: quorate completion {shell} > {_PLACES[shell]}")

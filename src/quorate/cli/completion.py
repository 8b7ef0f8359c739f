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


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell.

    \b
      quorate completion bash > ~/.local/share/bash-completion/completions/quorate
    """
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="quorate", complete_var="_QUORATE_COMPLETE", shell=shell.value))
    if on_terminal():
        note(f"to keep it: quorate completion {shell} > {_PLACES[shell]}")

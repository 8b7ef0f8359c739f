"""What a shell is told that asks how a command line goes on: what may stand there, and what each of it is."""

from __future__ import annotations

import sys
from typing import Any

from typer._click.shell_completion import CompletionItem, ShellComplete, add_completion_class
from typer._completion_classes import completion_init


class _WithMeanings(ShellComplete):
    """Shells that show a word beside each offer, and hand in the words of the line as arguments.

    Typer's own import Rich for every one of them, which takes longer than a person waits for a key.
    """

    def source_vars(self) -> dict[str, Any]:
        """`quorate completion` has the scripts."""
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before, and what is written of the next one."""
        words = sys.argv[1:]
        return words[:-1], words[-1] if words else ""


class _Zsh(_WithMeanings):
    name = "zsh"

    def format_completion(self, item: CompletionItem) -> str:
        """As `_describe` takes it."""
        value = str(item.value).replace(":", r"\:")
        return f"{value}:{_line(item.help)}" if item.help else value


class _Fish(_WithMeanings):
    name = "fish"

    def format_completion(self, item: CompletionItem) -> str:
        """Split at a tab."""
        return f"{item.value}\t{_line(item.help)}" if item.help else str(item.value)


def _line(text: str) -> str:
    return " ".join(text.split())


def register() -> None:
    """Makes them known; bash's is Typer's own."""
    completion_init()
    for shell in (_Zsh, _Fish):
        add_completion_class(shell, shell.name)

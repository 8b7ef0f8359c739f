"""Where in a text something stands, and how to guess what a misspelt word was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A line and a column, both counted from 1 as editors do."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"

    def moved_by(self, inner: Place) -> Place:
        """The place in the outer text of `inner`, a place in a text that begins here."""
        if inner.line == 1:
            return Place(self.line, self.column + inner.column - 1)
        return Place(self.line + inner.line - 1, inner.column)


START = Place(1, 1)


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to a misspelt one, or None where nothing is near enough to be worth saying."""
    matches = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.7)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` to append to a message, or nothing."""
    nearest = suggestion(word, known)
    return f'; did you mean "{nearest}"?' if nearest else ""

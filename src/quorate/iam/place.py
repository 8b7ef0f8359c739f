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


def slip(word: str, known: Iterable[str]) -> str | None:
    """The known word of which this one is a slip of the hand: a letter or two too many, missing, wrong or swapped.

    Unlike a suggestion, which only helps a reader on, this is near enough to warn of where the list may have gaps.
    """
    lower = word.lower()
    most = 2 if len(lower) > 9 else 1
    rated = ((distance(lower, each.lower(), most), each) for each in known if each != word)
    found = min((pair for pair in rated if pair[0] <= most), default=None)
    return found[1] if found else None


def distance(one: str, other: str, most: int) -> int:
    """How many letters were added, left out, replaced or swapped with their neighbour; `most` + 1 for any more."""
    far = most + 1
    # One change makes two letters at most appear or vanish: cheap to ask, and nearly always answer enough.
    if abs(len(one) - len(other)) > most or len(set(one) ^ set(other)) > 2 * most:
        return far
    width = len(other)
    before = [far] * (width + 1)
    row: list[int] = [min(j, far) for j in range(width + 1)]
    for i, letter in enumerate(one, start=1):
        earlier, before, row = before, row, [far] * (width + 1)
        row[0] = min(i, far)
        # Further from the diagonal than `most` nothing can be near.
        for j in range(max(1, i - most), min(width, i + most) + 1):
            cost = min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (letter != other[j - 1]))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == other[j - 1]:
                cost = min(cost, earlier[j - 2] + 1)
            row[j] = min(cost, far)
        # No row's least is more than one above that of the row before, so a swap cannot come back from here either.
        if min(row) > most:
            return far
    return row[-1]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` to append to a message, or nothing."""
    nearest = suggestion(word, known)
    return f'; did you mean "{nearest}"?' if nearest else ""

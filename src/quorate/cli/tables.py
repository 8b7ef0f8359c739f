"""How a table is laid out on a terminal of any width: nothing is ever cut off, for ids and addresses are copied."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GAP = 2
#: Texts wider than this are folded before a whole column is left out.
WIDE = 20
#: Narrower than this nothing is folded.
NARROW = 6
#: A last column with less room stands below its row.
ROOM = 36
INDENT = "    "

Paint = Callable[[str], str]


@dataclass(frozen=True)
class Column:
    """A column by the signs before its name: `>` sets it to the right, `?` leaves it out if need be, `??` later."""

    name: str
    right: bool
    #: The lower, the sooner; none: never.
    left_out: int | None

    @classmethod
    def of(cls, written: str) -> Column:
        """Reads the signs."""
        name = written.lstrip(">?")
        signs = written[: len(written) - len(name)]
        return cls(name, ">" in signs, signs.count("?") or None)


def lay_out(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, head: Paint, cell: Paint, below: Paint
) -> list[str]:
    """The lines of a table that fits `width`; the three paint what is in the head, in a cell, and below a row."""
    natural = [max(cells(c.name), *(cells(row[at]) for row in rows)) for at, c in enumerate(columns)]
    last = len(columns) - 1
    kept, widths = _fitted(columns, natural, width)
    used = sum(widths[at] + GAP for at in kept if at != last)
    tail_below = False
    if kept[-1] == last and widths[last] > width - used:
        # The last one takes what is left, or goes below.
        tail_below = width - used < ROOM and len(kept) > 1
        widths[last] = max(NARROW, width - used)
    inline = [at for at in kept if not (tail_below and at == last)]
    lines = [_row([[columns[at].name] for at in inline], [widths[at] for at in inline], _right(columns, inline), head)]
    for row in rows:
        folded = [_folded(row[at], widths[at]) for at in inline]
        lines.append(_row(folded, [widths[at] for at in inline], _right(columns, inline), cell))
        if tail_below and row[last]:
            lines += [below(INDENT + line) for line in _folded(row[last], max(NARROW, width - len(INDENT)))]
    return lines


def _fitted(columns: Sequence[Column], natural: list[int], width: int) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide all of them are. The first is never folded, and the last one not here."""
    widths = list(natural)
    kept = list(range(len(columns)))
    last = kept[-1]

    def too_wide() -> bool:
        needed = [widths[at] if at != last else min(widths[at], NARROW) for at in kept]
        return sum(needed) + GAP * (len(needed) - 1) > width

    def fold(least: int) -> None:
        while too_wide():
            foldable = [at for at in kept if at not in (0, last) and not columns[at].right and widths[at] > least]
            if not foldable:
                return
            widths[max(foldable, key=lambda at: widths[at])] -= 1

    fold(WIDE)
    optional = [(columns[at].left_out, -at) for at in kept if columns[at].left_out]
    for _, before in sorted(optional):
        if too_wide():
            kept.remove(-before)
    fold(NARROW)
    return kept, widths


def _right(columns: Sequence[Column], shown: list[int]) -> list[bool]:
    return [columns[at].right for at in shown]


def _row(texts: list[list[str]], widths: list[int], right: list[bool], paint: Paint) -> str:
    """One row, of as many lines as its longest cell has."""
    lines = []
    for at in range(max(map(len, texts))):
        parts = []
        for lines_of, width, to_right in zip(texts, widths, right, strict=True):
            text = lines_of[at] if at < len(lines_of) else ""
            padding = " " * (width - cells(text))
            parts.append(padding + paint(text) if to_right else paint(text) + padding)
        lines.append((" " * GAP).join(parts).rstrip())
    return "\n".join(lines)


def _folded(text: str, width: int) -> list[str]:
    if cells(text) <= width:
        return [text]
    return textwrap.wrap(text, width) or [""]


def cells(text: str) -> int:
    """How wide a terminal shows it."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)

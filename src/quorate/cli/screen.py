"""Members' output on a terminal: whole lines scroll, progress bars and one line of state stay below them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

from quorate.cli.colour import FAINT, draws, paint
from quorate.cli.tables import cells
from quorate.model.views import LogLine

#: A line that does not end is cut off here, so that a member that never writes a newline costs no memory.
MAX_PENDING = 4 * 1024 * 1024
#: More bars than this would push the log off the screen.
MAX_BARS = 6
_COLOURS = ("36", "35", "33", "32", "34", "96", "95", "93", "92", "94")
#: Escape sequences but those of colour: a member must not move the cursor of the one who reads its log.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-ln-z@`]"  # what moves or erases
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and other texts for the terminal itself
    r"|\x1b[^\[]"
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """Writes log lines with the member's name before each; one member alone gets no prefix.

    Off a terminal, a line that was drawn over is written as it stood at last, or, if `faithful`, byte for byte.
    """

    def __init__(
        self,
        names: dict[int, str],
        out: TextIO | None = None,
        terminal: bool | None = None,
        *,
        faithful: bool = False,
    ) -> None:
        self.out = out or sys.stdout
        self.terminal = draws(self.out) if terminal is None else terminal
        self.names = names
        self.faithful = faithful
        self.pending: dict[tuple[str, str], str] = {}
        self.bars: dict[tuple[str, str], str] = {}
        self.state = ""
        self.drawn = 0

    def write(self, lines: Iterable[LogLine]) -> None:
        """Shows lines and parts of lines; redraws what stays below them once."""
        text = [whole for line in lines for whole in self._whole(line)]
        self._draw("".join(text))

    def tell(self, state: str) -> None:
        """Changes the line of state; nothing where there is no terminal."""
        if state != self.state:
            self.state = state
            self._draw("")

    def finish(self) -> None:
        """Writes what has not ended with a newline, and takes the state away."""
        rest = "".join(self._line(key[0], text) for key, text in self.pending.items() if text)
        self.pending.clear()
        self.bars.clear()
        self.state = ""
        self._draw(rest)

    def _whole(self, line: LogLine) -> Iterable[str]:
        key = (line.member, line.stream)
        text = self.pending.pop(key, "") + line.text
        if line.end or len(text) > MAX_PENDING:
            self.bars.pop(key, None)
            yield self._line(line.member, text, line.rank)
        else:
            # What was drawn over needs no memory.
            self.pending[key] = text if self.faithful and not self.terminal else _last_drawn(text)
            if self.terminal:
                self.bars[key] = self.pending[key]

    def _line(self, member: str, text: str, rank: int | None = None) -> str:
        if not self.faithful or self.terminal:
            text = _last_drawn(text)
        if self.terminal:
            text = _printable(text)
            if "\x1b" in text:
                text += "\x1b[0m"
        rank = int(member.split(".")[1]) if rank is None else rank
        return f"{self._prefix(rank)}{text}\n"

    def _prefix(self, rank: int) -> str:
        if len(self.names) < 2:
            return ""
        name = self.names.get(rank, f"rank {rank}").ljust(max(map(len, self.names.values())))
        if not self.terminal:
            return f"{name} | "
        return f"{paint(f'{name} │', _COLOURS[rank % len(_COLOURS)], self.out)} "

    def _draw(self, text: str) -> None:
        if not self.terminal:
            if text:
                self.out.write(text)
                self.out.flush()
            return
        width = shutil.get_terminal_size().columns
        below = [self._bar(int(key[0].split(".")[1]), bar, width) for key, bar in list(self.bars.items())[-MAX_BARS:]]
        if self.state:
            below.append(paint(_fit(self.state, width - 1), FAINT, self.out))
        erase = f"\x1b[{self.drawn}A\r\x1b[J" if self.drawn else ""
        self.drawn = len(below)
        self.out.write(erase + text + "".join(f"{row}\n" for row in below))
        self.out.flush()

    def _bar(self, rank: int, bar: str, width: int) -> str:
        """A bar with its member's name, in one row: what takes two could not be drawn over."""
        prefix = self._prefix(rank)
        shown = _fit(_printable(bar), width - 1 - cells(_COLOUR.sub("", prefix)))
        return f"{prefix}{shown}\x1b[0m" if "\x1b" in shown else prefix + shown


def printable(text: str) -> str:
    """A line of a member's output as it may be shown anywhere: as last drawn, without colour or control."""
    return _COLOUR.sub("", _printable(_last_drawn(text)))


def _printable(text: str) -> str:
    return _CONTROL.sub("", text)


def _last_drawn(text: str) -> str:
    """What a terminal would show of a line in which carriage returns go back to its beginning."""
    if "\r" not in text:
        return text
    return next((part for part in reversed(text.split("\r")) if part), "")


def _fit(text: str, width: int) -> str:
    """Cuts a text to what fits one row; colours are dropped where it must be cut."""
    bare = _COLOUR.sub("", text).expandtabs()
    if cells(bare) <= width:
        return text.expandtabs()
    bare = bare[: max(0, width - 1)]
    while cells(bare) > width - 1:
        bare = bare[:-1]
    return bare + "…"

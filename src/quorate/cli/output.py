"""What all listings share: a table for people, JSON for programs, times as people say them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.colour import BOLD, CYAN, FAINT, GREEN, RED, YELLOW, paint
from quorate.cli.tables import Column, lay_out

if TYPE_CHECKING:
    from pydantic import BaseModel

#: The flag of every listing.
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_COLOURS = {
    "running": GREEN,
    "ready": GREEN,
    "completed": GREEN,
    "ok": GREEN,
    "pending": YELLOW,
    "starting": CYAN,
    "assigned": CYAN,
    "stopping": YELLOW,
    "draining": YELLOW,
    "warning": YELLOW,
    "failed": RED,
    "lost": RED,
    "error": RED,
    "unreachable": RED,
    "duplicate": RED,
    "regressed": RED,
    "revoked": FAINT,
    "cancelled": FAINT,
    "info": FAINT,
}


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def coloured(word: str, width: int = 0) -> str:
    """A state in its colour on a terminal, the bare word elsewhere; filled up to a width."""
    colour = _COLOURS.get(word)
    return (paint(word, colour, sys.stdout) if colour else word) + " " * (width - len(word))


def bold(text: str) -> str:
    """Bold on a terminal."""
    return paint(text, BOLD, sys.stdout)


def dim(text: str) -> str:
    """Faint on a terminal."""
    return paint(text, FAINT, sys.stdout)


def plain(value: BaseModel | Any) -> Any:
    """A view as plain JSON values."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def print_json(value: Any) -> None:
    """One value, or a list of views, as JSON; indented on a terminal."""
    data = [plain(item) for item in value] if isinstance(value, list | tuple) else plain(value)
    print(json.dumps(data, indent=2 if on_terminal() else None, ensure_ascii=not on_terminal()))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "nothing to show") -> None:
    """A table; states are coloured. A `>` before a column's name sets it to the right, a `?` leaves it out first.

    Off a terminal it is plain text, two spaces between columns, and every row is one line.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    of = [Column.of(written) for written in columns]
    if not cells:
        print(empty if on_terminal() else "  ".join(column.name for column in of))
        return
    width = sys.maxsize
    if on_terminal():
        # A column that says nothing only takes room there; programs get every column, always.
        filled = [at for at in range(len(of)) if any(row[at] for row in cells)]
        of, cells = [of[at] for at in filled], [[row[at] for at in filled] for row in cells]
        width = shutil.get_terminal_size().columns
    for line in lay_out(of, cells, width, head=bold, cell=coloured, below=dim):
        print(line)


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """`12 s ago`; a dash for never."""
    if moment is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return f"{span(max(0.0, seconds))} ago"


def span(seconds: float | None) -> str:
    """A length of time in the one or two units that matter; a dash for none."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min" if whole % 3600 >= 60 else f"{whole // 3600} h"
    return f"{whole // 86400} d"


def size(count: float) -> str:
    """Bytes in binary units."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def counted(number: int, what: str) -> str:
    """`1 slot`, `2 slots`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def first_line(text: str) -> str:
    """What a reason of several lines says in one."""
    return next(iter(text.splitlines()), "")


def note(text: str) -> None:
    """A word on the side, for people: on stderr, so that stdout stays what was asked for."""
    print(paint(text, FAINT, sys.stderr), file=sys.stderr, flush=True)

"""What all listings share: a table for people, JSON for programs, times as people say them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli.colour import BOLD, CYAN, FAINT, GREEN, RED, YELLOW, colours, paint

if TYPE_CHECKING:
    from pydantic import BaseModel

#: The flag of every listing.
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_NAMES = {"green": GREEN, "yellow": YELLOW, "cyan": CYAN, "red": RED, "dim": FAINT}
_COLOURS = {
    "running": "green",
    "ready": "green",
    "completed": "green",
    "ok": "green",
    "pending": "yellow",
    "starting": "cyan",
    "assigned": "cyan",
    "stopping": "yellow",
    "draining": "yellow",
    "warning": "yellow",
    "failed": "red",
    "lost": "red",
    "error": "red",
    "unreachable": "red",
    "duplicate": "red",
    "regressed": "red",
    "revoked": "dim",
    "cancelled": "dim",
    "info": "dim",
}


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def coloured(word: str, width: int = 0) -> str:
    """A state in its colour on a terminal, the bare word elsewhere; filled up to a width."""
    colour = _COLOURS.get(word)
    return (paint(word, _NAMES[colour], sys.stdout) if colour else word) + " " * (width - len(word))


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
    """A table; states are coloured. Columns named with a leading > are set to the right.

    Off a terminal it is plain text, two spaces between columns: nothing is cut there, and Rich is not even imported.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    names = [name.removeprefix(">") for name in columns]
    if not cells:
        print(empty if on_terminal() else "  ".join(names))
        return
    if on_terminal():
        # A column that says nothing only takes room there; programs get every column, always.
        filled = [at for at in range(len(names)) if any(row[at] for row in cells)]
        _rich_table([columns[at] for at in filled], [[row[at] for at in filled] for row in cells])
        return
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(names)]
    right = [name.startswith(">") for name in columns]
    for row in [names, *cells]:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        print("  ".join(padded).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        last = name == columns[-1]
        view.add_column(
            name.removeprefix(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold" if last else "ellipsis",
            no_wrap=not last,
        )
    for row in cells:
        view.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console(color_system="auto" if colours(sys.stdout) else None).print(view)


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


def first_line(text: str) -> str:
    """What a reason of several lines says in one."""
    return next(iter(text.splitlines()), "")


def note(text: str) -> None:
    """A word on the side, for people: on stderr, so that stdout stays what was asked for."""
    print(paint(text, FAINT, sys.stderr), file=sys.stderr, flush=True)

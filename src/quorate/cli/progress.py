"""A progress bar for what takes more than a moment; nothing at all where nobody watches."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from quorate.cli.colour import draws

#: Seconds. What is done sooner needs no bar; a bar that flickers past is worse than none.
PATIENCE = 0.5
_WIDTH = 30


def bar_text(done: float, total: float) -> str:
    """A bar of fixed width and the percentage."""
    share = min(1.0, done / total) if total else 1.0
    full = int(share * _WIDTH)
    return f"{'━' * full}{'─' * (_WIDTH - full)} {share:4.0%}"


class Bar:
    """Shows how far something is, on a terminal, once it has taken half a second."""

    def __init__(self, title: str, total: float = 0) -> None:
        self.title = title
        self.total = total
        self.started = time.monotonic()
        self.shown = 0.0

    def __enter__(self) -> Bar:
        return self

    def at(self, done: float, total: float | None = None) -> None:
        """Tells how much is done, and of how much if that is known only now."""
        self.total = self.total if total is None else total
        now = time.monotonic()
        if draws(sys.stderr) and now - self.started > PATIENCE and now - self.shown > 0.1:
            self.shown = now
            bar = bar_text(done, self.total)
            # What does not fit one row would stay there when it is drawn over.
            room = max(0, shutil.get_terminal_size().columns - len(bar) - 2)
            print(f"\r\033[K{self.title[:room]} {bar}", end="", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

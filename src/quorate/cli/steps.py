"""Steps of something that takes seconds: each is named while it runs and ticked off with its time."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from quorate.cli.colour import CYAN, FAINT, GREEN, RED, draws, paint
from quorate.cli.output import span

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Steps:
    """Call it with the name of the next step. On a terminal the present one turns; elsewhere each is a line."""

    def __init__(self) -> None:
        self.terminal = draws(sys.stderr)
        self._step = ""
        self._began = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, step: str) -> None:
        """Ends the step before and begins this one."""
        with self._lock:
            self._tick_off()
            self._step, self._began = step, time.monotonic()
        if not self.terminal:
            print(step, file=sys.stderr, flush=True)
        elif self._thread is None:
            self._over.clear()
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()

    def done(self) -> None:
        """Ends the last step."""
        self._stop()
        with self._lock:
            self._tick_off()

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.done()
            return
        self._stop()
        if self.terminal and self._step:
            print(f"\r\033[K{paint('✗', RED, sys.stderr)} {self._step}", file=sys.stderr)

    def _stop(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _tick_off(self) -> None:
        if self._step and self.terminal:
            took = paint(span(time.monotonic() - self._began), FAINT, sys.stderr)
            print(f"\r\033[K{paint('✓', GREEN, sys.stderr)} {self._step} {took}", file=sys.stderr)
        self._step = ""

    def _turn(self) -> None:
        frame = 0
        while not self._over.wait(0.08):
            frame += 1
            with self._lock:
                if self._step:
                    mark = paint(_FRAMES[frame % len(_FRAMES)], CYAN, sys.stderr)
                    print(f"\r\033[K{mark} {self._step}", end="", file=sys.stderr, flush=True)

"""A socket where an engine would listen, and a test answers: for what no real engine can be made to say or do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Scripted:
    """Listens at `path` until it is closed; `answer` has each connection in a thread of its own, and closes it."""

    def __init__(self, path: Path, answer: Callable[[socket.socket], None]) -> None:
        self.path = str(path)
        self._answer = answer
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

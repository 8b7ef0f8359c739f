"""A master in a process of its own for a benchmark, which may be stopped and started again on what it has stored."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.client.api import Client
from quorate.client.settings import Settings


class Master:
    """One state directory, and the master's processes on it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def client(self) -> Client:
        """As the operator."""
        return Client(Settings(self.url, (self.directory / "admin.token").read_text().strip(), source="a benchmark"))

    def start(self) -> None:
        """Returns once it listens."""
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "quorate", "master", "--listen", "127.0.0.1", "--port", str(self.port)]
        with self.directory.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.directory), "--ready-fd", str(writer)],
                stdout=log, stderr=log, pass_fds=[writer],
            )  # fmt: skip
        os.close(writer)
        with os.fdopen(reader) as ready:
            if not ready.readline():
                raise SystemExit(f"the master did not start:\n{self.directory.with_suffix('.log').read_text()}")

    def stop(self) -> None:
        """SIGTERM, and waits."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def one_master() -> Iterator[Master]:
    """A master that listens, ended and removed in the end."""
    # Also whoever ends the benchmark leaves no master behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    (directory / "master").mkdir(mode=0o700)
    master = Master(directory / "master")
    try:
        master.start()
        yield master
    finally:
        master.kill()
        shutil.rmtree(directory, ignore_errors=True)

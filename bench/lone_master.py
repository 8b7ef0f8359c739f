"""A master alone in a process of its own, whose use of the processor and of memory can be read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx


class LoneMaster:
    """One state directory; `start` and `kill` as often as one likes."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Returns what it says when it listens."""
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "quorate", "master", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--state-dir", str(self.directory / "state"), "--ready-fd", str(writer)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader) as ready:
            line = ready.readline()
        if not line:
            raise SystemExit(f"the master did not start:\n{(self.directory / 'log').read_text()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self) -> None:
        """SIGKILL, as an accident would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def client(self) -> httpx.AsyncClient:
        """As its operator."""
        token = (self.directory / "state" / "admin.token").read_text().strip()
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60.0)

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used."""
        fields = self._proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Resident memory."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _proc(self, name: str) -> str:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@contextmanager
def lone_master(port: int) -> Iterator[LoneMaster]:
    """A master that is started, and that is gone in the end with all that it wrote."""
    directory = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    master = LoneMaster(directory, port)
    try:
        master.start()
        yield master
    finally:
        master.kill()
        shutil.rmtree(directory, ignore_errors=True)

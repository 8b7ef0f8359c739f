"""One machine at the other end of the user's own SSH, and the prober that runs there while the connection lasts."""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quorate.cli.travel import BOOTSTRAP, parcel
from quorate.network.catalogue import EPHEMERAL

#: Seconds until SSH has connected, and until the prober there has greeted.
_CONNECT_S = 10
_GREETING_S = 30.0
#: What a login shell may print before anything else.
_NOISE_LINES = 200
#: SSH's exit code for its own failures, and the shell's for a program that is not there.
_SSH_FAILED, _NOT_FOUND = 255, 127


class HostFailed(Exception):
    """The machine cannot take part. `remedy` is the next command."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the prober says of its machine."""

    hostname: str
    #: The address at which SSH reached it; empty where SSH does not say.
    reached_at: str
    python: str
    #: First and last of its kernel's ephemeral ports.
    ephemeral: tuple[int, int]


class Host:
    """The connection. Its methods may be called from any one thread at a time."""

    def __init__(self, destination: str, ssh: Sequence[str], python: str) -> None:
        self.destination = destination
        # No prompts: several hosts would ask at once. What follows the destination is for the login shell there.
        command = [*ssh, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_S}", "--", destination]
        self._try = shlex.join([*ssh, destination])
        self._python = python
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        try:
            self._process = subprocess.Popen(
                [*command, f"{python} -I -S -c '{BOOTSTRAP}'"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise HostFailed(f"{ssh[0]} cannot be run: {(error.strerror or str(error)).lower()}") from None
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def greet(self) -> Greeting:
        """Send the prober there, and return what it says first; raise HostFailed."""
        self._send(parcel())
        deadline = time.monotonic() + _GREETING_S
        for _ in range(_NOISE_LINES):
            said = self._said(deadline)
            if "too_old" in said:
                raise HostFailed(f"its {self._python} is {said['too_old']}, and 3.8 is needed", self._other_python())
            if "quorate_probe" in said:
                first, last = said["ephemeral"] or (EPHEMERAL.first, EPHEMERAL.last)
                return Greeting(said["host"], said["reached_at"], said["python"], (first, last))
        raise HostFailed("its login shell prints more than a prober can pass over", f"{self._try} true")

    def ask(self, order: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        """Have something done, and return the answer; raise HostFailed."""
        self._send(json.dumps(order).encode() + b"\n")
        return self._said(time.monotonic() + timeout_s)

    def close(self) -> None:
        """The prober ends when its input does."""
        try:
            self._process.communicate(timeout=2.0)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            self._process.kill()
            self._process.wait()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            raise self._why() from None

    def _said(self, deadline: float) -> dict[str, Any]:
        """The next object that is one."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise HostFailed("it does not answer", f"{self._try} true") from None
            if line is None:
                raise self._why()
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict):
                return said

    def _why(self) -> HostFailed:
        """What SSH or the shell there said when it ended."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join(timeout=2.0)
        said = "; ".join(self._errors[-2:]) or f"it ended with exit code {code}"
        if code == _NOT_FOUND:
            return HostFailed(f"it has no {self._python}: {said}", self._other_python())
        if code == _SSH_FAILED:
            return HostFailed(said, f"{self._try} true")
        return HostFailed(said, self._other_python() if "Error" in said else f"{self._try} true")

    def _other_python(self) -> str:
        return f"{self._try} 'ls /usr/bin/python3*'   then --python with a newer one"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode(errors="replace").strip()
            if text:
                self._errors = [*self._errors[-9:], text]

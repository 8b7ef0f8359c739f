"""A shim as the tests need it: a real companion in a process of its own, and the channel to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import quorate
from quorate.launch.config import Configuration

SOURCE = Path(quorate.__file__).parent.parent
DEADLINE_S = 20.0


class Beside:
    """The shim's end of the channel to the companion of one member."""

    def __init__(
        self,
        configuration: Configuration,
        python: str = sys.executable,
        inside: tuple[str, ...] = (),
        first: str = "",
    ) -> None:
        """`inside`: a command that runs another one elsewhere, such as in a namespace. `first`: Python to run first."""
        self.configuration = configuration
        here, there = socket.socketpair()
        program = (
            f"import sys, socket; sys.path.insert(0, {str(SOURCE)!r})\n"
            "from quorate.launch.companion import serve\n"
            f"{first}\n"
            f"serve(socket.socket(fileno={there.fileno()}))"
        )
        with there:
            command = [*inside, python, "-I", "-S", "-c", program]
            self.process = subprocess.Popen(command, pass_fds=[there.fileno()])
        here.settimeout(DEADLINE_S)
        self._socket = here
        self._reader = here.makefile("rb")
        self._socket.sendall(configuration.to_json().encode() + b"\n")

    def says(self) -> dict[str, Any]:
        """The next message but for that it waits; fails where the companion ends instead."""
        while "waits" in (message := self._hears()):
            pass
        return message

    def _hears(self) -> dict[str, Any]:
        line = self._reader.readline()
        assert line, "the companion ended without a word"
        message: dict[str, Any] = json.loads(line)
        return message

    def goes(self) -> dict[str, str]:
        """The companion lets the command start; the variables that it adds."""
        message = self.says()
        assert "go" in message, message
        environment: dict[str, str] = message["go"]["environment"]
        return environment

    def fails(self) -> tuple[str, str]:
        """The companion forbids the start: code and sentence."""
        message = self.says()
        assert "failed" in message, message
        failed = message["failed"]
        return failed["code"], failed["sentence"]

    def waits(self) -> float:
        """The first member's companion says that others have not come: for how many seconds."""
        seconds: float = self._hears()["waits"]
        return seconds

    def hears_that_the_first_waits(self, seconds: float) -> None:
        """The agent says that the first member is there and has waited for so long."""
        self._socket.sendall(json.dumps({"first_waits": seconds}).encode() + b"\n")

    def stops(self) -> str:
        """The companion says that another member has failed: the reason."""
        message = self.says()
        assert message["stop"]["echo"] is True, message
        reason: str = message["stop"]["reason"]
        return reason

    def ends(self) -> None:
        """The companion ends by itself, and has said no more."""
        assert self._reader.readline() == b""
        assert self.process.wait(DEADLINE_S) == 0

    def exited(self, code: int | None = None, signal: int | None = None, *, stopped: bool = False) -> None:
        """Tells that the member's command has ended."""
        message = {"exited": {"code": code, "signal": signal, "stopped": stopped}}
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ended(self, reason: str) -> None:
        """Tells that the member is ended by its own machine."""
        self._socket.sendall(json.dumps({"ended": reason}).encode() + b"\n")

    def dies(self) -> None:
        """The shim dies, without a word; its companion lives."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def vanish(self) -> None:
        """The companion is killed, as by the machine's going down."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()


@contextmanager
def companions(*configurations: Configuration) -> Iterator[list[Beside]]:
    """A companion for each, all ended afterwards."""
    beside: list[Beside] = []
    try:
        beside.extend(Beside(configuration) for configuration in configurations)
        yield beside
    finally:
        for each in beside:
            each.close()

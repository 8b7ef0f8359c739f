"""Between an SSH server in a container and the container's engine: starts commands there as the member's user.

The server has no way to the engine, which can do anything on this machine. Its parent, this process, has: it takes
requests over a socketpair, a message each, about its own container alone, and hands the command's connection over.
"""

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from quorate.agent.command import User
from quorate.agent.processes import children, environment
from quorate.agent.runtime.engine import Engine, EngineError

#: The largest message: a command line may have 128 KiB.
MAX_BYTES: Final = 200 * 1024
#: First processes of engines, whose child is the command.
_INITS: Final = ("docker-init", "tini", "podman-init", "catatonit")
#: An engine says that a command has ended a moment after its output has.
_PATIENCE_S, _LOOK_S = 5.0, 0.02


class Broker:
    """The parent's side; blocking, one request after the other, until the server has gone."""

    def __init__(self, link: socket.socket, engine: Engine, container: str, pid: int, user: User | None) -> None:
        """`pid`: the container's first process, as this machine knows it."""
        self._link = link
        self._engine = engine
        self._container = container
        self._pid = pid
        self._user = user
        self._started: list[str] = []

    def run(self) -> None:
        """Until the server's end of the link is closed; then what it started is hung up on."""
        while data := self._link.recv(MAX_BYTES):
            request = json.loads(data)
            try:
                self._answer(request)
            except EngineError as error:
                self._say({"to": request["number"], "error": str(error)})
        for execution in self._started:
            with suppress(EngineError):
                self._signal(execution, signal.SIGHUP)

    def _answer(self, request: Mapping[str, Any]) -> None:
        match request:
            case {"start": [*argv], "size": size, "number": number}:
                self._start(number, argv, request["environment"], size)
            case {"resize": int(which), "size": [columns, rows]}:
                self._engine.resize(self._started[which], int(columns), int(rows))
            case {"signal": int(which), "what": int(what)}:
                self._signal(self._started[which], what)
            case {"ended": int(which), "number": number}:
                self._say({"to": number, "code": self._code(self._started[which])})

    def _start(self, number: int, argv: Sequence[str], environment: Mapping[str, str], size: list[int] | None) -> None:
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": size is not None,
            "Cmd": argv,
            "Env": [*_variables_of(self._pid), *(f"{name}={value}" for name, value in environment.items())],
        }
        if self._user is not None:
            body["User"] = f"{self._user.uid}:{self._user.gid}"
        execution = self._engine.execution(self._container, body)
        stream, early = self._engine.execute(execution, size is not None)
        with stream:
            self._started.append(execution)
            if size is not None:
                with suppress(EngineError):
                    self._engine.resize(execution, *size)
            answer = {"to": number, "id": len(self._started) - 1, "early": base64.b64encode(early).decode()}
            socket.send_fds(self._link, [json.dumps(answer).encode()], [stream.fileno()])

    def _signal(self, execution: str, number: int) -> None:
        state = self._engine.executed(execution)
        if state["Running"] and state["Pid"] > 1:
            # It leads a group of its own: what it started is meant, too.
            with suppress(ProcessLookupError):
                os.killpg(state["Pid"], number)

    def _code(self, execution: str) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            state = self._engine.executed(execution)
            if not state["Running"] or time.monotonic() > deadline:
                return int(state["ExitCode"] or 0)
            time.sleep(_LOOK_S)

    def _say(self, answer: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._link.send(json.dumps(answer).encode())


def _variables_of(pid: int) -> list[str]:
    """The command's, as `name=value`: besides what the engine gave it, what its bootstrap has exported."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() in _INITS:
            pid = next(iter(children(pid)), pid)
        entries = environment(pid).split(b"\0")
        return [entry.decode(errors="replace") for entry in entries if b"=" in entry]
    return []

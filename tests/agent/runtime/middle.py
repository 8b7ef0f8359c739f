"""Stands between an engine and those who ask it, knows each step of making a container, and kills at one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.agent.runtime.scripted import Scripted

_BYTES = 1 << 16
_CONTAINER = re.compile(r"/v[\d.]+/containers/([^/?]+)(?:/([a-z]+))?")


class Moment(StrEnum):
    """When somebody dies, seen from one step."""

    #: It was asked for, and is not done.
    BEFORE = "before"
    #: It is done, and whoever asked has not heard of it.
    AFTER = "after"
    #: It is done only when `go_on` is called, whoever asked being long dead.
    LONG_BEFORE = "long before"


@dataclass(frozen=True)
class Step:
    """What is asked of the engine, such as `create`, for a `member`, its `pause`, or a `look` into an image."""

    verb: str
    of: str

    def __str__(self) -> str:
        return f"{self.verb} {self.of}"


#: The processes to kill, by the one that asks.
Whom = Callable[[int], Sequence[int]]


@dataclass
class _Order:
    step: Step
    moment: Moment
    whom: Whom
    done: threading.Event = field(default_factory=threading.Event)


def whoever_asks(asker: int) -> Sequence[int]:
    """The usual victim."""
    return (asker,)


class Middle:
    """Listens at `path` for the engine at `engine`; requests are HTTP/1.0, one on each connection."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        #: How often a container of each name was made, and started, and how often it was to be removed.
        self.created: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.removals: Counter[str] = Counter()
        self._held = threading.Event()
        self._names: dict[str, str] = {}
        self._order: _Order | None = None
        self._lock = threading.Lock()
        self._scripted = Scripted(path, self._serve)

    def kill(self, step: Step, moment: Moment, whom: Whom = whoever_asks) -> threading.Event:
        """The first time that somebody takes this step, those die whom `whom` names to it; set once they have."""
        order = _Order(step, moment, whom)
        self._order = order
        return order.done

    def go_on(self) -> None:
        """What is held up comes to the engine now."""
        self._held.set()

    def close(self) -> None:
        self._scripted.close()

    # --- one connection ----------------------------------------------------------------------------------------

    def _serve(self, asker: socket.socket) -> None:
        with suppress(OSError), asker, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
            request = _message(asker)
            # Who only wants to know whose socket this is says nothing.
            if not request:
                return
            step, name = self._step(request)
            if self._dies(step, Moment.BEFORE, asker):
                return
            if self._dies(step, Moment.LONG_BEFORE, asker):
                self._held.wait()
            engine.connect(self._engine)
            engine.sendall(request)
            answer = _head(engine)
            # An engine that dies says nothing.
            if step.verb == "remove":
                self.removals[name] += 1
            status = int(answer.split(b" ", 2)[1]) if answer else 500
            if step.verb == "create":
                while chunk := engine.recv(_BYTES):
                    answer += chunk
            if status < 400:
                self._note(step, name, answer)
                if self._dies(step, Moment.AFTER, asker):
                    return
            asker.sendall(answer)
            threading.Thread(target=_pump, args=(asker, engine), daemon=True).start()
            _pump(engine, asker)

    def _step(self, request: bytes) -> tuple[Step, str]:
        target = request.split(b" ", 2)[1]
        url = urlsplit(target.decode())
        found = _CONTAINER.fullmatch(url.path)
        if not found:
            return Step("ask", "engine"), ""
        which, verb = found[1], found[2] or "remove"
        if which == "create":
            which, verb = parse_qs(url.query).get("name", [""])[0], "create"
        name = self._names.get(which, which)
        of = "pause" if name.startswith("quorate-pause-") else "member" if name.startswith("quorate-") else "look"
        return Step({"json": "inspect"}.get(verb, verb), of), name

    def _note(self, step: Step, name: str, answer: bytes) -> None:
        if step.verb == "create":
            self._names[json.loads(answer.partition(b"\r\n\r\n")[2])["Id"]] = name
            self.created[name] += 1
        if step.verb == "start":
            self.started[name] += 1

    def _dies(self, step: Step, moment: Moment, asker: socket.socket) -> bool:
        with self._lock:
            order = self._order
            if order is None or (order.step, order.moment) != (step, moment):
                return False
            self._order = None
        pid, _, _ = struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        victims = order.whom(pid)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        order.done.set()
        return pid in victims


def _head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (chunk := connection.recv(_BYTES)):
        data += chunk
    return data


def _message(connection: socket.socket) -> bytes:
    data = _head(connection)
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", data)
    whole = data.index(b"\r\n\r\n") + 4 + int(length[1]) if length and b"\r\n\r\n" in data else 0
    while len(data) < whole and (chunk := connection.recv(_BYTES)):
        data += chunk
    return data


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_BYTES):
            target.sendall(data)
    # Neither side ever says less than all before it goes.
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

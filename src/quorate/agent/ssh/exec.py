"""A command of an SSH session in a container: started by the engine, which alone gives it what the member has."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from quorate.agent.runtime.stream import Demultiplexer, StreamError
from quorate.agent.ssh.broker import MAX_BYTES
from quorate.agent.ssh.child import Child, Client, Feed, Terminal
from quorate.model.logframes import Stream

_READ_BYTES = 64 * 1024

Answered = Callable[[Mapping[str, Any], int | None], None]


class Executions:
    """The server's side of the link to the broker."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._waiting: dict[int, Answered] = {}
        self._count = 0
        asyncio.get_running_loop().add_reader(link.fileno(), self._hear)

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], terminal: Terminal | None, client: Client
    ) -> Child:
        """Raises OSError where the command line is too long."""
        return ExecChild(self, argv, environment, terminal, client)

    def ask(self, request: Mapping[str, Any], answered: Answered | None = None) -> None:
        """Raises OSError where the broker is gone, or too much is asked at once."""
        self._count += 1
        self._link.send(json.dumps({**request, "number": self._count}).encode())
        if answered is not None:
            self._waiting[self._count] = answered

    def _hear(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._link, MAX_BYTES, 1)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            return
        answer = json.loads(data)
        waiting = self._waiting.pop(answer["to"], None)
        if waiting is not None:
            waiting(answer, descriptors[0] if descriptors else None)
        elif descriptors:
            os.close(descriptors[0])


class ExecChild:
    """A Child (child.py) that has not begun yet when it is made."""

    def __init__(
        self,
        executions: Executions,
        argv: Sequence[str],
        environment: Mapping[str, str],
        terminal: Terminal | None,
        client: Client,
    ) -> None:
        self._executions = executions
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._input = Feed(client, self._shut)
        self._demultiplexer = None if terminal is not None else Demultiplexer()
        self._stream: socket.socket | None = None
        self._id: int | None = None
        self._paused = False
        self._gone = False
        size = None if terminal is None else [terminal.columns, terminal.rows]
        executions.ask({"start": list(argv), "environment": dict(environment), "size": size}, self._begun)

    def _begun(self, answer: Mapping[str, Any], descriptor: int | None) -> None:
        if descriptor is None:
            self._client.output(f"quorate: {answer.get('error', 'it could not be started')}\n".encode(), True)
            self._client.ended(126, None)
            return
        self._id = answer["id"]
        self._stream = socket.socket(fileno=descriptor)
        self._stream.setblocking(False)
        if self._gone:
            self.hang_up()
            return
        if early := base64.b64decode(answer["early"]):
            self._tell(early)
        self._input.attach(descriptor)
        self.hold(self._paused)

    # --- input and output --------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._input.take(data)

    def feed_eof(self) -> None:
        self._input.end(b"" if self._demultiplexer is not None else b"\x04")

    def _shut(self, _: int) -> None:
        """The end of the input; a terminal goes on, and hears the character for it instead."""
        if self._stream is not None and self._demultiplexer is not None:
            with suppress(OSError):
                self._stream.shutdown(socket.SHUT_WR)

    def hold(self, held: bool) -> None:
        self._paused = held
        if self._stream is None:
            return
        if held:
            self._loop.remove_reader(self._stream)
        else:
            self._loop.add_reader(self._stream, self._read)

    def _read(self) -> None:
        assert self._stream is not None
        try:
            data = self._stream.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            with suppress(StreamError):
                self._tell(data)
            return
        self._loop.remove_reader(self._stream)
        self._close()
        with suppress(OSError):
            self._executions.ask({"ended": self._id}, lambda answer, _: self._told(answer.get("code", 126)))

    def _tell(self, data: bytes) -> None:
        if self._demultiplexer is None:
            self._client.output(data, False)
            return
        for stream, piece in self._demultiplexer.feed(data):
            self._client.output(piece, stream is Stream.STDERR)

    # --- the end -----------------------------------------------------------------------------------------------

    def _told(self, code: int) -> None:
        if not self._gone:
            self._client.ended(code, None)

    def resize(self, terminal: Terminal) -> None:
        if self._id is not None and self._demultiplexer is None:
            with suppress(OSError):
                self._executions.ask({"resize": self._id, "size": [terminal.columns, terminal.rows]})

    def signal(self, number: int) -> None:
        if self._id is not None:
            with suppress(OSError):
                self._executions.ask({"signal": self._id, "what": number})

    def hang_up(self) -> None:
        self._gone = True
        if self._stream is not None:
            self.signal(1)
            self._loop.remove_reader(self._stream)
            self._close()

    def _close(self) -> None:
        self._input.detach()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

"""JSON objects over a stream, one a line, with a limit on what a peer can make one hold."""

from __future__ import annotations

import json
import socket
from typing import Any, Callable, Dict

from quorate.launch.reactor import READ, WRITE, Reactor

Object = Dict[str, Any]

#: What a peer may say in one line.
MAX_LINE = 64 * 1024
#: What may wait to be sent to a peer that does not read.
MAX_UNSENT = 1024 * 1024
_CHUNK = 64 * 1024
#: One for all: `json.dumps` makes one for each object.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Lines:
    """A socket over which objects come and go. `on_end(why)` comes once, when the peer or the network ends it."""

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        on_object: Callable[[Object], None],
        on_end: Callable[[str], None],
        *,
        max_line: int = MAX_LINE,
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._socket = sock
        self.on_object = on_object
        self.on_end = on_end
        #: May be raised for a peer that is known.
        self.max_line = max_line
        self._received = bytearray()
        self._unsent = bytearray()
        self._open = True
        self._closing = False
        self._waits = READ
        reactor.watch(sock, READ, self._ready)

    @property
    def open(self) -> bool:
        return self._open

    def send(self, message: Object) -> None:
        """Never blocks; on a connection that has ended it does nothing, for `on_end` tells of that."""
        self.send_line(encoded(message))

    def send_line(self, line: bytes) -> None:
        """The same for what `encoded` has made: what goes to many is encoded once."""
        if not self._open or self._closing:
            return
        self._unsent += line
        if len(self._unsent) > MAX_UNSENT:
            self._end("it does not read what it is sent")
            return
        self._write()

    def close(self) -> None:
        """Ends the connection at once, without a call of `on_end`."""
        if self._open:
            self._open = False
            self._reactor.watch(self._socket, 0, self._ready)
            self._socket.close()

    def close_when_sent(self) -> None:
        """Ends the connection, without a call of `on_end`, when all that was sent is with the kernel."""
        self._closing = True
        if not self._unsent:
            self.close()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & READ and self._open:
            self._read()

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(_reason(error))
            return
        if self._closing and not self._unsent:
            self.close()
            return
        waits = READ | (WRITE if self._unsent else 0)
        if waits != self._waits:
            self._waits = waits
            self._reactor.watch(self._socket, waits, self._ready)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(_reason(error))
            return
        if not data:
            self._end("it closed the connection")
            return
        self._received += data
        while self._open:
            end = self._received.find(b"\n")
            if end < 0:
                break
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._take(line)
        if len(self._received) > self.max_line:
            self._end("it sent a line that is too long")

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or len(line) > self.max_line:
            self._end("it does not speak this protocol")
            return
        if not self._closing:
            self.on_object(message)

    def _end(self, why: str) -> None:
        if self._open:
            closing = self._closing
            self.close()
            if not closing:
                self.on_end(why)


def encoded(message: Object) -> bytes:
    """One line."""
    return _ENCODER.encode(message).encode() + b"\n"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

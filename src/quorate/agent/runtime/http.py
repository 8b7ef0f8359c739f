"""HTTP to an engine's unix socket, one request on each connection. Standard library only: shims of containers use it.

HTTP/1.0, because its answers end with their connection: so an answer can be awaited beside other things (`wait`) or
become a plain stream (`attach`) with no thread and no client in between, neither of which `http.client` can do.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quorate.agent import unixsocket

#: More than any answer that is read whole: an image with thousands of variables stays well below.
_MAX_BODY = 64 * 1024 * 1024
_MAX_HEAD = 64 * 1024
_READ_BYTES = 64 * 1024


class HttpError(OSError):
    """What came is no answer, or the answer broke off."""


class TooLarge(HttpError):
    """The answer is larger than whoever asked has room for."""


class Response:
    """An answer whose head has come; its body is still in the connection."""

    def __init__(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(_READ_BYTES)
            if not data or len(head) > _MAX_HEAD:
                raise HttpError("the engine's answer broke off")
            head += data
        head, _, self._early = head.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        try:
            self.status = int(first.split(b" ", 2)[1])
        except (IndexError, ValueError):
            raise HttpError(f"this is no answer of an engine: {first[:100]!r}") from None
        self.headers = {name.lower().decode(): value.strip().decode() for name, _, value in _pairs(lines)}
        self._connection = connection

    def read(self, most: int = _MAX_BODY) -> bytes:
        """The whole body; the connection is closed. Raises TooLarge beyond `most` bytes."""
        with self._connection:
            parts, size = [self._early], len(self._early)
            while data := self._connection.recv(_READ_BYTES):
                parts.append(data)
                size += len(data)
                if size > most:
                    raise TooLarge("the engine's answer is too large")
        return b"".join(parts)

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it comes."""
        with self._connection:
            rest = self._early
            while data := self._connection.recv(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
            if rest:
                yield rest

    def stream(self) -> tuple[socket.socket, bytes]:
        """The connection, which is the caller's from now on, and what of its data has come already."""
        return self._connection, self._early


def _pairs(lines: list[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (line.partition(b":") for line in lines)


def send(
    path: str, method: str, target: str, body: bytes, headers: Mapping[str, str], timeout_s: float | None
) -> socket.socket:
    """Sends a request and returns the connection on which its answer will come. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        unixsocket.connect(connection, path)
        fields = {"Host": "engine", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {target} HTTP/1.0", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode() + body)
    except BaseException:
        connection.close()
        raise
    return connection


def request(
    path: str,
    method: str,
    target: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float | None,
    sent: Callable[[socket.socket], None] | None = None,
) -> Response:
    """Sends a request and waits for the head of its answer; `sent` has the connection in between. Raises OSError."""
    connection = send(path, method, target, body, headers, timeout_s)
    try:
        if sent is not None:
            sent(connection)
        return Response(connection)
    except BaseException:
        connection.close()
        raise


def whole(data: bytes) -> tuple[int, Any]:
    """Status and JSON of an answer that has come in one piece. Raises HttpError."""
    head, end, body = data.partition(b"\r\n\r\n")
    try:
        return int(head.split(b" ", 2)[1]), json.loads(body) if end else None
    except (IndexError, ValueError):
        raise HttpError("the engine's answer broke off") from None

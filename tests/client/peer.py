"""A peer for the client that answers as it is told, and breaks off where it is told: real sockets, no master."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What the client sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """`answers` are given one after the other; an answer writes what it likes and the connection is closed after it."""

    answers: list[Callable[[socket.socket, Request], None]]
    url: str = ""
    requests: list[Request] = field(default_factory=list)


@contextmanager
def peer(*answers: Callable[[socket.socket, Request], None]) -> Iterator[Peer]:
    """Listens on a port of its own until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        this = Peer(list(answers), f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=_serve, args=(listener, this), daemon=True)
        thread.start()
        yield this
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _serve(listener: socket.socket, this: Peer) -> None:
    for answer in this.answers:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            request = _read(connection)
            if request:
                this.requests.append(request)
                answer(connection, request)


def _read(connection: socket.socket) -> Request | None:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode().split()
        if not line:
            return None
        headers = {}
        while text := stream.readline().decode().strip():
            key, _, value = text.partition(":")
            headers[key.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        return Request(line[0], line[1], headers, body)


def says(status: int, body: Any, kind: str = "application/json") -> Callable[[socket.socket, Request], None]:
    """A whole answer."""

    def answer(connection: socket.socket, _: Request) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + data)

    return answer


def streams(*pieces: bytes, whole: bool = True) -> Callable[[socket.socket, Request], None]:
    """A chunked answer of these pieces; not `whole`: the connection is cut after them."""

    def answer(connection: socket.socket, _: Request) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n"
        )
        for piece in pieces:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        if whole:
            connection.sendall(b"0\r\n\r\n")

    return answer


def hangs_up(_connection: socket.socket, _request: Request) -> None:
    """Takes the request and says nothing."""

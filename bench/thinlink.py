"""The least of a WebSocket client (RFC 6455) that an agent's link needs, so that one process can hold thousands.

Not a benchmark. Dials as the shipped link does: with its pauses, its patience, and the master's Retry-After.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from quorate.agent.link import Endpoint, Pauses

OPEN_S = 10.0
GOOD_S = 5.0
BINARY, CLOSE = 0x2, 0x8


class ThinLink(asyncio.Protocol):
    """One connection. Whole binary messages come to `on_message`; text, continuation and pings are not expected."""

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        self._path, self._endpoint = path, endpoint
        self._received = bytearray()
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.retry_after = 0.0
        self.on_message: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        headers = {
            "Host": urlsplit(self._endpoint.url).netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **self._endpoint.headers,
        }
        lines = [f"GET {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.opened.done():
            head, end, rest = bytes(self._received).partition(b"\r\n\r\n")
            if not end:
                return
            status, *headers = head.decode("latin-1").split("\r\n")
            for header in headers:
                name, _, value = header.partition(":")
                if name.lower() == "retry-after":
                    self.retry_after = float(value)
            self._received = bytearray(rest)
            self.opened.set_result(int(status.split()[1]))
        while (message := self._frame()) is not None:
            self.on_message(message)

    def _frame(self) -> bytes | None:
        data = self._received
        if len(data) < 2:
            return None
        kind, length, at = data[0] & 0xF, data[1] & 0x7F, 2
        if length >= 126:
            form = ">H" if length == 126 else ">Q"
            if len(data) < at + struct.calcsize(form):
                return None
            (length,) = struct.unpack_from(form, data, at)
            at += struct.calcsize(form)
        if len(data) < at + length:
            return None
        message = bytes(data[at : at + length])
        del data[: at + length]
        if kind == CLOSE:
            self.close()
            return None
        return message

    def send(self, data: bytes) -> None:
        """One binary message, masked with zeros; swallowed by a link that has ended."""
        if self._transport.is_closing():
            return
        size = len(data)
        head = (
            struct.pack(">BB", 0x80 | BINARY, 0x80 | size)
            if size < 126
            else struct.pack(">BBH", 0x80 | BINARY, 0xFE, size)
            if size < 1 << 16
            else struct.pack(">BBQ", 0x80 | BINARY, 0xFF, size)
        )
        self._transport.write(head + bytes(4) + data)

    def close(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.closed):
            if not future.done():
                future.set_result(0 if future is self.opened else None)


async def keep(
    endpoint: Endpoint,
    path: str,
    use: Callable[[ThinLink], Awaitable[None]],
    ready: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """As quorate.agent.link.keep, with thin links."""
    pauses = Pauses()
    loop = asyncio.get_running_loop()
    address = urlsplit(endpoint.url)
    while True:
        if ready is not None:
            await ready()
        at_least, began = 0.0, loop.time()
        link: ThinLink | None = None
        try:
            async with asyncio.timeout(OPEN_S):
                _, link = await loop.create_connection(lambda: ThinLink(path, endpoint), address.hostname, address.port)
                status = await link.opened
            if status == 101:
                await use(link)
                await link.closed
            else:
                at_least = link.retry_after
        except (OSError, TimeoutError):
            pass
        if link is not None:
            link.close()
        if loop.time() - began > GOOD_S:
            pauses.good()
        await asyncio.sleep(pauses.draw(at_least))

"""The agent's end of the conversation with one shim."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final

Object = dict[str, Any]

_MAX_LINE: Final = 1024 * 1024


class ShimLink(asyncio.Protocol):
    """Lines of JSON over a unix socket. `on_message` gets each; `on_end` is called once, when the shim is gone."""

    def __init__(self, on_message: Callable[[Object], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._received = b""
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def over(
        cls, connection: socket.socket, on_message: Callable[[Object], None], on_end: Callable[[], None]
    ) -> "ShimLink":
        """Takes a connected socket over."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(on_message, on_end), sock=connection)
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > _MAX_LINE:
            self.close()
            return
        for line in lines:
            if line:
                self._on_message(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()

    def write(self, data: bytes) -> None:
        """Bytes as they are: the order."""
        if self._transport is not None:
            self._transport.write(data)

    def send(self, message: Object) -> None:
        """One message; swallowed if the shim is gone."""
        self.write(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

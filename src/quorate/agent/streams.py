"""Streams into members: dialled to the master when it asks, each on its own, and joined to the member's door."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from quorate.agent import unixsocket
from quorate.agent.answers import CannotAnswer, asked
from quorate.agent.link import Endpoint
from quorate.agent.ssh import door
from quorate.model.asks import STREAM_PATH, TICKET_HEADER, Stream

log = logging.getLogger(__name__)

_OPEN_S: Final = 10.0
_CHUNK_BYTES: Final = 64 * 1024
#: Frames that may wait to be taken by a slow member; small, since each may be as large as a chunk.
_MOST_WAITING: Final = 4


class Streams:
    """All streams of this agent. Made in the event loop."""

    def __init__(self, endpoint: Endpoint, folder_of: Callable[[str], Path]) -> None:
        """`folder_of`: a member's own folder; raises ValueError for what is no member's id."""
        self._endpoint = endpoint
        self._folder_of = folder_of
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, body: Any) -> None:
        """To the question STREAM. Returns once the stream is open; raises CannotAnswer."""
        wanted = asked(Stream, body)
        inside = await self._knock(wanted.member)
        try:
            dialled = await connect(
                self._endpoint.websocket(STREAM_PATH),
                ssl=self._endpoint.tls,
                additional_headers={**self._endpoint.headers, TICKET_HEADER: wanted.ticket},
                compression=None,
                max_queue=_MOST_WAITING,
                open_timeout=_OPEN_S,
                close_timeout=1,
                ping_interval=None,
                proxy=None,
            )
        except BaseException as error:
            # Also where nobody waits for the answer any more: the door must not be held open.
            inside[1].close()
            if not isinstance(error, OSError | TimeoutError | InvalidHandshake):
                raise
            raise CannotAnswer(f"the stream could not be dialled: {error or type(error).__name__}") from None
        task = asyncio.create_task(_join(dialled, *inside))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _knock(self, member: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(sock=_connected(self._folder_of(member)))
        except (OSError, ValueError) as error:
            raise CannotAnswer(f"member {member[:64]} cannot be entered here: {error}") from None

    async def close(self) -> None:
        """Ends them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _connected(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unixsocket.connect(connection, folder / door.SOCKET)
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


async def _join(dialled: ClientConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side is at its end."""
    ways = [asyncio.create_task(_in(dialled, writer)), asyncio.create_task(_out(reader, dialled))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        await dialled.close()


async def _in(dialled: ClientConnection, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ConnectionClosed):
        async for data in dialled:
            writer.write(data if isinstance(data, bytes) else data.encode())
            await writer.drain()


async def _out(reader: asyncio.StreamReader, dialled: ClientConnection) -> None:
    with suppress(OSError, ConnectionClosed):
        while data := await reader.read(_CHUNK_BYTES):
            await dialled.send(data)

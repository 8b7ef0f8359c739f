"""Into a member of a job: SSH over a stream through the master, with no port, no key, and no way to the agent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncssh
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from quorate.client.api import CONNECT_TIMEOUT, Client, segment
from quorate.client.errors import ApiError, NotAMaster, Unreachable
from quorate.model.problem import Problem

#: Seconds until the stream is open: the master asks the agent, which dials back.
_OPEN_S = 20.0
_CHUNK_BYTES = 64 * 1024
_KEEPALIVE_S = 30.0


@asynccontextmanager
async def entered(client: Client, job: str, member: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """An SSH connection to the member, by its name or rank. Raises ClientError, or asyncssh.Error once it is open.

    The master has said who may; the member's end trusts what comes through its agent, so there are no keys.
    """
    async with await _dial(client, job, member) as stream:
        near, far = socket.socketpair()
        near.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=near)
        ways = [asyncio.create_task(_in(stream, writer)), asyncio.create_task(_out(reader, stream))]
        try:
            async with asyncssh.connect(
                member,
                sock=far,
                known_hosts=None,
                client_keys=None,
                agent_path=None,
                config=None,
                username="quorate",
                preferred_auth="none",
                keepalive_interval=_KEEPALIVE_S,
            ) as connection:
                yield connection
        finally:
            writer.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _dial(client: Client, job: str, member: str) -> ClientConnection:
    settings = client.settings
    url = f"ws{settings.master.removeprefix('http')}/api/v1/jobs/{segment(job)}/members/{segment(member)}/ssh"
    try:
        return await connect(
            url,
            ssl=client.tls() if url.startswith("wss") else None,
            additional_headers={"Authorization": f"Bearer {settings.token}"} if settings.token else {},
            user_agent_header="quorate",
            compression=None,
            max_queue=4,
            open_timeout=_OPEN_S + CONNECT_TIMEOUT,
            close_timeout=1,
            ping_interval=None,
            proxy=None,
        )
    except InvalidStatus as error:
        try:
            problem = Problem.model_validate(json.loads(error.response.body or b""))
        except ValueError:
            raise NotAMaster(f"{settings.master} answered {error.response.status_code}") from None
        raise ApiError(problem) from None
    except (OSError, TimeoutError, InvalidHandshake) as error:
        why = str(error) or type(error).__name__
        raise Unreachable(f"no stream through {settings.master}: {why}", "quorate doctor") from None


async def _in(stream: ClientConnection, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ConnectionClosed):
        async for data in stream:
            writer.write(data if isinstance(data, bytes) else data.encode())
            await writer.drain()
    writer.close()


async def _out(reader: asyncio.StreamReader, stream: ClientConnection) -> None:
    with suppress(OSError, ConnectionClosed):
        while data := await reader.read(_CHUNK_BYTES):
            await stream.send(data)

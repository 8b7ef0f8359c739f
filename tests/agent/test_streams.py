"""Streams into a member: nothing stays open of one that nobody waits for any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quorate.agent.link import Endpoint
from quorate.agent.ssh import door
from quorate.agent.streams import Streams

pytestmark = pytest.mark.anyio


async def test_a_stream_that_is_given_up_while_it_is_dialled_lets_go_of_the_members_door(tmp_path: Path) -> None:
    knocked: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    dialled = asyncio.Event()

    async def be_door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.set_result(reader)

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()

    members = await asyncio.start_unix_server(be_door, tmp_path / door.SOCKET)
    master = await asyncio.start_server(be_silent, "127.0.0.1")
    async with members, master, asyncio.timeout(20):
        port = master.sockets[0].getsockname()[1]
        streams = Streams(Endpoint(f"http://127.0.0.1:{port}", "qa1.x", None), lambda _: tmp_path)
        answering = asyncio.create_task(streams.answer({"member": "abcd1234-1.0.1", "ticket": "t"}))
        visitor = await knocked
        await dialled.wait()
        answering.cancel()
        assert await visitor.read() == b""

"""A connection on which nothing is said is closed; one that asks is served as long as it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from quorate.master.firstwords import Impatient


class Hasty(Impatient):
    patience_s = 0.05


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """An answer that takes longer than anybody may be silent."""
    await asyncio.sleep(4 * Hasty.patience_s)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def said(*words: bytes) -> bytes:
    """What such a server answers to these words before it closes the connection or the answer is there."""
    config = uvicorn.Config(slow, http=Hasty, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Hasty(config, state, {}), "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for word in words:
            writer.write(word)
        async with asyncio.timeout(20):
            try:
                return await reader.readline()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()
    finally:
        server.close()


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01"])
def test_whoever_does_not_say_what_he_wants_is_hung_up_on(words: bytes) -> None:
    answer = asyncio.run(said(words))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_an_answer_may_take_longer_than_the_question() -> None:
    assert asyncio.run(said(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 204")

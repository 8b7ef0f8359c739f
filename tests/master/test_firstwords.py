"""A connection on which nothing is said is closed; one that asks is served as long as it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from quorate.master.firstwords import Impatient
from quorate.model.logcursor import MAX_CURSOR_BYTES


class Hasty(Impatient):
    patience_s = 0.05


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """An answer to the whole question, that takes longer than anybody may be silent."""
    await asyncio.sleep(4 * Hasty.patience_s)
    while (await receive()).get("more_body"):
        pass
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
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


WITH_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
LINK = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    "words", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01", WITH_A_BODY % 100 + b"{", WITH_A_BODY % 100]
)
def test_whoever_does_not_say_what_he_wants_is_hung_up_on(words: bytes) -> None:
    answer = asyncio.run(said(words))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_an_answer_may_take_longer_than_the_question() -> None:
    assert asyncio.run(said(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 204")


def test_a_body_that_the_master_has_no_time_to_read_is_waited_for() -> None:
    much = b"x" * 1_000_000
    assert asyncio.run(said(WITH_A_BODY % len(much), much)).startswith(b"HTTP/1.1 204")


def test_a_link_outlasts_its_first_words() -> None:
    assert asyncio.run(said(LINK)).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 200_000, b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 200_000])
def test_a_request_without_an_end_is_not_kept(head: bytes) -> None:
    assert asyncio.run(said(head)).startswith(b"HTTP/1.1 431")


def test_the_longest_cursor_fits_into_a_request() -> None:
    cursor = b"1" * MAX_CURSOR_BYTES
    assert asyncio.run(said(b"GET /?cursor=" + cursor + b" HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 204")


def test_what_is_no_request_is_a_problem_like_any_other() -> None:
    async def story() -> bytes:
        return await said(b"\x16\x03\x01\r\n\r\n")

    assert asyncio.run(story()).startswith(b"HTTP/1.1 400")

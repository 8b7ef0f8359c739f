"""An agent's connections: what is answered in the master's stead does not end the agent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from tests.agent.peer import DEADLINE_S
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers

from quorate.agent.link import CONTROL_PATH, Endpoint, Link, Refused, keep, pause_asked

Answer = tuple[HTTPStatus, dict[str, str], bytes]
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
#: DATE as UTC seconds.
WALL = 1_445_412_480.0


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[Endpoint]:
    """Gives these answers to whoever dials, and lets the next one in."""
    left = list(answers)

    def answer(_: ServerConnection, __: Request) -> Response | None:
        if not left:
            return None
        status, headers, body = left.pop(0)
        return Response(status.value, status.phrase, Headers({"Content-Length": str(len(body)), **headers}), body)

    async def hold(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(hold, "127.0.0.1", 0, process_request=answer) as server:
        port = server.sockets[0].getsockname()[1]
        yield Endpoint(f"http://127.0.0.1:{port}", "qa1.x", None)


async def let_in(endpoint: Endpoint) -> None:
    """Returns once a connection is open; raises what ends the attempts."""
    opened = asyncio.Event()

    async def use(link: Link) -> None:
        opened.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(keep(endpoint, CONTROL_PATH, use))
    waiting = asyncio.create_task(opened.wait())
    try:
        async with asyncio.timeout(DEADLINE_S):
            done, _ = await asyncio.wait((keeping, waiting), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        keeping.cancel()
        waiting.cancel()


def told(*answers: Answer) -> None:
    async def story() -> None:
        async with answering(*answers) as endpoint:
            await let_in(endpoint)

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        (HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": DATE}, b""),
        (HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "soon"}, b"<html>"),
        (HTTPStatus.FORBIDDEN, {"Content-Type": "text/html"}, b"<html>this site is blocked</html>"),
        (HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Basic"}, b"log in to the proxy first"),
        (HTTPStatus.FOUND, {"Location": "http://portal.example/login"}, b""),
    ],
    ids=["a date", "a word", "a blocked site", "a proxy's login", "a portal"],
)
def test_what_a_proxy_answers_in_the_masters_stead_is_not_the_end(answer: Answer) -> None:
    told(answer)


def test_the_masters_own_word_is_the_end() -> None:
    problem = b'{"code": "AGENT-KEY", "detail": "this key is not known"}'
    with pytest.raises(Refused, match="this key is not known"):
        told((HTTPStatus.UNAUTHORIZED, {"Content-Type": "application/problem+json"}, problem))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e9", 0.0),
        ("86400", 60.0),
        ("9" * 400, 0.0),
        ("9" * 5000, 0.0),
        (DATE, 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2099 07:28:30 GMT", 60.0),
        ("Wed, 99 Oct 2015 07:28:30 GMT", 0.0),
    ],
)
def test_a_pause_that_is_asked_for_is_a_number_or_a_date_and_never_long(header: str | None, seconds: float) -> None:
    assert pause_asked(header, WALL) == pytest.approx(seconds)

"""The agent's connections to its master: dialled, kept, dialled again after a pause that grows and is jittered."""

import asyncio
import json
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from quorate.model.messages import (
    MAX_MESSAGE_BYTES,
    AgentMessage,
    MasterMessage,
    MessageError,
    decode_from_master,
    encode,
)

log = logging.getLogger(__name__)

CONTROL_PATH = "/agent/v1/control"
LOGS_PATH = "/agent/v1/logs"
_OPEN_S = 10.0
#: The first pause after a failure, and the longest; each is drawn between half of it and all of it.
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
#: Nobody may send an agent away for longer: its members' leases are a few minutes.
_LONGEST_ASKED_S = 60.0
#: A connection that lived this long was a good one: the pauses begin anew.
_GOOD_S = 5.0


class Refused(Exception):
    """The master answered, and will not have this agent: a key that it does not know. `sentence` is for people."""


class Endpoint:
    """Where the master is and how it is trusted."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | None) -> None:
        """`url`: http(s)://host:port. `key`: the agent's own."""
        self.url = url
        self.tls = tls
        self._key = key

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def websocket(self, path: str) -> str:
        return f"ws{self.url.removeprefix('http')}{path}"


class Pauses:
    """How long to wait before dialling again: doubled each time, jittered, as long as the master asks for at least."""

    def __init__(self) -> None:
        self._next = _PAUSE_S

    def good(self) -> None:
        self._next = _PAUSE_S

    def draw(self, at_least: float = 0.0) -> float:
        pause, self._next = self._next, min(2 * self._next, _LONGEST_PAUSE_S)
        # All agents lose their master in the same moment, and must not come back in one.
        return max(at_least, pause) * random.uniform(0.5, 1.0) + at_least / 2  # noqa: S311 (no secret)


class Link:
    """One open connection, speaking messages."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: AgentMessage) -> None:
        """Raises ConnectionClosed once the connection is gone."""
        await self._connection.send(encode(message))

    async def close(self) -> None:
        await self._connection.close()

    async def __aiter__(self) -> AsyncIterator[MasterMessage]:
        """Messages until the end of the connection; one that is none ends it."""
        with suppress(ConnectionClosed):
            async for data in self._connection:
                try:
                    yield decode_from_master(data if isinstance(data, bytes) else data.encode())
                except MessageError as error:
                    log.warning("the master sent what cannot be understood: %s", error)
                    return


async def keep(
    endpoint: Endpoint,
    path: str,
    use: Callable[[Link], Awaitable[None]],
    ready: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Dials `path` for ever, each time once `ready` has returned, and hands each connection to `use`.

    Raises Refused where no further try can help.
    """
    pauses = Pauses()
    loop = asyncio.get_running_loop()
    quiet = False
    while True:
        if ready is not None:
            await ready()
        at_least = 0.0
        began = loop.time()
        try:
            async with connect(
                endpoint.websocket(path),
                ssl=endpoint.tls,
                additional_headers=endpoint.headers,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=_OPEN_S,
                close_timeout=1,
                ping_interval=None,
                proxy=None,
            ) as connection:
                quiet = False
                await use(Link(connection))
        except InvalidStatus as error:
            status = error.response.status_code
            at_least = pause_asked(error.response.headers.get("Retry-After"), time.time())
            sentence = _masters_sentence(error)
            if status in (401, 403) and sentence:
                raise Refused(f"{endpoint.url} does not let this agent in: {sentence}") from error
            if not quiet:
                log.warning("%s answered %d; trying again", endpoint.url, status)
        except (OSError, TimeoutError, WebSocketException) as error:
            # Also where a proxy sends the agent to a page of its own: the master may be there the next time.
            if not quiet:
                log.warning("no connection to %s: %s; trying again", endpoint.url, error or type(error).__name__)
            quiet = True
        if loop.time() - began > _GOOD_S:
            pauses.good()
        await asyncio.sleep(pauses.draw(at_least))


def pause_asked(retry_after: str | None, wall: float) -> float:
    """Seconds that a Retry-After asks for: the master names a number, a proxy perhaps a date (RFC 9110, 10.2.3).

    0 for what is neither. `wall`: UTC seconds now.
    """
    text = (retry_after or "").strip()
    try:
        asked = float(int(text)) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - wall
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, asked), _LONGEST_ASKED_S)


def _masters_sentence(refusal: InvalidStatus) -> str:
    """What the master says of its refusal; empty where somebody in between has answered, who knows no agents."""
    try:
        problem = json.loads(refusal.response.body or b"")
        return str(problem["detail"]) if problem["code"] else ""
    except (ValueError, TypeError, KeyError):
        return ""

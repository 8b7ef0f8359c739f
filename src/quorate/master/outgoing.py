"""What goes out on an agent's link: a bounded queue, and the end of a link in order."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final

from quorate.model.messages import MAX_MESSAGE_BYTES, MasterMessage, encode

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Bytes that may wait for one agent; a slower one is dropped and starts over with a hello.
MAX_QUEUED_BYTES: Final = 4 * MAX_MESSAGE_BYTES
#: A peer that does not take the reason why its link ends has so long.
LAST_WORDS_S: Final = 5.0
#: WebSocket close codes (RFC 6455 and the registry of IANA).
GOING_AWAY, POLICY, TRY_LATER = 1001, 1008, 1013


class Outgoing:
    """What waits to be sent on one link. Bounded: beyond MAX_QUEUED_BYTES the link is given up."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self.closing = False
        self.close_code = 1000

    def put(self, message: MasterMessage) -> None:
        """Queues a message; on a link that is closing it is swallowed."""
        if self.closing:
            return
        data = encode(message)
        self._bytes += len(data)
        self._waiting.append(data)
        self._wake.set()
        if self._bytes > MAX_QUEUED_BYTES:
            self._waiting.clear()
            self.close(TRY_LATER)

    def close(self, code: int) -> None:
        """Lets what is queued go out, then ends the link."""
        self.closing = True
        self.close_code = code
        self._wake.set()

    async def pump(self, send: Send) -> None:
        """Sends until closed."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                await send({"type": "websocket.send", "bytes": data})
                self._bytes -= len(data)
            if self.closing:
                await send({"type": "websocket.close", "code": self.close_code})
                return
            self._wake.clear()
            await self._wake.wait()


async def run_until_either_ends(out: Outgoing, send: Send, read: Coroutine[Any, Any, None]) -> None:
    """Reads and sends until the peer is gone, or until `out` was closed and all that waited in it has gone out."""
    pumping = asyncio.create_task(out.pump(send))
    reading = asyncio.create_task(read)
    try:
        await asyncio.wait((pumping, reading), return_when=asyncio.FIRST_COMPLETED)
        if out.closing and not pumping.done():
            await asyncio.wait((pumping,), timeout=LAST_WORDS_S)
    finally:
        pumping.cancel()
        reading.cancel()
        for outcome in await asyncio.gather(pumping, reading, return_exceptions=True):
            # OSError is how a server says that the peer has gone.
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                log.error("a link ended with %s: %s", type(outcome).__name__, outcome)

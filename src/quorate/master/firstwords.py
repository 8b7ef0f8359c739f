"""Connections on which nothing is asked are closed: nobody needs a token to open them, and could take them all."""

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from quorate.master.strangers import Stranger
from quorate.model.problem import MEDIA_TYPE, Problem

#: From the first byte of a request, or the connection's beginning, to its end; what has a longer body has as long again
#: for each WORDS_BYTES of it. Far more than a busy master needs to read what has come long ago.
FIRST_WORDS_S: Final = 60.0
#: All that may come without a token (api/limits.py) fits.
WORDS_BYTES: Final = 64 * 1024


#: A request's first line and headers: the longest cursor of logs (model/logcursor.py) twice.
MOST_HEAD_BYTES: Final = 128 * 1024
#: In the scope of a request: to be called once its sender has proved who it is.
KNOWN: Final = "quorate.known"


def is_known(scope: MutableMapping[str, Any]) -> None:
    """Who has sent this request is no stranger, nor is the connection on which it came."""
    known = scope.get(KNOWN)
    if known is not None:
        known()


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a request that does not come or does not end."""

    _deadline: asyncio.TimerHandle | None = None
    #: This connection's place among those of unknown peers; none where nobody counts them.
    stranger: Stranger | None = None
    #: How long this one waits, in seconds.
    patience_s = FIRST_WORDS_S
    #: Bytes of the body since the deadline was set.
    _heard = 0
    #: Bytes that came for a head that is not complete; None where none is expected.
    _head: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected and has said nothing yet."""
        super().connection_made(transport)
        if self.stranger is not None:
            self.stranger.hang_up = transport.abort
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nobody to wait for."""
        self._forget()
        self._not_strange()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The parser keeps a head until it is complete, however long."""
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._answer(431, "HEAD-TOO-LARGE", f"the request's headers are larger than {MOST_HEAD_BYTES >> 10} KiB")

    def on_headers_complete(self) -> None:
        """What comes next is a body."""
        self._head = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What has come is no HTTP: told as every other problem is."""
        self._answer(400, "NO-REQUEST", f"this is no HTTP request: {msg}")

    def _answer(self, status: int, code: str, detail: str) -> None:
        problem = Problem(title=detail, status=status, code=code, detail=detail)
        body = problem.model_dump_json().encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self.scope[KNOWN] = self._not_strange  # type: ignore[typeddict-unknown-key]
        self._expect()

    def on_body(self, body: bytes) -> None:
        """Part of a body has come."""
        super().on_body(body)
        self._heard += len(body)
        if self._heard >= WORDS_BYTES:
            self._expect()

    def on_message_complete(self) -> None:
        """All has been said; the answer may take as long as it likes, and a link has limits of its own."""
        self._forget()
        self._head = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """A link is asked for: whoever may not have it hears so at once, and the connection ends."""
        self._not_strange()
        super().handle_websocket_upgrade()

    def _not_strange(self) -> None:
        if self.stranger is not None:
            self.stranger.leave()

    def _expect(self) -> None:
        self._forget()
        self._heard = 0
        self._deadline = self.loop.call_later(self.patience_s, self._hang_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        transport: Any = self.transport
        if self.flow.read_paused:
            # It is the master that does not read.
            self._expect()
        elif transport is not None and not transport.is_closing():
            transport.abort()

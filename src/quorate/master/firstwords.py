"""Connections on which nothing is asked are closed: nobody needs a token to open them, and could take them all."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: From the first byte of a request, or the connection's beginning, to its end; what has a longer body has as long again
#: for each WORDS_BYTES of it. Far more than a busy master needs to read what has come long ago.
FIRST_WORDS_S: Final = 60.0
#: All that may come without a token (api/limits.py) fits.
WORDS_BYTES: Final = 64 * 1024


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a request that does not come or does not end."""

    _deadline: asyncio.TimerHandle | None = None
    #: How long this one waits, in seconds.
    patience_s = FIRST_WORDS_S
    #: Bytes of the body since the deadline was set.
    _heard = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected and has said nothing yet."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nobody to wait for."""
        self._forget()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
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
        super().on_message_complete()

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

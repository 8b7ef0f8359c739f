"""Connections on which nothing is asked are closed: nobody needs a token to open them, and could take them all."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: From the first byte of a request, or the connection's beginning, to the end of its headers. Far more than a busy
#: master needs to read what has come long ago.
FIRST_WORDS_S: Final = 60.0


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a request that does not come or does not end."""

    _deadline: asyncio.TimerHandle | None = None
    #: How long this one waits, in seconds.
    patience_s = FIRST_WORDS_S

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

    def on_headers_complete(self) -> None:
        """What is wanted is known; who may want it is checked next, and a link has limits of its own."""
        self._forget()
        super().on_headers_complete()

    def _expect(self) -> None:
        self._forget()
        self._deadline = self.loop.call_later(self.patience_s, self._hang_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            transport.abort()

"""Where connections come in: each is a stranger from its first packet on, also while TLS is not yet agreed upon."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.master.firstwords import Impatient
from quorate.master.strangers import Stranger, Strangers

log = logging.getLogger(__name__)

#: To agree upon TLS, and to say goodbye in it. A master to which thousands of agents return at once needs some seconds.
HANDSHAKE_S: Final = 30.0
GOODBYE_S: Final = 5.0
#: Connections that are taken before others of the loop have their turn.
_AT_ONCE: Final = 64
#: No file is left for another connection: those who have come are served, and then it is tried again.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S: Final = 0.5


class Door:
    """Takes connections on one listening socket until it is closed."""

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[], Impatient],
        context: ssl.SSLContext | None,
        strangers: Strangers,
        backlog: int,
    ) -> None:
        """`make` gives each connection its protocol. Takes connections from now on."""
        self._sock = sock
        self._make = make
        self._context = context
        self._strangers = strangers
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.listen(backlog)
        self._loop.add_reader(sock.fileno(), self._take_some)

    def close(self) -> None:
        """Takes no more; what has come in stays. The socket is its owner's to close."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock.fileno())
            for task in self._opening:
                task.cancel()

    async def wait_closed(self) -> None:
        """Returns once nobody is half in; as of any server, of which uvicorn asks it."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _take_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, (address, *_) = self._sock.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.error("no more connections can be taken for a moment: %s", error.strerror)
                    self._loop.remove_reader(self._sock.fileno())
                    self._loop.call_later(_PAUSE_S, self._resume)
                return  # Nobody waits any more, or who did has gone.
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stranger = self._strangers.come(address)
            opening = self._loop.create_task(self._open(connection, stranger))
            stranger.hang_up = opening.cancel
            self._opening.add(opening)
            opening.add_done_callback(partial(self._opened, connection, stranger))

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._take_some)

    async def _open(self, connection: socket.socket, stranger: Stranger) -> None:
        def protocol() -> Impatient:
            made = self._make()
            made.stranger = stranger
            return made

        times = {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S} if self._context else {}
        await self._loop.connect_accepted_socket(protocol, connection, ssl=self._context, **times)

    def _opened(self, connection: socket.socket, stranger: Stranger, opening: "asyncio.Task[None]") -> None:
        self._opening.discard(opening)
        error = None if opening.cancelled() else opening.exception()
        if opening.cancelled() or error is not None:
            # It was sent away, no TLS was agreed upon, or the peer has gone.
            stranger.leave()
            connection.close()
        if error is not None and not isinstance(error, OSError):
            log.error("a connection could not be taken", exc_info=error)

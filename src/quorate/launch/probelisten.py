"""The answering side of the prober: listens at several places with a nonce, in a reactor or in a thread of its own."""

from __future__ import annotations

import errno
import json
import random
import socket
import threading
from typing import Dict, Iterable, Set, Union

from quorate.launch import probesockets, probewords
from quorate.launch.lines import Lines, Object, encoded
from quorate.launch.probevalues import Place, Span
from quorate.launch.reactor import READ, Reactor

#: Connections that a listener answers at once, and how long each may take.
_GUESTS = 1024
_GUEST_S = 5.0
#: How often a free port of a range is looked for.
_TRIES = 20
#: As many guests as are let in before other sockets have their turn.
_AT_ONCE = 64


class Answering:
    """Answers probes at several places until closed.

    `at` says where it listens, for each place or span that was asked for; `failed` says where it cannot, and why.
    """

    def __init__(self, reactor: Reactor, nonce: bytes, who: str, wanted: Iterable[Union[Place, Span]]) -> None:
        self._reactor = reactor
        self._nonce = nonce
        self._who = who
        self._sockets: Dict[Place, socket.socket] = {}
        self._guests: Set[_Guest] = set()
        self.at: Dict[Union[Place, Span], Place] = {}
        self.failed: Dict[Union[Place, Span], str] = {}
        for each in wanted:
            why = self._listen(each, each) if isinstance(each, Place) else self._listen_within(each)
            if why:
                self.failed[each] = why

    def _listen_within(self, span: Span) -> str:
        """Why it does not; empty where it does."""
        why = ""
        for _ in range(_TRIES):
            # Privileged ports are nobody's who asks for any.
            port = random.randint(max(span.first, min(1024, span.last)), span.last)
            why = self._listen(Place(span.address, port, span.transport), span)
            if not why:
                break
        return why

    def _listen(self, place: Place, wanted: Union[Place, Span]) -> str:
        """Why it does not; empty where it does."""
        try:
            sock = _listener(place)
        except OSError as error:
            return _why_not(error)
        self.at[wanted] = place
        self._sockets[place] = sock
        handle = self._datagram if place.transport == "udp" else self._accept
        self._reactor.watch(sock, READ, lambda _: handle(sock, place))
        return ""

    def close(self) -> None:
        """The ports are free at once."""
        for sock in self._sockets.values():
            self._reactor.watch(sock, 0, lambda _: None)
            sock.close()
        self._sockets.clear()
        for guest in list(self._guests):
            guest.dismiss()

    def _accept(self, listener: socket.socket, place: Place) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _address = listener.accept()
            except OSError:
                return
            probesockets.vanish_when_closed(sock)
            if len(self._guests) >= _GUESTS:
                sock.close()
            else:
                self._guests.add(_Guest(self, sock, place))

    def _datagram(self, sock: socket.socket, place: Place) -> None:
        try:
            message, sender = sock.recvfrom(65536)
            asked = json.loads(message.split(b"\n")[0])
            for reply in probewords.replies(asked, self._nonce, self._who, place.transport, place.port):
                answer = encoded(reply)
                if len(message) >= len(answer):
                    # As large as the question: the way back is tried for the same size.
                    sock.sendto(answer.ljust(len(message), b"\0"), sender)
        except (OSError, ValueError, AttributeError):
            pass


class _Guest:
    """One connection; the prober ends it."""

    def __init__(self, host: Answering, sock: socket.socket, place: Place) -> None:
        self._host = host
        self._place = place
        self._lines = Lines(host._reactor, sock, self._asked, lambda _: self._gone(), max_line=probewords.MAX_LINE)
        self._timer = host._reactor.after(_GUEST_S, self.dismiss)

    def dismiss(self) -> None:
        self._lines.close()
        self._gone()

    def _gone(self) -> None:
        self._timer.cancel()
        self._host._guests.discard(self)

    def _asked(self, message: Object) -> None:
        host, place = self._host, self._place
        replies = probewords.replies(message, host._nonce, host._who, place.transport, place.port)
        for reply in replies:
            self._lines.send(reply)
        if not replies:
            self.dismiss()


class Listeners:
    """The same in a thread, until closed."""

    def __init__(self, nonce: bytes, who: str, wanted: Iterable[Union[Place, Span]]) -> None:
        self._reactor = Reactor()
        self._answering = Answering(self._reactor, nonce, who, wanted)
        self.at, self.failed = self._answering.at, self._answering.failed
        here, self._stop = socket.socketpair()
        self._here = here
        self._reactor.watch(here, READ, lambda _: self._reactor.stop())
        self._thread = threading.Thread(target=self._reactor.run, name="probe-listeners", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Returns when the ports are free again."""
        self._stop.close()
        self._thread.join()
        self._answering.close()
        self._here.close()
        self._reactor.close()


def _listener(place: Place) -> socket.socket:
    kind = socket.SOCK_DGRAM if place.transport == "udp" else socket.SOCK_STREAM
    sock = socket.socket(probesockets.family(place.address), kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(probesockets.endpoint(place.address, place.port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock


def _why_not(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "taken: another process listens there"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address is none of this machine"
    return (error.strerror or str(error)).lower()

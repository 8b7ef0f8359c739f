"""One attempt of the prober under way: a connection, with full-size packets where they are asked for, or a datagram."""

from __future__ import annotations

import abc
import errno
import json
import os
import socket
from typing import Any, Callable, Dict, List

from quorate.launch import probesockets, probewords
from quorate.launch.lines import encoded
from quorate.launch.probevalues import Outcome, Probe, Target
from quorate.launch.reactor import READ, WRITE, Reactor, Timer

#: When a datagram is sent (again), in seconds from the start: one lost packet is no firewall.
_DATAGRAMS_AT = (0.0, 0.2, 0.6, 1.4, 2.6)
#: How long a router may take to say why it refuses.
_ICMP_S = 0.3
#: Bytes of a datagram without padding: more than any answer, so that a forged source gains nothing.
_DATAGRAM = 256
#: What somebody may say in one line before we know who it is.
_STRANGER_LINE = 1024
#: How long full-size packets may take there and back: a lost one is sent again after 0.2 s, 0.6 s and 1.4 s.
_ECHO_S = 1.5
#: Where they do not come back, smaller ones are tried one after the other, each for so long.
_STEP_S = 0.45
#: Sizes of packets at which paths end: the least of IPv4 and IPv6, tunnels, overlays, Ethernet, its large frames.
_STEPS = (576, 1280, 1350, 1400, 1420, 1440, 1450, 1460, 1480, 1492, 1500, 4000, 8000, 8900, 9000)
#: Headers of IPv4 and TCP with timestamps, which Linux always sends; IPv6's is 20 larger.
_HEADERS = 52


class Attempt(abc.ABC):
    """One target under way; subclasses are the transports."""

    KIND = socket.SOCK_STREAM

    def __init__(
        self, reactor: Reactor, target: Target, nonce: bytes, timeout_s: float, done: Callable[[Probe], None]
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._nonce = nonce
        self._timeout_s = timeout_s
        self._done: Callable[[Probe], None] | None = done
        self._challenge = probewords.challenge()
        self._socket: socket.socket | None = None
        self._round_trip_s: float | None = None
        self._began = reactor.now()
        self._timers: List[Timer] = []

    def start(self) -> None:
        self._after(self._timeout_s, self._too_late)
        self._again()

    def _again(self) -> None:
        try:
            self._begin(self._open(self.KIND))
        except OSError as error:
            self._failed(error.errno or 0)

    def abandon(self) -> None:
        """Ends it without a result."""
        self._done = None
        self._finish(Outcome.UNDETERMINED, "")

    @abc.abstractmethod
    def _begin(self, sock: socket.socket) -> None: ...

    @abc.abstractmethod
    def _too_late(self) -> None: ...

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._reactor.after(seconds, call))

    def _open(self, kind: int) -> socket.socket:
        self._close()
        address = self._target.place.address
        self._socket = sock = socket.socket(probesockets.family(address), kind)
        sock.setblocking(False)
        if self._target.source:
            probesockets.bind_for_connecting(sock, self._target.source)
        return sock

    def _close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.watch(sock, 0, lambda _: None)
            if sock.type == socket.SOCK_STREAM:
                probesockets.vanish_when_closed(sock)
            sock.close()

    def _finish(self, outcome: Outcome, evidence: str) -> None:
        self._close()
        for timer in self._timers:
            timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(Probe(self._target, outcome, evidence, self._round_trip_s))

    def _failed(self, code: int) -> None:
        text = os.strerror(code).lower()
        if code == errno.ECONNREFUSED:
            self._answered()
            self._finish(Outcome.REFUSED, "connection refused: nobody listens there, or a firewall rejects it")
        elif code in (errno.EPERM, errno.EACCES):
            self._finish(Outcome.FILTERED, f"{text}: a rule on this machine forbids it")
        elif code == errno.ETIMEDOUT:
            self._finish(Outcome.FILTERED, "no answer")
        elif code == errno.EMSGSIZE:
            self._finish(Outcome.FILTERED, "the packet is larger than the MTU of this machine's way there")
        elif code == errno.ENETUNREACH:
            self._ask_why("no route to that network")
        elif code in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
            self._ask_why("no route to that host: nobody there has this address, or a router says so")
        elif code == errno.EADDRNOTAVAIL and self._target.source:
            self._finish(Outcome.UNDETERMINED, f"{self._target.source} is no address of this machine")
        else:
            self._finish(Outcome.UNDETERMINED, text)

    def _answered(self) -> None:
        if self._round_trip_s is None:
            self._round_trip_s = self._reactor.now() - self._began

    def _is_right(self, message: Dict[str, Any]) -> bool:
        """Whether it answers who was meant; ends the attempt where something else does."""
        place, meant = self._target.place, self._target.who
        if not probewords.is_answer(message) or not probewords.is_proven(
            message, self._nonce, place.transport, place.port, self._challenge
        ):
            self._finish(Outcome.WRONG_HOST, "something answers there that is not part of this check")
        elif message["who"] != meant:
            self._finish(Outcome.WRONG_HOST, f"{message['who']} answers instead of {meant}")
        else:
            return True
        return False

    def _ask_why(self, unroutable: str) -> None:
        """A firewall may say so, too. TCP does not tell which ICMP message it heard; a datagram does."""
        if self._socket is not None and self._socket.type == socket.SOCK_DGRAM:
            self._conclude(self._socket, unroutable)
            return
        try:
            sock = self._open(socket.SOCK_DGRAM)
            probesockets.want_errors(sock)
            sock.connect(probesockets.endpoint(self._target.place.address, self._target.place.port))
            sock.send(b"\0")
        except OSError:
            self._finish(Outcome.UNROUTABLE, unroutable)
            return
        self._reactor.watch(sock, READ, lambda _: self._conclude(sock, unroutable))
        self._after(_ICMP_S, lambda: self._finish(Outcome.UNROUTABLE, unroutable))

    def _conclude(self, sock: socket.socket, unroutable: str) -> None:
        why = probesockets.prohibited(sock)
        self._finish(Outcome.FILTERED if why else Outcome.UNROUTABLE, why or unroutable)


class Connection(Attempt):
    """TCP."""

    _received = b""
    _connected = False
    #: The one who was meant has answered, on the present connection.
    _proven = False
    #: What is left to try of packets' sizes, the smallest first, and the largest that came back; None before.
    _steps: List[int] | None = None
    _largest = 0
    #: Counts what was sent and what came back, so that a look for an echo knows whether it is still awaited.
    _sent = 0
    #: Whether what is under way has arrived there, so that it is the way back on which it is lost.
    _arrived = False

    def _begin(self, sock: socket.socket) -> None:
        place = self._target.place
        self._received = b""
        self._proven = False
        code = sock.connect_ex(probesockets.endpoint(place.address, place.port))
        if code in (0, errno.EINPROGRESS):
            self._reactor.watch(sock, WRITE, lambda _: self._established(sock))
        else:
            self._failed(code)

    def _established(self, sock: socket.socket) -> None:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
            return
        self._answered()
        self._connected = True
        if self._target.quiet:
            self._finish(Outcome.OPEN, "somebody takes the connection")
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reactor.watch(sock, READ, lambda _: self._spoken(sock))
        self._say(sock, probewords.question(self._challenge))

    def _say(self, sock: socket.socket, message: Dict[str, Any]) -> None:
        try:
            sock.send(encoded(message))
        except OSError as error:
            self._broken(error)

    def _spoken(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(probewords.MAX_LINE)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(error)
            return
        self._received += data
        while b"\n" in self._received and self._socket is sock:
            line, _, self._received = self._received.partition(b"\n")
            self._told(sock, _object(line))
        if self._socket is not sock:
            return
        if len(self._received) > (probewords.MAX_LINE if self._proven else _STRANGER_LINE):
            self._is_right({})
        elif not data:
            self._finish(Outcome.WRONG_HOST, "something there closed the connection without a proof")

    def _told(self, sock: socket.socket, message: Dict[str, Any]) -> None:
        if self._proven:
            self._arrived = self._arrived or "received" in message
            if "pad" in message:
                self._echoed(sock)
        elif "quorate" in message and "who" not in message:
            pass  # the door of a companion speaks first
        elif self._is_right(message):
            self._proven = True
            if self._target.full:
                self._send_large(sock)
            else:
                self._open_found()

    def _open_found(self) -> None:
        self._finish(Outcome.OPEN, f"{self._target.who} answers")

    # --- packets as large as the path's MTU

    def _send_large(self, sock: socket.socket) -> None:
        self._arrived = False
        self._sent += 1
        number, first = self._sent, self._steps is None
        self._say(sock, probewords.pad(2 * _segment(sock) if not self._steps else self._steps[0] - self._headers))
        self._after(_ECHO_S if first else _STEP_S, lambda: self._look_for_echo(sock, number))

    def _echoed(self, sock: socket.socket) -> None:
        self._sent += 1
        if self._steps:
            self._largest = self._steps.pop(0)
        if self._steps:
            self._send_large(sock)
        else:
            self._open_found()

    def _look_for_echo(self, sock: socket.socket, number: int) -> None:
        """Whether it was lost, which the kernels know; a process at the other end that gets no time loses nothing."""
        if self._socket is not sock or self._sent != number:
            return
        if not self._arrived and not probesockets.unacknowledged(sock):
            self._after(_STEP_S, lambda: self._look_for_echo(sock, number))
        elif self._steps is not None:
            self._conclude_size()
        else:
            self._way = "on the way back" if self._arrived else "on the way there"
            self._full = _segment(sock) + self._headers
            self._steps = [*(size for size in _STEPS if size < self._full), self._full]
            # On a new connection: this one goes on sending what vanishes.
            self._again()

    def _conclude_size(self) -> None:
        passed = f"the largest that comes back has {self._largest}" if self._largest else "none of 576 comes back"
        self._finish(
            Outcome.MTU, f"packets of {self._full} bytes, the MTU, vanish {self._way} without a word; {passed}"
        )

    @property
    def _headers(self) -> int:
        return _HEADERS + (20 if ":" in self._target.place.address else 0)

    def _broken(self, error: OSError) -> None:
        text = (error.strerror or str(error)).lower()
        self._finish(Outcome.UNDETERMINED, f"accepted, then {text}: a proxy or firewall may be on the way")

    def _too_late(self) -> None:
        if self._steps is not None:
            self._conclude_size()
        elif self._connected:
            self._finish(Outcome.UNDETERMINED, f"accepted, then silent for {self._timeout_s:g} s")
        else:
            self._finish(Outcome.FILTERED, f"no answer within {self._timeout_s:g} s")


class Datagram(Attempt):
    """UDP, small or of the size of the path's MTU."""

    KIND = socket.SOCK_DGRAM

    def _begin(self, sock: socket.socket) -> None:
        place, size = self._target.place, self._target.packet_bytes
        probesockets.want_errors(sock)
        headers = 48 if ":" in place.address else 28
        if size:
            probesockets.forbid_fragments(sock)
        self._message = encoded(probewords.question(self._challenge)).ljust(max(_DATAGRAM, size - headers), b"\0")
        sock.connect(probesockets.endpoint(place.address, place.port))
        self._reactor.watch(sock, READ, lambda _: self._spoken(sock))
        for seconds in _DATAGRAMS_AT:
            if seconds < self._timeout_s:
                self._after(seconds, self._send)

    def _send(self) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(self._message)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error.errno or 0)

    def _spoken(self, sock: socket.socket) -> None:
        try:
            answer = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error.errno or 0)
            return
        self._answered()
        if self._is_right(_object(answer.split(b"\n")[0])):
            self._finish(Outcome.OPEN, f"{self._target.who} answers")

    def _too_late(self) -> None:
        self._finish(Outcome.FILTERED, f"no answer within {self._timeout_s:g} s, though asked repeatedly")


def _segment(sock: socket.socket) -> int:
    """Bytes of payload in the connection's full-size packets."""
    if not hasattr(socket, "TCP_MAXSEG"):
        return 1448
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def _object(line: bytes) -> Dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}

"""The one prober: tries a flow and says whether it is open, refused, filtered, unroutable, or ends at the wrong host.

Both ends take part: a listener that holds a nonce answers challenges, so that "open" means that the host that was meant
answered, and "refused" is never merely "nobody listened". It stands alone in this file: whole, it is sent to a machine
that has nothing but Python 3.8, and there it is told what to do over its standard input (`main`).

What an outcome rests on (Linux; verified with namespaces and nft):
    answer in time with the right proof           open
    ECONNREFUSED                                  refused: nobody listens, or a firewall says so (`reject`)
    silence                                       filtered: a firewall drops, on the way there or back
    EPERM, EACCES                                 filtered: a rule on this machine
    E…UNREACH and ICMP 3/9, 3/10 or 3/13          filtered: a firewall that says so (firewalld's default)
    ENETUNREACH, EHOSTUNREACH otherwise           unroutable: no route here, no host there, or a router says so
    an answer with another proof, or none         wrong host
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import functools
import heapq
import hmac
import itertools
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

VERSION = 1
#: Longer than the kernel needs to find that no host has an address (three ARP requests, 3 s), and for two more SYNs.
TIMEOUT_S = 3.5
#: When a datagram is sent (again), in seconds from the start: one lost packet is no firewall.
_DATAGRAMS_AT = (0.0, 0.2, 0.6, 1.4, 2.6)
#: How long a router may take to say why it refuses.
_ICMP_S = 0.3
#: Attempts under way at once; each is a socket.
PARALLEL = 256
#: Connections that a listener answers at once, and how long each may take.
_GUESTS = 1024
_GUEST_S = 5.0
_LINE = 512
#: Bytes of a datagram without padding: more than any answer, so that a forged source gains nothing.
_DATAGRAM = 256


class Outcome(enum.Enum):
    """What was found."""

    OPEN = "open"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNROUTABLE = "unroutable"
    WRONG_HOST = "wrong host"
    UNDETERMINED = "undetermined"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where something listens. The address is numeric."""

    address: str
    port: int
    transport: str = "tcp"


@dataclasses.dataclass(frozen=True)
class Target:
    """A flow to be tried."""

    place: Place
    #: Who must answer: the name that the listener was given.
    who: str
    #: The own address from which to try; empty for the kernel's choice.
    source: str = ""
    #: Of a datagram: bytes of its IP packet, which must not be fragmented. 0 for a small one.
    packet_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Probe:
    """One measured attempt."""

    target: Target
    outcome: Outcome
    #: What was seen, for people.
    evidence: str
    #: Seconds to the first answer of any kind; None without one.
    round_trip_s: float | None = None

    def to_object(self) -> Dict[str, Any]:
        return {**dataclasses.asdict(self), "outcome": self.outcome.value}


def probe(
    targets: Sequence[Target], nonce: bytes, *, timeout_s: float = TIMEOUT_S, parallel: int = PARALLEL
) -> List[Probe]:
    """Tries all targets at once (up to `parallel`), and returns their results in the same order. Raises nothing."""
    results: Dict[int, Probe] = {}
    waiting = list(enumerate(targets))[::-1]
    with _Run() as run:
        while len(results) < len(targets):
            while waiting and len(targets) - len(waiting) - len(results) < parallel:
                position, target = waiting.pop()
                kind = _Datagram if target.place.transport == "udp" else _Connection
                kind(run, target, nonce, timeout_s, functools.partial(results.__setitem__, position)).start()
            if len(results) < len(targets):
                run.step()
    return [results[position] for position in range(len(targets))]


# --- the asking side


class _Run:
    """The selector and the moments of one run."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._moments: List[Tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def watch(self, sock: socket.socket, events: int, ready: Callable[[], None]) -> None:
        if sock.fileno() in self._selector.get_map():
            self._selector.modify(sock, events, ready)
        else:
            self._selector.register(sock, events, ready)

    def forget(self, sock: socket.socket) -> None:
        if sock.fileno() in self._selector.get_map():
            self._selector.unregister(sock)
        sock.close()

    def at(self, moment: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._moments, (moment, next(self._order), call))

    def step(self) -> None:
        pause = max(0.0, self._moments[0][0] - time.monotonic()) if self._moments else None
        for key, _ in self._selector.select(pause):
            key.data()
        while self._moments and self._moments[0][0] <= time.monotonic():
            heapq.heappop(self._moments)[2]()


class _Attempt:
    """One target under way; subclasses are the transports."""

    KIND = socket.SOCK_STREAM

    def __init__(
        self, run: _Run, target: Target, nonce: bytes, timeout_s: float, done: Callable[[Probe], None]
    ) -> None:
        self._run = run
        self._target = target
        self._nonce = nonce
        self._timeout_s = timeout_s
        self._done: Callable[[Probe], None] | None = done
        self._challenge = os.urandom(16).hex()
        self._socket: socket.socket | None = None
        self._round_trip_s: float | None = None
        self._began = time.monotonic()

    def start(self) -> None:
        try:
            self._open(self.KIND)
            self._begin()
        except OSError as error:
            self._failed(error.errno or 0)
        self._run.at(self._began + self._timeout_s, self._too_late)

    def _begin(self) -> None:
        raise NotImplementedError

    def _too_late(self) -> None:
        raise NotImplementedError

    def _open(self, kind: int) -> socket.socket:
        address = self._target.place.address
        self._socket = sock = socket.socket(_family(address), kind)
        sock.setblocking(False)
        if self._target.source:
            sock.bind(_endpoint(self._target.source, 0))
        return sock

    def _finish(self, outcome: Outcome, evidence: str) -> None:
        if self._socket is not None:
            self._run.forget(self._socket)
            self._socket = None
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
            self._round_trip_s = time.monotonic() - self._began

    def _judge(self, answer: bytes) -> None:
        self._finish(*_judged(answer, self._nonce, self._target, self._challenge))

    def _ask_why(self, unroutable: str) -> None:
        """A firewall may say so, too. TCP does not tell which ICMP message it heard; a datagram does."""
        if self._socket is not None:
            found = _icmp(self._socket)
            if found is not None or self._socket.type == socket.SOCK_DGRAM:
                self._finish(*(found or (Outcome.UNROUTABLE, unroutable)))
                return
            self._run.forget(self._socket)
        try:
            sock = self._open(socket.SOCK_DGRAM)
            _want_errors(sock)
            sock.connect(_endpoint(self._target.place.address, self._target.place.port))
            sock.send(b"\0")
        except OSError:
            self._finish(Outcome.UNROUTABLE, unroutable)
            return
        self._run.watch(
            sock, selectors.EVENT_READ, lambda: self._finish(*(_icmp(sock) or (Outcome.UNROUTABLE, unroutable)))
        )
        self._run.at(time.monotonic() + _ICMP_S, lambda: self._finish(Outcome.UNROUTABLE, unroutable))


class _Connection(_Attempt):
    """TCP."""

    def _begin(self) -> None:
        sock, place = self._socket, self._target.place
        assert sock is not None
        self._received = b""
        self._connected = False
        code = sock.connect_ex(_endpoint(place.address, place.port))
        if code in (0, errno.EINPROGRESS):
            self._run.watch(sock, selectors.EVENT_WRITE, self._established)
        else:
            self._failed(code)

    def _established(self) -> None:
        sock = self._socket
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
            return
        self._answered()
        self._connected = True
        try:
            sock.send(_question(self._challenge))
        except OSError as error:
            self._broken(error)
            return
        self._run.watch(sock, selectors.EVENT_READ, self._spoken)

    def _spoken(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_LINE)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(error)
            return
        self._received += data
        if b"\n" in self._received or len(self._received) > _LINE:
            self._judge(self._received)
        elif not data:
            self._finish(Outcome.WRONG_HOST, "something there closed the connection without a proof")

    def _broken(self, error: OSError) -> None:
        text = (error.strerror or str(error)).lower()
        self._finish(Outcome.UNDETERMINED, f"accepted, then {text}: a proxy or firewall may be on the way")

    def _too_late(self) -> None:
        if self._done is None:
            return
        if self._connected:
            self._finish(Outcome.UNDETERMINED, f"accepted, then silent for {self._timeout_s:g} s")
        else:
            self._finish(Outcome.FILTERED, f"no answer within {self._timeout_s:g} s")


class _Datagram(_Attempt):
    """UDP, small or of the size of the path's MTU."""

    KIND = socket.SOCK_DGRAM

    def _begin(self) -> None:
        sock, place, size = self._socket, self._target.place, self._target.packet_bytes
        assert sock is not None
        _want_errors(sock)
        headers = 48 if ":" in place.address else 28
        if size:
            _forbid_fragments(sock)
        self._message = _question(self._challenge).ljust(max(_DATAGRAM, size - headers), b"\0")
        sock.connect(_endpoint(place.address, place.port))
        self._run.watch(sock, selectors.EVENT_READ, self._spoken)
        for seconds in _DATAGRAMS_AT:
            if seconds < self._timeout_s:
                self._run.at(self._began + seconds, self._send)

    def _send(self) -> None:
        if self._done is None or self._socket is None:
            return
        try:
            self._socket.send(self._message)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error.errno or 0)

    def _spoken(self) -> None:
        assert self._socket is not None
        try:
            answer = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error.errno or 0)
            return
        self._answered()
        self._judge(answer)

    def _too_late(self) -> None:
        if self._done is not None:
            self._finish(Outcome.FILTERED, f"no answer within {self._timeout_s:g} s, though asked repeatedly")


# --- the answering side


class Listeners:
    """Answers probes at several places from a thread, until closed. `failed` says where it cannot, and why."""

    def __init__(self, nonce: bytes, who: str, places: Iterable[Place]) -> None:
        self._nonce = nonce
        self._who = who
        self._selector = selectors.DefaultSelector()
        self._guests: Dict[socket.socket, float] = {}
        self.failed: Dict[Place, str] = {}
        for place in places:
            try:
                self._listen(place)
            except OSError as error:
                self.failed[place] = _why_not(error)
        here, self._stop = socket.socketpair()
        self._selector.register(here, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, name="probe-listeners", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Returns when the ports are free again."""
        self._stop.close()
        self._thread.join()

    def _listen(self, place: Place) -> None:
        kind = socket.SOCK_DGRAM if place.transport == "udp" else socket.SOCK_STREAM
        sock = socket.socket(_family(place.address), kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(_endpoint(place.address, place.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
        except OSError:
            sock.close()
            raise
        handle = self._datagram if kind == socket.SOCK_DGRAM else self._accept
        self._selector.register(sock, selectors.EVENT_READ, lambda: handle(sock, place))

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select(1.0 if self._guests else None):
                if key.data is None:
                    for other in list(self._selector.get_map().values()):
                        other.fileobj.close()  # type: ignore[union-attr]
                    self._selector.close()
                    return
                key.data()
            for guest, until in list(self._guests.items()):
                if until < time.monotonic():
                    self._dismiss(guest)

    def _accept(self, listener: socket.socket, place: Place) -> None:
        try:
            guest, _ = listener.accept()
        except OSError:
            return
        if len(self._guests) >= _GUESTS:
            guest.close()
            return
        guest.setblocking(False)
        self._guests[guest] = time.monotonic() + _GUEST_S
        self._selector.register(guest, selectors.EVENT_READ, lambda: self._asked(guest, place))

    def _asked(self, guest: socket.socket, place: Place) -> None:
        # One segment holds the question; whoever sends it in pieces is no prober.
        try:
            answer = self._answer(guest.recv(_LINE), place)
            if answer is not None:
                guest.send(answer)
        except OSError:
            pass
        self._dismiss(guest)

    def _datagram(self, sock: socket.socket, place: Place) -> None:
        try:
            message, sender = sock.recvfrom(65536)
            answer = self._answer(message, place)
            if answer is not None and len(message) >= len(answer):
                # As large as the question: the way back is tried for the same size.
                sock.sendto(answer.ljust(len(message), b"\0"), sender)
        except OSError:
            pass

    def _answer(self, message: bytes, place: Place) -> bytes | None:
        words = message.split(b"\n")[0].split()
        if len(words) != 3 or words[:2] != [b"QUORATE-PROBE", b"%d" % VERSION] or len(words[2]) != 32:
            return None
        try:
            challenge = words[2].decode("ascii")
        except UnicodeDecodeError:
            return None
        proof = _proof(self._nonce, self._who, place.transport, place.port, challenge)
        return f"{self._who} {proof}\n".encode()

    def _dismiss(self, guest: socket.socket) -> None:
        if self._guests.pop(guest, None) is not None:
            self._selector.unregister(guest)
            guest.close()


# --- both sides


def _question(challenge: str) -> bytes:
    return f"QUORATE-PROBE {VERSION} {challenge}\n".encode()


def _proof(nonce: bytes, who: str, transport: str, port: int, challenge: str) -> str:
    text = f"quorate probe {VERSION} {who} {transport} {port} {challenge}"
    return hmac.digest(nonce, text.encode(), "sha256").hex()


def _judged(answer: bytes, nonce: bytes, target: Target, challenge: str) -> Tuple[Outcome, str]:
    words = answer.split(b"\n")[0].split()
    place = target.place
    if len(words) == 2:
        who = words[0].decode("utf-8", "replace")
        right = _proof(nonce, who, place.transport, place.port, challenge)
        if hmac.compare_digest(right.encode(), words[1]):
            if who == target.who:
                return Outcome.OPEN, f"{who} answers"
            return Outcome.WRONG_HOST, f"{who} answers instead of {target.who}"
    return Outcome.WRONG_HOST, "something answers there that is not part of this check"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _endpoint(address: str, port: int) -> Any:
    # Numeric only: a prober that waits for DNS measures DNS.
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)[0][4]


def _why_not(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "taken: another process listens there"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address is none of this machine"
    return (error.strerror or str(error)).lower()


# Linux, not exported by Python 3.8: include/uapi/linux/in.h, in6.h, errqueue.h
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_MSG_ERRQUEUE = 0x2000
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
#: ICMP destination unreachable: network, host or communication administratively prohibited (RFC 1812, RFC 4443).
_PROHIBITED = {(_ORIGIN_ICMP, 3, 9), (_ORIGIN_ICMP, 3, 10), (_ORIGIN_ICMP, 3, 13), (_ORIGIN_ICMP6, 1, 1)}


def _want_errors(sock: socket.socket) -> None:
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _forbid_fragments(sock: socket.socket) -> None:
    """Don't-fragment, and no belief in what ICMP said earlier about the path: each size is really tried."""
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def _icmp(sock: socket.socket) -> Tuple[Outcome, str] | None:
    """What the ICMP message says that a datagram's socket has heard; none where that adds nothing."""
    if sys.platform != "linux" or sock.type != socket.SOCK_DGRAM:
        return None
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, _MSG_ERRQUEUE)
    except OSError:
        return None
    for _level, kind, data in ancillary:
        if kind not in (_IP_RECVERR, _IPV6_RECVERR) or len(data) < _EXTENDED_ERROR.size:
            continue
        _errno, origin, icmp_type, icmp_code, _pad, _info, _data = _EXTENDED_ERROR.unpack_from(data)
        if (origin, icmp_type, icmp_code) in _PROHIBITED:
            by = _offender(data[_EXTENDED_ERROR.size :])
            return Outcome.FILTERED, f"administratively prohibited (ICMP {icmp_type}/{icmp_code}), says {by}"
    return None


def _offender(sockaddr: bytes) -> str:
    if len(sockaddr) >= 28 and struct.unpack_from("=H", sockaddr)[0] == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
    if len(sockaddr) >= 8 and struct.unpack_from("=H", sockaddr)[0] == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
    return "somebody"


# --- on another machine


def main() -> None:
    """Does what standard input says, one JSON object a line, and answers each with one, until it ends.

    {"nonce": hex, "who": name, "listen": [place, …]}      → {"failed": [{"place", "why"}, …]}
    {"probe": [target, …], "timeout_s": 3.5}               → {"probes": [probe, …]}
    """
    greeting = {"quorate_probe": VERSION, "host": socket.gethostname(), "time": time.time()}
    print(json.dumps(greeting), flush=True)
    listeners: Listeners | None = None
    nonce = b""
    for line in sys.stdin:
        order = json.loads(line)
        if "listen" in order:
            nonce = bytes.fromhex(order["nonce"])
            if listeners is not None:
                listeners.close()
            listeners = Listeners(nonce, order["who"], [Place(**place) for place in order["listen"]])
            failed = [{"place": dataclasses.asdict(place), "why": why} for place, why in listeners.failed.items()]
            answer: Dict[str, Any] = {"failed": failed}
        else:
            targets = [Target(**{**target, "place": Place(**target["place"])}) for target in order["probe"]]
            probes = probe(targets, nonce, timeout_s=order.get("timeout_s", TIMEOUT_S))
            answer = {"probes": [each.to_object() for each in probes]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

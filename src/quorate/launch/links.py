"""Connections between the companions of one allocation: a door that others come to, and a caller that goes there.

Both ends know for sure with whom they speak (handshake.py) before anything else is said.
"""

from __future__ import annotations

import enum
import errno
import ipaddress
import os
import random
import socket
import sys
from typing import Callable, Dict, Set

from quorate.launch import handshake, probewords
from quorate.launch.config import Configuration, Member
from quorate.launch.lines import Lines, Object, encoded
from quorate.launch.reactor import READ, WRITE, Reactor, Timer

#: Seconds for a stranger to become a member; a healthy one needs a round trip.
HANDSHAKE_S = 10.0
#: So many seconds of silence are an attempt that has failed.
CONNECT_S = 4.0
#: What is sent to a private network that is not up yet is lost, and the kernel sends again only after 1 s and 3 s. So
#: until somebody answers, connections are opened anew after so long, then after twice as long, and so on.
ANEW_S = 0.1
#: Seconds between attempts, from the first to the last: members start at different moments, mostly within milliseconds.
FIRST_PAUSE_S = 0.001
LAST_PAUSE_S = 0.25
PAUSE_GROWS = 1.4
#: Strangers that may be in the middle of the handshake, beyond one for each member.
SPARE_STRANGERS = 64
_OUT_OF_FILES_S = 0.1


class PortTaken(OSError):
    """Another process listens where this member was to listen."""


class Trouble(enum.Enum):
    """Why a member could not be reached. The values are codes of findings."""

    REFUSED = "NET-REFUSED"
    FILTERED = "NET-FILTERED"
    UNROUTABLE = "NET-UNROUTABLE"
    #: Something answers that does not belong to this allocation.
    WRONG_HOST = "NET-WRONG-HOST"
    UNDETERMINED = "NET-UNDETERMINED"


class Door:
    """Listens at the own member's port for a purpose; each member that comes is handed to `on_member(rank, link)`.

    Raises PortTaken. A member that comes again takes the place of its earlier connection.
    """

    def __init__(
        self, reactor: Reactor, configuration: Configuration, purpose: str, on_member: Callable[[int, Lines], None]
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._purpose = purpose
        self._on_member = on_member
        #: Members on their way in, and probers, which leave by themselves.
        self._strangers: Set[_Stranger] = set()
        self._closed = False
        self._listener = _listen(configuration.own, purpose)
        self._listener.setblocking(False)
        self._open()

    def close(self) -> None:
        self._closed = True
        self._reactor.watch(self._listener, 0, lambda _: None)
        self._listener.close()
        for stranger in list(self._strangers):
            stranger.dismiss()

    def _open(self) -> None:
        if not self._closed:
            self._reactor.watch(self._listener, READ, lambda _: self._accept())

    def _accept(self) -> None:
        # As many as there are, but other sockets want their turn as well.
        for _ in range(256):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # No file descriptors or no memory: whoever knocks waits in the kernel's queue.
                self._reactor.watch(self._listener, 0, lambda _: None)
                self._reactor.after(_OUT_OF_FILES_S, self._open)
                return
            if len(self._strangers) >= self._configuration.size + SPARE_STRANGERS:
                sock.close()
                continue
            # It speaks first, so its answer would wait for the acknowledgement of that: 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._strangers.add(_Stranger(self, sock))

    def _admit(self, stranger: _Stranger, rank: int, link: Lines) -> None:
        self._strangers.discard(stranger)
        self._on_member(rank, link)


class _Stranger:
    """Someone at the door, until it has proven which member it is."""

    def __init__(self, door: Door, sock: socket.socket) -> None:
        self._door = door
        self._socket = sock
        self._challenge = handshake.challenge()
        self._lines = Lines(door._reactor, sock, self._answer, lambda _: self._gone(), max_line=probewords.MAX_LINE)
        self._timer = door._reactor.after(HANDSHAKE_S, self.dismiss)
        self._lines.send({"quorate": handshake.VERSION, "challenge": self._challenge})

    def dismiss(self) -> None:
        self._lines.close()
        self._gone()

    def _gone(self) -> None:
        self._timer.cancel()
        self._door._strangers.discard(self)

    def _answer(self, message: Object) -> None:
        configuration, purpose = self._door._configuration, self._door._purpose
        own = configuration.own
        replies = probewords.replies(message, configuration.secret, own.name, "tcp", own.port(purpose))
        if replies:
            for reply in replies:
                self._lines.send(reply)
            return
        rank, challenge = message.get("rank"), message.get("challenge")
        if type(rank) is not int or not handshake.is_challenge(challenge):
            self.dismiss()
            return
        theirs = str(challenge)
        expected = handshake.of_member(configuration, purpose, rank, theirs, self._challenge)
        known = 0 <= rank < configuration.size and rank != configuration.rank
        if not handshake.equal(expected, message.get("proof")) or not known:
            self._lines.send({"refused": "another-allocation"})
            self._lines.close_when_sent()
            self._gone()
            return
        self._timer.cancel()
        # Not before: most who knock are probers, and gone in a moment.
        tune(self._socket)
        self._lines.send({"proof": handshake.of_host(configuration, purpose, rank, self._challenge, theirs)})
        self._door._admit(self, rank, self._lines)


class Caller:
    """Goes to another member's door and tries until it is let in; `trouble` and `evidence` tell why it is not, so far.

    `on_link(link)` comes when both sides are sure of each other. From then on the link is its owner's.
    """

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        purpose: str,
        to: Member,
        on_link: Callable[[Lines], None],
        *,
        on_trouble: Callable[[Trouble], None] = lambda _: None,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._purpose = purpose
        self._to = to
        self._endpoint = (to.address, to.port(purpose))
        self._on_link = on_link
        self._on_trouble = on_trouble
        self._pause_s = FIRST_PAUSE_S
        self._socket: socket.socket | None = None
        self._lines: Lines | None = None
        self._timer: Timer | None = None
        self._own_challenge = ""
        self._expected = ""
        self.trouble = Trouble.UNDETERMINED
        self.evidence = "no attempt has come to an end"
        #: On the reactor's clock: when the attempt began that `trouble` is about, and the one that waits for an answer.
        self.failed_since_s: float | None = None
        self.silent_since_s: float | None = None
        self._began_s = 0.0
        self._anew_s = ANEW_S
        self._connect()

    @property
    def where(self) -> str:
        """Address and port, for sentences to people."""
        address, port = self._endpoint
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._reactor.watch(self._socket, 0, lambda _: None)
            self._socket.close()
            self._socket = None
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _connect(self) -> None:
        self._began_s = self.silent_since_s = self._reactor.now()
        self._anew_s = ANEW_S
        self._open()

    def _open(self) -> None:
        sock = socket.socket(family_of(self._to.address), socket.SOCK_STREAM)
        sock.setblocking(False)
        tune(sock)
        _bind_to(sock, self._configuration.own.address)
        self._socket = sock
        error = sock.connect_ex(self._endpoint)
        if error not in (0, errno.EINPROGRESS):
            self._failed(*_judge(error))
            return
        left_s = self._began_s + CONNECT_S - self._reactor.now()
        self._timer = self._reactor.after(max(0.0, min(self._anew_s, left_s)), self._no_answer)
        self._reactor.watch(sock, WRITE, lambda _: self._connected(sock))

    def _no_answer(self) -> None:
        if self._reactor.now() >= self._began_s + CONNECT_S:
            self._failed(Trouble.FILTERED, f"no answer within {CONNECT_S:g} s")
            return
        self._anew_s *= 2
        self.stop()
        self._open()

    def _connected(self, sock: socket.socket) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._failed(*_judge(error))
            return
        self._reactor.watch(sock, 0, lambda _: None)
        self._socket = None
        self.silent_since_s = None
        self._restart_timer(
            HANDSHAKE_S,
            lambda: self._failed(Trouble.UNDETERMINED, f"it accepted, and was silent for {HANDSHAKE_S:g} s"),
        )
        self._lines = Lines(
            self._reactor,
            sock,
            self._spoken,
            lambda why: self._failed(Trouble.UNDETERMINED, f"{why} during the handshake"),
        )

    def _spoken(self, message: Object) -> None:
        lines, configuration = self._lines, self._configuration
        assert lines is not None
        if "refused" in message:
            self._failed(Trouble.WRONG_HOST, "another allocation answers there")
        elif not self._own_challenge and handshake.is_challenge(message.get("challenge")):
            self._own_challenge = handshake.challenge()
            theirs = str(message["challenge"])
            self._expected = handshake.of_host(
                configuration, self._purpose, configuration.rank, theirs, self._own_challenge
            )
            proof = handshake.of_member(configuration, self._purpose, configuration.rank, self._own_challenge, theirs)
            lines.send({"rank": configuration.rank, "challenge": self._own_challenge, "proof": proof})
        elif self._own_challenge and handshake.equal(self._expected, message.get("proof")):
            if self._timer is not None:
                self._timer.cancel()
            self._lines = None
            self._on_link(lines)
        else:
            self._failed(Trouble.WRONG_HOST, "something answers there that is no companion of this allocation")

    def _failed(self, trouble: Trouble, evidence: str) -> None:
        self.stop()
        self._own_challenge = ""
        self.trouble, self.evidence, self.failed_since_s = trouble, evidence, self._began_s
        self.silent_since_s = None
        # Jitter, so that a thousand members do not knock in step.
        self._timer = self._reactor.after(self._pause_s * random.uniform(0.7, 1.3), self._connect)
        self._pause_s = min(PAUSE_GROWS * self._pause_s, LAST_PAUSE_S)
        self._on_trouble(trouble)

    def _restart_timer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.after(seconds, call)


class Links:
    """The members that are connected at this moment, by rank."""

    def __init__(self) -> None:
        self._by_rank: Dict[int, Lines] = {}

    def __contains__(self, rank: int) -> bool:
        return rank in self._by_rank

    def __len__(self) -> int:
        return len(self._by_rank)

    def put(self, rank: int, link: Lines) -> None:
        """A second connection of one member means that its first one is dead, only nobody has noticed."""
        old = self._by_rank.get(rank)
        if old is not None:
            old.close()
        self._by_rank[rank] = link

    def drop(self, rank: int, link: Lines) -> bool:
        """Whether it was this link by which the member was connected."""
        if self._by_rank.get(rank) is not link:
            return False
        del self._by_rank[rank]
        return True

    def ranks(self) -> list[int]:
        return sorted(self._by_rank)

    def send(self, rank: int, message: Object) -> None:
        if rank in self._by_rank:
            self._by_rank[rank].send(message)

    def send_to_all(self, message: Object) -> None:
        line = encoded(message)
        for link in list(self._by_rank.values()):
            link.send_line(line)

    def close_all_when_sent(self) -> None:
        for link in list(self._by_rank.values()):
            link.close_when_sent()
        self._by_rank.clear()


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def tune(sock: socket.socket) -> None:
    """Small messages at once; a peer whose machine is gone is noticed in about half a minute."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _listen(member: Member, purpose: str) -> socket.socket:
    port = member.port(purpose)
    family = family_of(member.address)
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    for address in (member.address, wildcard):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(4096)
            return listener
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    error.errno, f"port {port} of {member.described()}, for {purpose}, is taken by another process"
                ) from None
            # Behind NAT the address by which others know this machine is none of its own.
            if error.errno != errno.EADDRNOTAVAIL or address == wildcard:
                raise
    raise AssertionError("both addresses were tried")


def _bind_to(sock: socket.socket, address: str) -> None:
    """Members are known by their planned addresses, so rules let nothing else pass."""
    if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT") or sys.platform == "linux":
        # Otherwise the kernel picks the port now, and a thousand connections need a thousand different ones.
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    try:
        sock.bind((address, 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


def _judge(error: int) -> "tuple[Trouble, str]":
    if error == errno.ECONNREFUSED:
        return Trouble.REFUSED, "connection refused: nobody listens there"
    if error == errno.ETIMEDOUT:
        return Trouble.FILTERED, "no answer"
    if error in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN):
        return Trouble.UNROUTABLE, _text(error)
    if error in (errno.EPERM, errno.EACCES):
        return Trouble.FILTERED, f"{_text(error)}: a rule on this machine forbids it"
    return Trouble.UNDETERMINED, _text(error)


def _text(error: int) -> str:
    return os.strerror(error).lower()

"""The DNS of an allocation: asked at its hub's address, answered by the machine's own servers, within its egress.

For egress to named hosts it is the only way to learn an address, and each address that it tells is let in for at least
as long as the answer lives. It reads what members send, so it runs where there is nothing to win: see `resolver.child`.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from quorate.agent.helper.client import HelperError
from quorate.agent.helper.protocol import LONGEST_ADMISSION_S, MAX_ADMITTED
from quorate.agent.sandbox.spec import Egress, HubSpec
from quorate.agent.sandbox.wanted import named_hosts, network_of
from quorate.model.messages import AllocationSpec

if TYPE_CHECKING:
    import dns.message
    import dns.name

log = logging.getLogger(__name__)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
#: Seconds for one server, and for a member that asks over TCP to say what.
_SERVER_S, _PATIENCE_S = 2.0, 10.0
#: Questions of one allocation under way at once, and its connections; more are dropped, and asked again by the member.
_AT_ONCE: Final = 256
_CONNECTIONS: Final = 64
#: Questions of all allocations, a second and at once: each has a limit of its own in its hub, and they share this loop.
_QUESTIONS_S, _QUESTIONS_AT_ONCE = 1000.0, 4000.0
#: A question is a few hundred bytes; an answer over TCP at most what its length can say.
_MAX_QUESTION: Final = 4096
#: Who has just been told an address needs a moment to use it, even one that nobody may remember.
_SHORTEST_ADMISSION_S: Final = 60
#: For so long nobody asks the helper again for an address that is in. Not for longer, whatever the answer's life: if
#: somebody takes the rules away, they come back without it.
_REMEMBERED_S: Final = 30
_MOST_REMEMBERED: Final = 8192


@dataclass(frozen=True)
class Zone:
    """What one allocation may ask for."""

    allocation: str
    #: Names of members, in lower case, to their addresses.
    members: Mapping[str, str]
    #: None: everything. Else names, and `*.example.org` for all below one.
    hosts: tuple[str, ...] | None

    @classmethod
    def of(cls, hub: HubSpec, spec: AllocationSpec) -> "Zone":
        members = {member.name.lower(): member.address for member in spec.members}
        named = hub.egress is Egress.NAMED
        return cls(spec.allocation, members, named_hosts(network_of(spec)) if named else None)

    def allows(self, name: str) -> bool:
        """Whether the name, in lower case and without its last dot, may be asked for outside."""
        if self.hosts is None:
            return True
        return any(
            name.endswith(host[1:].lower()) if host.startswith("*.") else name == host.lower() for host in self.hosts
        )


class _Admitted(NamedTuple):
    """Seconds of time.monotonic()."""

    since: float
    until: float


class Pace:
    """Takes so many a second, and so many at once after a pause. `clock` in seconds."""

    def __init__(
        self,
        per_s: float = _QUESTIONS_S,
        at_once: float = _QUESTIONS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._at_once, self._clock = per_s, at_once, clock
        self._left, self._since = at_once, clock()

    def takes(self) -> bool:
        """One more."""
        now = self._clock()
        self._left, self._since = min(self._at_once, self._left + (now - self._since) * self._per_s), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Forwarder:
    """Answers questions of one allocation, at the pace of all. `admit` lets addresses in for so many seconds; it raises
    HelperError."""

    def __init__(
        self,
        zone: Zone,
        servers: Callable[[], Sequence[str]],
        admit: Callable[[dict[str, int]], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._zone = zone
        self._pace = pace
        self._servers = servers
        self._admit = admit
        self._admitting = asyncio.Lock()
        self._admitted: dict[str, _Admitted] = {}
        self._under_way = 0

    async def answer(self, wire: bytes, *, stream: bool) -> bytes | None:
        """The answer as it travels, by `stream` of any length; None to what deserves none."""
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rcode

        if len(wire) > _MAX_QUESTION or self._under_way >= _AT_ONCE or not self._pace.takes():
            return None
        try:
            question = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return None
        if question.flags & dns.flags.QR:
            return None
        self._under_way += 1
        try:
            found = await self._found(question)
        except (dns.exception.DNSException, OSError, HelperError) as error:
            log.warning("%s: no answer to %s: %s", self._zone.allocation, _asked(question), error)
            found = _reply(question, dns.rcode.SERVFAIL)
        finally:
            self._under_way -= 1
        longest = 65535 if stream else max(512, question.payload)
        return found.to_wire(max_size=longest, prefer_truncation=True)

    async def _found(self, question: "dns.message.Message") -> "dns.message.Message":
        import dns.opcode
        import dns.rcode
        import dns.rdataclass
        import dns.rdatatype
        import dns.rrset

        if question.opcode() != dns.opcode.QUERY or len(question.question) != 1:
            return _reply(question, dns.rcode.NOTIMP)
        wanted = question.question[0]
        name = wanted.name.to_text(omit_final_dot=True).lower()
        if name in self._zone.members:
            reply = _reply(question, dns.rcode.NOERROR)
            if wanted.rdtype == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(wanted.name, 30, "IN", "A", self._zone.members[name]))
            return reply
        if wanted.rdclass != dns.rdataclass.IN or wanted.rdtype == dns.rdatatype.ANY or not self._zone.allows(name):
            return _reply(question, dns.rcode.REFUSED)
        if wanted.rdtype == dns.rdatatype.AAAA:
            # There is no IPv6 inside; who is told so at once does not try it first.
            return _reply(question, dns.rcode.NOERROR)
        reply = await self._forwarded(question)
        if self._zone.hosts is not None and wanted.rdtype == dns.rdatatype.A:
            await self._let_in(reply)
        return reply

    async def _forwarded(self, question: "dns.message.Message") -> "dns.message.Message":
        import dns.asyncquery
        import dns.exception
        import dns.message

        wanted = question.question[0]
        # Asked in our own words: nothing else that a member writes leaves the machine.
        asked = dns.message.make_query(wanted.name, wanted.rdtype, wanted.rdclass, use_edns=0, payload=1232)
        failure: Exception = OSError("this machine knows no DNS server")
        for server in self._servers():
            try:
                found, _ = await dns.asyncquery.udp_with_fallback(asked, server, timeout=_SERVER_S)
            except (dns.exception.DNSException, OSError, EOFError) as error:
                failure = OSError(f"{server}: {error or type(error).__name__}")
                continue
            reply = _reply(question, found.rcode())
            reply.answer, reply.authority = found.answer, found.authority
            return reply
        raise failure

    async def _let_in(self, reply: "dns.message.Message") -> None:
        import dns.rdatatype

        addresses = {
            str(record.address): min(max(found.ttl, _SHORTEST_ADMISSION_S), LONGEST_ADMISSION_S - _REMEMBERED_S)
            for found in reply.answer
            if found.rdtype == dns.rdatatype.A
            for record in found
        }
        async with self._admitting:
            now = time.monotonic()
            # Somewhat longer than this answer lives, so that the next one finds it in.
            missing = [
                (one, life + _REMEMBERED_S) for one, life in addresses.items() if not self._is_in(one, now, life)
            ]
            if first := dict(missing[:MAX_ADMITTED]):
                await self._admit(first)
                if len(self._admitted) > _MOST_REMEMBERED:
                    self._admitted.clear()
                self._admitted |= {address: _Admitted(now, now + life) for address, life in first.items()}

    def _is_in(self, address: str, now: float, life_s: float) -> bool:
        known = self._admitted.get(address)
        return known is not None and now < known.since + _REMEMBERED_S and now + life_s <= known.until


@dataclass
class Serving:
    """One allocation's sockets in its hub."""

    zone: Zone
    forwarder: Forwarder
    datagrams: asyncio.DatagramTransport | None = None
    streams: asyncio.Server | None = None

    async def open(self, asked: socket.socket, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self.forwarder), sock=asked)
        connections = asyncio.Semaphore(_CONNECTIONS)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if not connections.locked():
                    async with connections:
                        await _serve_stream(self.forwarder, reader, writer)
            finally:
                writer.close()

        self.streams = await asyncio.start_server(serve, sock=listener)

    def close(self) -> None:
        if self.datagrams is not None:
            self.datagrams.close()
        if self.streams is not None:
            self.streams.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        answer = await self._forwarder.answer(data, stream=False)
        if answer is not None and not self._transport.is_closing():
            self._transport.sendto(answer, address)


async def _serve_stream(forwarder: Forwarder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Questions one after the other, each behind its length (RFC 7766)."""
    with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        while True:
            async with asyncio.timeout(_PATIENCE_S):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(size)
            answer = await forwarder.answer(data, stream=True)
            if answer is None:
                return
            writer.write(len(answer).to_bytes(2, "big") + answer)
            async with asyncio.timeout(_PATIENCE_S):
                await writer.drain()


def nameservers(path: Path) -> tuple[str, ...]:
    """The servers that a resolv.conf(5) names; none where it cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ()
    return tuple(words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver")


def _reply(question: "dns.message.Message", code: "dns.rcode.Rcode") -> "dns.message.Message":
    import dns.message

    reply = dns.message.make_response(question, recursion_available=True)
    reply.set_rcode(code)
    return reply


def _asked(question: "dns.message.Message") -> str:
    return "; ".join(str(asked) for asked in question.question)

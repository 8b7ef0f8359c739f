"""Ports as a resource: who holds which port of a host's address, how long it then rests, and why none is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from quorate.model.ports import PortRange

#: Linux keeps a closed connection in TIME-WAIT for 60 s (TCP_TIMEWAIT_LEN, include/net/tcp.h); a listener without
#: SO_REUSEADDR cannot bind before, and a late packet of the last holder's peers must not reach the next.
REST_S = 60.0


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """One port of one host that a holder has, or had until `released_at`."""

    host: str
    port: int
    holder: str
    purpose: str
    #: Seconds on the clock of the caller's `now`; None while it is held.
    released_at: float | None = None


class HostPorts(msgspec.Struct, frozen=True):
    """What may be leased on one host."""

    #: Boot id and network namespace: agents that share both share their ports.
    key: str
    lease_range: PortRange
    #: The kernel's ephemeral range; a listener in it can lose its port to somebody's outgoing connection.
    ephemeral: PortRange
    #: Ports of which it is known that something else listens on them.
    taken: frozenset[int] = frozenset()
    #: How far into the range the search begins (modulo its length): clusters that share a host keep out of each
    #: other's way if each begins elsewhere.
    begin_at: int = 0


class Want(msgspec.Struct, frozen=True):
    """Ports that a member needs for one purpose."""

    purpose: str
    #: The port that its users expect; None where any will do.
    canonical: int | None = None
    #: How many, side by side.
    count: int = 1


class Request(msgspec.Struct, frozen=True):
    """All the ports that one member needs on its host."""

    host: HostPorts
    holder: str
    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why ports could not be leased; nothing was."""

    host: str
    holder: str
    purpose: str
    reason: str
    #: When the next resting port becomes free; None if waiting for rests does not help.
    retry_at: float | None = None

    def __str__(self) -> str:
        return f"no port for {self.purpose} of {self.holder} on {self.host}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Leases:
    """All leases; immutable, and a change copies no more than the hosts that it touches.

    Invariant: a port of a host is in it at most once, so no two holders have it, and none has it while it rests.
    """

    by_host: Mapping[str, Mapping[int, Lease]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, records: Iterable[Lease]) -> Leases:
        """Return the leases that `records` name, such as those of a store; raise ValueError if two collide."""
        by_host: dict[str, dict[int, Lease]] = {}
        for record in records:
            if record.port in by_host.setdefault(record.host, {}):
                raise ValueError(f"port {record.port} of {record.host} is leased twice")
            by_host[record.host][record.port] = record
        return cls(by_host)

    def __iter__(self) -> Iterator[Lease]:
        return (lease for ports in self.by_host.values() for lease in ports.values())

    def __len__(self) -> int:
        return sum(map(len, self.by_host.values()))

    def on(self, host: str) -> Mapping[int, Lease]:
        """Return a host's leases by port, resting ones included."""
        return self.by_host.get(host, {})


def lease(
    leases: Leases, requests: Sequence[Request], now: float, *, rest_s: float = REST_S
) -> tuple[Leases, dict[str, dict[str, PortRange]]] | Refusal:
    """Lease all ports of all requests, or none: canonical ones where they are free, else out of the lease range.

    Returns the new leases, and for each holder its ports by purpose. Gives the lowest free ports, so the same calls
    give the same answer. A holder that asks again for a purpose gets what it has. `now` and `rest_s` are seconds.
    """
    changed: dict[str, dict[int, Lease]] = {}
    granted: dict[str, dict[str, PortRange]] = {}
    for request in requests:
        host = request.host
        held = changed.setdefault(host.key, dict(leases.on(host.key)))
        for want in request.wants:
            ports = _had(held, request.holder, want) or _find(held, host, want, now, rest_s)
            if ports is None:
                return _refusal(held, request, want, now, rest_s)
            for port in ports:
                held[port] = Lease(host.key, port, request.holder, want.purpose)
            granted.setdefault(request.holder, {})[want.purpose] = ports
    return Leases({**leases.by_host, **changed}), granted


def _rested(lease: Lease, now: float, rest_s: float) -> bool:
    return lease.released_at is not None and now >= lease.released_at + rest_s


def _had(held: Mapping[int, Lease], holder: str, want: Want) -> PortRange | None:
    mine = sorted(
        port
        for port, lease in held.items()
        if lease.holder == holder and lease.purpose == want.purpose and lease.released_at is None
    )
    return PortRange(mine[0], mine[-1]) if len(mine) == want.count else None


def _find(held: Mapping[int, Lease], host: HostPorts, want: Want, now: float, rest_s: float) -> PortRange | None:
    def free(port: int) -> bool:
        return port not in host.taken and (port not in held or _rested(held[port], now, rest_s))

    if want.canonical is not None and want.canonical + want.count - 1 <= 65_535:
        block = PortRange(want.canonical, want.canonical + want.count - 1)
        if not block.overlaps(host.ephemeral) and all(map(free, block)):
            return block
    first, last = host.lease_range.first, host.lease_range.last
    middle = first + host.begin_at % len(host.lease_range)
    for ports in (range(middle, last + 1), range(first, min(middle + want.count - 1, last + 1))):
        run = 0
        for port in ports:
            run = run + 1 if free(port) and port not in host.ephemeral else 0
            if run == want.count:
                return PortRange(port - run + 1, port)
    return None


def _refusal(held: Mapping[int, Lease], request: Request, want: Want, now: float, rest_s: float) -> Refusal:
    host = request.host
    usable = [port for port in host.lease_range if port not in host.ephemeral]
    ours = [held[port] for port in usable if port in held and not _rested(held[port], now, rest_s)]
    rests = [lease.released_at + rest_s for lease in ours if lease.released_at is not None]
    taken = len(host.taken.intersection(usable))
    parts = [f"{len(ours) - len(rests)} leased", f"{len(rests)} resting", f"{taken} taken by others"]
    if len(usable) < len(host.lease_range):
        parts.append(f"{len(host.lease_range) - len(usable)} in the ephemeral range {host.ephemeral}")
    needed = f"{want.count} side by side are needed" if want.count > 1 else "one is needed"
    reason = f"of {len(host.lease_range)} ports in {host.lease_range}, {', '.join(parts)}; {needed}"
    return Refusal(host.key, request.holder, want.purpose, reason, min(rests, default=None))

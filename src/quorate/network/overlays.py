"""Subnets and VNIs of private networks as resources: which are free, and where members and gateway are in one."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPV4LENGTH, IPv4Address, IPv4Network

#: 24 bits, and 0 is nobody's (RFC 7348, section 5).
VNIS = (1, 2**24 - 1)
#: Smaller subnets would only cut the range into pieces; this one holds 13 members.
LONGEST_PREFIX = 28
#: The subnet's own address, the gateway, and the broadcast address.
_NOT_MEMBERS = 3
#: Members' addresses follow the gateway's.
_FIRST_MEMBER = 2
#: An agent does not say how large the network is that it lives in; subnets of clouds are rarely larger than this.
_AROUND_AGENT = 16
#: What VXLAN puts round a packet, over IPv4 and over IPv6 (RFC 7348, section 5).
_OVERHEAD = {4: 50, 6: 70}
#: Taken where an agent does not know its device's.
_USUAL_MTU = 1500
#: What members' devices may have: what IPv4 hosts must take (RFC 791), and what Ethernet cards commonly offer.
LEAST_MTU, MOST_MTU = 576, 9216


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no private network for a gang now; nothing was taken."""

    reason: str
    #: Nobody knows when one will be free.
    retry_at: None = None

    def __str__(self) -> str:
        return self.reason


class Taken:
    """Addresses that are in use, as disjoint ranges that do not touch; each address is taken at most once."""

    def __init__(self, networks: Iterable[IPv4Network] = ()) -> None:
        self._starts: list[int] = []
        #: The first address after each range.
        self._ends: list[int] = []
        for network in networks:
            self.cover(network)

    def take(self, network: IPv4Network) -> None:
        """Raises ValueError where any of it is taken already."""
        start, end = _bounds(network)
        if self.end_of_overlap(start, end) is not None:
            raise ValueError(f"{network} is taken")
        self._join(start, end)

    def cover(self, network: IPv4Network) -> None:
        """As `take`, for addresses that may be there more than once and never go."""
        self._join(*_bounds(network))

    def free(self, network: IPv4Network) -> None:
        """Gives back what was taken; raises ValueError where it was not."""
        start, end = _bounds(network)
        at = bisect_right(self._starts, start) - 1
        if at < 0 or self._ends[at] < end:
            raise ValueError(f"{network} is not taken")
        first, last = self._starts.pop(at), self._ends.pop(at)
        for low, high in ((end, last), (first, start)):
            if low < high:
                self._starts.insert(at, low)
                self._ends.insert(at, high)

    def end_of_overlap(self, start: int, end: int) -> int | None:
        """The first address after the first range that overlaps [start, end); None where none does."""
        at = bisect_right(self._ends, start)
        return self._ends[at] if at < len(self._starts) and self._starts[at] < end else None

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def _join(self, start: int, end: int) -> None:
        low, high = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high], self._ends[low:high] = [start], [end]


def subnet_for(members: int, ranges: Sequence[IPv4Network], taken: Taken, underlay: Taken) -> IPv4Network | Refusal:
    """The lowest free subnet that holds so many members, outside of everything that the agents' own networks have."""
    prefix = prefix_for(members)
    size = 1 << IPV4LENGTH - prefix
    for network in ranges:
        at, end = _bounds(network)
        while at + size <= end:
            blocked = taken.end_of_overlap(at, at + size) or underlay.end_of_overlap(at, at + size)
            if blocked is None:
                return IPv4Network((at, prefix))
            at = -(-blocked // size) * size
    shown = ", ".join(map(str, ranges))
    used = [f"{network} holds agents' own addresses" for network in ranges if _hits(underlay, network)]
    because = f" ({used[0]}: set network.overlays in master.yaml to networks that nothing else uses)" if used else ""
    return Refusal(f"no network of {size} addresses for {members} members is free in {shown}{because}")


def prefix_for(members: int) -> int:
    """Length of the prefix of the smallest subnet that holds so many members."""
    return min(LONGEST_PREFIX, IPV4LENGTH - (members + _NOT_MEMBERS - 1).bit_length())


def vni_for(allocation: str, first: int, last: int, taken: Container[int]) -> int | Refusal:
    """A VNI that nobody has; the search begins elsewhere for each allocation, so that one given back rests long."""
    count = last - first + 1
    begin = zlib.crc32(allocation.encode())
    for step in range(count):
        vni = first + (begin + step) % count
        if vni not in taken:
            return vni
    return Refusal(f"all VNIs from {first} to {last} are taken; network.vnis in master.yaml has the range")


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """The hub's address, the same on every agent."""
    return subnet[1]


def address_of(subnet: IPv4Network, rank: int) -> IPv4Address:
    """The address of a member."""
    return subnet[_FIRST_MEMBER + rank]


def around(address: IPv4Address) -> IPv4Network:
    """What no private network may overlap, because an agent is there."""
    return IPv4Network((int(address), _AROUND_AGENT), strict=False)


def mtu_of(underlay: Iterable[int], family: int, *, encapsulated: bool) -> int:
    """The members' MTU in bytes over agents with these; 0 is one that its agent does not know."""
    known = list(underlay)
    narrowest = min((mtu for mtu in known if mtu), default=_USUAL_MTU)
    if 0 in known:
        narrowest = min(narrowest, _USUAL_MTU)
    # Where nobody knows what lies below, an overlay's MTU is safe on a bridge, too.
    overhead = _OVERHEAD[family] if encapsulated or 0 in known else 0
    return max(LEAST_MTU, min(narrowest - overhead, MOST_MTU))


def _bounds(network: IPv4Network) -> tuple[int, int]:
    start = int(network.network_address)
    return start, start + network.num_addresses


def _hits(taken: Taken, network: IPv4Network) -> bool:
    return taken.end_of_overlap(*_bounds(network)) is not None

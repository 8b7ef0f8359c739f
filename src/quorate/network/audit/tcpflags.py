"""The flags of TCP's packets: which ones connections consist of, and how rules name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, combinations
from types import MappingProxyType

from quorate.network.audit.ruleset import Phase, Scene
from quorate.network.audit.space import EVERY_FLAGS, Intervals, join
from quorate.network.flows import Transport

#: RFC 9293, 3.1, from the lowest bit.
BITS = MappingProxyType(
    {name: 1 << bit for bit, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"))}
)
FIN, SYN, RST, PSH, ACK, URG, ECN, CWR = BITS.values()


def flags_where(holds: Callable[[int], bool]) -> Intervals:
    """Return all combinations of flags for which it holds."""
    return join((flags, flags) for flags in range(256) if holds(flags))


def _of(*combined: int) -> Intervals:
    return join((flags, flags) for flags in combined)


def _with_any(base: Iterable[int], *more: int) -> Intervals:
    added = [sum(some) for some in chain.from_iterable(combinations(more, count) for count in range(len(more) + 1))]
    return _of(*(flags | extra for flags in base for extra in added))


#: What every connection of a planned flow needs to get through. ECN and urgent data are not among it: a connection that
#: does not begin with ECN begins without (RFC 3168, 6.1.1.1), and no flow of a plan sends urgent data.
_NEEDED = {
    Phase.OPEN: _of(SYN),
    Phase.ANSWER: _of(SYN | ACK, ACK, PSH | ACK, FIN | ACK, FIN | PSH | ACK),
    Phase.GO_ON: _of(ACK, PSH | ACK, FIN | ACK, FIN | PSH | ACK),
}
#: What connection tracking takes for a packet of a connection, PSH, ECN and CWR aside (Linux, tcp_valid_flags in
#: nf_conntrack_proto_tcp.c). Whoever wants in may begin with any of the first.
_VALID = {
    Phase.OPEN: _with_any((SYN, SYN | URG), PSH, ECN, CWR),
    Phase.ANSWER: _with_any((SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG), PSH, ECN, CWR),
    Phase.GO_ON: _with_any((RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG), PSH, ECN, CWR),
}


def needed(scene: Scene) -> Intervals:
    """Return the flags that must get through for a connection of a planned flow."""
    return _NEEDED[scene.phase] if scene.transport is Transport.TCP else EVERY_FLAGS


def valid(scene: Scene) -> Intervals:
    """Return the flags that packets of a connection may have."""
    return _VALID[scene.phase] if scene.transport is Transport.TCP else EVERY_FLAGS


def shown(flags: Intervals, scene: Scene) -> str:
    """Return the flags of some packets as people write them; nothing for all that are asked about."""
    if flags in (EVERY_FLAGS, needed(scene), valid(scene)):
        return ""
    each = [number for first, last in flags for number in range(first, last + 1)]
    return ", ".join("|".join(name for name, bit in BITS.items() if number & bit) for number in each[:3]) + (
        ", …" if len(each) > 3 else ""
    )

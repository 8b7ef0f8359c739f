"""iptables: chains of our own, restored without flushing anybody else's; one file for IPv4 and IPv6.

Syntax: iptables-restore(8), iptables-extensions(8). Lines between `# IPv4` and `# IPv6` go to `iptables-restore
--noflush`, the rest to `ip6tables-restore --noflush`; the header of the text says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.flows import Direction, Role
from quorate.network.plan import Plan
from quorate.network.rules import Rendered
from quorate.network.rules.openings import Opening, by_family, left_out, openings, shorten

IN, OUT = "QUORATE-IN", "QUORATE-OUT"
#: xt_multiport holds 15 ports; a range counts as two (iptables-extensions(8)).
MULTIPORT = 15
#: XT_MAX_COMMENT_LEN is 256 with the closing NUL.
COMMENT = 250

_ICMP4 = ("destination-unreachable", "time-exceeded", "parameter-problem", "echo-request")
_ICMP6 = (
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
    "echo-request",
    "router-solicitation",
    "router-advertisement",
    "neighbour-solicitation",
    "neighbour-advertisement",
)


def render(plan: Plan, role: Role | None) -> Rendered:
    """Return both families' restore files in one text, IPv4 first."""
    needed = openings(plan, role)
    lines = [
        f"# {shorten(plan.name, COMMENT)}: flows of a machine with role {role}.",
        "# Load: sed '/^# IPv6$/,$d' FILE | iptables-restore --noflush",
        "#  and: sed '1,/^# IPv6$/d' FILE | ip6tables-restore --noflush",
        "# IPv4",
        *_family(needed, 4),
        "# IPv6",
        *_family(needed, 6),
    ]
    return Rendered("\n".join(lines) + "\n", left_out(plan, role))


def _family(needed: tuple[Opening, ...], version: int) -> Iterator[str]:
    yield "*filter"
    # The built-in chains are named with their policy, our own are emptied by being named.
    yield from (":INPUT DROP [0:0]", ":OUTPUT DROP [0:0]", f":{IN} - [0:0]", f":{OUT} - [0:0]")
    for built_in, chain in (("INPUT", IN), ("OUTPUT", OUT)):
        # Loaded a second time, the jump stands there twice: a packet that our chain left undecided only asks it again.
        yield f"-A {built_in} -j {chain}"
    icmp, types = ("icmp --icmp-type", _ICMP4) if version == 4 else ("icmpv6 --icmpv6-type", _ICMP6)
    for direction, chain, loopback in ((Direction.INGRESS, IN, "-i lo"), (Direction.EGRESS, OUT, "-o lo")):
        yield f"-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        yield f"-A {chain} -m conntrack --ctstate INVALID -j DROP"
        yield f"-A {chain} {loopback} -j ACCEPT"
        for kind in types:
            yield f"-A {chain} -p {icmp} {kind} -j ACCEPT"
        for opening in needed:
            if opening.direction is direction:
                yield from _rules(opening, chain, version)
    yield "COMMIT"


def _rules(opening: Opening, chain: str, version: int) -> Iterator[str]:
    side = "-s" if opening.direction is Direction.INGRESS else "-d"
    transport = opening.transport.value
    comment = shorten(opening.purpose, COMMENT).replace('"', "'").replace("\\", "/")
    for network in by_family(opening.peer.addresses)[0 if version == 4 else 1]:
        for match in _matches(opening.ports, transport):
            yield f'-A {chain} {side} {network} -p {transport}{match} -m comment --comment "{comment}" -j ACCEPT'


def _matches(ranges: tuple[PortRange, ...], transport: str) -> Iterator[str]:
    if ALL_PORTS in ranges:
        yield f" -m {transport}"
        return
    if len(ranges) == 1:
        yield f" -m {transport} --dport {_ports(ranges[0])}"
        return
    batch: list[PortRange] = []
    room = MULTIPORT
    for item in ranges:
        cost = 1 if len(item) == 1 else 2
        if cost > room:
            yield f" -m multiport --dports {','.join(map(_ports, batch))}"
            batch, room = [], MULTIPORT
        batch.append(item)
        room -= cost
    yield f" -m multiport --dports {','.join(map(_ports, batch))}"


def _ports(item: PortRange) -> str:
    return str(item.first) if len(item) == 1 else f"{item.first}:{item.last}"

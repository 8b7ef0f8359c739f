"""iptables: chains of our own, restored without flushing anybody else's; one file for IPv4 and IPv6.

Syntax: iptables-restore(8), iptables-extensions(8). Lines between `# IPv4` and `# IPv6` go to `iptables-restore
--noflush`, the rest to `ip6tables-restore --noflush`; the header of the text says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network import catalogue
from quorate.network.flows import Direction, Role
from quorate.network.plan import Plan
from quorate.network.rules import Rendered
from quorate.network.rules.openings import (
    Opening,
    by_family,
    left_out,
    openings,
    shorten,
    slug,
    warning,
    without_addresses,
)

IN, OUT = "QUORATE-IN", "QUORATE-OUT"
#: XT_EXTENSION_MAXNAMELEN is 29 with the closing NUL.
CHAIN = 28
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
    # MLD's query, reports and done have no names here; behind switches that snoop, IPv6 has no neighbours without it.
    *("130", "131", "132", "143"),
)
#: A lease that cannot be renewed takes the machine off the network hours after these rules were loaded. IPv4's answers
#: are established traffic; IPv6 asks a multicast group, which conntrack does not see answered (RFC 2131; RFC 8415).
(_, _CLIENT, _SERVER), (_, _CLIENT6, _SERVER6) = catalogue.DHCP
_ASKS = f"-p udp --sport {_CLIENT} --dport {_SERVER} -m comment --comment"
_ASKS6 = f"-d ff02::1:2/128 -p udp --sport {_CLIENT6} --dport {_SERVER6} -m comment --comment"
_ANSWERS6 = f"-s fe80::/10 -p udp --sport {_SERVER6} --dport {_CLIENT6} -m comment --comment"
_DHCP = {
    (4, Direction.EGRESS): f'{_ASKS} "DHCP: renewal of the machine\'s address"',
    (6, Direction.EGRESS): f'{_ASKS6} "DHCPv6: the address"',
    (6, Direction.INGRESS): f'{_ANSWERS6} "DHCPv6: answers"',
}


def render(plan: Plan, role: Role | None) -> Rendered:
    """Return both families' restore files in one text, IPv4 first."""
    needed = openings(plan, role)
    lines = [
        f"# {shorten(plan.name, COMMENT)}: flows of a machine with role {role}.",
        *warning(plan, role),
        "# Load: sed '/^# IPv6$/,$d' FILE | iptables-restore --noflush",
        "#  and: sed '1,/^# IPv6$/d' FILE | ip6tables-restore --noflush",
        "# IPv4",
        *_family(needed, 4),
        "# IPv6",
        *_family(needed, 6),
    ]
    return Rendered("\n".join(lines) + "\n", (*left_out(plan, role), *without_addresses(needed, "iptables")))


def _family(needed: tuple[Opening, ...], version: int) -> Iterator[str]:
    inner = dict.fromkeys(_chain(opening) for opening in needed if _chain(opening) and _networks(opening, version))
    yield "*filter"
    # The built-in chains are named with their policy, our own are emptied by being named.
    yield from (":INPUT DROP [0:0]", ":OUTPUT DROP [0:0]")
    yield from (f":{chain} - [0:0]" for chain in (IN, OUT, *inner))
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
        if dhcp := _DHCP.get((version, direction)):
            yield f"-A {chain} {dhcp} -j ACCEPT"
        jumps: set[str] = set()
        for opening in needed:
            if opening.direction is direction and _networks(opening, version):
                yield from _rules(opening, chain, version, jumps)
    yield "COMMIT"


def _networks(opening: Opening, version: int) -> tuple[str, ...]:
    return by_family(opening.peer.addresses)[0 if version == 4 else 1]


def _chain(opening: Opening) -> str:
    """Return the chain of a peer with several addresses: a packet is compared with them once, not for each opening."""
    if len(opening.peer.addresses) < 2:
        return ""
    name = f"{IN if opening.direction is Direction.INGRESS else OUT}-{slug(opening.peer.key)}"
    if len(name) <= CHAIN:
        return name
    return f"{name[: CHAIN - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _rules(opening: Opening, chain: str, version: int, jumps: set[str]) -> Iterator[str]:
    side = "-s" if opening.direction is Direction.INGRESS else "-d"
    transport = opening.transport.value
    accept = f"-m comment --comment {_quoted(opening.purpose)} -j ACCEPT"
    inner = _chain(opening)
    if inner and inner not in jumps:
        jumps.add(inner)
        comment = _quoted(opening.peer.key)
        for network in _networks(opening, version):
            yield f"-A {chain} {side} {network} -m comment --comment {comment} -j {inner}"
    for match in _matches(opening.ports, transport):
        if inner:
            yield f"-A {inner} -p {transport}{match} {accept}"
        else:
            for network in _networks(opening, version):
                yield f"-A {chain} {side} {network} -p {transport}{match} {accept}"


def _quoted(text: str) -> str:
    return '"' + shorten(text, COMMENT).replace('"', "'").replace("\\", "/") + '"'


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

"""nftables: one table of our own with two chains, loaded atomically; nothing else on the machine is touched.

Syntax and semantics: nft(8). The table replaces itself, so loading the file again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

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

TABLE = "quorate_host"
#: A comment holds 128 bytes with its closing NUL (NFTNL_UDATA_COMMENT_MAXLEN).
COMMENT = 120
#: A set's name may have 31 characters in older kernels (NFT_SET_MAXNAMELEN), a number behind it included.
_SET_NAME = 26

#: Without these IPv6 has no neighbours (behind switches that snoop, none without MLD) and no path MTU, and IPv4 no path
#: MTU (RFC 4890, section 4.4; RFC 1191).
_ICMP = (
    "icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } accept",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, "
    "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, "
    "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept",
)
#: A lease that cannot be renewed takes the machine off the network hours after these rules were loaded. IPv4's answers
#: are established traffic; IPv6 asks a multicast group, which conntrack does not see answered (RFC 2131; RFC 8415).
(_, _CLIENT, _SERVER), (_, _CLIENT6, _SERVER6) = catalogue.DHCP
_ASKS = f"udp sport {_CLIENT} udp dport {_SERVER}"
_ASKS6, _ANSWERS6 = f"udp sport {_CLIENT6} udp dport {_SERVER6}", f"udp sport {_SERVER6} udp dport {_CLIENT6}"
_DHCP = {
    Direction.INGRESS: (f'ip6 saddr fe80::/10 {_ANSWERS6} accept comment "DHCPv6: answers"',),
    Direction.EGRESS: (
        f'meta nfproto ipv4 {_ASKS} accept comment "DHCP: renewal of the machine\'s address"',
        f'ip6 daddr ff02::1:2 {_ASKS6} accept comment "DHCPv6: the machine\'s address"',
    ),
}


def render(plan: Plan, role: Role | None) -> Rendered:
    """Return a file for `nft -f`: default drop both ways, established and loopback traffic, and the plan's openings."""
    needed = openings(plan, role)
    sets = _sets(needed)
    lines = [
        f"# {shorten(plan.name, COMMENT)}: flows of a machine with role {role}; load with: nft -f FILE",
        *warning(plan, role),
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *(line for networks, name in sets.items() for line in _declared(name, networks)),
    ]
    for direction, chain, hook, loopback in (
        (Direction.INGRESS, "inbound", "input", "iifname"),
        (Direction.EGRESS, "outbound", "output", "oifname"),
    ):
        lines += [
            f"    chain {chain} {{",
            f"        type filter hook {hook} priority filter; policy drop;",
            "        ct state vmap { established : accept, related : accept, invalid : drop }",
            f'        {loopback} "lo" accept',
            *(f"        {rule}" for rule in (*_ICMP, *_DHCP[direction])),
        ]
        for opening in needed:
            if opening.direction is direction:
                lines += [f"        {rule}" for rule in _rules(opening, sets)]
        lines.append("    }")
    lines.append("}")
    return Rendered("\n".join(lines) + "\n", (*left_out(plan, role), *without_addresses(needed, "nftables")))


def _sets(needed: Sequence[Opening]) -> dict[tuple[str, ...], str]:
    """Return a name for each list of several addresses that more than one rule is about: it is written once."""
    uses: dict[tuple[str, ...], list[str]] = {}
    for opening in needed:
        for family, networks in zip(("v4", "v6"), by_family(opening.peer.addresses), strict=True):
            if len(networks) > 1:
                uses.setdefault(networks, []).append(f"{slug(opening.peer.key).replace('-', '_')}_{family}")
    shared = {networks: names[0][-_SET_NAME:] for networks, names in uses.items() if len(names) > 1}
    taken = Counter(shared.values())
    return {
        networks: name if taken[name] == 1 else f"{name}_{number}"
        for number, (networks, name) in enumerate(shared.items(), 1)
    }


def _declared(name: str, networks: tuple[str, ...]) -> list[str]:
    kind = "ipv6_addr" if ":" in networks[0] else "ipv4_addr"
    return [
        f"    set {name} {{",
        f"        type {kind}; flags interval",
        f"        elements = {_set(networks)}",
        "    }",
    ]


def _rules(opening: Opening, sets: Mapping[tuple[str, ...], str]) -> list[str]:
    side = "saddr" if opening.direction is Direction.INGRESS else "daddr"
    comment = shorten(opening.purpose, COMMENT).replace('"', "'")
    v4, v6 = by_family(opening.peer.addresses)
    match = f"{opening.transport.value} dport {ports(opening.ports)}"
    return [
        f"{family} {side} {'@' + sets[networks] if networks in sets else _set(networks)} {match} accept"
        f' comment "{comment}"'
        for family, networks in (("ip", v4), ("ip6", v6))
        if networks
    ]


def _set(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else "{ " + ", ".join(items) + " }"


def ports(ranges: Sequence[PortRange]) -> str:
    """Return ranges as nft writes them; all ports are 0-65535."""
    if ALL_PORTS in ranges:
        return str(ALL_PORTS)
    return _set([str(item) for item in ranges])

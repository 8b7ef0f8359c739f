"""nftables: one table of our own with two chains, loaded atomically; nothing else on the machine is touched.

Syntax and semantics: nft(8). The table replaces itself, so loading the file again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.flows import Direction, Role
from quorate.network.plan import Plan
from quorate.network.rules import Rendered
from quorate.network.rules.openings import Opening, by_family, left_out, openings, shorten, without_addresses

TABLE = "quorate_host"
#: A comment holds 128 bytes with its closing NUL (NFTNL_UDATA_COMMENT_MAXLEN).
COMMENT = 120

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
_DHCP = {
    Direction.INGRESS: ('ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment "DHCPv6: answers"',),
    Direction.EGRESS: (
        'meta nfproto ipv4 udp sport 68 udp dport 67 accept comment "DHCP: renewal of the machine\'s address"',
        'ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept comment "DHCPv6: the machine\'s address"',
    ),
}


def render(plan: Plan, role: Role | None) -> Rendered:
    """Return a file for `nft -f`: default drop both ways, established and loopback traffic, and the plan's openings."""
    needed = openings(plan, role)
    lines = [
        f"# {shorten(plan.name, COMMENT)}: flows of a machine with role {role}; load with: nft -f FILE",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
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
                lines += [f"        {rule}" for rule in _rules(opening)]
        lines.append("    }")
    lines.append("}")
    return Rendered("\n".join(lines) + "\n", (*left_out(plan, role), *without_addresses(needed, "nftables")))


def _rules(opening: Opening) -> list[str]:
    side = "saddr" if opening.direction is Direction.INGRESS else "daddr"
    comment = shorten(opening.purpose, COMMENT).replace('"', "'")
    v4, v6 = by_family(opening.peer.addresses)
    match = f"{opening.transport.value} dport {ports(opening.ports)}"
    return [
        f'{family} {side} {_set(networks)} {match} accept comment "{comment}"'
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

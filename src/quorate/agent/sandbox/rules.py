"""The nftables rules of a sandbox and a hub, as text for `nft -f`; no table of others is touched.

Syntax and semantics: nft(8). The bridge family of small kernels knows neither ct, reject nor ibrname, so none is used.
"""

from collections.abc import Iterable, Iterator

from quorate.agent.sandbox import names
from quorate.agent.sandbox.spec import Egress, FlowRule, HubSpec, Mode, SandboxSpec
from quorate.network import catalogue
from quorate.network.flows import Direction

#: A comment holds 128 bytes with its closing NUL (NFTNL_UDATA_COMMENT_MAXLEN).
_COMMENT = 120
#: Distinct (peer, transport, port) that a sandbox, and a hub or the host for all of an allocation's members, remember
#: as refused. A scan fills it, which is told, and then what is refused is only counted.
_REFUSED = 4096
#: Addresses that the resolver of an allocation has let in at a time.
_RESOLVED = 65536
#: Questions to the resolver of an allocation, a second and at once: a job of hundreds of members that start together
#: needs no more, and a flood of them costs the agent nothing.
_QUESTIONS = "limit rate over 500/second burst 2000 packets"
#: Connections of an allocation to the outside at a time. They are in the machine's own table, too, which commonly holds
#: 262,144 (nf_conntrack_max): eight allocations leave half of it to everything else, the agent's own link included.
OUTSIDE_AT_ONCE = 16_384
_TRACKED = "ct state vmap { established : accept, related : accept, invalid : drop }"
REJECT = ("meta l4proto tcp counter reject with tcp reset", "counter reject with icmpx admin-prohibited")


def sandbox_rules(hub: HubSpec, sandbox: SandboxSpec) -> str:
    """What a member may open and who may open something to it: its plan inside the subnet; outside, the hub decides."""
    if sandbox.mode is Mode.OFF:
        return replaced("inet", names.TABLE, ())
    # Most flows are between all members, so most rules share one set.
    peers = {tuple(peer.address for peer in hub.peers): "members"}
    for rule in sandbox.rules:
        peers.setdefault(_group(rule), f"peers_{len(peers)}")
    policy = "drop" if sandbox.mode is Mode.ENFORCE else "accept"
    last = REJECT if sandbox.mode is Mode.ENFORCE else ("counter accept",)
    lines = [
        *(line for group, name in peers.items() for line in address_set(name, group)),
        *refused_set(names.REFUSED_IN),
        *refused_set(names.REFUSED_OUT),
        "chain inbound {",
        f"type filter hook input priority filter; policy {policy};",
        'iifname "lo" accept',
        _TRACKED,
        "ip saddr @members icmp type { echo-request, destination-unreachable, time-exceeded } accept",
        *_flows(sandbox.rules, Direction.INGRESS, peers),
        f"meta l4proto {{ tcp, udp }} update @{names.REFUSED_IN} {{ ip saddr . meta l4proto . th dport counter }}",
        *last,
        "}",
        "chain outbound {",
        f"type filter hook output priority filter; policy {policy};",
        'oifname "lo" accept',
        _TRACKED,
        f"ip daddr != {hub.subnet} accept",
        *_resolver(hub, f"ip daddr {hub.gateway}", "accept"),
        "ip daddr @members icmp type { echo-request, destination-unreachable, time-exceeded } accept",
        *_flows(sandbox.rules, Direction.EGRESS, peers),
        f"meta l4proto {{ tcp, udp }} update @{names.REFUSED_OUT} {{ ip daddr . meta l4proto . th dport counter }}",
        *last,
        "}",
    ]
    return replaced("inet", names.TABLE, lines)


def hub_rules(hub: HubSpec) -> str:
    """Nobody speaks but the members, each with its own MAC and address from its own port; outside by egress alone."""
    allocation = hub.allocation
    local = [
        f'"{names.port(rank)}" . {names.mac(allocation, rank)} . {peer.address}' for rank, peer in hub.local.items()
    ]
    remote = [f"{names.mac(allocation, rank)} . {peer.address}" for rank, peer in hub.remote.items()]
    here = [names.mac(allocation, rank) for rank in hub.local]
    bridge = [
        *typed_set(names.LOCAL, "typeof iifname . ether saddr . ip saddr", local),
        *typed_set("remote", "typeof ether saddr . ip saddr", remote),
        *typed_set("here", "type ether_addr", here),
        "chain ingress {",
        # Only IPv4 is named, so ARP, IPv6 and everything else falls: neighbours are permanent, nothing need be asked.
        "type filter hook prerouting priority filter; policy drop;",
        f"ether type ip iifname . ether saddr . ip saddr @{names.LOCAL} accept",
        f'iifname "{names.VXLAN}" ether type ip ether saddr . ip saddr @remote ether daddr @here accept',
        f'counter comment "{names.SPOOFED}"',
        "}",
    ]
    outside = f'iifname "{names.BRIDGE}" oifname "{names.UPLINK}"'
    at_gateway = f'iifname "{names.BRIDGE}" ip daddr {hub.gateway}'
    inet = [
        *address_set("unreachable", hub.unreachable),
        *address_set("allowed", hub.allowed),
        *_bounded_set(names.RESOLVED, "type ipv4_addr", _RESOLVED, "dynamic, timeout"),
        *_outside_set(names.FORBIDDEN),
        *_outside_set(names.UNNAMED),
        "chain inbound {",
        "type filter hook input priority filter; policy drop;",
        # Before the tracked ones: a flood may come from a single port.
        *_resolver(hub, at_gateway, f'{_QUESTIONS} counter drop comment "{names.HASTY}"'),
        _TRACKED,
        *_resolver(hub, at_gateway, "accept"),
        *(f'iifname "{names.BRIDGE}" {rule}' for rule in REJECT),
        "}",
        f"chain {names.CROWDED} {{",
        *REJECT,
        "}",
        "chain through {",
        "type filter hook forward priority filter; policy drop;",
        _TRACKED,
        f'{outside} ct count over {OUTSIDE_AT_ONCE} counter goto {names.CROWDED} comment "{names.CROWDED}"',
        *(f'{outside} ip daddr {to} tcp dport {port} counter accept comment "API"' for to, port in hub.api),
        *_refusing(f"{outside} ip daddr @unreachable", names.FORBIDDEN),
        *_egress(hub, outside),
        "}",
        "chain leaving {",
        "type nat hook postrouting priority srcnat; policy accept;",
        f'oifname "{names.UPLINK}" masquerade',
        "}",
    ]
    return replaced("bridge", names.TABLE, bridge) + replaced("inet", names.TABLE, inet)


# --- what the host's rules are written with, too ---------------------------------------------------------------------


def replaced(family: str, table: str, lines: Iterable[str]) -> str:
    # Declared before it is deleted: deleting a table that is not there fails the whole transaction.
    body = list(lines)
    start = f"table {family} {table}\ndelete table {family} {table}\n"
    return start + ("\n".join([f"table {family} {table} {{", *body, "}", ""]) if body else "")


def _flows(rules: Iterable[FlowRule], direction: Direction, peers: dict[tuple[str, ...], str]) -> Iterator[str]:
    side = "saddr" if direction is Direction.INGRESS else "daddr"
    for rule in rules:
        if rule.direction is direction:
            ports = ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in rule.ports)
            yield (
                f"ip {side} @{peers[_group(rule)]} {rule.transport.value} dport {{ {ports} }} counter accept "
                f'comment "{_comment(rule)}"'
            )


def _resolver(hub: HubSpec, match: str, verdict: str) -> Iterator[str]:
    """The allocation's own DNS, on the hub's address."""
    if hub.egress is not Egress.NONE:
        yield f"{match} meta l4proto {{ tcp, udp }} th dport {catalogue.port('dns')} {verdict}"


def _egress(hub: HubSpec, outside: str) -> Iterator[str]:
    if hub.egress is Egress.ALL:
        yield f'{outside} counter accept comment "egress"'
    if hub.egress is Egress.NAMED:
        for known in ("allowed", names.RESOLVED):
            yield f'{outside} ip daddr @{known} counter accept comment "egress"'
        yield from _refusing(outside, names.UNNAMED)


def _refusing(match: str, why: str) -> Iterator[str]:
    tried = "ip saddr . ip daddr . meta l4proto . th dport"
    yield f"{match} meta l4proto {{ tcp, udp }} update @{why} {{ {tried} counter }}"
    yield from (f"{match} {rule}" for rule in REJECT)


def _group(rule: FlowRule) -> tuple[str, ...]:
    return tuple(peer.removesuffix("/32") for peer in rule.peers)


def _comment(rule: FlowRule) -> str:
    # The id comes first and whole: counters are read back by it.
    text = f"{rule.flow}: {rule.purpose}" if rule.purpose else rule.flow
    plain = "".join(char if char.isprintable() and char not in '"\\' else " " for char in text)
    return plain.encode()[:_COMMENT].decode(errors="ignore")


def address_set(name: str, elements: Iterable[str], kind: str = "ipv4_addr") -> list[str]:
    return typed_set(name, f"type {kind}; flags interval; auto-merge", elements)


def refused_set(name: str, family: str = "ip") -> list[str]:
    """The set of what was refused: with whom, over which transport, at which port."""
    address = "ipv4_addr" if family == "ip" else "ipv6_addr"
    return _bounded_set(name, f"type {address} . inet_proto . inet_service", _REFUSED, "dynamic")


def typed_set(name: str, kind: str, elements: Iterable[str]) -> list[str]:
    listed = ", ".join(elements)
    return [f"set {name} {{", f"{kind};", *([f"elements = {{ {listed} }}"] if listed else []), "}"]


def _outside_set(name: str) -> list[str]:
    return _bounded_set(name, "type ipv4_addr . ipv4_addr . inet_proto . inet_service", _REFUSED, "dynamic")


def _bounded_set(name: str, kind: str, size: int, flags: str) -> list[str]:
    return [f"set {name} {{", f"{kind}; size {size}; flags {flags};", "}"]

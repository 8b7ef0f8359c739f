"""The nftables rules of a sandbox, a hub and the host, as text for `nft -f`; no table of others is touched.

Syntax and semantics: nft(8). The bridge family of small kernels knows neither ct, reject nor ibrname, so none is used.
"""

from collections.abc import Iterable, Iterator

from quorate.agent.sandbox import names
from quorate.agent.sandbox.spec import LAST_UID, Egress, FlowRule, HostSpec, HubSpec, Mode, SandboxSpec
from quorate.network import catalogue
from quorate.network.flows import Direction

#: A comment holds 128 bytes with its closing NUL (NFTNL_UDATA_COMMENT_MAXLEN).
_COMMENT = 120
#: Distinct (peer, transport, port) that a sandbox remembers as refused; a scan fills it and no more.
_REFUSED = 4096
#: Addresses that the resolver of an allocation has let in at a time.
_RESOLVED = 65536
#: Questions to the resolver of an allocation, a second and at once: a job of hundreds of members that start together
#: needs no more, and a flood of them costs the agent nothing.
_QUESTIONS = "limit rate over 500/second burst 2000 packets"
_TRACKED = "ct state vmap { established : accept, related : accept, invalid : drop }"
_REJECT = ("meta l4proto tcp counter reject with tcp reset", "counter reject with icmpx admin-prohibited")


def sandbox_rules(hub: HubSpec, sandbox: SandboxSpec) -> str:
    """What a member may open and who may open something to it: its plan inside the subnet; outside, the hub decides."""
    if sandbox.mode is Mode.OFF:
        return _replaced("inet", names.TABLE, ())
    # Most flows are between all members, so most rules share one set.
    peers = {tuple(peer.address for peer in hub.peers): "members"}
    for rule in sandbox.rules:
        peers.setdefault(_group(rule), f"peers_{len(peers)}")
    policy = "drop" if sandbox.mode is Mode.ENFORCE else "accept"
    last = _REJECT if sandbox.mode is Mode.ENFORCE else ("counter accept",)
    lines = [
        *(line for group, name in peers.items() for line in _set(name, group)),
        *_refused_set("refused_in"),
        *_refused_set("refused_out"),
        "chain inbound {",
        f"type filter hook input priority filter; policy {policy};",
        'iifname "lo" accept',
        _TRACKED,
        "ip saddr @members icmp type { echo-request, destination-unreachable, time-exceeded } accept",
        *_flows(sandbox.rules, Direction.INGRESS, peers),
        "meta l4proto { tcp, udp } update @refused_in { ip saddr . meta l4proto . th dport counter }",
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
        "meta l4proto { tcp, udp } update @refused_out { ip daddr . meta l4proto . th dport counter }",
        *last,
        "}",
    ]
    return _replaced("inet", names.TABLE, lines)


def hub_rules(hub: HubSpec) -> str:
    """Nobody speaks but the members, each with its own MAC and address from its own port; outside by egress alone."""
    allocation = hub.allocation
    local = [
        f'"{names.port(rank)}" . {names.mac(allocation, rank)} . {peer.address}' for rank, peer in hub.local.items()
    ]
    remote = [f"{names.mac(allocation, rank)} . {peer.address}" for rank, peer in hub.remote.items()]
    here = [names.mac(allocation, rank) for rank in hub.local]
    bridge = [
        *_typed_set("local", "typeof iifname . ether saddr . ip saddr", local),
        *_typed_set("remote", "typeof ether saddr . ip saddr", remote),
        *_typed_set("here", "type ether_addr", here),
        "chain ingress {",
        # Only IPv4 is named, so ARP, IPv6 and everything else falls: neighbours are permanent, nothing need be asked.
        "type filter hook prerouting priority filter; policy drop;",
        "ether type ip iifname . ether saddr . ip saddr @local accept",
        f'iifname "{names.VXLAN}" ether type ip ether saddr . ip saddr @remote ether daddr @here accept',
        'counter comment "spoofed"',
        "}",
    ]
    outside = f'iifname "{names.BRIDGE}" oifname "{names.UPLINK}"'
    inet = [
        *_set("unreachable", hub.unreachable),
        *_set("allowed", hub.allowed),
        *_bounded_set(names.RESOLVED, "type ipv4_addr", _RESOLVED, "dynamic, timeout"),
        "chain inbound {",
        "type filter hook input priority filter; policy drop;",
        # Before the tracked ones: a flood may come from a single port.
        *_resolver(hub, f'iifname "{names.BRIDGE}" ip daddr {hub.gateway}', f"{_QUESTIONS} counter drop"),
        _TRACKED,
        *_resolver(hub, f'iifname "{names.BRIDGE}" ip daddr {hub.gateway}', "accept"),
        *(f'iifname "{names.BRIDGE}" {rule}' for rule in _REJECT),
        "}",
        "chain through {",
        "type filter hook forward priority filter; policy drop;",
        _TRACKED,
        *(f'{outside} ip daddr {to} tcp dport {port} counter accept comment "API"' for to, port in hub.api),
        *(f'{outside} ip daddr @unreachable {rule} comment "forbidden"' for rule in _REJECT),
        *_egress(hub, outside),
        "}",
        "chain leaving {",
        "type nat hook postrouting priority srcnat; policy accept;",
        f'oifname "{names.UPLINK}" masquerade',
        "}",
    ]
    return _replaced("bridge", names.TABLE, bridge) + _replaced("inet", names.TABLE, inet)


def host_rules(host: HostSpec, uplinks: str) -> str:
    """The host's own four things: VXLAN in from agents alone (and out from the kernel alone), uplinks' forward, and
    that members in the host's network do not reach the cloud's metadata.

    No rule accepts what another table drops; none drops what is not ours.
    """
    uplink = f"{names.UPLINK_PREFIX}*"
    port = host.vxlan_port
    vxlan_in = [
        f'udp dport {port} ip saddr != @agents counter drop comment "forged VXLAN"',
        f'udp dport {port} ip6 saddr != @agents6 counter drop comment "forged VXLAN"',
    ]
    # The kernel's own VXLAN socket has no owner, so this does not match it; every socket of a process has one.
    vxlan_out = [f'udp dport {port} meta skuid 0-{LAST_UID} counter drop comment "forged VXLAN"']
    lines = [
        *_set("agents", [agent for agent in host.agents if ":" not in agent]),
        *_set("agents6", [agent for agent in host.agents if ":" in agent], "ipv6_addr"),
        *_typed_set("chosen", "type uid", map(str, host.chosen)),
        "chain inbound {",
        "type filter hook input priority filter; policy accept;",
        *(vxlan_in if port else ()),
        f'iifname "{uplink}" ct state established,related accept',
        *(f'iifname "{uplink}" {rule} comment "member to host"' for rule in _REJECT),
        "}",
        "chain outbound {",
        "type filter hook output priority filter; policy accept;",
        *(vxlan_out if port else ()),
        *_without_metadata(host),
        "}",
        "chain through {",
        "type filter hook forward priority filter; policy accept;",
        f'iifname "{uplink}" oifname "{uplink}" counter drop comment "allocation to allocation"',
        *([f'iifname "{uplink}" udp dport {port} counter drop comment "forged VXLAN"'] if port else ()),
        f'oifname "{uplink}" ct state established,related accept',
        f'oifname "{uplink}" counter drop comment "outside to member"',
        "}",
        "chain leaving {",
        "type nat hook postrouting priority srcnat; policy accept;",
        f'ip saddr {uplinks} oifname != "{uplink}" masquerade',
        "}",
    ]
    return _replaced("inet", names.TABLE, lines)


def _without_metadata(host: HostSpec) -> Iterator[str]:
    """Names and time are left alone: some clouds answer those at the very same address."""
    members = ["@chosen"] if host.chosen else []
    if host.users is not None:
        members.append(f"{host.users[0]}-{host.users[1]}")
    for family in ("ip", "ip6"):
        found = [address for address in catalogue.METADATA_ADDRESSES if (":" in address) is (family == "ip6")]
        for member in members:
            where = f"meta skuid {member} {family} daddr {{ {', '.join(found)} }}"
            yield f'{where} tcp dport != {catalogue.port("dns-tcp")} counter reject with tcp reset comment "metadata"'


def _replaced(family: str, table: str, lines: Iterable[str]) -> str:
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
        yield from (f'{outside} {rule} comment "unnamed"' for rule in _REJECT)


def _group(rule: FlowRule) -> tuple[str, ...]:
    return tuple(peer.removesuffix("/32") for peer in rule.peers)


def _comment(rule: FlowRule) -> str:
    # The id comes first and whole: counters are read back by it.
    text = f"{rule.flow}: {rule.purpose}" if rule.purpose else rule.flow
    plain = "".join(char if char.isprintable() and char not in '"\\' else " " for char in text)
    return plain.encode()[:_COMMENT].decode(errors="ignore")


def _set(name: str, elements: Iterable[str], kind: str = "ipv4_addr") -> list[str]:
    return _typed_set(name, f"type {kind}; flags interval; auto-merge", elements)


def _typed_set(name: str, kind: str, elements: Iterable[str]) -> list[str]:
    listed = ", ".join(elements)
    return [f"set {name} {{", f"{kind};", *([f"elements = {{ {listed} }}"] if listed else []), "}"]


def _refused_set(name: str) -> list[str]:
    return _bounded_set(name, "type ipv4_addr . inet_proto . inet_service", _REFUSED, "dynamic")


def _bounded_set(name: str, kind: str, size: int, flags: str) -> list[str]:
    return [f"set {name} {{", f"{kind}; size {size}; flags {flags};", "}"]

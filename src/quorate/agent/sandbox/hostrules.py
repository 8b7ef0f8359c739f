"""The host's own table, as text for `nft -f`: for overlays and uplinks, and for members of the host's network.

No rule accepts what another table drops; none drops what is not ours.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from quorate.agent.sandbox import names, nft
from quorate.agent.sandbox.rules import REJECT, address_set, refused_set, replaced, typed_set
from quorate.agent.sandbox.spec import LAST_UID, HostMembers, HostSpec, Mode
from quorate.network import catalogue
from quorate.network.flows import Transport

_LOOPBACK = (("ip", "127.0.0.0/8"), ("ip6", "::1"))
#: Machines' own services listen below; on the host's network no member can.
_FIRST_UNPRIVILEGED = 1024
_FAMILIES = ("ip", "ip6")


def host_rules(host: HostSpec, uplinks: str) -> str:
    """VXLAN in from agents alone (and out from the kernel alone), uplinks' forward, and the members in the host's
    network: kept from the cloud's metadata, and each allocation to its own flows and ports."""
    uplink = f"{names.UPLINK_PREFIX}*"
    port = host.vxlan_port
    vxlan_in = [
        f'udp dport {port} ip saddr != @agents counter drop comment "forged VXLAN"',
        f'udp dport {port} ip6 saddr != @agents6 counter drop comment "forged VXLAN"',
    ]
    # The kernel's own VXLAN socket has no owner, so this does not match it; every socket of a process has one.
    vxlan_out = [f'udp dport {port} meta skuid 0-{LAST_UID} counter drop comment "forged VXLAN"']
    lines = [
        *_both_families("agents", host.agents),
        *typed_set("chosen", "type uid", map(str, host.chosen)),
        *_members_chains(host.members),
        "chain inbound {",
        "type filter hook input priority filter; policy accept;",
        *(vxlan_in if port else ()),
        f'iifname "{uplink}" ct state established,related accept',
        *(f'iifname "{uplink}" {rule} comment "member to host"' for rule in REJECT),
        *_to_leased(host.members),
        "}",
        "chain outbound {",
        "type filter hook output priority filter; policy accept;",
        *(vxlan_out if port else ()),
        # First, for the metadata is none of what these accept, and they tell whose packet it was.
        *_from_users(host.members),
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
    return replaced("inet", names.TABLE, lines)


def carried(before: Iterable[nft.Item], host: HostSpec) -> str:
    """What the table had counted as refused, for those of its sets that the new one has: it is loaded anew whenever
    anybody comes or goes. `before`: what it holds, of which nothing is believed but addresses, ports and numbers.
    """
    sets = {name: family for members in host.members for name, family in _refused_sets(members)}
    lines = []
    for found in (item["set"] for item in before if "set" in item):
        for element in found.get("elem", ()) if found["name"] in sets else ():
            # Whoever has changed the set must not keep the rules from being loaded.
            with suppress(KeyError, TypeError, ValueError):
                counted = _counted(element["elem"], sets[found["name"]])
                lines.append(f"add element inet {names.TABLE} {found['name']} {{ {counted} }}\n")
    return "".join(lines)


def _counted(element: nft.Item, family: str) -> str:
    """Raises KeyError, TypeError or ValueError for what is no element of such a set."""
    peer, transport, port = element["val"]["concat"]
    address = IPv4Address(peer) if family == "ip" else IPv6Address(peer)
    packets, size = (int(element["counter"][what]) for what in ("packets", "bytes"))
    return f"{address} . {Transport(transport).value} . {int(port)} counter packets {packets} bytes {size}"


def _without_metadata(host: HostSpec) -> Iterator[str]:
    """Names and time are left alone: some clouds answer those at the very same address."""
    members = ["@chosen"] if host.chosen else []
    if host.users is not None:
        members.append(f"{host.users[0]}-{host.users[1]}")
    for metadata in _metadata():
        for member in members:
            yield f'meta skuid {member} {metadata} counter reject with tcp reset comment "metadata"'


def _metadata() -> Iterator[str]:
    for family, found in _by_family(catalogue.METADATA_ADDRESSES):
        yield f"{family} daddr {{ {', '.join(found)} }} tcp dport != {catalogue.port('dns-tcp')}"


# --- members of the host's network -----------------------------------------------------------------------------------


def _members_chains(everybody: tuple[HostMembers, ...]) -> Iterator[str]:
    if not everybody:
        return
    leased = sorted(port for members in everybody for port in members.leased)
    yield from typed_set("leased", "type inet_service", map(str, leased))
    yield from _both_families("machines", dict.fromkeys(one for members in everybody for one in members.forbidden))
    for number, members in enumerate(everybody):
        if members.mode is Mode.OFF:
            continue
        for name, family in _refused_sets(members):
            yield from refused_set(name, family)
        if members.users:
            yield from _flows_sets(number, members)
            yield from (f"chain from_{number} {{", *_outbound(number, members), "}")
        if members.leased:
            yield from (f"chain to_{number} {{", *_inbound(members), "}")


def _refused_sets(members: HostMembers) -> Iterator[tuple[str, str]]:
    """Names of its sets, each with the family of its addresses."""
    if members.mode is Mode.OFF:
        return
    for which, is_needed in ((names.REFUSED_IN, members.leased), (names.REFUSED_OUT, members.users)):
        for family in _FAMILIES if is_needed else ():
            yield names.on_host(which, family, members.allocation), family


def _to_leased(everybody: tuple[HostMembers, ...]) -> Iterator[str]:
    """Whose ports are leased decides who reaches them; on this machine itself, the rules of who asks do."""
    ways = [
        f"{port} : jump to_{number}"
        for number, members in enumerate(everybody)
        if members.mode is not Mode.OFF
        for port in sorted(members.leased)
    ]
    if ways:
        yield f'iifname != "lo" ct state new tcp dport vmap {{ {", ".join(ways)} }}'


def _inbound(members: HostMembers) -> Iterator[str]:
    for family, found in _by_family(members.machines):
        yield f"{family} saddr {{ {', '.join(found)} }} return"
    yield from _refused(members, names.REFUSED_IN, "", f"leased to {members.allocation}")


def _from_users(everybody: tuple[HostMembers, ...]) -> Iterator[str]:
    ways = [
        f"{uid} : jump from_{number}"
        for number, members in enumerate(everybody)
        if members.mode is not Mode.OFF
        for uid in members.users
    ]
    if ways:
        yield f"meta skuid vmap {{ {', '.join(ways)} }}"


def _outbound(number: int, members: HostMembers) -> Iterator[str]:
    """What its user may open on this machine and on others of the cluster; everything else outside is its egress."""
    # What others opened, and names, are let through; a ping is no way into a machine.
    yield from (
        "ct state established,related accept",
        f"meta l4proto {{ tcp, udp }} th dport {catalogue.port('dns')} accept",
    )
    yield "meta l4proto { icmp, icmpv6 } accept"
    for network, port in members.api:
        yield f'{_family(network)} daddr {network} tcp dport {port} counter accept comment "API"'
    for family, _ in _by_family(address for address, _ in members.flows):
        yield f'{family} daddr . tcp dport @flows_{number}{family[2:]} counter accept comment "members"'
    if members.leased:
        yield f'oifname "lo" tcp dport {{ {", ".join(map(str, sorted(members.leased)))} }} counter accept'
    yield from _refused(members, names.REFUSED_OUT, 'oifname "lo" tcp dport @leased', "another allocation's port")
    for family, found in _by_family(members.machines):
        for transport, first, last in members.ranges:
            where = f"{family} daddr {{ {', '.join(found)} }} {transport.value} dport {first}-{last}"
            yield f'{where} counter accept comment "members"'
    privileged = f'oifname "lo" meta l4proto {{ tcp, udp }} th dport < {_FIRST_UNPRIVILEGED}'
    yield from _refused(members, names.REFUSED_OUT, privileged, "this machine")
    # Within one machine, programs talk to themselves by loopback: which is whose, no rule can tell.
    yield from (f"{family} daddr {network} accept" for family, network in _LOOPBACK)
    for family in _FAMILIES:
        yield from _refused(members, names.REFUSED_OUT, f"{family} daddr @machines{family[2:]}", "machines", family)
    # What is refused to every user of an allocation, in whatever mode.
    for family, metadata in zip(_FAMILIES, _metadata(), strict=True):
        yield _noted(members, names.REFUSED_OUT, metadata, family)


def _refused(members: HostMembers, which: str, where: str, what: str, *families: str) -> Iterator[str]:
    """`which`: the set that remembers it. `families`: of `where`, which is of both where none is named."""
    for family in families or _FAMILIES:
        yield _noted(members, which, where, family)
    if members.mode is Mode.OBSERVE:
        yield f'{where} counter comment "would be refused: {what}"'
    else:
        yield from (f'{where} {rule} comment "{what}"' for rule in REJECT)


def _noted(members: HostMembers, which: str, where: str, family: str) -> str:
    end = "saddr" if which == names.REFUSED_IN else "daddr"
    tried = f"{family} {end} . meta l4proto . th dport"
    name = names.on_host(which, family, members.allocation)
    return f"{where} meta l4proto {{ tcp, udp }} update @{name} {{ {tried} counter }}"


def _flows_sets(number: int, members: HostMembers) -> Iterator[str]:
    for family, _ in _by_family(address for address, _ in members.flows):
        kind = "ipv4_addr" if family == "ip" else "ipv6_addr"
        found = [f"{address} . {port}" for address, port in members.flows if _family(address) == family]
        yield from typed_set(f"flows_{number}{family[2:]}", f"type {kind} . inet_service", found)


def _both_families(name: str, networks: Iterable[str]) -> Iterator[str]:
    known = tuple(networks)
    yield from address_set(name, [one for one in known if _family(one) == "ip"])
    yield from address_set(f"{name}6", [one for one in known if _family(one) == "ip6"], "ipv6_addr")


def _by_family(addresses: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    known = tuple(dict.fromkeys(addresses))
    for family in _FAMILIES:
        if found := tuple(one for one in known if _family(one) == family):
            yield family, found


def _family(text: str) -> str:
    return "ip6" if ":" in text else "ip"

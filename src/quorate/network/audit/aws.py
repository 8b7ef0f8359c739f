"""Reads what `aws ec2 describe-security-groups` prints.

Semantics: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html. Groups only allow; a machine has
the union of its groups' rules, also of those that the text lacks; they are stateful. Network ACLs are not in that list.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quorate.network import catalogue
from quorate.network.audit.documents import (
    MACHINES,
    carries,
    clamped,
    documents,
    is_wider,
    items,
    member,
    named,
    networks,
    not_misspelt,
    only,
    own_name,
    stating,
    unfiltered,
)
from quorate.network.audit.ruleset import OTHERS, Rule, Ruleset, Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, Outcome
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, PlannedFlow

HINT = "aws ec2 describe-security-groups"
_TCP, _UDP = Transport.TCP, Transport.UDP
#: "Security groups do not filter traffic destined to and from" Amazon's names, time and metadata on these addresses.
_SERVICES = networks(
    [
        *("169.254.169.253/32", "169.254.169.123/32", "169.254.169.254/32", "169.254.170.2/32"),
        *("fd00:ec2::253/128", "fd00:ec2::123/128", "fd00:ec2::254/128"),
    ],
    "",
)
#: A VPC's resolver is two above the first address of its CIDR, which holds 16 addresses at least.
_RESOLVER, _SMALLEST_VPC = 2, 16
_DOMAIN: Intervals = ((catalogue.ports("dns").first, catalogue.ports("dns").last),)
#: Of the EC2 API's shapes SecurityGroup, IpPermission and those within it.
GROUP_FIELDS = frozenset(
    {"GroupId", "GroupName", "Description", "IpPermissions", "IpPermissionsEgress"}
    | {"OwnerId", "SecurityGroupArn", "Tags", "VpcId"}
)
PERMISSION_FIELDS = frozenset(
    {"IpProtocol", "FromPort", "ToPort", "IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds"}
)
PEER_FIELDS = {
    "IpRanges": frozenset({"CidrIp", "Description"}),
    "Ipv6Ranges": frozenset({"CidrIpv6", "Description"}),
    "UserIdGroupPairs": frozenset(
        {"Description", "GroupId", "GroupName", "PeeringStatus", "UserId", "VpcId", "VpcPeeringConnectionId"}
    ),
    "PrefixListIds": frozenset({"PrefixListId", "Description"}),
}


@dataclass(frozen=True, slots=True)
class _Permission:
    rule: Rule
    group: str
    direction: Direction
    protocol: str
    ports: Intervals | None
    #: None where the peer is a group or a prefix list.
    peer: Intervals | None = None
    peer_group: str = ""
    prefix_list: str = ""
    #: What names it when it is revoked: all of it but the descriptions and the other peers.
    revoked: str = ""


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the group."""
    names: dict[str, str] = {}
    found: list[_Permission] = []
    for document in documents(text, HINT):
        if not isinstance(document, dict) or "SecurityGroups" not in document:
            raise Unreadable(f'it has no "SecurityGroups"; print it with: {HINT}')
        for body, place in items(document, "SecurityGroups", "$"):
            not_misspelt(body, GROUP_FIELDS, place)
            name = member(body, "GroupName", str, place, "")
            group = member(body, "GroupId", str, place, "") or name
            if not group:
                raise Unreadable("a security group has a GroupId", place)
            names[group] = name
            for key, direction in (("IpPermissions", Direction.INGRESS), ("IpPermissionsEgress", Direction.EGRESS)):
                for item, where in items(body, key, place):
                    found += _permissions(item, where, group, direction, len(found))
    return _Aws(names, tuple(found))


def _permissions(body: Any, place: str, group: str, direction: Direction, start: int) -> Iterator[_Permission]:
    only(body, PERMISSION_FIELDS, place)
    protocol = str(member(body, "IpProtocol", str, place, ""))
    if not protocol:
        raise Unreadable("a permission has an IpProtocol", place)
    first, last = member(body, "FromPort", int, place, -1), member(body, "ToPort", int, place, -1)
    every = carries(protocol, _TCP) and carries(protocol, _UDP)
    # Of other protocols, such as ICMP, the two members are no ports.
    has_ports = not every and (carries(protocol, _TCP) or carries(protocol, _UDP))
    if has_ports and (body.get("FromPort") is None or body.get("ToPort") is None):
        raise Unreadable(f"a permission for {protocol} has FromPort and ToPort", place)
    last, warning = clamped(first, last) if has_ports else (last, "")
    if has_ports and not -1 <= first <= last <= 65535:
        raise Unreadable(f"ports {first} to {last} are no range", place)
    ports: Intervals | None = ((first, last),) if has_ports and first >= 0 else None
    number = start
    for key, inner in (
        ("IpRanges", "CidrIp"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("UserIdGroupPairs", "GroupId"),
        ("PrefixListIds", "PrefixListId"),
    ):
        for item, where in items(body, key, place):
            number += 1
            only(item, PEER_FIELDS[key], where)
            peer = member(item, inner, str, where, "") or member(item, "GroupName", str, where, "")
            if not peer:
                raise Unreadable(f"it has no {inner}", where)
            shown = f"{direction.value} {protocol} {'all ports' if ports is None else f'{first}-{last}'} {peer}"
            name = f"{group} {direction.value} {number}"
            rule = Rule(name, f"{group}: {shown}", True, where, clamped=warning, wider=is_wider(protocol))
            base = (rule, group, direction, protocol, ports)
            ends = {name: body[name] for name in ("IpProtocol", "FromPort", "ToPort") if body.get(name) is not None}
            names = {name: item[name] for name in (inner, "GroupName", "UserId") if item.get(name)}
            if "GroupId" in names:
                names.pop("GroupName", None)
            revoked = json.dumps([{**ends, key: [names]}])
            if key in ("IpRanges", "Ipv6Ranges"):
                yield _Permission(*base, peer=networks([peer], where), revoked=revoked)
            elif key == "UserIdGroupPairs":
                yield _Permission(*base, peer_group=peer, revoked=revoked)
            else:
                yield _Permission(*base, prefix_list=peer, revoked=revoked)


def _resolvers(scene: Scene) -> list[Entry]:
    """Return entries for what may be the VPC's own resolver, which groups do not filter; no text says the VPC's CIDR.

    Source: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html#AmazonDNS.
    """
    if scene.direction is not Direction.EGRESS or scene.peer.role is not Role.DNS:
        return []
    return [
        Entry(
            Act.ALLOW,
            "",
            networks([str(network)], ""),
            service=_DOMAIN,
            doubt=f"groups filter {network.network_address} unless it is the VPC's own resolver, two above its CIDR",
        )
        for network in scene.peer.v4
        if network.num_addresses == 1 and int(network.network_address) % _SMALLEST_VPC == _RESOLVER
    ]


class _Aws(Ruleset):
    def __init__(self, names: dict[str, str], permissions: tuple[_Permission, ...]) -> None:
        self._names, self._permissions = names, permissions
        self.rules = tuple(permission.rule for permission in permissions)
        self._by_rule = {permission.rule.id: permission for permission in permissions}

    def governs(self, local: Party) -> bool:
        """Machines whose group is in the text, by its id or by Quorate's own name for it."""
        return local.role in MACHINES and bool(self._groups(local))

    def naming(self, local: Party) -> str:
        """Return what to state of a machine without a group, or what to print of one whose groups the text lacks."""
        if local.role not in MACHINES or self.governs(local):
            return ""
        if not local.security_groups:
            return stating(local, "security_groups")
        return f"audit what this prints: aws ec2 describe-security-groups --group-ids {' '.join(local.security_groups)}"

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the union of the rules of the machine's groups; the rest is denied, if none of them is missing."""
        groups = self._groups(scene.local)
        found = unfiltered(scene, _SERVICES)
        for permission in self._permissions:
            if permission.group not in groups or permission.direction is not scene.direction:
                continue
            if not carries(permission.protocol, scene.transport):
                continue
            entry = self._entry(permission, scene)
            if entry is not None:
                found.append(entry)
        missing = (group for group in scene.local.security_groups if group not in groups)
        unread = [
            Entry(Act.ALLOW, "", doubt=f"the group {group} of {scene.local.key} is not in the text")
            for group in missing
        ]
        return [*found, *_resolvers(scene), *unread], Outcome.DENY

    def _entry(self, permission: _Permission, scene: Scene) -> Entry | None:
        rule, ports, peer = permission.rule.id, permission.ports, scene.peer
        meant: bool | str = peer is not OTHERS
        if permission.prefix_list in peer.service_cidrs:
            meant = True
        elif permission.prefix_list:
            # One that the plan knows stands for a service of the plan.
            strangers = peer is OTHERS or (peer.role is Role.ANYONE and rule not in scene.others)
            meant = not strangers and f"the addresses of the prefix list {permission.prefix_list} are not in the text"
        elif permission.peer_group:
            groups = self._groups(peer) | set(peer.security_groups)
            if peer.role in MACHINES and not groups:
                meant = f"the plan does not say whether {peer.key} is in the group {permission.peer_group}"
            else:
                meant = named(scene, rule, permission.peer_group in groups)
        if meant is False:
            return None
        return Entry(Act.ALLOW, rule, permission.peer, service=ports, doubt="" if meant is True else meant)

    def among(self, local: Party) -> frozenset[str]:
        """Return the rules for all protocols from a group of the party to itself."""
        groups = self._groups(local)
        return frozenset(
            permission.rule.id
            for permission in self._permissions
            if permission.group in groups
            and permission.peer_group in {permission.group, self._names[permission.group]} - {""}
            and is_wider(permission.protocol)
            and carries(permission.protocol, _TCP)
        )

    def others(self, parties: Iterable[Party]) -> Mapping[str, str]:
        """Rules that name groups and prefix lists which no party of the plan has."""
        parties = tuple(parties)
        groups = {name for party in parties for name in (*self._groups(party), *party.security_groups)}
        lists = {name for party in parties for name in party.prefix_lists}
        found = {}
        for permission in self._permissions:
            if permission.peer_group and permission.peer_group not in groups:
                found[permission.rule.id] = f"in the group {permission.peer_group}"
            elif permission.prefix_list and permission.prefix_list not in lists:
                found[permission.rule.id] = f"in the prefix list {permission.prefix_list}"
        return found

    def _groups(self, party: Party) -> set[str]:
        """The party's groups that are in the text, by id and by name."""
        name = own_name(party)
        mine = {group for group, called in self._names.items() if group in party.security_groups or called == name}
        return mine | {self._names[group] for group in mine if self._names[group]}

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the aws command that adds what is not there yet; nothing where all of it is.

        Amazon refuses a whole call with InvalidPermission.Duplicate for one peer that is let through already.
        """
        local, peer = flow.local(direction), flow.peer(direction)
        group = next(iter(sorted(g for g in self._groups(local) if g in self._names)), "GROUP")
        permissions = []
        for ports in flow.ports:
            there = self._there(group, direction, flow.transport, (ports.first, ports.last))
            body: dict[str, Any] = {"IpProtocol": flow.transport.value, "FromPort": ports.first, "ToPort": ports.last}
            peers = {
                key: [{inner: name, "Description": flow.flow} for name, known in named if known not in there]
                for key, inner, named in self._named(peer)
            }
            if found := {key: items for key, items in peers.items() if items}:
                permissions.append({**body, **found})
        if not permissions:
            return ""
        shown = shlex.quote(json.dumps(permissions))
        return f"aws ec2 authorize-security-group-{direction.value} --group-id {group} --ip-permissions {shown}"

    def _named(self, peer: Party) -> Iterator[tuple[str, str, list[tuple[str, str | Intervals]]]]:
        """Yield the narrowest names of a party: where they stand in a permission, and how each is known in the text."""
        if groups := peer.security_groups or self._own(peer):
            inner = "GroupId" if groups[0].startswith("sg-") else "GroupName"
            yield "UserIdGroupPairs", inner, [(name, name) for name in groups]
        elif peer.prefix_lists:
            yield "PrefixListIds", "PrefixListId", [(name, name) for name in peer.prefix_lists]
        else:
            for key, inner, cidrs in (("IpRanges", "CidrIp", peer.v4), ("Ipv6Ranges", "CidrIpv6", peer.v6)):
                yield key, inner, [(str(cidr), networks([str(cidr)], "")) for cidr in cidrs]

    def _there(
        self, group: str, direction: Direction, transport: Transport, ports: tuple[int, int]
    ) -> set[str | Intervals | None]:
        """Return the peers that a group lets through with exactly that protocol and those ports."""
        return {
            found.prefix_list or found.peer_group or found.peer
            for found in self._permissions
            if (found.group, found.direction, found.ports) == (group, direction, (ports,))
            and carries(found.protocol, transport)
        }

    def _own(self, party: Party) -> tuple[str, ...]:
        """Return the group that was made for a party that states none."""
        return tuple(group for group, called in self._names.items() if called == own_name(party))

    def removal(self, rule: Rule) -> str:
        """Return the aws command that takes the permission away."""
        found = self._by_rule[rule.id]
        where = f"--group-id {found.group} --ip-permissions {shlex.quote(found.revoked)}"
        return f"aws ec2 revoke-security-group-{found.direction.value} {where}"

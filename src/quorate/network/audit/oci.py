"""Reads OCI's network security groups and security lists, together: a machine has the union of both.

From `oci network nsg rules list` and `oci network security-list get` or `list`, one after the other in one text, or
from the JSON that Quorate renders. Semantics: https://docs.oracle.com/en-us/iaas/Content/Network/Concepts/securityrules.htm.
Where a stateful and a stateless rule match the same packet, the stateless one holds, and the answer needs its mirror.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from quorate.network.audit.documents import (
    MACHINES,
    carries,
    clamped,
    documents,
    items,
    member,
    networks,
    own_name,
    unfiltered,
)
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, Outcome
from quorate.network.flows import Direction, Transport
from quorate.network.plan import Party, PlannedFlow

HINT = "oci network nsg rules list --nsg-id OCID --all"
_NUMBERS = {Transport.TCP: "6", Transport.UDP: "17"}
#: Rules "are not enforced for traffic involving the 169.254.0.0/16 CIDR block": metadata, names, time, iSCSI.
_LINK_LOCAL = networks(["169.254.0.0/16"], "")

#: https://docs.oracle.com/en-us/iaas/Content/Network/Tasks/servicegateway.htm, "About Service CIDR Labels".
_ALL_SERVICES = re.compile(r"all-(\w+)-services-in-oracle-services-network")


@dataclass(frozen=True, slots=True)
class _SecurityRule:
    rule: Rule
    #: The group or list that it is in; empty where the text does not say, so that it holds for every machine.
    owner: str
    direction: Direction
    protocol: str
    stateless: bool
    peer: Intervals | None
    peer_group: str
    #: What OCI calls the addresses of a service behind the gateway.
    service_label: str
    doubt: str
    source_ports: Intervals | None
    destination_ports: Intervals | None


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the place."""
    reader = _Reader()
    for number, raw in enumerate(documents(text, HINT)):
        reader.document(_dashed(raw), f"document {number}")
    return _Oci(tuple(reader.found), reader.owners, everywhere=reader.everywhere)


@lru_cache(1024)
def _dash(key: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "-" + found[1].lower(), key)


def _dashed(value: Any) -> Any:
    """The command line prints `is-stateless`, the API takes `isStateless`; both are read."""
    if isinstance(value, dict):
        return {_dash(key): _dashed(item) for key, item in value.items()}
    return [_dashed(item) for item in value] if isinstance(value, list) else value


class _Reader:
    def __init__(self) -> None:
        self.found: list[_SecurityRule] = []
        #: Groups and lists by their OCID or, where the text has none, their name; with the name of each.
        self.owners: dict[str, str] = {}
        #: Whether something in the text names no group, so that it holds for every machine.
        self.everywhere = False

    def document(self, body: Any, place: str) -> None:
        if isinstance(body, dict) and "data" in body and "network-security-group-id" in body:
            owner = self._owner(body, place)
            for item, at in items(body, "data", place):
                self._rule(item, at, owner, None)
        elif isinstance(body, dict) and "data" in body:
            self.document(body["data"], f"{place}.data")
        elif isinstance(body, dict) and ("network-security-groups" in body or "security-lists" in body):
            for key in ("network-security-groups", "security-lists"):
                for item, where in items(body, key, place):
                    self.document(item, where)
        elif isinstance(body, dict) and "calls" in body:
            owner = self._owner(body, place)
            for call, where in items(body, "calls", place):
                for item, at in items(call, "security-rules", where):
                    self._rule(item, at, owner, None)
        elif isinstance(body, dict) and ("ingress-security-rules" in body or "egress-security-rules" in body):
            # A list that a person's tool printed holds for its whole subnet, whoever is in it.
            owner = "" if "id" in body else self._owner(body, place)
            self.everywhere |= not owner
            for key, way in (
                ("ingress-security-rules", Direction.INGRESS),
                ("egress-security-rules", Direction.EGRESS),
            ):
                for item, at in items(body, key, place):
                    self._rule(item, at, owner, way)
        elif isinstance(body, list):
            self.everywhere |= not body
            for number, item in enumerate(body):
                where = f"{place}[{number}]"
                if isinstance(item, dict) and "direction" in item:
                    self._rule(item, where, "", None)
                else:
                    self.document(item, where)
        else:
            raise Unreadable(f"it is neither rules of a group nor a security list; print it with: {HINT}", place)

    def _owner(self, body: dict[str, Any], place: str) -> str:
        name = str(member(body, "display-name", str, place, ""))
        owner = str(member(body, "network-security-group-id", str, place, "")) or name
        if not owner:
            raise Unreadable("a group or list of rules has an id or a display name", place)
        self.owners[owner] = name
        return owner

    def _rule(self, body: Any, place: str, owner: str, way: Direction | None) -> None:
        if way is None:
            text = str(member(body, "direction", str, place, ""))
            if text not in ("INGRESS", "EGRESS"):
                raise Unreadable(f"direction is {text!r}, and INGRESS or EGRESS is expected", place)
            way = Direction.INGRESS if text == "INGRESS" else Direction.EGRESS
        far = "source" if way is Direction.INGRESS else "destination"
        peer = str(member(body, far, str, place, ""))
        kind = str(member(body, f"{far}-type", str, place, "CIDR_BLOCK"))
        protocol = str(member(body, "protocol", str, place, ""))
        if not peer or not protocol:
            raise Unreadable(f"a rule has a protocol and a {far}", place)
        options = member(body, "tcp-options", dict, place) or member(body, "udp-options", dict, place) or {}
        name = str(member(body, "id", str, place, "")) or f"{owner or 'rule'} {way.value} {len(self.found) + 1}"
        shown = f"{way.value} protocol {protocol} {far} {peer} {json.dumps(options) if options else 'all ports'}"
        source_ports, why = _ports(options, "source-port-range", place)
        destination_ports, why_too = _ports(options, "destination-port-range", place)
        warning = "; ".join(filter(None, (why, why_too)))
        self.everywhere |= not owner
        self.found.append(
            _SecurityRule(
                Rule(name, shown, True, place, clamped=warning),
                owner,
                way,
                protocol,
                bool(member(body, "is-stateless", bool, place, False)),
                networks([peer], place) if kind == "CIDR_BLOCK" else None,
                peer if kind == "NETWORK_SECURITY_GROUP" else "",
                peer if kind == "SERVICE_CIDR_BLOCK" else "",
                f"the addresses of the service {peer} are not in the text" if kind == "SERVICE_CIDR_BLOCK" else "",
                source_ports,
                destination_ports,
            )
        )


def _names(label: str, party: Party) -> bool:
    """Say whether a service label stands for the party: the label of all services holds Object Storage's."""
    region = _ALL_SERVICES.fullmatch(label)
    known = {label, f"oci-{region[1]}-objectstorage"} if region else {label}
    return not known.isdisjoint(party.service_cidrs)


def _ports(options: Any, key: str, place: str) -> tuple[Intervals | None, str]:
    span = member(options, key, dict, place)
    if span is None:
        return None, ""
    first, last = member(span, "min", int, place, -1), member(span, "max", int, place, -1)
    last, warning = clamped(first, last)
    if not 0 <= first <= last <= 65535:
        raise Unreadable(f"{key} from {first} to {last} is no range of ports", place)
    return ((first, last),), warning


class _Oci(Ruleset):
    def __init__(self, found: tuple[_SecurityRule, ...], owners: dict[str, str], *, everywhere: bool) -> None:
        self._found, self._owners, self._everywhere = found, owners, everywhere
        self.rules = tuple(item.rule for item in found)
        self._by_rule = {item.rule.id: item for item in found}
        self._carrying = {
            (way, transport): [item for item in found if item.direction is way and carries(item.protocol, transport)]
            for way in Direction
            for transport in Transport
        }

    def governs(self, local: Party) -> bool:
        """Machines of a group or list in the text; rules that name no group hold for all."""
        return local.role in MACHINES and (self._everywhere or bool(self._groups(local)))

    def stateful(self, scene: Scene) -> bool:
        """Answers need a rule of their own only where a stateless one let the connection in."""
        return not any(item.stateless for item in self._found)

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the union of the rules; the rest is denied."""
        always = unfiltered(scene, _LINK_LOCAL)
        if scene.phase is not Phase.ANSWER:
            return [*always, *self._entries(scene, scene.direction, mirrored=False)], Outcome.DENY
        forward = Scene(scene.direction, scene.local, scene.peer, scene.transport)
        untracked = list(self._entries(forward, scene.direction, mirrored=False, stateless=True))
        tracked = list(self._entries(forward, scene.direction, mirrored=False, stateless=False))
        back = Direction.EGRESS if scene.direction is Direction.INGRESS else Direction.INGRESS
        # What lets an untracked answer out may itself be stateful (the same page, "Stateless Rules").
        mirror = list(self._entries(forward, back, mirrored=True))
        behind = len(always) + len(untracked) + len(tracked)
        skips = [
            Entry(Act.JUMP, entry.rule, entry.peer, entry.local, entry.service, entry.other, behind, entry.doubt)
            for entry in untracked
        ]
        return [*always, *skips, *tracked, *mirror], Outcome.DENY

    def _entries(
        self, scene: Scene, way: Direction, *, mirrored: bool, stateless: bool | None = None
    ) -> Iterator[Entry]:
        groups = self._groups(scene.local)
        for item in self._carrying[way, scene.transport]:
            if (item.owner and item.owner not in groups) or (stateless is not None and item.stateless != stateless):
                continue
            doubt = "" if _names(item.service_label, scene.peer) else item.doubt
            if item.peer_group:
                named = self._groups(scene.peer) | set(scene.peer.security_groups)
                if item.peer_group not in named:
                    if scene.peer.role not in MACHINES or named:
                        continue
                    doubt = f"the plan does not say whether {scene.peer.key} is in the group {item.peer_group}"
            service, other = item.destination_ports, item.source_ports
            if mirrored:
                service, other = other, service
            yield Entry(Act.ALLOW, item.rule.id, item.peer, service=service, other=other, doubt=doubt)

    def _groups(self, party: Party) -> set[str]:
        """The party's groups and lists in the text, by OCID and by name."""
        name = own_name(party)
        mine = {owner for owner, called in self._owners.items() if owner in party.security_groups or called == name}
        return mine | {self._owners[owner] for owner in mine}

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the oci command that adds the rule to a group."""
        far = "source" if direction is Direction.INGRESS else "destination"
        peer = flow.peer(direction)
        named = [(group, "NETWORK_SECURITY_GROUP") for group in peer.security_groups]
        named = named or [(label, "SERVICE_CIDR_BLOCK") for label in peer.service_labels]
        named = named or [(str(network), "CIDR_BLOCK") for network in peer.addresses]
        rules = [
            {
                "direction": direction.value.upper(),
                "protocol": _NUMBERS[flow.transport],
                far: text,
                f"{far}Type": kind,
                f"{flow.transport.value}Options": {
                    "destinationPortRange": {"min": max(1, ports.first), "max": ports.last}
                },
                "description": flow.flow,
            }
            for text, kind in named
            for ports in flow.ports
        ]
        group = next(iter(flow.local(direction).security_groups), "OCID")
        return f"oci network nsg rules add --nsg-id {group} --security-rules '{json.dumps(rules)}'"

    def removal(self, rule: Rule) -> str:
        """Return the oci command, or where the rule stands in a list that is replaced as a whole."""
        found = self._by_rule[rule.id]
        group = found.owner or "OCID"
        return f"oci network nsg rules remove --nsg-id {group} --security-rule-ids '[\"{rule.id}\"]'"

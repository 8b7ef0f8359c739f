"""Reads what `gcloud compute firewall-rules list --format=json` prints, for one VPC network.

Semantics: https://cloud.google.com/firewall/docs/firewalls. Lower priority numbers first, deny before allow among
equals; implied: nothing comes in, everything goes out. Firewall policies of the organisation are not in that list.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate.network.audit.documents import (
    MACHINES,
    carries,
    documents,
    is_wider,
    items,
    member,
    named,
    networks,
    only,
    port_range,
    strings,
    unfiltered,
    within,
)
from quorate.network.audit.ruleset import OTHERS, Rule, Ruleset, Scene, Unreadable, of_networks, of_ports, show_ports
from quorate.network.audit.space import EVERY_ADDRESS, Act, Entry, Intervals, Outcome, both, outside
from quorate.network.flows import Direction
from quorate.network.plan import Party, PlannedFlow

HINT = "gcloud compute firewall-rules list --format=json"
_EVERY_V4 = ["0.0.0.0/0"]
#: A new rule's, where nothing that denies has to be passed.
_USUAL_PRIORITY = 1000
_LONGEST_NAME = 63
#: Characters of a rule's traffic in its text.
_SHOWN = 80
#: "Google Cloud always allows communication between a VM instance and its metadata server": names, time, metadata.
_METADATA = networks(["169.254.169.254/32", "fd20:ce::254/128"], "")


_LAST_PRIORITY = 65535
#: Of the resource's `sourceTags` the Compute API's discovery document says: "Source tags cannot be used to control
#: traffic to an instance's external IP address", and the like of `sourceServiceAccounts`. A subnet may have public
#: addresses of its own, so an address alone does not tell.
_EXTERNAL = "source tags and accounts do not cover external addresses, and the plan does not say whether it is one"
_WITH_PORTS = ("tcp", "6", "udp", "17", "sctp", "132")
#: Of the resource Firewall in the Compute API's discovery document.
FIREWALL_FIELDS = frozenset(
    {"allowed", "creationTimestamp", "denied", "description", "destinationRanges", "direction", "disabled", "id"}
    | {"kind", "logConfig", "name", "network", "params", "priority", "selfLink", "sourceRanges"}
    | {"sourceServiceAccounts", "sourceTags", "targetServiceAccounts", "targetTags"}
    # Printed by `gcloud beta` and `gcloud alpha`.
    | {"enableLogging", "selfLinkWithId"}
)
TRAFFIC_FIELDS = frozenset({"IPProtocol", "ports"})


@dataclass(frozen=True, slots=True)
class _Firewall:
    rule: Rule
    act: Act
    direction: Direction
    priority: int
    #: Protocol, and ports or None for all.
    traffic: tuple[tuple[str, Intervals | None], ...]
    source: Intervals
    destination: Intervals
    source_tags: frozenset[str]
    source_accounts: frozenset[str]
    target_tags: frozenset[str]
    target_accounts: frozenset[str]


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the rule."""
    found: list[_Firewall] = []
    vpcs: set[str] = set()
    for document in documents(text, HINT):
        listed = document.get("items") if isinstance(document, dict) and "items" in document else document
        if not isinstance(listed, list):
            listed = [listed]
        for number, body in enumerate(listed):
            place = f"rule {number}"
            vpcs.add(str(member(body, "network", str, place, "")).rsplit("/", 1)[-1])
            if not member(body, "disabled", bool, place, False):
                found.append(_firewall(body, place))
    if len(vpcs) > 1:
        names = ", ".join(sorted(vpcs))
        raise Unreadable(f"it holds rules of several networks ({names}); list one: {HINT} --filter=network:NAME")
    return _Gcp(tuple(found), next(iter(vpcs), ""))


def _firewall(body: Any, place: str) -> _Firewall:
    only(body, FIREWALL_FIELDS, place)
    name = member(body, "name", str, place, "")
    if not name:
        raise Unreadable("a firewall rule has a name", place)
    place = f"rule {name}"
    way = member(body, "direction", str, place, "INGRESS")
    if way not in ("INGRESS", "EGRESS"):
        raise Unreadable(f"direction is {way!r}, and INGRESS or EGRESS is expected", place)
    allows = "allowed" in body
    if allows == ("denied" in body):
        raise Unreadable("a rule has either `allowed` or `denied`", place)
    act = Act.ALLOW if allows else Act.DENY
    traffic, clamped = [], []
    for item, where in items(body, "allowed" if allows else "denied", place):
        only(item, TRAFFIC_FIELDS, where)
        protocol = str(member(item, "IPProtocol", str, where, ""))
        if not protocol:
            raise Unreadable("it has no IPProtocol", where)
        read = [port_range(port, at) for port, at in items(item, "ports", where)]
        if read and protocol.lower() not in _WITH_PORTS:
            raise Unreadable(f"the protocol {protocol} has no ports", where)
        clamped += [warning for _, warning in read if warning]
        traffic.append((protocol, of_ports(ports for ports, _ in read) if read else None))
    tags, accounts = (frozenset(strings(body, key, place)) for key in ("sourceTags", "sourceServiceAccounts"))
    sources = member(body, "sourceRanges", list, place, [])
    if not sources and not (tags or accounts):
        sources = _EVERY_V4
    priority = member(body, "priority", int, place, _USUAL_PRIORITY)
    if not 0 <= priority <= _LAST_PRIORITY:
        raise Unreadable(f"priority is {priority}, and 0 to {_LAST_PRIORITY} is expected", place)
    target_tags, target_accounts = (
        frozenset(strings(body, key, place)) for key in ("targetTags", "targetServiceAccounts")
    )
    near = "destinationRanges" if way == "INGRESS" else "sourceRanges"
    everywhere = allows and not (target_tags or target_accounts or member(body, near, list, place))
    wide = "it has no target, so it holds for every instance of the network" if everywhere else ""
    return _Firewall(
        Rule(
            name,
            _text(name, act, traffic),
            allows,
            place,
            clamped="; ".join(clamped),
            wide=wide,
            wider=any(is_wider(protocol) for protocol, _ in traffic),
        ),
        act,
        Direction.INGRESS if way == "INGRESS" else Direction.EGRESS,
        priority,
        tuple(traffic),
        networks(sources, place),
        networks(member(body, "destinationRanges", list, place, []) or _EVERY_V4, place),
        tags,
        accounts,
        target_tags,
        target_accounts,
    )


def _text(name: str, act: Act, traffic: Iterable[tuple[str, Intervals | None]]) -> str:
    """Return it as `gcloud` shows it in a table, such as `web: allow tcp:80,443 icmp`."""
    named = (protocol if ports is None else f"{protocol}:{show_ports(ports)}" for protocol, ports in traffic)
    shown = " ".join(named)
    return f"{name}: {act.value} {shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + '...'}"


class _Gcp(Ruleset):
    def __init__(self, firewalls: tuple[_Firewall, ...], network: str) -> None:
        self._network = network
        self._firewalls = sorted(firewalls, key=lambda found: (found.priority, found.act is Act.ALLOW))
        self.rules = tuple(found.rule for found in firewalls)

    def governs(self, local: Party) -> bool:
        """All machines of the network are behind its rules."""
        return local.role in MACHINES

    def others(self, parties: Iterable[Party]) -> Mapping[str, str]:
        """Rules that name tags and service accounts which no party of the plan has."""
        parties = tuple(parties)
        tags = {tag for party in parties for tag in party.tags}
        accounts = {account for party in parties for account in party.service_accounts}
        found = {}
        for firewall in self._firewalls:
            strange = [f"with the tag {tag}" for tag in sorted(firewall.source_tags - tags)]
            strange += [
                f"with the service account {account}" for account in sorted(firewall.source_accounts - accounts)
            ]
            if strange and firewall.direction is Direction.INGRESS:
                found[firewall.rule.id] = " or ".join(strange)
        return found

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the rules in the order of their priority."""
        found = unfiltered(scene, _METADATA)
        for firewall in self._firewalls:
            if firewall.direction is scene.direction:
                found += _entries(firewall, scene)
        return found, Outcome.DENY if scene.direction is Direction.INGRESS else Outcome.ALLOW

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the gcloud commands that make a rule for the flow, before every rule that denies it."""
        peer, local = flow.peer(direction), flow.local(direction)
        priority, commands = self._priority(flow, direction)
        incoming = direction is Direction.INGRESS
        # Tags and service accounts do not go together in one rule.
        names = (
            f"--source-tags={','.join(peer.tags)}" if peer.tags and (local.tags or not local.service_accounts) else ""
        )
        if not names and peer.service_accounts and not local.tags:
            names = f"--source-service-accounts={','.join(peer.service_accounts)}"
        by_name = bool(names) and incoming
        versions = (4,) if by_name else sorted({network.version for network in peer.addresses})
        for version in versions:
            addresses = [str(network) for network in peer.addresses if network.version == version]
            words = ["gcloud", "compute", "firewall-rules", "create", self._free_name(flow, direction, version)]
            words += [f"--network={self._network}"] if self._network else []
            words += [f"--direction={direction.value.upper()}", "--action=ALLOW", f"--priority={priority}"]
            words.append(f"--rules={','.join(f'{flow.transport.value}:{item}' for item in flow.ports)}")
            ranges = ("source-ranges", "destination-ranges")[:: 1 if incoming else -1]
            words.append(names if by_name else f"--{ranges[0]}={','.join(addresses)}")
            mine = [str(network) for network in local.addresses if network.version == version]
            if local.tags:
                words.append(f"--target-tags={','.join(local.tags)}")
            elif local.service_accounts:
                words.append(f"--target-service-accounts={','.join(local.service_accounts)}")
            elif mine:
                words.append(f"--{ranges[1]}={','.join(mine)}")
            commands.append(shlex.join(words))
        return "; ".join(commands)

    def closing_egress(self, local: Party, flows: Sequence[PlannedFlow]) -> str:
        """Return the gcloud commands that let some flows out, and then deny the rest at the lowest priority."""
        unnamed = dict.fromkeys(flow.destination.key for flow in flows if not flow.destination.addresses)
        if unnamed:
            return f"state the addresses of {', '.join(unnamed)} in master.yaml first: egress rules know no tags"
        commands = [self.opening(flow, Direction.EGRESS) for flow in flows]
        for version, everywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
            mine = [str(network) for network in local.addresses if network.version == version]
            if not mine and (local.addresses or version == 6):
                continue
            words = [
                "gcloud",
                "compute",
                "firewall-rules",
                "create",
                self._own_name(f"egress-{local.key}-deny", version),
            ]
            words += [f"--network={self._network}"] if self._network else []
            words += ["--direction=EGRESS", "--action=DENY", f"--priority={_LAST_PRIORITY - 1}", "--rules=all"]
            words.append(f"--destination-ranges={everywhere}")
            if local.tags:
                words.append(f"--target-tags={','.join(local.tags)}")
            elif local.service_accounts:
                words.append(f"--target-service-accounts={','.join(local.service_accounts)}")
            else:
                words.append(f"--source-ranges={','.join(mine)}")
            commands.append(shlex.join(words))
        return "; ".join(dict.fromkeys(commands))

    def _priority(self, flow: PlannedFlow, direction: Direction) -> tuple[int, list[str]]:
        """Return a priority before all rules that deny the flow, and commands that make room for it where none is."""
        scene = Scene(direction, flow.local(direction), flow.peer(direction), flow.transport)
        peer, ports = of_networks(flow.peer(direction).addresses) or None, of_ports(flow.ports)
        denying = [
            firewall
            for firewall in self._firewalls
            if firewall.act is Act.DENY and firewall.direction is direction
            if any(both(entry.peer, peer) != () and both(entry.service, ports) for entry in _entries(firewall, scene))
        ]
        first = min((firewall.priority for firewall in denying), default=_USUAL_PRIORITY + 1)
        update = "gcloud compute firewall-rules update {} --priority=1"
        # Nothing comes before 0, and a rule that denies comes before one of its own priority.
        moved = [update.format(firewall.rule.id) for firewall in denying if firewall.priority == 0]
        return min(_USUAL_PRIORITY, max(first - 1, 0)), moved

    def _free_name(self, flow: PlannedFlow, direction: Direction, version: int) -> str:
        """Return a name that no rule has: ends tell pools apart, and a suffix what is there already."""
        ends = f"{flow.local(direction).name}-{flow.peer(direction).name}"
        return self._own_name(f"{flow.flow}-{direction.value}-{ends}", version)

    def _own_name(self, what: str, version: int) -> str:
        family = "-v6" if version == 6 else ""
        base = f"quorate-{what}".lower()
        base = re.sub(r"[^a-z0-9]+", "-", base)
        digest = f"-{hashlib.sha256(base.encode()).hexdigest()[:6]}"
        room = _LONGEST_NAME - len(family)
        base = base.rstrip("-") if len(base) <= room else base[: room - len(digest)].rstrip("-") + digest
        taken = {rule.id for rule in self.rules}
        return next(
            name
            for name in (f"{base}{family}", *(f"{base[: room - 4]}-{n}{family}" for n in range(2, 999)))
            if name not in taken
        )

    def removal(self, rule: Rule) -> str:
        """Return the gcloud command that deletes the rule."""
        return f"gcloud compute firewall-rules delete {rule.id}"


def _entries(firewall: _Firewall, scene: Scene) -> list[Entry]:
    attached = _among(scene.local, firewall.target_tags, firewall.target_accounts, anything=True)
    if attached is False:
        return []
    incoming = scene.direction is Direction.INGRESS
    # A rule may name its peers in several ways; any of them is enough.
    alternatives: list[tuple[Intervals | None, str]] = []
    if incoming and (firewall.source_tags or firewall.source_accounts):
        meant = _among(scene.peer, firewall.source_tags, firewall.source_accounts, anything=False)
        # Of others, who is not allowed by one rule's name may be by another's.
        if meant is False and not (scene.peer is OTHERS and firewall.act is Act.DENY):
            meant = named(scene, firewall.rule.id, known=False)
        if meant is not False:
            internal = within(scene.peer)
            alternatives.append((internal, "" if meant is True else meant))
            if internal is not None:
                alternatives.append((outside(internal, EVERY_ADDRESS), _EXTERNAL))
    far = firewall.source if incoming else firewall.destination
    # Whoever is allowed by the address is no matter of names.
    if far and not (scene.peer is OTHERS and firewall.act is Act.ALLOW):
        alternatives.append((far, ""))
    near = firewall.destination if incoming else firewall.source
    local = None if near == networks(_EVERY_V4, "") else near
    return [
        Entry(firewall.act, firewall.rule.id, peer, local, ports, doubt=doubt or ("" if attached is True else attached))
        for protocol, ports in firewall.traffic
        if carries(protocol, scene.transport)
        for peer, doubt in alternatives
    ]


def _among(party: Party, tags: frozenset[str], accounts: frozenset[str], *, anything: bool) -> bool | str:
    """Say whether a party carries one of some tags or accounts; a text says why that is not known."""
    if not tags and not accounts:
        return anything
    if tags & set(party.tags) or accounts & set(party.service_accounts):
        return True
    if party.role not in MACHINES:
        return False
    for wanted, stated, what in ((tags, party.tags, "tag"), (accounts, party.service_accounts, "service account")):
        if wanted and not stated:
            return f"the plan does not say whether {party.key} has the {what} {', '.join(sorted(wanted))}"
    return False

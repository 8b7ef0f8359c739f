"""Reads OCI's network security groups and security lists, together: a machine has the union of both.

From `oci network nsg rules list`, `oci network security-list get` or `list` and `oci network subnet list`, one after
the other in one text, or from the JSON that Quorate renders. Semantics:
https://docs.oracle.com/en-us/iaas/Content/Network/Concepts/securityrules.htm. Where a stateful and a stateless rule
match the same packet, the stateless one holds, and the answer needs its mirror. A list holds for the machines of the
subnets that name it (https://docs.oracle.com/en-us/iaas/Content/Network/Concepts/securitylists.htm).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from quorate.network.audit import ocimends
from quorate.network.audit.documents import MACHINES, carries, documents, named, networks, own_name, stating, unfiltered
from quorate.network.audit.ocirules import HINT, Holder, Kind, Reader, SecurityRule, Subnet
from quorate.network.audit.ruleset import (
    OTHERS,
    Phase,
    Rule,
    Ruleset,
    Scene,
    of_networks,
    of_ports,
    show_addresses,
    source_ports,
)
from quorate.network.audit.space import EVERY_ADDRESS, Act, Box, Entry, Intervals, Outcome, both, cells, join, outside
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, PlannedFlow

#: Rules "are not enforced for traffic involving the 169.254.0.0/16 CIDR block": metadata, names, time, iSCSI.
_LINK_LOCAL = networks(["169.254.0.0/16"], "")
#: https://docs.oracle.com/en-us/iaas/Content/Network/Tasks/servicegateway.htm, "About Service CIDR Labels".
_ALL_SERVICES = re.compile(r"all-(\w+)-services-in-oracle-services-network")
#: "If you don't specify a custom security list for a subnet, the default security list is automatically used": it opens
#: SSH to everybody, and the way out (the page on security lists).
_NO_LISTS = "no security list is in the text, and every subnet has one; add: oci network security-list list --all"
#: Which of a machine's addresses the rules of a group or list hold for (None: all), and why that may not be so.
_Hold = tuple[Intervals | None, str]


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the place."""
    reader = Reader()
    for number, raw in enumerate(documents(text, HINT)):
        reader.document(raw, f"document {number}")
    return _Oci(tuple(reader.found), reader.holders, tuple(reader.subnets))


def _names(label: str, party: Party) -> bool:
    """Say whether a service label stands for the party: the label of all services holds Object Storage's."""
    region = _ALL_SERVICES.fullmatch(label)
    known = {label, f"oci-{region[1]}-objectstorage"} if region else {label}
    return not known.isdisjoint(party.service_cidrs)


class _Oci(Ruleset):
    def __init__(
        self, found: tuple[SecurityRule, ...], holders: Mapping[str, Holder], subnets: tuple[Subnet, ...]
    ) -> None:
        self._found, self._holders, self._subnets = found, holders, subnets
        self.rules = tuple(item.rule for item in found)
        self._by_rule = {item.rule.id: item for item in found}
        self._left: dict[frozenset[str], _Oci] = {}
        self._held: dict[Party, tuple[dict[str, _Hold], list[Entry]]] = {}
        self._carrying = {
            (way, transport): [item for item in found if item.direction is way and carries(item.protocol, transport)]
            for way in Direction
            for transport in Transport
        }

    def governs(self, local: Party) -> bool:
        """Machines that some group or list of the text holds for, or may."""
        return local.role in MACHINES and bool(self._holding(local)[0])

    def naming(self, local: Party) -> str:
        """Return what to state of a machine without a group, or what to print of one whose groups the text lacks."""
        if local.role not in MACHINES or self.governs(local):
            return ""
        if not local.security_groups:
            return stating(local, "security_groups")
        return "audit what this prints: " + "; ".join(
            f"oci network nsg rules list --all --nsg-id {group}" for group in local.security_groups
        )

    def stateful(self, scene: Scene) -> bool:
        """Answers need a rule of their own only where a stateless one let the connection in."""
        return not any(item.stateless for item in self._found)

    def others(self, parties: Iterable[Party]) -> Mapping[str, str]:
        """Rules that name groups and services which no party of the plan is."""
        parties = tuple(parties)
        groups = {name for party in parties for name in self._named(party)}
        labels = {item.service_label for item in self._found if item.service_label}
        strange = {label for label in labels if not any(_names(label, party) for party in parties)}
        found = {}
        for item in self._found:
            if item.peer_group and item.peer_group not in groups:
                found[item.rule.id] = f"in the group {item.peer_group}"
            elif item.service_label in strange:
                found[item.rule.id] = f"behind the service {item.service_label}"
        return found

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the union of the rules; the rest is denied."""
        always, missing = unfiltered(scene, _LINK_LOCAL), self._holding(scene.local)[1]
        if scene.phase is not Phase.ANSWER:
            return [*always, *self._entries(scene, scene.direction, mirrored=False), *missing], Outcome.DENY
        forward = replace(scene, phase=Phase.OPEN)
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
        return [*always, *skips, *tracked, *mirror, *missing], Outcome.DENY

    def _entries(
        self, scene: Scene, way: Direction, *, mirrored: bool, stateless: bool | None = None
    ) -> Iterator[Entry]:
        held, peers = self._holding(scene.local)[0], self._named(scene.peer)
        for item in self._carrying[way, scene.transport]:
            if item.holder not in held or (stateless is not None and item.stateless != stateless):
                continue
            near, doubt = held[item.holder]
            meant = self._means(item, scene, peers)
            if meant is False:
                continue
            service, other = item.destination_ports, item.source_ports
            if mirrored:
                service, other = other, service
            why = doubt or ("" if meant is True else meant)
            yield Entry(Act.ALLOW, item.rule.id, item.peer, near, service, other, doubt=why)

    @staticmethod
    def _means(item: SecurityRule, scene: Scene, peers: set[str]) -> bool | str:
        """Say whether a rule means the scene's peer, its address aside; a text says why that is not known."""
        if item.service_label:
            if _names(item.service_label, scene.peer):
                return True
            strangers = scene.peer.role is Role.ANYONE and item.rule.id not in scene.others
            return False if strangers or scene.peer is OTHERS else item.doubt
        if item.peer_group:
            if scene.peer.role in MACHINES and not peers:
                return f"the plan does not say whether {scene.peer.key} is in the group {item.peer_group}"
            return named(scene, item.rule.id, item.peer_group in peers)
        return scene.peer is not OTHERS

    # ---- which groups and lists are a machine's

    def _named(self, party: Party) -> set[str]:
        """Return every name that a rule may call the party's groups by."""
        return self._groups(party) | set(party.security_groups)

    def _groups(self, party: Party) -> set[str]:
        """Return the party's groups and lists in the text, by OCID and by name."""
        name = own_name(party)
        mine = {key for key, holder in self._holders.items() if key in party.security_groups or holder.name == name}
        return mine | {self._holders[key].name for key in mine}

    def _holding(self, local: Party) -> tuple[dict[str, _Hold], list[Entry]]:
        """Return what holds for a machine, and entries for what may let pass more than the text says."""
        if local not in self._held:
            mine = self._groups(local)
            held: dict[str, _Hold] = {
                key: (None, "")
                for key, holder in self._holders.items()
                if key in mine and holder.kind in (Kind.GROUP, Kind.OWN_LIST)
            }
            doubts = self._hold_unnamed(local, held)
            missing = [Entry(Act.ALLOW, "", doubt=doubt) for doubt in doubts]
            missing += self._hold_by_subnet(local, held) if self._subnets else self._hold_lists(local, held)
            self._held[local] = held, missing
        return self._held[local]

    def _hold_unnamed(self, local: Party, held: dict[str, _Hold]) -> list[str]:
        """Add groups whose rules the text has without their name; return what groups it lacks."""
        unnamed = [key for key, holder in self._holders.items() if holder.kind is Kind.UNNAMED]
        groups = [key for key, holder in self._holders.items() if holder.kind is Kind.GROUP]
        lacking = [group for group in local.security_groups if group not in self._groups(local)]
        if unnamed and (lacking or not local.security_groups):
            alone = len(unnamed) == 1 and (len(lacking) == 1 or not groups)
            why = f"the text does not say whether {local.key} is in the group of these rules; put its OCID beside them"
            held.update(dict.fromkeys(unnamed, (None, "" if alone else why)))
            lacking = lacking[len(unnamed) :] if alone else lacking
        return [f"the rules of the group {group} of {local.key} are not in the text" for group in lacking]

    def _hold_lists(self, local: Party, held: dict[str, _Hold]) -> list[Entry]:
        lists = {key: holder for key, holder in self._holders.items() if holder.kind is Kind.LIST}
        if not lists and any(holder.printed for holder in self._holders.values()):
            return [Entry(Act.ALLOW, "", doubt=_NO_LISTS)]
        for key, holder in lists.items():
            sure = len(lists) == 1 or holder.name == own_name(local)
            called = f"the list {holder.name or key}"
            why = f"the text does not say which subnets {called} is for; add what prints them: {ocimends.SUBNETS}"
            held[key] = None, "" if sure else why
        return []

    def _hold_by_subnet(self, local: Party, held: dict[str, _Hold]) -> list[Entry]:
        mine = of_networks(local.addresses)
        unknown = "" if mine else f"the plan knows no address of {local.key} by which to tell its subnet"
        near: dict[str, list[tuple[int, int]]] = {}
        missing: list[Entry] = []
        for subnet in self._subnets:
            inside = both(mine or EVERY_ADDRESS, subnet.addresses)
            for name in subnet.lists if inside else ():
                if name in self._holders:
                    near.setdefault(name, []).extend(subnet.addresses)
                else:
                    why = unknown or f"the list {name} of the subnet {subnet.name} is not in the text"
                    missing.append(Entry(Act.ALLOW, "", local=inside, doubt=why))
        held.update({name: (join(spans), unknown) for name, spans in near.items()})
        elsewhere = outside(join(span for subnet in self._subnets for span in subnet.addresses), mine)
        if elsewhere:
            why = f"no subnet of the text holds {show_addresses(elsewhere)}"
            missing.append(Entry(Act.ALLOW, "", local=elsewhere, doubt=why))
        return missing

    # ---- mends

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the commands that let the flow pass.

        Beside a stateless rule a stateful one has no effect; where the answers alone are blocked, it becomes stateful.
        """
        untracked = [item for item in self._found if item.stateless and self._touches(item, flow, direction)]
        answers = bool(untracked) and self._blocks(flow, direction, Phase.ANSWER)
        commands = [ocimends.make_stateful(item, self._holder_of(item, flow.local(direction))) for item in untracked]
        if not answers:
            commands = []
        if not answers or self._blocks(flow, direction, Phase.OPEN):
            commands.insert(0, self._addition(flow, direction))
        return "; ".join(dict.fromkeys(commands))

    def reopening(self, flow: PlannedFlow, direction: Direction, gone: Collection[str]) -> str:
        """Return the same as it is needed once some rules are gone."""
        return self._without(frozenset(gone)).opening(flow, direction)

    def _without(self, gone: frozenset[str]) -> _Oci:
        if gone not in self._left:
            left = tuple(item for item in self._found if item.rule.id not in gone)
            self._left[gone] = _Oci(left, self._holders, self._subnets)
        return self._left[gone]

    def _addition(self, flow: PlannedFlow, direction: Direction) -> str:
        local = flow.local(direction)
        held = self._holding(local)[0]
        groups = [key for key in held if self._holders[key].kind is Kind.GROUP]
        group = next((g for g in local.security_groups if g in groups), None) or next(
            iter((*local.security_groups, *groups)), None
        )
        lists = [key for key in held if self._holders[key].kind is Kind.LIST]
        if group or not lists:
            return ocimends.add_to_group(group or "OCID", flow, direction)
        # In each subnet one list is enough, and a list of several of them is written once.
        chosen = dict.fromkeys(
            next(name for name in subnet.lists if name in lists)
            for subnet in self._subnets
            if not held.keys().isdisjoint(subnet.lists)
            if both(of_networks(local.addresses) or EVERY_ADDRESS, subnet.addresses)
        )
        return "; ".join(ocimends.add_to_list(name, flow, direction) for name in chosen or lists[:1])

    def _holder_of(self, item: SecurityRule, local: Party) -> Holder:
        holder = self._holders[item.holder]
        if holder.kind is Kind.UNNAMED and len(local.security_groups) == 1:
            return replace(holder, id=local.security_groups[0])
        return holder

    def _touches(self, item: SecurityRule, flow: PlannedFlow, direction: Direction) -> bool:
        peer, peers = flow.peer(direction), self._named(flow.peer(direction))
        scene = Scene(direction, flow.local(direction), peer, flow.transport)
        return (
            item.direction is direction
            and carries(item.protocol, flow.transport)
            and item.holder in self._holding(scene.local)[0]
            and self._means(item, scene, peers) is not False
            and both(item.peer, of_networks(peer.addresses) or None) != ()
            and both(item.destination_ports, of_ports(flow.ports)) != ()
        )

    def _blocks(self, flow: PlannedFlow, direction: Direction, phase: Phase) -> bool:
        local, peer = flow.local(direction), flow.peer(direction)
        entries, default = self.entries(Scene(direction, local, peer, flow.transport, phase))
        far, near = (of_networks(party.addresses) or EVERY_ADDRESS for party in (peer, local))
        box = Box(far, near, of_ports(flow.ports), source_ports(flow))
        return any(cell.outcome is Outcome.DENY for cell in cells(entries, default, box))

    def removal(self, rule: Rule) -> str:
        """Return the oci command, or for a rule of a file that was never loaded where it stands."""
        return self.removing(rule, ())

    def removing(self, rule: Rule, gone: Collection[str]) -> str:
        """Return the command that leaves as many of the rules that read the same as are to stay."""
        found = self._by_rule[rule.id]
        holder = self._holders[found.holder]
        if holder.kind is not Kind.LIST:
            # Groups' rules go by their ids.
            return ocimends.remove(found, holder, 0, beside_tracked=False)
        alike = self._alike[_reading(found, found.raw)]
        tracked = found.stateless and _reading(found, ocimends.as_stateful(found.raw)) in self._alike
        staying = sum(one != rule.id and one not in gone for one in alike)
        return ocimends.remove(found, holder, staying, beside_tracked=tracked)

    @cached_property
    def _alike(self) -> dict[tuple[str, Direction, str], set[str]]:
        """The rules of a holder and direction that read the same."""
        found: dict[tuple[str, Direction, str], set[str]] = {}
        for item in self._found:
            found.setdefault(_reading(item, item.raw), set()).add(item.rule.id)
        return found


def _reading(item: SecurityRule, raw: Mapping[str, Any]) -> tuple[str, Direction, str]:
    return item.holder, item.direction, json.dumps(raw, sort_keys=True)

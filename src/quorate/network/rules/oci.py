"""OCI: network security groups and security lists, as the JSON that the API and `oci network` take.

Facts: https://docs.oracle.com/en-us/iaas/api/#/en/iaas/latest/datatypes/AddSecurityRuleDetails, .../IngressSecurityRule
and .../EgressSecurityRule. Rules are stateful, so no mirror is needed; one call adds at most 25 of them to a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, Plan, addresses
from quorate.network.rules import Rendered
from quorate.network.rules.openings import (
    Opening,
    by_family,
    elsewhere,
    left_out,
    nameless_groups,
    openings,
    shorten,
    slug,
    unsupported,
)
from quorate.network.rules.outline import outline

DESCRIPTION = 255
#: AddNetworkSecurityGroupSecurityRulesDetails: "at most 25".
RULES_A_CALL = 25
#: Rules of a group, both ways together, and of a list, each way (Networking docs, security rules: limits).
GROUP_LIMIT, LIST_LIMIT = 120, 200
#: Rules are not enforced for these: metadata, names, time, iSCSI (Networking docs, security rules).
UNFILTERED = addresses(("169.254.0.0/16",))
#: How ids of Amazon's groups begin.
FOREIGN = "sg-"
#: IANA protocol numbers, which the API takes as text.
PROTOCOL = {Transport.TCP: "6", Transport.UDP: "17"}


def render_groups(plan: Plan, role: Role | None) -> Rendered:
    """Return for each party its group and the bodies of the calls that add its rules, 25 at most in each."""
    findings: list[Finding] = [*left_out(plan, role), *elsewhere(plan, role, FOREIGN)]
    needed = openings(plan, role, unfiltered=UNFILTERED, foreign=FOREIGN)
    rules: dict[str, tuple[Party, list[dict[str, Any]]]] = {}
    own = {opening.local.key for opening in needed}
    for opening in needed:
        _, mine = rules.setdefault(opening.local.key, (opening.local, []))
        made = list(group_rules(opening, own))
        mine += made
        if not made:
            findings.append(_nameless(opening))
    shown = []
    for party, mine in rules.values():
        findings += too_many_in_group(party, len(mine))
        calls = [{"securityRules": mine[start : start + RULES_A_CALL]} for start in range(0, len(mine), RULES_A_CALL)]
        group: dict[str, Any] = {"displayName": group_name(party)}
        if party.security_groups:
            group["networkSecurityGroupId"] = party.security_groups[0]
        shown.append({**group, "calls": calls})
    named = (opening.peer for opening in needed if opening.peer.key in own)
    findings += nameless_groups({peer.key: peer for peer in named}.values(), "Oracle", "OCIDs", "--for terraform-oci")
    return Rendered(outline({"networkSecurityGroups": shown}, 6), tuple(findings))


def render_lists(plan: Plan, role: Role | None) -> Rendered:
    """Return for each party the ingress and egress rules of its subnet's security list."""
    findings: list[Finding] = list(left_out(plan, role))
    lists: dict[str, dict[str, Any]] = {}
    parties: dict[str, Party] = {}
    for opening in openings(plan, role, unfiltered=UNFILTERED):
        parties.setdefault(opening.local.key, opening.local)
        shown = lists.setdefault(
            opening.local.key,
            {"displayName": group_name(opening.local), "ingressSecurityRules": [], "egressSecurityRules": []},
        )
        made = list(list_rules(opening))
        shown[f"{opening.direction.value}SecurityRules"] += made
        if not made:
            findings.append(_nameless(opening))
    for key, shown in lists.items():
        for direction in Direction:
            count = len(shown[f"{direction.value}SecurityRules"])
            findings += _too_many("security list", parties[key], f"{direction.value} ", count, LIST_LIMIT)
    return Rendered(outline({"securityLists": list(lists.values())}, 4), tuple(findings))


def too_many_in_group(party: Party, count: int) -> Iterator[Finding]:
    """Return a finding where a party's group would hold more rules than a group may."""
    return _too_many("network security group", party, "", count, GROUP_LIMIT)


def _too_many(what: str, party: Party, way: str, count: int, limit: int) -> Iterator[Finding]:
    if count > limit:
        evidence = f"the {what} of {party} has {count} {way}rules; Oracle takes {limit}"
        remedy = "name agents by a CIDR or by their security group in master.yaml"
        yield Finding("PLAN-WIDE", party.key, evidence, remedy=remedy)


def _nameless(opening: Opening) -> Finding:
    remedy = f"state the addresses of {opening.peer.key} in master.yaml"
    return unsupported(opening, "OCI", f"{opening.peer.key} has neither address nor group", remedy)


def group_name(party: Party) -> str:
    """Return the display name of a party's group or list."""
    return f"quorate-{slug(party.key)}"


def group_rules(opening: Opening, own: set[str]) -> Iterator[dict[str, Any]]:
    """Return the rules of a group for one opening; a peer with a group is named by it, else by its addresses."""
    far = "source" if opening.direction is Direction.INGRESS else "destination"
    peers = [(group, "NETWORK_SECURITY_GROUP") for group in opening.peer.security_groups]
    if not peers and opening.peer.key in own:
        # One rule however many machines there are; each counts against the limit of 120.
        peers = [(group_name(opening.peer), "NETWORK_SECURITY_GROUP")]
    if not peers:
        peers = _outside(opening.peer)
    way = opening.direction.value.upper()
    for ports in opening.ports:
        match = _match(opening, ports)
        for peer, kind in peers:
            yield {"direction": way, far: peer, f"{far}Type": kind, **match}


def list_rules(opening: Opening) -> Iterator[dict[str, Any]]:
    """Return the rules of a security list for one opening; a list names peers by their addresses only."""
    far = "source" if opening.direction is Direction.INGRESS else "destination"
    for ports in opening.ports:
        match = _match(opening, ports)
        for peer, kind in _outside(opening.peer):
            yield {far: peer, f"{far}Type": kind, **match}


def _outside(party: Party) -> list[tuple[str, str]]:
    """A service behind the gateway goes by its label, for Oracle changes its addresses; everybody else by theirs."""
    if party.service_labels:
        return [(label, "SERVICE_CIDR_BLOCK") for label in party.service_labels]
    return [(cidr, "CIDR_BLOCK") for family in by_family(party.addresses) for cidr in family]


def _match(opening: Opening, ports: PortRange) -> dict[str, Any]:
    match: dict[str, Any] = {"protocol": PROTOCOL[opening.transport], "isStateless": False}
    if ports != ALL_PORTS:
        # The API counts ports from 1; port 0 is never a destination.
        limits = {"min": max(1, ports.first), "max": ports.last}
        match[f"{opening.transport.value}Options"] = {"destinationPortRange": limits}
    return {**match, "description": shorten(opening.purpose, DESCRIPTION)}

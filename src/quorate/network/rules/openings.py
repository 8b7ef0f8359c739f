"""What every renderer starts from: the openings that machines of a role need, disjoint, each with its flows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from quorate.model.ports import PortRange, merge
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Network, Party, Plan, PlannedFlow

#: Machines that carry firewall rules, and whose flows pass them: in the host's network a member is its agent's machine.
MACHINES = {Role.MASTER: (Role.MASTER,), Role.AGENT: (Role.AGENT, Role.MEMBER)}


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening in one direction: no two openings of the same ends and transport share a port.

    So each flow depends on exactly the openings that name it, and a removed rule blocks exactly the flows it names.
    """

    direction: Direction
    local: Party
    peer: Party
    transport: Transport
    ports: tuple[PortRange, ...]
    flows: tuple[PlannedFlow, ...]

    @property
    def purpose(self) -> str:
        """The flows and what they are for, for the platform's description field."""
        return "; ".join(f"{flow.flow}: {flow.purpose}" for flow in _first_of_each(self.flows))

    @property
    def slug(self) -> str:
        """A name that stays the same from run to run: lower case letters, digits and dashes."""
        words = (self.direction.value, self.local.name, self.flows[0].flow, self.peer.role.value, self.peer.name)
        return slug("-".join(words))


def _first_of_each(flows: Iterable[PlannedFlow]) -> list[PlannedFlow]:
    return list({flow.flow: flow for flow in reversed(list(flows))}.values())[::-1]


def slug(text: str) -> str:
    """The text in lower case letters, digits and single dashes."""
    return "-".join("".join(char if char.isascii() and char.isalnum() else " " for char in text.lower()).split())


def shorten(text: str, limit: int, charset: str = "") -> str:
    """The text in one line of at most `limit` bytes; what is outside a platform's `charset` becomes a blank."""
    if charset:
        text = "".join(char if char.isascii() and (char.isalnum() or char in charset) else " " for char in text)
    else:
        text = "".join(char if char.isprintable() else " " for char in text)
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore").rstrip() + "..."


def openings(
    plan: Plan, role: Role | None = None, *, unfiltered: tuple[Network, ...] = (), foreign: str = ""
) -> tuple[Opening, ...]:
    """Return what machines of that role (or of any) must let pass; flows with an end that nobody knows are left out.

    So are those to addresses that the platform never filters: a rule for them would do nothing. Ids of groups that
    begin with `foreign` are another cloud's: they name nobody here, and who has no others is not behind these rules.
    """
    roles = MACHINES[role] if role else tuple(local for locals_ in MACHINES.values() for local in locals_)
    wanted: list[tuple[Direction, PlannedFlow]] = []
    for machine in roles:
        wanted += [(direction, flow) for direction, flow in plan.seen_by(machine) if flow.known]

    def ends(pair: tuple[Direction, PlannedFlow]) -> tuple[str, str, str, str]:
        direction, flow = pair
        order = "0" if direction is Direction.INGRESS else "1"
        return order, flow.local(direction).key, _far_end(flow.peer(direction)), flow.transport.value

    def order(pair: tuple[Direction, PlannedFlow]) -> tuple[object, ...]:
        # The output lives in version control, so nothing of it hangs on the order in which a plan was made.
        _, flow = pair
        return *ends(pair), flow.ports, flow.flow, flow.purpose

    found: list[Opening] = []
    for _, group in groupby(sorted(dict.fromkeys(wanted), key=order), key=ends):
        pairs = list(group)
        direction, first = pairs[0]
        for flows in _overlapping(flow for _, flow in pairs):
            ports = merge(ports for flow in flows for ports in flow.ports)
            peer, local = _here(first.peer(direction), foreign), _here(first.local(direction), foreign)
            if is_elsewhere(first.local(direction), foreign):
                continue
            if direction is Direction.EGRESS and _all_within(peer, unfiltered):
                continue
            found.append(Opening(direction, local, peer, first.transport, ports, flows))
    return tuple(found)


def is_elsewhere(party: Party, foreign: str) -> bool:
    """Say whether all of a party's groups are another cloud's."""
    return bool(foreign and party.security_groups) and not _here(party, foreign).security_groups


def _here(party: Party, foreign: str) -> Party:
    groups = tuple(group for group in party.security_groups if not foreign or not group.startswith(foreign))
    return party if groups == party.security_groups else replace(party, security_groups=groups)


def elsewhere(plan: Plan, role: Role | None, foreign: str) -> Iterator[Finding]:
    """Yield the findings for machines that rules in this form do not hold for."""
    for party in machines(plan, role):
        if is_elsewhere(party, foreign):
            evidence = (
                f"{party.key} is in the group {party.security_groups[0]} of another cloud: no rules here are its own"
            )
            yield Finding("CLOUD-NEEDS", party.key, evidence, remedy="write its rules in the form of its own cloud")


def _far_end(peer: Party) -> str:
    """Services behind one gateway are one far end: a cloud refuses the same rule twice."""
    if not peer.service_cidrs:
        return peer.key
    return " ".join([*peer.service_cidrs, *map(str, peer.addresses)])


def _all_within(peer: Party, networks: tuple[Network, ...]) -> bool:
    return bool(peer.addresses) and all(
        any(mine.version == wide.version and mine.subnet_of(wide) for wide in networks)  # type: ignore[arg-type]
        for mine in peer.addresses
    )


def _overlapping(flows: Iterable[PlannedFlow]) -> list[tuple[PlannedFlow, ...]]:
    """Group flows that have ports in common, directly or through others; groups share no port."""
    groups: list[list[PlannedFlow]] = []
    for flow in flows:
        mine = [group for group in groups if any(_share(flow, other) for other in group)]
        groups = [group for group in groups if group not in mine]
        groups.append([member for group in mine for member in group] + [flow])
    return [tuple(group) for group in sorted(groups, key=lambda group: min(flow.ports[0] for flow in group))]


def _share(one: PlannedFlow, other: PlannedFlow) -> bool:
    return any(mine.overlaps(theirs) for mine in one.ports for theirs in other.ports)


def nameless_groups(parties: Iterable[Party], platform: str, takes: str, instead: str) -> Iterator[Finding]:
    """Yield the finding for rules that name groups which the plan knows no ids of; such a text is not to be applied."""
    without = sorted(party.key for party in parties if not party.security_groups)
    if without:
        yield Finding(
            "PLAN-UNRESOLVED",
            "group",
            f"rules name the groups of {', '.join(without)} by names, where {platform} takes {takes}",
            without[0],
            without[0],
            f"make the groups and state their ids as security_groups in master.yaml, or let them be made: {instead}",
        )


def warning(plan: Plan, role: Role | None) -> tuple[str, ...]:
    """Return what somebody must read who is about to load a host's rules: that nobody may log in by then."""
    if any(flow.source.role is Role.OPERATOR and flow.known for flow in plan.flows):
        return ()
    return (f"# WARNING: no operators in the plan: once loaded, nobody logs in to this {role or 'machine'} by SSH.",)


def machines(plan: Plan, role: Role | None = None) -> tuple[Party, ...]:
    """Return the parties of the plan that carry rules, sorted by key."""
    roles = MACHINES[role] if role else tuple(local for locals_ in MACHINES.values() for local in locals_)
    return tuple(party for party in plan.parties if party.role in roles and plan.holds_for(party))


def left_out(plan: Plan, role: Role | None = None) -> tuple[Finding, ...]:
    """Return a finding for each flow that no rule can be written for; 0.0.0.0/0 would be the alternative."""
    roles = MACHINES[role] if role else tuple(local for locals_ in MACHINES.values() for local in locals_)
    found = []
    unknown_ends = {flow for local in roles for _, flow in plan.seen_by(local) if not flow.known}
    for flow in sorted(unknown_ends, key=lambda flow: (flow.key, flow.transport, flow.ports)):
        unknown = flow.source if not flow.source.known else flow.destination
        found.append(
            Finding(
                "PLAN-UNRESOLVED",
                flow.key,
                f"no rule lets {flow} pass, for the plan knows no address of {unknown}",
                flow.source.key,
                flow.destination.key,
                f"state the addresses of {unknown.key} in master.yaml, or a proxy for what has none",
            )
        )
    return tuple(found)


def unsupported(opening: Opening, platform: str, why: str, remedy: str) -> Finding:
    """Return the finding for an opening that a platform has no form for."""
    return Finding(
        "PLAN-UNRESOLVED",
        opening.slug,
        f"{platform} cannot express it: {why}; flows {', '.join(flow.flow for flow in opening.flows)} are left out",
        opening.peer.key if opening.direction is Direction.INGRESS else opening.local.key,
        opening.local.key if opening.direction is Direction.INGRESS else opening.peer.key,
        remedy,
    )


def without_addresses(needed: Iterable[Opening], platform: str) -> tuple[Finding, ...]:
    """Return a finding for each opening whose far end a platform that knows addresses alone cannot name."""
    return tuple(
        unsupported(
            opening,
            platform,
            f"{opening.peer.key} is known by no address",
            f"state the addresses of {opening.peer.key} in master.yaml",
        )
        for opening in needed
        if not opening.peer.addresses
    )


def by_family(networks: Iterable[Network]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return IPv4 and IPv6 networks as text, in order."""
    networks = list(networks)
    return tuple(str(n) for n in networks if n.version == 4), tuple(str(n) for n in networks if n.version == 6)

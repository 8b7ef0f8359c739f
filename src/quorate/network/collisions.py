"""Ports that two frameworks or systems would both take on one machine, and defaults of other systems that meet ours."""

from __future__ import annotations

from collections.abc import Iterator

from quorate.model.ports import LAST_PORT, PortRange
from quorate.network import catalogue
from quorate.network.findings import Finding, settle
from quorate.network.flows import Flow, PortKind, Role


def collisions(launchers: frozenset[str], members: int) -> tuple[Finding, ...]:
    """Return where flows between members, and other systems' defaults, would meet in one host's network.

    `members` bounds the flows with a port for each rank. Members in networks of their own never collide.
    """
    return settle(
        [*_between(launchers, members), *_with_others(launchers, members), *_past_the_end(launchers, members)]
    )


def span(flow: Flow, members: int) -> PortRange:
    """Return the ports that a flow takes with so many members, up to the last port there is."""
    base = flow.ports.default
    return PortRange(base.first, min(base.first + members - 1, LAST_PORT)) if flow.ports.per_rank else base


def _flows(launchers: frozenset[str]) -> list[Flow]:
    return [
        flow
        for flow in catalogue.FLOWS.values()
        if flow.destination is Role.MEMBER
        and flow.ports.kind in (PortKind.FIXED, PortKind.RANGE)
        and (not flow.when.launchers or flow.when.launchers & launchers)
    ]


def _between(launchers: frozenset[str], members: int) -> Iterator[Finding]:
    flows = _flows(launchers)
    for place, one in enumerate(flows):
        for other in flows[place + 1 :]:
            if one.transport is other.transport and span(one, members).overlaps(span(other, members)):
                evidence = f"{one.id} uses {span(one, members)}, {other.id} uses {span(other, members)}"
                remedy = "in `host` mode the master leases other ports; in networks of their own both keep theirs"
                yield Finding("PORT-COLLISION", f"{one.id} and {other.id}", evidence, remedy=remedy)


def _with_others(launchers: frozenset[str], members: int) -> Iterator[Finding]:
    for flow in _flows(launchers):
        for theirs in catalogue.ELSEWHERE:
            if theirs.transport is flow.transport and span(flow, members).overlaps(theirs.ports):
                evidence = (
                    f"{flow.id} uses {span(flow, members)}; {theirs.system} uses {theirs.ports}: {theirs.purpose}"
                )
                remedy = f"do not run both in one host's network, or move {theirs.system}'s"
                yield Finding("PORT-COLLISION", f"{flow.id} and {theirs.system}", evidence, remedy=remedy)


def _past_the_end(launchers: frozenset[str], members: int) -> Iterator[Finding]:
    for flow in _flows(launchers):
        last = flow.ports.default.first + members - 1
        if flow.ports.per_rank and last > LAST_PORT:
            evidence = (
                f"{flow.id} has a port for each of {members} ranks: the last would be {last}, ports end at {LAST_PORT}"
            )
            remedy = f"at most {LAST_PORT - flow.ports.default.first + 1} members, or a lower MASTER_PORT"
            yield Finding("PORT-BUDGET", flow.id, evidence, remedy=remedy)

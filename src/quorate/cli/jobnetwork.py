"""`quorate job network`: what passed between the members of a job, flow by flow, and what their rules refused."""

from __future__ import annotations

from collections import Counter, defaultdict

from quorate.cli.find import find_job
from quorate.cli.output import bold, dim, print_json, table
from quorate.cli.session import connect
from quorate.model.asks import RefusedBy
from quorate.model.views import JobNetworkView, RefusalView
from quorate.network import catalogue


def show_network(job: str, *, as_json: bool, master: str | None, token: str | None) -> None:
    """Ask for it, and print it."""
    with connect(master, token) as client:
        view = client.network(find_job(client, job).id)
    if as_json:
        print_json(view)
    else:
        print_network(view)


def print_network(view: JobNetworkView) -> None:
    """Print it for people."""
    where = ", ".join(part for part in (view.mode, view.subnet, view.enforcement) if part)
    print(bold(f"job {view.job}, attempt {view.attempt}") + (f"  {where}" if where else ""))
    for why in view.missing:
        print(dim(f"  not known: {why}"))
    if view.nothing:
        print(f"  {view.nothing}")
        return
    if view.uncounted:
        print(dim(f"  {view.uncounted}"))
    else:
        _print_flows(view)
    _print_refused(view)


def _print_flows(view: JobNetworkView) -> None:
    print()
    table(["FLOW", ">CONNECTIONS OUT", ">CONNECTIONS IN", "PURPOSE"], _flows(view))
    print()
    print(bold("by member"))
    table(
        ["MEMBER", "FLOW", "DIRECTION", ">CONNECTIONS"],
        [(each.member, each.flow, _way(each.direction), str(each.packets)) for each in view.flows if each.packets],
        empty="no connection has been opened yet",
    )


def _print_refused(view: JobNetworkView) -> None:
    print()
    print(bold("refused"))
    table(
        ["MEMBER", "DIRECTION", "PEER", "PORT", ">PACKETS", "WHY"],
        [
            (each.member, _way(each.direction), _peer(each), f"{each.transport}/{each.port}", str(each.packets), why)
            for each, why in ((each, _why(each)) for each in view.refused)
        ],
        empty="nothing",
    )
    if view.unlisted:
        print(f"more was refused than is listed: {', '.join(view.unlisted)} tried too many ports and addresses")
    if view.spoofed:
        print(f"{view.spoofed} packets bore an address that is no member's, and were dropped")
    if view.crowded:
        print(f"{view.crowded} packets were refused: the members on one agent had too many connections to the outside")
    if view.hasty:
        print(f"{view.hasty} questions for names were dropped: the members on one agent asked too fast")


def _flows(view: JobNetworkView) -> list[tuple[str, ...]]:
    # What is counted are packets that open a connection: their bytes would say nothing of what went over it.
    opened: dict[str, Counter[str]] = defaultdict(Counter)
    for each in view.flows:
        opened[each.flow][each.direction] += each.packets
    return [
        (
            flow,
            str(both["egress"]),
            str(both["ingress"]),
            catalogue.FLOWS[flow].purpose if flow in catalogue.FLOWS else "",
        )
        for flow, both in opened.items()
    ]


def _way(direction: str) -> str:
    return {"ingress": "in", "egress": "out"}.get(direction, direction)


def _peer(refusal: RefusalView) -> str:
    return f"{refusal.peer_name} ({refusal.peer})" if refusal.peer_name else refusal.peer


def _why(refusal: RefusalView) -> str:
    if refusal.by == RefusedBy.FORBIDDEN:
        return "no member reaches it: an agent, the master, another job or metadata"
    if refusal.by == RefusedBy.EGRESS:
        return "none of the hosts that network.egress names"
    uses = _uses(refusal)
    return "not planned" + (f"; it is a port of {uses}" if uses else "")


def _uses(refusal: RefusalView) -> str:
    """Flows of the catalogue with such a port: what the plan of another launcher would have let pass."""
    return ", ".join(
        flow.id
        for flow in catalogue.FLOWS.values()
        if flow.destination.value == "member"
        and flow.transport.value == refusal.transport
        and refusal.port in flow.ports.default
        and len(flow.ports.default) < 1000
    )

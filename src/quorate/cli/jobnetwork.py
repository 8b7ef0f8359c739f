"""`quorate job network`: what passed between the members of a job, flow by flow, and what their rules refused."""

from __future__ import annotations

from collections import defaultdict

from quorate.cli.output import bold, dim, print_json, size, table
from quorate.cli.session import connect
from quorate.model.views import JobNetworkView, RefusalView
from quorate.network import catalogue


def show_network(job: str, *, as_json: bool, master: str | None, token: str | None) -> None:
    """Ask for it, and print it."""
    with connect(master, token) as client:
        view = client.network(job)
    if as_json:
        print_json(view)
    else:
        _show(view)


def _show(view: JobNetworkView) -> None:
    where = ", ".join(part for part in (view.mode, view.subnet, view.enforcement) if part)
    print(bold(f"job {view.job}, attempt {view.attempt}") + (f"  {where}" if where else ""))
    for why in view.missing:
        print(dim(f"  not known: {why}"))
    if view.nothing:
        print(f"  {view.nothing}")
        return
    print()
    table(["FLOW", ">CONNECTIONS OUT", ">BYTES OUT", ">CONNECTIONS IN", ">BYTES IN", "PURPOSE"], _flows(view))
    print()
    print(bold("by member"))
    table(
        ["MEMBER", "FLOW", "DIRECTION", ">PACKETS", ">BYTES"],
        [
            (each.member, each.flow, _way(each.direction), str(each.packets), size(each.bytes))
            for each in view.flows
            if each.packets
        ],
        empty="no connection has been opened yet",
    )
    print()
    print(bold("refused"))
    table(
        ["MEMBER", "DIRECTION", "PEER", "PORT", ">PACKETS", "WOULD BE"],
        [
            (each.member, _way(each.direction), _peer(each), f"{each.transport}/{each.port}", str(each.packets), what)
            for each, what in ((each, _would_be(each)) for each in view.refused)
        ],
        empty="nothing",
    )
    if view.spoofed:
        print(f"{view.spoofed} packets bore an address that is no member's, and were dropped")


def _flows(view: JobNetworkView) -> list[tuple[str, ...]]:
    sums: dict[str, dict[str, list[int]]] = defaultdict(lambda: {"egress": [0, 0], "ingress": [0, 0]})
    for each in view.flows:
        of_flow = sums[each.flow][each.direction]
        of_flow[0] += each.packets
        of_flow[1] += each.bytes
    return [
        (
            flow,
            str(both["egress"][0]),
            size(both["egress"][1]),
            str(both["ingress"][0]),
            size(both["ingress"][1]),
            catalogue.FLOWS[flow].purpose if flow in catalogue.FLOWS else "",
        )
        for flow, both in sums.items()
    ]


def _way(direction: str) -> str:
    return {"ingress": "in", "egress": "out"}.get(direction, direction)


def _peer(refusal: RefusalView) -> str:
    return f"{refusal.peer_name} ({refusal.peer})" if refusal.peer_name else refusal.peer


def _would_be(refusal: RefusalView) -> str:
    """Which flows of the catalogue use such a port: what the plan of another launcher would have let pass."""
    named = [
        flow.id
        for flow in catalogue.FLOWS.values()
        if flow.destination.value == "member"
        and flow.transport.value == refusal.transport
        and refusal.port in flow.ports.default
        and len(flow.ports.default) < 1000
    ]
    return ", ".join(named)

"""From an allocation's plan to the rules of one member's sandbox."""

from ipaddress import IPv4Address

from quorate.agent.sandbox.spec import FlowRule
from quorate.network.flows import Direction, Role
from quorate.network.plan import Plan


def flow_rules(plan: Plan, address: str) -> tuple[FlowRule, ...]:
    """The plan's flows between members as the member with that address sees them; flows of others are left out."""
    own = IPv4Address(address)
    rules = []
    for flow in plan.flows:
        if flow.source.role is not Role.MEMBER or flow.destination.role is not Role.MEMBER:
            continue
        ports = tuple((ports.first, ports.last) for ports in flow.ports)
        for direction in (Direction.INGRESS, Direction.EGRESS):
            peers = tuple(map(str, flow.peer(direction).v4))
            if peers and any(own in network for network in flow.local(direction).v4):
                rules.append(FlowRule(flow.flow, direction, flow.transport, peers, ports, flow.purpose))
    return tuple(rules)

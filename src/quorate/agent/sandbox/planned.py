"""From an allocation's plan to the rules of each member's sandbox; pure."""

from collections import defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from quorate.agent.sandbox.spec import FlowRule
from quorate.model.ports import merge
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow


@dataclass(frozen=True, slots=True)
class Rules:
    """The plan's flows between members as those at either end see them.

    A flow with a port for each rank is one rule for who opens it, to any of those ports at any of those members: what
    a rank does not serve is refused where that rank is, which alone has an exact rule. A sandbox is thus as large in an
    allocation of thousands as in one of two.
    """

    incoming: tuple[PlannedFlow, ...]
    #: Each with those who may open it.
    outgoing: tuple[tuple[Party, FlowRule], ...]

    @classmethod
    def of(cls, plan: Plan) -> "Rules":
        """Those of the whole allocation."""
        between = [f for f in plan.flows if f.source.role is Role.MEMBER and f.destination.role is Role.MEMBER]
        alike: dict[tuple[str, Transport, Party], list[PlannedFlow]] = defaultdict(list)
        for flow in between:
            alike[flow.flow, flow.transport, flow.source].append(flow)
        outgoing = [(flows[0].source, rule) for flows in alike.values() for rule in _rules(Direction.EGRESS, flows)]
        return cls(tuple(between), tuple(outgoing))

    def at(self, address: str) -> tuple[FlowRule, ...]:
        """Those of the member with that address."""
        own = IPv4Address(address)
        served = [flow for flow in self.incoming if _holds(flow.destination, own)]
        incoming = [rule for flow in served for rule in _rules(Direction.INGRESS, [flow])]
        return (*incoming, *(rule for source, rule in self.outgoing if _holds(source, own)))


def _rules(direction: Direction, flows: list[PlannedFlow]) -> list[FlowRule]:
    """One rule for flows that differ in their far ends and ports alone; none where those are of IPv6."""
    first = flows[0]
    networks = (network for flow in flows for network in flow.peer(direction).v4)
    peers = tuple(map(str, collapse_addresses(networks)))
    ports = tuple((ports.first, ports.last) for ports in merge(ports for flow in flows for ports in flow.ports))
    return [FlowRule(first.flow, direction, first.transport, peers, ports, first.purpose)] if peers else []


def _holds(party: Party, address: IPv4Address) -> bool:
    return any(isinstance(network, IPv4Network) and address in network for network in party.addresses)

"""A plan: the flows of a cluster or an allocation with both ends known; rules are made from it, audits judge by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_network,
    summarize_address_range,
)
from typing import Any

from quorate.model.ports import PortRange
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Encryption, NetworkMode, Role, Transport

Network = IPv4Network | IPv6Network

#: What an operator must write in full before a rule names everybody.
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Party:
    """An end of a flow, by everything that is known about where it is; renderers take what their platform understands.

    Two parties are equal when all of it is; `key` tells them apart within a plan.
    """

    role: Role
    #: Names it within its role: a pool, a service, a member; unique within a plan.
    name: str
    #: Addresses (a single one is a /32 or a /128), disjoint, sorted, IPv4 first.
    addresses: tuple[Network, ...] = ()
    #: GCP network tags.
    tags: tuple[str, ...] = ()
    #: GCP service accounts, by email.
    service_accounts: tuple[str, ...] = ()
    #: AWS security group ids or OCI network security group OCIDs.
    security_groups: tuple[str, ...] = ()
    #: Kubernetes pod labels.
    labels: tuple[tuple[str, str], ...] = ()
    #: The Kubernetes namespace of the pods, where it is not the policy's own.
    namespace: str | None = None
    #: DNS names, for what has no fixed addresses.
    hosts: tuple[str, ...] = ()
    #: OCI's labels of services' CIDRs and ids of AWS prefix lists: addresses that the cloud alone knows.
    service_cidrs: tuple[str, ...] = ()
    #: The cloud's network in which the machines are, by name or id.
    vpc: str | None = None

    def __hash__(self) -> int:
        """Cheap for thousands of addresses: parties of one plan differ in their keys."""
        return hash(self.key)

    @property
    def key(self) -> str:
        """What names the party in a plan, such as `agent/gpu`."""
        return f"{self.role.value}/{self.name}"

    @property
    def known(self) -> bool:
        """Whether a rule can name it; a rule for an unknown party must not be written, least of all as 0.0.0.0/0."""
        named = self.tags or self.service_accounts or self.security_groups or self.service_cidrs
        return bool(self.addresses or named or self.labels)

    @property
    def prefix_lists(self) -> tuple[str, ...]:
        """What AWS calls its addresses."""
        return tuple(name for name in self.service_cidrs if name.startswith("pl-"))

    @property
    def service_labels(self) -> tuple[str, ...]:
        """What OCI calls its addresses."""
        return tuple(name for name in self.service_cidrs if not name.startswith("pl-"))

    @property
    def v4(self) -> tuple[IPv4Network, ...]:
        """Its IPv4 addresses."""
        return tuple(network for network in self.addresses if isinstance(network, IPv4Network))

    @property
    def v6(self) -> tuple[IPv6Network, ...]:
        """Its IPv6 addresses."""
        return tuple(network for network in self.addresses if isinstance(network, IPv6Network))

    def __str__(self) -> str:
        shown = [*map(str, self.addresses), *self.tags, *self.service_accounts, *self.security_groups]
        shown += [*self.service_cidrs, *self.hosts]
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        return f"{self.key} ({', '.join(shown[:3])}{more})" if shown else self.key


@dataclass(frozen=True, slots=True)
class PlannedFlow:
    """One flow with both ends and its ports known."""

    #: The id of the catalogue's flow or forbidden flow.
    flow: str
    source: Party
    destination: Party
    transport: Transport
    #: The destination's ports, disjoint and sorted; all ports are (0-65535).
    ports: tuple[PortRange, ...]
    purpose: str
    #: Why it is in this plan, such as "pool gpu allows host networking with launcher torch".
    because: str = ""
    encryption: Encryption = Encryption.NONE

    @property
    def key(self) -> str:
        """What names the flow in a plan and in the descriptions of rules, the same from run to run."""
        return f"{self.flow}:{self.source.name}:{self.destination.name}"

    @property
    def known(self) -> bool:
        """Whether rules can be written for both of its ends."""
        return self.source.known and self.destination.known

    def directions(self, role: Role) -> tuple[Direction, ...]:
        """Return how a machine of that role sees the flow: as ingress, as egress, as both, or not at all."""
        seen = []
        if self.destination.role is role:
            seen.append(Direction.INGRESS)
        if self.source.role is role:
            seen.append(Direction.EGRESS)
        return tuple(seen)

    def peer(self, direction: Direction) -> Party:
        """Return the far end, as seen from the end whose direction that is."""
        return self.source if direction is Direction.INGRESS else self.destination

    def local(self, direction: Direction) -> Party:
        """Return the near end, to which a rule of that direction is attached."""
        return self.destination if direction is Direction.INGRESS else self.source

    def __str__(self) -> str:
        shown = ",".join(map(str, self.ports))
        return f"{self.flow}: {self.source.key} -> {self.destination.key} {self.transport.value}/{shown}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The flows of a cluster or of an allocation: those that must pass, and those that must fail."""

    name: str
    flows: tuple[PlannedFlow, ...] = ()
    #: Flows that must fail, with their ends; an attempt on any of their ports counts.
    forbidden: tuple[PlannedFlow, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    #: Where it is the plan of one pool's agents: rules for agents are theirs alone.
    pool: str | None = None
    #: How members of each pool may be joined; not known of a plan that was read back.
    modes: Mapping[str, frozenset[NetworkMode]] = field(default_factory=dict, compare=False)
    #: Pools whose machines' fabric is EFA, which passes only where their group allows all traffic to and from itself:
    #: it is neither TCP nor UDP, so no flow says so. Not known of a plan that was read back.
    efa: frozenset[str] = field(default=frozenset(), compare=False)

    def on(self, pool: str) -> Plan:
        """Return what concerns agents of that pool, as a firewall on one of them sees it."""
        return replace(
            self,
            flows=tuple(flow for flow in self.flows if _concerns(flow, pool)),
            forbidden=tuple(flow for flow in self.forbidden if _concerns(flow, pool)),
            pool=pool,
        )

    def holds_for(self, machine: Party) -> bool:
        """Say whether rules made of the plan are for that machine, too."""
        return self.pool is None or machine.role is not Role.AGENT or machine.name == self.pool

    @property
    def parties(self) -> tuple[Party, ...]:
        """Every end of a flow once, sorted by key."""
        ends = (end for flow in (*self.flows, *self.forbidden) for end in (flow.source, flow.destination))
        return tuple(sorted(dict.fromkeys(ends), key=lambda party: party.key))

    def seen_by(self, role: Role) -> tuple[tuple[Direction, PlannedFlow], ...]:
        """Return the flows that a firewall on machines of that role must let pass, ingress first."""
        pairs = [
            (direction, flow)
            for flow in self.flows
            for direction in flow.directions(role)
            if self.holds_for(flow.local(direction))
        ]
        return tuple(sorted(pairs, key=lambda pair: pair[0] is Direction.EGRESS))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for `--json`; `quorate.network.planfile` reads it back."""
        return {
            "plan": self.name,
            "parties": [_party(party) for party in self.parties],
            "flows": [_flow(flow) for flow in self.flows],
            "forbidden": [_flow(flow) for flow in self.forbidden],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def _concerns(flow: PlannedFlow, pool: str) -> bool:
    agents = [end.name for end in (flow.source, flow.destination) if end.role is Role.AGENT]
    return not agents or pool in agents


def addresses(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and CIDRs into the fewest disjoint networks that hold exactly the same addresses, IPv4 first.

    Raises ValueError for what is neither, and for a CIDR with host bits set.
    """
    return collapse(ip_network(text.strip()) for text in texts)


def literals(hosts: Iterable[str]) -> tuple[Network, ...]:
    """Return the addresses that are written as host names; nothing where one of them is a name."""
    try:
        return addresses(hosts)
    except ValueError:
        return ()


def collapse(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the fewest disjoint networks that hold exactly the same addresses, IPv4 first."""
    given = list(networks)
    v4 = collapse_addresses(network for network in given if isinstance(network, IPv4Network))
    v6 = collapse_addresses(network for network in given if isinstance(network, IPv6Network))
    return (*v4, *v6)


def without(networks: Iterable[Network], taken: Iterable[Network]) -> tuple[Network, ...]:
    """Return the addresses of `networks` that are in none of `taken`, as the fewest networks, IPv4 first."""
    mine, theirs = list(networks), list(taken)
    left: list[Network] = []
    for family in (IPv4Network, IPv6Network):
        holes = sorted(_span(hole) for hole in theirs if isinstance(hole, family))
        address = IPv4Address if family is IPv4Network else IPv6Address
        for first, last in sorted(_span(network) for network in mine if isinstance(network, family)):
            for start, end in _gaps(first, last, holes):
                left += summarize_address_range(address(start), address(end))
    return collapse(left)


def _span(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _gaps(first: int, last: int, holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in holes:
        if end < first or start > last:
            continue
        if first < start:
            yield first, start - 1
        first = end + 1
    if first <= last:
        yield first, last


def _party(party: Party) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": party.key, "role": party.role.value, "name": party.name}
    shown["addresses"] = [str(network) for network in party.addresses]
    for name in ("tags", "service_accounts", "security_groups", "hosts", "service_cidrs"):
        if values := getattr(party, name):
            shown[name] = list(values)
    if party.labels:
        shown["labels"] = dict(party.labels)
    for name in ("namespace", "vpc"):
        if value := getattr(party, name):
            shown[name] = value
    return shown


def _flow(flow: PlannedFlow) -> dict[str, Any]:
    return {
        "flow": flow.flow,
        "source": flow.source.key,
        "destination": flow.destination.key,
        "transport": flow.transport.value,
        "ports": [str(ports) for ports in flow.ports],
        "purpose": flow.purpose,
        "because": flow.because,
        "encryption": flow.encryption.value,
    }

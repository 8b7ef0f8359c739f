"""From an allocation to its plan, and from the plan to what proves it; pure. `sandbox/planned.py` enforces it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from quorate.launch.config import ProbeFlow
from quorate.model.jobnetwork import Enforcement
from quorate.model.messages import AllocationSpec, PlannedMember, RoleSpec
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.flows import NetworkMode, PortKind, Role, Transport
from quorate.network.jobplan import (
    FLOW_OF_PURPOSE,
    JobNetwork,
    MemberEnd,
    Openness,
    follows_master_port,
    master_ports_of,
    plan_job,
)
from quorate.network.plan import Plan, PlannedFlow
from quorate.network.remedies import Platform, opening

_CARRIER, _LEASED = "vxlan", "leased"


def plan_of(spec: AllocationSpec) -> Plan:
    """The flows of the allocation. Raises PortsPastTheEnd."""
    return plan_job(_job_network(spec))


def probe_flows(spec: AllocationSpec, plan: Plan, platform: Platform = Platform.NFTABLES) -> tuple[ProbeFlow, ...]:
    """What the preflight tries between the members; nothing where there is one alone.

    On the hosts' network only ports are tried that were leased, and windows: nobody was promised any other.
    """
    if len(spec.members) < 2:
        return ()
    remedy = _Remedy(spec, platform)
    return tuple(flow for flows in _grouped(spec, plan).values() for flow in _probed(flows, spec, remedy))


def carrier(spec: AllocationSpec, platform: Platform = Platform.NFTABLES) -> ProbeFlow | None:
    """Of an overlay, the flow between the agents that carries all others."""
    if spec.network is None or spec.network.mode != NetworkMode.OVERLAY or len(spec.members) < 2:
        return None
    flow = catalogue.flow(_CARRIER)
    ports = PortRange.of(spec.network.vxlan_port) if spec.network.vxlan_port else flow.ports.default
    v6 = _is_v6(spec.members[0].underlay)
    command = opening(platform, flow.id, flow.transport.value, ports, "{source}", "{destination}", v6=v6)
    return ProbeFlow(flow.id, (ports.first, ports.last), flow.purpose, flow.transport.value, remedy=command)


def enforced_master_ports(spec: AllocationSpec) -> tuple[PortRange, ...]:
    """Where alone members reach MASTER_PORT and what is counted from it; empty where any port will do.

    The plan is the same on all agents, so it knows what the job's file says, and nothing that an image or a bootstrap
    script sets.
    """
    network = spec.network
    if network is None or network.members != Openness.PLANNED or network.enforcement != Enforcement.ENFORCE:
        return ()
    return tuple(ports for flow in plan_of(spec).flows if follows_master_port(flow.flow) for ports in flow.ports)


def _master_ports(spec: AllocationSpec) -> tuple[int | None, ...]:
    roles = dict.fromkeys(member.role for member in spec.members)
    return master_ports_of({**spec.environment, **spec.roles.get(role, RoleSpec()).environment} for role in roles)


def _job_network(spec: AllocationSpec) -> JobNetwork:
    network = spec.network
    private = network is not None
    return JobNetwork(
        allocation=spec.allocation,
        kind=spec.kind,
        launcher=spec.launcher,
        mode=NetworkMode(network.mode) if network else NetworkMode.HOST,
        members=tuple(_end(member, leased=not private) for member in spec.members),
        window=PortRange(*network.window) if network and network.window else catalogue.EPHEMERAL,
        # Nobody has promised that hosts' firewalls let anything pass.
        openness=Openness(network.members) if network else Openness.PLANNED,
        gpu=any(member.slots for member in spec.members),
        ssh=spec.ssh,
        master_ports=_master_ports(spec),
        subnet=ip_network(network.subnet) if network else None,
    )


def _end(member: PlannedMember, *, leased: bool) -> MemberEnd:
    ports = {FLOW_OF_PURPOSE[p]: PortRange.of(port) for p, port in member.ports.items() if p in FLOW_OF_PURPOSE}
    return MemberEnd(member.name, member.rank, ip_address(member.address), member.agent, ports if leased else {})


class _Remedy:
    """The command for a flow: the firewall's on the hosts' network; inside an own network the rules are ours."""

    def __init__(self, spec: AllocationSpec, platform: Platform) -> None:
        self._job = spec.job
        self._platform = platform
        self.private = spec.network is not None
        self._v6 = _is_v6(spec.members[0].address)

    def of(self, flow: str, transport: Transport, ports: PortRange) -> str:
        if self.private:
            return f"quorate job network {self._job}"
        leases = catalogue.ports(_LEASED)
        if _is_leased(flow, ports) and ports.first in leases:
            # The next job has another port of them.
            flow, ports = _LEASED, leases
        return opening(self._platform, flow, transport.value, ports, "{source}", "{destination}", v6=self._v6)


def _grouped(spec: AllocationSpec, plan: Plan) -> dict[tuple[str, Transport], list[PlannedFlow]]:
    """The flows between members by their ids; a flow with a port for each member is in the plan many times."""
    leased = {FLOW_OF_PURPOSE[p] for member in spec.members for p in member.ports if p in FLOW_OF_PURPOSE}
    groups: dict[tuple[str, Transport], list[PlannedFlow]] = defaultdict(list)
    for flow in plan.flows:
        between = flow.source.role is Role.MEMBER and flow.destination.role is Role.MEMBER
        promised = spec.network is not None or flow.flow in leased or any(len(ports) > 1 for ports in flow.ports)
        if between and promised:
            groups[flow.flow, flow.transport].append(flow)
    return groups


def _probed(flows: list[PlannedFlow], spec: AllocationSpec, remedy: _Remedy) -> Iterator[ProbeFlow]:
    ranks = {member.name: member.rank for member in spec.members}
    by_ports: dict[PortRange, list[int]] = defaultdict(list)
    for flow in flows:
        for ports in flow.ports:
            # The party of all members has a name that no member has.
            by_ports[ports] += [ranks[flow.destination.name]] if flow.destination.name in ranks else []
    first = flows[0]
    base = min(by_ports)
    if len(by_ports) > 1 and all(here == [ports.first - base.first] for ports, here in by_ports.items()):
        whole = PortRange(base.first, max(by_ports).last)
        yield _flow(first, base, _unless_all(range(len(by_ports)), spec), remedy, whole, per_rank=True)
        return
    for ports, listeners in sorted(by_ports.items()):
        yield _flow(first, ports, _unless_all(listeners, spec), remedy, ports)


def _flow(
    flow: PlannedFlow, ports: PortRange, to: tuple[int, ...], remedy: _Remedy, opened: PortRange, per_rank: bool = False
) -> ProbeFlow:
    where = "" if remedy.private or not _is_leased(flow.flow, ports) else ", on a leased port"
    # Port 0 is in the range of all ports, and nobody can listen on it.
    return ProbeFlow(
        flow.flow,
        (max(1, ports.first), ports.last),
        flow.purpose + where,
        flow.transport.value,
        destinations=to,
        per_rank=per_rank,
        remedy=remedy.of(flow.flow, flow.transport, opened),
    )


def _is_leased(flow: str, ports: PortRange) -> bool:
    """Of a member in its host's network: whether it listens elsewhere than where everybody expects it."""
    known = catalogue.flow(flow).ports
    return known.kind is PortKind.FIXED and len(ports) == 1 and ports != known.default


def _unless_all(ranks: Iterable[int], spec: AllocationSpec) -> tuple[int, ...]:
    """Ranks as launch wants them: none for all members."""
    named = tuple(sorted(ranks))
    return () if len(named) == len(spec.members) else named


def _is_v6(address: str) -> bool:
    return ":" in address

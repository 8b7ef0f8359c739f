"""The plan of one allocation: which member may connect to which, on what ports, and what none of them may reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPV4LENGTH, IPV6LENGTH, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType

from quorate.model.ports import LAST_PORT, PortRange, merge
from quorate.network import catalogue
from quorate.network.flows import Context, Flow, Listener, NetworkMode, PortKind, Role
from quorate.network.plan import Network, Party, Plan, PlannedFlow, addresses, collapse, without

#: The purposes for which members' ports are leased, each with its flow of the catalogue.
FLOW_OF_PURPOSE: Mapping[str, str] = MappingProxyType(
    {
        "rendezvous": "rendezvous",
        "watch": "watch",
        "torch": "torch-rendezvous",
        "main": "master-port",
        "tensorflow": "tf-config",
    }
)


class Openness(StrEnum):
    """What members of one allocation may do among themselves."""

    #: Anything, as in a network without a firewall.
    OPEN = "open"
    #: The flows of the platform and of the job's launcher.
    PLANNED = "planned"


class PortsPastTheEnd(ValueError):
    """A flow with a port for each rank would need ports beyond 65535."""


@dataclass(frozen=True, slots=True)
class MemberEnd:
    """A member as the network sees it."""

    name: str
    rank: int
    address: IPv4Address | IPv6Address
    agent: str
    #: Ports that it listens on instead of the catalogue's, by flow: leases of its host, or the user's own choice.
    ports: Mapping[str, PortRange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The networks that members must not reach, as far as the master knows them."""

    agents: tuple[Network, ...] = ()
    master: tuple[Network, ...] = ()
    #: All overlays, of which this allocation's subnet is one part.
    overlays: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class JobNetwork:
    """All that the plan of an allocation depends on; members are in rank order."""

    allocation: str
    kind: str
    launcher: str
    mode: NetworkMode
    members: tuple[MemberEnd, ...]
    window: PortRange
    openness: Openness = Openness.PLANNED
    gpu: bool = False
    ssh: bool = True
    #: Whether its members use the training SDK, whose chief listens on the two control ports.
    sdk: bool = False
    #: MASTER_PORT as its roles are told it, each once; None where the user has not chosen it. Ranked ports follow it.
    master_ports: tuple[int | None, ...] = (None,)
    #: TCP ports that the job declares besides those of its launcher, between its members.
    extra: tuple[PortRange, ...] = ()
    horovod_range: PortRange | None = None
    subnet: Network | None = None
    around: Surroundings = Surroundings()

    def __post_init__(self) -> None:
        if [member.rank for member in self.members] != list(range(len(self.members))):
            raise ValueError(f"the members of {self.allocation} are not in rank order")


def openness_of(kind: str, launcher: str) -> Openness:
    """Return the default: open for clusters and free-form jobs, planned for jobs with a framework's launcher."""
    return Openness.OPEN if kind == "cluster" or launcher == "none" else Openness.PLANNED


#: Flows at the first member's MASTER_PORT, or counted from it.
_FOLLOWERS = frozenset({"master-port", "tf-config", "deepspeed-rendezvous"})
#: Where a user says which port MASTER_PORT is, the first that is set.
_MASTER_PORT_VARIABLES = ("MASTER_PORT", "BACKENDAI_DIST_MASTER_PORT")


def master_ports_of(environments: Iterable[Mapping[str, str]]) -> tuple[int | None, ...]:
    """What `JobNetwork.master_ports` wants: of roles that differ each has its own."""
    return tuple(dict.fromkeys(map(master_port_of, environments))) or (None,)


def master_port_of(environment: Mapping[str, str]) -> int | None:
    """The port at which the user wants the first member, from which ranked ports count; None where they set none."""
    for variable in _MASTER_PORT_VARIABLES:
        text = environment.get(variable, "")
        if text.isascii() and text.isdigit() and 0 < int(text) <= LAST_PORT:
            return int(text)
    return None


def mistaken_master_port(environment: Mapping[str, str]) -> str | None:
    """Say why members would not start: the MASTER_PORT that they would take is no port. None where it is one."""
    for variable in _MASTER_PORT_VARIABLES:
        if (text := environment.get(variable)) is not None:
            if text.isascii() and text.isdigit() and len(text) <= len(str(LAST_PORT)) and 0 < int(text) <= LAST_PORT:
                return None
            return f"{variable}: {text[:40]!r} is no port; ports are 1 to {LAST_PORT}"
    return None


def follows_master_port(flow: str) -> bool:
    """Whether members use the flow where MASTER_PORT says."""
    return flow in _FOLLOWERS


def plan_job(job: JobNetwork) -> Plan:
    """Return the plan of an allocation; raise PortsPastTheEnd where a rank's port would be no port."""
    everyone = Party(Role.MEMBER, "members", collapse(_host(member.address) for member in job.members))
    return Plan(job.allocation, tuple(_flows(job, everyone)), tuple(_forbidden(job, everyone)))


def _flows(job: JobNetwork, everyone: Party) -> Iterator[PlannedFlow]:
    context = _context(job)
    for flow in catalogue.FLOWS.values():
        if flow.destination is not Role.MEMBER or not flow.when.holds(context):
            continue
        if flow.source is not Role.MEMBER:
            first = job.members[0]
            yield _planned(flow, _end(Role.AGENT, first), _end(Role.MEMBER, first), (flow.ports.default,))
        elif flow.ports.kind is PortKind.LEASED:
            continue  # what is leased stands in the plan as the flow that it serves
        elif flow.ports.kind is PortKind.DECLARED:
            yield _planned(flow, everyone, everyone, merge(job.extra))
        elif flow.ports.per_rank or any(flow.id in member.ports for member in job.members):
            for member in job.members if flow.listener is Listener.EVERY else job.members[:1]:
                yield _planned(flow, everyone, _end(Role.MEMBER, member), _ports(flow, job, member))
        else:
            listeners = everyone if flow.listener is Listener.EVERY else _end(Role.MEMBER, job.members[0])
            yield _planned(flow, everyone, listeners, _ports(flow, job, job.members[0]))


def _forbidden(job: JobNetwork, everyone: Party) -> Iterator[PlannedFlow]:
    context = _context(job)
    own = (job.subnet,) if job.subnet else everyone.addresses
    far = {
        Role.AGENT: Party(Role.AGENT, "agents", job.around.agents),
        Role.MASTER: Party(Role.MASTER, "master", job.around.master),
        Role.STRANGER: Party(Role.STRANGER, "other allocations", without(job.around.overlays, own)),
        Role.METADATA: Party(Role.METADATA, "cloud metadata", addresses(catalogue.METADATA_ADDRESSES)),
    }
    for flow in catalogue.FORBIDDEN.values():
        if flow.source is Role.MEMBER and flow.when.holds(context) and far[flow.destination].known:
            for transport in flow.transports:
                ends = (everyone, far[flow.destination])
                yield PlannedFlow(flow.id, *ends, transport, (catalogue.ports("open"),), flow.harm)


def _context(job: JobNetwork) -> Context:
    several = len(job.members) > 1
    features = {
        "several-members": several,
        "open": job.openness is Openness.OPEN,
        "gpu": job.gpu,
        "ssh": job.ssh,
        "sdk": job.sdk,
        "declared": bool(job.extra),
    }
    return Context(
        launchers=frozenset([job.launcher]),
        kinds=frozenset([job.kind]),
        modes=frozenset([job.mode]),
        features=frozenset(name for name, holds in features.items() if holds),
    )


def _ports(flow: Flow, job: JobNetwork, member: MemberEnd) -> tuple[PortRange, ...]:
    if flow.id in member.ports:
        return (member.ports[flow.id],)
    if flow.ports.kind is PortKind.WINDOW:
        return (job.window,)
    if flow.id == "horovod" and job.horovod_range:
        return (job.horovod_range,)
    if not follows_master_port(flow.id):
        return (
            (_of_rank(flow, flow.ports.default.first, job, member),) if flow.ports.per_rank else (flow.ports.default,)
        )
    bases = {base or flow.ports.default.first for base in job.master_ports}
    return tuple(sorted(_of_rank(flow, base, job, member) for base in bases))


def _of_rank(flow: Flow, base: int, job: JobNetwork, member: MemberEnd) -> PortRange:
    if not flow.ports.per_rank:
        return PortRange.of(base)
    if base + len(job.members) - 1 > LAST_PORT:
        most = LAST_PORT - base + 1
        raise PortsPastTheEnd(
            f"{flow.id} needs a port for each rank from {base} on: {len(job.members)} members would need port "
            f"{base + len(job.members) - 1}, but ports end at {LAST_PORT}; take at most {most}, or a lower MASTER_PORT"
        )
    return PortRange.of(base + member.rank)


def _end(role: Role, member: MemberEnd) -> Party:
    return Party(role, member.name, (_host(member.address),))


def _host(address: IPv4Address | IPv6Address) -> Network:
    if isinstance(address, IPv4Address):
        return IPv4Network((int(address), IPV4LENGTH))
    return IPv6Network((int(address), IPV6LENGTH))


def _planned(flow: Flow, source: Party, destination: Party, ports: tuple[PortRange, ...]) -> PlannedFlow:
    return PlannedFlow(
        flow.id, source, destination, flow.transport, ports, flow.purpose, str(flow.when), flow.encryption
    )

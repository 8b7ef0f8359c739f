"""The plan of a cluster, from its `master.yaml`: what the firewalls of the masters and agents must let pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from urllib.parse import urlsplit

from quorate.model.clusterfile import ClusterFile, NetworkSettings, PoolSection, Service, Where
from quorate.model.ports import UNPRIVILEGED, PortRange
from quorate.network import catalogue
from quorate.network.clustercheck import check_cluster
from quorate.network.findings import Finding, settle
from quorate.network.flows import Context, Flow, NetworkMode, PortKind, Role
from quorate.network.noproxy import names_one
from quorate.network.overlaps import At, nowhere
from quorate.network.plan import EVERYWHERE, Network, Party, Plan, PlannedFlow, addresses, collapse, literals, without
from quorate.network.settings import (
    CLOUD_APIS,
    CLOUD_DNS,
    CLOUD_METADATA,
    CLOUD_NTP,
    CLOUD_VOLUMES,
    DEFAULT_LARGEST_JOB,
    DEFAULT_LAUNCHERS,
    DEFAULT_REGISTRIES,
    SERVICES,
    modes_of,
    window_of,
)


def plan_cluster(cluster: ClusterFile, *, unserved: Set[str] = frozenset(), at: At = nowhere) -> Plan:
    """Return the plan of a cluster: flows between machines, as their firewalls see them.

    Members in networks of their own are not in it: their flows travel inside VXLAN or never leave a machine. In `host`
    mode they use the agents' addresses, so they stand in it as flows between agents. For
    features in `unserved` nothing listens, so no port is planned. `at` tells findings where in the file a key stands.
    """
    builder = _Builder(cluster, unserved)
    flows = tuple(dict.fromkeys(builder.flows()))
    forbidden = tuple(dict.fromkeys(builder.forbidden()))
    findings = settle([*builder.findings, *check_cluster(cluster, flows, at)])
    modes = {pool.name: modes_of(cluster.settings(pool)) for pool in cluster.pools}
    efa = frozenset(pool.name for pool in cluster.pools if pool.fabric == "efa")
    return Plan(cluster.name, flows, forbidden, findings, modes=modes, efa=efa)


class _Builder:
    """Walks the catalogue once for each pool; what it notices on the way goes to `findings`."""

    def __init__(self, cluster: ClusterFile, unserved: Set[str]) -> None:
        self.cluster = cluster
        self.findings: list[Finding] = []
        self.names: dict[str, Party] = {}
        self.master = _party(Role.MASTER, "master", cluster.master.where, cluster.master.names)
        self.users = _party(Role.USER, "users", cluster.users.where)
        self.operators = _party(Role.OPERATOR, "operators", cluster.operators.where if cluster.operators else Where())
        self.agents = {pool.name: _party(Role.AGENT, pool.name, pool.where) for pool in cluster.pools}
        secure = "tls" if cluster.master.speaks_tls else "plain"
        features = {secure, "several-members", "ssh", "sdk", "gpu"}
        features |= {"apps"} if cluster.master.apps else set()
        features |= {"operators"} if cluster.operators else set()
        self.features = frozenset(features - unserved)

    def flows(self) -> Iterator[PlannedFlow]:
        """Yield the planned flows in the catalogue's order, pool by pool."""
        for flow in catalogue.FLOWS.values():
            for pool in self.cluster.pools:
                yield from self.of_pool(flow, pool, self.cluster.settings(pool))

    def of_pool(self, flow: Flow, pool: PoolSection, settings: NetworkSettings) -> Iterator[PlannedFlow]:
        if not flow.when.holds(self.context(pool, settings)):
            return
        agents = self.agents[pool.name]
        host_mode = NetworkMode.HOST in modes_of(settings)
        match flow.source, flow.destination:
            case Role.MEMBER, Role.MEMBER if host_mode:
                because = f"pool {pool.name} allows jobs in the hosts' own network"
                yield self.planned(flow, agents, agents, self.member_ports(flow, pool, settings), because)
            case Role.AGENT, Role.AGENT:
                because = f"pool {pool.name} allows jobs that span agents"
                yield self.planned(flow, agents, agents, (self.port(flow, settings),), because)
            case (Role.MEMBER, _) | (_, Role.MEMBER):
                return
            case source, destination:
                inside = {
                    Role.AGENT: agents,
                    Role.MASTER: self.master,
                    Role.USER: self.users,
                    Role.OPERATOR: self.operators,
                }
                port = self.port(flow, settings)
                if destination in inside:
                    yield self.planned(flow, inside[source], inside[destination], (port,))
                    return
                parties = self.outside(destination, pool, settings)
                if source is Role.AGENT and destination in SERVICES:
                    parties = _past_the_proxy(parties, settings)
                for party, own_port in parties:
                    yield self.planned(flow, inside[source], self.named(party), (own_port or port,))

    def forbidden(self) -> Iterator[PlannedFlow]:
        """Yield what must fail and what a firewall of machines can see: users and everybody to agents."""
        anyone = Party(Role.ANYONE, "anyone", EVERYWHERE)
        for flow_id, source in (("user-to-agent", self.users), ("anyone-to-agent", anyone)):
            for pool in self.cluster.pools:
                agents = self.agents[pool.name]
                elsewhere = source
                if source is self.users:
                    left = without(source.addresses, agents.addresses)
                    if left != source.addresses:
                        elsewhere = replace(source, name=f"users outside {pool.name}", addresses=left)
                    if source.known and not elsewhere.known:
                        continue  # every user's machine is an agent
                for transport in catalogue.FORBIDDEN[flow_id].transports:
                    harm = catalogue.FORBIDDEN[flow_id].harm
                    yield PlannedFlow(flow_id, elsewhere, agents, transport, (catalogue.ports("open"),), harm)

    def context(self, pool: PoolSection, settings: NetworkSettings) -> Context:
        features = set(self.features)
        if settings.proxy:
            features.add("proxy")
        services = self.cluster.outside
        features |= {"registries"}
        features |= {"packages"} if services.packages else set()
        features |= {"stores"} if services.stores else set()
        features |= {"agent-cloud-api"} if services.cloud_apis else set()
        return Context(
            launchers=frozenset(settings.launchers or DEFAULT_LAUNCHERS),
            kinds=frozenset(("train", "command", "cluster", "notebook", "shell", "tensorboard")),
            modes=modes_of(settings),
            providers=frozenset([pool.provider.type]) if pool.provider else frozenset(),
            features=frozenset(features),
        )

    def named(self, party: Party) -> Party:
        """Return the party under a name that no other party of the plan has."""
        number, name = 1, party.name
        while self.names.setdefault(party.key, party) != party:
            number += 1
            party = replace(party, name=f"{name} ({number})")
        return party

    def planned(
        self, flow: Flow, source: Party, destination: Party, ports: tuple[PortRange, ...], because: str = ""
    ) -> PlannedFlow:
        ends = (source, destination)
        return PlannedFlow(flow.id, *ends, flow.transport, ports, flow.purpose, because, flow.encryption)

    def port(self, flow: Flow, settings: NetworkSettings) -> PortRange:
        """Return the port of a flow that has one, or what the file sets instead."""
        master, operators = self.cluster.master, self.cluster.operators
        chosen = {
            "master.port": master.port,
            "master.apps_port": master.apps_port,
            "network.vxlan_port": settings.vxlan_port,
            "operators.ssh_port": operators.ssh_port if operators else None,
        }.get(flow.ports.setting or "")
        return PortRange.of(chosen) if chosen else flow.ports.default

    def member_ports(self, flow: Flow, pool: PoolSection, settings: NetworkSettings) -> tuple[PortRange, ...]:
        """Return the ports of a flow between members that use their hosts' addresses."""
        base = flow.ports.default
        if flow.id == "horovod":
            if settings.horovod_port_range is None:
                evidence = "Horovod binds random ports, so every TCP port above 1023 is open between the agents"
                remedy = (
                    "set network.horovod_port_range, or leave horovod out of network.launchers or host out of modes"
                )
                self.findings.append(Finding("PLAN-WIDE", f"agent/{pool.name}", evidence, remedy=remedy))
            return (settings.horovod_port_range or UNPRIVILEGED,)
        match flow.ports.kind:
            case PortKind.WINDOW:
                return (window_of(settings),)
            case PortKind.LEASED:
                return (settings.lease_range or base,)
            case PortKind.FIXED if flow.ports.per_rank:
                last = base.first + (settings.largest_job or DEFAULT_LARGEST_JOB) - 1
                return (PortRange(base.first, min(last, UNPRIVILEGED.last)),)
            case _:
                return (base,)

    def outside(self, role: Role, pool: PoolSection, settings: NetworkSettings) -> list[tuple[Party, PortRange | None]]:
        """Return the parties of that role outside the cluster, each with its port where it has one of its own."""
        outside = self.cluster.outside
        provider = pool.provider.type if pool.provider else None
        if role is Role.PROXY:
            if settings.proxy is None:
                return []
            url = urlsplit(settings.proxy.url)
            host = url.hostname or ""
            party = Party(role, host, _or_literal(settings.proxy.addresses, host), hosts=(host,))
            return [(party, PortRange.of(url.port) if url.port else None)]
        if role in (Role.DNS, Role.NTP):
            chosen, cloud = (outside.dns, CLOUD_DNS) if role is Role.DNS else (outside.ntp, CLOUD_NTP)
            known = chosen or (addresses(cloud[provider]) if provider else ())
            name = provider if provider and not chosen else role.value
            return [(Party(role, name, collapse(known)), None)]
        if provider and role in (Role.METADATA, Role.VOLUMES):
            own = CLOUD_METADATA if role is Role.METADATA else CLOUD_VOLUMES
            return [(Party(role, provider, collapse(addresses(own[provider]))), None)]
        services: tuple[Service, ...] = getattr(outside, SERVICES[role])
        if role is Role.REGISTRY and not services:
            services = DEFAULT_REGISTRIES
        if role is Role.CLOUD_API and not services and provider:
            region = pool.provider.region if pool.provider else None
            services = (
                Service(hosts=tuple(host.replace("REGION", region or "REGION") for host in CLOUD_APIS[provider])),
            )
        return [_service(role, service) for service in services]


def _past_the_proxy(
    parties: list[tuple[Party, PortRange | None]], settings: NetworkSettings
) -> list[tuple[Party, PortRange | None]]:
    """Return those that agents reach directly: all where there is no proxy, else those that its `no_proxy` names."""
    if settings.proxy is None:
        return parties
    entries = settings.proxy.no_proxy
    return [(party, port) for party, port in parties if names_one(entries, party.hosts, party.addresses)]


def _party(role: Role, name: str, where: Where, hosts: Iterable[str] = ()) -> Party:
    return Party(
        role,
        name,
        collapse(where.addresses),
        tags=tuple(sorted(where.tags)),
        service_accounts=tuple(sorted(where.service_accounts)),
        security_groups=tuple(sorted(where.security_groups)),
        labels=tuple(sorted(where.labels.items())),
        namespace=where.namespace,
        vpc=where.vpc,
        hosts=tuple(hosts),
    )


def _service(role: Role, service: Service) -> tuple[Party, PortRange | None]:
    name = str((*service.hosts, *service.addresses, *service.service_cidrs)[0])
    name += f":{service.port}" if service.port else ""
    known = _or_literal(service.addresses, *service.hosts)
    party = Party(role, name, known, hosts=service.hosts, service_cidrs=tuple(sorted(service.service_cidrs)))
    return party, PortRange.of(service.port) if service.port else None


def _or_literal(known: tuple[Network, ...], *hosts: str) -> tuple[Network, ...]:
    """Return the known addresses; where there are none, those that are written as host names."""
    return collapse(known) if known else literals(hosts)

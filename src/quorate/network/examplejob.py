"""The plan of a job that is not placed yet: its members by name, on example addresses of the cluster's overlay."""

from __future__ import annotations

from ipaddress import IPv4Network

from quorate.model.clusterfile import ClusterFile, NetworkSettings
from quorate.model.job import JobSpec
from quorate.model.jobnetwork import NetworkWish
from quorate.network.budget import Shape, check_window
from quorate.network.findings import settle
from quorate.network.flows import NetworkMode
from quorate.network.jobcheck import master_ports_of_job
from quorate.network.jobplan import JobNetwork, MemberEnd, Openness, Surroundings, openness_of, plan_job
from quorate.network.overlays import address_of
from quorate.network.plan import Plan, addresses
from quorate.network.settings import DEFAULT_OVERLAYS, modes_of, window_of


def plan_of_spec(spec: JobSpec, cluster: ClusterFile) -> Plan:
    """Return the plan that a job would get in its pool, with the finding if its window is too small for it."""
    from dataclasses import replace

    pools = {pool.name: pool for pool in cluster.pools}
    settings = cluster.settings(pools[spec.resources.pool]) if spec.resources.pool in pools else cluster.network
    overlays = [network for network in settings.overlays or () if isinstance(network, IPv4Network)]
    overlay = (overlays or [IPv4Network(DEFAULT_OVERLAYS[0])])[0]
    members = tuple(
        MemberEnd(f"{role}{index}", rank, address_of(overlay, rank), f"agent {rank + 1}")
        for rank, (role, index) in enumerate(spec.members())
    )
    around = Surroundings(
        tuple(network for pool in cluster.pools for network in pool.where.addresses),
        tuple(cluster.master.where.addresses),
        tuple(settings.overlays or addresses(DEFAULT_OVERLAYS)),
    )
    kind, launcher = spec.kind.value, spec.launcher.value
    network = JobNetwork(
        spec.name,
        kind,
        launcher,
        mode_of(spec, settings),
        members,
        spec.network.window or window_of(settings),
        Openness(spec.network.members) if spec.network.members else openness_of(kind, launcher),
        gpu=spec.resources.slots > 0,
        master_ports=master_ports_of_job(spec),
        around=around,
    )
    made = plan_job(network)
    shape = Shape(launcher, max(1, spec.resources.slots), spec.resources.nodes, gpu=spec.resources.slots > 0)
    narrow = check_window(shape, network.window, f"job {spec.name}")
    return replace(made, findings=settle([narrow] if narrow else []))


def mode_of(spec: JobSpec, settings: NetworkSettings) -> NetworkMode:
    """Return the mode that a job gets: its own, else a bridge on one agent or an overlay, else what the pool allows."""
    if spec.network.mode is not NetworkWish.AUTO:
        return NetworkMode(spec.network.mode.value)
    allowed = modes_of(settings)
    spans_agents = spec.resources.nodes > 1 and not spec.one_agent
    wanted = NetworkMode.OVERLAY if spans_agents else NetworkMode.BRIDGE
    if wanted in allowed:
        return wanted
    return NetworkMode.HOST if NetworkMode.HOST in allowed else next(iter(sorted(allowed)))

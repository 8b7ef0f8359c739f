"""Ports for members that share their hosts' networks: canonical ones where free, else out of the host's range."""

import zlib
from collections.abc import Iterable, Sequence

from quorate.master.state import State
from quorate.model.ids import MemberId
from quorate.model.job import JobSpec, Launcher
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.jobplan import FLOW_OF_PURPOSE
from quorate.network.ports import REST_S, HostPorts, Lease, Leases, Refusal, Request, Want, lease

#: A stranger who has a port is not asked for it again for so long. Each asking costs a job an attempt.
_TAKEN_S = 900.0
#: An agent does not say which range its kernel uses; this is Linux's default (ip_local_port_range).
_EPHEMERAL = catalogue.ports("torch-store")


def rest(state: State, host: str, ports: Iterable[int], now: float, *, taken: bool) -> None:
    """Nobody leases the ports for a while. `taken`: somebody outside the cluster listens on at least one of them."""
    until = now + (_TAKEN_S if taken else REST_S)
    resting = state.ports_resting.setdefault(host, {})
    for port in ports:
        resting[port] = max(until, resting.get(port, 0.0))


def purposes(spec: JobSpec, members: int, rank: int) -> tuple[str, ...]:
    """What the member listens for. One member without a launcher needs no port at all."""
    wanted: list[str] = []
    if members > 1:
        wanted += ["rendezvous", "watch"]
    if rank == 0 and spec.launcher is Launcher.TORCH:
        wanted.append("torch")
    if rank == 0 and (members > 1 or spec.launcher is not Launcher.NONE):
        wanted.append("main")
    return tuple(wanted)


def lease_ports(
    state: State, spec: JobSpec, places: Sequence[tuple[MemberId, str]], now: float
) -> dict[str, dict[str, int]] | Refusal:
    """Ports by member and purpose for a gang whose members (in rank order) go to these agents; changes nothing."""
    requests = []
    for rank, (member, agent) in enumerate(places):
        wants = tuple(Want(p, catalogue.port(FLOW_OF_PURPOSE[p])) for p in purposes(spec, len(places), rank))
        if wants:
            requests.append(Request(_host(state, agent), member, wants))
    if not requests:
        return {}
    answer = lease(_leases(state, {request.host.key for request in requests}, now), requests, now)
    if isinstance(answer, Refusal):
        return answer
    _, granted = answer
    return {holder: {purpose: ports.first for purpose, ports in by.items()} for holder, by in granted.items()}


def canonical_ports(spec: JobSpec, places: Sequence[tuple[MemberId, str]]) -> dict[str, dict[str, int]]:
    """Ports by member and purpose for a gang with a network of its own, where nobody else can have them."""
    return {
        member: {purpose: catalogue.port(FLOW_OF_PURPOSE[purpose]) for purpose in purposes(spec, len(places), rank)}
        for rank, (member, _) in enumerate(places)
    }


def _host(state: State, agent: str) -> HostPorts:
    record = state.agents[agent]
    given = record.lease_ports
    return HostPorts(
        key=record.host,
        lease_range=PortRange(*given) if given else catalogue.ports("leased"),
        ephemeral=_EPHEMERAL,
        begin_at=zlib.crc32(state.identity.cluster.encode()),
    )


def _leases(state: State, hosts: set[str], now: float) -> Leases:
    """The leases of these hosts: held by members, or resting."""
    by_host: dict[str, dict[int, Lease]] = {}
    for host in hosts:
        resting = state.ports_resting.get(host, {})
        for port in [port for port, until in resting.items() if now >= until]:
            del resting[port]
        ports = {port: Lease(host, port, "", "", until - REST_S) for port, until in resting.items()}
        ports.update({port: Lease(host, port, member, "") for port, member in state.ports_used.get(host, {}).items()})
        by_host[host] = ports
    return Leases(by_host)

"""What of a job's network is sure to fail, seen before the job is placed: ports past the end, too small a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from quorate.model.job import JobSpec
from quorate.model.ports import LAST_PORT, PortRange
from quorate.network import catalogue
from quorate.network.budget import Shape, check_window
from quorate.network.findings import Finding
from quorate.network.flows import NetworkMode
from quorate.network.jobplan import (
    JobNetwork,
    MemberEnd,
    PortsPastTheEnd,
    master_ports_of,
    mistaken_master_port,
    plan_job,
)
from quorate.network.overlays import address_of

#: Addresses are needed to plan, and none is looked at.
_ANYWHERE = IPv4Network("10.0.0.0/8")


def check_job(spec: JobSpec, window: PortRange | None, *, gpu: bool) -> Finding | str | None:
    """What keeps the job from ever working; None where nothing is seen. `window`: the members', where it is narrowed.

    `gpu`: whether slots are GPUs. Costs next to nothing for a job that sets neither a window nor MASTER_PORT.
    """
    nodes = spec.resources.nodes
    ports = master_ports_of_job(spec)
    if nodes > 1 and any(port is not None and port + nodes - 1 > LAST_PORT for port in ports):
        members = tuple(
            MemberEnd(f"{role}{index}", rank, address_of(_ANYWHERE, rank), "")
            for rank, (role, index) in enumerate(spec.members())
        )
        everywhere = catalogue.EPHEMERAL
        mode, launcher = NetworkMode.OVERLAY, spec.launcher.value
        try:
            plan_job(JobNetwork("job", spec.kind.value, launcher, mode, members, everywhere, master_ports=ports))
        except PortsPastTheEnd as error:
            return str(error)
    if window is None:
        return None
    ranks = max(1, *(spec.slots_of(role) for role, _ in spec.members()))
    return check_window(Shape(spec.launcher.value, ranks, nodes, gpu=gpu), window, f"job {spec.name}")


def master_ports_of_job(spec: JobSpec) -> tuple[int | None, ...]:
    """MASTER_PORT as each role is told it; see `JobNetwork.master_ports`."""
    return master_ports_of(_environments(spec))


def mistaken_master_port_of_job(spec: JobSpec) -> str | None:
    """Say why members of the job would not start, where one is told a MASTER_PORT that is no port."""
    return next(filter(None, map(mistaken_master_port, _environments(spec))), None)


def _environments(spec: JobSpec) -> Iterator[Mapping[str, str]]:
    for own in [role.environment for role in spec.roles.values()] or [{}]:
        yield {**spec.environment, **own}

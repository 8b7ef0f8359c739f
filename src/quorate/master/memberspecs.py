"""What the members of each role run, as agents are told it: a role's own keys before those of the job."""

from collections.abc import Sequence
from typing import TypeVar

from quorate.model.job import JobSpec
from quorate.model.membersettings import MemberSettings
from quorate.model.messages import Mount, RoleSpec
from quorate.model.roles import Role

T = TypeVar("T")


def role_specs(spec: JobSpec) -> dict[str, RoleSpec]:
    """By name of the role; empty where every member runs the job's entry point as a process and wants nothing more."""
    if spec.plain:
        return {}
    roles = dict.fromkeys(role for role, _ in spec.members())
    return {role: _role_spec(spec, spec.roles.get(role) or Role()) for role in roles}


def _role_spec(spec: JobSpec, role: Role) -> RoleSpec:
    image = _first(role.image, spec.image)
    return RoleSpec(
        image=image.name if image else "",
        pull=image.pull.value if image else RoleSpec().pull,
        entrypoint=role.entrypoint or spec.entrypoint,
        environment=dict(role.environment),
        bootstrap=_first(role.bootstrap, spec.bootstrap) or "",
        workdir=_first(role.workdir, spec.workdir) or "",
        run_as=_first(role.run_as, spec.run_as) or "",
        memory_bytes=_first(role.memory, spec.memory) or 0,
        cpus=_first(role.cpus, spec.cpus) or 0.0,
        shm_bytes=_first(role.shm, spec.shm) or 0,
        pids=_first(role.pids, spec.pids) or 0,
        mounts=_mounts((spec, role)),
        devices=tuple(dict.fromkeys((*spec.devices, *role.devices))),
        capabilities=tuple(dict.fromkeys((*spec.capabilities, *role.capabilities))),
    )


def _first(own: T | None, common: T | None) -> T | None:
    return common if own is None else own


def _mounts(settings: Sequence[MemberSettings]) -> tuple[Mount, ...]:
    """Of two with one target, the later one stands."""
    by_target = {mount.target: mount for each in settings for mount in each.mounts}
    return tuple(Mount(mount.source, mount.target, mount.read_only) for mount in by_target.values())

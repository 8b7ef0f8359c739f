"""From an allocation in its hosts' network to what its members on this machine may do there; pure."""

from collections.abc import Iterator, Mapping

import msgspec

from quorate.agent.planning import plan_of
from quorate.agent.sandbox.spec import HostMembers, Mode, SpecError
from quorate.model.messages import AllocationSpec, HostsSpec
from quorate.model.ports import LAST_PORT
from quorate.network.flows import Role, Transport
from quorate.network.jobplan import Openness
from quorate.network.plan import PlannedFlow

#: Below, machines' own services listen, and no member can.
_FIRST_PORT = 1024


def host_members(spec: AllocationSpec, agent: str, ephemeral: tuple[int, int]) -> HostMembers:
    """What the allocation's members on this agent may do, without their users.

    `ephemeral`: first and last port that this machine's kernel picks, as the others' do. Raises ValueError.
    """
    told = spec.hosts or HostsSpec(enforcement=Mode.OFF.value)
    try:
        mode, openness = Mode(told.enforcement), Openness(told.members)
    except ValueError as error:
        raise SpecError(f"{spec.allocation}: {error}") from None
    flows: set[tuple[str, int]] = set()
    ranges: set[tuple[Transport, int, int]] = set()
    if openness is Openness.OPEN:
        ranges |= {(transport, _FIRST_PORT, LAST_PORT) for transport in Transport}
    for flow in _between_members(spec):
        for ports in flow.ports:
            if len(ports) == 1 and flow.transport is Transport.TCP:
                flows |= {(str(host), ports.first) for network in flow.destination.addresses for host in network}
            elif openness is Openness.PLANNED and ports.last >= _FIRST_PORT:
                ranges.add((flow.transport, max(_FIRST_PORT, ports.first), ports.last))
                ranges.add((flow.transport, max(_FIRST_PORT, ephemeral[0]), ephemeral[1]))
    return HostMembers(
        allocation=spec.allocation,
        mode=mode,
        leased=tuple(sorted({port for one in spec.members if one.agent == agent for port in one.ports.values()})),
        machines=told.addresses,
        flows=tuple(sorted(flows)),
        ranges=tuple(sorted(ranges)),
        forbidden=told.forbidden,
        api=told.api,
    )


def shared_out(members: Mapping[str, tuple[HostMembers, frozenset[int]]]) -> tuple[HostMembers, ...]:
    """All allocations with the users that are their own; a port that two have leased is the later one's.

    By allocation: what it may do, and whom its members run as.
    """
    taken: set[int] = set()
    shared = []
    for allocation, (own, users) in reversed(list(members.items())):
        others = {uid for other, (_, theirs) in members.items() if other != allocation for uid in theirs}
        leased = tuple(port for port in own.leased if port not in taken)
        taken |= set(leased)
        shared.append(msgspec.structs.replace(own, users=tuple(sorted(users - others)), leased=leased))
    return tuple(reversed(shared))


def _between_members(spec: AllocationSpec) -> Iterator[PlannedFlow]:
    for flow in plan_of(spec).flows:
        if flow.source.role is Role.MEMBER and flow.destination.role is Role.MEMBER:
            yield flow

"""What the agents are to have, derived from the records: the whole set each time, each spec once a link."""

from collections.abc import Iterator

import msgspec

from quorate.master.effects import SendTo
from quorate.master.memberspecs import role_specs
from quorate.master.records import AllocationRecord
from quorate.master.state import State
from quorate.master.transitions.joining import enforcement, openness
from quorate.model.job import TOKEN_SECRET
from quorate.model.messages import AllocationSpec, Desired, HostsSpec, NetworkSpec

STRAY = "this master does not know it"


def allocation_spec(state: State, allocation: AllocationRecord) -> AllocationSpec:
    """All that the agents of a gang need of it."""
    record = state.specs[allocation.job]
    spec = record.spec
    return AllocationSpec(
        allocation=allocation.id,
        job=allocation.job,
        attempt=allocation.attempt,
        nonce=allocation.nonce,
        name=spec.name,
        owner=state.jobs[allocation.job].owner,
        entrypoint=spec.entrypoint,
        launcher=spec.launcher.value,
        environment=dict(spec.environment),
        members=allocation.members,
        grace_s=spec.grace,
        start_timeout_s=spec.start_timeout,
        stop_after_s=spec.stop_after if spec.may_restart else None,
        max_runtime_s=spec.max_runtime,
        context=spec.context or "",
        secrets=(*sorted(record.sealed), *((TOKEN_SECRET,) if spec.token else ())),
        kind=spec.kind.value,
        roles=role_specs(spec),
        preflight=spec.preflight.value,
        fabric=state.settings.network_of(spec.resources.pool).fabric or "",
        network=_network(state, allocation),
        hosts=_hosts(state, allocation) if allocation.network is None else None,
        # In a network of its own a member's SSH port is free, and nobody outside can try it.
        ssh=allocation.network is not None,
    )


def _network(state: State, allocation: AllocationRecord) -> NetworkSpec | None:
    """The allocation's network with what its members must not reach, as far as it is known by now."""
    if allocation.network is None:
        return None
    networks = state.networks
    api = networks.api() if state.specs[allocation.job].spec.token else ()
    return msgspec.structs.replace(allocation.network, forbidden=networks.forbidden(state.agents), api=api)


def _hosts(state: State, allocation: AllocationRecord) -> HostsSpec:
    """What members in their hosts' network may do, as far as it is known by now."""
    spec, networks = state.specs[allocation.job].spec, state.networks
    agents = {member.agent: state.agents[member.agent] for member in allocation.members if member.agent in state.agents}
    return HostsSpec(
        members=openness(spec).value,
        enforcement=enforcement(state, spec).value,
        addresses=networks.addresses(agents),
        forbidden=networks.machines(state.agents),
        api=networks.api(v6=True) if spec.token else (),
    )


class Outbox:
    """Remembers which link carried which allocation's spec; nothing else is kept between batches."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._carried: dict[int, set[str]] = {}

    def forget(self, link: int) -> None:
        """The link is gone."""
        self._carried.pop(link, None)

    def desired(self, agent: str) -> Iterator[SendTo]:
        """The agent's desired set as of now, if there is a link that can take it."""
        state = self._state
        live = state.live.get(agent)
        if live is None or live.link is None or live.regressed:
            return
        held = sorted(state.held_by(agent), key=lambda member: (state.jobs[member.job].seq, member.id))
        wanted = {member.allocation for member in held}
        carried = self._carried.setdefault(live.link, set())
        fresh = [
            allocation_spec(state, state.allocations[key])
            for key in sorted({m.allocation for m in held if not m.stop and m.allocation not in carried})
        ]
        carried &= wanted
        carried.update(spec.allocation for spec in fresh)
        stop: dict[str, str] = {member.id: member.stop for member in held if member.stop}
        stop.update(dict.fromkeys(live.strays, STRAY))
        message = Desired(
            epoch=state.identity.epoch,
            generation=state.generation,
            members=(*(member.id for member in held), *live.strays),
            allocations=tuple(fresh),
            stop=stop,
        )
        yield SendTo(live.link, state.agents[agent].id, message)

"""From the scheduler's answer to an allocation: slots by index, ports, members, all of a gang in one event."""

import hashlib
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

import msgspec

from quorate.master.events import AgentsProbed, ScheduleDue
from quorate.master.records import AllocationRecord, JobRecord, MemberRecord, SettingRecord, Stamp
from quorate.master.state import State
from quorate.master.transitions.draft import Draft
from quorate.master.transitions.joining import network_for
from quorate.master.transitions.leases import canonical_ports, lease_ports
from quorate.master.transitions.maintenance import ADOPTED, unheard
from quorate.master.transitions.retention import forget_attempts
from quorate.model.ids import AgentId, JobId, allocation_id, member_id
from quorate.model.job import JobSpec
from quorate.model.messages import NetworkSpec, PlannedMember
from quorate.model.state import JobState
from quorate.network import overlays
from quorate.network.ports import Refusal
from quorate.scheduling.line import decide
from quorate.scheduling.types import View

AnyRefusal = Refusal | overlays.Refusal

#: When no port was free and nobody knows when one will be.
_ASK_AGAIN_S = 5.0
#: A pass that asks for another one at once is not to keep the master busy.
_LEAST_RECHECK_S = 0.1


def scheduler_view(state: State, now: float) -> View:
    """All that the scheduler looks at."""
    return View(
        now_s=now,
        agents=state.agent_views(),
        queue=tuple(state.queue.values()),
        running=tuple(state.running.values()),
        reservations=state.reservations,
        apart=state.apart,
    )


def hold_on_placing(state: State) -> str | None:
    """Why nothing may be placed at all; None in a healthy cluster."""
    if state.regressed and not state.adopted:
        names = ", ".join(sorted(state.regressed)[:3])
        return f"the store has gone back: {names} has seen a later state (STORE-REGRESSED); quorate master adopt"
    if state.identity.restored and not state.adopted:
        return "the store was restored from a backup and waits to be accepted; quorate master adopt"
    # No time makes this safe: a job that may not be restarted is not stopped by a silent agent, and has slots, ports
    # and a network that this store would give away.
    silent = unheard(state)
    if silent:
        who = silent[0] if len(silent) == 1 else f"{silent[0]} and {len(silent) - 1} more"
        return (
            f"after a restore nothing is placed until every agent has said what it runs; {who} has not: start it, or, "
            f"where its machine is off for good, quorate agent revoke {silent[0]} --gone"
        )
    if state.unaccounted:
        agent = min(state.unaccounted)
        strays = state.live[agent].strays
        which = f", such as {strays[0]}" if strays else ""
        return f"agent {agent} still ends members that the adopted store does not know{which}; its log says more"
    return None


def probed(draft: Draft, event: AgentsProbed) -> None:
    """Gangs keep off the pairs that do not reach each other; what runs there runs on."""
    draft.state.set_apart(event.apart)


def schedule(draft: Draft, event: ScheduleDue) -> None:
    """One pass over what changed."""
    state = draft.state
    timed = state.schedule_at is not None and state.schedule_at <= draft.now
    pools = None if timed else frozenset(state.pools_touched)
    earlier = None if timed else state.schedule_at
    state.schedule_due = False
    state.schedule_at = None
    if hold_on_placing(state) is not None:
        return  # What ends a hold is a change of an agent, after which it is looked again.
    if ADOPTED in state.settings_kept:
        draft.drop(SettingRecord, ADOPTED)
    state.pools_touched.clear()
    if not state.queue:
        state.reservations = ()
        return
    decisions = decide(scheduler_view(state, draft.now), state.settings.pools, pools=pools)
    before, state.reservations = state.reservations, decisions.reservations
    looks = [earlier] if earlier is not None else []
    if decisions.recheck_in_s is not None:
        looks.append(draft.now + max(decisions.recheck_in_s, _LEAST_RECHECK_S))
    held = {reservation.job: reservation for reservation in before}
    for placed in decisions.placements:
        refusal = place(draft, draft.job(placed.job), placed.agents, event.entropy)
        if refusal is not None:
            if placed.job in held:
                # It waits on, and what it has held so long stays its own.
                state.reservations = (*state.reservations, held[placed.job])
            looks.append(refusal.retry_at if refusal.retry_at is not None else draft.now + _ASK_AGAIN_S)
    # Placing touched the very pools that were just looked at: another pass would answer the same.
    state.schedule_due = False
    state.pools_touched.clear()
    state.schedule_at = min(looks, default=None)


def place(draft: Draft, job: JobRecord, agents: Sequence[str], entropy: bytes) -> AnyRefusal | None:
    """Gives the gang its places, whole; a Refusal if there is no port or no network for it."""
    state = draft.state
    spec = state.specs[job.id].spec
    allocation = allocation_id(job.id, job.next_attempt)
    gang = plan_gang(state, job.id, job.next_attempt, spec, agents, draft.now)
    if not isinstance(gang, Gang):
        state.port_refusals[job.id] = str(gang)
        return gang
    state.port_refusals.pop(job.id, None)
    draft.put(
        AllocationRecord(
            id=allocation,
            job=job.id,
            attempt=job.next_attempt,
            nonce=hashlib.blake2b(allocation.encode(), key=entropy, digest_size=16).hexdigest(),
            members=gang.members,
            placed=draft.stamp,
            network=gang.network,
            joined=gang.joined,
        )
    )
    for member in gang.members:
        draft.put(
            MemberRecord(
                id=member_id(allocation, member.rank),
                allocation=allocation,
                job=job.id,
                agent=AgentId(member.agent),
                rank=member.rank,
                name=member.name,
                slots=member.slots,
                ports=member.ports if gang.network is None else {},
                host=state.agents[member.agent].host,
            )
        )
    where = ", ".join(sorted(set(agents))[:4]) + (", …" if len(set(agents)) > 4 else "")
    draft.tell(
        job,
        f"attempt {job.next_attempt}: placed on {where}",
        state=JobState.STARTING,
        attempt=job.next_attempt,
        next_attempt=job.next_attempt + 1,
        placed=draft.stamp,
        running=None,
        waited_s=job.waited_s + job.queued.until(draft.stamp),
        reason="",
    )
    forget_attempts(draft, job)
    state.due(draft.now + spec.start_timeout + state.settings.start_margin_s, "starting", allocation)
    return None


class Gang(NamedTuple):
    """A gang with its places, before anything of it exists."""

    #: In rank order.
    members: tuple[PlannedMember, ...]
    #: None where they share their hosts' network.
    network: NetworkSpec | None
    #: How they are joined and why, in words for people.
    joined: str


def plan_gang(
    state: State, job: JobId, attempt: int, spec: JobSpec, agents: Sequence[str], now: float
) -> Gang | AnyRefusal:
    """A gang on these agents (in rank order) with slots, ports, addresses and network; changes nothing."""
    allocation = allocation_id(job, attempt)
    joined = network_for(state, allocation, spec, agents)
    if isinstance(joined, overlays.Refusal):
        return joined
    network, because = joined
    places = [(member_id(allocation, rank), agent) for rank, agent in enumerate(agents)]
    ports = lease_ports(state, spec, places, now) if network is None else canonical_ports(spec, places)
    if isinstance(ports, Refusal):
        return ports
    subnet = IPv4Network(network.subnet) if network else None
    taken: dict[str, set[int]] = {}
    members = []
    names = spec.members(len(agents))
    for rank, agent in enumerate(agents):
        record = state.agents[agent]
        used = taken.setdefault(agent, set(state.slots_used.get(agent, ())))
        role, index = names[rank]
        wanted = spec.slots_of(role)
        slots = tuple([slot.index for slot in record.slots if slot.index not in used][:wanted])
        if len(slots) < wanted:
            raise AssertionError(f"{agent} was given {wanted} slots of {job} and has {len(slots)}")
        used.update(slots)
        members.append(
            PlannedMember(
                rank=rank,
                role=role,
                index=index,
                name=f"{role}{index}",
                agent=agent,
                address=str(overlays.address_of(subnet, rank)) if subnet else record.address,
                underlay=record.address if subnet else "",
                slots=slots,
                ports=ports.get(member_id(allocation, rank), {}),
            )
        )
    return Gang(tuple(members), network, because)


def preview(state: State, spec: JobSpec, owner: str, now: float, wall: float) -> Gang | str:
    """Where the job would go if it were submitted now, or why it would wait; changes nothing."""
    from quorate.scheduling.reasons import explain

    stamp = Stamp(state.identity.epoch, now, wall)
    job = JobRecord(id=JobId("preview"), owner=owner, seq=2**53, submitted=stamp, queued=stamp)
    view = scheduler_view(state, now)
    view = msgspec.structs.replace(view, queue=(*view.queue, state.request(job, spec)))
    hold = hold_on_placing(state)
    if hold is not None:
        return hold
    decisions = decide(view, state.settings.pools, pools={spec.resources.pool})
    for placed in decisions.placements:
        if placed.job == job.id:
            gang = plan_gang(state, job.id, 1, spec, placed.agents, now)
            return gang if isinstance(gang, Gang) else str(gang)
    return explain(view, job.id)

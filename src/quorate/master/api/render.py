"""The records as the API shows them: model/views.py out of the state."""

import datetime
from collections.abc import Iterable
from typing import TypeVar

from quorate.master.records import AgentRecord, AllocationRecord, JobRecord, MemberRecord, Stamp
from quorate.master.standing import agent_state
from quorate.master.state import State
from quorate.model.ids import member_id
from quorate.model.job import JobSpec
from quorate.model.messages import Finding, NetworkSpec, PlannedMember
from quorate.model.roles import Role
from quorate.model.state import AgentState, JobState, MemberState
from quorate.model.views import (
    AgentView,
    AttemptView,
    FindingView,
    HistoryEntry,
    JobDetail,
    JobView,
    MemberView,
    NetworkView,
    PoolView,
    SlotView,
)

View = TypeVar("View", bound=JobView)


def utc(wall: float) -> datetime.datetime:
    """UTC seconds as a moment."""
    return datetime.datetime.fromtimestamp(wall, datetime.UTC)


def waiting(view: JobView, waits: str) -> JobView:
    """The view with what its job waits for."""
    return view.model_copy(update={"reason": _joined(view.reason, waits)})


#: What everybody with a token sees of a spec: who waits for what, and why. All else is its owner's, keys that are yet
#: to come included: arguments and variables hold passwords, names of images and hosts tell what a team works on, and
#: whoever knows the digest of a context could run it.
_FOR_ALL = frozenset(
    {
        "name", "kind", "launcher", "resources", "placement", "colocate", "preflight", "priority", "restarts",
        "max_runtime", "idle_timeout", "start_timeout", "stop_after", "grace",
    }
)  # fmt: skip
#: In the place of the command, for a spec has one.
_WITHHELD = ("(withheld)",)


def for_others(view: View) -> View:
    """The view for those who may not read the job's logs: not what it runs, nor the last lines of its members."""
    spec = view.spec
    roles = {name: Role.model_construct(replicas=role.replicas, slots=role.slots) for name, role in spec.roles.items()}
    shown = {key: getattr(spec, key) for key in _FOR_ALL}
    hidden: dict[str, object] = {
        "spec": JobSpec.model_construct(entrypoint=_WITHHELD, roles=roles, **shown),
        "whole": False,
        "secrets": (),
        "members": _hushed(view.members),
    }
    if isinstance(view, JobDetail):
        hidden["attempts"] = tuple(
            attempt.model_copy(update={"members": _hushed(attempt.members)}) for attempt in view.attempts
        )
    return view.model_copy(update=hidden)


def _hushed(members: Iterable[MemberView]) -> tuple[MemberView, ...]:
    return tuple(member.model_copy(update={"tail": ""}) for member in members)


def _joined(reason: str, waits: str) -> str:
    return "; ".join(filter(None, (reason, waits)))


def job_view(state: State, job: JobRecord, now: float, *, waits: str = "", members: bool = True) -> JobView:
    """A job with the members of its newest allocation; listings go without, for they would be the most of it.

    `waits`: what it waits for at the moment.
    """
    return JobView(**_job(state, job, now, waits, members=members))


def job_detail(state: State, job: JobRecord, now: float, *, waits: str) -> JobDetail:
    """A job with its attempts and history."""
    attempts = tuple(
        AttemptView(
            id=allocation.id,
            attempt=allocation.attempt,
            outcome=allocation.outcome,
            reason=allocation.reason,
            placed_at=utc(allocation.placed.wall),
            ended_at=utc(allocation.ended.wall) if allocation.ended else None,
            members=_members(state, allocation),
        )
        for allocation in state.attempts_of(job)
    )
    history = tuple(HistoryEntry(at=utc(entry.wall), what=entry.what) for entry in job.history)
    return JobDetail(**_job(state, job, now, waits, members=True), attempts=attempts, history=history)


def _job(state: State, job: JobRecord, now: float, waits: str, *, members: bool) -> dict[str, object]:
    spec = state.specs[job.id]
    allocation = state.allocation_of(job)
    return {
        "id": job.id,
        "owner": job.owner,
        "spec": spec.spec,
        "secrets": tuple(sorted(spec.sealed)),
        "state": job.state,
        "reason": _joined(job.reason, waits),
        "exit_code": job.exit_code,
        "attempt": job.attempt,
        "restarts_left": job.restarts_left,
        "submitted_at": utc(job.submitted.wall),
        "started_at": utc(job.running.wall) if job.running else None,
        "ended_at": utc(job.ended.wall) if job.ended else None,
        "waited": job.waited_s + _since(state, job.queued, now, job.state is JobState.PENDING),
        "starting": _or_none(job.starting_s + _since(state, job.placed, now, job.state is JobState.STARTING)),
        "ran": _or_none(job.ran_s + _since(state, job.running, now, _runs(job))),
        "members": _members(state, allocation) if members and allocation is not None else (),
        "network": network_view(allocation.network, allocation.joined) if allocation is not None else None,
    }


def _runs(job: JobRecord) -> bool:
    return job.running is not None and job.state in (JobState.RUNNING, JobState.STOPPING)


def _since(state: State, stamp: Stamp | None, now: float, still: bool) -> float:
    if stamp is None or not still:
        return 0.0
    opened = state.opened
    return stamp.until(Stamp(opened.epoch, now, opened.wall + now - opened.now))


def _or_none(seconds: float) -> float | None:
    return seconds or None


def _members(state: State, allocation: AllocationRecord) -> tuple[MemberView, ...]:
    views = []
    for planned in allocation.members:
        record = state.members.get(member_id(allocation.id, planned.rank))
        if record is not None:
            views.append(_member(planned, record))
    return tuple(views)


def _member(planned: PlannedMember, record: MemberRecord) -> MemberView:
    return MemberView(
        id=record.id,
        name=planned.name,
        role=planned.role,
        index=planned.index,
        rank=planned.rank,
        agent=planned.agent,
        address=planned.address,
        underlay=planned.underlay,
        slots=planned.slots,
        ports=planned.ports,
        state=record.state,
        exit_code=record.exit_code,
        signal=record.signal,
        reason=record.reason,
        tail=record.tail,
    )


def network_view(network: NetworkSpec | None, joined: str) -> NetworkView | None:
    """A private network; None for that of the hosts."""
    if network is None:
        return None
    return NetworkView(
        mode=network.mode,
        because=joined.partition(": ")[2],
        vni=network.vni,
        subnet=network.subnet,
        gateway=network.gateway,
        mtu=network.mtu,
        members=network.members,
        enforcement=network.enforcement,
        egress=network.egress,
    )


def planned_view(planned: PlannedMember, allocation: str) -> MemberView:
    """A member that is only planned."""
    return MemberView(
        id=f"{allocation}.{planned.rank}.1",
        name=planned.name,
        role=planned.role,
        index=planned.index,
        rank=planned.rank,
        agent=planned.agent,
        address=planned.address,
        underlay=planned.underlay,
        slots=planned.slots,
        ports=planned.ports,
        state=MemberState.ASSIGNED,
    )


def agent_view(state: State, agent: AgentRecord, now: float) -> AgentView:
    """An agent with its slots and who holds them."""
    live = state.live[agent.id]
    used = state.slots_used.get(agent.id, {})
    return AgentView(
        id=agent.id,
        pool=agent.pool,
        state=agent_state(state, agent),
        address=agent.address,
        host=agent.host,
        version=agent.version,
        labels=agent.labels,
        features=agent.features,
        mtu=agent.mtu,
        slots=tuple(
            SlotView(
                index=slot.index,
                kind=slot.kind,
                device=slot.device,
                brand=slot.brand,
                held_by=used.get(slot.index),
            )
            for slot in agent.slots
        ),
        free=len(agent.slots) - len(used),
        members=tuple(sorted(state.held.get(agent.id, ()))),
        silent=max(0.0, now - live.heard) if live.seen else None,
        findings=(*finding_views(live.findings), *_unreached(state, agent)),
    )


def _unreached(state: State, agent: AgentRecord) -> tuple[FindingView, ...]:
    """The ways between this agent and others that were seen not to pass."""
    return tuple(
        FindingView(
            code=pair.code,
            severity="error",
            title=f"Agent {pair.source} does not reach agent {pair.destination} on {pair.way}: no job comes to both",
            evidence=pair.evidence,
            remedy="quorate net check",
        )
        for pair in state.apart
        if agent.id in (pair.source, pair.destination)
    )


def finding_views(findings: Iterable[Finding]) -> tuple[FindingView, ...]:
    """Findings as the API shows them."""
    return tuple(
        FindingView(
            code=finding.code,
            severity=finding.severity,
            title=finding.title,
            evidence=finding.evidence,
            remedy=finding.remedy,
        )
        for finding in findings
    )


def pool_views(state: State) -> list[PoolView]:
    """All pools by name: those of the settings and those that agents joined."""
    names = sorted(state.settings.pools.keys() | state.agents_by_pool.keys())
    counts = dict.fromkeys(names, 0)
    running = dict.fromkeys(names, 0)
    for request in state.queue.values():
        counts[request.pool] = counts.get(request.pool, 0) + 1
    for job in state.running:
        pool = state.specs[job].spec.resources.pool
        running[pool] = running.get(pool, 0) + 1
    views = []
    for name in names:
        agents = [state.agents[agent] for agent in state.agents_by_pool.get(name, ())]
        ready = [agent for agent in agents if agent_state(state, agent) is AgentState.READY]
        views.append(
            PoolView(
                name=name,
                agents=len(agents),
                ready=len(ready),
                slots=sum(len(agent.slots) for agent in agents),
                free=sum(len(agent.slots) - len(state.slots_used.get(agent.id, ())) for agent in ready),
                queued=counts[name],
                running=running[name],
            )
        )
    return views

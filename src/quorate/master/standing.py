"""What the state means to people: the state of an agent, and the sentence that says what a job waits for."""

from quorate.master.records import AgentRecord, JobRecord, MemberRecord
from quorate.master.state import State
from quorate.master.transitions.placing import hold_on_placing, scheduler_view
from quorate.master.transitions.silence import lease_end
from quorate.model.duration import format_duration
from quorate.model.state import AgentState, JobState, MemberState
from quorate.scheduling.reasons import explain

#: So many members are named; the others are counted.
_NAMED = 2


def agent_state(state: State, agent: AgentRecord) -> AgentState:
    """What the master knows of the agent; of several things the one that an operator must see first."""
    live = state.live[agent.id]
    if agent.revoked:
        return AgentState.REVOKED
    if live.regressed:
        return AgentState.REGRESSED
    if live.duplicate_until:
        return AgentState.DUPLICATE
    # Without a link it takes no work, however lately it was heard.
    if live.unreachable or agent.lost or live.link is None:
        return AgentState.UNREACHABLE
    return AgentState.DRAINING if agent.drained else AgentState.READY


def waits_for(state: State, job: JobRecord, now: float) -> str:
    """One sentence on what the job waits for, with the deadline of the wait where it has one; empty if for nothing.

    Costs a look at the whole queue for a pending job: for one job's page, not for listings.
    """
    match job.state:
        case JobState.PENDING:
            hold = hold_on_placing(state)
            if hold is not None:
                return hold
            return state.port_refusals.get(job.id) or explain(scheduler_view(state, now), job.id)
        case JobState.STARTING:
            waiting = [m for m in _members(state, job) if m.state in (MemberState.ASSIGNED, MemberState.STARTING)]
            return f"waits for {_named(waiting)} to start" + (f": {waiting[0].reason}" if waiting[0].reason else "")
        case JobState.STOPPING:
            return f"waits for {_named(left)} to end" if (left := _unfinished(state, job)) else ""
        case JobState.RUNNING:
            return _silence(state, job, now)
        case _:
            return ""


def _members(state: State, job: JobRecord) -> list[MemberRecord]:
    allocation = state.allocation_of(job)
    return [] if allocation is None else list(state.members_of(allocation))


def _unfinished(state: State, job: JobRecord) -> list[MemberRecord]:
    return [member for member in _members(state, job) if not member.state.final]


def _silence(state: State, job: JobRecord, now: float) -> str:
    silent = [member for member in _unfinished(state, job) if state.live[member.agent].unreachable]
    if not silent:
        return ""
    agent = silent[0].agent
    spec = state.specs[job.id].spec
    left = lease_end(state, agent) + state.settings.replace_after(spec) - now
    since = format_duration(max(0, round(now - state.live[agent].heard)))
    after = "placed again" if spec.may_restart else "given up"
    if state.loss_paused is not None:
        return f"agent {agent} has been silent for {since}; so many are that the master itself may be cut off"
    return f"agent {agent} has been silent for {since}; if it stays so the job is {after} in {_span(left)}"


def _span(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))


def _named(members: list[MemberRecord]) -> str:
    names = ", ".join(f"{m.name} on agent {m.agent}" for m in members[:_NAMED])
    more = f" and {len(members) - _NAMED} others" if len(members) > _NAMED else ""
    return f"{'member' if len(members) == 1 else 'members'} {names}{more}"

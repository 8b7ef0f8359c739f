"""Being cut off is not being dead: when a silent agent gets no more work, and when its members are given up."""

from collections.abc import Sequence

from quorate.master.records import MemberRecord
from quorate.master.state import State
from quorate.master.transitions import endings, reports
from quorate.master.transitions.draft import Draft
from quorate.model.duration import format_duration
from quorate.model.state import MemberState

#: While declarations of loss are paused, so often is looked again.
_LOOK_AGAIN_S = 10.0


def lease_end(state: State, agent: str) -> float:
    """The latest moment from which the agent may count its silence; it counts from no later one."""
    live = state.live[agent]
    return max(live.heard, live.planned_until)


def look(draft: Draft, agent: str) -> None:
    """Looks at one agent's silence, and arranges the next look."""
    state, settings = draft.state, draft.state.settings
    if draft.now < state.watched.get(agent, draft.now):
        return  # An earlier look has taken this one's place and arranged the next.
    state.watched.pop(agent, None)
    record, live = state.agents.get(agent), state.live.get(agent)
    if record is None or live is None:
        return
    quiet_at = live.heard + settings.unreachable_s
    if draft.now < quiet_at and not record.revoked:
        state.watch(agent, quiet_at)
        return
    held = [member for member in state.held_by(agent) if not member.state.final]
    if not live.unreachable:
        draft.change(live, unreachable=True)
        for job in dict.fromkeys(member.job for member in held):
            endings.give_up_unreachable(draft, draft.job(job))
            endings.settle(draft, draft.job(job))
        held = [member for member in state.held_by(agent) if not member.state.final]
    since = lease_end(state, agent)
    dues = {member.id: since + settings.replace_after(state.specs[member.job].spec) for member in held}
    given_up = [member for member in held if dues[member.id] <= draft.now]
    agent_due = since + settings.replace_after_s
    overdue = given_up or (not record.lost and agent_due <= draft.now)
    if overdue and not record.revoked and not record.lost and _master_is_cut_off(draft):
        state.watch(agent, draft.now + _LOOK_AGAIN_S)
        return
    silent = format_duration(round(draft.now - live.heard))
    lose(draft, given_up, f"agent {agent} has been silent for {silent}", gone=False)
    if agent_due <= draft.now:
        draft.change(draft.agent(agent), lost=True)
    later = [due for due in (*dues.values(), agent_due) if due > draft.now]
    if later:
        state.watch(agent, min(later))


def _master_is_cut_off(draft: Draft) -> bool:
    """Whether so many agents are silent that the master itself must be taken to be the one cut off.

    One silent agent never is enough: in a cluster of two or three it would otherwise never be given up.
    """
    state, settings = draft.state, draft.state.settings
    silent = len(state.silent)
    if silent < settings.loss_pause_least or silent <= settings.loss_pause_share * len(state.counted):
        state.loss_paused = None
        return False
    if state.loss_paused is None:
        state.loss_paused = draft.now
    return draft.now - state.loss_paused < settings.loss_pause_limit_s


def lose(draft: Draft, members: Sequence[MemberRecord], reason: str, *, gone: bool) -> None:
    """Gives members up. `gone`: their machine has surely ended them, so nothing of them is held any more.

    Otherwise they stay held and ordered to stop: should the agent come back, their slots are free when they are.
    """
    jobs: dict[str, list[str]] = {}
    for member in members:
        if member.state.final:
            if gone and not member.released:
                reports.release(draft, member)
            continue
        fields = {"state": MemberState.LOST, "reason": reason, "stop": member.stop or reason}
        if gone:
            reports.release(draft, member, **fields)
        else:
            draft.change(member, **fields)
        jobs.setdefault(member.job, []).append(member.id)
    for job, lost in jobs.items():
        reports.conclude(draft, job, [draft.member(member) for member in lost])

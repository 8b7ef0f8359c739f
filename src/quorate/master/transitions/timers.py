"""Deadlines: every state that is not to last has one, and each looks at the records before it acts."""

from quorate.master.events import DeadlineCame, Opened
from quorate.master.records import Ending, EndingKind
from quorate.master.transitions import endings, idling, links, maintenance, retention, silence
from quorate.master.transitions.draft import Draft
from quorate.model.duration import format_duration
from quorate.model.state import JobState, MemberState


def opened(draft: Draft, event: Opened) -> None:
    """A master has started: all that waits has its full time before it."""
    state = draft.state
    state.adopted = maintenance.ADOPTED in state.settings_kept and not state.identity.restored
    for agent in state.agents:
        state.watch(agent, draft.now + state.settings.unreachable_s)
    for key in list(state.unfinished):
        job = draft.job(key)
        if job.state is JobState.PENDING:
            continue
        allocation = endings.current(draft, job)
        spec = state.specs[key].spec
        match job.state:
            case JobState.STARTING:
                state.due(draft.now + spec.start_timeout + state.settings.start_margin_s, "starting", allocation.id)
            case JobState.RUNNING:
                state.run_from[allocation.id] = draft.now
                if spec.max_runtime is not None:
                    state.due(draft.now + spec.max_runtime, "runtime", allocation.id)
                endings.watch_idleness(draft, allocation)
            case _:
                state.due(draft.now + spec.grace + state.settings.margin_s, "stopping", allocation.id)
                state.due(draft.now + spec.grace + state.settings.stop_limit_s, "stopping", allocation.id)
    state.due(draft.now + retention.EVERY_S, "retention")
    retention.forget_old(draft)


def fire(draft: Draft, event: DeadlineCame) -> None:
    """Looks at what a deadline was set for."""
    match event.what:
        case "silence":
            silence.look(draft, event.key)
        case "starting":
            _not_started(draft, event.key)
        case "runtime":
            _ran_out(draft, event.key)
        case "idle":
            idling.look(draft, event.key)
        case "stopping":
            allocation = draft.state.allocations.get(event.key)
            if allocation is not None:
                endings.overdue(draft, allocation)
        case "duplicate":
            links.duplicate_over(draft, event.key)
        case "stop":
            maintenance.check_stop(draft)
        case "retention":
            retention.forget_old(draft)
            draft.state.due(draft.now + retention.EVERY_S, "retention")
        case what:
            raise AssertionError(f"nobody knows the deadline {what}")


def _not_started(draft: Draft, key: str) -> None:
    allocation = draft.state.allocations.get(key)
    if allocation is None:
        return
    job = draft.job(allocation.job)
    if job.state is not JobState.STARTING or job.attempt != allocation.attempt or job.placed is None:
        return
    limit = draft.state.specs[job.id].spec.start_timeout
    if draft.age(job.placed) < limit:
        return
    waiting = [m for m in draft.state.members_of(allocation) if m.state in (MemberState.ASSIGNED, MemberState.STARTING)]
    first = waiting[0]
    others = f" and {len(waiting) - 1} others" if len(waiting) > 1 else ""
    reason = f"member {first.name} on agent {first.agent}{others} did not start within {format_duration(limit)}"
    if first.reason:
        reason += f": {first.reason}"
    endings.end(draft, job, Ending(kind=EndingKind.FAILED, reason=reason, exit_code=endings.PLATFORM_CODE))


def _ran_out(draft: Draft, key: str) -> None:
    allocation = draft.state.allocations.get(key)
    base = draft.state.run_from.get(key)
    if allocation is None or base is None:
        return
    job = draft.job(allocation.job)
    limit = draft.state.specs[job.id].spec.max_runtime
    if job.state is not JobState.RUNNING or limit is None or draft.now - base < limit:
        return
    reason = f"it ran longer than max_runtime, {format_duration(limit)}"
    endings.end(draft, job, Ending(kind=EndingKind.DEADLINE, reason=reason, exit_code=endings.DEADLINE_CODE))

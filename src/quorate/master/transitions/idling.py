"""Clusters that wait for their user: one whose user stays away for its idle_timeout is stopped."""

from quorate.master.events import JobUsed
from quorate.master.records import Ending, EndingKind
from quorate.master.transitions import endings
from quorate.master.transitions.draft import Draft
from quorate.model.duration import format_duration
from quorate.model.state import JobState


def used(draft: Draft, event: JobUsed) -> None:
    """Somebody uses it. Written nowhere: a new master counts from its own start."""
    job = draft.state.jobs.get(event.job)
    if job is not None and job.state is JobState.RUNNING:
        allocation = endings.current(draft, job)
        if allocation.id in draft.state.used_at:
            draft.state.used_at[allocation.id] = draft.now


def look(draft: Draft, key: str) -> None:
    """Stops the cluster if it has been idle for so long; else looks again when it could have been."""
    allocation = draft.state.allocations.get(key)
    since = draft.state.used_at.get(key)
    if allocation is None or since is None:
        return
    job = draft.job(allocation.job)
    limit = draft.state.specs[job.id].spec.idle_timeout
    if job.state is not JobState.RUNNING or job.attempt != allocation.attempt or limit is None:
        draft.state.used_at.pop(key)
    elif draft.now - since < limit:
        draft.state.due(since + limit, "idle", key)
    else:
        draft.state.used_at.pop(key)
        reason = f"stopped, for nobody has used it for {format_duration(limit)} (idle_timeout)"
        endings.end(draft, job, Ending(kind=EndingKind.CANCELLED, reason=reason, exit_code=endings.CANCELLED_CODE))

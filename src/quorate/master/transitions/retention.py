"""What is forgotten, and when: old final jobs, and the members of attempts that nobody looks at any more."""

from quorate.master.effects import JobForgotten
from quorate.master.records import AllocationRecord, JobRecord, MemberRecord, SpecRecord, TokenRecord
from quorate.master.state import State
from quorate.master.transitions.draft import Draft
from quorate.model.ids import AllocationId

EVERY_S = 600.0
#: A token that has expired is still listed for so long, so that people see why it no longer opens anything.
EXPIRED_S = 7 * 86_400.0
#: Jobs forgotten in one event at most, so that a changed setting does not make one enormous transaction.
_AT_ONCE = 500


def forget_old(draft: Draft) -> None:
    """Forgets final jobs beyond the number or the age that the operator wants kept, first ended first.

    A job with members that a silent agent may still hold is kept until that is settled.
    """
    state, settings = draft.state, draft.state.settings
    excess = len(state.final) - settings.keep_jobs
    old: list[JobRecord] = []
    for key in state.final:
        job = state.jobs[key]
        assert job.ended is not None
        if len(old) >= min(_AT_ONCE, excess) and job.ended.until(draft.stamp) < settings.keep_jobs_s:
            break
        if len(old) >= _AT_ONCE:
            break
        if all(m.released for a in state.attempts_of(job) for m in state.members_of(a)):
            old.append(job)
    for token in [t for t in state.tokens.values() if t.expires_wall and draft.stamp.wall > t.expires_wall + EXPIRED_S]:
        draft.drop(TokenRecord, token.id)
    for token in [t for t in state.tokens.values() if t.allocation and not _lives(state, t.allocation)]:
        draft.drop(TokenRecord, token.id)
    for job in old:
        allocations = tuple(allocation.id for allocation in state.attempts_of(job))
        for allocation in list(state.attempts_of(job)):
            _forget(draft, allocation)
        draft.drop(JobRecord, job.id)
        draft.drop(SpecRecord, job.id)
        draft.jobs.pop(job.id, None)
        draft.follow(JobForgotten(job.id, allocations))


def _lives(state: State, allocation: str) -> bool:
    found = state.allocations.get(AllocationId(allocation))
    return found is not None and found.ended is None


def forget_attempts(draft: Draft, job: JobRecord) -> None:
    """Forgets the oldest attempts of a job that restarts over and over; its history still tells of them."""
    attempts = list(draft.state.attempts_of(job))
    for allocation in attempts[: -draft.state.settings.keep_attempts]:
        if all(member.released for member in draft.state.members_of(allocation)):
            _forget(draft, allocation)


def _forget(draft: Draft, allocation: AllocationRecord) -> None:
    for member in list(draft.state.members_of(allocation)):
        draft.drop(MemberRecord, member.id)
    draft.drop(AllocationRecord, allocation.id)

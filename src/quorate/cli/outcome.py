"""How a job ended, in words and as an exit code."""

from __future__ import annotations

from quorate.cli import errors
from quorate.cli.exits import Exit
from quorate.cli.output import note, span
from quorate.cli.screen import printable
from quorate.model.state import JobState
from quorate.model.views import JobView, MemberView

#: Lines of the member's output that stand below the reason; the log has the rest.
LAST_LINES = 8


def exit_code(job: JobView) -> int:
    """The job's own exit code; where it has none, 130 for a cancelled one and 125 for a failure of the platform."""
    if job.state is JobState.CANCELLED:
        return Exit.CANCELLED
    if job.exit_code is not None:
        return job.exit_code & 0xFF
    return Exit.OK if job.state is JobState.COMPLETED else Exit.PLATFORM


def times(job: JobView) -> str:
    """`waited 12 ms, started in 0.4 s, ran 8.1 s`, as far as it got."""
    parts = [
        f"{what} {span(seconds)}"
        for what, seconds in (("waited", job.waited), ("started in", job.starting), ("ran", job.ran))
        if seconds is not None
    ]
    return ", ".join(parts)


def show(job: JobView) -> int:
    """Tells how a job ended: the cause first, then its evidence, then what to do; returns the exit code."""
    if job.state is JobState.COMPLETED:
        note(f"job {job.id} completed: {times(job)}")
    elif job.state is JobState.CANCELLED:
        note(f"job {job.id} was cancelled{f': {job.reason}' if job.reason else ''}")
    else:
        first, *rest = (job.reason or "no reason was given").splitlines()
        guilty = guilty_member(job)
        words = last_words(guilty) if guilty else ()
        errors.show(f"job {job.id} failed: {first}", (*rest, *words), _next(job, guilty))
    return exit_code(job)


def guilty_member(job: JobView) -> MemberView | None:
    """The member whose end is the job's reason, which names it."""
    return next((m for m in job.members if f"member {m.name} " in f"{job.reason} ".splitlines()[0]), None)


def last_words(member: MemberView) -> tuple[str, ...]:
    """The end of what the member wrote, without what would play tricks on a terminal."""
    lines = [printable(line) for line in member.tail.splitlines()[-LAST_LINES:]]
    return tuple(f"| {line}" for line in lines if line)


def _next(job: JobView, guilty: MemberView | None) -> str:
    return f"quorate job logs {job.id}" + (f" --member {guilty.name}" if guilty and len(job.members) > 1 else "")

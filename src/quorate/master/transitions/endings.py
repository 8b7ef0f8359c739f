"""How an attempt ends: the first failure is the reason, the others are stopped, the job restarts or is final."""

import signal

from quorate.master.records import AllocationRecord, Ending, EndingKind, JobRecord, MemberRecord
from quorate.master.transitions.draft import Draft
from quorate.model.duration import format_duration
from quorate.model.state import JobState, MemberState

PLATFORM_CODE = 125
DEADLINE_CODE = 124
CANCELLED_CODE = 130

#: What a machine lacks or loses: another placement may do better, and it says nothing about the job.
_PLATFORM_FINDINGS = frozenset(
    {
        "COMPANION-FAILED", "COMPANION-LOST", "CONTAINER-LOST", "CONTEXT-UNREACHABLE", "DISK-FULL", "ENGINE-FAILED",
        "ENGINE-UNREACHABLE", "IMAGE-PULL-FAILED", "LIMITS-UNENFORCED", "MEMBER-LOST", "MEMBER-MISPLACED",
        "MEMBERS-MISSING", "PORT-TAKEN", "SANDBOX-FAILED", "SECRETS-NO-MEMORY", "SECRETS-UNREACHABLE",
        "START-INTERRUPTED", "USERS-EXHAUSTED",
    }
)  # fmt: skip

#: What a machine did to a member because of the member itself: its job's own failure, like any other.
_OWN_FINDINGS = frozenset({"MEMORY-EXCEEDED"})

_PERHAPS_UNSTARTED = frozenset({MemberState.ASSIGNED, MemberState.STARTING, MemberState.STOPPING})
_FINAL_MEMBER = tuple(state for state in MemberState if state.final)
_FINAL_STATES = {
    EndingKind.FAILED: JobState.FAILED,
    EndingKind.PLATFORM: JobState.FAILED,
    EndingKind.DEADLINE: JobState.FAILED,
    EndingKind.CANCELLED: JobState.CANCELLED,
}


def failed(member: MemberRecord) -> bool:
    """Whether the member's end is anything but a good one."""
    return member.state.final and not (member.state is MemberState.EXITED and member.exit_code == 0)


def ending_of(member: MemberRecord) -> Ending:
    """What the end of this member means for its job."""
    who = f"member {member.name} on agent {member.agent}"
    kind, code = EndingKind.FAILED, PLATFORM_CODE
    if member.state is MemberState.LOST:
        kind, said = EndingKind.PLATFORM, f"{who} is lost"
    elif member.state is MemberState.FAILED:
        said = f"{who} did not run" if member.code not in _PLATFORM_FINDINGS else f"{who} failed"
        if member.code in _PLATFORM_FINDINGS:
            kind = EndingKind.PLATFORM
    elif member.reason and not member.echo and member.code not in _OWN_FINDINGS:
        # Its agent ended it on its own account, as when it was cut off: not the job's fault.
        kind, said = EndingKind.PLATFORM, f"{who} was ended"
    elif member.signal is not None:
        said, code = f"{who} was ended by {_signal_name(member.signal)}", 128 + member.signal
    else:
        began = f"the bootstrap of {who}" if member.code == "BOOTSTRAP-FAILED" else who
        said, code = f"{began} exited with {member.exit_code}", member.exit_code or PLATFORM_CODE
    if member.reason:
        said += f": {member.reason}"
    if member.code:
        said += f" ({member.code})"
    return Ending(kind=kind, reason=said, exit_code=code, provisional=member.echo)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def will_restart(draft: Draft, job: JobRecord, ending: Ending) -> bool:
    """Whether the job goes back to the queue when this ending is complete."""
    spec = draft.state.specs[job.id].spec
    match ending.kind:
        case EndingKind.FAILED:
            return job.restarts_left > 0
        case EndingKind.PLATFORM:
            settings = draft.state.settings
            if _nothing_began(draft, job):
                return job.platform_failures < min(settings.unstarted_attempts, settings.platform_failures)
            return spec.may_restart and job.platform_failures < settings.platform_failures
        case EndingKind.DEADLINE | EndingKind.CANCELLED:
            return False


def _may_go_on(draft: Draft, job: JobRecord, ending: Ending) -> bool:
    """The same while the ending may still give way to what it is an echo of: a machine may be to blame."""
    failures_left = job.platform_failures < draft.state.settings.platform_failures
    echo = ending.provisional and draft.state.specs[job.id].spec.may_restart and failures_left
    return echo or will_restart(draft, job, ending)


def _nothing_began(draft: Draft, job: JobRecord) -> bool:
    """Whether no command of the attempt has started, as far as is known: then a job that may run once may go again.

    Only what agents said for certain counts. While members are still to be heard of, the answer may become no.
    """
    if job.running is not None:
        return False
    return all(
        member.state in _PERHAPS_UNSTARTED or (member.state is MemberState.FAILED and member.code != "MEMBER-LOST")
        for member in draft.state.members_of(current(draft, job))
    )


def end(draft: Draft, job: JobRecord, ending: Ending, ran_s: float = 0.0) -> None:
    """Begins to end the job's attempt, or replaces the reason of an ending where the new one is better.

    `ran_s`: how long the member ran whose end this is, where its agent says so.
    """
    if job.state is JobState.STOPPING:
        present = job.ending
        assert present is not None
        cancels = ending.kind is EndingKind.CANCELLED and will_restart(draft, job, present)
        if cancels or (present.provisional and not ending.provisional):
            job = draft.tell(job, ending.reason, ending=ending, reason=ending.reason)
    elif job.state in (JobState.STARTING, JobState.RUNNING):
        fields: dict[str, object] = {}
        if job.state is JobState.RUNNING and job.running is not None:
            fields["ran_s"] = job.ran_s + _ran(job.running.until(draft.stamp), ran_s)
        elif job.placed is not None:
            fields["starting_s"] = job.starting_s + job.placed.until(draft.stamp)
        job = draft.tell(job, ending.reason, state=JobState.STOPPING, ending=ending, reason=ending.reason, **fields)
        allocation = draft.change(current(draft, job), stopping=draft.stamp)
        for member in list(draft.state.members_of(allocation)):
            if not member.state.final:
                draft.change(member, stop=ending.reason)
        spec = draft.state.specs[job.id].spec
        draft.state.due(draft.now + spec.grace + draft.state.settings.margin_s, "stopping", allocation.id)
        draft.state.due(draft.now + draft.state.settings.stop_limit_s + spec.grace, "stopping", allocation.id)
    else:
        return
    give_up_unreachable(draft, job)
    settle(draft, job)


def _ran(heard_s: float, told_s: float) -> float:
    """Seconds for which all members ran: until the end was heard of, or less where that was later than the end itself.

    What agents tell counts from their own members' starts, before all ran; older ones tell nothing, which is 0.
    """
    return min(heard_s, told_s) if told_s > 0 else heard_s


def current(draft: Draft, job: JobRecord) -> AllocationRecord:
    """The allocation of a job that is placed."""
    allocation = draft.state.allocation_of(job)
    assert allocation is not None, f"job {job.id} is {job.state} without an allocation"
    return allocation


def give_up_unreachable(draft: Draft, job: JobRecord) -> None:
    """A job that will not run again need not wait for agents that cannot hear it; nor one that may run only once.

    The members stay held, with their slots and their order to stop, until the agent is back or known to be gone.
    """
    job = draft.job(job.id)
    if job.ending is None or (draft.state.specs[job.id].spec.may_restart and _may_go_on(draft, job, job.ending)):
        return
    for member in list(draft.state.members_of(current(draft, job))):
        if not member.state.final and draft.live(member.agent).unreachable:
            draft.change(member, state=MemberState.LOST, reason=f"agent {member.agent} is unreachable")


def overdue(draft: Draft, allocation: AllocationRecord) -> None:
    """The deadline of STOPPING: members should be gone by now."""
    job = draft.job(allocation.job)
    if job.state is not JobState.STOPPING or allocation.stopping is None or allocation.attempt != job.attempt:
        return
    assert job.ending is not None
    state, spec = draft.state, draft.state.specs[job.id].spec
    waited = draft.age(allocation.stopping)
    if _may_go_on(draft, job, job.ending):
        # It must never restart beside members that may still run; a silent agent has a deadline of its own.
        left = [m for m in state.members_of(allocation) if not m.state.final and draft.live(m.agent).link is not None]
        if left and waited >= state.settings.stop_limit_s + spec.grace:
            reason = (
                f"member {left[0].name} on agent {left[0].agent} did not end within {format_duration(round(waited))}"
            )
            ending = Ending(kind=EndingKind.DEADLINE, reason=f"{job.ending.reason}; {reason}", exit_code=PLATFORM_CODE)
            draft.tell(job, reason, ending=ending, reason=ending.reason)
        else:
            return
    for member in list(state.members_of(allocation)):
        if not member.state.final:
            draft.change(member, state=MemberState.LOST, reason="its end was not confirmed in time")
    settle(draft, draft.job(job.id))


def settle(draft: Draft, job: JobRecord) -> None:
    """Moves the job on if its members' states say so."""
    job = draft.job(job.id)
    if job.state not in (JobState.STARTING, JobState.RUNNING, JobState.STOPPING):
        return
    allocation = current(draft, job)
    tally = draft.state.tallies[allocation.id]
    if sum(tally[state] for state in _FINAL_MEMBER) == len(allocation.members):
        _conclude(draft, job, allocation)
    elif job.state is JobState.STARTING and not tally[MemberState.ASSIGNED] and not tally[MemberState.STARTING]:
        _run(draft, job, allocation)


def _run(draft: Draft, job: JobRecord, allocation: AllocationRecord) -> None:
    assert job.placed is not None
    draft.tell(
        job,
        f"attempt {job.attempt}: all members run",
        state=JobState.RUNNING,
        running=draft.stamp,
        starting_s=job.starting_s + job.placed.until(draft.stamp),
        platform_failures=0,
        reason="",
    )
    spec = draft.state.specs[job.id].spec
    draft.state.run_from[allocation.id] = draft.now
    if spec.max_runtime is not None:
        draft.state.due(draft.now + spec.max_runtime, "runtime", allocation.id)
    watch_idleness(draft, allocation)


def watch_idleness(draft: Draft, allocation: AllocationRecord) -> None:
    """All its members run: from now on a cluster may be idle."""
    limit = draft.state.specs[allocation.job].spec.idle_timeout
    if limit is not None:
        draft.state.used_at[allocation.id] = draft.now
        draft.state.due(draft.now + limit, "idle", allocation.id)


def _conclude(draft: Draft, job: JobRecord, allocation: AllocationRecord) -> None:
    """All members are final."""
    draft.state.run_from.pop(allocation.id, None)
    draft.state.used_at.pop(allocation.id, None)
    ending = job.ending
    if ending is None:
        since = job.running or job.placed
        assert since is not None and job.placed is not None
        if job.state is JobState.STARTING:
            # Members so short that nobody saw them run: the whole of it was starting.
            job = draft.change(job, starting_s=job.starting_s + job.placed.until(draft.stamp))
        else:
            told = [member.ran_s for member in draft.state.members_of(allocation)]
            job = draft.change(job, ran_s=job.ran_s + _ran(since.until(draft.stamp), max(told) if all(told) else 0.0))
        draft.change(allocation, ended=draft.stamp, outcome="completed")
        draft.tell(job, "completed", state=JobState.COMPLETED, ended=draft.stamp, exit_code=0, reason="")
        return
    draft.change(allocation, ended=draft.stamp, outcome=ending.kind.value, reason=ending.reason)
    if not will_restart(draft, job, ending):
        finish(draft, job, ending)
        return
    counts = ending.kind is EndingKind.FAILED
    left = job.restarts_left - counts
    draft.tell(
        job,
        f"goes back to the queue, {left} restarts left"
        if counts
        else "goes back to the queue; this one does not count",
        state=JobState.PENDING,
        ending=None,
        queued=draft.stamp,
        running=None,
        restarts_left=left,
        platform_failures=job.platform_failures + (not counts),
        reason=f"attempt {job.attempt} ended: {ending.reason}",
    )


def finish(draft: Draft, job: JobRecord, ending: Ending) -> None:
    """Makes the job final with this ending."""
    state = _FINAL_STATES[ending.kind]
    fields: dict[str, object] = {}
    if job.state is JobState.PENDING:
        fields["waited_s"] = job.waited_s + job.queued.until(draft.stamp)
    draft.tell(
        job,
        state.value if job.reason == ending.reason else ending.reason,
        state=state,
        ending=None,
        ended=draft.stamp,
        exit_code=ending.exit_code,
        reason=ending.reason,
        **fields,
    )

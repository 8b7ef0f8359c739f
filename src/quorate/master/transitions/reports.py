"""What agents say of their members, taken in: states only move forward, and each end counts once."""

from collections.abc import Iterable

from quorate.master.records import MemberRecord
from quorate.master.transitions import endings, maintenance
from quorate.master.transitions.draft import Draft
from quorate.master.transitions.leases import rest
from quorate.model.messages import MemberStatus
from quorate.model.state import MemberState

_ORDER = {
    MemberState.ASSIGNED: 0,
    MemberState.STARTING: 1,
    MemberState.RUNNING: 2,
    MemberState.STOPPING: 3,
}
_LONGEST_REASON = 2048
_LONGEST_TAIL = 4096
_MOST_STRAYS = 10_000


def observe(draft: Draft, agent: str, statuses: Iterable[MemberStatus], *, all_of_them: bool = False) -> None:
    """Takes in statuses of one report; repeated and overtaken ones change nothing.

    `all_of_them`: they are what the agent has at this moment, as in its hello.
    """
    ended: dict[str, list[MemberRecord]] = {}
    moved: dict[str, None] = {}
    strays = dict.fromkeys(draft.live(agent).strays)
    for status in statuses:
        try:
            state = MemberState(status.state)
        except ValueError:
            continue
        record = draft.state.members.get(status.member)
        if record is None or record.agent != agent or record.released:
            # It may be one that has just been dropped: then it is final, and nothing of it is left but its log.
            if state.final:
                strays.pop(status.member, None)
            elif (record is None or all_of_them) and len(strays) < _MOST_STRAYS:
                strays[status.member] = None
            continue
        moved[record.job] = None
        if state.final:
            after = _end(draft, record, status, state)
            if record.state.final:
                continue
            ended.setdefault(record.job, []).append(after)
        elif not record.state.final and (
            _ORDER[state] > _ORDER[record.state]
            or (state is record.state is MemberState.STARTING and status.reason[:_LONGEST_REASON] != record.reason)
        ):
            draft.change(record, state=state, reason=status.reason[:_LONGEST_REASON])
        if not state.final:
            _note_run(draft, record, status)
    if tuple(strays) != draft.live(agent).strays:
        draft.change(draft.live(agent), strays=tuple(strays))
        draft.resend(agent)
    maintenance.account(draft, draft.agent(agent))
    for job in moved:
        conclude(draft, job, ended.get(job, []))


def conclude(draft: Draft, job: str, ended: Iterable[MemberRecord]) -> None:
    """Moves the job on after its members; of several failures in one report the lowest rank's is the first."""
    failures = sorted((m for m in ended if endings.failed(m)), key=lambda m: (m.echo, m.rank))
    for member in failures:
        record = draft.job(job)
        if member.allocation == endings.current(draft, record).id:
            endings.end(draft, record, endings.ending_of(member), ran_s=member.ran_s)
    endings.settle(draft, draft.job(job))


def _end(draft: Draft, record: MemberRecord, status: MemberStatus, state: MemberState) -> MemberRecord:
    if record.state.final:
        # Given up before: the job has long decided, but now its slots are free.
        return release(draft, record, log_bytes=status.log_bytes)
    outcome = status.exit
    return release(
        draft,
        record,
        state=state,
        exit_code=outcome.code if outcome else None,
        signal=outcome.signal if outcome else None,
        tail=outcome.tail[-_LONGEST_TAIL:] if outcome else "",
        reason=status.reason[:_LONGEST_REASON],
        code=status.code[:64],
        echo=status.echo,
        log_bytes=status.log_bytes,
        ran_s=max(0.0, status.running_s),
    )


def release(draft: Draft, record: MemberRecord, **fields: object) -> MemberRecord:
    """Nothing is left of the member on its agent: its slots are free, its ports rest."""
    taken = fields.get("code") == "PORT-TAKEN"
    rest(draft.state, record.host, record.ports.values(), draft.now, taken=taken)
    return draft.change(record, released=True, **fields)


def _note_run(draft: Draft, record: MemberRecord, status: MemberStatus) -> None:
    """A master that has restarted learns here how long the job has been running."""
    base = draft.state.run_from.get(record.allocation)
    begun = draft.now - status.running_s
    if base is None or status.running_s <= 0 or begun >= base:
        return
    draft.state.run_from[record.allocation] = begun
    limit = draft.state.specs[record.job].spec.max_runtime
    if limit is not None:
        draft.state.due(begun + limit, "runtime", record.allocation)

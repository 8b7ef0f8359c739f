"""What happens to the cluster as a whole: planned stops, adopted stores, backups."""

from quorate.master.effects import Answer, Done, StopReady, StopStarted
from quorate.master.events import Adopted, AgentHeldLease, BackupTaken, PlannedStop
from quorate.master.records import AgentRecord, Ending, EndingKind, SettingRecord
from quorate.master.state import State
from quorate.master.transitions import endings
from quorate.master.transitions.draft import Draft
from quorate.model.messages import Lease, Refuse
from quorate.model.state import JobState

#: After an adoption attempts are numbered higher by at least this, so that none of the lost time's numbers comes again.
#: By how much more is chance: one backup may be restored twice.
ADOPTED_ATTEMPTS = 100

#: Kept while agents may still have what only the lost time knows.
ADOPTED = "adopted"


def _next_sequence(draft: Draft) -> int:
    sequence = draft.setting("lease", 0) + 1
    draft.put(SettingRecord(name="lease", value=sequence))
    return sequence


def plan_stop(draft: Draft, event: PlannedStop) -> Answer:
    """Lengthens every lease before the master goes away; durable here before any agent hears of it."""
    state = draft.state
    sequence = _next_sequence(draft)
    asked = 0
    for record in list(state.agents.values()):
        if record.revoked:
            continue
        # It may already hold a longer one, and shortens it only when it says so.
        record = draft.change(record, extra_lease_s=max(record.extra_lease_s, event.for_s))
        live = draft.live(record.id)
        draft.change(live, planned_until=max(live.planned_until, draft.now + record.extra_lease_s), lease_over=0)
        if live.link is not None and not live.regressed:
            draft.send(record.id, Lease(sequence, event.for_s))
            asked += 1
    state.stopping = (sequence, draft.now + event.patience_s, event.for_s)
    state.due(draft.now + event.patience_s, "stop")
    check_stop(draft)
    return StopStarted(asked)


def lease_held(draft: Draft, event: AgentHeldLease) -> None:
    """The agent will bear the silence, or knows that the maintenance is over."""
    live = draft.state.live.get(event.agent)
    if live is None or live.link != event.link:
        return
    record = draft.agent(event.agent)
    if live.lease_over and event.held.sequence == live.lease_over:
        draft.change(live, lease_over=0, planned_until=0.0)
        draft.change(record, extra_lease_s=0.0)
        return
    if draft.state.stopping is not None and event.held.sequence == draft.state.stopping[0]:
        # It counts from when it was told, which is before now.
        for_s = draft.state.stopping[2]
        draft.change(live, lease_held=event.held.sequence, planned_until=draft.now + for_s)
        draft.change(record, extra_lease_s=for_s)
        check_stop(draft)


def end_lease(draft: Draft, record: AgentRecord) -> None:
    """An agent that comes back after maintenance is told that silence means what it usually means."""
    if record.extra_lease_s and draft.state.stopping is None:
        sequence = _next_sequence(draft)
        draft.change(draft.live(record.id), lease_over=sequence)
        draft.send(record.id, Lease(sequence, 0.0))


def check_stop(draft: Draft) -> None:
    """Says once that the stop may happen: all connected agents hold their lease, or waiting has lasted long enough."""
    state = draft.state
    if state.stopping is None:
        return
    sequence, deadline, _ = state.stopping
    lives = [state.live[agent.id] for agent in state.agents.values() if not agent.revoked]
    asked = [live for live in lives if live.link is not None and not live.regressed]
    missing = [live.agent for live in asked if live.lease_held != sequence]
    if missing and draft.now < deadline:
        return
    held = tuple(sorted(live.agent for live in lives if live.lease_held == sequence))
    absent = tuple(sorted(live.agent for live in lives if live.lease_held != sequence))
    state.stopping = None
    draft.follow(StopReady(held, absent))


def adopt(draft: Draft, event: Adopted) -> Answer:
    """Takes the store's word over what agents have seen; they are told at their next hello."""
    state = draft.state
    if state.adopted or not (state.identity.restored or state.regressed):
        return Done()
    state.adopted = True
    state.schedule_due = True
    jump = ADOPTED_ATTEMPTS + int(state.identity.mark[:4], 16) % (50 * ADOPTED_ATTEMPTS)
    for key in list(state.unfinished):
        job = draft.job(key)
        job = draft.tell(job, f"the store was adopted by {event.by}", next_attempt=job.next_attempt + jump)
        if job.state is JobState.STARTING:
            # Nobody knows how this start went on after the backup: what is not running yet must not be started now.
            reason = "the store went back to a time when the attempt was just starting"
            # Perhaps it ran in the time that was lost: one that may run only once has had its chance.
            kind = EndingKind.PLATFORM if state.specs[key].spec.may_restart else EndingKind.DEADLINE
            endings.end(draft, job, Ending(kind=kind, reason=reason, exit_code=endings.PLATFORM_CODE))
    for agent in sorted(state.regressed):
        live = draft.live(agent)
        if live.link is not None:
            draft.close(agent, live.link, Refuse("STORE-ADOPTED", "the operator accepted the store; connect again"))
        draft.change(live, link=None, regressed="")
    for record in list(state.agents.values()):
        if not record.revoked and not _is_accounted(draft, record):
            draft.change(record, unaccounted=True)
    draft.put(SettingRecord(name=ADOPTED, value=state.identity.epoch))
    return Done()


def account(draft: Draft, record: AgentRecord) -> None:
    """The agent has spoken: from now on the store may know all that runs there."""
    if record.unaccounted and _is_accounted(draft, record):
        draft.change(record, unaccounted=False)


def unheard(state: State) -> list[str]:
    """The agents that an adopted store waits for and that are not there, in order."""
    return sorted(agent for agent in state.unaccounted if state.live[agent].link is None)


def _is_accounted(draft: Draft, record: AgentRecord) -> bool:
    # Without a link it counts as unheard: what it was told to end then may run on.
    live = draft.live(record.id)
    return live.link is not None and live.seen and not live.strays


def take_backup(draft: Draft, event: BackupTaken) -> Answer:
    """Moves the generation, so that whatever follows is later than the backup."""
    draft.put(SettingRecord(name="backups", value=draft.setting("backups", 0) + 1))
    return Done()

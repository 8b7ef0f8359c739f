"""The hands of a transition: each change is absorbed at once and remembered, so that it can be undone."""

from typing import Any, Final, TypeVar

import msgspec

from quorate.master.effects import CloseLink, Effect, JobForgotten, SendTo, StopReady
from quorate.master.events import Event
from quorate.master.records import (
    AgentRecord,
    AllocationRecord,
    Change,
    Drop,
    Happening,
    JobRecord,
    LiveRecord,
    MemberRecord,
    Put,
    Record,
    Stamp,
)
from quorate.master.state import State
from quorate.model.messages import MasterMessage, Refuse

R = TypeVar("R", bound=Record)

#: A job with many restarts keeps its first and its newest entries.
HISTORY: Final = 100


class Draft:
    """One event on its way into the state.

    `changes` holds every change in order (durable ones go to the store), `effects` what else follows. The desired
    sets of the agents in `desired` are to be sent; they are made when the batch is sealed. After `undo` the state is
    as before the event.
    """

    def __init__(self, state: State, event: Event) -> None:
        self.state = state
        self.now = event.now
        self.stamp = Stamp(state.identity.epoch, event.now, event.wall)
        self.changes: list[Change] = []
        self.effects: list[Effect] = []
        #: Sent after the desired sets: an agent that was silent trusts its orders again once it is answered.
        self.acknowledgements: list[Effect] = []
        self.desired: dict[str, None] = {}
        self.jobs: dict[str, None] = {}
        self._undo: list[tuple[Record | None, type[Record], str]] = []

    def put(self, record: Record) -> None:
        """Replaces the record of this kind and key."""
        before = self.state.put(record)
        self._undo.append((before, type(record), record.key))
        self.changes.append(Put(record))
        if isinstance(record, JobRecord):
            self.jobs[record.id] = None
        elif isinstance(record, MemberRecord):
            self.jobs[record.job] = None
            # Whatever the reason: the agent's desired set is made of these.
            old = before if isinstance(before, MemberRecord) else None
            if old is None or (old.stop, old.released) != (record.stop, record.released):
                self.resend(record.agent)

    def change(self, record: R, **fields: Any) -> R:
        """Replaces the record by one that differs in these fields and returns that; the same if nothing differs."""
        if all(getattr(record, name) == value for name, value in fields.items()):
            return record
        fresh = msgspec.structs.replace(record, **fields)
        self.put(fresh)
        return fresh

    def drop(self, kind: type[Record], key: str) -> None:
        """Takes the record away."""
        before = self.state.drop(kind, key)
        if before is not None:
            self._undo.append((before, kind, key))
            self.changes.append(Drop(kind, key))

    def undo(self) -> None:
        """Takes back every change, newest first."""
        for before, kind, key in reversed(self._undo):
            if before is None:
                self.state.drop(kind, key)
            else:
                self.state.put(before)
        self._undo.clear()

    # --- reading what is surely there ----------------------------------------------------------------------------

    def job(self, key: str) -> JobRecord:
        """The job as it is now, with the changes of this event."""
        return self.state.jobs[key]

    def allocation(self, key: str) -> AllocationRecord:
        """The allocation as it is now."""
        return self.state.allocations[key]

    def member(self, key: str) -> MemberRecord:
        """The member as it is now."""
        return self.state.members[key]

    def agent(self, key: str) -> AgentRecord:
        """The agent as it is now."""
        return self.state.agents[key]

    def live(self, key: str) -> LiveRecord:
        """What is known of the agent's link now."""
        return self.state.live[key]

    # --- effects ---------------------------------------------------------------------------------------------------

    def send(self, agent: str, message: MasterMessage) -> None:
        """Sends on the agent's live link, if it has one."""
        link = self.live(agent).link
        if link is not None:
            self.effects.append(SendTo(link, self.agent(agent).id, message))

    def acknowledge(self, agent: str, message: MasterMessage) -> None:
        """As `send`, but only after the desired sets of the same batch."""
        link = self.live(agent).link
        if link is not None:
            self.acknowledgements.append(SendTo(link, self.agent(agent).id, message))

    def close(self, agent: str, link: int, refuse: Refuse | None = None) -> None:
        """Ends a link of the agent."""
        self.effects.append(CloseLink(link, self.agent(agent).id, refuse))

    def follow(self, effect: JobForgotten | StopReady) -> None:
        """Adds an effect of another kind."""
        self.effects.append(effect)

    def resend(self, agent: str) -> None:
        """The agent's desired set has changed."""
        self.desired[agent] = None

    # --- habits ----------------------------------------------------------------------------------------------------

    def tell(self, job: JobRecord, what: str, **fields: Any) -> JobRecord:
        """Changes the job and adds a sentence to its history."""
        entries = (*job.history, Happening(self.stamp.wall, what))
        if len(entries) > HISTORY:
            entries = entries[: HISTORY // 4] + entries[HISTORY // 4 + 1 :]
        return self.change(job, history=entries, **fields)

    def age(self, stamp: Stamp) -> float:
        """Seconds since the stamp, or since this master started: the clock of another epoch means nothing here."""
        return self.now - (stamp.now if stamp.epoch == self.state.identity.epoch else self.state.opened.now)

    def setting(self, name: str, default: int) -> int:
        """A whole number kept in the store."""
        record = self.state.settings_kept.get(name)
        return default if record is None else int(record.value)

"""The hands of a transition: reads go to the state, each change is absorbed at once and remembered, so that it can be undone."""

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

    `changes` holds every change in order (durable ones go to the store), `effects` what else follows. The desired sets of the
    agents in `desired` are to be sent; they are made when the batch is sealed. After an exception call `undo`: the
    state is then as before the event.
    """

    def __init__(self, state: State, event: Event) -> None:
        self.state = state
        self.now = event.now
        self.stamp = Stamp(state.identity.epoch, event.now, event.wall)
        self.changes: list[Change] = []
        self.effects: list[Effect] = []
        self.desired: set[str] = set()
        self.jobs: set[str] = set()
        self._undo: list[tuple[Record | None, type[Record], str]] = []

    def put(self, record: Record) -> None:
        """Replaces the record of this kind and key."""
        before = self.state.put(record)
        self._undo.append((before, type(record), record.key))
        self.changes.append(Put(record))
        if isinstance(record, JobRecord):
            self.jobs.add(record.id)
        elif isinstance(record, MemberRecord):
            self.jobs.add(record.job)

    def change(self, record: R, **fields: Any) -> R:
        """Replaces the record by one that differs in these fields, and returns that one; the same if nothing differs."""
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

    def close(self, agent: str, link: int, refuse: Refuse | None = None) -> None:
        """Ends a link of the agent."""
        self.effects.append(CloseLink(link, self.agent(agent).id, refuse))

    def follow(self, effect: JobForgotten | StopReady) -> None:
        """Adds an effect of another kind."""
        self.effects.append(effect)

    def resend(self, agent: str) -> None:
        """The agent's desired set has changed."""
        self.desired.add(agent)

    # --- habits ----------------------------------------------------------------------------------------------------

    def tell(self, job: JobRecord, what: str, **fields: Any) -> JobRecord:
        """Changes the job and adds a sentence to its history."""
        entries = (*job.history, Happening(self.stamp.wall, what))
        if len(entries) > HISTORY:
            entries = entries[: HISTORY // 4] + entries[HISTORY // 4 + 1 :]
        return self.change(job, history=entries, **fields)

    def setting(self, name: str, default: int) -> int:
        """A whole number kept in the store."""
        record = self.state.settings_kept.get(name)
        return default if record is None else int(record.value)

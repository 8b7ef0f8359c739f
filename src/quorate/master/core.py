"""The synchronous driver around the pure machine: events in, batches out, effects only for what is committed.

How the edges drive it::

    core = Core.open(store, settings, now=…, wall=…, entropy=os.urandom(32))
    loop:
        answer = core.apply(event)             # in memory, microseconds; keep the answer
        …                                      # as many events as have come meanwhile
        batch = core.seal(now=…, wall=…, entropy=os.urandom(32))
        core.commit(batch)                     # on the store's thread, beside apply of the next batch's events
        for effect in batch.effects: …         # and the answers of this batch's events, now and not earlier

Batches are committed in the order in which they were sealed. While batch N is being fsynced, events go into batch
N+1; seal it when N is done. `commit` touches nothing but the store. If it raises, the process must end: memory is
ahead of the disk, and nothing of it may be shown. `core.state` may be read between calls (API views); it may be one
batch ahead of the disk.

Call `apply(Ticked(…))` when `core.wake_at` comes. After an exception from `apply` the state is as before the event.
"""

from dataclasses import dataclass

from quorate.master import transitions
from quorate.master.effects import Answer, CloseLink, Effect, JobChanged
from quorate.master.events import DeadlineCame, Event, Opened, ScheduleDue, Ticked
from quorate.master.records import (
    AgentRecord,
    AllocationRecord,
    Change,
    JobRecord,
    MemberRecord,
    Put,
    Record,
    SettingRecord,
    SpecRecord,
    Stamp,
    TokenRecord,
)
from quorate.master.settings import Settings
from quorate.master.state import State, StateError
from quorate.master.store import Store
from quorate.master.transitions.desired import Outbox
from quorate.model.ids import short_id

#: The order in which records are read back: indexes of the later ones look at the earlier ones.
_ORDER: tuple[type[Record], ...] = (
    SettingRecord,
    TokenRecord,
    AgentRecord,
    SpecRecord,
    AllocationRecord,
    MemberRecord,
    JobRecord,
)

#: A deadline whose handling failed (a bug) is looked at again after so long.
_AFTER_FAILURE_S = 30.0


@dataclass(frozen=True)
class Batch:
    """Some events' worth of changes: committed whole or not at all. `effects` are for after the commit, in order."""

    generation: int
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...]
    #: The store must at least be asked whether this master is still the one.
    verify: bool = False
    #: A new value of the store's mark of being a restored backup.
    restored: bool | None = None

    @property
    def writes(self) -> bool:
        """Whether `commit` goes to the store at all; a batch that does not is still to be released in its turn."""
        return bool(self.changes) or self.verify or self.restored is not None


class Core:
    """The master's heart. Not safe for use by several threads, but for `commit`."""

    def __init__(self, store: Store, state: State, now: float) -> None:
        self.state = state
        self._store = store
        self._changes: list[Change] = []
        self._effects: list[Effect] = []
        self._acknowledgements: list[Effect] = []
        self._jobs: dict[str, None] = {}
        self._desired: dict[str, None] = {}
        self._outbox = Outbox(state)
        self._verified = now

    @classmethod
    def open(cls, store: Store, settings: Settings, *, now: float, wall: float, entropy: bytes) -> "Core":
        """Takes the store over (any other master on it is fenced from here on) and reads it back whole.

        Raises StoreError; StoreDamaged also for records of which each can be read, and that contradict one another.
        """
        identity, generation = store.begin_epoch(short_id(entropy[:8]), entropy[8:16].hex())
        state = State(identity, settings, Stamp(identity.epoch, now, wall))
        state.generation = generation
        loaded = store.load()
        try:
            for kind in _ORDER:
                records = loaded[kind]
                if kind is JobRecord:
                    records = sorted(records, key=_in_order)
                state.absorb(Put(record) for record in records)
            core = cls(store, state, now)
            core.apply(Opened(now=now, wall=wall))
        except (StateError, LookupError, TypeError, ValueError) as error:
            raise store.damaged(f"its records contradict one another ({type(error).__name__}: {error})") from error
        return core

    def apply(self, event: Event) -> Answer | None:
        """Takes one event in. The answer (None for events nobody waits on) holds once the batch is committed."""
        if isinstance(event, Ticked):
            self._tick(event)
            return None
        return self._apply(event)

    def _tick(self, event: Ticked) -> None:
        failed: Exception | None = None
        for deadline in self.state.take_due(event.now):
            came = DeadlineCame(now=event.now, wall=event.wall, what=deadline.what, key=deadline.key)
            try:
                self._apply(came)
            except Exception as error:
                # It is tried again, and the others come true meanwhile.
                self.state.due(event.now + _AFTER_FAILURE_S, deadline.what, deadline.key)
                failed = failed or error
        if failed is not None:
            raise failed

    def _apply(self, event: Event) -> Answer | None:
        draft, answer = transitions.apply(self.state, event)
        self._changes += (c for c in draft.changes if (c.record if isinstance(c, Put) else c.kind).durable)
        for effect in draft.effects:
            if isinstance(effect, CloseLink):
                self._outbox.forget(effect.link)
            self._effects.append(effect)
        self._acknowledgements += draft.acknowledgements
        self._jobs.update(draft.jobs)
        self._desired.update(draft.desired)
        return answer

    def seal(self, *, now: float, wall: float, entropy: bytes) -> Batch:
        """Lets the scheduler decide if anything relevant changed, and closes the batch.

        Raises what the scheduler raises; called again, it closes the batch without it, until some time has passed.
        """
        state = self.state
        if state.schedule_due or (state.schedule_at is not None and state.schedule_at <= now):
            try:
                self.apply(ScheduleDue(now=now, wall=wall, entropy=entropy))
            except Exception:
                state.schedule_due, state.schedule_at = False, now + _AFTER_FAILURE_S
                raise
        restored = False if state.identity.restored and state.adopted else None
        if restored is not None:
            state.identity = state.identity._replace(restored=False)
        if self._changes or restored is not None:
            state.generation += 1
        verify = now - self._verified >= state.settings.fence_check_s
        if self._changes or verify:
            self._verified = now
        for agent in self._desired:
            self._effects += self._outbox.desired(agent)
        self._effects += self._acknowledgements
        self._effects += (JobChanged(state.jobs[job].id) for job in self._jobs if job in state.jobs)
        batch = Batch(state.generation, tuple(self._changes), tuple(self._effects), verify, restored)
        self._changes, self._effects, self._acknowledgements = [], [], []
        self._jobs.clear()
        self._desired.clear()
        return batch

    def commit(self, batch: Batch) -> None:
        """Makes the batch durable; raises StoreError, after which the process must end."""
        if batch.writes:
            self._store.commit(batch.generation, batch.changes, batch.restored)

    def turn(self, *, now: float, wall: float, entropy: bytes) -> tuple[Effect, ...]:
        """Seal and commit at once, for those who have no second thread; returns the effects."""
        batch = self.seal(now=now, wall=wall, entropy=entropy)
        self.commit(batch)
        return batch.effects

    @property
    def idle(self) -> bool:
        """Whether a batch sealed now would be empty."""
        return not (
            self._changes
            or self._effects
            or self._acknowledgements
            or self._jobs
            or self._desired
            or self.state.schedule_due
        )

    @property
    def wake_at(self) -> float:
        """When `Ticked` (and then `seal`) is next due, in seconds of CLOCK_BOOTTIME."""
        times = [self._verified + self.state.settings.fence_check_s]
        times += [t for t in (self.state.next_due(), self.state.schedule_at) if t is not None]
        return min(times)


def _in_order(record: Record) -> tuple[float, int]:
    # Final jobs are kept in the order in which they ended.
    assert isinstance(record, JobRecord)
    return (record.ended.wall if record.ended else 0.0, record.seq)

"""The master as a process: the shipped core on the shipped store, batches committed late, and killed at any point."""

import sqlite3
from collections import deque
from collections.abc import Callable
from functools import cache

import sqlalchemy as sa

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.core import Batch, Core
from quorate.master.settings import Settings
from quorate.master.store import Store, StoreFenced, open_on
from quorate.model.messages import AgentMessage, Heartbeat, Hello, LeaseHeld, Regressed, Report

from .invariants import Invariants
from .wire import Wire
from .world import World


class Crash(Exception):
    """The master dies here, in the middle of a commit."""


@cache
def _template() -> bytes:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    open_on(lambda: connection, "template")
    return connection.serialize()


class _Connection(sqlite3.Connection):
    """A connection whose owner may die before any statement."""

    disk: "Disk | None" = None

    def execute(self, *values: object) -> sqlite3.Cursor:
        if self.disk is not None:
            self.disk.before_statement()
        return super().execute(*values)  # type: ignore[arg-type]

    def executemany(self, *values: object) -> sqlite3.Cursor:
        if self.disk is not None:
            self.disk.before_statement()
        return super().executemany(*values)  # type: ignore[arg-type]


class Disk:
    """What survives a master: one SQLite database in memory, and when it is to fail."""

    def __init__(self, content: bytes | None = None) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False, factory=_Connection)
        self.connection.deserialize(content or _template())
        self.connection.disk = self
        self._opened: list[Store] = []
        #: The next commit dies before this statement; 0 dies when all is durable.
        self.dies_at: int | None = None

    def open(self) -> Store:
        """The store as a new process of the master opens it."""
        if self.connection.in_transaction:
            self.connection.rollback()
        store = open_on(lambda: self.connection, "simulated")
        sa.event.listen(store._engine, "before_cursor_execute", self.before_statement)
        # A store that is collected rolls its connection back, which here is everybody's.
        self._opened.append(store)
        return store

    def before_statement(self, *_: object) -> None:
        """Every statement passes here, whichever way it goes to SQLite."""
        if self.dies_at is not None and self.dies_at > 0:
            self.dies_at -= 1
            if self.dies_at == 0:
                self.dies_at = None
                raise Crash

    def backup(self, store: Store) -> bytes:
        """A copy as `quorate master backup` makes it."""
        copy = sqlite3.connect(":memory:")
        store.copy_to(copy)
        content = copy.serialize()
        copy.close()
        return content


class Master:
    """One process of a master. The server around it in the product does the same with asyncio."""

    def __init__(self, world: World, invariants: Invariants, disk: Disk, settings: Settings, name: str) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        self.alive = True
        self.stop_ready = False
        self._invariants = invariants
        self._wires: dict[int, tuple[Wire, str]] = {}
        self._answers: deque[tuple[Callable[[fx.Answer | None], None], fx.Answer | None]] = deque()
        self._committing: Batch | None = None
        self._open_answers: list[tuple[Callable[[fx.Answer | None], None], fx.Answer | None]] = []
        self._wake_at = 0.0
        self.store = disk.open()
        self.core = Core.open(self.store, settings, now=world.now, wall=world.wall, entropy=world.entropy())
        invariants.opened(self.core.state)
        world.tell(name, f"starts as epoch {self.core.state.identity.epoch}")
        self._soon()

    def kill(self, why: str = "killed") -> None:
        """kill -9: what was not committed never was, and all links break."""
        if not self.alive:
            return
        self.world.tell(self.name, why)
        self.alive = False
        for wire, _ in self._wires.values():
            wire.cut(agent_notices=self.world.random.random(), master_notices=None)

    # --- in --------------------------------------------------------------------------------------------------------

    def feed(self, event: ev.Event, answered: Callable[[fx.Answer | None], None] | None = None) -> None:
        """Applies the event; the answer is given when its batch is durable, or never."""
        if not self.alive:
            return
        answer = self.core.apply(event)
        if answered is not None:
            self._open_answers.append((answered, answer))
        self._soon()

    def receive(self, wire: Wire, message: AgentMessage) -> None:
        """What the edge does with a message of a link."""
        if not self.alive:
            return
        now, wall = self.world.now, self.world.wall
        if isinstance(message, Hello):
            self._wires[wire.number] = (wire, message.agent)
            self.feed(ev.AgentConnected(now=now, wall=wall, link=wire.number, agent=message.agent, hello=message))
            return
        if wire.number not in self._wires:
            return
        about = {"now": now, "wall": wall, "link": wire.number, "agent": self._wires[wire.number][1]}
        match message:
            case Heartbeat():
                self.feed(ev.AgentHeartbeat(heartbeat=message, **about))
            case Report():
                self.feed(ev.AgentReported(report=message, **about))
            case Regressed():
                self.feed(ev.AgentRegressed(regressed=message, **about))
            case LeaseHeld():
                self.feed(ev.AgentHeldLease(held=message, **about))

    def link_lost(self, wire: Wire) -> None:
        """The edge's notice that a link ended."""
        found = self._wires.pop(wire.number, None)
        if found is not None and self.alive:
            self.feed(ev.AgentDisconnected(now=self.world.now, wall=self.world.wall, link=wire.number, agent=found[1]))

    # --- batches ---------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        if self._committing is None and not self.core.idle:
            self._seal()
        due = max(self.core.wake_at, self.world.now + 0.01)
        if due < self._wake_at or self._wake_at <= self.world.now:
            self._wake_at = due
            self.world.after(due - self.world.now, self._tick, due)

    def _tick(self, due: float) -> None:
        if not self.alive or due != self._wake_at:
            return
        self._wake_at = 0.0
        self.core.apply(ev.Ticked(now=self.world.now, wall=self.world.wall))
        if self._committing is None:
            self._seal()
        self._soon()

    def _seal(self) -> None:
        batch = self.core.seal(now=self.world.now, wall=self.world.wall, entropy=self.world.entropy())
        answers, self._open_answers = self._open_answers, []
        self._committing = batch
        took = self.world.random.random() * 0.01 if batch.writes else 0.0
        self.world.after(took, self._commit, batch, answers)

    def _commit(self, batch: Batch, answers: list[tuple[Callable[[fx.Answer | None], None], fx.Answer | None]]) -> None:
        if not self.alive:
            return
        dies_after = self.disk.dies_at == 0 and batch.writes
        try:
            self.core.commit(batch)
        except StoreFenced:
            self.kill("is fenced")
            return
        except Crash:
            self.disk.connection.rollback()
            self.kill("dies in a commit")
            return
        self._invariants.committed_batch(batch)
        self._invariants.consistent(self.core.state)
        if dies_after:
            self.disk.dies_at = None
            self.kill("dies after a commit")
            return
        self._committing = None
        for effect in batch.effects:
            self._do(effect)
        for answered, answer in answers:
            answered(answer)
        self._soon()

    def _do(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SendTo(link, _, message):
                if link in self._wires:
                    self._wires[link][0].to_agent(message)
            case fx.CloseLink(link, _, refuse):
                found = self._wires.pop(link, None)
                if found is not None:
                    if refuse is not None:
                        found[0].to_agent(refuse)
                    self.world.after(0.5, self._hang_up, found[0])
            case fx.StopReady():
                self.stop_ready = True

    def _hang_up(self, wire: Wire) -> None:
        wire.cut(master_notices=None)

"""The one writer: feeds the core with events in batches, commits on the store's own thread, then lets effects out.

While one batch is being synced the next one gathers, so a busy master pays for one sync per batch and an idle one waits
for nobody. There is no polling: the core says when it next wants to hear the time.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from quorate.master.core import Batch, Core
from quorate.master.effects import Answer, Effect
from quorate.master.events import Event, Ticked
from quorate.master.store import Store

log = logging.getLogger(__name__)

#: Events in a batch at most: bounds how long the loop is held and how much one commit writes.
MAX_BATCH: Final = 500
#: What may wait does so this long at most, for the company of more: a short member's start and end are one commit.
LINGER_S: Final = 0.02


def now() -> float:
    """Seconds of CLOCK_BOOTTIME, by which everything is decided."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stopped(Exception):
    """The master stops (or has lost its store); nothing more is taken in."""


class StoreLost(Stopped):
    """A commit failed: memory is ahead of the disk, and the process ends."""


class Writer:
    """Owns the core. Lives on the event loop; nobody else applies events."""

    def __init__(self, core: Core, store: Store, release: Callable[[Effect], None]) -> None:
        """`release` is called on the loop for each effect, in order, once its batch is durable."""
        self.core = core
        self._store = store
        self._release = release
        self._queue: deque[tuple[Event, asyncio.Future[Answer | None] | None]] = deque()
        #: How many events were ever fed, and how many of them the core has taken in.
        self._fed = self._taken_in = 0
        #: Those who wait until the core has taken in so many; fewest first, for the number only grows.
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # One thread for the life of the store, so that SQLite sees one user.
        self._store_thread = ThreadPoolExecutor(1, "store")
        self._stopping = False
        self._lingering: asyncio.TimerHandle | None = None
        #: The state holds what is not committed yet; those who only show what is wait for the event.
        self._ahead = False
        self._caught_up = asyncio.Event()
        #: Seconds that the last commit took, and how many there were.
        self.commit_s = 0.0
        self.commits = 0

    def feed(self, event: Event) -> None:
        """Takes an event in that nobody waits for."""
        self._put(event)
        self._wake.set()

    def feed_soon(self, event: Event) -> None:
        """Takes an event in that may wait for others, LINGER_S at most; the order of all events stays as it is."""
        self._put(event)
        if self._lingering is None:
            self._lingering = self._loop.call_later(LINGER_S, self._lingered)

    def _lingered(self) -> None:
        self._lingering = None
        self._wake.set()

    async def ask(self, event: Event) -> Answer:
        """Takes an event in and returns its answer once it is durable; raises Stopped."""
        if self._stopping:
            raise Stopped("the master stops")
        answered: asyncio.Future[Answer | None] = self._loop.create_future()
        self._put(event, answered)
        self._wake.set()
        answer = await answered
        assert answer is not None, f"{type(event).__name__} has no answer"
        return answer

    def _put(self, event: Event, answered: "asyncio.Future[Answer | None] | None" = None) -> None:
        self._queue.append((event, answered))
        self._fed += 1

    async def taken_in(self) -> None:
        """Returns once the core has taken in all that was fed so far, or will take in nothing more."""
        if self._taken_in >= self._fed or self._stopping:
            return
        reached: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((self._fed, reached))
        self._wake.set()
        await reached

    def _took_in(self, events: int) -> None:
        self._taken_in += events
        while self._waiting and self._waiting[0][0] <= self._taken_in:
            _, reached = self._waiting.popleft()
            if not reached.done():
                reached.set_result(None)

    async def settled(self) -> None:
        """Returns at a moment at which the state holds nothing that is not durable; read it before the next await."""
        while self._ahead and not self._stopping:
            await self._caught_up.wait()

    async def backup(self, target: Path) -> None:
        """Copies the store to a new file between two commits; raises StoreError."""
        await self._loop.run_in_executor(self._store_thread, self._store.backup, target)

    def stop(self) -> None:
        """Lets `run` return once what was taken in is committed."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Turns until `stop`; raises StoreError when a commit fails: memory is then ahead of the disk and must go."""
        try:
            while not (self._stopping and not self._queue):
                await self._turn()
                await self._until_due()
        finally:
            self._stopping = True
            self._refuse_the_rest()
            self._store_thread.shutdown()

    async def _turn(self) -> None:
        self._ahead = True
        self._caught_up.clear()
        try:
            await self._turn_once()
        finally:
            self._ahead = False
            self._caught_up.set()

    async def _turn_once(self) -> None:
        answers = self._apply_some()
        if not answers and self.core.idle and self.core.wake_at > now():
            return
        try:
            batch = self._seal()
            if batch.writes:
                await self._commit(batch)
        except BaseException:
            for answered, _ in answers:
                if not answered.done():
                    answered.set_exception(StoreLost("the store failed"))
            raise
        for answered, answer in answers:
            if not answered.done():
                answered.set_result(answer)
        for effect in batch.effects:
            self._release(effect)

    def _seal(self) -> Batch:
        try:
            return self.core.seal(now=now(), wall=time.time(), entropy=os.urandom(32))
        except Exception:
            # The core asks the scheduler again later; what else has happened is committed without it.
            log.exception("the scheduler failed")
            return self.core.seal(now=now(), wall=time.time(), entropy=os.urandom(32))

    def _apply_some(self) -> list[tuple["asyncio.Future[Answer | None]", Answer | None]]:
        answers = []
        if self.core.wake_at <= now():
            try:
                self.core.apply(Ticked(now=now(), wall=time.time()))
            except Exception:
                # The core tries it again later, and has handled the other deadlines.
                log.exception("a deadline could not be handled")
        some = min(len(self._queue), MAX_BATCH)
        for _ in range(some):
            event, answered = self._queue.popleft()
            try:
                answer = self.core.apply(event)
            except Exception as error:
                # One event that cannot be applied leaves the state as it was, and the others unharmed.
                log.exception("event %s could not be applied", type(event).__name__)
                if answered is not None and not answered.done():
                    answered.set_exception(error)
                continue
            if answered is not None:
                answers.append((answered, answer))
        self._took_in(some)
        return answers

    async def _commit(self, batch: Batch) -> None:
        began = time.perf_counter()
        await self._loop.run_in_executor(self._store_thread, self.core.commit, batch)
        self.commit_s = time.perf_counter() - began
        self.commits += 1

    async def _until_due(self) -> None:
        if self._queue and self._wake.is_set():
            # Let the readers of sockets run: what they bring belongs into the next batch.
            await asyncio.sleep(0)
            return
        self._wake.clear()
        if self._stopping:
            return
        timer = self._loop.call_later(max(0.0, self.core.wake_at - now()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _refuse_the_rest(self) -> None:
        self._took_in(len(self._queue))
        while self._queue:
            _event, answered = self._queue.popleft()
            if answered is not None and not answered.done():
                answered.set_exception(Stopped("the master stops"))

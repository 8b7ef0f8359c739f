"""Who is told when a job changes, and the order in which jobs are listed."""

import asyncio
import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from quorate.master.state import State
from quorate.model.ids import JobId

#: Streams and waits at once; beyond it the API answers 503.
MAX_WATCHERS: Final = 10_000


class TooManyWatchers(Exception):
    """MAX_WATCHERS streams are open."""


class Notices:
    """Wakes those who wait on a job; called on the loop, after the commit."""

    def __init__(self) -> None:
        self._watchers: dict[JobId, set[asyncio.Event]] = {}
        self._count = 0
        #: Set when the master stops: streams end in order.
        self.stopping = False

    def changed(self, job: JobId) -> None:
        """Wakes all who watch the job."""
        for event in self._watchers.get(job, ()):
            event.set()

    def stop(self) -> None:
        """Wakes everybody, for the last time."""
        self.stopping = True
        for events in self._watchers.values():
            for event in events:
                event.set()

    def check_room(self) -> None:
        """Raises TooManyWatchers where `watching` would: for answers that have begun when they begin to watch."""
        if self._count >= MAX_WATCHERS:
            raise TooManyWatchers

    @contextmanager
    def watching(self, job: JobId, event: asyncio.Event) -> Iterator[None]:
        """Sets `event` at every change of the job; raises TooManyWatchers."""
        self.check_room()
        self._count += 1
        self._watchers.setdefault(job, set()).add(event)
        try:
            yield
        finally:
            self._count -= 1
            events = self._watchers[job]
            events.discard(event)
            if not events:
                del self._watchers[job]

    @property
    def watchers(self) -> int:
        """Streams and waits that are open."""
        return self._count


class JobOrder:
    """The jobs by submission, so that a page of a listing costs what it shows and not what there is."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._entries = sorted((job.seq, job.id) for job in state.jobs.values())

    def note(self, job: JobId) -> None:
        """A job is new or has changed."""
        record = self._state.jobs.get(job)
        if record is not None:
            entry = (record.seq, record.id)
            at = bisect.bisect_left(self._entries, entry)
            if at == len(self._entries) or self._entries[at] != entry:
                self._entries.insert(at, entry)

    def forget(self, job: JobId) -> None:
        """A job is no longer known. Costs a look at all: jobs are forgotten rarely, and oldest first."""
        at = next((at for at, entry in enumerate(self._entries) if entry[1] == job), None)
        if at is not None:
            del self._entries[at]

    def newest_first(self, before: int | None = None) -> Iterator[JobId]:
        """Jobs whose `seq` is below `before`, newest first."""
        end = len(self._entries) if before is None else bisect.bisect_left(self._entries, (before, JobId("")))
        for at in range(end - 1, -1, -1):
            yield self._entries[at][1]

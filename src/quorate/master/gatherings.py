"""Gangs that take long to gather: whether the first member is there is told to the others by their agents.

Where nothing passes between two machines of an overlay, in neither direction, no member can know that another one is
there (launch/search.py). Their agents can, and each has a way to the master.
"""

import asyncio
import functools
import logging
from contextlib import suppress
from typing import Final

import msgspec

from quorate.master.asks import AskError
from quorate.master.link import Links
from quorate.master.records import AllocationRecord
from quorate.master.writer import Writer
from quorate.model.asks import FIRST_WAITS, WAITS, FirstWaits, OfAllocation, Waits
from quorate.model.ids import JobId, allocation_id
from quorate.model.state import JobState
from quorate.network.flows import NetworkMode

log = logging.getLogger(__name__)

#: Between two looks at those that still gather. Mostly a gang has gathered before the first one.
LOOK_S: Final = 0.5
#: Gangs whose agents are asked in one look, those first that were not for longest, and agents that are told at once.
_AT_ONCE: Final = 64
#: So many agents of one gang are told in a second.
_TOLD_PER_S: Final = 256
_ASK_S: Final = 5.0


class Gatherings:
    """Those that are under way. Lives on the event loop."""

    def __init__(self, links: Links, writer: Writer) -> None:
        self._links = links
        self._writer = writer
        #: The one that was looked at longest ago is the first.
        self._gathering: dict[JobId, None] = {}
        self._some = asyncio.Event()
        self._few = asyncio.Semaphore(_AT_ONCE)
        #: An agent that does not answer keeps only its own gangs waiting.
        self._under_way: dict[JobId, asyncio.Task[None]] = {}

    def note(self, job: JobId) -> None:
        """The job has changed."""
        if self._allocation(job) is not None:
            self._gathering.setdefault(job)
            self._some.set()
            return
        self._gathering.pop(job, None)
        if not self._gathering:
            self._some.clear()

    async def run(self) -> None:
        """Looks for as long as there is something to be looked at, for ever: for a task of its own."""
        for job in self._writer.core.state.running:
            self.note(JobId(job))
        while True:
            await self._some.wait()
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Begins to ask the first members' agents, and to tell those of the others."""
        for job in list(self._gathering)[:_AT_ONCE]:
            self._gathering[job] = self._gathering.pop(job)
            allocation = self._allocation(job)
            if allocation is not None and job not in self._under_way:
                self._under_way[job] = task = asyncio.create_task(self._look(allocation))
                task.add_done_callback(functools.partial(self._looked, job))

    def _looked(self, job: JobId, task: asyncio.Task[None]) -> None:
        del self._under_way[job]
        if not task.cancelled() and task.exception() is not None:
            log.error("the look at who has come of job %s failed", job, exc_info=task.exception())

    def _allocation(self, job: JobId) -> AllocationRecord | None:
        """That of a job whose members gather in an overlay."""
        state = self._writer.core.state
        record = state.jobs.get(job)
        if record is None or record.state is not JobState.STARTING:
            return None
        allocation = state.allocations.get(allocation_id(job, record.attempt))
        if allocation is None or allocation.network is None or allocation.network.mode != NetworkMode.OVERLAY:
            return None
        return allocation

    async def _look(self, allocation: AllocationRecord) -> None:
        first = allocation.members[0].agent
        answer = await self._ask(first, WAITS, msgspec.json.encode(OfAllocation(allocation.id)))
        seconds = None
        with suppress(msgspec.MsgspecError):
            seconds = msgspec.json.decode(answer, type=Waits).seconds if answer else None
        if seconds is None:
            return
        others = {member.agent for member in allocation.members} - {first}
        body = msgspec.json.encode(FirstWaits(allocation.id, seconds))
        await asyncio.gather(*(self._ask(agent, FIRST_WAITS, body) for agent in others))
        await asyncio.sleep(len(others) / _TOLD_PER_S)

    async def _ask(self, agent: str, what: str, body: bytes) -> bytes:
        """Empty where there is no answer: the deadline of the rendezvous ends the wait then."""
        if self._links.can_ask(agent):
            async with self._few:
                with suppress(AskError):
                    return await self._links.asks.ask(agent, what, body, _ASK_S)
        return b""

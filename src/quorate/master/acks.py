"""Acknowledgements of logs: what the store of logs says is told to the agent, and bounds what it sends ahead."""

import asyncio
from typing import Final

from quorate.master.logs import LogGap, NoLog
from quorate.master.outgoing import TRY_LATER, Outgoing
from quorate.model.ids import MemberId
from quorate.model.messages import LogAck, LogRefuse

#: Log bytes of one agent that may wait for the disk: beyond it nothing more is read from its link.
MAX_UNSYNCED_BYTES: Final = 4 * 1024 * 1024
#: The same over all agents: beyond it each may have one chunk under way, which matters while the disk is full.
MAX_UNSYNCED_IN_ALL_BYTES: Final = 256 * 1024 * 1024


class Unsynced:
    """Log bytes of all agents that wait for the disk."""

    bytes = 0


class Acks:
    """Turns what the log store says into acknowledgements: one for each member however many chunks were synced."""

    def __init__(self, out: Outgoing, everyones: Unsynced) -> None:
        self._out = out
        self._everyones = everyones
        self._reached: dict[MemberId, int] = {}
        self._progress = asyncio.Event()
        self._unsynced = 0

    @property
    def must_wait(self) -> bool:
        """Whether nothing more may be read from the link until something is on disk."""
        if self._everyones.bytes > MAX_UNSYNCED_IN_ALL_BYTES:
            return self._unsynced > 0
        return self._unsynced > MAX_UNSYNCED_BYTES

    def expect(self, member: MemberId, size: int, done: "asyncio.Future[int]") -> None:
        self._unsynced += size
        self._everyones.bytes += size
        done.add_done_callback(lambda finished: self._settle(member, size, finished))

    async def progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def _settle(self, member: MemberId, size: int, done: "asyncio.Future[int]") -> None:
        self._unsynced -= size
        self._everyones.bytes -= size
        self._progress.set()
        error = done.exception()
        if error is None:
            if not self._reached:
                asyncio.get_running_loop().call_soon(self._send)
            self._reached[member] = max(done.result(), self._reached.get(member, 0))
        elif isinstance(error, LogGap):
            self._out.put(LogRefuse(member, error.expected, str(error)))
        elif isinstance(error, NoLog):
            self._out.put(LogRefuse(member, -1, str(error)))
        else:
            self._out.close(TRY_LATER)

    def _send(self) -> None:
        for member, offset in self._reached.items():
            self._out.put(LogAck(member, offset))
        self._reached.clear()

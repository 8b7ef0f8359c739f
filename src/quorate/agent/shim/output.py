"""A member's output on its way from its command into the log, patient with a full disk. Standard library only."""

import errno
import os
import selectors
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from quorate.agent.processes import boottime
from quorate.agent.runtime.runner import Runner
from quorate.agent.shim.log import FULL, ShimLog
from quorate.model.logframes import Stream

#: How often a full disk is tried again.
_FULL_RETRY_S = 0.5
#: Output that comes in a rush is gathered this long, so that a line at a time costs no wake-up each.
_GATHER_S = 0.002


class Output:
    """Of one member, from the start of its command until nothing more comes."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        log: ShimLog,
        runner: Runner,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        """`tell` takes messages for the agent."""
        self._selector = selector
        self._log = log
        self._runner = runner
        self._tell = tell
        #: Descriptors of the runner that the selector waits for.
        self._listened: set[int] = set()
        self._last = 0.0
        #: The agent has asked, and is told once of what comes.
        self._armed = True
        #: When a log that cannot be written is tried again.
        self.retry_at: float | None = None
        #: The command has ended, so there is no rush to come.
        self.ended = False

    def listen(self) -> None:
        """Has the selector wait for what the runner has now; output stays where it is while the disk is full.

        To be called as soon as that may have changed: the number of a closed descriptor is soon another's.
        """
        runner = self._runner
        wanted: dict[int, Callable[[], None]] = {sign: partial(self._heed, sign) for sign in runner.signs}
        if not self._log.blocked:
            wanted |= {output: partial(self._read, output) for output in runner.outputs}
        for descriptor in self._listened - wanted.keys():
            self._selector.unregister(descriptor)
        for descriptor in wanted.keys() - self._listened:
            self._selector.register(descriptor, selectors.EVENT_READ, wanted[descriptor])
        self._listened = set(wanted)

    def _heed(self, sign: int) -> None:
        self._runner.signs[sign]()
        self.listen()

    def _read(self, output: int) -> None:
        if time.monotonic() - self._last < 2 * _GATHER_S and not self.ended:
            time.sleep(_GATHER_S)
        if not self._take(output):
            return
        self._last = time.monotonic()
        if self._log.blocked:
            self.hold()
        self.poke()

    def _take(self, output: int) -> bool:
        """Moves what one read gives; False if there was nothing."""
        frames = self._runner.read(output)
        for stream, data in frames:
            if stream is Stream.PLATFORM:
                self._log.say(data.decode())
            else:
                self._log.take(stream, data)
        if output not in self._runner.outputs:
            self.listen()
        return bool(frames)

    def hold(self) -> None:
        """The disk is full: what the member writes now waits where it comes from, and then the member waits."""
        self.retry_at = boottime() + _FULL_RETRY_S
        self.listen()
        self.tell_blocked()

    def retry(self, now: float) -> None:
        if not self._log.flush():
            self.retry_at = now + _FULL_RETRY_S
            return
        self.retry_at = None
        self.listen()
        self._tell({"blocked": None})
        self.poke()

    def tell_blocked(self) -> None:
        full = self._log.blocked in FULL
        why = "the disk is full" if full else os.strerror(self._log.blocked or errno.EIO)
        self._tell({"blocked": why})

    def say(self, sentence: str) -> None:
        self._log.say(sentence)
        self.poke()

    def poke(self) -> None:
        """Tells the agent that there is more, once until it has asked again."""
        if self._armed:
            self._armed = False
            self._tell({"log": self._log.size})

    def arm(self) -> None:
        """An agent is there that has not asked yet."""
        self._armed = True

    def asked(self, offset: int) -> None:
        """The agent has the log up to there, and waits for more."""
        self._armed = True
        if self._log.size > offset:
            self.poke()

    def drain(self) -> bool:
        """Takes all that is left; whether it is in the log."""
        while not self._log.blocked:
            if not any(map(self._take, self._runner.outputs)):
                break
        if not self._log.blocked:
            self._log.end()
        return not self._log.blocked

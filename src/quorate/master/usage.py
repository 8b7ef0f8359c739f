"""Tells the core that a cluster is in use, often enough for its idle_timeout and no more often."""

from collections.abc import Callable
from time import time

from quorate.master.events import Event, JobUsed
from quorate.master.state import State
from quorate.master.writer import now
from quorate.model.ids import JobId

#: Of the idle_timeout: so much too early a cluster may be stopped at the most.
_SHARE = 0.1


class Usage:
    """Heard at each piece of output and of each session, so a look must cost next to nothing."""

    def __init__(self, state: Callable[[], State], feed: Callable[[Event], object]) -> None:
        self._state = state
        self._feed = feed
        #: When the core was told last, by job.
        self._told: dict[str, float] = {}

    def seen(self, job: str) -> None:
        """Somebody uses the job, or a member of it has something to say."""
        record = self._state().specs.get(job)
        limit = record.spec.idle_timeout if record is not None else None
        if limit is None:
            return
        moment = now()
        if moment - self._told.get(job, -limit) < limit * _SHARE:
            return
        self._told = {key: told for key, told in self._told.items() if key in self._state().unfinished}
        self._told[job] = moment
        self._feed(JobUsed(now=moment, wall=time(), job=JobId(job)))

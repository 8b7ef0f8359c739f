"""What the API works with: everything that one master's process holds, in one place."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from quorate.master.auth import Failures
from quorate.master.config import Config
from quorate.master.contexts import ContextStore
from quorate.master.diagnoses import Diagnoses
from quorate.master.effects import CloseLink, Effect, JobChanged, JobForgotten, SendTo, StopReady
from quorate.master.gatherings import Gatherings
from quorate.master.lag import LoopLag
from quorate.master.link import Links
from quorate.master.logs import LogStore
from quorate.master.notices import JobOrder, Notices
from quorate.master.reach import Reach
from quorate.master.secrets import Sealer
from quorate.master.state import State
from quorate.master.streams import Streams
from quorate.master.transitions.maintenance import unheard
from quorate.master.writer import Writer
from quorate.model.messages import Finding

log = logging.getLogger(__name__)


@dataclass
class Services:
    """The parts of a running master. Made by server.py, used by the API."""

    config: Config
    writer: Writer
    logs: LogStore
    contexts: ContextStore
    sealer: Sealer
    links: Links
    failures: Failures
    #: SHA-256 of the authority that agents are to trust, and its certificate (PEM); `-` and empty without.
    fingerprint: str
    authority: bytes
    notices: Notices = field(default_factory=Notices)
    #: Set when a planned stop is ready: everybody who can be told has been.
    stop_ready: asyncio.Future[StopReady] | None = None
    #: Ends the process in order.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    lag: LoopLag = field(default_factory=LoopLag)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.order = JobOrder(self.state)
        self.streams = Streams(lambda: self.state, self.links.asks, self.links.usage.seen)
        settings = self.config.settings
        self.reach = Reach(self.links, self.writer, settings.check_agents_s)
        self.gatherings = Gatherings(self.links, self.writer)
        folder = self.config.state_directory / "diagnoses"
        self.diagnoses = Diagnoses(folder, self.links, self.writer, settings.stalled_s)

    @property
    def state(self) -> State:
        """The state, possibly one batch ahead of the disk: to be shown, not to be acted on."""
        return self.writer.core.state

    def release(self, effect: Effect) -> None:
        """Does what a committed effect wants."""
        match effect:
            case SendTo(link=link, message=message):
                self.links.send(link, message)
            case JobChanged(job=job):
                self.order.note(job)
                self.gatherings.note(job)
                self.notices.changed(job)
            case CloseLink(link=link, refuse=refuse):
                self.links.close(link, refuse)
            case JobForgotten(job=job, allocations=_):
                self.order.forget(job)
                self.notices.changed(job)
                self.background(self.logs.forget(job))
                self.diagnoses.forget(job)
            case StopReady():
                if self.stop_ready is not None and not self.stop_ready.done():
                    self.stop_ready.set_result(effect)
            case _:
                log.error("nobody does %s", type(effect).__name__)

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs `work` beside everything else; a failure is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task in the background failed", exc_info=task.exception())

    async def cancel_background(self) -> None:
        """Ends what runs beside."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the master itself at present."""
        found = []
        if self.logs.full:
            found.append(
                Finding(
                    code="DISK-FULL",
                    severity="error",
                    title="Logs wait on the agents: the master's disk is full",
                    evidence=self.logs.full,
                    remedy=f"make room under {self.config.state_directory}, or shorten logs.keep in master.yaml",
                )
            )
        if self.state.identity.restored:
            found.append(
                Finding(
                    code="STORE-REGRESSED",
                    severity="error",
                    title="This store was restored from a backup and agents may have seen later states",
                    evidence=f"cluster {self.state.identity.cluster}, epoch {self.state.identity.epoch}",
                    remedy="quorate master adopt",
                )
            )
        if silent := unheard(self.state):
            found.append(
                Finding(
                    code="AGENT-UNHEARD",
                    severity="error",
                    title="Nothing is placed until every agent has said what it runs: the store came from a backup",
                    evidence=f"not heard since the store was adopted: {', '.join(silent)}",
                    remedy=f"start them; where a machine is off for good: quorate agent revoke {silent[0]} --gone",
                )
            )
        return tuple(found)


def wall() -> float:
    """UTC seconds, for display and for the expiry of tokens."""
    return time.time()

"""The diagnoses that were made, one for each job, on the master's disk; and those that nobody asked for.

A job all of whose members have stopped making progress is diagnosed once by itself.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from pydantic import ValidationError

from quorate.master.asks import AskError
from quorate.master.diagnosing import diagnose
from quorate.master.files import write_private
from quorate.master.link import Links
from quorate.master.records import AllocationRecord, JobRecord
from quorate.master.writer import Writer
from quorate.model.asks import PROGRESS, Idle
from quorate.model.ids import JOB_ID, JobId, allocation_id
from quorate.model.state import JobState
from quorate.model.views import DiagnosisView
from quorate.network.remedies import Platform

log = logging.getLogger(__name__)

_ASK_S: Final = 15.0
#: Of the time after which a job is taken for stuck: how often its agents are asked, and within which limits (seconds).
_SHARE: Final = 0.25
_LOOK_S: Final = (0.1, 60.0)
#: Diagnoses in memory; the others are read from the disk when they are asked for.
_KEPT: Final = 256
#: Kinds of jobs that may well do nothing for hours.
_MAY_IDLE: Final = frozenset({"cluster", "notebook", "shell", "tensorboard"})


class Diagnoses:
    """Made on demand or by itself, and kept until the job is forgotten."""

    def __init__(self, folder: Path, links: Links, writer: Writer, stalled_s: float) -> None:
        """`stalled_s`: after so long without progress a job is diagnosed by itself; 0 for never."""
        self._folder = folder
        self._links = links
        self._writer = writer
        self._stalled_s = stalled_s
        self._memory: OrderedDict[str, DiagnosisView | None] = OrderedDict()
        #: Allocations that were diagnosed by themselves.
        self._done: set[str] = set()
        self._under_way: dict[tuple[str, Platform | None], asyncio.Task[DiagnosisView]] = {}

    async def make(
        self,
        job: JobRecord,
        allocation: AllocationRecord,
        *,
        automatic: bool = False,
        platform: Platform | None = None,
    ) -> DiagnosisView:
        """Makes one; who asks for the same while it is being made gets the same.

        Remedies are commands for the platform; where none is given, for that of each agent.
        """
        what = (job.id, platform)
        task = self._under_way.get(what)
        if task is None:
            task = asyncio.create_task(self._make(job, allocation, automatic=automatic, platform=platform))
            self._under_way[what] = task
            task.add_done_callback(lambda _: self._under_way.pop(what, None))
        return await asyncio.shield(task)

    async def _make(
        self, job: JobRecord, allocation: AllocationRecord, *, automatic: bool, platform: Platform | None
    ) -> DiagnosisView:
        view = await diagnose(self._links.asks, job, allocation, automatic=automatic, platform=platform)
        self._remember(job.id, view)
        await asyncio.to_thread(self._write, job.id, view)
        return view

    def newest(self, job: JobId) -> DiagnosisView | None:
        """The newest one of the job; None where there is none."""
        if job not in self._memory:
            self._remember(job, self._read(job))
        self._memory.move_to_end(job)
        return self._memory[job]

    def forget(self, job: str) -> None:
        """The job is forgotten."""
        self._memory.pop(job, None)
        self._done = {allocation for allocation in self._done if not allocation.startswith(f"{job}-")}
        with suppress(OSError):
            self._path(job).unlink()

    async def watch(self) -> None:
        """Looks for jobs that have stopped, for ever: for a task of its own."""
        least, most = _LOOK_S
        while self._stalled_s > 0:
            await asyncio.sleep(min(most, max(least, _SHARE * self._stalled_s)))
            try:
                await self.look()
            except Exception:
                log.exception("the look for jobs that have stopped failed; it is tried again")

    async def look(self) -> None:
        """Diagnoses those that have stopped and were not diagnosed yet."""
        state = self._writer.core.state
        running = [state.jobs[job] for job in state.running if state.jobs[job].state is JobState.RUNNING]
        gangs = {
            allocation.id: (job, allocation)
            for job in running
            if str(state.specs[job.id].spec.kind) not in _MAY_IDLE
            and (allocation := state.allocations.get(allocation_id(job.id, job.attempt))) is not None
            and len(allocation.members) > 1
            and allocation.id not in self._done
        }
        agents = {member.agent for _, allocation in gangs.values() for member in allocation.members}
        idle = await self._idle(agents)
        for job, allocation in gangs.values():
            members = [f"{allocation.id}.{member.rank}." for member in allocation.members]
            if all(self._stopped(idle, member) for member in members):
                self._done.add(allocation.id)
                view = await self.make(job, allocation, automatic=True)
                log.warning("job %s makes no progress: %s", job.id, view.cause)

    def _stopped(self, idle: dict[str, float], prefix: str) -> bool:
        # Of a member that was brought back, the newest incarnation counts.
        return (
            max((since for member, since in idle.items() if member.startswith(prefix)), default=0.0) >= self._stalled_s
        )

    async def _idle(self, agents: Iterable[str]) -> dict[str, float]:
        found: dict[str, float] = {}

        async def ask(agent: str) -> None:
            with suppress(AskError, msgspec.MsgspecError):
                answer = await self._links.asks.ask(agent, PROGRESS, b"null", _ASK_S)
                found.update(msgspec.json.decode(answer, type=Idle).members)

        await asyncio.gather(*(ask(agent) for agent in agents if self._links.can_ask(agent)))
        return found

    # --- the disk ----------------------------------------------------------------------------------------------

    def _remember(self, job: str, view: DiagnosisView | None) -> None:
        self._memory[job] = view
        self._memory.move_to_end(job)
        while len(self._memory) > _KEPT:
            self._memory.popitem(last=False)

    def _path(self, job: str) -> Path:
        assert JOB_ID.match(job), job
        return self._folder / f"{job}.json"

    def _write(self, job: str, view: DiagnosisView) -> None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_private(self._path(job), view.model_dump_json().encode())
        except OSError as error:
            log.warning("the diagnosis of job %s is not kept: %s", job, error)

    def _read(self, job: str) -> DiagnosisView | None:
        try:
            return DiagnosisView.model_validate_json(self._path(job).read_bytes())
        except (OSError, ValidationError):
            return None

"""The one writer: batches, order, and what is shown when."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from quorate.master.core import Batch, Core
from quorate.master.effects import Effect, JobChanged, Submitted
from quorate.master.events import JobSubmitted, ScheduleDue, Ticked
from quorate.master.settings import Settings
from quorate.master.store import StoreFull, open_store
from quorate.master.writer import Stopped, StoreLost, Writer, now
from quorate.model.job import JobSpec

from .serving import until


class SlowCore(Core):
    """A core whose commits wait until the test lets them go, or fail."""

    gate: threading.Semaphore
    failing = False

    def commit(self, batch: Batch) -> None:
        assert self.gate.acquire(timeout=20)
        if self.failing:
            raise StoreFull("the disk is full")
        super().commit(batch)


def submission() -> JobSubmitted:
    return JobSubmitted(now=now(), wall=0.0, owner="ada", spec=JobSpec(entrypoint=("true",)), entropy=os.urandom(32))


def with_writer(directory: Path, story: Callable[[Writer, SlowCore, list[Effect]], Awaitable[None]]) -> None:
    async def run() -> None:
        store = open_store(directory / "master.db")
        core = SlowCore.open(store, Settings(), now=now(), wall=0.0, entropy=os.urandom(32))
        assert isinstance(core, SlowCore)
        core.gate = threading.Semaphore(1)
        core.turn(now=now(), wall=0.0, entropy=os.urandom(32))
        effects: list[Effect] = []
        writer = Writer(core, store, effects.append)
        turning = asyncio.create_task(writer.run())
        async with asyncio.timeout(20):
            await story(writer, core, effects)
        core.gate.release(1000)
        writer.stop()
        await asyncio.gather(turning, return_exceptions=True)
        store.close()

    asyncio.run(run())


def test_an_answer_waits_for_its_commit_and_what_gathers_meanwhile_is_one_batch(tmp_path: Path) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        first = asyncio.create_task(writer.ask(submission()))
        await asyncio.to_thread(until, lambda: core.state.jobs, "the first job")
        others = [asyncio.create_task(writer.ask(submission())) for _ in range(50)]
        reader = asyncio.create_task(writer.settled())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        assert not reader.done()
        assert effects == []
        core.gate.release(2)
        assert isinstance(await first, Submitted)
        assert all(isinstance(answer, Submitted) for answer in await asyncio.gather(*others))
        await reader
        assert writer.commits == 2
        assert len({effect.job for effect in effects if isinstance(effect, JobChanged)}) == 51

    with_writer(tmp_path, story)


def test_what_may_wait_is_committed_with_what_comes_next_and_else_alone(tmp_path: Path) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        core.gate.release(1000)
        before = writer.commits
        writer.feed_soon(submission())
        assert isinstance(await writer.ask(submission()), Submitted)
        assert len(core.state.jobs) == 2
        assert writer.commits == before + 1
        writer.feed_soon(submission())
        await asyncio.to_thread(until, lambda: writer.commits == before + 2, "the commit that nobody else asked for")
        assert len(core.state.jobs) == 3

    with_writer(tmp_path, story)


def test_a_failed_commit_ends_the_writer_and_nobody_is_told_that_it_was_done(tmp_path: Path) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        core.failing = True
        core.gate.release(1)
        with pytest.raises(StoreLost):
            await writer.ask(submission())
        with pytest.raises(Stopped):
            await writer.ask(submission())
        assert effects == []

    with_writer(tmp_path, story)


@pytest.mark.parametrize("event", [Ticked, ScheduleDue])
def test_a_mistake_in_a_deadline_or_in_the_scheduler_ends_no_writer(
    tmp_path: Path, event: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        core.gate.release(1000)
        came = threading.Event()
        apply = core.apply

        def breaks(what: Any) -> Any:
            if isinstance(what, event):
                came.set()
                raise RuntimeError("a bug")
            return apply(what)

        monkeypatch.setattr(core, "apply", breaks)
        monkeypatch.setattr(SlowCore, "wake_at", property(lambda _: 0.0 if event is Ticked else now() + 60))
        assert isinstance(await writer.ask(submission()), Submitted)
        await asyncio.to_thread(came.wait)
        assert isinstance(await writer.ask(submission()), Submitted)
        assert len(core.state.jobs) == 2

    with_writer(tmp_path, story)


def test_who_feeds_a_lot_can_wait_until_it_is_taken_in(tmp_path: Path) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        first = asyncio.create_task(writer.ask(submission()))
        await asyncio.to_thread(until, lambda: core.state.jobs, "the first job")
        writer.feed(submission())
        feeder = asyncio.create_task(writer.taken_in())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not feeder.done()
        core.gate.release(2)
        await feeder
        assert len(core.state.jobs) == 2
        await writer.taken_in()
        await first

    with_writer(tmp_path, story)


def test_nobody_waits_for_ever_for_a_writer_that_ends(tmp_path: Path) -> None:
    async def story(writer: Writer, core: SlowCore, effects: list[Effect]) -> None:
        core.failing = True
        first = asyncio.create_task(writer.ask(submission()))
        await asyncio.to_thread(until, lambda: core.state.jobs, "the first job")
        writer.feed(submission())
        feeder = asyncio.create_task(writer.taken_in())
        core.gate.release(2)
        await feeder
        with pytest.raises(StoreLost):
            await first
        await writer.taken_in()

    with_writer(tmp_path, story)

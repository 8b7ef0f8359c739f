"""The views of single jobs, with the sentence of the moment on what each waits for."""

import asyncio
from typing import Final

from quorate.master.api import render
from quorate.master.records import JobRecord
from quorate.master.standing import waits_for
from quorate.master.state import State
from quorate.master.transitions.placing import hold_on_placing, scheduler_view
from quorate.model.state import JobState
from quorate.model.views import JobDetail, JobView
from quorate.scheduling.reasons import explain

#: Beyond so many agents and queued jobs the look at all of them is taken in a thread: it takes tens of milliseconds.
SMALL: Final = 500
#: One at a time: those who ask together wait for each other, not everybody for them.
_one = asyncio.Semaphore(1)


async def job_view(state: State, job: JobRecord, now: float) -> JobView:
    """A job with its members."""
    return render.job_view(state, job, now, waits=await _waits_for(state, job, now))


async def job_detail(state: State, job: JobRecord, now: float) -> JobDetail:
    """A job with its attempts and history."""
    return render.job_detail(state, job, now, waits=await _waits_for(state, job, now))


async def _waits_for(state: State, job: JobRecord, now: float) -> str:
    large = len(state.queue) + len(state.agents) > SMALL
    if not large or job.state is not JobState.PENDING or job.id in state.port_refusals or hold_on_placing(state, now):
        return waits_for(state, job, now)
    # Made here, for the state must not be read in a thread; the view is a value.
    view = scheduler_view(state, now)
    async with _one:
        return await asyncio.to_thread(explain, view, job.id)

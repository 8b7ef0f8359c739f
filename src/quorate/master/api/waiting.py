"""The views of jobs with the sentence of the moment on what each waits for: whole for one, as it is cheap for many."""

import asyncio
from collections.abc import Sequence
from typing import Final

from quorate.master.api import render
from quorate.master.records import JobRecord
from quorate.master.standing import waits_for
from quorate.master.state import State
from quorate.master.transitions.placing import hold_on_placing, scheduler_view
from quorate.model.ids import JobId
from quorate.model.state import JobState
from quorate.model.views import JobDetail, JobView
from quorate.scheduling.reasons import explain, places_in_line

#: Beyond so many agents and queued jobs the look at all of them is taken in a thread: it takes tens of milliseconds.
SMALL: Final = 500
#: With so many queued jobs a listing gives each its whole sentence; beyond, it says who is how far back in the line.
SENTENCES: Final = 100
#: One at a time: those who ask together wait for each other, not everybody for them.
_one = asyncio.Semaphore(1)


async def job_view(state: State, job: JobRecord, now: float) -> JobView:
    """A job with its members."""
    return render.job_view(state, job, now, waits=await _waits_for(state, job, now))


async def job_detail(state: State, job: JobRecord, now: float) -> JobDetail:
    """A job with its attempts and history."""
    return render.job_detail(state, job, now, waits=await _waits_for(state, job, now))


async def listed(state: State, views: Sequence[JobView], now: float) -> tuple[JobView, ...]:
    """The jobs of a listing, those that are pending with what they wait for."""
    pending = [state.jobs[view.id] for view in views if view.state is JobState.PENDING and view.id in state.queue]
    if not pending:
        return tuple(views)
    if len(state.queue) <= SENTENCES and len(state.agents) <= SMALL:
        waits: dict[str, str] = {job.id: waits_for(state, job, now) for job in pending}
    else:
        hold = hold_on_placing(state)
        refusals = dict(state.port_refusals)
        queue = tuple(state.queue.values())
        async with _one:
            places = await asyncio.to_thread(places_in_line, queue, {job.id for job in pending})
        waits = {job: hold or refusals.get(JobId(job), place) for job, place in places.items()}
    return tuple(render.waiting(view, waits[view.id]) if view.id in waits else view for view in views)


async def _waits_for(state: State, job: JobRecord, now: float) -> str:
    large = len(state.queue) + len(state.agents) > SMALL
    if not large or job.state is not JobState.PENDING or job.id in state.port_refusals or hold_on_placing(state):
        return waits_for(state, job, now)
    # Made here, for the state must not be read in a thread; the view is a value.
    view = scheduler_view(state, now)
    async with _one:
        return await asyncio.to_thread(explain, view, job.id)

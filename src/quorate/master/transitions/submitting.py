"""Jobs on their way in, and people who change their mind."""

from quorate.master.effects import Answer, Done, Refused, Submitted
from quorate.master.events import JobCancelRequested, JobSubmitted
from quorate.master.records import Ending, EndingKind, Happening, JobRecord, SettingRecord, SpecRecord
from quorate.master.state import State
from quorate.master.transitions import endings
from quorate.master.transitions.draft import Draft
from quorate.model.ids import JobId, short_id
from quorate.model.job import JobSpec
from quorate.model.jobnetwork import NetworkWish
from quorate.model.ports import PortRange
from quorate.model.state import JobState
from quorate.network import catalogue
from quorate.network.flows import NetworkMode
from quorate.network.jobcheck import check_job
from quorate.scheduling.reasons import never_fits

#: Shapes whose answer is kept: users choose labels as they like.
_SHAPES = 1000


def submit(draft: Draft, event: JobSubmitted) -> Answer:
    """Accepts the job into the queue, or says at once that it can never run."""
    state = draft.state
    if event.idempotency:
        known = state.by_idempotency.get((event.owner, event.idempotency))
        if known is not None:
            return Submitted(JobId(known), repeated=True)
    refusal = _refusal(draft, event)
    if refusal is not None:
        return refusal
    job_id = _free_id(draft, event.entropy)
    seq = draft.setting("submitted", 0) + 1
    draft.put(SettingRecord(name="submitted", value=seq))
    draft.put(SpecRecord(job=job_id, spec=event.spec, sealed=event.sealed))
    draft.put(
        JobRecord(
            id=job_id,
            owner=event.owner,
            seq=seq,
            restarts_left=event.spec.restarts,
            submitted=draft.stamp,
            queued=draft.stamp,
            history=(Happening(event.wall, f"submitted by {event.owner}"),),
            idempotency=event.idempotency,
        )
    )
    return Submitted(job_id)


def _refusal(draft: Draft, event: JobSubmitted) -> Refused | None:
    state = draft.state
    if len(state.queue) >= state.settings.queue_limit:
        return Refused(429, "QUEUE-FULL", f"{len(state.queue)} jobs wait already", "quorate job list --state pending")
    unfit = network_refusal(state, event.spec)
    if unfit is not None:
        return unfit
    sentence = _never_fits(draft, event)
    if not sentence:
        return None
    listed = "agent" if event.spec.resources.pool in state.agents_by_pool else "pool"
    return Refused(422, "JOB-NEVER-FITS", sentence, f"quorate {listed} list")


def network_refusal(state: State, spec: JobSpec) -> Refused | None:
    """Why the job's network can never be as it asks, whatever agents there are; None where it can."""
    pool, wish = state.settings.network_of(spec.resources.pool), spec.network.mode
    if wish is not NetworkWish.AUTO and NetworkMode(wish.value) not in pool.modes:
        allowed = ", ".join(sorted(pool.modes))
        sentence = f"pool {spec.resources.pool} allows network mode {allowed}; the job asks for {wish}"
        return Refused(422, "NETWORK-MODE-REFUSED", sentence, "network: {mode: auto}")
    window = spec.network.window or (PortRange(*pool.window) if pool.window else None)
    found = check_job(spec, window, gpu=window is not None and _has_gpus(state, spec.resources.pool))
    if isinstance(found, str):
        return Refused(
            422, "PORTS-PAST-THE-END", found, f"environment: {{MASTER_PORT: {catalogue.port('master-port')}}}"
        )
    return Refused(422, found.code, found.evidence, found.remedy) if found else None


def _has_gpus(state: State, pool: str) -> bool:
    agents = map(state.agents.__getitem__, state.agents_by_pool.get(pool, ()))
    return any(slot.kind != "cpu" for agent in agents for slot in agent.slots)


def _never_fits(draft: Draft, event: JobSubmitted) -> str | None:
    """Which limit the job breaks on the whole fleet; looked up for jobs of a shape that was asked before."""
    state = draft.state
    probe = JobRecord(id=JobId("new"), owner=event.owner, seq=0, submitted=draft.stamp, queued=draft.stamp)
    request = state.request(probe, event.spec)
    key = (request.pool, request.min_nodes, *request.shape)
    if key not in state.never_fits:
        pool = state.agents_by_pool.get(request.pool, ())
        # Of a pool without agents, or with one that has not said hello, nothing can be said yet: there the job waits.
        if len(state.never_fits) >= _SHAPES:
            state.never_fits.clear()
        unknown = any(not state.agents[agent].boot for agent in pool)
        state.never_fits[key] = None if unknown else never_fits(request, state.agent_views(), state.settings.pools)
    return state.never_fits[key]


def _free_id(draft: Draft, entropy: bytes) -> JobId:
    for start in range(len(entropy) - 7):
        candidate = JobId(short_id(entropy[start : start + 8]))
        if candidate not in draft.state.jobs:
            return candidate
    raise ValueError("no unused job id could be made from the event's entropy")


def cancel(draft: Draft, event: JobCancelRequested) -> Answer:
    """Ends the job, whatever it is doing; a job that has ended stays as it ended."""
    job = draft.state.jobs.get(event.job)
    if job is None:
        return Refused(404, "JOB-UNKNOWN", f"there is no job {event.job}", "quorate job list")
    if job.state.final:
        return Done()
    ending = Ending(kind=EndingKind.CANCELLED, reason=f"cancelled by {event.by}", exit_code=endings.CANCELLED_CODE)
    if job.state is JobState.PENDING:
        endings.finish(draft, job, ending)
    else:
        endings.end(draft, job, ending)
    return Done()

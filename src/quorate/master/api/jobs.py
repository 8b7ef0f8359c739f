"""Jobs: submit, list, show, cancel, wait, and a stream of what becomes of one."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from quorate.master.api import render, waiting
from quorate.master.api.bodies import body_of
from quorate.master.api.calls import (
    Cursor,
    Limit,
    Master,
    User,
    answer,
    ask,
    bad_cursor,
    decode_cursor,
    encode_cursor,
    moment,
    shows,
    while_valid,
)
from quorate.master.api.contexts import SHA256
from quorate.master.api.document import documented
from quorate.master.api.plan import check_entrypoint, check_images, plan_view
from quorate.master.api.problems import ApiProblem
from quorate.master.auth import Caller
from quorate.master.effects import Done, Submitted
from quorate.master.events import JobCancelRequested, JobSubmitted
from quorate.master.records import JobRecord
from quorate.master.services import Services
from quorate.master.writer import now
from quorate.model.ids import JobId, short_id
from quorate.model.job import JobKind, JobSpec
from quorate.model.state import JobState
from quorate.model.views import JobDetail, JobPage, JobView, PlanView

router = APIRouter(tags=["jobs"])

#: A wait ends after this at the latest; the client asks again.
LONGEST_WAIT_S = 60.0
#: A stream that has nothing to say sends an empty line so often: proxies and clients see that it lives.
KEEP_ALIVE_S = 15.0
#: Jobs that a listing looks at without letting others run.
LOOKS_AT_ONCE = 2000
NDJSON = "application/x-ndjson"

Id = Annotated[str, Path(alias="id", max_length=64, description="The job's id.")]
IdempotencyKey = Annotated[
    str,
    Header(alias="Idempotency-Key", max_length=128, description="A repeat with the same key submits nothing twice."),
]


class Submission(BaseModel):
    """A job to be run."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec


EXAMPLE = {
    "spec": {
        "name": "digits",
        "kind": "train",
        "entrypoint": ["python", "train.py", "--epochs", "20"],
        "launcher": "torch",
        "resources": {"nodes": 2, "slots": 1, "pool": "default"},
        "environment": {"OMP_NUM_THREADS": "1"},
        "restarts": 2,
        "max_runtime": "4h",
    }
}
Wanted = Annotated[Submission, body_of(Submission)]


def known_job(master: Services, job: str) -> JobRecord:
    """The job; ends the request where there is none."""
    record = master.state.jobs.get(job)
    if record is None:
        raise ApiProblem(404, "JOB-UNKNOWN", f"there is no job {job[:32]}", "quorate job list")
    return record


def _is_theirs(caller: Caller, job: JobRecord) -> bool:
    return caller.user == job.owner or caller.operator


def may_touch(caller: Caller, job: JobRecord, what: str) -> None:
    """Ends the request of somebody who is neither the owner nor an operator."""
    if not _is_theirs(caller, job):
        raise ApiProblem(
            403,
            "NOT-YOUR-JOB",
            f"job {job.id} belongs to {job.owner}, so {caller.user} cannot {what} it",
            "ask its owner",
        )


async def _check_context(master: Services, spec: JobSpec) -> None:
    """Ends the request where the context was not uploaded."""
    if spec.context is None:
        return
    if not SHA256.fullmatch(spec.context) or not await asyncio.to_thread(master.contexts.has, spec.context):
        raise ApiProblem(
            422,
            "CONTEXT-UNKNOWN",
            "spec.context is not the sha256 of a context that was uploaded",
            "PUT /api/v1/contexts/{sha256} first; the command line does",
        )


@router.post("/jobs", status_code=201, **documented(Submission, EXAMPLE), **shows(JobView))
async def submit(master: Master, caller: User, submission: Wanted, idempotency_key: IdempotencyKey = "") -> Response:
    """Submit a job. It is on the master's disk when the answer comes."""
    spec = submission.spec
    check_images(spec)
    check_entrypoint(spec)
    await _check_context(master, spec)
    entropy = os.urandom(32)
    while short_id(entropy[:8]) in master.state.jobs:
        entropy = os.urandom(32)
    # The core makes the id out of the same bytes; secrets are bound to it.
    sealed = master.sealer.seal(short_id(entropy[:8]), spec.secrets)
    event = JobSubmitted(
        **moment(),
        owner=caller.user,
        spec=spec.model_copy(update={"secrets": {}}),
        sealed=sealed,
        idempotency=idempotency_key,
        entropy=entropy,
    )
    submitted = await ask(master, event, Submitted)
    job = known_job(master, submitted.job)
    if submitted.repeated and master.state.specs[job.id].spec != event.spec:
        raise ApiProblem(
            409, "IDEMPOTENCY-MISMATCH", f"this Idempotency-Key submitted another spec as job {job.id}", "use a new key"
        )
    return answer(await waiting.job_view(master.state, job, now()), 200 if submitted.repeated else 201)


@router.post("/jobs/plan", **documented(Submission, EXAMPLE), **shows(PlanView))
async def plan(master: Master, caller: User, submission: Wanted) -> Response:
    """What would happen if the job were submitted now; nothing is run or kept."""
    return answer(plan_view(master.state, submission.spec, caller.user, now()))


@router.get("/jobs", **shows(JobPage))
async def listing(
    master: Master,
    caller: User,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    owner: Annotated[str, Query(max_length=128, description="Only this user's jobs.")] = "",
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Jobs, newest first, without their members; in a long queue a pending one says only its place in the line.

    Of others' jobs you see what they ask for, not what they run.
    """
    before = None
    if cursor:
        try:
            before = int(decode_cursor(cursor))
        except ValueError:
            raise bad_cursor() from None
    items: list[JobView] = []
    following, last = None, 0
    moment_now = now()
    async for record in _newest_first(master, before):
        if (state and record.state is not state) or (owner and record.owner != owner):
            continue
        if kind and master.state.specs[record.id].spec.kind is not kind:
            continue
        if len(items) == limit:
            following = encode_cursor(str(last))
            break
        last = record.seq
        view = render.job_view(master.state, record, moment_now, members=False)
        items.append(view if _is_theirs(caller, record) else render.for_others(view))
    return answer(JobPage(items=await waiting.listed(master.state, items, moment_now), next=following))


async def _newest_first(master: Services, before: int | None) -> AsyncIterator[JobRecord]:
    """Jobs of the listing; lets others run now and then, for a narrow filter may look at all there are."""
    while True:
        seen = 0
        for job in master.order.newest_first(before):
            record = master.state.jobs.get(job)
            if record is None:
                continue
            yield record
            before, seen = record.seq, seen + 1
            if seen == LOOKS_AT_ONCE:
                break
        else:
            return
        await asyncio.sleep(0)


@router.get("/jobs/{id}", **shows(JobDetail))
async def show(master: Master, caller: User, job: Id) -> Response:
    """A job with all that happened to it; what it runs and its last lines for its owner and operators alone."""
    record = known_job(master, job)
    view = await waiting.job_detail(master.state, record, now())
    if not _is_theirs(caller, record):
        return answer(render.for_others(view))
    diagnosis = master.diagnoses.newest(record.id)
    return answer(view.model_copy(update={"diagnosis": diagnosis.cause}) if diagnosis else view)


@router.post("/jobs/{id}/cancel", **shows(JobView))
async def cancel(master: Master, caller: User, job: Id) -> Response:
    """End a job. It is final when its members have gone; one that has ended stays as it is."""
    record = known_job(master, job)
    may_touch(caller, record, "cancel")
    await ask(master, JobCancelRequested(**moment(), job=record.id, by=caller.user), Done)
    return answer(await waiting.job_view(master.state, known_job(master, job), now()))


@router.get("/jobs/{id}/wait", **shows(JobView))
async def wait(
    master: Master,
    caller: User,
    job: Id,
    timeout: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds.")] = 30.0,
) -> Response:
    """The job when it is final, or as it is at the timeout."""
    changed = asyncio.Event()
    deadline = now() + timeout
    with master.notices.watching(JobId(job), changed):
        while not (record := known_job(master, job)).state.final and now() < deadline and not master.notices.stopping:
            changed.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - now())):
                    await changed.wait()
            except TimeoutError:
                break
            await master.writer.settled()
    view = await waiting.job_view(master.state, record, now())
    return answer(view if _is_theirs(caller, record) else render.for_others(view))


@router.get(
    "/jobs/{id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/JobView"}}}}},
)
async def events(request: Request, master: Master, caller: User, job: Id) -> StreamingResponse:
    """The job now and after every change until it is final: a JobView a line."""
    theirs = _is_theirs(caller, known_job(master, job))
    master.notices.check_room()
    views = _views(master, JobId(job), theirs=theirs)
    return StreamingResponse(while_valid(request, master, views), media_type=NDJSON)


async def _views(master: Services, job: JobId, *, theirs: bool) -> AsyncGenerator[bytes]:
    changed = asyncio.Event()
    last = b""
    with master.notices.watching(job, changed):
        while True:
            changed.clear()
            await master.writer.settled()
            if (record := master.state.jobs.get(job)) is None:
                return
            view = await waiting.job_view(master.state, record, now())
            if not theirs:
                view = render.for_others(view)
            line = view.model_dump_json().encode() + b"\n"
            if line != last:
                yield line
                last = line
            if record.state.final or master.notices.stopping:
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await changed.wait()
            except TimeoutError:
                yield b"\n"

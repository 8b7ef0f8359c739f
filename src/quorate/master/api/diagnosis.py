"""Why a job does not go on: made on demand, and the newest one as it was kept."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from quorate.master.api.calls import Master, User, answer, shows
from quorate.master.api.jobs import Id, known_job, may_touch
from quorate.master.api.problems import ApiProblem
from quorate.model.ids import allocation_id
from quorate.model.state import JobState
from quorate.model.views import DiagnosisView
from quorate.network.remedies import Platform

router = APIRouter(tags=["jobs"])


@router.post("/jobs/{id}/diagnose", **shows(DiagnosisView))
async def diagnose(
    master: Master,
    caller: User,
    job: Id,
    platform: Annotated[
        Platform | None, Query(alias="for", description="Whose commands mend it; else those of each agent's platform.")
    ] = None,
) -> Response:
    """Look at every member of a job that runs, try its connections again, and say what is most likely wrong."""
    record = known_job(master, job)
    may_touch(caller, record, "diagnose")
    allocation = master.state.allocations.get(allocation_id(record.id, record.attempt))
    if allocation is None or record.state not in (JobState.STARTING, JobState.RUNNING):
        raise ApiProblem(
            409,
            "NOT-RUNNING",
            f"job {record.id} is {record.state}: only members that run can be looked at",
            f"quorate job show {record.id}",
        )
    return answer(await master.diagnoses.make(record, allocation, platform=platform))


@router.get("/jobs/{id}/diagnosis", **shows(DiagnosisView))
async def newest(master: Master, caller: User, job: Id) -> Response:
    """The newest diagnosis that was made of the job, by somebody or because it made no progress."""
    record = known_job(master, job)
    may_touch(caller, record, "read the diagnosis of")
    view = master.diagnoses.newest(record.id)
    if view is None:
        raise ApiProblem(
            404, "NOT-DIAGNOSED", f"no diagnosis was made of job {record.id}", f"quorate job diagnose {record.id}"
        )
    return answer(view)

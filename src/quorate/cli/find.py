"""Which job is meant: by its id, by the beginning of that, or by its name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from quorate.cli.errors import usage
from quorate.cli.output import ago, note

if TYPE_CHECKING:
    from quorate.client.api import Client
    from quorate.client.errors import ApiError
    from quorate.model.views import JobDetail, JobView

#: Jobs among which a name is looked for, newest first: whoever means an older one has to give its id.
NEWEST = 400


def find_job(client: Client, said: str, *, to_end: bool = False) -> JobDetail:
    """The job; of several that have the name the newest, which is then said.

    `to_end`: the one of that name that has not ended; where there are several, nothing is guessed. Raises ApiError
    (JOB-UNKNOWN) with what was probably meant.
    """
    from quorate.client.errors import ApiError

    try:
        return client.job(said)
    except ApiError as error:
        if error.code != "JOB-UNKNOWN":
            raise
        unknown = error
    jobs = list(client.jobs(limit=NEWEST))
    if named := [job for job in jobs if job.spec.name == said]:
        alive = [job for job in named if not job.state.final]
        if to_end and len(alive) > 1:
            ids = ", ".join(job.id for job in alive[:5])
            usage(f"{len(alive)} jobs that have not ended are called {said}: {ids}", "name them by their ids")
        if to_end and alive:
            return client.job(alive[0].id)
        if len(named) > 1:
            note(f"{said} is {named[0].id}, submitted {ago(named[0].submitted_at)}: the newest of {len(named)}")
        return client.job(named[0].id)
    begun = [job for job in jobs if said and job.id.startswith(said)]
    if len(begun) > 1:
        usage(
            f"{said} could be {', '.join(f'{job.id} ({job.spec.name})' for job in begun[:5])}", "write more of the id"
        )
    if begun:
        return client.job(begun[0].id)
    raise _told(unknown, said, jobs)


def _told(unknown: ApiError, said: str, jobs: list[JobView]) -> ApiError:
    from quorate.client.errors import ApiError
    from quorate.model.problem import FieldProblem

    near = difflib.get_close_matches(said, {name for job in jobs for name in (job.id, job.spec.name)}, n=1)
    meant = next((job for job in jobs if near and near[0] in (job.id, job.spec.name)), None)
    if meant is None:
        return unknown
    also = meant.spec.name if near[0] == meant.id else meant.id
    line = FieldProblem(path="", message=f"did you mean {near[0]}? ({also}, {meant.state})")
    return ApiError(unknown.problem.model_copy(update={"errors": (line,)}))

"""The network: a check between all agents on demand, and what passed between the members of a job."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from quorate.master.api.calls import Master, User, answer, shows
from quorate.master.api.jobs import NDJSON, Id, known_job, may_touch
from quorate.master.api.problems import ApiProblem
from quorate.master.jobcounters import job_network
from quorate.master.netcheck import NetCheck
from quorate.master.services import Services
from quorate.model.views import JobNetworkView, NetCheckView
from quorate.network.pairs import mesh

router = APIRouter(tags=["network"])

#: One check on demand at a time: two would measure each other.
_checking = asyncio.Lock()


@router.post(
    "/net/check",
    response_class=StreamingResponse,
    responses={
        200: {"model": NetCheckView, "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/NetCheckView"}}}}
    },
)
async def check(
    master: Master,
    _caller: User,
    pool: Annotated[str, Query(max_length=64, description="Only between the agents of this pool.")] = "",
) -> StreamingResponse:
    """Let all agents listen and try each other: a NetCheckView a line, with how they are connected in the first."""
    if pool and pool not in master.state.agents_by_pool:
        raise ApiProblem(404, "POOL-UNKNOWN", f"there is no pool {pool}", "quorate pool list")
    if _checking.locked():
        raise ApiProblem(409, "CHECK-RUNNING", "another check of the network is under way", "try again in a moment")
    return StreamingResponse(_lines(master, pool), media_type=NDJSON)


async def _lines(master: Services, pool: str) -> AsyncIterator[bytes]:
    async with _checking, master.reach.checking:
        state = master.state
        pools = {
            name: [agent for agent in agents if not state.agents[agent].revoked]
            for name, agents in state.agents_by_pool.items()
            if pool in ("", name)
        }
        # No gang spans two pools, and no plan opens anything between them.
        pairs = {agent: others for agents in pools.values() for agent, others in mesh(agents).items()}
        async for view in NetCheck(master.links.asks, state, sorted(pairs), pairs).run():
            master.reach.seen(view.probes)
            yield view.model_dump_json().encode() + b"\n"


@router.get("/jobs/{id}/network", **shows(JobNetworkView))
async def network(master: Master, caller: User, job: Id) -> Response:
    """What passed between the members of the job, flow by flow, and what their rules refused."""
    record = known_job(master, job)
    may_touch(caller, record, "look into the network of")
    return answer(await job_network(master.links.asks, master.state, record))

"""The master itself: what it is, how it is, and what an operator may do with it."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from quorate import __version__
from quorate.master import backup
from quorate.master.api import render
from quorate.master.api.bodies import body_of
from quorate.master.api.calls import Master, Operator, User, answer, ask, moment, shows
from quorate.master.api.document import documented
from quorate.master.effects import Done, StopReady, StopStarted
from quorate.master.events import Adopted, BackupTaken, PlannedStop
from quorate.model.duration import Duration
from quorate.model.messages import PROTOCOL
from quorate.model.views import MasterView, StopView

router = APIRouter(tags=["master"])

#: Connected agents have so long to make a longer lease durable.
PATIENCE_S = 10.0
LONGEST_STOP_S = 7 * 86_400.0


class StopRequest(BaseModel):
    """How the master is to stop."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    for_: Annotated[Duration, Field(le=LONGEST_STOP_S)] = Field(
        0.0,
        alias="for",
        description="Planned maintenance: agents are told to bear silence for so long; 0 tells nobody.",
    )


@router.get("/master", **shows(MasterView))
async def show(master: Master, _caller: User) -> Response:
    """What the master is and how it is."""
    identity = master.state.identity
    view = MasterView(
        version=__version__,
        cluster=identity.cluster,
        epoch=identity.epoch,
        generation=master.state.generation,
        protocol=PROTOCOL,
        agents=sum(not agent.revoked for agent in master.state.agents.values()),
        fingerprint=master.fingerprint if master.authority else "",
        findings=render.finding_views(master.findings()),
    )
    return answer(view)


@router.post("/master/stop", status_code=202, **documented(StopRequest, {"for": "2h"}), **shows(StopView))
async def stop(master: Master, _caller: Operator, wanted: Annotated[StopRequest, body_of(StopRequest)]) -> Response:
    """Stop the master; members run on. With `for`, agents first make sure that they will wait for it."""
    told: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    seconds = wanted.for_
    if seconds > 0:
        ready: asyncio.Future[StopReady] = asyncio.get_running_loop().create_future()
        master.stop_ready = ready
        await ask(master, PlannedStop(**moment(), for_s=seconds, patience_s=PATIENCE_S), StopStarted)
        result = await ready
        told, untold = tuple(result.held), tuple(result.missing)
    # After this answer has gone out: stopping in order waits for the requests that are under way.
    asyncio.get_running_loop().call_soon(master.stopping.set)
    return answer(StopView(told=told, untold=untold), 202)


@router.post("/master/adopt", **shows(MasterView))
async def adopt(master: Master, caller: Operator) -> Response:
    """Accept a store that was restored from a backup: agents take its word although they have seen more."""
    await ask(master, Adopted(**moment(), by=caller.user), Done)
    return await show(master, caller)


@router.post("/master/backup", response_class=StreamingResponse, responses={200: {"content": {backup.MEDIA_TYPE: {}}}})
async def take_backup(master: Master, caller: Operator) -> StreamingResponse:
    """A copy of the store and the contexts as a tar, taken while the master runs; without keys and without logs."""
    await ask(master, BackupTaken(**moment(), by=caller.user), Done)
    taken = await backup.take(master.writer, master.contexts, master.config.state_directory)
    return StreamingResponse(taken.stream(), media_type=backup.MEDIA_TYPE)

"""Agents and pools."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from quorate.master.api import render
from quorate.master.api.calls import (
    Cursor,
    Limit,
    Master,
    Operator,
    User,
    answer,
    ask,
    decode_cursor,
    encode_cursor,
    moment,
    shows,
)
from quorate.master.api.problems import ApiProblem
from quorate.master.effects import Done
from quorate.master.events import AgentDrainRequested, AgentResumed, AgentRevoked
from quorate.master.records import AgentRecord
from quorate.master.services import Services
from quorate.master.writer import now
from quorate.model.views import AgentPage, AgentView, PoolPage

router = APIRouter(tags=["agents"])

Name = Annotated[str, Path(alias="id", max_length=64, description="The agent's name.")]


def known_agent(master: Services, agent: str) -> AgentRecord:
    """The agent; ends the request where there is none."""
    record = master.state.agents.get(agent)
    if record is None:
        raise ApiProblem(404, "AGENT-UNKNOWN", f"there is no agent {agent[:64]}", "quorate agent list")
    return record


@router.get("/agents", **shows(AgentPage))
async def listing(master: Master, _caller: User, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Agents by name."""
    after = decode_cursor(cursor) if cursor else ""
    names = sorted(name for name in master.state.agents if name > after)
    shown = names[:limit]
    items = tuple(render.agent_view(master.state, master.state.agents[name], now()) for name in shown)
    return answer(AgentPage(items=items, next=encode_cursor(shown[-1]) if len(names) > limit else None))


@router.get("/agents/{id}", **shows(AgentView))
async def show(master: Master, _caller: User, agent: Name) -> Response:
    """One agent."""
    return answer(render.agent_view(master.state, known_agent(master, agent), now()))


@router.post("/agents/{id}/drain", **shows(AgentView))
async def drain(master: Master, caller: Operator, agent: Name) -> Response:
    """Place nothing more on the agent; what runs there stays."""
    record = known_agent(master, agent)
    await ask(master, AgentDrainRequested(**moment(), agent=record.id, by=caller.user), Done)
    return await show(master, caller, agent)


@router.post("/agents/{id}/resume", **shows(AgentView))
async def resume(master: Master, caller: Operator, agent: Name) -> Response:
    """Take a drain back."""
    record = known_agent(master, agent)
    await ask(master, AgentResumed(**moment(), agent=record.id, by=caller.user), Done)
    return await show(master, caller, agent)


@router.post("/agents/{id}/revoke", **shows(AgentView))
async def revoke(
    master: Master,
    caller: Operator,
    agent: Name,
    gone: Annotated[bool, Query(description="The machine runs no more: its members are lost at once.")] = False,
) -> Response:
    """Make the agent's key void at once, for ever; its members are given up like those of a silent agent."""
    record = known_agent(master, agent)
    at = moment()
    event = AgentRevoked(now=at["now"], wall=at["wall"], agent=record.id, by=caller.user, gone=gone)
    await ask(master, event, Done)
    return await show(master, caller, agent)


@router.get("/pools", **shows(PoolPage))
async def pools(master: Master, _caller: User, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Pools by name."""
    after = decode_cursor(cursor) if cursor else ""
    views = [view for view in render.pool_views(master.state) if view.name > after]
    following = encode_cursor(views[limit - 1].name) if len(views) > limit else None
    return answer(PoolPage(items=tuple(views[:limit]), next=following))

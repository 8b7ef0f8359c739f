"""A stream into a member is the asked agent's alone: its ticket is good once, for it, and only while somebody waits."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.master.serving import PATIENCE_S, MasterProcess, hear, hello, running, say
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from quorate.model.asks import STREAM_PATH, TICKET_HEADER, Stream
from quorate.model.messages import Answer, Ask, Desired, MemberStatus, Report
from quorate.model.state import MemberState

pytestmark = pytest.mark.anyio

SPEC = {"entrypoint": ["sleep", "600"], "resources": {"slots": 0}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterProcess]:
    with running(tmp_path) as process:
        yield process


def websocket(master: MasterProcess, path: str) -> str:
    return f"ws{master.url.removeprefix('http')}{path}"


async def refused(master: MasterProcess, path: str, **headers: str) -> tuple[int, str]:
    """Status and code of a WebSocket that is not accepted."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(websocket(master, path), additional_headers=headers)
    return caught.value.response.status_code, json.loads(caught.value.response.body)["code"]


class Agents:
    """Agents that say that whatever they are to have runs."""

    def __init__(self, master: MasterProcess) -> None:
        self.master = master
        self.keys: dict[str, str] = {}
        self.links: dict[str, ClientConnection] = {}

    async def join(self, name: str) -> None:
        self.keys[name] = self.master.join(name)
        link = await connect(websocket(self.master, "/agent/v1/control"), additional_headers=self.key(name))
        await say(link, hello(name))
        self.links[name] = link

    def key(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[name]}"}

    async def run(self, name: str) -> str:
        """The id of the member that it is told to have, which runs now."""
        while not (isinstance(message := await hear(self.links[name]), Desired) and message.members):
            pass
        member = message.members[0]
        await say(self.links[name], Report(1, (MemberStatus(member, MemberState.RUNNING),)))
        return member

    async def asked(self, name: str) -> tuple[Stream, Ask]:
        while not isinstance(message := await hear(self.links[name]), Ask):
            pass
        return msgspec.json.decode(message.body, type=Stream), message

    async def dial(self, name: str, ticket: str) -> ClientConnection:
        return await connect(
            websocket(self.master, STREAM_PATH), additional_headers={**self.key(name), TICKET_HEADER: ticket}
        )


@pytest.fixture
async def agents(master: MasterProcess) -> Agents:
    """Two agents, and a member that runs on the first."""
    made = Agents(master)
    await made.join("alpha")
    await made.join("beta")
    return made


async def member_on(agents: Agents, name: str) -> str:
    """Submits a job and has it run; returns its id."""
    with agents.master.client() as client:
        job = client.post("/api/v1/jobs", json={"spec": SPEC}).json()["id"]
        assert (await agents.run(name)).startswith(job)
        for _ in range(500):
            if client.get(f"/api/v1/jobs/{job}").json()["state"] == "running":
                return str(job)
    raise AssertionError("it does not run")


def user_s(master: MasterProcess, job: str, token: str | None = None) -> connect:
    shown = master.token if token is None else token
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    return connect(websocket(master, f"/api/v1/jobs/{job}/members/main1/ssh"), additional_headers=headers)


async def placed(agents: Agents) -> tuple[str, str, str]:
    """A job, the agent that its member is on, and the other one."""
    with agents.master.client() as client:
        client.post("/api/v1/agents/beta/drain", json={})
    return await member_on(agents, "alpha"), "alpha", "beta"


async def test_bytes_pass_both_ways_and_one_end_s_end_is_the_other_s(agents: Agents) -> None:
    job, agent, _ = await placed(agents)
    waiting = asyncio.ensure_future(_open(user_s(agents.master, job)))
    stream, ask = await agents.asked(agent)
    assert stream.member.startswith(job)
    far = await agents.dial(agent, stream.ticket)
    await say(agents.links[agent], Answer(ask.sequence))
    near = await waiting
    data = os.urandom(500_000)
    await near.send(data)
    assert await far.recv() == data
    await far.send(b"back")
    assert await near.recv() == b"back"
    await far.close()
    with pytest.raises(ConnectionClosed):
        await near.recv()


async def test_a_stream_ends_with_the_token_it_was_opened_with(agents: Agents) -> None:
    job, agent, _ = await placed(agents)
    with agents.master.client() as operator:
        made = operator.post("/api/v1/tokens", json={"kind": "user", "user": "eve", "operator": True}).json()
        waiting = asyncio.ensure_future(_open(user_s(agents.master, job, made["token"])))
        stream, ask = await agents.asked(agent)
        far = await agents.dial(agent, stream.ticket)
        await say(agents.links[agent], Answer(ask.sequence))
        near = await waiting
        await near.send(b"still good")
        assert await far.recv() == b"still good"
        assert operator.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectionClosed) as closed:
            await near.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        await far.wait_closed()


async def test_a_ticket_is_good_once_and_for_the_agent_that_was_asked_alone(agents: Agents) -> None:
    job, agent, other = await placed(agents)
    waiting = asyncio.ensure_future(_open(user_s(agents.master, job)))
    stream, ask = await agents.asked(agent)
    assert await _dialled_in_vain(agents, other, "guessed") == (403, "TICKET-UNKNOWN")
    far = await agents.dial(agent, stream.ticket)
    await say(agents.links[agent], Answer(ask.sequence))
    near = await waiting
    assert await _dialled_in_vain(agents, agent, stream.ticket) == (403, "TICKET-UNKNOWN")
    await near.close()
    await far.wait_closed()


async def test_a_ticket_in_another_agent_s_hands_opens_nothing_and_is_void(agents: Agents) -> None:
    job, agent, other = await placed(agents)
    waiting = asyncio.ensure_future(_open(user_s(agents.master, job)))
    stream, _ = await agents.asked(agent)
    assert await _dialled_in_vain(agents, other, stream.ticket) == (403, "TICKET-UNKNOWN")
    assert await _dialled_in_vain(agents, agent, stream.ticket) == (403, "TICKET-UNKNOWN")
    waiting.cancel()


async def test_the_agent_s_own_sentence_is_what_the_user_is_told(agents: Agents) -> None:
    job, agent, _ = await placed(agents)
    waiting = asyncio.ensure_future(_open(user_s(agents.master, job)))
    _, ask = await agents.asked(agent)
    await say(agents.links[agent], Answer(ask.sequence, error="the member has no door"))
    with pytest.raises(InvalidStatus) as caught:
        await waiting
    assert "the member has no door" in json.loads(caught.value.response.body)["detail"]


async def test_only_the_owner_and_operators_come_in(agents: Agents) -> None:
    job, _, _ = await placed(agents)
    path = f"/api/v1/jobs/{job}/members/main1/ssh"
    with agents.master.user("bob") as bob:
        theirs = bob.headers["Authorization"]
    assert await refused(agents.master, path, Authorization=theirs) == (403, "NOT-YOUR-JOB")
    assert await refused(agents.master, path) == (401, "TOKEN-UNKNOWN")
    assert await refused(agents.master, path, **agents.key("alpha")) == (401, "TOKEN-UNKNOWN")
    assert (await refused(agents.master, STREAM_PATH, Authorization=theirs))[0] == 403


async def _open(opening: connect) -> ClientConnection:
    return await opening


async def _dialled_in_vain(agents: Agents, name: str, ticket: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await agents.dial(name, ticket)
    return caught.value.response.status_code, json.loads(caught.value.response.body)["code"]

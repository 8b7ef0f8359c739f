"""Members that wait for each other in an overlay learn by their agents that the first one waits, too."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from tests.master.serving import MasterProcess, hear, hello, running, say
from websockets.asyncio.client import ClientConnection

from quorate.master.link import CONTROL_PATH
from quorate.model.asks import FIRST_WAITS, WAITS, FirstWaits, OfAllocation, Waits
from quorate.model.messages import Answer, Ask, Feature, Welcome

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Agents:
    """Agents by name, each with one slot and a link."""

    def __init__(self, master: MasterProcess, stack: AsyncExitStack) -> None:
        self._master = master
        self._stack = stack
        self.links: dict[str, ClientConnection] = {}

    async def come(self, *names: str) -> None:
        for name in names:
            key = await asyncio.to_thread(self._master.join, name)
            link = await self._stack.enter_async_context(self._master.link(CONTROL_PATH, key))
            features = (Feature.SANDBOX, Feature.ROLES)
            address = f"10.0.0.{1 + len(self.links)}"
            await say(link, msgspec.structs.replace(hello(name), features=features, address=address, mtu=1500))
            assert isinstance(await hear(link), Welcome)
            self.links[name] = link

    async def asked(self, agent: str) -> Ask:
        """The next question to the agent."""
        while True:
            message = await hear(self.links[agent])
            if isinstance(message, Ask):
                return message

    async def answer(self, agent: str, ask: Ask, body: object) -> None:
        await say(self.links[agent], Answer(ask.sequence, msgspec.json.encode(body)))


def submit(master: MasterProcess, agents: str) -> str:
    spec = {
        "entrypoint": ["true"],
        "resources": {"nodes": len(agents)},
        "placement": "spread",
        "network": {"mode": "overlay"},
    }
    with master.client() as client:
        answer = client.post("/api/v1/jobs", json={"spec": spec})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


def first_of(master: MasterProcess, job: str) -> tuple[str, str]:
    """The agents of the two members."""
    with master.client() as client:
        members = client.get(f"/api/v1/jobs/{job}").json()["members"]
    first, other = (member["agent"] for member in members)
    return first, other


async def test_the_others_agents_are_told_how_long_the_first_member_has_waited(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        master = stack.enter_context(running(tmp_path / "state"))
        agents = Agents(master, stack)
        await agents.come("a", "b")
        job = await asyncio.to_thread(submit, master, "ab")
        first, other = await asyncio.to_thread(first_of, master, job)
        asked = await agents.asked(first)
        assert (asked.what, msgspec.json.decode(asked.body, type=OfAllocation).allocation) == (WAITS, f"{job}-1")
        # It is not there yet, so nobody is told anything, and it is asked again.
        await agents.answer(first, asked, Waits())
        await agents.answer(first, await agents.asked(first), Waits(1.5))
        told = await agents.asked(other)
        assert (told.what, msgspec.json.decode(told.body, type=FirstWaits)) == (
            FIRST_WAITS,
            FirstWaits(f"{job}-1", 1.5),
        )


async def test_an_agent_that_does_not_answer_keeps_no_other_job_waiting(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        master = stack.enter_context(running(tmp_path / "state"))
        agents = Agents(master, stack)
        await agents.come("a", "b")
        silent, _ = await asyncio.to_thread(first_of, master, await asyncio.to_thread(submit, master, "ab"))
        assert (await agents.asked(silent)).what == WAITS
        await agents.come("c", "d")
        first, other = await asyncio.to_thread(first_of, master, await asyncio.to_thread(submit, master, "cd"))
        assert {first, other} == {"c", "d"}
        await agents.answer(first, await agents.asked(first), Waits(1.0))
        assert (await agents.asked(other)).what == FIRST_WAITS

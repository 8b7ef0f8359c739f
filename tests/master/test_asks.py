"""Questions to agents: who is answered what, and what a question ends with when it is not answered."""

import asyncio
from pathlib import Path

import pytest
from tests.master.serving import hear, hello, running, say

from quorate.master.asks import MOST_OF_AN_AGENT, AskError, Asks, Unanswered
from quorate.master.link import CONTROL_PATH, Control
from quorate.model.ids import AgentId
from quorate.model.messages import MAX_ANSWER_BYTES, PROTOCOL, Answer, Ask, Welcome, decode_from_master

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Fleet:
    """Agents a and b with links, old, whose protocol has no questions, and away, which has no link."""

    def __init__(self) -> None:
        self.links = {name: Control(number, AgentId(name), PROTOCOL) for number, name in enumerate("ab", 1)}
        self.links["old"] = Control(3, AgentId("old"), 0)
        self.asks = Asks(self.links.get, lambda agent: agent in self.links or agent == "away")

    async def asked(self, agent: str) -> Ask:
        sent: asyncio.Queue[bytes] = asyncio.Queue()

        async def keep(event: dict) -> None:
            if "bytes" in event:
                sent.put_nowait(event["bytes"])

        pump = asyncio.create_task(self.links[agent].out.pump(keep))
        try:
            message = decode_from_master(await sent.get())
        finally:
            pump.cancel()
        assert isinstance(message, Ask)
        return message


async def test_an_answer_reaches_whoever_asked() -> None:
    fleet = Fleet()
    first = asyncio.create_task(fleet.asks.ask("a", "probe", b'{"n":1}'))
    one = await fleet.asked("a")
    second = asyncio.create_task(fleet.asks.ask("a", "probe", b'{"n":2}'))
    two = await fleet.asked("a")
    assert (one.what, one.body, two.body) == ("probe", b'{"n":1}', b'{"n":2}')
    fleet.asks.answered(1, Answer(two.sequence, b"22"))
    fleet.asks.answered(1, Answer(one.sequence, b"11"))
    assert (await first, await second) == (b"11", b"22")


async def test_an_agent_cannot_answer_for_another_one() -> None:
    fleet = Fleet()
    asking = asyncio.create_task(fleet.asks.ask("a", "probe"))
    question = await fleet.asked("a")
    fleet.asks.answered(2, Answer(question.sequence, b'"forged"'))
    fleet.asks.answered(1, Answer(question.sequence, b'"true"'))
    assert await asking == b'"true"'


async def test_a_link_that_breaks_ends_its_questions_at_once_and_no_others() -> None:
    fleet = Fleet()
    lost = asyncio.create_task(fleet.asks.ask("a", "probe"))
    kept = asyncio.create_task(fleet.asks.ask("b", "probe"))
    await fleet.asked("a")
    question = await fleet.asked("b")
    fleet.asks.lost(1)
    with pytest.raises(AskError, match="link to agent a broke before it answered 'probe'"):
        await lost
    fleet.asks.answered(2, Answer(question.sequence, b"1"))
    assert await kept == b"1"


@pytest.mark.parametrize(
    ("agent", "why", "sentence"),
    [
        ("old", Unanswered.AGENT_OLD, "agent old is too old"),
        ("away", Unanswered.AGENT_AWAY, "agent away is not connected"),
        ("nobody", Unanswered.AGENT_UNKNOWN, "there is no agent nobody"),
    ],
)
async def test_who_cannot_be_asked_is_named_with_the_reason(agent: str, why: Unanswered, sentence: str) -> None:
    with pytest.raises(AskError, match=sentence) as caught:
        await Fleet().asks.ask(agent, "probe")
    assert caught.value.why is why


async def test_silence_ends_with_a_sentence_and_a_late_answer_harms_nobody() -> None:
    fleet = Fleet()
    with pytest.raises(AskError, match="agent a did not answer 'probe' within"):
        await fleet.asks.ask("a", "probe", timeout_s=0.01)
    question = await fleet.asked("a")
    fleet.asks.answered(1, Answer(question.sequence, b"1"))


async def test_the_agents_own_refusal_is_told_with_its_name() -> None:
    fleet = Fleet()
    asking = asyncio.create_task(fleet.asks.ask("a", "probe"))
    question = await fleet.asked("a")
    fleet.asks.answered(1, Answer(question.sequence, error="no such member"))
    with pytest.raises(AskError, match="agent a: no such member"):
        await asking


async def test_questions_and_answers_have_bounds() -> None:
    fleet = Fleet()
    with pytest.raises(AskError, match="too large"):
        await fleet.asks.ask("a", "probe", b"x" * (MAX_ANSWER_BYTES + 1))
    asking = asyncio.create_task(fleet.asks.ask("a", "probe"))
    question = await fleet.asked("a")
    fleet.asks.answered(1, Answer(question.sequence, b"x" * (MAX_ANSWER_BYTES + 1)))
    with pytest.raises(AskError, match=f"{MAX_ANSWER_BYTES + 1} bytes"):
        await asking
    many = [asyncio.create_task(fleet.asks.ask("a", "probe")) for _ in range(MOST_OF_AN_AGENT)]
    await asyncio.sleep(0)
    with pytest.raises(AskError, match="questions before it already"):
        await fleet.asks.ask("a", "probe")
    fleet.asks.lost(1)
    outcomes = await asyncio.gather(*many, return_exceptions=True)
    assert all(isinstance(outcome, AskError) for outcome in outcomes)


async def test_an_agent_of_the_older_protocol_keeps_its_link_when_somebody_wants_to_ask_it(tmp_path: Path) -> None:
    with running(tmp_path / "state") as master:
        key = master.join("b")
        async with master.link(CONTROL_PATH, key) as link:
            await say(link, hello("b", protocol=0))
            assert isinstance(await hear(link), Welcome)
            with master.client() as client:
                checked = await asyncio.to_thread(client.post, "/api/v1/net/check")
            assert checked.status_code == 200
            assert "agent b is too old" in checked.text
            await link.ping()

"""What the master may ask: handlers answer once, bounded, and a failing one harms nobody."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.agent.answers import MOST, Answers, CannotAnswer
from quorate.agent.inspecting import Inspecting
from quorate.model import asks
from quorate.model.messages import MAX_ANSWER_BYTES, Answer, Ask
from quorate.network.remedies import Platform

pytestmark = pytest.mark.anyio


class Asker:
    """The master's side."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.heard: asyncio.Queue[Answer] = asyncio.Queue()

    async def ask(self, what: str, body: bytes = b"null", *, trusted: bool = True, timeout_s: float = 20.0) -> Answer:
        self.answers.take(Ask(7, what, body, timeout_s), self.heard.put_nowait, trusted=trusted)
        async with asyncio.timeout(20):
            return await self.heard.get()


@pytest.fixture
async def asker() -> Asker:
    return Asker()


async def test_what_an_agent_sees_of_members_comes_with_the_platform_whose_firewall_it_stands_behind(
    asker: Asker, tmp_path: Path
) -> None:
    Inspecting(dict, lambda _member: tmp_path, asker.answers, Platform.AWS)
    body = msgspec.json.encode(asks.OfAllocation("jjjj-1"))
    assert msgspec.json.decode((await asker.ask(asks.INSPECT, body)).body, type=asks.Seen) == asks.Seen((), "aws")


async def test_a_handler_gets_json_and_its_json_is_the_answer(asker: Asker) -> None:
    async def add(body: Any) -> Any:
        return {"sum": body["a"] + body["b"]}

    asker.answers.register("add", add)
    assert await asker.ask("add", b'{"a":1,"b":2}') == Answer(7, b'{"sum":3}')


async def test_what_cannot_be_answered_is_said_in_a_sentence(asker: Asker) -> None:
    async def refuse(_body: Any) -> Any:
        raise CannotAnswer("member m is not here")

    async def fail(_body: Any) -> Any:
        raise RuntimeError("secret text")

    async def boast(_body: Any) -> Any:
        return "x" * (MAX_ANSWER_BYTES + 1)

    async def wait(_body: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    for handler in (refuse, fail, boast, wait):
        asker.answers.register(handler.__name__, handler)
    assert (await asker.ask("refuse")).error == "member m is not here"
    failed = (await asker.ask("fail")).error
    assert "RuntimeError" in failed
    assert "secret" not in failed
    assert "too much" in (await asker.ask("boast")).error
    assert "took longer" in (await asker.ask("wait", timeout_s=0.01)).error
    assert "upgrade" in (await asker.ask("what-is-this")).error
    assert "no JSON" in (await asker.ask("refuse", b"{")).error
    assert "STORE-REGRESSED" in (await asker.ask("refuse", trusted=False)).error


async def test_a_handler_that_blocks_holds_up_nobody(asker: Asker) -> None:
    go = threading.Event()

    async def block(_body: Any) -> Any:
        return await asker.answers.in_thread(go.wait, 20.0)

    async def quick(_body: Any) -> Any:
        go.set()
        return 1

    asker.answers.register("block", block)
    asker.answers.register("quick", quick)
    asker.answers.take(Ask(1, "block"), asker.heard.put_nowait)
    assert (await asker.ask("quick")).body == b"1"
    assert (await asker.heard.get()) == Answer(1, b"true")


async def test_no_more_than_so_many_are_answered_at_once_and_all_end_with_the_link(asker: Asker) -> None:
    async def wait(_body: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    asker.answers.register("wait", wait)
    for number in range(MOST):
        asker.answers.take(Ask(number, "wait"), asker.heard.put_nowait)
    assert f"answers {MOST} questions already" in (await asker.ask("wait")).error
    asker.answers.drop()
    async with asyncio.timeout(20):
        while asker.answers.busy:  # noqa: ASYNC110 (the loop only has to turn)
            await asyncio.sleep(0)
    assert asker.heard.empty()

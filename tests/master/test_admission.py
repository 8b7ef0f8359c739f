"""How a thousand agents come back at once, and what happens to one that does not listen."""

import asyncio

from quorate.master.admission import BURST, LONGEST_RETRY_S, LONGEST_WAIT_S, RATE, Admission
from quorate.master.outgoing import MAX_QUEUED_BYTES, Outgoing
from quorate.model.messages import Desired, HeartbeatAck


def test_a_burst_comes_in_at_once_and_the_rest_at_a_rate() -> None:
    admission = Admission()
    waits = [admission.wait(0.0) for _ in range(10_000)]
    let_in = [wait for wait in waits if wait is not None]
    assert let_in.count(0.0) >= BURST
    assert max(let_in) <= LONGEST_WAIT_S
    assert abs(len(let_in) - (BURST + LONGEST_WAIT_S * RATE)) <= 2
    # Who was sent away holds no place in the line.
    assert admission.wait(LONGEST_WAIT_S + 1.0) == 0.0


def test_those_sent_away_are_told_different_times() -> None:
    admission = Admission()
    times = {admission.retry_after(spread / 100) for spread in range(100)}
    assert len(times) > 3
    assert 1 <= min(times) <= max(times) <= LONGEST_RETRY_S


def test_five_thousand_agents_are_back_within_half_a_minute() -> None:
    admission = Admission()
    waiting = dict.fromkeys(range(5000), 0.0)
    back = 0.0
    while waiting:
        agent = min(waiting, key=lambda one: waiting[one])
        now = waiting.pop(agent)
        wait = admission.wait(now)
        if wait is None:
            waiting[agent] = now + admission.retry_after((agent % 97) / 97)
        else:
            back = max(back, now + wait)
    assert back < 30


def test_a_link_that_takes_nothing_is_given_up_before_it_fills_the_memory() -> None:
    async def story() -> None:
        out = Outgoing()
        large = Desired(1, 1, tuple(f"job{number}-1.0.1" for number in range(10_000)))
        for _ in range(1000):
            out.put(large)
            if out.closing:
                break
        assert out.closing
        assert out._bytes <= 2 * MAX_QUEUED_BYTES

    asyncio.run(story())


def test_what_waits_goes_out_before_a_link_is_closed() -> None:
    async def story() -> None:
        out, sent = Outgoing(), []

        async def send(event: dict[str, object]) -> None:
            sent.append(event["type"])

        out.put(HeartbeatAck(1, 1.0))
        out.close(1001)
        out.put(HeartbeatAck(2, 2.0))
        await out.pump(send)
        assert sent == ["websocket.send", "websocket.close"]

    asyncio.run(story())

"""Egress to named hosts costs a trip to the helper for addresses that are news, and for no others."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from quorate.agent.helper.client import Helper, HelperError
from quorate.agent.helper.protocol import receive, send
from quorate.agent.resolver.client import Resolvers
from quorate.agent.resolver.forwarder import Forwarder, Pace, Zone
from quorate.agent.resolver.protocol import Admit, Drop
from quorate.agent.resolver.protocol import told as heard

pytestmark = [pytest.mark.lab, pytest.mark.anyio]

#: A server of the machine's, by its address; port 53 of it needs root.
SERVER = "127.0.0.77"
ZONE = Zone("zzzz-1", {}, ("*.example",))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def names(lives_s: list[int]) -> Iterator[None]:
    """Each name leads to 10.77.0.<its length>; answers live for so many seconds, one after the other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SERVER, 53))
        thread = threading.Thread(target=_serve, args=(server, iter(lives_s)))
        thread.start()
        try:
            yield
        finally:
            server.sendto(b"", (SERVER, 53))
            thread.join()


def _serve(server: socket.socket, lives_s: Iterator[int]) -> None:
    while True:
        data, peer = server.recvfrom(4096)
        if not data:
            return
        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        name = question.question[0].name
        address = f"10.77.0.{len(name.labels[0])}"
        reply.answer.append(dns.rrset.from_text(name, next(lives_s), "IN", "A", address))
        server.sendto(reply.to_wire(), peer)


class Door:
    """Lets in, and knows whom; opens when it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, int]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()
        self.knocked = asyncio.Event()

    async def admit(self, addresses: dict[str, int]) -> None:
        self.asked.append(addresses)
        self.knocked.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.open.wait()
        self.at_once -= 1


async def told(forwarder: Forwarder, name: str, kind: str = "A") -> dns.rcode.Rcode:
    answer = await forwarder.answer(dns.message.make_query(f"{name}.example.", kind).to_wire(), stream=False)
    assert answer is not None
    return dns.message.from_wire(answer).rcode()


async def test_an_address_that_is_in_is_not_let_in_again() -> None:
    door = Door()
    forwarder = Forwarder(ZONE, lambda: [SERVER], door.admit, Pace())
    with names([300] * 4):
        for name in ("one", "two", "four", "one"):
            assert await told(forwarder, name) is dns.rcode.NOERROR
    # Two names lead to one address.
    assert [list(addresses) for addresses in door.asked] == [["10.77.0.3"], ["10.77.0.4"]]
    assert all(seconds >= 300 for addresses in door.asked for seconds in addresses.values())


async def test_an_answer_that_outlives_what_was_let_in_is_let_in_anew() -> None:
    door = Door()
    forwarder = Forwarder(ZONE, lambda: [SERVER], door.admit, Pace())
    with names([60, 3600]):
        await told(forwarder, "one")
        await told(forwarder, "one")
    first, second = door.asked
    assert 60 <= first["10.77.0.3"] < 3600 <= second["10.77.0.3"]


async def test_of_an_allocation_one_admission_is_under_way_and_who_waits_for_the_same_asks_no_more() -> None:
    door = Door()
    door.open.clear()
    forwarder = Forwarder(ZONE, lambda: [SERVER], door.admit, Pace())
    with names([300] * 21):
        waiting = [asyncio.ensure_future(told(forwarder, "one" if n % 2 else "three")) for n in range(20)]
        await door.knocked.wait()
        # Of the server's answers, one after the other, this is the last, and nobody is let in for it.
        await told(forwarder, "last", "TXT")
        door.open.set()
        assert set(await asyncio.gather(*waiting)) == {dns.rcode.NOERROR}
    assert door.most_at_once == 1
    assert sorted(list(addresses) for addresses in door.asked) == [["10.77.0.3"], ["10.77.0.5"]]


async def test_an_admission_that_failed_is_not_remembered() -> None:
    door = Door()
    answers = iter([True, False])

    async def admit(addresses: dict[str, int]) -> None:
        if next(answers):
            raise HelperError("it is away")
        await door.admit(addresses)

    forwarder = Forwarder(ZONE, lambda: [SERVER], admit, Pace())
    with names([300] * 2):
        assert await told(forwarder, "one") is dns.rcode.SERVFAIL
        assert await told(forwarder, "one") is dns.rcode.NOERROR
    assert len(door.asked) == 1


async def test_allocations_share_one_pace_and_what_is_too_fast_is_not_even_read() -> None:
    clock = iter([0.0] * 5 + [0.5]).__next__
    door, pace = Door(), Pace(per_s=2, at_once=3, clock=clock)
    one, other = (Forwarder(ZONE, list, door.admit, pace) for _ in range(2))
    question = dns.message.make_query("main1.", "A").to_wire()
    answered = [await forwarder.answer(question, stream=False) is not None for forwarder in (one, one, other, other)]
    assert answered == [True, True, True, False]
    assert await other.answer(question, stream=False) is not None


# --- the process that reads what members write ---------------------------------------------------------------------


def test_descriptors_from_the_process_that_reads_members_questions_are_not_taken(tmp_path: Path) -> None:
    resolvers = Resolvers(Helper(tmp_path / "none"))
    ours, theirs = socket.socketpair()
    with subprocess.Popen(["sleep", "600"]) as process, theirs:
        before = descriptors()
        for number in range(20):
            send(theirs, Admit(number, "abcd1234-1", {"192.0.2.1": 60}), theirs.fileno(), theirs.fileno())
        theirs.shutdown(socket.SHUT_WR)
        resolvers._closing.set()
        resolvers._hear(process, ours)
        assert process.returncode == -signal.SIGKILL
    assert descriptors() < before


def test_descriptors_that_are_taken_reach_no_program_that_is_started_later() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, Drop("abcd1234-1"), theirs.fileno())
        _, (descriptor,) = receive(ours, heard)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

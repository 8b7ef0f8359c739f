"""No member starts before all are there, and whoever waits in vain learns for whom."""

from __future__ import annotations

import dataclasses
import functools
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from beside import DEADLINE_S, Beside, companions
from hypothesis import given, settings
from hypothesis import strategies as st
from launch_vocabulary import gang, seen_by

from quorate.launch import handshake, rendezvous
from quorate.launch.config import Configuration, Preflight, Purpose, Timeouts
from quorate.launch.links import Door
from quorate.launch.reactor import READ, Reactor


def impatient(size: int, seconds: float = 0.3) -> Configuration:
    return gang(size, timeouts=Timeouts(rendezvous_s=seconds, watch_grace_s=seconds))


def of_another_allocation(configuration: Configuration, rank: int) -> Configuration:
    """The same addresses and ports, leased to somebody else."""
    return dataclasses.replace(configuration, rank=rank, allocation="zzzz9999-1", nonce=secrets.token_hex(16))


@contextmanager
def stranger_at(configuration: Configuration) -> Iterator[socket.socket]:
    """A plain connection to the first member's rendezvous, made as soon as somebody listens."""
    address = (configuration.first.address, configuration.first.port(Purpose.RENDEZVOUS))
    deadline = threading.Event()
    timer = threading.Timer(DEADLINE_S, deadline.set)
    timer.start()
    try:
        while True:
            try:
                sock = socket.create_connection(address, timeout=DEADLINE_S)
                break
            except ConnectionRefusedError:
                assert not deadline.wait(0.01), "nobody ever listened"
        with sock:
            yield sock
    finally:
        timer.cancel()


@pytest.mark.parametrize("size", [2, 5])
def test_all_go_when_all_are_there(size: int) -> None:
    configuration = gang(size)
    with companions(*(seen_by(configuration, rank) for rank in range(size))) as members:
        for member in members:
            member.goes()


def test_the_first_member_may_be_the_last() -> None:
    configuration = gang(3)
    early = (seen_by(configuration, 1), seen_by(configuration, 2))
    with companions(*early) as waiting, companions(configuration) as (first,):
        for member in (*waiting, first):
            member.goes()


def test_hundreds_arrive_at_once() -> None:
    size = 300
    configuration = gang(size)
    reactor = Reactor()
    went: set[int] = set()
    failures: list[rendezvous.Failure] = []

    def went_on(rank: int) -> None:
        went.add(rank)
        if len(went) == size:
            reactor.stop()

    def failed(failure: rendezvous.Failure) -> None:
        failures.append(failure)
        reactor.stop()

    barriers = [
        (rendezvous.Arrival if rank else rendezvous.Gathering)(
            reactor, seen_by(configuration, rank), functools.partial(went_on, rank), failed
        )
        for rank in reversed(range(size))
    ]
    reactor.run()
    for barrier in barriers:
        barrier.close()
    reactor.close()
    assert not failures
    assert went == set(range(size))


def test_nobody_goes_while_one_is_missing_and_all_learn_who() -> None:
    configuration = impatient(4)
    with companions(*(seen_by(configuration, rank) for rank in (0, 1, 3))) as members:
        for member in members:
            code, sentence = member.fails()
            assert code == rendezvous.MEMBERS_MISSING
            assert sentence == (
                "3 of 4 members came to the rendezvous within 0.3 s; missing: sub2 (agent agent-2, 127.0.0.13)"
            )


def test_whoever_reads_the_logs_is_told_who_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.01)
    configuration = gang(4)
    reactor = Reactor()
    notices: list[tuple[str, str]] = []

    def told(code: str, sentence: str) -> None:
        notices.append((code, sentence))
        if "3 of 4" in sentence:
            reactor.stop()

    barriers = [
        (rendezvous.Arrival if rank else rendezvous.Gathering)(
            reactor, seen_by(configuration, rank), reactor.stop, lambda _: reactor.stop(), told
        )
        for rank in (0, 1, 3)
    ]
    reactor.run()
    for barrier in barriers:
        barrier.close()
    reactor.close()
    assert notices[-1] == (
        "MEMBERS-MISSING",
        "3 of 4 members are here; still waiting for sub2 (agent agent-2, 127.0.0.13)",
    )


def test_who_cannot_reach_the_first_member_says_so_while_it_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.01)
    reactor = Reactor()
    notices: list[tuple[str, str]] = []

    def told(code: str, sentence: str) -> None:
        notices.append((code, sentence))
        if code == "NET-REFUSED":
            reactor.stop()

    arrival = rendezvous.Arrival(reactor, gang(2, rank=1), reactor.stop, lambda _: reactor.stop(), told)
    reactor.run()
    arrival.close()
    reactor.close()
    assert "sub1 could not reach main1 (agent agent-0, 127.0.0.11)" in notices[-1][1]
    assert notices[-1][1].endswith("still trying")


def test_a_long_list_of_missing_members_stays_readable() -> None:
    with companions(impatient(100)) as (first,):
        _, sentence = first.fails()
        assert sentence.startswith("1 of 100 members came")
        assert sentence.endswith("and 91 more")


def test_a_member_that_cannot_reach_the_first_says_where_and_why() -> None:
    configuration = impatient(2)
    with companions(seen_by(configuration, 1)) as (lonely,):
        code, sentence = lonely.fails()
        assert code == "NET-REFUSED"
        assert f"127.0.0.11:{configuration.first.port('rendezvous')}" in sentence
        assert "main1 (agent agent-0, 127.0.0.11)" in sentence
        assert "refused" in sentence


def test_another_allocation_at_the_same_place_is_told_apart() -> None:
    configuration = impatient(2)
    with companions(of_another_allocation(gang_like(configuration, 20.0), 0), seen_by(configuration, 1)) as (_, lost):
        code, sentence = lost.fails()
        assert code == "NET-WRONG-HOST"
        assert "another allocation answers" in sentence


def test_an_earlier_attempt_cannot_take_a_place() -> None:
    configuration = impatient(2)
    earlier = dataclasses.replace(configuration, allocation="qqqq2222-2", rank=1)
    with companions(configuration, earlier) as (first, stale):
        assert first.fails()[1].endswith("missing: sub1 (agent agent-1, 127.0.0.12)")
        assert stale.fails()[0] == "NET-WRONG-HOST"


def test_another_allocation_that_makes_room_is_waited_for() -> None:
    configuration = gang(2)
    former_holder = of_another_allocation(configuration, 0)
    with companions(former_holder) as (former,), companions(seen_by(configuration, 1)) as (patient,):
        with stranger_at(configuration):
            former.vanish()
        with companions(configuration) as (first,):
            first.goes()
            patient.goes()


def test_a_member_that_comes_back_is_counted_once() -> None:
    configuration = gang(3)
    with companions(configuration, seen_by(configuration, 1)) as (first, second):
        second.vanish()
        with companions(seen_by(configuration, 1), seen_by(configuration, 2)) as (again, third):
            for member in (first, again, third):
                member.goes()


def test_a_taken_port_is_named() -> None:
    configuration = gang(2)
    with socket.socket() as other:
        other.bind((configuration.first.address, configuration.first.port("rendezvous")))
        other.listen()
        with companions(configuration) as (first,):
            code, sentence = first.fails()
    assert code == "PORT-TAKEN"
    assert str(configuration.first.port("rendezvous")) in sentence


def test_a_loopback_address_among_others_is_refused_before_anybody_waits() -> None:
    configuration = gang(2, preflight=Preflight.REQUIRE)
    members = (configuration.members[0], dataclasses.replace(configuration.members[1], address="192.0.2.7"))
    with companions(dataclasses.replace(configuration, members=members)) as (first,):
        code, sentence = first.fails()
    assert code == "NAME-LOOPBACK"
    assert "--advertise-address" in sentence


def test_a_configuration_that_is_none_is_answered() -> None:
    with companions(dataclasses.replace(gang(2), rank=7)) as (broken,):
        code, sentence = broken.fails()
    assert code == "COMPANION-FAILED"
    assert "rank" in sentence


def test_a_shim_that_goes_takes_its_companion_along() -> None:
    with companions(gang(2)) as (waiting,):
        waiting.close()
        assert waiting.process.returncode == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.just(b"\n"), st.just(b'{"rank":1}\n')), max_size=6))
def test_a_stranger_is_never_admitted(words: list[bytes]) -> None:
    configuration = gang(2)
    reactor = Reactor()
    admitted: list[int] = []
    door = Door(reactor, configuration, Purpose.RENDEZVOUS, lambda rank, _: admitted.append(rank))
    address = (configuration.first.address, configuration.first.port(Purpose.RENDEZVOUS))

    def say() -> None:
        with socket.create_connection(address) as sock:
            for word in words:
                try:
                    sock.sendall(word)
                except OSError:
                    break
        with socket.create_connection(address) as sock:
            sock.recv(1)
        there.close()

    here, there = socket.socketpair()
    reactor.watch(here, READ, lambda _: reactor.stop())
    speaker = threading.Thread(target=say)
    speaker.start()
    reactor.run()
    speaker.join()
    here.close()
    door.close()
    reactor.close()
    assert admitted == []


def test_a_proof_fits_no_other_question() -> None:
    configuration = gang(3)
    ours, theirs = handshake.challenge(), handshake.challenge()
    proofs = {
        handshake.of_member(configuration, purpose, rank, *challenges)
        for purpose in (Purpose.RENDEZVOUS, Purpose.WATCH)
        for rank in range(3)
        for challenges in ((ours, theirs), (theirs, ours))
    } | {handshake.of_host(configuration, Purpose.WATCH, 1, ours, theirs)}
    assert len(proofs) == 13


def test_an_overheard_answer_does_not_open_the_door_again() -> None:
    configuration = gang(2)
    with companions(configuration) as (first,), stranger_at(configuration) as sock:
        reader = sock.makefile("rb")
        old = json.loads(reader.readline())["challenge"]
        own = handshake.challenge()
        replayed = handshake.of_member(configuration, Purpose.RENDEZVOUS, 1, own, old)
        with stranger_at(configuration) as other:
            answers = other.makefile("rb")
            answers.readline()
            other.sendall(json.dumps({"rank": 1, "challenge": own, "proof": replayed}).encode() + b"\n")
            assert json.loads(answers.readline()) == {"refused": "another-allocation"}
        assert isinstance(first, Beside)


def gang_like(configuration: Configuration, seconds: float) -> Configuration:
    return dataclasses.replace(configuration, timeouts=Timeouts(rendezvous_s=seconds))

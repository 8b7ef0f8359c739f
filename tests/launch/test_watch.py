"""When one member fails, the others are told at once and by whom; nothing else stops anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from beside import Beside, companions
from launch_vocabulary import gang, seen_by

from quorate.launch.config import Timeouts
from quorate.launch.watch import WATCH_LOST


@contextmanager
def running(size: int, grace_s: float = 20.0) -> Iterator[list[Beside]]:
    """The companions of an allocation whose members all run."""
    configuration = gang(size, timeouts=Timeouts(rendezvous_s=20.0, watch_grace_s=grace_s))
    with companions(*(seen_by(configuration, rank) for rank in range(size))) as members:
        for member in members:
            member.goes()
        yield members


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_failure_stops_the_others_and_names_its_member(failed: int) -> None:
    with running(3) as members:
        members[failed].exited(code=17)
        name = ("main1", "sub1", "sub2")[failed]
        for rank, member in enumerate(members):
            if rank != failed:
                assert member.stops() == f"member {name} failed with exit code 17"


def test_a_signal_is_named() -> None:
    with running(2) as (first, second):
        second.exited(signal=9)
        assert first.stops() == "member sub1 was ended by SIGKILL"


def test_the_end_of_a_stopped_member_is_an_echo_and_stops_nobody() -> None:
    with running(3) as (first, second, third):
        second.exited(code=1)
        assert "sub1" in first.stops()
        assert "sub1" in third.stops()
        first.exited(signal=15)
        third.exited(code=143)
        for member in (first, second, third):
            member.ends()


def test_a_good_end_stops_nobody() -> None:
    with running(3) as (first, second, third):
        second.exited(code=0)
        second.ends()
        third.exited(code=0)
        third.ends()
        first.exited(code=0)
        first.ends()


def test_an_end_by_order_is_no_failure() -> None:
    with running(2) as (first, second):
        second.exited(signal=15, stopped=True)
        second.ends()
        first.exited(code=0)
        first.ends()


@pytest.mark.parametrize("ended", [0, 1])
def test_a_member_that_its_machine_ends_stops_the_others_before_they_lose_it(ended: int) -> None:
    with running(2) as members:
        members[ended].ended("its agent heard nothing from the master for 15m")
        reason = f"member {('main1', 'sub1')[ended]} is ended: its agent heard nothing from the master for 15m"
        assert members[1 - ended].stops() == reason
        members[ended].ends()


@pytest.mark.parametrize("died", [0, 1])
def test_a_supervisor_that_dies_stops_the_others_before_they_lose_its_member(died: int) -> None:
    with running(2) as members:
        members[died].dies()
        assert members[1 - died].stops() == f"the supervisor of member {('main1', 'sub1')[died]} died"
        members[died].ends()


def test_the_watch_goes_on_when_the_first_member_has_ended() -> None:
    with running(4) as (first, second, third, fourth):
        first.exited(code=0)
        first.ends()
        second.exited(code=0)
        second.ends()
        fourth.exited(code=5)
        assert third.stops() == "member sub3 failed with exit code 5"
        fourth.ends()


def test_the_watch_goes_on_when_the_first_companion_has_died() -> None:
    with running(3) as (first, second, third):
        first.vanish()
        third.exited(code=5)
        assert second.stops() == "member sub2 failed with exit code 5"


def test_a_vanished_companion_stops_nobody_and_is_mentioned() -> None:
    with running(3, grace_s=0.2) as (first, second, third):
        third.vanish()
        # On a slow machine the grace may be over before the second has come.
        while "sub2 (agent agent-2, 127.0.0.13)" not in (notice := first.says()["notice"])["sentence"]:
            assert notice["code"] == WATCH_LOST
        assert notice["code"] == WATCH_LOST
        second.exited(code=0)
        second.ends()


def test_the_first_failure_is_the_reason_for_all() -> None:
    with running(4) as (first, second, third, fourth):
        third.exited(code=1)
        reasons = {first.stops(), second.stops(), fourth.stops()}
        second.exited(code=2)
        assert reasons == {"member sub2 failed with exit code 1"}
        for member in (second, third):
            member.ends()
        first.exited(code=0)
        first.ends()
        fourth.exited(code=0)
        fourth.ends()


#: A companion whose member runs, and that meets the others only much later.
_LATE = """
from quorate.launch.watch import Watch
start = Watch.start
Watch.start = lambda watch: watch._reactor.after(1.0, lambda: start(watch))
"""


def test_who_comes_to_the_watch_late_is_told_of_a_failure_though_the_first_member_has_ended_by_then() -> None:
    configuration = gang(3, timeouts=Timeouts(rendezvous_s=20.0, watch_grace_s=20.0))
    late = Beside(seen_by(configuration, 2), first=_LATE)
    try:
        with companions(*(seen_by(configuration, rank) for rank in range(2))) as (first, second):
            for member in (first, second, late):
                member.goes()
            second.exited(code=1)
            assert first.stops() == "member sub1 failed with exit code 1"
            second.ends()
            first.exited(signal=15)
            assert late.stops() == "member sub1 failed with exit code 1"
            first.ends()
    finally:
        late.close()


def test_two_failures_at_once_stop_the_others_once() -> None:
    with running(4) as (first, second, third, fourth):
        third.exited(code=1)
        second.exited(code=2)
        for member in (first, fourth):
            assert member.stops() in {"member sub2 failed with exit code 1", "member sub1 failed with exit code 2"}
            member.exited(signal=15)
            member.ends()

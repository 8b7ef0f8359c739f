"""What background checks make of what they see: what fails twice is bad, and good as soon as it passes."""

import pytest

from quorate.master.reach import Way, Ways
from quorate.model.views import ProbeView
from quorate.network.pairs import mesh, turn

A_TO_B = Way("a", "b", "leased")


def probe(outcome: str, way: Way = A_TO_B, **more: object) -> ProbeView:
    given = {"transport": "tcp", "port": 24000, "evidence": "no answer", **more}
    return ProbeView(source=way.source, destination=way.destination, flow=way.flow, outcome=outcome, **given)


def broken(ways: Ways, *probes: ProbeView) -> Ways:
    ways.confirm(ways.failing(probes))
    return ways


def test_what_fails_is_looked_at_again_before_it_is_bad() -> None:
    ways = Ways()
    assert list(ways.failing([probe("filtered")])) == [A_TO_B]
    assert not ways.bad
    assert not ways.failing([probe("open")])
    assert not broken(ways).bad


def test_a_bad_way_is_good_as_soon_as_it_passes_once() -> None:
    ways = broken(Ways(), probe("filtered"))
    assert list(ways.bad) == [A_TO_B]
    ways.failing([probe("open")])
    assert not ways.bad


def test_what_could_not_be_determined_changes_nothing() -> None:
    assert not broken(Ways(), probe("undetermined")).bad
    ways = broken(Ways(), probe("refused"))
    ways.failing([probe("undetermined")])
    assert list(ways.bad) == [A_TO_B]


def test_large_packets_that_vanish_make_a_way_bad_although_small_ones_pass() -> None:
    way = Way("a", "b", "vxlan")
    probes = (probe("open", way), probe("filtered", way, packet_bytes=1500))
    (pair,) = broken(Ways(), *probes).apart(lambda _: frozenset({"overlay"}))
    assert pair.code == "NET-MTU"


def test_a_way_that_no_job_needs_any_more_keeps_nobody_off() -> None:
    ways = broken(Ways(), probe("filtered"))
    assert [pair.modes for pair in ways.apart(lambda _: frozenset({"host"}))] == [{"host"}]
    assert ways.apart(lambda _: frozenset()) == ()


def test_an_agent_that_is_gone_is_forgotten() -> None:
    ways = broken(Ways(), probe("filtered"))
    ways.keep(["a", "c"])
    assert not ways.bad


@pytest.mark.parametrize("count", [2, 3, 7, 64, 65, 300])
def test_a_mesh_tries_everybody_as_often_and_nobody_tries_itself(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    found = mesh(names)
    tried = [other for others in found.values() for other in others]
    assert {tried.count(name) for name in names} == {min(count - 1, 63)}
    assert all(name not in others and len(set(others)) == len(others) for name, others in found.items())


@pytest.mark.parametrize(("count", "each"), [(2, 3), (3, 3), (10, 3), (50, 2)])
def test_turns_come_round_to_every_way_and_cost_so_many_probes_each(count: int, each: int) -> None:
    names = [f"n{number}" for number in range(count)]
    turns = -(-(count - 1) // each)
    found = [turn(names, number, each) for number in range(turns)]
    ways = {(source, other) for of_turn in found for source, others in of_turn.items() for other in others}
    assert ways == {(one, other) for one in names for other in names if one != other}
    assert all(len(others) <= each for of_turn in found for others in of_turn.values())

"""Over many passes: whatever comes behind, everybody who waits is served, and by the time that was promised."""

from math import inf
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.scheduling import line, never_fits

from . import life as life_module
from .clusters import agent, agents, job, requests
from .life import LONGEST, PATIENCE, Life

LIVES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DISTURBED = 30
COMES = 5.0


@st.composite
def lives(draw, disturbed: bool = True) -> Life:
    """A cluster under an endless stream of small jobs, with up to six jobs that matter and some outages."""
    fleet = [draw(agents(f"a{number}", pools=("default",))) for number in range(draw(st.integers(1, 5)))]
    fleet = [replace(one, open=True) for one in fleet]
    queue = [draw(requests(f"j{seq}", seq, pools=("default",))) for seq in range(draw(st.integers(1, 6)))]
    # Undisturbed, all come together, so that nobody of higher priority comes between.
    comes = st.integers(0, DISTURBED).map(float) if disturbed else st.just(COMES)
    queue = [replace(one, queued_at_s=draw(comes)) for one in queue if never_fits(one, fleet) is None]
    times = st.tuples(st.sampled_from([one.id for one in fleet]), st.integers(0, DISTURBED), st.integers(0, DISTURBED))
    outages = draw(st.lists(times, max_size=3)) if disturbed else []
    return Life(fleet, queue, Random(draw(st.integers(0, 2**32))), outages)


@LIVES
@given(lives())
def test_nobody_starves(life):
    life.live(DISTURBED + PATIENCE + (LONGEST + 1) * (len(life.jobs) + 1))
    assert not life.still_waiting(), f"{life.still_waiting()} still wait after {life.now} s"


@LIVES
@given(lives(disturbed=False))
def test_who_passes_a_holder_does_not_delay_it_beyond_what_was_promised(life):
    life.live(PATIENCE + (LONGEST + 1) * 7)
    for request in life.jobs:
        promised = life.promised.get(request.job, inf)
        began = life.placed_at.get(request.job, life.now)
        assert began <= promised, f"{request.job} was promised {promised} and began at {began}"


def contended(patience: float) -> Life:
    """Four agents of two slots that small jobs keep busy, and one gang that needs them all."""
    fleet = [agent(f"a{number}", 2) for number in range(4)]
    gang = replace(job("gang", 1, nodes=4, slots=2), queued_at_s=COMES)
    return Life(fleet, [gang], Random(7), patience=patience)


def test_a_gang_that_needs_all_agents_starts_although_small_jobs_never_stop_coming():
    life = contended(PATIENCE)
    life.live(1000)
    assert COMES + PATIENCE < life.placed_at["gang"] <= COMES + PATIENCE + LONGEST


def test_what_a_gang_holds_is_used_meanwhile_by_those_who_are_sure_to_be_gone():
    life = contended(PATIENCE)
    life.endless = False
    life.live(1000)
    assert life.placed_at["gang"] <= life.promised["gang"] <= COMES + PATIENCE + LONGEST
    assert life.passed


def test_without_reservations_it_would_wait_for_ever():
    life = contended(patience=1e9)
    life.live(1000)
    assert life.still_waiting() == {"gang"}


def nobody_holds(walk, request, kept):
    return False


def everything(walk, request):
    return [walk.pool.stock(request.labels, group) for group in range(len(walk.reservations) + 1)]


PLANTED = {
    "nobody holds agents": (line.Walk, "hold", nobody_holds),
    "what is held is given to anybody": (line.Walk, "stocks_for", everything),
}


@pytest.mark.parametrize("name", PLANTED)
def test_starvation_is_noticed(name, monkeypatch):
    monkeypatch.setattr(*PLANTED[name])
    # The checks of the single pass would notice first; here the point is what the jobs live to see.
    monkeypatch.setattr(life_module, "CHECKS", ())
    few = settings(LIVES, phases=[Phase.generate], database=None, derandomize=True, max_examples=500)
    with pytest.raises(AssertionError, match="still wait"):
        few(given(lives())(test_nobody_starves.hypothesis.inner_test))()


def late(walk, agent, slots):
    """Promises a time before which nothing could be free, and so lends too much."""
    return walk._now_s + 2 * LONGEST


def test_a_broken_promise_is_noticed(monkeypatch):
    monkeypatch.setattr(line.Walk, "_ready_at", late)
    monkeypatch.setattr(life_module, "CHECKS", ())
    few = settings(LIVES, phases=[Phase.generate], database=None, derandomize=True, max_examples=500)
    test = test_who_passes_a_holder_does_not_delay_it_beyond_what_was_promised
    with pytest.raises(AssertionError, match="was promised"):
        few(given(lives(disturbed=False))(test.hypothesis.inner_test))()

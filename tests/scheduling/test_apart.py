"""Agents that cannot reach each other: no gang is placed on both, and whoever waits for that is told."""

from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.model.job import Placement
from quorate.scheduling import AgentView, Apart, Decisions, Request, View, decide, explain
from quorate.scheduling.apart import conflicts, ways_without

from .clusters import (
    POLICIES,
    after,
    agent,
    check_gangs_are_whole,
    check_nobody_is_overtaken_by_an_equal,
    check_nothing_is_oversubscribed,
    check_what_is_held_is_left_alone,
    job,
    placed,
    room,
    view,
    views,
)

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODES = ("auto", "overlay", "host")


def apart(one: str, other: str, modes: tuple[str, ...] = ("auto", "overlay")) -> Apart:
    """A pair between which VXLAN is dropped."""
    return Apart(source=one, destination=other, modes=frozenset(modes), way="udp 4789", code="NET-FILTERED")


@st.composite
def parted(draw) -> View:
    """A cluster in the middle of its life, some of whose agents cannot reach some others."""
    given_view = draw(views())
    names = [one.id for one in given_view.agents] or ["nobody"]
    ends = st.tuples(st.sampled_from(names), st.sampled_from(names)).filter(lambda pair: pair[0] != pair[1])
    pairs = draw(st.lists(ends, max_size=6)) if len(names) > 1 else []
    modes = st.lists(st.sampled_from(MODES), min_size=1, unique=True)
    queue = tuple(replace(request, network=draw(st.sampled_from(MODES))) for request in given_view.queue)
    found = tuple(apart(one, other, tuple(draw(modes))) for one, other in pairs)
    return replace(given_view, queue=queue, apart=found)


def bad(given_view: View, request: Request, agents: tuple[str, ...]) -> list[Apart]:
    """The pairs among the agents that the request's members could not bear."""
    used = set(agents)
    return [
        pair for pair in given_view.apart if request.network in pair.modes and {pair.source, pair.destination} <= used
    ]


def check_nobody_is_on_a_bad_pair(given_view: View, decisions: Decisions) -> None:
    requests = {request.job: request for request in given_view.queue}
    for answer in decisions.placements:
        assert not bad(given_view, requests[answer.job], answer.agents), f"{answer} is on a bad pair"


@EXAMPLES
@given(parted())
def test_no_gang_is_placed_on_a_pair_that_cannot_talk(given_view: View) -> None:
    decisions = decide(given_view, POLICIES)
    check_nobody_is_on_a_bad_pair(given_view, decisions)
    for check in (
        check_nothing_is_oversubscribed,
        check_gangs_are_whole,
        check_nobody_is_overtaken_by_an_equal,
        check_what_is_held_is_left_alone,
    ):
        check(given_view, decisions)


@EXAMPLES
@given(parted())
def test_nobody_holds_a_pair_that_cannot_talk(given_view: View) -> None:
    requests = {request.job: request for request in given_view.queue}
    for held in decide(given_view, POLICIES).reservations:
        assert requests[held.job].nodes == 1 or not bad(given_view, requests[held.job], held.agents)


@EXAMPLES
@given(parted())
def test_a_gang_alone_is_placed_exactly_where_some_agents_that_all_reach_each_other_have_room(given_view: View) -> None:
    free = {one.id: one.free for one in given_view.agents}
    for request in given_view.queue:
        alone = replace(given_view, queue=(request,), reservations=())
        fits = any(
            room(request, some, free) >= request.least
            for size in range(1, len(given_view.agents) + 1)
            for some in combinations(given_view.agents, size)
            if request.placement is Placement.SINGLE or not bad(given_view, request, tuple(one.id for one in some))
        )
        assert bool(decide(alone, POLICIES).placements) == fits


@EXAMPLES
@given(parted())
def test_whoever_waits_is_never_told_that_the_next_pass_can_place_it(given_view: View) -> None:
    waiting = after(given_view, decide(given_view, POLICIES))
    for request in waiting.queue:
        assert "the next pass can place it" not in explain(waiting, request.job)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] != pair[1]), max_size=9))
def test_every_way_to_do_without_agents_is_found_and_none_does_without_too_many(pairs: list[tuple[int, int]]) -> None:
    names = [f"a{number}" for number in range(7)]
    unreached = conflicts([apart(f"a{one}", f"a{other}") for one, other in pairs], "auto", set(names))

    def enough(out: frozenset[str]) -> bool:
        return all(one in out or other in out for one, others in unreached.items() for other in others)

    every = [frozenset(some) for size in range(8) for some in combinations(names, size) if enough(frozenset(some))]
    least = {out for out in every if not any(less < out for less in every)}
    assert set(ways_without(unreached)) == least


def fleet(*free: int) -> list[AgentView]:
    return [agent(name, 4, slots) for name, slots in zip("abc", free, strict=False)]


def parted_view(agents: list[AgentView], *queue: Request, pairs: tuple[Apart, ...] = ()) -> View:
    return replace(view(agents, queue), apart=pairs)


def test_a_gang_goes_round_the_agent_that_cannot_be_reached() -> None:
    given_view = parted_view(fleet(4, 4, 4), job("j", nodes=2), pairs=(apart("a", "b"), apart("a", "c")))
    assert placed(decide(given_view, POLICIES)) == {"j": ("b", "c")}


def test_a_gang_may_share_one_agent_rather_than_wait_for_a_firewall() -> None:
    given_view = parted_view(fleet(4, 4), job("j", nodes=2), pairs=(apart("a", "b"),))
    assert set(placed(decide(given_view, POLICIES))["j"]) in ({"a"}, {"b"})


def test_the_sentence_names_the_agents_the_way_and_the_code() -> None:
    given_view = parted_view(fleet(1, 1), job("j", nodes=2), pairs=(apart("b", "a"), apart("a", "b")))
    assert not decide(given_view, POLICIES).placements
    sentence = explain(given_view, "j")
    assert sentence.count("agents a and b cannot reach each other on udp 4789 (NET-FILTERED)") == 1


def test_what_a_job_does_not_need_does_not_keep_it_waiting() -> None:
    hosts = job("j", nodes=2, network="host")
    given_view = parted_view(fleet(1, 1), hosts, pairs=(apart("a", "b"),))
    assert placed(decide(given_view, POLICIES)) == {"j": ("a", "b")}
    one = job("k", nodes=1)
    assert placed(decide(parted_view(fleet(1, 1), one, pairs=(apart("a", "b"),)), POLICIES))


def test_it_is_placed_as_soon_as_they_reach_each_other_again() -> None:
    given_view = parted_view(fleet(1, 1), job("j", nodes=2), pairs=(apart("a", "b"),))
    assert not decide(given_view, POLICIES).placements
    assert placed(decide(replace(given_view, apart=()), POLICIES)) == {"j": ("a", "b")}

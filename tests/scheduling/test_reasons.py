"""The sentences that people read: why a job waits, and why another is refused."""

import pytest
from msgspec.structs import replace

from quorate.scheduling import explain, labels_of, never_fits
from quorate.scheduling.types import ability

from .clusters import AFTER, agent, job, running, view


def why(agents, queue, name="j", running=(), held=None):
    return explain(view(agents, queue, running, held), name)


def test_a_gang_that_waits_for_agents():
    assert why([agent("a"), agent("b", closed="draining")], [job("j", nodes=2)]) == (
        "needs 2 agents with 1 free slot in pool default; 1 is free; agent b is draining"
    )


def test_agents_that_are_closed_are_told_by_reason_and_not_all_of_many():
    agents = [agent(f"a{n}", closed="draining") for n in range(5)] + [agent("b", closed="unreachable")]
    assert why(agents, [job("j")]) == (
        "needs 1 agent with 1 free slot in pool default; none is free; "
        "agents a0, a1, a2 and 2 more are draining; agent b is unreachable"
    )


def test_agents_that_would_not_serve_are_not_mentioned():
    agents = [agent("a", free=0, labels={"gpu": "h100"}), agent("b", closed="draining")]
    assert why(agents, [job("j", labels={"gpu": "h100"})]) == (
        "needs 1 agent with 1 free slot in pool default with label gpu=h100; none is free"
    )


def test_members_of_several_slots():
    agents = [agent("a", 8, free=6), agent("b", 8, free=3)]
    assert why(agents, [job("j", nodes=2, slots=4)]) == ("needs 2 agents with 4 free slots in pool default; 1 has them")


def test_a_gang_larger_than_the_pool_counts_room_instead_of_agents():
    agents = [agent("a", 8, free=2), agent("b", 8, free=1)]
    assert why(agents, [job("j", nodes=5)]) == (
        "needs room for 5 members of 1 slot in pool default; there is room for 3"
    )


def test_a_gang_on_one_agent():
    agents = [agent("a", 8, free=5), agent("b", 8, free=1)]
    assert why(agents, [job("j", nodes=3, slots=2, placement="single")]) == (
        "needs 1 agent with 6 free slots in pool default; no agent has more than 5"
    )


def test_an_elastic_gang():
    agents = [agent("a"), agent("b", free=0), agent("c", free=0)]
    assert why(agents, [job("j", nodes=3, min_nodes=2)]) == (
        "needs 2 agents (up to 3) with 1 free slot in pool default; 1 is free"
    )


def test_members_without_slots_wait_for_an_open_agent_only():
    assert why([agent("a", closed="draining")], [job("j", slots=0)]) == (
        "needs an open agent in pool default; agent a is draining"
    )


def test_a_pool_without_agents():
    assert why([], [job("j")]) == "needs 1 agent with 1 free slot in pool default; the pool has no agents"


def test_a_job_that_no_agent_can_serve_any_more_is_told_so():
    assert why([agent("a")], [job("j", nodes=2)]) == "pool default has 1 agent of 1 slot; the job needs 2 members"


def test_the_place_in_line_counts_those_of_the_same_pool():
    queue = [job("x", 1), job("y", 2), job("j", 3), job("z", 0, pool="other"), job("late", 4)]
    assert why([agent("a", free=0)], queue).endswith("none is free; 3rd in line")


@pytest.mark.parametrize(("place", "text"), [(2, "2nd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st")])
def test_places_are_written_as_people_say_them(place, text):
    queue = [job(f"x{n}", n) for n in range(1, place)] + [job("j", place)]
    assert why([agent("a", free=0)], queue).endswith(f"; {text} in line")


def test_who_holds_agents_ahead_and_until_when():
    agents = [agent("a"), agent("b", free=0), agent("c", free=0)]
    queue = [job("big", 1, nodes=2, waited=AFTER), job("j", 2)]
    jobs = [running("x", ("b", 1), left=601)]
    assert why(agents, queue, "j", jobs, {"big": ("a", "b")}) == (
        "needs 1 agent with 1 free slot in pool default; none is free; "
        "job big ahead of it holds agents a and b, which are free within 11m; 2nd in line"
    )


def test_nobody_knows_when_what_has_no_limit_will_end():
    queue = [job("j", 1, nodes=2, waited=AFTER)]
    jobs = [running("x", ("b", 1))]
    assert why([agent("a"), agent("b", free=0)], queue, "j", jobs, {"j": ("a", "b")}) == (
        "needs 2 agents with 1 free slot in pool default; 1 is free; it holds agents a and b, "
        "until they are free, and nobody knows when, for not all that runs there has a max_runtime"
    )


def test_a_job_that_fits_is_told_so():
    assert why([agent("a")], [job("j")]) == (
        "needs 1 agent with 1 free slot in pool default; 1 is free, so the next pass can place it"
    )


def test_only_a_job_that_waits_is_explained():
    with pytest.raises(KeyError, match="gone"):
        why([], [], "gone")


FLEET = [agent("a"), agent("b")]


@pytest.mark.parametrize(
    ("agents", "wanted", "sentence"),
    [
        (FLEET, {"nodes": 2}, None),
        (FLEET, {"nodes": 3}, "pool default has 2 agents of 1 slot; the job needs 3 members"),
        (FLEET, {"nodes": 9, "min_nodes": 2}, None),
        (FLEET, {"nodes": 9, "min_nodes": 3}, "pool default has 2 agents of 1 slot; the job needs at least 3 members"),
        (
            FLEET,
            {"slots": 4},
            "the largest agent of pool default has 1 slot; the job needs 4 for each member",
        ),
        (
            [agent("a", 4), agent("b", 8)],
            {"nodes": 4, "slots": 3},
            "pool default has 2 agents of 4 to 8 slots; the job needs 4 members of 3 slots",
        ),
        (
            [agent("a", 4), agent("b", 8)],
            {"nodes": 3, "slots": 3, "placement": "single"},
            "the largest agent of pool default has 8 slots; the job needs 9 slots on one agent (placement single)",
        ),
        (
            [agent("a", 8, gpu=True)],
            {"nodes": 2},
            "pool default has 1 agent of 8 slots; the job needs 2 members, "
            "and on GPUs each has an agent of its own unless it says colocate: true",
        ),
        (
            [agent("a", 8, gpu=True)],
            {"nodes": 2, "placement": "single"},
            "placement single asks for one agent; the job needs 2 members, "
            "and on GPUs each has an agent of its own unless it says colocate: true",
        ),
        ([agent("a", 8, gpu=True)], {"nodes": 2, "colocate": True}, None),
        (FLEET, {"pool": "defualt"}, "there is no pool defualt; did you mean default?"),
        (FLEET, {"pool": "gpus"}, "there is no pool gpus; there is default"),
        ([agent("a", closed="draining")], {}, None),
        ([], {}, "there is no pool default"),
        (
            [agent("a", labels={"gpu": "h100"})],
            {"labels": {"gpu": "h10"}},
            "no agent of pool default has label gpu=h10; did you mean h100?",
        ),
        (
            [agent("a", labels={"gpu": "h100"})],
            {"labels": {"gup": "h100"}},
            "no agent of pool default has a label gup; did you mean gpu?",
        ),
        (
            [agent("a", labels={"gpu": "h100"}), agent("b", labels={"zone": "1"})],
            {"labels": {"gpu": "h100", "zone": "1"}},
            "no agent of pool default has labels gpu=h100 and zone=1 together",
        ),
        (
            [agent("a", labels={"gpu": "h100"}), agent("b")],
            {"nodes": 2, "labels": {"gpu": "h100"}},
            "pool default with label gpu=h100 has 1 agent of 1 slot; the job needs 2 members",
        ),
        (FLEET, {"nodes": 50, "slots": 0}, None),
        ([agent("a", 4), agent("b", 4)], {"nodes": 3, "slots": 4, "sizes": (4, 2, 2)}, None),
        (
            [agent("a", 4), agent("b", 4)],
            {"nodes": 3, "slots": 4, "sizes": (4, 3, 2)},
            "pool default has 2 agents of 4 slots; the job needs 1 member of 4 slots, 1 of 3 and 1 of 2",
        ),
        (
            [agent("a", 4), agent("b", 4)],
            {"nodes": 3, "slots": 2, "sizes": (2, 2, 1), "placement": "single"},
            "pool default has 2 agents of 4 slots; the job needs 2 members of 2 slots and 1 of 1 on one agent",
        ),
        (FLEET, {"labels": dict([ability("images")])}, "no agent of pool default can run images"),
        (
            [agent("a", labels={"gpu": "h100"}), agent("b", labels=dict([ability("images")]))],
            {"labels": {"gpu": "h100", **dict([ability("images")])}},
            "no agent of pool default with label gpu=h100 can run images",
        ),
    ],
)
def test_a_job_that_can_never_fit_is_told_which_limit_it_breaks(agents, wanted, sentence):
    assert never_fits(job("j", **wanted), agents) == sentence


def test_a_pool_that_has_no_agents_yet_refuses_nothing():
    assert never_fits(job("j", nodes=100, pool="cloud"), FLEET, pools=["cloud"]) is None
    assert never_fits(job("j", pool="clod"), FLEET, pools=["cloud"]) == "there is no pool clod; did you mean cloud?"


def test_what_runs_now_is_no_reason_to_refuse():
    busy = [replace(one, free=0, labels=labels_of({})) for one in FLEET]
    assert never_fits(job("j", nodes=2), busy) is None

"""Where the members of one gang go."""

import pytest

from quorate.scheduling import Request, decide

from .clusters import POLICIES, agent, job, placed, view


def where(agents, **wanted):
    """The agents of the only job in the queue."""
    return placed(decide(view(agents, [job("j", **wanted)]), POLICIES)).get("j")


def test_spread_puts_each_member_on_an_agent_of_its_own():
    assert where([agent("a", 8), agent("b", 8), agent("c", 8)], nodes=2, slots=2) == ("a", "b")


def test_spread_takes_the_fullest_agents_that_fit_so_that_empty_ones_stay_whole():
    agents = [agent("a", 8), agent("b", 8, free=3), agent("c", 8, free=2), agent("d", 8, free=1)]
    assert where(agents, nodes=2, slots=2) == ("b", "c")


def test_spread_shares_agents_evenly_where_there_are_too_few():
    assert where([agent("a", 8), agent("b", 8)], nodes=5) == ("a", "a", "a", "b", "b")
    assert where([agent("a", 8, free=1), agent("b", 8)], nodes=4) == ("a", "b", "b", "b")
    assert where([agent("a", 8, free=3), agent("b", 8)], nodes=3) == ("a", "b", "b")


def test_members_on_gpus_never_share_an_agent_unless_the_job_says_so():
    agents = [agent("a", 8, gpu=True), agent("b", 8, gpu=True)]
    for placement in ("spread", "pack"):
        assert where(agents, nodes=2, placement=placement) == ("a", "b")
        assert where(agents, nodes=3, placement=placement) is None
    assert where(agents, nodes=2, placement="single") is None
    assert where(agents, nodes=3, colocate=True) == ("a", "a", "b")
    assert where(agents, nodes=3, colocate=True, placement="single") == ("a", "a", "a")


def test_pack_uses_the_fewest_agents_and_the_tightest_for_the_rest():
    agents = [agent("a", 8, free=2), agent("b", 8), agent("c", 8, free=4), agent("d", 8, free=3)]
    assert where(agents, nodes=3, placement="pack") == ("d", "d", "d")
    assert where(agents, nodes=10, placement="pack") == ("a",) * 2 + ("b",) * 8
    assert where(agents, nodes=11, placement="pack") == ("b",) * 8 + ("d",) * 3
    assert where(agents, nodes=17, placement="pack") == ("a",) * 2 + ("b",) * 8 + ("c",) * 4 + ("d",) * 3
    assert where(agents, nodes=18, placement="pack") is None


def test_single_puts_all_on_one_agent_and_takes_the_tightest():
    agents = [agent("a", 8, free=5), agent("b", 8), agent("c", 8, free=4)]
    assert where(agents, nodes=2, slots=2, placement="single") == ("c",) * 2
    assert where(agents, nodes=9, placement="single") is None


def test_an_elastic_gang_takes_what_there_is_down_to_its_least():
    agents = [agent("a", 8, free=3), agent("b", 8, free=2)]
    assert where(agents, nodes=9, min_nodes=4) == ("a", "a", "a", "b", "b")
    assert where(agents, nodes=9, min_nodes=4, placement="pack") == ("a", "a", "a", "b", "b")
    assert where(agents, nodes=9, min_nodes=3, placement="single") == ("a", "a", "a")
    assert where(agents, nodes=9, min_nodes=6) is None


def test_an_agent_must_have_all_labels_that_the_job_asks_for():
    agents = [agent("a", labels={"gpu": "h100"}), agent("b", labels={"gpu": "h100", "zone": "1"}), agent("c")]
    agents += [agent("d", labels={"zone": "1"}), agent("e", labels={"zone": "1"})]
    assert where(agents, labels={"gpu": "h100", "zone": "1"}) == ("b",)
    assert where(agents, nodes=2, labels={"gpu": "h100"}) == ("a", "b")
    assert where(agents, labels={"gpu": "a100"}) is None


@pytest.mark.parametrize("reason", ["draining", "unreachable"])
def test_a_closed_agent_takes_nothing_new(reason):
    assert where([agent("a", 8, closed=reason)]) is None


def test_an_agent_whose_slots_have_shrunk_below_what_runs_on_it_is_full():
    assert where([agent("a", 1, free=-2)]) is None


def test_agents_of_another_pool_are_not_used():
    assert where([agent("a", pool="other")]) is None


def test_members_without_slots_go_to_full_agents_too_and_one_job_here_the_next_there():
    full = [agent("a", free=0), agent("b", free=0)]
    queue = [job("x", 1, slots=0), job("y", 2, slots=0), job("z", 3, slots=0, nodes=3)]
    answer = placed(decide(view(full, queue), POLICIES))
    assert {answer["x"], answer["y"]} == {("a",), ("b",)}
    assert answer["z"] in {("a", "a", "b"), ("a", "b", "b")}


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"slots": -1}, {"min_nodes": 3}, {"min_nodes": 0}])
def test_a_request_for_nothing_sensible_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="job j"):
        Request(**{"job": "j", "pool": "p", "nodes": 2, "seq": 1, "queued_at_s": 0.0, **wrong})

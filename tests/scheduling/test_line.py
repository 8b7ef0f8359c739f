"""The line as its users know it: who goes first, who may pass, who holds agents and for how long."""

from quorate.scheduling import PoolPolicy, decide

from .clusters import AFTER, POLICIES, agent, held, job, placed, running, view


def decided(*args, **kwargs):
    return decide(view(*args, **kwargs), POLICIES)


def test_a_gang_is_placed_whole_or_not_at_all():
    two = [agent("a"), agent("b")]
    assert placed(decided(two, [job("pair", nodes=2)])) == {"pair": ("a", "b")}
    assert placed(decided(two, [job("trio", nodes=3)])) == {}


def test_higher_priority_goes_first_and_the_earlier_of_equals():
    queue = [job("late", 3), job("early", 1), job("urgent", 4, priority=90), job("idle", 0, priority=10)]
    assert list(placed(decided([agent("a", 2)], queue))) == ["urgent", "early"]


def test_a_job_that_fits_passes_a_larger_one_that_has_not_waited_long():
    decisions = decided([agent("a"), agent("b", free=0)], [job("pair", 1, nodes=2, waited=AFTER - 1), job("one", 2)])
    assert placed(decisions) == {"one": ("a",)}
    assert held(decisions) == {}


def test_the_caller_is_told_when_waiting_alone_would_change_the_answer():
    decisions = decided([agent("a"), agent("b", free=0)], [job("pair", 1, nodes=2, waited=AFTER - 20), job("q", 2)])
    assert decisions.recheck_in_s == 20


def test_who_can_never_be_served_as_things_are_is_no_reason_to_look_again():
    decisions = decided([agent("a"), agent("b", closed="draining")], [job("pair", 1, nodes=2, waited=AFTER - 20)])
    assert decisions.recheck_in_s is None


def test_the_first_in_line_holds_agents_once_it_has_waited_long_enough():
    decisions = decided([agent("a"), agent("b", free=0)], [job("pair", 1, nodes=2, waited=AFTER), job("one", 2)])
    assert placed(decisions) == {}
    assert held(decisions) == {"pair": ("a", "b")}


def test_each_pool_has_its_own_patience():
    queue = [job("pair", 1, nodes=2, waited=50)]
    decisions = decide(view([agent("a"), agent("b", free=0)], queue), {"default": PoolPolicy(reserve_after_s=50)})
    assert held(decisions) == {"pair": ("a", "b")}


def test_agents_that_are_free_soonest_are_held():
    agents = [agent("a", free=0), agent("b", free=0), agent("c", free=0), agent("d")]
    jobs = [running("x", ("a", 1)), running("y", ("b", 1), left=60), running("z", ("c", 1), left=900)]
    assert held(decided(agents, [job("trio", nodes=3, waited=AFTER)], jobs)) == {"trio": ("b", "c", "d")}


def test_a_holder_keeps_its_agents_though_others_would_be_free_sooner():
    agents = [agent("a", free=0), agent("b", free=0)]
    jobs = [running("x", ("a", 1), left=900), running("y", ("b", 1), left=60)]
    assert held(decided(agents, [job("one", waited=AFTER)], jobs, held={"one": ("a",)})) == {"one": ("a",)}


def test_a_holder_takes_whatever_is_free_first_even_agents_that_it_does_not_hold():
    agents = [agent("a"), agent("b", free=0), agent("c")]
    decisions = decided(agents, [job("pair", nodes=2, waited=AFTER)], held={"pair": ("a", "b")})
    assert placed(decisions) == {"pair": ("a", "c")}
    assert held(decisions) == {}


def test_only_the_agent_that_went_away_is_replaced():
    agents = [agent("a", free=0), agent("b", closed="unreachable"), agent("c", free=0), agent("d", free=0)]
    jobs = [running("x", ("a", 1)), running("y", ("c", 1)), running("z", ("d", 1), left=30)]
    decisions = decided(agents, [job("pair", nodes=2, waited=AFTER)], jobs, held={"pair": ("a", "b")})
    assert held(decisions) == {"pair": ("a", "d")}


def test_a_job_that_open_agents_could_never_serve_holds_nothing_and_the_next_may():
    agents = [agent("a", free=0), agent("b", free=0), agent("c", closed="draining")]
    queue = [job("trio", 1, nodes=3, waited=AFTER), job("pair", 2, nodes=2, waited=AFTER)]
    assert held(decided(agents, queue)) == {"pair": ("a", "b")}


def test_a_reservation_goes_with_its_job():
    assert held(decided([agent("a", free=0)], [], held={"cancelled": ("a",)})) == {}


def test_nobody_behind_uses_held_agents_but_other_agents_are_free_to_all():
    queue = [job("pair", 1, nodes=2, waited=AFTER, labels={"x": "1"}), job("one", 2), job("two", 3)]
    agents = [agent("a", labels={"x": "1"}), agent("b", free=0, labels={"x": "1"}), agent("c")]
    decisions = decided(agents, queue)
    assert placed(decisions) == {"one": ("c",)}
    assert held(decisions) == {"pair": ("a", "b")}


def test_a_job_that_is_sure_to_be_gone_in_time_passes_on_held_agents():
    agents = [agent("a"), agent("b", free=0)]
    pair = job("pair", 1, nodes=2, waited=AFTER)
    until = [running("x", ("b", 1), left=600)]
    assert placed(decided(agents, [pair, job("short", 2, max_runtime_s=600)], until)) == {"short": ("a",)}
    assert placed(decided(agents, [pair, job("long", 2, max_runtime_s=601)], until)) == {}
    assert placed(decided(agents, [pair, job("endless", 2)], until)) == {}


def test_a_shorter_job_of_the_same_shape_is_not_judged_by_the_longer_one():
    agents = [agent("a"), agent("b", free=0)]
    queue = [job("pair", 1, nodes=2, waited=AFTER), job("long", 2, max_runtime_s=900), job("short", 3, max_runtime_s=9)]
    assert placed(decided(agents, queue, [running("x", ("b", 1), left=600)])) == {"short": ("a",)}


def test_nobody_passes_while_it_is_unknown_when_the_held_agents_are_free():
    agents = [agent("a"), agent("b", free=0)]
    queue = [job("pair", 1, nodes=2, waited=AFTER), job("short", 2, max_runtime_s=1)]
    assert placed(decided(agents, queue, [running("x", ("b", 1))])) == {}


def test_a_job_that_overstays_its_limit_lends_nothing_to_others():
    agents = [agent("a"), agent("b", free=0)]
    queue = [job("pair", 1, nodes=2, waited=AFTER), job("short", 2, max_runtime_s=1)]
    assert placed(decided(agents, queue, [running("x", ("b", 1), left=-5)])) == {}


def test_whoever_is_ahead_of_the_holder_is_not_bound_by_it():
    agents = [agent("a"), agent("b", free=0)]
    queue = [job("pair", 1, nodes=2, waited=AFTER), job("urgent", 2, priority=90)]
    decisions = decided(agents, queue, held={"pair": ("a", "b")})
    assert placed(decisions) == {"urgent": ("a",)}
    assert held(decisions) == {"pair": ("a", "b")}


def test_one_ahead_that_has_waited_holds_agents_of_its_own_and_the_other_keeps_its():
    agents = [agent("a", free=0), agent("b", free=0), agent("c", free=0)]
    queue = [job("one", 1, waited=AFTER), job("urgent", 2, priority=90, waited=AFTER)]
    jobs = [running("x", ("a", 1), left=10), running("y", ("b", 1), left=20), running("z", ("c", 1), left=30)]
    assert held(decided(agents, queue, jobs, held={"one": ("c",)})) == {"urgent": ("a",), "one": ("c",)}


def test_two_who_hold_the_same_agents_lend_them_to_nobody():
    agents = [agent("a"), agent("b", free=0)]
    queue = [
        job("pair", 1, nodes=2, waited=AFTER),
        job("urgent", 2, nodes=2, priority=90, waited=AFTER),
        job("short", 3, max_runtime_s=1),
    ]
    decisions = decided(agents, queue, [running("x", ("b", 1), left=600)], held={"pair": ("a", "b")})
    assert held(decisions) == {"urgent": ("a", "b"), "pair": ("a", "b")}
    assert placed(decisions) == {}


def test_an_elastic_job_starts_with_as_many_as_fit_and_waits_for_no_more_than_it_needs():
    queue = [job("elastic", nodes=4, min_nodes=2, waited=AFTER)]
    three = [agent("a"), agent("b"), agent("c"), agent("d", free=0)]
    assert placed(decided(three, queue)) == {"elastic": ("a", "b", "c")}
    one = [agent("a"), agent("b", free=0), agent("c", free=0), agent("d", free=0)]
    assert len(held(decided(one, queue))["elastic"]) == 2


def test_what_is_not_looked_at_stays_as_it_is():
    agents = [agent("a"), agent("b", pool="other")]
    queue = [job("here", 1), job("there", 2, pool="other", nodes=2, waited=AFTER)]
    decisions = decide(view(agents, queue, held={"there": ("b",)}), POLICIES, pools=["default"])
    assert placed(decisions) == {"here": ("a",)}
    assert held(decisions) == {"there": ("b",)}


def test_what_this_pass_has_placed_ahead_counts_as_running_until_its_limit():
    queue = [
        job("urgent", 1, priority=90, max_runtime_s=100),
        job("wide", 2, slots=2, waited=AFTER),
        job("short", 3, max_runtime_s=100),
        job("long", 4, max_runtime_s=101),
    ]
    decisions = decided([agent("a", 2)], queue)
    assert placed(decisions) == {"urgent": ("a",), "short": ("a",)}
    assert held(decisions) == {"wide": ("a",)}


def test_what_this_pass_has_placed_counts_once_however_many_hold_agents():
    agents = [agent("a", 3, free=2), agent("b", free=0, labels={"x": "1"})]
    queue = [
        job("urgent", 1, priority=90, max_runtime_s=100),
        job("other", 2, priority=80, labels={"x": "1"}, waited=AFTER),
        job("wide", 3, slots=3, waited=AFTER),
        job("short", 4, max_runtime_s=1),
    ]
    decisions = decided(agents, queue, [running("x", ("a", 1)), running("y", ("b", 1))], held={"wide": ("a",)})
    assert placed(decisions) == {"urgent": ("a",)}
    assert held(decisions) == {"other": ("b",), "wide": ("a",)}


def test_agents_that_somebody_ahead_holds_are_held_only_if_there_are_no_others():
    agents = [agent("a", free=0), agent("b", free=0)]
    jobs = [running("x", ("a", 1), left=10), running("y", ("b", 1), left=20)]
    queue = [job("urgent", 1, priority=90, waited=AFTER), job("one", 2, waited=AFTER)]
    decisions = decided(agents, queue, jobs, held={"urgent": ("a",), "one": ("gone",)})
    assert held(decisions) == {"urgent": ("a",), "one": ("b",)}


def test_a_packed_gang_holds_the_fewest_agents_and_of_those_that_do_the_soonest():
    small = [agent(name, free=0) for name in "abcd"]
    jobs = [running(f"on-{name}", (name, 1), left=1) for name in "abcd"]
    large = [agent("e", 8, free=0), agent("f", 4, free=0)]
    jobs += [running("x", ("e", 8), left=900), running("y", ("f", 4), left=60)]
    queue = [job("packed", nodes=4, placement="pack", waited=AFTER)]
    assert held(decided(small + large, queue, jobs)) == {"packed": ("f",)}


def test_a_packed_gang_lets_go_of_what_a_roomier_agent_makes_superfluous():
    agents = [agent("a", 1, free=0), agent("b", 4, free=0)]
    queue = [job("packed", nodes=3, placement="pack", waited=AFTER)]
    assert held(decided(agents, queue, held={"packed": ("a", "gone")})) == {"packed": ("b",)}


def test_a_gang_for_one_agent_holds_one_that_is_large_enough():
    agents = [agent("a", 1, free=0), agent("b", 2, free=0)]
    jobs = [running("x", ("a", 1), left=1), running("y", ("b", 2), left=900)]
    assert held(decided(agents, [job("j", nodes=2, placement="single", waited=AFTER)], jobs)) == {"j": ("b",)}


def test_only_the_first_who_has_waited_long_enough_holds_agents():
    agents = [agent("a", free=0), agent("b", free=0)]
    queue = [job("fresh", 1, priority=90), job("first", 2, waited=AFTER), job("second", 3, waited=9 * AFTER)]
    assert list(held(decided(agents, queue))) == ["first"]

"""Agents as the master sees them: joining, links, silence, loss, drains, revocations, two with one name."""

import msgspec
import pytest

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.settings import Settings
from quorate.master.standing import agent_state, waits_for
from quorate.model.ids import AgentId
from quorate.model.messages import Heartbeat
from quorate.model.state import AgentState, JobState, MemberState

from .cluster import Cluster, exited, killed, running


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def _join(cluster: Cluster, name: str, token: str, key: str) -> fx.Answer | None:
    answer = cluster.apply(ev.AgentJoined, agent=AgentId(name), token_hash=token, key_hash=key)
    cluster.turn()
    return answer


def _stands(cluster: Cluster, name: str) -> AgentState:
    return agent_state(cluster.state, cluster.state.agents[name])


# --- joining -----------------------------------------------------------------------------------------------------


def test_a_join_token_lets_so_many_agents_in_and_no_more(cluster: Cluster) -> None:
    cluster.token("t", "gpu", uses_left=1)
    assert _join(cluster, "a", "t", "key-a") == fx.Joined(AgentId("a"), "gpu")
    refused = _join(cluster, "b", "t", "key-b")
    assert isinstance(refused, fx.Refused)
    assert refused.code == "TOKEN-INVALID"


def test_the_same_agent_may_repeat_its_join(cluster: Cluster) -> None:
    cluster.token("t", uses_left=1)
    assert _join(cluster, "a", "t", "key-a") == _join(cluster, "a", "t", "key-a")


def test_nobody_comes_in_under_a_taken_name_without_its_key(cluster: Cluster) -> None:
    cluster.token("t")
    _join(cluster, "a", "t", "key-a")
    refused = _join(cluster, "a", "t", "another")
    assert isinstance(refused, fx.Refused)
    assert refused.code == "AGENT-TAKEN"


def test_an_expired_token_opens_nothing(cluster: Cluster) -> None:
    cluster.token("t", expires_wall=cluster.now + 1e9 - 1)
    assert isinstance(_join(cluster, "a", "t", "key-a"), fx.Refused)


def test_a_revoked_agent_cannot_come_back_under_its_name(cluster: Cluster) -> None:
    a = cluster.agent("a")
    cluster.apply(ev.AgentRevoked, agent=a.name, by="operator")
    cluster.turn()
    assert a.refused is not None
    assert a.refused.final
    assert a.connect().refused is not None
    assert a.welcome is None
    assert "key-a" not in cluster.state.agents_by_key
    assert isinstance(_join(cluster, "a", "join-default", "fresh"), fx.Refused)


# --- links -------------------------------------------------------------------------------------------------------


def test_a_protocol_that_is_not_spoken_is_refused_and_says_what_to_upgrade(cluster: Cluster) -> None:
    a = cluster.agent("a")
    a.drop()
    a.connect(protocol=99)
    assert a.refused is not None
    assert "upgrade the master" in a.refused.sentence


def test_the_previous_protocol_is_accepted(cluster: Cluster) -> None:
    a = cluster.agent("a")
    a.drop()
    a.connect(protocol=0)
    assert a.welcome is not None
    assert a.welcome.protocol == 0


def test_a_second_machine_with_the_same_name_is_refused_and_neither_gets_work(cluster: Cluster) -> None:
    first = cluster.agent("a")
    second = type(first)(cluster, "a", 1)
    second.instance, second.boot = "other", "other-boot"
    second.connect()
    assert second.refused is not None
    assert second.refused.code == "AGENT-DUPLICATE"
    assert _stands(cluster, "a") is AgentState.DUPLICATE
    job = cluster.submit()
    assert cluster.job(job).state is JobState.PENDING
    assert "AGENT-DUPLICATE" in waits_for(cluster.state, cluster.job(job), cluster.now)
    cluster.wait(80, first)
    assert cluster.job(job).state is JobState.STARTING


def test_a_duplicate_does_not_slip_in_as_the_first_one_after_a_reboot(cluster: Cluster) -> None:
    first = cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    second = type(first)(cluster, "a", 1)
    second.instance, second.boot = "other", "other-boot"
    second.connect()
    first.drop()
    second.connect()
    assert second.refused is not None
    assert cluster.job(job).state is JobState.RUNNING


def test_a_reconnect_takes_the_place_of_the_old_link(cluster: Cluster) -> None:
    a = cluster.agent("a")
    old = a.link
    a.connect()
    assert any(isinstance(e, fx.CloseLink) and e.link == old for e in cluster.effects)
    assert _stands(cluster, "a") is AgentState.READY


def test_what_comes_from_a_link_that_was_replaced_changes_nothing(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    old = a.link
    a.connect()
    a.link, new = old, a.link
    a.says(exited(f"{job}-1.0.1", 1))
    a.drop()
    assert cluster.job(job).state is JobState.STARTING
    assert cluster.state.live["a"].link == new


def test_an_allocation_is_described_once_on_a_link_and_again_on_the_next(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    job = cluster.submit()
    cluster.submit()
    described = [[s.allocation for s in m.allocations] for m in a.inbox if hasattr(m, "allocations")]
    assert described.count([f"{job}-1"]) == 1
    a.connect()
    assert f"{job}-1" in [s.allocation for s in a.desired.allocations]


def test_a_member_that_the_agent_no_longer_knows_has_failed(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    a.connect()
    assert cluster.job(job).state is JobState.FAILED
    assert "no longer knows it" in cluster.job(job).reason


def test_a_member_that_was_never_heard_of_is_still_wanted_after_a_reconnect(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    a.connect()
    assert a.desired.members == (f"{job}-1.0.1",)


def test_a_member_that_this_master_does_not_know_is_stopped_and_closes_the_agent_until_it_has_ended(
    cluster: Cluster,
) -> None:
    a = cluster.agent("a")
    a.drop()
    a.connect(running("wxyz2345-1.0.1"))
    assert "wxyz2345-1.0.1" in a.desired.stop
    job = cluster.submit()
    assert cluster.job(job).state is JobState.PENDING
    a.says(killed("wxyz2345-1.0.1"))
    assert a.desired.members == (f"{job}-1.0.1",)


# --- silence -----------------------------------------------------------------------------------------------------


def test_a_silent_agent_gets_no_work_and_its_members_run_on(cluster: Cluster) -> None:
    a = cluster.agent("a")
    b = cluster.agent("b")
    job = cluster.submit(2, restarts=1)
    cluster.run_all(job)
    cluster.wait(70, b)
    assert _stands(cluster, "a") is AgentState.UNREACHABLE
    assert cluster.job(job).state is JobState.RUNNING
    assert "agent a has been silent for 1m10s" in waits_for(cluster.state, cluster.job(job), cluster.now)
    a.beat()
    assert _stands(cluster, "a") is AgentState.READY


def test_a_silent_agents_job_is_placed_again_only_when_it_has_surely_stopped(cluster: Cluster) -> None:
    cluster.agent("a")
    b = cluster.agent("b")
    job = cluster.submit(restarts=1, stop_after=1800.0, grace=30.0)
    silent = cluster.who(job)[0]
    other = b if silent.name == "a" else cluster.who(job)[0]
    keep = [agent for agent in cluster.agents_by_link.values() if agent is not silent]
    cluster.run_all(job)
    cluster.wait(1850, *keep)
    assert cluster.job(job).attempt == 1
    cluster.wait(30, *keep)
    assert cluster.job(job).attempt == 2
    assert other is not None


def test_a_silent_agents_job_costs_no_restart_though_its_other_members_ended_first(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2, restarts=1)
    cluster.run_all(job)
    b.says(exited(f"{job}-1.1.1", 3))
    a.says(killed(f"{job}-1.0.1", echo=True))
    assert cluster.job(job).restarts_left == 0
    cluster.run_all(job)
    c = cluster.agent("c")
    # Its agent is cut off, and ends its member: the other one's is told so by the members themselves.
    cluster.wait(920, b, c)
    b.says(killed(f"{job}-2.1.1", echo=True, reason="member main1 is ended: its agent heard nothing from the master"))
    cluster.wait(20, b, c)
    assert cluster.job(job).state is JobState.STOPPING
    cluster.wait(60, b, c)
    again = cluster.job(job)
    assert (again.attempt, again.restarts_left) == (3, 0)


def test_a_job_that_may_not_restart_outlives_a_long_silence(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    cluster.wait(3 * 3600)
    assert cluster.job(job).state is JobState.RUNNING
    a.connect(running(f"{job}-1.0.1"))
    a.says(exited(f"{job}-1.0.1"))
    assert cluster.job(job).state is JobState.COMPLETED


def test_a_job_that_may_not_restart_is_given_up_in_the_end(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    cluster.wait(86_420)
    assert (cluster.job(job).state, cluster.job(job).exit_code) == (JobState.FAILED, 125)


def test_a_lost_members_slots_stay_taken_until_its_agent_says_that_it_has_ended(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(restarts=1)
    silent, member = cluster.who(job)
    other = b if silent is a else a
    cluster.run_all(job)
    cluster.wait(1000, other)
    assert cluster.job(job).attempt == 2
    assert cluster.state.members[member].state is MemberState.LOST
    silent.connect(running(member))
    assert member in silent.desired.stop
    waiting = cluster.submit()
    assert cluster.job(waiting).state is JobState.PENDING
    silent.says(killed(member))
    assert silent.desired.members == (f"{waiting}-1.0.1",)


def test_another_boot_is_loss_at_once(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    a.drop()
    a.boot = "a-boot-2"
    a.connect()
    assert cluster.state.members[f"{job}-1.0.1"].state is MemberState.LOST
    assert a.desired.members == (f"{job}-2.0.1",)


def test_silence_of_many_agents_is_the_masters_own(cluster: Cluster) -> None:
    agents = [cluster.agent(name) for name in "abcd"]
    job = cluster.submit(1, restarts=1)
    silent = cluster.who(job)[0]
    cluster.run_all(job)
    second = next(agent for agent in agents if agent is not silent)
    speaking = [agent for agent in agents if agent not in (silent, second)]
    cluster.wait(1200, *speaking)
    assert cluster.job(job).state is JobState.RUNNING
    assert "the master itself may be cut off" in waits_for(cluster.state, cluster.job(job), cluster.now)
    cluster.wait(20, second, *speaking)
    assert cluster.job(job).attempt == 2


def test_of_three_agents_a_single_silent_one_is_given_up(cluster: Cluster) -> None:
    agents = [cluster.agent(name) for name in "abc"]
    job = cluster.submit(restarts=1)
    silent = cluster.who(job)[0]
    cluster.run_all(job)
    cluster.wait(1000, *(agent for agent in agents if agent is not silent))
    assert cluster.job(job).attempt == 2


def test_a_pause_of_losses_ends_when_agents_have_long_stopped_by_themselves() -> None:
    cluster = Cluster(Settings(loss_pause_limit_s=1800.0))
    cluster.agent("a")
    cluster.agent("b")
    job = cluster.submit(restarts=1)
    assert cluster.who(job)[0].name != "c"
    cluster.run_all(job)
    c = cluster.agent("c")
    cluster.wait(960 + 1700, c)
    assert cluster.job(job).attempt == 1
    cluster.wait(200, c)
    assert cluster.job(job).attempt == 2


def test_a_master_that_starts_gives_every_agent_a_full_lease(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    cluster.wait(900)
    cluster.restart()
    cluster.wait(900)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(100)
    assert cluster.job(job).state is JobState.PENDING


def test_cancelling_a_job_of_an_unreachable_agent_ends_it_at_once(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=3)
    cluster.run_all(job)
    cluster.wait(100)
    cluster.cancel(job)
    assert cluster.job(job).state is JobState.CANCELLED
    a.connect(running(f"{job}-1.0.1"))
    assert a.desired.stop == {f"{job}-1.0.1": "cancelled by ann"}


# --- operators ---------------------------------------------------------------------------------------------------


def test_a_draining_agent_gets_no_new_member_and_keeps_those_it_has(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    first = cluster.submit()
    cluster.apply(ev.AgentDrainRequested, agent=a.name, by="operator")
    second = cluster.submit()
    assert a.desired.members == (f"{first}-1.0.1",)
    assert cluster.job(second).state is JobState.PENDING
    cluster.apply(ev.AgentResumed, agent=a.name, by="operator")
    cluster.turn()
    assert cluster.job(second).state is JobState.STARTING


def test_a_revoked_agents_job_waits_until_it_has_surely_stopped(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    cluster.apply(ev.AgentRevoked, agent=AgentId("a"), by="operator")
    cluster.turn()
    cluster.wait(900)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(100)
    assert cluster.job(job).state is JobState.PENDING


def test_a_machine_that_is_said_to_be_gone_is_lost_at_once(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    cluster.apply(ev.AgentRevoked, agent=AgentId("a"), by="operator", gone=True)
    cluster.turn()
    assert cluster.job(job).state is JobState.PENDING


# --- ports -------------------------------------------------------------------------------------------------------


def test_gangs_on_one_host_do_not_share_ports_and_the_first_has_the_canonical_ones(cluster: Cluster) -> None:
    cluster.agent("a", slots=2, host="same")
    cluster.agent("b", slots=2, host="same")
    first, second = cluster.submit(2, launcher="torch"), cluster.submit(2, launcher="torch")
    ports = [port for job in (first, second) for member in cluster.members(job) for port in member.ports.values()]
    assert len(ports) == len(set(ports)) == 12
    assert cluster.members(first)[0].ports == {"rendezvous": 1734, "watch": 1750, "torch": 29400, "main": 29500}


def test_a_port_rests_after_its_member_has_ended(cluster: Cluster) -> None:
    a = cluster.agent("a")
    first = cluster.submit(launcher="torch")
    a.says(exited(f"{first}-1.0.1"))
    second = cluster.submit(launcher="torch")
    assert cluster.members(second)[0].ports["torch"] != 29400
    a.says(exited(f"{second}-1.0.1"))
    cluster.wait(70, a)
    third = cluster.submit(launcher="torch")
    assert cluster.members(third)[0].ports["torch"] == 29400


def test_one_member_without_a_launcher_leases_no_port(cluster: Cluster) -> None:
    cluster.agent("a")
    assert cluster.members(cluster.submit())[0].ports == {}


def test_a_gang_without_a_free_port_waits_and_says_so(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    a.drop()
    a.connect(lease_ports=(20000, 20002))
    first = cluster.submit(2, slots=0)
    second = cluster.submit(2, slots=0)
    assert cluster.job(first).state is JobState.STARTING
    assert cluster.job(second).state is JobState.PENDING
    assert "no port for" in waits_for(cluster.state, cluster.job(second), cluster.now)


def test_a_lost_member_is_ordered_to_stop_even_while_nobody_seems_to_listen(cluster: Cluster) -> None:
    """An agent that was only stopped reads its socket when it goes on: the last word in it must be the right one."""
    cluster.agent("a")
    job = cluster.submit(restarts=1)
    silent, member = cluster.who(job)
    cluster.wait(1000)
    assert cluster.state.members[member].state is MemberState.LOST
    assert member in silent.desired.stop


def test_an_agent_hears_what_it_should_have_before_it_hears_that_it_is_trusted(cluster: Cluster) -> None:
    a = cluster.agent("a")
    cluster.apply(ev.AgentHeartbeat, link=a.link, agent=a.name, heartbeat=Heartbeat(1, cluster.now))
    cluster.submit()
    kinds = [type(message).__name__ for message in a.inbox]
    assert kinds.index("HeartbeatAck") > len(kinds) - 1 - kinds[::-1].index("Desired")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": {f"k{n}": "v" for n in range(100)}}, "100 labels"),
        ({"labels": {"k": "v" * 1000}}, "256 characters"),
        ({"lease_ports": (30000, 20000)}, "no range of ports"),
        ({"lease_ports": (60000, 70000)}, "no range of ports"),
        ({"address": "fe80::1%eth0"}, "an address nowhere else"),
        ({"address": "10.0.0.1 }; flush ruleset"}, "an address nowhere else"),
    ],
)
def test_a_hello_out_of_all_bounds_is_refused(cluster: Cluster, changed: dict[str, object], said: str) -> None:
    a = cluster.agent("a")
    a.drop()
    a.connect(**changed)
    assert a.refused is not None
    assert said in a.refused.sentence
    assert a.refused.final


def test_an_agent_that_was_silent_once_is_missed_as_soon_the_next_time(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    cluster.wait(120, b)
    a.connect()
    assert not cluster.state.live[a.name].unreachable
    cluster.wait(70, b)
    assert cluster.state.live[a.name].unreachable


def test_a_link_that_breaks_for_a_moment_takes_nothing_from_who_holds_the_agent(cluster: Cluster) -> None:
    agents = [cluster.agent(name) for name in "abc"]
    busy = [cluster.submit() for _ in agents]
    for job in busy:
        cluster.run_all(job)
    cluster.submit(2)
    cluster.wait(400, *agents)
    (held,) = cluster.state.reservations
    first = next(agent for agent in agents if agent.name == held.agents[0])
    first.drop()
    assert cluster.state.reservations == (held,)
    cluster.wait(70, *(agent for agent in agents if agent is not first))
    assert first.name not in cluster.state.reservations[0].agents, "it has been away for long"


def test_what_a_job_holds_outlives_a_placement_for_which_no_port_is_free(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    jobs = [cluster.submit(), cluster.submit()]
    for job in jobs:
        cluster.run_all(job)
    waiting = cluster.submit(2)
    cluster.wait(400, a, b)
    (held,) = cluster.state.reservations
    for agent in (a, b):
        record = cluster.state.agents[agent.name]
        cluster.state.put(msgspec.structs.replace(record, lease_ports=(20000, 20000)))
        cluster.state.ports_resting[record.host] = dict.fromkeys((1734, 1750, 20000), cluster.now + 10_000)
    a.says(exited(f"{jobs[0]}-1.0.1"))
    b.says(exited(f"{jobs[1]}-1.0.1"))
    assert waiting in cluster.state.port_refusals
    assert cluster.state.reservations == (held,)

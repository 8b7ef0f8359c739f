"""The cluster as a whole: planned stops, stores that have gone back, and what a restart of the master keeps."""

from typing import Any

import pytest

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.standing import agent_state, waits_for
from quorate.model.ids import AgentId
from quorate.model.messages import Lease, Seen
from quorate.model.state import AgentState, JobState

from .cluster import Agent, Cluster, exited, killed, running


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def _remembers(agent: Agent) -> None:
    """The agent has acted on the newest state of this master."""
    assert agent.welcome is not None
    generation = max(agent.welcome.generation, agent.desired.generation)
    agent.seen = Seen(agent.welcome.cluster, agent.welcome.epoch, agent.welcome.mark, generation)


def _plan_stop(cluster: Cluster, for_s: float = 7200.0) -> fx.Answer | None:
    answer = cluster.apply(ev.PlannedStop, for_s=for_s)
    cluster.turn()
    return answer


def _ready(cluster: Cluster) -> fx.StopReady | None:
    return next((effect for effect in cluster.effects if isinstance(effect, fx.StopReady)), None)


def _lease(agent: Agent) -> Lease:
    return [message for message in agent.inbox if isinstance(message, Lease)][-1]


def _adopt(cluster: Cluster) -> Any:
    answer = cluster.apply(ev.Adopted, by="operator")
    cluster.turn()
    return answer


# --- planned stops -----------------------------------------------------------------------------------------------


def test_a_planned_stop_is_ready_when_every_connected_agent_holds_the_lease(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    assert _plan_stop(cluster) == fx.StopStarted(2)
    assert _lease(a).for_s == 7200.0
    a.holds(_lease(a).sequence)
    assert _ready(cluster) is None
    b.holds(_lease(b).sequence)
    assert _ready(cluster) == fx.StopReady((a.name, b.name), ())


def test_a_planned_stop_does_not_wait_for_ever_and_names_who_did_not_answer(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    _plan_stop(cluster)
    a.holds(_lease(a).sequence)
    cluster.wait(20, a, b)
    assert _ready(cluster) == fx.StopReady((a.name,), (b.name,))


def test_a_planned_stop_with_no_agent_is_ready_at_once(cluster: Cluster) -> None:
    _plan_stop(cluster)
    assert _ready(cluster) == fx.StopReady((), ())


def test_nobody_is_lost_in_the_hour_that_was_planned_nor_in_the_lease_after_it(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    _plan_stop(cluster, 3600.0)
    a.holds(_lease(a).sequence)
    cluster.now += 600
    cluster.restart()
    cluster.wait(3600 + 900)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(100)
    assert cluster.job(job).state is JobState.PENDING


def test_an_agent_that_is_back_is_told_that_the_maintenance_is_over(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    _plan_stop(cluster)
    a.holds(_lease(a).sequence)
    cluster.restart()
    a.connect(running(f"{job}-1.0.1"))
    assert _lease(a).for_s == 0.0
    cluster.wait(500, a)
    assert cluster.state.agents["a"].extra_lease_s == 7200.0
    a.holds(_lease(a).sequence)
    assert cluster.state.agents["a"].extra_lease_s == 0.0
    cluster.wait(1000)
    assert cluster.job(job).state is JobState.PENDING


# --- restarts of the master --------------------------------------------------------------------------------------


def test_everything_that_was_committed_is_there_after_a_restart(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    done, runs, waits = cluster.submit(), cluster.submit(restarts=2), cluster.submit(key="k")
    a.says(exited(f"{done}-1.0.1"), running(f"{runs}-1.0.1"))
    cluster.apply(ev.AgentDrainRequested, agent=a.name, by="operator")
    cluster.turn()
    before = {kind: dict(cluster.state.table(kind)) for kind in cluster.state._tables if kind.durable}
    cluster.restart()
    for kind, records in before.items():
        assert cluster.state.table(kind) == records, kind
    assert list(cluster.state.queue) == [waits] or cluster.job(waits).state is JobState.STARTING
    assert cluster.ask(key="k") == fx.Submitted(waits, repeated=True)


def test_what_was_not_committed_never_was(cluster: Cluster) -> None:
    cluster.apply(ev.JobSubmitted, owner="ann", spec=_spec(), entropy=bytes(32))
    assert len(cluster.state.jobs) == 1
    cluster.restart()
    assert not cluster.state.jobs


def _spec() -> Any:
    from quorate.model.job import JobSpec

    return JobSpec(entrypoint=("true",))


def test_an_agent_of_this_store_is_welcome_to_its_next_master(cluster: Cluster) -> None:
    a = cluster.agent("a")
    cluster.submit()
    _remembers(a)
    cluster.restart()
    a.connect()
    assert agent_state(cluster.state, a.record) is AgentState.READY


# --- stores that have gone back ----------------------------------------------------------------------------------


def test_a_store_that_has_gone_back_gets_no_agent_to_do_anything(cluster: Cluster) -> None:
    a = cluster.agent("a")
    copy = cluster.copy_of_store()
    cluster.submit()
    _remembers(a)
    cluster.restart(copy)
    a.connect()
    assert agent_state(cluster.state, a.record) is AgentState.REGRESSED
    assert not [message for message in a.inbox if hasattr(message, "members")]
    job = cluster.submit()
    assert cluster.job(job).state is JobState.PENDING
    assert "quorate master adopt" in waits_for(cluster.state, cluster.job(job), cluster.now)


def test_another_clusters_store_is_one_that_has_gone_back(cluster: Cluster) -> None:
    a = cluster.agent("a")
    assert a.welcome is not None
    a.drop()
    a.seen = Seen("elsewhere", 1, "mark", 1)
    a.connect()
    assert agent_state(cluster.state, a.record) is AgentState.REGRESSED


def test_a_restored_backup_places_nothing_until_it_is_adopted(cluster: Cluster) -> None:
    cluster.agent("a")
    copy = cluster.copy_of_store()
    cluster.restart(copy)
    a = Agent(cluster, "a", 1).connect()
    job = cluster.submit()
    assert cluster.job(job).state is JobState.PENDING
    _adopt(cluster)
    assert cluster.job(job).state is JobState.STARTING
    assert a.welcome is not None


def test_after_an_adoption_no_attempts_number_comes_twice(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=5)
    cluster.run_all(job)
    copy = cluster.copy_of_store()
    a.says(exited(f"{job}-1.0.1", 1))
    assert cluster.job(job).attempt == 2
    _remembers(a)
    cluster.restart(copy)
    a.connect(running(f"{job}-2.0.1"))
    _adopt(cluster)
    assert a.refused is not None
    a.connect(running(f"{job}-2.0.1"))
    assert a.welcome is not None
    assert a.welcome.adopt
    assert f"{job}-2.0.1" in a.desired.stop
    assert cluster.job(job).attempt == 1
    a.says(killed(f"{job}-2.0.1", echo=True))
    assert cluster.job(job).attempt > 100


def test_an_adoption_holds_over_a_restart_until_all_agents_have_been_heard(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    copy = cluster.copy_of_store()
    cluster.submit()
    _remembers(a)
    _remembers(b)
    cluster.restart(copy)
    _adopt(cluster)
    a.connect()
    cluster.restart()
    b.connect()
    assert agent_state(cluster.state, b.record) is AgentState.READY


# --- what an adopted store does not know ---------------------------------------------------------------------------


def _adopted_without(cluster: Cluster, *back: Agent) -> str:
    """Restores the store of before everything and adopts it, when only these agents are back; a job that waits."""
    copy = cluster.copy_of_store()
    cluster.submit(owner="lost")
    cluster.restart(copy)
    for agent in back:
        agent.connect()
    _adopt(cluster)
    return cluster.submit()


def _waits(cluster: Cluster, job: str) -> str:
    assert cluster.job(job).state is JobState.PENDING
    return waits_for(cluster.state, cluster.job(job), cluster.now)


def test_after_an_adoption_a_silent_agent_is_waited_for_however_long(cluster: Cluster) -> None:
    """It may run a job that is not stopped by its silence, with a network that would be given away again."""
    a, b = cluster.agent("a"), cluster.agent("b")
    job = _adopted_without(cluster, a)
    cluster.wait(3 * 86_400.0, a)
    assert "b has not" in _waits(cluster, job)
    assert "quorate agent revoke b --gone" in _waits(cluster, job)
    b.connect()
    assert cluster.job(job).state is JobState.STARTING


def test_a_silent_agent_is_waited_for_over_a_restart_of_the_master(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = _adopted_without(cluster, a)
    cluster.restart()
    a.connect()
    assert "b has not" in _waits(cluster, job)
    b.connect()
    assert cluster.job(job).state is JobState.STARTING


def test_an_agent_that_breaks_off_while_it_ends_what_nobody_knows_is_waited_for(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = _adopted_without(cluster, a)
    b.connect(running("stranger-1.0.1"))
    assert "stranger-1.0.1" in b.desired.stop
    assert "agent b still ends" in (sentence := _waits(cluster, job))
    assert "such as stranger-1.0.1" in sentence
    b.drop()
    assert "b has not" in _waits(cluster, job)
    cluster.restart()
    a.connect()
    assert "b has not" in _waits(cluster, job)
    b.connect(running("stranger-1.0.1"))
    b.says(killed("stranger-1.0.1"))
    assert cluster.job(job).state is JobState.STARTING


def test_an_agent_that_was_given_up_before_the_backup_is_waited_for_too(cluster: Cluster) -> None:
    """It may have come back, and got work, in the time that was lost."""
    a = cluster.agent("a")
    cluster.agent("b")
    cluster.wait(5000, a)
    assert cluster.state.agents["b"].lost
    job = _adopted_without(cluster, a)
    assert "b has not" in _waits(cluster, job)


def test_who_says_that_the_machine_is_off_ends_the_wait_and_a_revoked_key_alone_does_not(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = _adopted_without(cluster, a)
    cluster.apply(ev.AgentRevoked, agent=b.name, by="operator", gone=False)
    cluster.turn()
    assert "b has not" in _waits(cluster, job)
    cluster.apply(ev.AgentRevoked, agent=b.name, by="operator", gone=True)
    cluster.turn()
    assert cluster.job(job).state is JobState.STARTING


def test_an_agent_that_was_revoked_before_the_backup_is_not_waited_for(cluster: Cluster) -> None:
    """It can have had nothing since, and what it had the store knows."""
    a, b = cluster.agent("a"), cluster.agent("b")
    cluster.apply(ev.AgentRevoked, agent=b.name, by="operator", gone=False)
    cluster.turn()
    assert cluster.job(_adopted_without(cluster, a)).state is JobState.STARTING


def test_a_healthy_store_has_nothing_to_adopt(cluster: Cluster) -> None:
    cluster.agent("a")
    before = cluster.state.generation
    assert _adopt(cluster) == fx.Done()
    assert cluster.state.generation == before
    assert cluster.state.agents["a"].id == AgentId("a")

"""Being cut off is not being dead: masters that stay away, agents that are stopped, and what becomes of the jobs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import Agent
from tests.chaos.cluster import IMPATIENT, STOP_AFTER_S, Cluster, Work, running, until, until_placed_again

from quorate.model.state import JobState

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("a", "b", "c", timers=IMPATIENT) as cluster:
        yield cluster


def lines_on_disk(work: Work, agent: Agent, member: str) -> int:
    """How far the member has counted, as its shim has it: also while there is no master, or no agent."""
    return (agent.folder(member) / "log").read_bytes().count(b"line ")


def until_counted_on(work: Work, agent: Agent, member: str, lines: int) -> None:
    reached = lines_on_disk(work, agent, member) + lines
    until(
        lambda: lines_on_disk(work, agent, member) >= reached, f"{lines} more lines of {member} on agent {agent.name}"
    )


def completes(work: Work, attempt: int) -> None:
    work.until_counting(attempt=attempt)
    work.open_gate()
    end = work.ended()
    assert (end.state, end.exit_code, end.attempt) == (JobState.COMPLETED, 0, attempt), end.reason
    work.counted_well(attempt)


# --- no master ---------------------------------------------------------------------------------------------------


def test_a_master_that_is_away_for_part_of_the_lease_stops_nobody(cluster: Cluster) -> None:
    works = [cluster.submit(restarts=1), cluster.submit(restarts=0)]
    for work in works:
        work.until_counting()
    agent, member = cluster.agent_of(works[0]), works[0].member().id
    cluster.kill_master()
    until_counted_on(works[0], agent, member, 100)
    cluster.start_master()
    for work in works:
        completes(work, 1)


def test_a_master_that_is_away_for_longer_stops_only_what_can_be_started_elsewhere(cluster: Cluster) -> None:
    again = cluster.submit(nodes=1, restarts=1, stop_after=STOP_AFTER_S, grace=1.0)
    once = cluster.submit(nodes=1, restarts=0, stop_after=STOP_AFTER_S, grace=1.0)
    for work in (again, once):
        work.until_counting()
    cluster.kill_master()
    until(lambda: not again.left(), "that the agent has stopped the job that can be started elsewhere")
    assert once.left()
    cluster.start_master()
    completes(once, 1)
    completes(again, 2)
    assert "heard nothing from the master" in again.view().attempts[-2].reason
    assert again.view().restarts_left == 1


def test_a_planned_stop_stops_nobody_however_long_it_lasts(cluster: Cluster) -> None:
    work = cluster.submit(restarts=1, stop_after=STOP_AFTER_S, grace=1.0)
    work.until_counting()
    agent, member = cluster.agent_of(work), work.member().id
    stop = [sys.executable, "-m", "quorate", "master", "stop", "--for", "2h", "--master", cluster.master.url]
    stopped = subprocess.run(
        stop, env={**os.environ, "QUORATE_TOKEN": cluster.master.token}, capture_output=True, text=True, timeout=60
    )
    assert stopped.returncode == 0, stopped.stderr
    process = cluster.master.process
    assert process is not None
    process.wait(30)
    # Twice what it may be cut off without a plan.
    until_counted_on(work, agent, member, 200)
    cluster.start_master()
    completes(work, 1)


# --- no agent ----------------------------------------------------------------------------------------------------


def test_an_agent_is_stopped_beyond_its_timers_and_its_job_runs_elsewhere_but_never_twice(cluster: Cluster) -> None:
    work = cluster.submit(nodes=1, restarts=1, stop_after=STOP_AFTER_S, grace=1.0)
    work.until_counting()
    agent = cluster.agent_of(work, "main1")
    with cluster.stopped(agent):
        until_placed_again(cluster, work)
        assert cluster.agent_of(work, "main1") is not agent
    cluster.until_ready()
    completes(work, 2)
    work.counted_well(1, complete=False)


def test_an_agent_that_died_leaves_nobody_running_beyond_the_lease(cluster: Cluster) -> None:
    work = cluster.submit(nodes=1, restarts=1, stop_after=STOP_AFTER_S, grace=1.0)
    work.until_counting()
    agent = cluster.agent_of(work, "main1")
    cluster.kill_agent(agent)
    until(lambda: not work.of_attempt(1), "that the shim ends its member")
    work.until_counting(attempt=2)
    cluster.start_agent(agent)
    completes(work, 2)
    work.counted_well(1, complete=False)


def test_an_agent_is_stopped_beyond_its_timers_and_a_job_that_may_run_once_runs_on(cluster: Cluster) -> None:
    work = cluster.submit(nodes=1, restarts=0)
    work.until_counting()
    agent, member = cluster.agent_of(work, "main1"), work.member("main1").id
    with cluster.stopped(agent):
        until(lambda: cluster.client.agent(agent.name).state == "unreachable", f"that agent {agent.name} is missed")
        until_counted_on(work, agent, member, 200)
        assert "has been silent" in work.view().reason
    cluster.until_ready()
    completes(work, 1)


def test_an_agent_that_is_stopped_for_a_moment_concerns_nobody(cluster: Cluster) -> None:
    work = cluster.submit(restarts=1)
    work.until_counting()
    agent, member = cluster.agent_of(work, "main1"), work.member("main1").id
    with cluster.stopped(agent):
        until_counted_on(work, agent, member, 50)
    completes(work, 1)


def test_where_shims_look(tmp_path: Path) -> None:
    from quorate.agent import leasefile

    file = tmp_path / leasefile.NAME
    assert leasefile.ends(str(file), 5.0) is None
    leasefile.write(file, {"boot": "b", "renewed": 100.0, "planned": 0.0}, durable=False)
    assert leasefile.ends(str(file), 5.0) == 105.0
    leasefile.write(file, {"boot": "b", "renewed": 100.0, "planned": 7300.0}, durable=True)
    assert leasefile.ends(str(file), 5.0) == 7305.0
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert leasefile.ends(str(file), 5.0) is None

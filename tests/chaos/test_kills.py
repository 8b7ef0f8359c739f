"""`kill -9` of anybody at named points of a job's life: no job, no line and no exit code is lost, no orphan is left."""

import signal
from collections.abc import Iterator

import pytest
from tests.chaos.cluster import STUBBORN, Cluster, Work, kill, running, until

from quorate.model.state import JobState

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("a", "b") as cluster:
        yield cluster


def runs_on(cluster: Cluster, work: Work) -> None:
    """What documentation promises of a job that an accident does not concern: it goes on as if nothing had been."""
    count = len(work.output()[work.member().id])
    work.until_counting(count + 10)
    work.open_gate()
    end = work.ended()
    assert (end.state, end.exit_code, end.attempt) == (JobState.COMPLETED, 0, 1), end.reason
    work.counted_well()


# --- while it runs -----------------------------------------------------------------------------------------------


def test_the_master_dies_while_a_job_runs(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    cluster.kill_master()
    cluster.start_master()
    runs_on(cluster, work)


def test_a_member_ends_while_there_is_no_master(cluster: Cluster) -> None:
    work = cluster.submit(nodes=1)
    work.until_counting()
    cluster.kill_master()
    work.open_gate()
    until(lambda: not work.left(), "the member's end")
    cluster.start_master()
    end = work.ended()
    assert (end.state, end.exit_code) == (JobState.COMPLETED, 0)
    work.counted_well()


def test_an_agent_dies_while_a_job_runs(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    agent = cluster.agent_of(work)
    cluster.kill_agent(agent)
    cluster.start_agent(agent)
    runs_on(cluster, work)


def test_a_zygote_dies_while_a_job_runs_and_the_next_job_starts_all_the_same(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    kill(cluster.zygote(cluster.agent_of(work)))
    runs_on(cluster, work)
    following = cluster.submit()
    following.until_counting()
    runs_on(cluster, following)


def test_a_companion_dies_while_a_job_runs(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    kill(work.companion("main1"))
    runs_on(cluster, work)


def test_a_member_is_killed_while_a_job_runs(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    kill(work.command())
    end = work.ended()
    assert (end.state, end.exit_code) == (JobState.FAILED, 128 + 9)
    assert end.reason.startswith("member sub1 on agent ")
    assert "SIGKILL" in end.reason
    work.counted_well(complete=False)


def test_a_shim_is_killed_and_the_job_may_not_run_again(cluster: Cluster) -> None:
    work = cluster.submit()
    work.until_counting()
    kill(work.shim())
    end = work.ended()
    assert (end.state, end.exit_code, end.attempt) == (JobState.FAILED, 125, 1)
    assert end.reason.startswith("member sub1 on agent ")
    assert "MEMBER-LOST" in end.reason
    work.counted_well(complete=False)


def test_a_shim_is_killed_and_the_job_runs_again_without_using_up_a_restart(cluster: Cluster) -> None:
    work = cluster.submit(restarts=1)
    work.until_counting()
    kill(work.shim())
    work.until_counting(attempt=2)
    work.open_gate()
    end = work.ended()
    assert (end.state, end.attempt, end.restarts_left) == (JobState.COMPLETED, 2, 1)
    work.counted_well(1, complete=False)
    work.counted_well(2)


@pytest.mark.parametrize("restarts", [0, 1])
def test_everything_dies_while_a_job_runs(cluster: Cluster, restarts: int) -> None:
    work = cluster.submit(restarts=restarts)
    work.until_counting()
    kill(*cluster.everybody(work))
    cluster.kill_master()
    for agent in cluster.agents.values():
        cluster.kill_agent(agent)
        cluster.start_agent(agent)
    cluster.start_master()
    if restarts:
        work.until_counting(attempt=2)
        work.open_gate()
        assert work.ended().state is JobState.COMPLETED
        work.counted_well(2)
    else:
        end = work.ended()
        assert (end.state, end.exit_code, end.attempt) == (JobState.FAILED, 125, 1)
        assert "MEMBER-LOST" in end.reason
    work.counted_well(1, complete=False)


# --- while its members meet --------------------------------------------------------------------------------------


@pytest.fixture
def meeting(cluster: Cluster) -> Iterator[Work]:
    """A job whose one member, on agent a, waits for the other one, whose agent has been stopped."""
    (late,) = (agent for agent in cluster.agents.values() if agent.name == "b")
    assert late.process is not None
    cluster.until_ready()
    late.process.send_signal(signal.SIGSTOP)
    try:
        work = cluster.submit()
        assert work.view().attempt == 1
        until(lambda: work.on("a").state == "starting", "the start of the member on agent a")
        until(lambda: _has_companion(work), "its companion")
        yield work
    finally:
        late.process.send_signal(signal.SIGCONT)


def _has_companion(work: Work) -> bool:
    try:
        return bool(work.companion(work.on("a").name))
    except (OSError, StopIteration, ValueError):
        return False


def all_come(cluster: Cluster, work: Work, attempt: int = 1) -> None:
    """The other agent goes on, and so does the job."""
    late = cluster.agents["b"]
    assert late.process is not None
    late.process.send_signal(signal.SIGCONT)
    work.until_counting(attempt=attempt)
    work.open_gate()
    end = work.ended()
    assert (end.state, end.exit_code, end.attempt) == (JobState.COMPLETED, 0, attempt), end.reason
    work.counted_well(attempt)


def test_the_master_dies_while_members_meet(cluster: Cluster, meeting: Work) -> None:
    cluster.kill_master()
    cluster.start_master()
    all_come(cluster, meeting)


def test_the_agent_dies_while_members_meet(cluster: Cluster, meeting: Work) -> None:
    first = cluster.agents["a"]
    cluster.kill_agent(first)
    cluster.start_agent(first)
    all_come(cluster, meeting)


def test_a_companion_dies_while_members_meet_and_the_job_is_placed_again(cluster: Cluster, meeting: Work) -> None:
    kill(meeting.companion(meeting.on("a").name))
    all_come(cluster, meeting, attempt=2)
    assert any("COMPANION-LOST" in entry.what for entry in meeting.view().history)


# --- while it ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["master", "agent", "shim", "companion", "zygote"])
def test_somebody_dies_while_a_cancelled_job_ends(cluster: Cluster, victim: str) -> None:
    work = cluster.submit(STUBBORN, grace=60.0)
    work.until_counting()
    cluster.client.cancel(work.id)
    until(lambda: (work.folder / "asked").exists(), "the members' SIGTERM")
    match victim:
        case "master":
            cluster.kill_master()
            cluster.start_master()
        case "agent":
            agent = cluster.agent_of(work)
            cluster.kill_agent(agent)
            cluster.start_agent(agent)
        case "shim":
            kill(work.shim())
        case "companion":
            kill(work.companion())
        case "zygote":
            kill(cluster.zygote(cluster.agent_of(work)))
    work.open_gate()
    end = work.ended()
    assert (end.state, end.exit_code) == (JobState.CANCELLED, 130)
    assert end.reason.startswith("cancelled by ")


# --- before and after --------------------------------------------------------------------------------------------


def test_a_job_that_was_accepted_outlives_the_master_that_accepted_it(cluster: Cluster) -> None:
    for name in cluster.agents:
        cluster.client.tell_agent(name, "drain")
    work = cluster.submit()
    cluster.kill_master()
    cluster.start_master()
    assert work.view().state is JobState.PENDING
    for name in cluster.agents:
        cluster.client.tell_agent(name, "resume")
    work.until_counting()
    runs_on(cluster, work)


def test_much_output_survives_masters_and_agents_that_die_over_and_over(cluster: Cluster) -> None:
    script = """
    echo "$QUORATE_MEMBER" >> "$CHAOS/starts"
    seq -f 'line %.0f' 0 59999; while [ ! -e "$CHAOS/gate" ]; do sleep 0.02; done; echo "last 60000"
    """
    work = cluster.submit(script)
    for part in (1, 5_000, 20_000):
        work.until_counting(part)
        cluster.kill_master()
        agent = cluster.agent_of
        cluster.start_master()
        victim = agent(work, "main1")
        cluster.kill_agent(victim)
        cluster.start_agent(victim)
    work.open_gate()
    assert work.ended().state is JobState.COMPLETED
    until(lambda: [len(said) for said in work.output().values()] == [60_001] * 2, "the whole of both logs")
    work.counted_well()

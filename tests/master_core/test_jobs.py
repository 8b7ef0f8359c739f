"""A job's life: placed whole, run, ended by the first failure, restarted or final."""

import pytest

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.api import render
from quorate.master.settings import Settings
from quorate.master.standing import waits_for
from quorate.model.state import JobState, MemberState

from .cluster import Agent, Cluster, exited, killed, running, starting, status


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_gang_is_placed_whole_and_each_agent_is_told_of_its_members(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    assert cluster.job(job).state is JobState.STARTING
    assert a.desired.members == (f"{job}-1.0.1",)
    assert b.desired.members == (f"{job}-1.1.1",)
    assert [m.agent for m in a.desired.allocations[0].members] == ["a", "b"]


def test_a_gang_that_does_not_fit_waits_and_says_for_what(cluster: Cluster) -> None:
    cluster.agent("a", slots=2)
    cluster.agent("b")
    first = cluster.submit(3, placement="pack")
    second = cluster.submit(2)
    assert cluster.job(first).state is JobState.STARTING
    assert cluster.job(second).state is JobState.PENDING
    assert "slot" in waits_for(cluster.state, cluster.job(second), cluster.now)


def test_a_job_that_can_never_fit_is_refused_at_once(cluster: Cluster) -> None:
    cluster.agent("a", slots=2)
    answer = cluster.ask(1, slots=3)
    assert isinstance(answer, fx.Refused)
    assert answer.code == "JOB-NEVER-FITS"
    assert not cluster.state.jobs


def test_a_job_for_a_pool_that_nobody_knows_is_refused(cluster: Cluster) -> None:
    answer = cluster.ask(resources={"pool": "defautl"})
    assert isinstance(answer, fx.Refused)
    assert "defautl" in answer.detail


def test_a_job_for_a_pool_without_agents_waits(cluster: Cluster) -> None:
    job = cluster.submit(2)
    assert cluster.job(job).state is JobState.PENDING
    cluster.agent("a", slots=2)
    cluster.agent("b")
    assert cluster.job(job).state is JobState.STARTING


def test_a_repeated_submission_is_one_job(cluster: Cluster) -> None:
    first = cluster.submit(key="once")
    again = cluster.ask(key="once")
    assert again == fx.Submitted(first, repeated=True)
    assert cluster.submit(key="once", owner="bob") != first


def test_a_job_runs_when_all_members_run_and_completes_when_all_have_exited_with_0(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    main, sub = f"{job}-1.0.1", f"{job}-1.1.1"
    a.says(starting(main))
    a.says(running(main))
    assert cluster.job(job).state is JobState.STARTING
    b.says(running(sub))
    assert cluster.job(job).state is JobState.RUNNING
    a.says(exited(main))
    assert cluster.job(job).state is JobState.RUNNING
    b.says(exited(sub))
    done = cluster.job(job)
    assert (done.state, done.exit_code, done.reason) == (JobState.COMPLETED, 0, "")


def test_a_member_that_has_ended_is_dropped_from_the_desired_set(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.0.1"))
    assert a.desired.members == ()
    assert b.desired.members == (f"{job}-1.1.1",)


def test_members_too_short_to_be_seen_running_complete_the_job(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    a.says(exited(f"{job}-1.0.1"))
    assert cluster.job(job).state is JobState.COMPLETED


def test_one_failed_member_ends_the_others_and_is_the_reason(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    cluster.run_all(job)
    b.says(exited(f"{job}-1.1.1", 3))
    assert cluster.job(job).state is JobState.STOPPING
    assert a.desired.stop == {f"{job}-1.0.1": "member sub1 on agent b exited with 3"}
    a.says(killed(f"{job}-1.0.1", echo=True, reason="told to"))
    ended = cluster.job(job)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 3)
    assert ended.reason == "member sub1 on agent b exited with 3"


def test_an_echo_that_comes_first_gives_way_to_the_failure_itself(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    cluster.run_all(job)
    a.says(killed(f"{job}-1.0.1", echo=True, reason="member sub1 failed"))
    b.says(exited(f"{job}-1.1.1", 7))
    ended = cluster.job(job)
    assert (ended.exit_code, ended.reason) == (7, "member sub1 on agent b exited with 7")


def test_of_two_failures_in_one_report_the_lowest_rank_is_the_first(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    job = cluster.submit(2)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.1.1", 5), exited(f"{job}-1.0.1", 4))
    assert cluster.job(job).exit_code == 4


def test_a_signal_becomes_128_and_its_number(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    a.says(killed(f"{job}-1.0.1", 9))
    assert cluster.job(job).exit_code == 137
    assert "signal 9" in cluster.job(job).reason


def test_a_failed_job_with_restarts_is_placed_again_with_a_new_allocation(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.0.1", 1))
    again = cluster.job(job)
    assert (again.state, again.attempt, again.restarts_left) == (JobState.STARTING, 2, 0)
    first, second = (cluster.state.allocations[f"{job}-{n}"] for n in (1, 2))
    assert first.nonce != second.nonce
    a.says(exited(f"{job}-2.0.1", 1))
    assert cluster.job(job).state is JobState.FAILED


def test_a_restart_waits_until_every_member_has_ended(cluster: Cluster) -> None:
    a, b = cluster.agent("a", slots=2), cluster.agent("b", slots=2)
    job = cluster.submit(2, restarts=1)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.0.1", 1))
    cluster.wait(50, a, b)
    assert cluster.job(job).attempt == 1
    b.says(killed(f"{job}-1.1.1", echo=True))
    assert cluster.job(job).attempt == 2


@pytest.mark.parametrize("code", ["PORT-TAKEN", "SANDBOX-FAILED"])
def test_a_machine_at_fault_does_not_use_up_a_restart(cluster: Cluster, code: str) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    a.says(status(f"{job}-1.0.1", "failed", reason="something of the machine's", code=code))
    again = cluster.job(job)
    assert (again.attempt, again.restarts_left) == (2, 1)


def test_a_machine_at_fault_over_and_over_ends_the_job() -> None:
    cluster = Cluster(Settings(platform_failures=3))
    a = cluster.agent("a")
    job = cluster.submit(restarts=1)
    for attempt in range(1, 5):
        a.says(status(f"{job}-{attempt}.0.1", "failed", reason="full", code="DISK-FULL"))
    assert cluster.job(job).state is JobState.FAILED
    assert cluster.job(job).exit_code == 125


def test_a_start_that_failed_before_any_command_is_made_again_even_where_no_restart_is_left(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    a.says(status(f"{job}-1.0.1", "failed", reason="port 1734 is taken", code="PORT-TAKEN"))
    assert cluster.job(job).attempt == 1, "the other member has not said yet whether it began"
    b.says(status(f"{job}-1.1.1", "failed", reason="stopped before it began", echo=True))
    assert (cluster.job(job).attempt, cluster.job(job).state) == (2, JobState.STARTING)
    assert any("port 1734 is taken (PORT-TAKEN)" in entry.what for entry in cluster.job(job).history)


def test_a_port_that_a_stranger_holds_is_not_asked_for_again_for_long(cluster: Cluster) -> None:
    a = cluster.agent("a", slots=2)
    job = cluster.submit(2)
    taken = set(cluster.members(job)[0].ports.values())
    for rank in range(2):
        a.says(status(f"{job}-1.{rank}.1", "failed", reason="port 1734 is taken", code="PORT-TAKEN"))
    cluster.wait(300, a)
    assert cluster.job(job).attempt == 2
    assert not taken & {port for member in cluster.members(job) for port in member.ports.values()}
    cluster.cancel(job)
    for rank in range(2):
        a.says(status(f"{job}-2.{rank}.1", "failed", echo=True))
    later = cluster.submit(2)
    assert not taken & {port for member in cluster.members(later) for port in member.ports.values()}


def test_a_job_that_may_run_once_never_goes_again_where_a_command_may_have_begun(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    a.says(status(f"{job}-1.0.1", "failed", reason="its companion ended", code="COMPANION-LOST"))
    b.says(killed(f"{job}-1.1.1", echo=True))
    assert cluster.job(job).state is JobState.FAILED
    assert "COMPANION-LOST" in cluster.job(job).reason


def test_a_supervisor_that_died_may_have_begun_the_command(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    a.says(status(f"{job}-1.0.1", "failed", reason="its supervisor died", code="MEMBER-LOST"))
    assert cluster.job(job).state is JobState.FAILED


def test_a_start_that_fails_over_and_over_before_any_command_ends_the_job() -> None:
    cluster = Cluster(Settings(unstarted_attempts=3))
    a = cluster.agent("a")
    job = cluster.submit()
    for attempt in range(1, 5):
        assert cluster.job(job).state is JobState.STARTING
        a.says(status(f"{job}-{attempt}.0.1", "failed", reason="2 of 3 came", code="MEMBERS-MISSING"))
    assert cluster.job(job).state is JobState.FAILED
    assert "2 of 3 came" in cluster.job(job).reason


def test_a_job_that_may_run_once_does_not_wait_for_a_silent_agent_to_know_whether_it_began(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    b.drop()
    a.says(status(f"{job}-1.0.1", "failed", reason="port 1734 is taken", code="PORT-TAKEN"))
    assert cluster.job(job).state is JobState.STOPPING
    cluster.wait(120, a)
    assert cluster.job(job).state is JobState.FAILED


def test_a_program_that_does_not_exist_fails_the_job_with_its_words(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    a.says(status(f"{job}-1.0.1", "failed", reason="there is no program trane"))
    assert cluster.job(job).state is JobState.FAILED
    assert "there is no program trane" in cluster.job(job).reason


def test_cancelling_a_pending_job_ends_it_at_once(cluster: Cluster) -> None:
    job = cluster.submit()
    assert cluster.cancel(job) == fx.Done()
    ended = cluster.job(job)
    assert (ended.state, ended.exit_code, ended.reason) == (JobState.CANCELLED, 130, "cancelled by ann")


def test_cancelling_while_starting_stops_what_has_not_even_begun(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(restarts=3)
    cluster.cancel(job)
    assert a.desired.stop == {f"{job}-1.0.1": "cancelled by ann"}
    a.says(status(f"{job}-1.0.1", "failed", reason="stopped before it began", echo=True))
    assert cluster.job(job).state is JobState.CANCELLED
    assert a.desired.members == ()


def test_cancelling_wins_over_a_restart_that_was_coming(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2, restarts=5)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.0.1", 1))
    cluster.cancel(job)
    b.says(killed(f"{job}-1.1.1", echo=True))
    assert cluster.job(job).state is JobState.CANCELLED


def test_a_job_that_failed_for_good_is_not_cancelled_afterwards(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2)
    cluster.run_all(job)
    a.says(exited(f"{job}-1.0.1", 9))
    cluster.cancel(job)
    b.says(killed(f"{job}-1.1.1", echo=True))
    assert (cluster.job(job).state, cluster.job(job).exit_code) == (JobState.FAILED, 9)


def test_cancelling_what_has_ended_changes_nothing(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    a.says(exited(f"{job}-1.0.1"))
    before = cluster.job(job)
    assert cluster.cancel(job) == fx.Done()
    assert cluster.job(job) == before
    assert isinstance(cluster.cancel("nosuch"), fx.Refused)


def test_members_that_outlive_their_stop_are_given_up_but_keep_their_slots(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(grace=5.0)
    cluster.run_all(job)
    cluster.cancel(job)
    cluster.wait(40, a)
    assert cluster.job(job).state is JobState.CANCELLED
    waiting = cluster.submit()
    assert cluster.job(waiting).state is JobState.PENDING
    a.says(killed(f"{job}-1.0.1", 9, echo=True))
    assert cluster.job(waiting).state is JobState.STARTING


def test_a_job_that_cannot_be_ended_is_not_restarted_beside_itself(cluster: Cluster) -> None:
    a, b = cluster.agent("a", slots=2), cluster.agent("b", slots=2)
    job = cluster.submit(2, restarts=3, grace=5.0)
    cluster.run_all(job)
    b.says(exited(f"{job}-1.1.1", 1))
    cluster.wait(600, a, b)
    assert cluster.job(job).attempt == 1
    cluster.wait(30, a, b)
    assert (cluster.job(job).state, cluster.job(job).exit_code) == (JobState.FAILED, 125)
    assert "main1 on agent a did not end" in cluster.job(job).reason


def test_a_start_that_takes_too_long_names_who_is_missing(cluster: Cluster) -> None:
    a, b = cluster.agent("a"), cluster.agent("b")
    job = cluster.submit(2, start_timeout=60.0)
    a.says(running(f"{job}-1.0.1"))
    b.says(starting(f"{job}-1.1.1"))
    cluster.wait(90, a, b)
    assert cluster.job(job).state is JobState.STOPPING
    assert cluster.job(job).reason == "member sub1 on agent b did not start within 1m"


def test_a_job_beyond_max_runtime_ends_with_124_and_is_not_restarted(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(max_runtime=60.0, restarts=3)
    cluster.run_all(job)
    cluster.wait(70, a)
    a.says(killed(f"{job}-1.0.1", echo=True))
    assert (cluster.job(job).state, cluster.job(job).exit_code) == (JobState.FAILED, 124)


def test_max_runtime_goes_on_counting_over_a_restart_of_the_master(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit(max_runtime=100.0)
    cluster.run_all(job)
    cluster.wait(80, a)
    cluster.restart()
    a.connect(running(f"{job}-1.0.1", running_s=80.0))
    cluster.wait(30, a)
    assert cluster.job(job).state is JobState.STOPPING


def test_states_only_move_forward_whatever_order_reports_come_in(cluster: Cluster) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    member = f"{job}-1.0.1"
    a.says(running(member))
    a.says(starting(member))
    assert cluster.members(job)[0].state is MemberState.RUNNING
    a.says(exited(member))
    a.says(running(member))
    assert cluster.members(job)[0].state is MemberState.EXITED


def test_waiting_starting_and_running_are_timed(cluster: Cluster) -> None:
    job = cluster.submit()
    cluster.wait(20)
    a = cluster.agent("a")
    cluster.wait(10, a)
    a.says(running(f"{job}-1.0.1"))
    cluster.wait(30, a)
    a.says(exited(f"{job}-1.0.1"))
    ended = cluster.job(job)
    assert (ended.waited_s, ended.starting_s, ended.ran_s) == (20.0, 10.0, 30.0)


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ended_while_its_agent_was_away_counts_until_its_end(cluster: Cluster, code: int) -> None:
    agents = [cluster.agent("a"), cluster.agent("b")]
    job = cluster.submit(2)
    cluster.run_all(job)
    cluster.wait(30, *agents)
    for rank, agent in enumerate(agents):
        agent.says(exited(f"{job}-1.{rank}.1", code, running_s=10.0 - rank))
    assert cluster.job(job).ran_s == 10.0


def test_an_agent_that_does_not_say_how_long_a_member_ran_leaves_it_to_the_master(cluster: Cluster) -> None:
    agents = [cluster.agent("a"), cluster.agent("b")]
    job = cluster.submit(2)
    cluster.run_all(job)
    cluster.wait(30, *agents)
    agents[0].says(exited(f"{job}-1.0.1", running_s=10.0))
    agents[1].says(exited(f"{job}-1.1.1"))
    assert cluster.job(job).ran_s == 30.0


def test_an_elastic_job_starts_with_fewer_members(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit(2, resources={"min_nodes": 1})
    assert len(cluster.members(job)) in (0, 1)
    cluster.agent("b")
    assert cluster.job(job).state is JobState.STARTING


def test_old_final_jobs_are_forgotten_with_all_that_belongs_to_them() -> None:
    cluster = Cluster(Settings(keep_jobs=2))
    a = cluster.agent("a")
    jobs = []
    for _ in range(4):
        jobs.append(cluster.submit())
        a.says(exited(f"{jobs[-1]}-1.0.1"))
    cluster.wait(700, a)
    assert list(cluster.state.jobs) == jobs[2:]
    assert {m.job for m in cluster.state.members.values()} == set(jobs[2:])
    forgotten = [effect for effect in cluster.effects if isinstance(effect, fx.JobForgotten)]
    assert [effect.job for effect in forgotten] == jobs[:2]
    assert cluster.apply(ev.JobCancelRequested, job=jobs[0], by="ann") != fx.Done()


def test_a_job_that_restarts_over_and_over_remembers_its_newest_attempts() -> None:
    cluster = Cluster(Settings(keep_attempts=3))
    a = cluster.agent("a")
    job = cluster.submit(restarts=10)
    for attempt in range(1, 8):
        a.says(exited(f"{job}-{attempt}.0.1", 1))
    assert [allocation.attempt for allocation in cluster.state.attempts_of(cluster.job(job))] == [6, 7, 8]
    assert {member.allocation for member in cluster.state.members.values()} == {f"{job}-{n}" for n in (6, 7, 8)}
    assert set(cluster.state.tallies) == {f"{job}-{n}" for n in (6, 7, 8)}


# --- clusters that wait for their user -------------------------------------------------------------------------------


def idle_cluster(cluster: Cluster) -> tuple[str, Agent]:
    agent = cluster.agent("a", features=("roles",))
    job = cluster.submit(kind="cluster", idle_timeout="5m")
    cluster.run_all(job)
    return job, agent


def test_a_cluster_that_nobody_uses_is_stopped_and_says_why(cluster: Cluster) -> None:
    job, agent = idle_cluster(cluster)
    cluster.wait(290, agent)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(20, agent)
    assert cluster.job(job).state is JobState.STOPPING
    assert "nobody has used it for 5m" in cluster.job(job).reason


def test_a_cluster_that_is_used_goes_on(cluster: Cluster) -> None:
    job, agent = idle_cluster(cluster)
    for _ in range(3):
        cluster.wait(200, agent)
        cluster.apply(ev.JobUsed, job=job)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(310, agent)
    assert cluster.job(job).state is JobState.STOPPING


def test_a_new_master_gives_a_cluster_its_whole_time(cluster: Cluster) -> None:
    job, agent = idle_cluster(cluster)
    cluster.wait(290, agent)
    cluster.restart()
    agent.connect(running(f"{job}-1.0.1"))
    cluster.wait(290, agent)
    assert cluster.job(job).state is JobState.RUNNING
    cluster.wait(20, agent)
    assert cluster.job(job).state is JobState.STOPPING


def test_how_long_a_job_runs_is_told_with_the_time_without_a_master(cluster: Cluster) -> None:
    cluster.agent("a")
    job = cluster.submit()
    cluster.run_all(job)
    cluster.now += 600.0
    cluster.restart()
    cluster.now += 11.0
    assert render.job_view(cluster.state, cluster.job(job), cluster.now, members=False).ran == pytest.approx(611.0)

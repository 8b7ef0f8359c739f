"""Agents with a real master, over TLS: joining, gangs, contexts, secrets, users, and what may not happen."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.agent.conftest import Agent, new_agent, until
from tests.master.serving import MasterProcess

from quorate.agent import processes
from quorate.client.api import Client
from quorate.client.context import packed
from quorate.client.settings import Settings
from quorate.model.job import JobSpec
from quorate.model.state import JobState
from quorate.model.views import JobView

ROOT_ONLY = "members have users of their own only where the agent is root"


@dataclass
class Cluster:
    """A master and its agents a and b, which have joined by a token."""

    master: MasterProcess
    client: Client
    agents: tuple[Agent, ...]

    def run(self, *entrypoint: str, wait: bool = True, **spec: Any) -> JobView:
        job = self.client.submit(JobSpec(entrypoint=entrypoint, grace=2.0, **spec))
        return self.wait(job.id) if wait else job

    def wait(self, job: str) -> JobView:
        return self.client.wait(job, 30.0)

    def lines(self, job: str) -> list[str]:
        def shipped() -> list[str]:
            return [line.text for line in self.client.logs(job)]

        until(lambda: shipped())
        return shipped()

    def until_state(self, job: str, state: JobState) -> None:
        until(lambda: self.client.job(job).state is state)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    master = MasterProcess(folder / "master", tls=True).start()
    authority = folder / "ca.pem"
    authority.write_bytes((master.state / "tls" / "ca.pem").read_bytes())
    with Client(Settings(master.url, master.token, authority)) as client:
        token = client.create_token(kind="join", pool="default").token
        agents = tuple(new_agent(name) for name in "ab")
        try:
            for number, agent in enumerate(agents):
                agent.settings = {"advertise_address": f"127.0.0.{11 + number}", "slots": 4, "members_as": "auto"}
                agent.join(master.url, token)
            until(lambda: len([a for a in client.agents() if a.state == "ready"]) == len(agents))
            yield Cluster(master, client, agents)
        finally:
            for agent in agents:
                agent.remove()
            master.stop()


def test_a_gang_of_two_meets_and_each_knows_where_the_other_is(cluster: Cluster) -> None:
    job = cluster.run("sh", "-c", "echo $NODE_RANK/$NODE_COUNT at $MASTER_ADDR", resources={"nodes": 2})
    assert job.state is JobState.COMPLETED, job.reason
    assert sorted(cluster.lines(job.id)) == ["0/2 at 127.0.0.11", "1/2 at 127.0.0.11"]


def test_a_failure_ends_the_others_at_once_and_is_the_reason(cluster: Cluster) -> None:
    script = "if [ $NODE_RANK = 1 ]; then exit 9; fi; sleep 1000"
    job = cluster.run("sh", "-c", script, resources={"nodes": 2})
    assert job.state is JobState.FAILED
    assert job.exit_code == 9
    assert "sub1" in job.reason


def test_a_bootstrap_script_runs_first_and_what_it_exports_is_kept(cluster: Cluster) -> None:
    job = cluster.run(
        "sh", "-c", "echo $NODE_RANK $MASTER_PORT $GREETING; echo $TF_CONFIG",
        bootstrap="export MASTER_PORT=30000 GREETING=\"hello from $QUORATE_HOST\"; echo prepared",
        resources={"nodes": 2},
    )  # fmt: skip
    assert job.state is JobState.COMPLETED, job.reason
    lines = cluster.lines(job.id)
    assert lines.count("prepared") == 2
    assert {"0 30000 hello from main1", "1 30000 hello from sub1"} <= set(lines)
    assert sum("127.0.0.11:30000" in line and "127.0.0.12:30001" in line for line in lines) == 2


def test_a_bootstrap_script_that_fails_is_the_reason_and_nothing_else_runs(cluster: Cluster) -> None:
    job = cluster.run("sh", "-c", "echo never", bootstrap="echo no such package; exit 3")
    assert (job.state, job.exit_code) == (JobState.FAILED, 3)
    assert job.reason.startswith("the bootstrap of member main1 on agent ")
    assert "exited with 3 (BOOTSTRAP-FAILED)" in job.reason
    assert "no such package" in cluster.client.job(job.id).members[0].tail
    assert "never" not in cluster.lines(job.id)


def test_a_cancelled_job_leaves_no_process(cluster: Cluster) -> None:
    job = cluster.run("sh", "-c", "setsid sleep 1000 & sleep 1000", wait=False, resources={"nodes": 2})
    cluster.until_state(job.id, JobState.RUNNING)
    cluster.client.cancel(job.id)
    assert cluster.wait(job.id).state is JobState.CANCELLED
    for member in cluster.client.job(job.id).members:
        assert not processes.marked(member.id)


def test_secrets_are_files_in_memory_for_the_member_alone_and_blank_in_logs(cluster: Cluster) -> None:
    script = "cd $QUORATE_SECRETS; stat -f -c %T .; stat -c %a key; cat key; echo; pwd"
    job = cluster.run("sh", "-c", script, secrets={"key": "hunter2"})
    assert job.state is JobState.COMPLETED, job.reason
    kind, mode, value, folder = cluster.lines(job.id)
    assert (kind, mode, value) == ("tmpfs", "600", "[secret]")
    until(lambda: not Path(folder).exists())
    for agent in cluster.agents:
        assert not [path for path in agent.state.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_context_is_the_members_working_folder(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "main.sh").write_text("cat data; touch mine; ls\n")
    (tmp_path / "data").write_text("from the context\n")
    with packed(tmp_path) as context:
        cluster.client.upload(context)
        job = cluster.run("sh", "pkg/main.sh", context=context.sha256)
    assert job.state is JobState.COMPLETED, job.reason
    assert cluster.lines(job.id) == ["from the context", "data", "mine", "pkg"]


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda _: b"", lambda data: data[:40] + b"\xff" * 400])
def test_a_context_that_an_agents_disk_has_not_kept_is_fetched_again(
    cluster: Cluster, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "data").write_bytes(os.urandom(5000))
    with packed(tmp_path) as context:
        cluster.client.upload(context)
        script = "sha256sum data; ls"
        first = cluster.run("sh", "-c", script, context=context.sha256, resources={"nodes": 2, "slots": 4})
        for agent in cluster.agents:
            kept = agent.state / "contexts" / f"{context.sha256}.tar.gz"
            kept.write_bytes(damage(kept.read_bytes()))
        job = cluster.run("sh", "-c", script, context=context.sha256, resources={"nodes": 2, "slots": 4})
    assert job.state is JobState.COMPLETED, job.reason
    assert sorted(cluster.lines(job.id)) == sorted(cluster.lines(first.id))


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ONLY)
def test_members_are_users_of_their_own_without_any_right(cluster: Cluster) -> None:
    job = cluster.run(
        "sh", "-c", "id -u; grep CapEff /proc/self/status; cat /proc/1/environ; ls $PWD/../..", restarts=0
    )
    uid, capabilities, *_ = cluster.lines(job.id)
    assert int(uid) >= 1_900_000_000
    assert int(capabilities.split()[1], 16) == 0
    assert job.state is JobState.FAILED


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ONLY)
def test_allocations_cannot_read_each_others_files(cluster: Cluster) -> None:
    one = cluster.run("sh", "-c", "echo mine > file; pwd; sleep 1000", wait=False)
    folder = until(lambda: cluster.lines(one.id)[0])
    other = cluster.run("sh", "-c", f"cat {folder}/file && exit 0; kill -9 -1; exit 3")
    cluster.client.cancel(one.id)
    assert other.state is JobState.FAILED
    # It may kill what is its own, and that is nothing but itself.
    assert cluster.wait(one.id).state is JobState.CANCELLED


def test_a_key_that_was_revoked_does_not_come_back(cluster: Cluster) -> None:
    extra = new_agent("extra")
    try:
        token = cluster.client.create_token(kind="join", pool="default").token
        extra.join(cluster.master.url, token)
        until(lambda: any(a.id == "extra" and a.state == "ready" for a in cluster.client.agents()))
        cluster.client.tell_agent("extra", "revoke")
        assert extra.process is not None
        assert extra.process.wait(20) == 1
    finally:
        extra.remove()


def test_an_agent_that_was_away_when_its_key_was_revoked_ends_its_members_when_it_is_back(cluster: Cluster) -> None:
    extra = new_agent("away")
    try:
        token = cluster.client.create_token(kind="join", pool="apart").token
        extra.join(cluster.master.url, token)
        until(lambda: any(a.id == "away" and a.state == "ready" for a in cluster.client.agents()))
        job = cluster.run("sh", "-c", "echo $$; sleep 1000", resources={"pool": "apart"}, wait=False)
        process = int(until(lambda: cluster.lines(job.id))[0])
        extra.kill()
        cluster.client.tell_agent("away", "revoke")
        extra.come_back(cluster.master.url)
        assert extra.process is not None
        assert extra.process.wait(20) == 1
        assert not Path(f"/proc/{process}").exists()
    finally:
        extra.remove()


def test_a_master_with_another_authority_than_the_tokens_is_not_trusted(cluster: Cluster) -> None:
    extra = new_agent("mallory")
    try:
        token = cluster.client.create_token(kind="join", pool="default").token
        parts = token.split(".")
        extra.join(cluster.master.url, ".".join([*parts[:3], "0" * 64]))
        assert extra.process is not None
        assert extra.process.wait(20) == 1
        assert not any(a.id == "mallory" for a in cluster.client.agents())
    finally:
        extra.remove()

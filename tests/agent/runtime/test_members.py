"""Members with an image: from a job that is submitted to a container that is gone."""

import os
import signal
from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster
from tests.cli.conftest import Quorate
from tests.docker_engine import IMAGE, busybox

from quorate.client.context import packed
from quorate.model.state import JobState

pytestmark = pytest.mark.docker


def test_a_job_with_an_image_prints_and_exits_like_any_other(cluster: Cluster) -> None:
    job = cluster.submit("echo out; echo err >&2; exit 3")
    view = cluster.ended(job)
    assert (view.state, view.exit_code) == (JobState.FAILED, 3)
    assert sorted(cluster.output(job)) == ["err", "out"]
    until(lambda: not cluster.docker.names())


def test_its_command_is_an_unprivileged_user_of_its_own_with_no_capability(cluster: Cluster) -> None:
    job = cluster.submit("id -u; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; touch mine; stat -c %u mine")
    assert cluster.ended(job).exit_code == 0
    uid, *status, owner = cluster.output(job)
    assert int(uid) >= 1_900_000_000
    assert owner == uid
    assert [line.split()[1] for line in status] == ["0000000000000000", "0000000000000000", "1"]


def test_it_has_what_the_user_sent_along_its_secrets_and_its_variables(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("from the context")
    with packed(tmp_path) as context:
        cluster.client.upload(context)
        digest = context.sha256
    job = cluster.submit(
        "cat data.txt; echo; wc -c < $QUORATE_SECRETS/key; echo $MINE $QUORATE_RANK of $QUORATE_SIZE",
        context=digest, secrets={"key": "hush!"}, environment={"MINE": "yes"},
    )  # fmt: skip
    assert cluster.ended(job).exit_code == 0, cluster.output(job)
    assert cluster.output(job) == ["from the context", "5", "yes 0 of 1"]


def test_what_opens_a_registry_is_not_told_to_those_of_the_jobs_members_that_are_processes(cluster: Cluster) -> None:
    roles = {
        "main": {"entrypoint": "ls $QUORATE_SECRETS; env | grep -c ^QUORATE_SECRETS="},
        "worker": {"image": IMAGE, "entrypoint": "ls $QUORATE_SECRETS"},
    }
    job = cluster.submit(image=None, roles=roles, secrets={"docker-config": "{}", "other": "kept"})
    assert cluster.ended(job).exit_code == 0, cluster.output(job)
    assert sorted(cluster.output(job)) == ["1", "other", "other"]


def test_what_an_image_has_set_is_not_overridden_but_by_the_user(cluster: Cluster) -> None:
    cluster.docker.image(
        "quorate-test/opinions:1",
        busybox(),
        [
            *(f"ENV {one}" for one in ("MASTER_ADDR=its.own", "QUORATE_JOB=its.own", "MINE=image", "HOME=/srv")),
            "WORKDIR /srv",
        ],
    )
    job = cluster.submit(
        "pwd; echo $MASTER_ADDR $QUORATE_JOB $MINE $HOME", image="quorate-test/opinions:1", environment={"MINE": "user"}
    )
    assert cluster.ended(job).exit_code == 0
    assert cluster.output(job) == ["/srv", "its.own its.own user /srv"]


def test_without_an_entrypoint_the_image_runs_what_it_was_made_to_run(cluster: Cluster) -> None:
    cluster.docker.image("quorate-test/speaks:1", busybox(), ['ENTRYPOINT ["echo", "hello"]', 'CMD ["from", "me"]'])
    job = cluster.submit(image="quorate-test/speaks:1")
    assert cluster.ended(job).exit_code == 0
    assert cluster.output(job) == ["hello from me"]


def test_an_images_own_bootstrap_runs_before_whatever_it_runs(cluster: Cluster) -> None:
    script = b"export MADE=here; echo first\n"
    changes = ['CMD ["sh", "-c", "echo then $MADE $QUORATE_RANK"]']
    cluster.docker.image("quorate-test/boots:1", {**busybox(), "etc/quorate/bootstrap": script}, changes)
    job = cluster.submit(image="quorate-test/boots:1")
    assert cluster.ended(job).exit_code == 0, cluster.output(job)
    assert cluster.output(job) == ["first", "then here 0"]


def test_an_image_with_nothing_at_all_waits_until_it_is_stopped(cluster: Cluster) -> None:
    cluster.docker.image("quorate-test/empty:1", {"data": b"nothing to run"})
    job = cluster.submit(image="quorate-test/empty:1", kind="cluster")
    cluster.until_running(job)
    cluster.client.cancel(job)
    assert cluster.ended(job).state is JobState.CANCELLED
    until(lambda: not cluster.docker.names())


def test_a_job_that_is_cancelled_hears_sigterm_though_it_is_a_plain_shell(cluster: Cluster) -> None:
    job = cluster.submit("echo up; sleep 1000", grace=60.0)
    cluster.until_running(job)
    cluster.client.cancel(job)
    assert cluster.ended(job).state is JobState.CANCELLED
    until(lambda: not cluster.docker.names())


def test_a_member_that_takes_more_memory_than_it_may_is_told_as_such(cluster: Cluster) -> None:
    view = cluster.run("tail /dev/zero", memory="40MiB")
    assert view.exit_code == 137
    assert "killed for memory: its limit is 40 MiB (MEMORY-EXCEEDED)" in view.reason


def test_limits_are_those_that_were_asked_for(cluster: Cluster) -> None:
    job = cluster.submit("df -k /dev/shm | tail -1; sleep 1000", memory="64MiB", cpus=0.5, pids=50, shm="8MiB")
    member = cluster.until_running(job)
    host = cluster.docker.container(member)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    until(lambda: cluster.output(job))
    assert cluster.output(job)[0].split()[1] == str(8 << 10)
    cluster.client.cancel(job)
    cluster.ended(job)


def test_a_container_goes_on_while_its_agent_is_dead_and_nothing_it_says_is_lost(cluster: Cluster) -> None:
    job = cluster.submit("i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.02; done")
    cluster.until_running(job)
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    assert cluster.ended(job).exit_code == 0
    until(lambda: len(cluster.output(job)) == 200)
    assert cluster.output(job) == [str(i) for i in range(200)]


def test_the_container_of_a_shim_that_was_killed_is_removed_and_its_member_lost(cluster: Cluster) -> None:
    job = cluster.submit("echo up; sleep 1000")
    member = cluster.until_running(job)
    os.kill(cluster.agent.shim(member), signal.SIGKILL)
    view = cluster.ended(job)
    assert "(MEMBER-LOST)" in view.reason
    assert f"quorate-{member}" not in cluster.docker.names()


def test_a_container_that_belongs_to_no_member_is_removed_when_its_agent_starts(cluster: Cluster) -> None:
    job = cluster.submit("while true; do echo up; sleep 0.05; done")
    member = cluster.until_running(job)
    labels = cluster.docker.container(member)["Config"]["Labels"]
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    engine = cluster.docker.engine
    engine.create("quorate-stray", {**body, "Labels": {**labels, "quorate.member": "zzzz-1.0.1"}})
    engine.create("somebodys", body)
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    until(lambda: "quorate-stray" not in cluster.docker.names())
    # Once it speaks again, the agent has looked at all there is.
    said = len(cluster.output(job))
    until(lambda: len(cluster.output(job)) > said)
    assert {f"quorate-{member}", "somebodys"} <= set(cluster.docker.names())
    engine.remove("somebodys")
    cluster.client.cancel(job)
    cluster.ended(job)


def test_whoever_enters_a_member_has_its_rights_and_no_more(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("id -u; sleep 1000", environment={"MINE": "yes"})
    cluster.until_running(job)
    until(lambda: cluster.output(job))
    desk = Quorate(tmp_path, {"QUORATE_MASTER": cluster.master.url, "QUORATE_TOKEN": cluster.master.token})
    look = "id -u; pwd; echo $MINE; grep -E 'CapBnd|NoNewPrivs' /proc/self/status"
    uid, folder, mine, *status = desk("job", "exec", f"{job}/main1", "--", "sh", "-c", look).out.splitlines()
    assert [uid] == cluster.output(job)
    assert (folder, mine) == ("/quorate/work", "yes")
    assert [line.split()[1] for line in status] == ["0000000000000000", "1"]
    cluster.client.cancel(job)
    cluster.ended(job)


def test_an_image_that_does_not_exist_is_told_by_name_and_the_job_ends(cluster: Cluster) -> None:
    view = cluster.run("true", image={"name": "quorate-test/nowhere:1", "pull": "never"})
    assert "docker.io/quorate-test/nowhere:1 is not on this machine" in view.reason
    assert "(IMAGE-NOT-FOUND)" in view.reason


def test_a_command_that_an_image_lacks_is_told_by_name(cluster: Cluster) -> None:
    job = cluster.submit(entrypoint=["nosuchprogram"])
    assert cluster.ended(job).exit_code == 127
    assert "exec nosuchprogram failed" in cluster.output(job)[0]
    until(lambda: not cluster.docker.names())

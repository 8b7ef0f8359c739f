"""Folders of the machine in a container: within what is allowed, and never something else in their place."""

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.docker_engine import IMAGE, DockerEngine

from quorate.agent.runtime import mounts
from quorate.agent.runtime.policy import Allow, AllowedMount, Policy
from quorate.model.messages import Mount

pytestmark = pytest.mark.docker

#: Of no agent.
STAGE = mounts.stage_of("/quorate-test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "set").mkdir()
    (folder / "set" / "file").write_text("what was allowed")
    (folder / "open").mkdir(mode=0o777)
    (folder / "open").chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def cluster(docker: DockerEngine, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    allow = {
        "mounts": [{"path": str(data)}, {"path": str(data / "open"), "read_only": False}],
        "devices": ["/dev/full"],
        "host_network": True,
    }
    yield from serving(docker, tmp_path_factory.mktemp("cluster"), allow=allow)


def test_a_member_reads_and_writes_where_the_operator_lets_it(cluster: Cluster, data: Path) -> None:
    job = cluster.submit(
        "cat /in/file; echo; echo made > /out/by-member; echo x > /in/no || echo kept",
        mounts=[
            {"source": str(data / "set"), "target": "/in", "read_only": True},
            {"source": str(data / "open"), "target": "/out"},
        ],
    )
    view = cluster.ended(job)
    assert view.exit_code == 0, (view.reason, cluster.output(job))
    assert {"what was allowed", "kept"} <= set(cluster.output(job))
    assert (data / "open" / "by-member").read_text() == "made\n"
    until(lambda: not list(Path(mounts.stage_of(str(cluster.agent.state.resolve()))).iterdir()))


def test_what_the_operator_does_not_allow_fails_with_the_key_that_would(cluster: Cluster) -> None:
    view = cluster.run("true", mounts=[{"source": "/etc", "target": "/in", "read_only": True}])
    assert "does not allow mount of /etc on this machine; its operator can, with allow: mounts" in view.reason
    assert "(POLICY-FORBIDS)" in view.reason


def test_a_device_that_is_allowed_is_there_and_works(cluster: Cluster) -> None:
    job = cluster.submit("echo x > /dev/full || echo full", devices=["/dev/full"])
    assert cluster.ended(job).exit_code == 0
    assert "full" in cluster.output(job)


def test_a_folder_that_was_swapped_for_a_link_after_it_was_allowed_is_not_mounted(
    docker: DockerEngine, tmp_path: Path
) -> None:
    """The moment between a judgement and a mount is as long here as an attacker could wish."""
    allowed = tmp_path / "data"
    (allowed / "mine").mkdir(parents=True)
    policy = Policy(Allow(mounts=(AllowedMount(path=allowed),)))
    judged = policy.mounts([Mount(str(allowed / "mine"), "/in", read_only=True)])
    (allowed / "mine").rename(allowed / "was")
    (allowed / "mine").symlink_to("/etc")
    with pytest.raises(mounts.MountError, match="not what it was when it was allowed"), _staged(judged, docker):
        pass


def test_what_is_mounted_is_what_was_opened_whatever_the_path_becomes(docker: DockerEngine, tmp_path: Path) -> None:
    allowed = tmp_path / "data"
    (allowed / "mine").mkdir(parents=True)
    (allowed / "mine" / "file").write_text("mine")
    policy = Policy(Allow(mounts=(AllowedMount(path=allowed),)))
    judged = policy.mounts([Mount(str(allowed / "mine"), "/in", read_only=True)])
    engine = docker.engine
    with _staged(judged, docker) as bound:
        (allowed / "mine").rename(allowed / "was")
        (allowed / "mine").symlink_to("/etc")
        body = {
            "Image": IMAGE,
            "Cmd": ["sh", "-c", "cat /in/file > /proc/1/fd/1; sleep 100"],
            "HostConfig": {"NetworkMode": "none", "Mounts": bound},
        }
        container = engine.create("quorate-test-swap", body)
        engine.start(container)
    pid = engine.inspect(container)["State"]["Pid"]
    # Its mount outlives the stage.
    assert (Path(f"/proc/{pid}/root/in/file")).read_text() == "mine"
    assert not Path(STAGE, "quorate-test-swap").exists()
    engine.remove(container)


def test_what_a_killed_shim_has_staged_is_removed(docker: DockerEngine, tmp_path: Path) -> None:
    judged = Policy(Allow(mounts=(AllowedMount(path=tmp_path),))).mounts([Mount(str(tmp_path), "/in", read_only=True)])
    staged = _staged(judged, docker)
    staged.__enter__()
    assert Path(STAGE, "quorate-test-swap", "0").is_dir()
    mounts.forget(docker.socket, STAGE, lambda member: member != "quorate-test-swap")
    assert not Path(STAGE, "quorate-test-swap").exists()


def _staged(judged: list, docker: DockerEngine):
    return mounts.staged(judged, docker.socket, STAGE, "quorate-test-swap")


def test_a_member_with_an_image_needs_the_operators_word_for_the_hosts_network(
    docker: DockerEngine, tmp_path: Path
) -> None:
    for cluster in serving(docker, tmp_path, allow={"host_network": False}):
        view = cluster.run("true")
        assert "allow: host_network" in view.reason


def test_run_as_takes_effect_for_the_command_its_folder_and_its_secrets(docker: DockerEngine, tmp_path: Path) -> None:
    for cluster in serving(docker, tmp_path, allow={"run_as": [1234]}):
        job = cluster.submit("id -u; touch x; wc -c < $QUORATE_SECRETS/k", run_as="1234", secrets={"k": "secret"})
        assert cluster.ended(job).exit_code == 0
        assert cluster.output(job) == ["1234", "6"]


def test_what_root_in_a_container_leaves_in_its_working_folder_is_out_of_reach_of_the_machines_users(
    docker: DockerEngine, tmp_path: Path
) -> None:
    allow = {"run_as": ["root"], "host_root": True}
    script = "cp /bin/busybox su; chmod 4755 su; chmod 755 .; exec sleep 600"
    for cluster in serving(docker, tmp_path, allow=allow):
        job = cluster.submit(script, run_as="root")
        work = cluster.agent.folder(cluster.until_running(job)) / "work"
        left = eventually_set_uid(work)
        assert left.stat().st_uid == 0
        with pytest.raises(PermissionError):
            subprocess.run([left], user=4321, group=4321, extra_groups=(), check=False)
        cluster.client.cancel(job)
        cluster.ended(job)


def eventually_set_uid(work: Path) -> Path:
    left = work / "su"
    until(lambda: left.exists() and left.stat().st_mode & stat.S_ISUID and work.stat().st_mode & 0o005)
    return left

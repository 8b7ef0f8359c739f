"""An engine may be restarted under members that run: with live-restore they never notice."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.docker_engine import DockerEngine, docker_engine, missing

from quorate.model.state import JobState

pytestmark = pytest.mark.docker

COUNTING = "i=0; while [ ! -e done ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 7"


@pytest.fixture
def own_docker() -> Iterator[DockerEngine]:
    if why := missing():
        pytest.skip(why)
    with docker_engine("--live-restore") as engine:
        yield engine


@pytest.fixture
def cluster(own_docker: DockerEngine, tmp_path: Path) -> Iterator[Cluster]:
    yield from serving(own_docker, tmp_path)


def test_a_member_and_its_output_go_on_when_its_engine_comes_back(cluster: Cluster) -> None:
    job = cluster.submit(COUNTING)
    member = cluster.until_running(job)
    until(lambda: len(cluster.output(job)) > 5)
    cluster.docker.leave()
    cluster.docker.start("--live-restore")
    said = len(cluster.output(job))
    until(lambda: len(cluster.output(job)) > said + 20)
    platform = [line.text for line in cluster.client.logs(job) if line.stream == "platform"]
    assert any("its engine was away" in line for line in platform)
    (cluster.agent.folder(member) / "work" / "done").touch()
    assert cluster.ended(job).exit_code == 7
    until(lambda: not cluster.docker.names())


def test_a_member_is_stopped_in_time_though_its_engine_is_away(cluster: Cluster) -> None:
    job = cluster.submit("echo up; sleep 1000", grace=60.0)
    cluster.until_running(job)
    cluster.docker.leave()
    cluster.client.cancel(job)
    view = cluster.ended(job)
    assert view.state is JobState.CANCELLED
    assert view.members[0].exit_code is None
    assert view.members[0].signal == signal.SIGTERM
    cluster.docker.start("--live-restore")
    # The agent's own sweep, for what its shim could not remove.
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    until(lambda: not cluster.docker.names())

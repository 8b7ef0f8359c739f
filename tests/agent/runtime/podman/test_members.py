"""Members with an image, in containers of Podman's; and what Podman 4.3 does otherwise than Docker."""

from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.agent.runtime.test_members import *  # noqa: F403
from tests.podman_engine import missing, podman_engine


def test_a_member_that_takes_more_memory_than_it_may_is_told_as_such(cluster: Cluster) -> None:
    view = cluster.run("tail /dev/zero", memory="40MiB")
    assert view.exit_code == 137, view.reason
    assert "not by Quorate; perhaps for memory: its limit is 40 MiB" in view.reason


def test_a_command_that_an_image_lacks_is_told_by_name(cluster: Cluster) -> None:
    job = cluster.submit(entrypoint=["nosuchprogram"])
    assert cluster.ended(job).exit_code == 1
    assert "failed to exec pid1: No such file or directory" in cluster.output(job)[0]
    until(lambda: not cluster.docker.names())


def test_without_an_init_a_command_runs_all_the_same_and_is_told_of(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    with podman_engine(helpers="/nowhere") as engine:
        for cluster in serving(engine, tmp_path):
            job = cluster.submit("echo up")
            assert cluster.ended(job).exit_code == 0
            said = [line.text for line in cluster.client.logs(job)]
            assert any("no init for containers" in line for line in said) and "up" in said

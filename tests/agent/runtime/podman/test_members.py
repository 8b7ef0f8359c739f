"""Members with an image, in containers of Podman's; and what Podman 4.3 does otherwise than Docker."""

from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster
from tests.agent.runtime.test_members import *  # noqa: F403


def test_a_member_that_takes_more_memory_than_it_may_is_told_as_such(cluster: Cluster) -> None:
    view = cluster.run("tail /dev/zero", memory="40MiB")
    assert view.exit_code == 137, view.reason
    assert "killed, most likely for memory: its limit is 40 MiB (MEMORY-EXCEEDED)" in view.reason


def test_a_command_that_an_image_lacks_is_told_by_name(cluster: Cluster) -> None:
    job = cluster.submit(entrypoint=["nosuchprogram"])
    assert cluster.ended(job).exit_code == 1
    assert "failed to exec pid1: No such file or directory" in cluster.output(job)[0]
    until(lambda: not cluster.docker.names())

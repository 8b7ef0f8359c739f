"""What is read of an image before it runs: little, whatever the image holds."""

import asyncio
from pathlib import Path

import pytest
from tests.docker_engine import IMAGE, DockerEngine, busybox

from quorate.agent.runtime import body
from quorate.agent.runtime.containers import ContainerError, Containers
from quorate.agent.runtime.policy import Allow, Policy
from quorate.model.messages import RoleSpec

pytestmark = pytest.mark.docker


def look(docker: DockerEngine, folder: Path, image: str) -> body.Image:
    containers = Containers(docker.engine, folder, {"quorate.folder": str(folder)}, Policy(Allow()), None)
    role = RoleSpec(image=image, pull="never")
    return asyncio.run(containers.image(role, "", lambda sentence: None))


def test_an_images_own_users_and_script_are_seen(docker: DockerEngine, tmp_path: Path) -> None:
    files = {"etc/passwd": b"me:x:7:7::/:/bin/sh\n", "etc/quorate/bootstrap": b"true\n"}
    docker.image("quorate-test/known:1", {**busybox(), **files})
    found = look(docker, tmp_path, "quorate-test/known:1")
    assert (found.passwd, found.ssh_config, found.bootstrap) == ("me:x:7:7::/:/bin/sh\n", "", True)
    assert not look(docker, tmp_path, IMAGE).bootstrap


@pytest.mark.parametrize("path", body.LOOKED_AT)
def test_a_file_that_would_fill_the_agent_is_refused_by_its_name(
    docker: DockerEngine, tmp_path: Path, path: str
) -> None:
    docker.image("quorate-test/huge:1", {**busybox(), path.removeprefix("/"): bytes((1 << 20) + 1)})
    with pytest.raises(ContainerError, match=f"{path} .* more than 1 MiB") as refused:
        look(docker, tmp_path, "quorate-test/huge:1")
    # The image's fault: no other machine would do better.
    assert refused.value.code == "START-FAILED"
    assert docker.engine.containers({"quorate.folder": str(tmp_path)}) == []

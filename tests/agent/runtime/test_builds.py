"""Images that a user builds: by command, or because a job says so; pushed, and then the same bytes everywhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.runtime.conftest import Cluster
from tests.cli.conftest import Quorate
from tests.docker_engine import IMAGE
from tests.registry import Registry, missing, registry

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if why := missing():
        pytest.skip(why)
    with registry(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture
def quorate(cluster: Cluster, tmp_path: Path) -> Quorate:
    """The command line of a user whose engine is the agent's too, in a folder with a project."""
    project = tmp_path / "My Train"
    project.mkdir()
    (project / "Dockerfile").write_text(f'FROM {IMAGE}\nCOPY said /said\nCMD ["cat", "/said"]\n')
    (project / "said").write_text("built here\n")
    return Quorate(
        tmp_path,
        {
            "DOCKER_HOST": f"unix://{cluster.docker.socket}",
            "QUORATE_MASTER": cluster.master.url,
            "QUORATE_TOKEN": cluster.master.token,
        },
    )


def test_a_job_builds_its_image_and_runs_it(quorate: Quorate) -> None:
    job = quorate.home / "job.yaml"
    job.write_text("image: {build: My Train}\nnetwork: {mode: host}\n")
    assert quorate("run", job).out == "built here\n"
    # What changes is built anew, under a name of its own.
    (quorate.home / "My Train" / "said").write_text("built again\n")
    assert quorate("run", job).out == "built again\n"


def test_a_job_pushes_its_image_and_names_it_by_digest(quorate: Quorate, cluster: Cluster, away: Registry) -> None:
    job = quorate.home / "job.yaml"
    job.write_text(
        f"image: {{build: My Train, push: '{away.host}/team/train:1', pull: always}}\nnetwork: {{mode: host}}\n"
    )
    done = quorate("run", "--detach", job)
    view = cluster.ended(done.out.strip())
    assert view.exit_code == 0, view.reason
    assert view.spec.image is not None
    assert view.spec.image.name.startswith(f"{away.host}/team/train@sha256:")
    assert cluster.output(view.id) == ["built here"]


def test_a_plan_builds_nothing(quorate: Quorate, cluster: Cluster) -> None:
    job = quorate.home / "job.yaml"
    job.write_text("image: {build: My Train}\nnetwork: {mode: host}\n")
    (quorate.home / "My Train" / "Dockerfile").write_text("FROM scratch\nRUN nothing that could work\n")
    assert quorate("run", "--plan", "--json", job).json["fits_now"] is True


def test_an_image_is_built_and_pushed_by_command(quorate: Quorate, away: Registry) -> None:
    name = f"{away.host}/team/made:1"
    done = quorate("image", "build", "My Train", "--tag", name, "--push")
    assert done.out.startswith(f"{away.host}/team/made@sha256:")
    assert quorate("image", "push", name, "--json").json == {"image": done.out.strip()}


def test_mistakes_are_told_without_a_trace(quorate: Quorate) -> None:
    assert "there is no folder nowhere" in quorate("image", "build", "nowhere", code=2).err
    assert "has no Dockerfile" in quorate("image", "build", ".", code=2).err
    assert "is not an image such as" in quorate("image", "push", "No Image", code=2).err
    assert "there is no nosuch here" in quorate("image", "push", "a:1", code=2, QUORATE_ENGINE="nosuch").err
    job = quorate.home / "job.yaml"
    job.write_text("image: {build: away}\n")
    assert "job.yaml:1:16: image.build: " in quorate("run", job, code=2).err
    (quorate.home / "My Train" / "Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    assert "failed: docker ended with" in quorate("image", "build", "My Train", code=1).err

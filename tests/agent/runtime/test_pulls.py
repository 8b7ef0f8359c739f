"""Images come from registries: with progress, with credentials, and with a clear no."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.docker_engine import IMAGE, DockerEngine, busybox
from tests.registry import PASSWORD, USER, Registry, missing, registry

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def away(docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that knows one user, and has an image that no engine has yet."""
    if why := missing():
        pytest.skip(why)
    with registry(tmp_path_factory.mktemp("registry"), closed=True) as served:
        served.login(served.folder / "docker")
        name = f"{served.host}/team/train:1"
        docker.image(name, {**busybox(), "ballast": bytes(range(256)) * 40_000})
        _docker(docker, served, "push", name)
        _docker(docker, served, "rmi", name)
        yield served


@pytest.fixture(scope="module")
def cluster(docker: DockerEngine, away: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its agent knows nobody at the registry."""
    nothing = {"runtime": {"socket": docker.socket, "docker_config": str(away.folder / "none.json")}}
    yield from serving(docker, tmp_path_factory.mktemp("cluster"), **nothing)


def _docker(docker: DockerEngine, served: Registry, *words: str) -> None:
    command = ["docker", "--config", str(served.folder / "docker"), "-H", f"unix://{docker.socket}", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _secret(served: Registry) -> dict[str, str]:
    entry = {"username": USER, "password": PASSWORD}
    return {"docker-config": json.dumps({"auths": {served.host: entry}})}


def test_a_registry_that_wants_to_know_who_asks_is_named_with_what_to_do(cluster: Cluster, away: Registry) -> None:
    view = cluster.run("true", image=f"{away.host}/team/train:1")
    assert "(IMAGE-PULL-DENIED)" in view.reason
    assert f"docker login {away.host}" in view.reason


def test_a_jobs_own_secret_opens_a_registry_and_no_member_sees_it(cluster: Cluster, away: Registry) -> None:
    job = cluster.submit(
        "ls $QUORATE_SECRETS", image=f"{away.host}/team/train:1", secrets={**_secret(away), "other": "kept"}
    )
    view = cluster.ended(job)
    assert view.exit_code == 0, view.reason
    assert cluster.output(job) == ["other"]
    log = [line.text for line in cluster.client.logs(job) if line.stream == "platform"]
    assert any(line.startswith(f"pulling {away.host}/team/train:1: ") for line in log)
    assert log[-1].startswith(f"pulled {away.host}/team/train:1 in ")


def test_an_image_that_a_jobs_secret_has_fetched_is_not_for_those_who_only_know_its_name(
    cluster: Cluster, away: Registry
) -> None:
    name = f"{away.host}/team/train:1"
    assert cluster.run("true", image=name, secrets=_secret(away)).exit_code == 0
    found = cluster.docker.engine.image(name)
    for other in (name, found["RepoDigests"][0]):
        assert "(IMAGE-PULL-DENIED)" in cluster.run("true", image=other).reason
    never = cluster.run("true", image={"name": name, "pull": "never"})
    assert "may have come to this machine with another job's secret, and pull: never" in never.reason
    assert cluster.run("true", image=name, secrets=_secret(away)).exit_code == 0


def test_an_images_id_is_no_name_whatever_it_looks_like(cluster: Cluster) -> None:
    """To an engine, the beginning of an id means any image of its machine; to the operator's file it is a name."""
    identity = cluster.docker.engine.image(IMAGE)["Id"].removeprefix("sha256:")
    for name in (identity[:12], f"sha256:{identity}"):
        view = cluster.run("true", image={"name": name, "pull": "never"})
        assert f"docker.io/library/{name}" in view.reason
        assert "(IMAGE-NOT-FOUND)" in view.reason


def test_the_tag_that_a_registry_lacks_is_named(cluster: Cluster, away: Registry) -> None:
    view = cluster.run("true", image=f"{away.host}/team/train:2", secrets=_secret(away))
    assert f"there is no image {away.host}/team/train:2" in view.reason
    assert "(IMAGE-NOT-FOUND)" in view.reason


def test_a_registry_that_is_not_there_is_the_platforms_failure(cluster: Cluster) -> None:
    view = cluster.run("true", image="127.0.0.1:9/team/train:1")
    assert "127.0.0.1:9/team/train:1 could not be pulled" in view.reason
    assert "(IMAGE-PULL-FAILED)" in view.reason
    assert view.exit_code == 125


def test_a_failed_pull_tells_of_the_proxy_that_the_engine_does_not_know(docker: DockerEngine, tmp_path: Path) -> None:
    settings = {"runtime": {"socket": docker.socket}, "proxy": {"url": "http://proxy.example.org:3128"}}
    for cluster in serving(docker, tmp_path, **settings):
        view = cluster.run("true", image="127.0.0.1:9/team/train:1")
        assert "could not be pulled" in view.reason
        assert "sudo quorate service install engine-proxy" in view.reason
        assert "(IMAGE-PULL-FAILED)" in view.reason


def test_an_agents_own_credentials_open_a_registry(docker: DockerEngine, away: Registry, tmp_path: Path) -> None:
    known = {"runtime": {"socket": docker.socket, "docker_config": str(away.folder / "docker" / "config.json")}}
    for cluster in serving(docker, tmp_path, **known):
        view = cluster.run("true", image={"name": f"{away.host}/team/train:1", "pull": "always"})
        assert view.exit_code == 0, view.reason


def test_an_image_that_is_cancelled_while_it_comes_leaves_nothing_waiting(cluster: Cluster, away: Registry) -> None:
    job = cluster.submit("sleep 100", image={"name": f"{away.host}/team/train:1", "pull": "always"},
                         secrets=_secret(away))  # fmt: skip
    cluster.client.cancel(job)
    assert cluster.ended(job).state.value == "cancelled"
    until(lambda: not cluster.docker.names())

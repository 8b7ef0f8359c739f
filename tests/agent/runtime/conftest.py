"""A Docker engine, and a cluster of one agent whose members may have images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.agent.conftest import Agent, new_agent, until
from tests.docker_engine import IMAGE, DockerEngine, docker_engine, missing
from tests.master.serving import MasterProcess

from quorate.client.api import Client
from quorate.client.settings import Settings
from quorate.model.job import JobSpec
from quorate.model.state import JobState
from quorate.model.views import JobDetail


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerEngine]:
    if why := missing():
        pytest.skip(why)
    with docker_engine() as engine:
        yield engine


@dataclass
class Cluster:
    """A master and one agent; its jobs are described by the keys of a job file."""

    master: MasterProcess
    client: Client
    agent: Agent
    docker: DockerEngine

    def submit(self, script: str | None = None, **spec: Any) -> str:
        fields = {"image": IMAGE, "network": {"mode": "host"}, "grace": 3.0} | spec
        if script is not None:
            fields["entrypoint"] = script
        return self.client.submit(JobSpec(**fields)).id

    def run(self, script: str | None = None, **spec: Any) -> JobDetail:
        """The job at its end."""
        return self.ended(self.submit(script, **spec))

    def ended(self, job: str) -> JobDetail:
        # Podman tries a registry that does not answer again by itself, for some 20 s.
        until(lambda: self.client.job(job).state.final, 60.0)
        return self.client.job(job)

    def until_running(self, job: str) -> str:
        """The id of the job's first member."""
        until(lambda: self.client.job(job).state is JobState.RUNNING or self.client.job(job).state.final)
        view = self.client.job(job)
        assert view.state is JobState.RUNNING, view.reason
        return view.members[0].id

    def output(self, job: str) -> list[str]:
        """What its members have printed."""
        return [line.text for line in self.client.logs(job) if line.stream != "platform"]


def serving(docker: DockerEngine, folder: Any, **settings: Any) -> Iterator[Cluster]:
    master = MasterProcess(folder / "master", timers={"heartbeat_s": 0.5}).start()
    agent = new_agent()
    agent.settings = {
        "members_as": "users", "slots": 8, "sandboxes": False, "runtime": {"socket": docker.socket}, **settings,
    }  # fmt: skip
    try:
        with Client(Settings(master.url, master.token)) as client:
            agent.join(master.url, client.create_token(kind="join", pool="default").token)
            until(lambda: [a for a in client.agents() if a.state == "ready"])
            yield Cluster(master, client, agent, docker)
    finally:
        agent.remove()
        master.kill()


@pytest.fixture(scope="module")
def cluster(docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serving(docker, tmp_path_factory.mktemp("cluster"))

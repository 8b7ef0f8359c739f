"""What is written for the engine's service makes a real engine go outside by the agent's proxy."""

import shlex

import pytest
from tests.docker_engine import docker_engine, missing

from quorate.agent.runtime.containers import detour
from quorate.agent.runtime.engineproxy import drop_in

pytestmark = pytest.mark.docker

PROXY = "http://proxy.example.org:3128"


def test_an_engine_that_was_started_with_it_goes_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    if why := missing():
        pytest.skip(why)
    for line in drop_in(PROXY, ("registry.local",)).splitlines():
        if line.startswith("Environment="):
            (assignment,) = shlex.split(line.removeprefix("Environment="))
            monkeypatch.setenv(*assignment.split("=", 1))
    with docker_engine() as docker:
        assert docker.engine.info()["NoProxy"].endswith(",registry.local")
        assert detour(docker.engine, PROXY) is None
        assert detour(docker.engine, "http://another.example.org:3128") is not None

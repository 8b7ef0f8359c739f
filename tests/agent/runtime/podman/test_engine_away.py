"""Podman's service may be restarted under members that run: their containers are no processes of its own."""

from collections.abc import Iterator

import pytest
from tests.agent.runtime.test_engine_away import *  # noqa: F403
from tests.podman_engine import PodmanEngine, missing, podman_engine


@pytest.fixture
def own_docker() -> Iterator[PodmanEngine]:
    if why := missing():
        pytest.skip(why)
    with podman_engine() as engine:
        yield engine

"""Pause containers of Podman's."""

from collections.abc import Iterator

import pytest
from tests.agent.runtime.test_pause import (
    containers,
    pytestmark,
    test_a_member_that_is_cancelled_while_its_own_is_made_leaves_none,
    test_it_is_the_same_one_each_time_and_has_a_namespace_without_a_way_out,
    test_nothing_of_its_image_runs_whoever_has_given_that_its_name,
    test_one_that_has_died_is_made_anew,
)
from tests.docker_engine import busybox
from tests.podman_engine import PodmanEngine

__all__ = [
    "containers",
    "pytestmark",
    "test_a_member_that_is_cancelled_while_its_own_is_made_leaves_none",
    "test_it_is_the_same_one_each_time_and_has_a_namespace_without_a_way_out",
    "test_nothing_of_its_image_runs_whoever_has_given_that_its_name",
    "test_one_that_has_died_is_made_anew",
]


@pytest.fixture
def another_image_of_its_name(docker: PodmanEngine) -> Iterator[None]:
    """As with Docker, but for a health check, which Podman does not take into an image of a file system."""
    docker.image("quorate/pause:1", busybox(), ['ENTRYPOINT ["sh", "-c", "sleep 1000"]', "VOLUME /quorate"])
    yield
    docker.engine._do("DELETE", "/images/quorate/pause:1?force=1")

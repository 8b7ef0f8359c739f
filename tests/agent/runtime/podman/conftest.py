"""Podman in Docker's place: what holds of containers of the one holds of the other's, by its compatible socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.podman_engine import PodmanEngine, missing, podman_engine


@pytest.fixture(scope="session")
def docker() -> Iterator[PodmanEngine]:
    """So the tests call it, of whichever kind it is."""
    if why := missing():
        pytest.skip(why)
    with podman_engine() as engine:
        yield engine

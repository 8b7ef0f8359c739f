"""Fixtures: one master for the tests of a module, or one for a single test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .serving import MasterProcess, running


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A master that the tests of one module share: none of them may stop it."""
    with running(tmp_path_factory.mktemp("master") / "state") as process:
        yield process


@pytest.fixture
def own_master(tmp_path: Path) -> Iterator[MasterProcess]:
    """A master for one test alone."""
    with running(tmp_path / "state") as process:
        yield process

"""Fixtures: one master for the tests of a module, one for a single test, and a small disk."""

import subprocess
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "quorate-test", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)

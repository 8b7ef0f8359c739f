"""Hosts for the sandbox tests, taken down also when a test fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.hosts import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Two hosts and a neighbour on one wire."""
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nftables and iproute2")
    made = Lab(tmp_path / "lab")
    try:
        made.open(2)
        yield made
    finally:
        made.close()

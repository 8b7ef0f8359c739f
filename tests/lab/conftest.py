"""Labs for tests: taken down also when a test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.lab.hosts import Lab, a_lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab: what is in it, the test says."""
    with a_lab() as made:
        yield made

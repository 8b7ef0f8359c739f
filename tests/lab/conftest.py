"""Labs for tests: taken down also when a test fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.hosts import Lab

NEEDED = ("nft", "ip", "bridge", "nsenter", "unshare", "setpriv", "sysctl")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Nothing but the folder for it: what is in it, the test says."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces and firewalls, and needs root for that: sudo .venv/bin/pytest tests/lab")
    if missing := [program for program in NEEDED if not shutil.which(program)]:
        pytest.skip(f"the lab needs {', '.join(missing)}: apt install --no-install-recommends iproute2 nftables procps")
    # Not pytest's own folder, which nobody else may enter.
    made = Lab(Path(tempfile.mkdtemp(prefix="quorate-lab-")))
    made.folder.chmod(0o755)
    try:
        yield made
    finally:
        made.close()

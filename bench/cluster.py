"""A local cluster for a benchmark: started in a directory of its own, stopped and removed at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.client.api import Client
from quorate.client.settings import resolve

QUORATE = [sys.executable, "-m", "quorate"]


@contextmanager
def cluster(agents: int = 2, slots: int = 8) -> Iterator[Client]:
    """Yields a client of a running cluster."""
    # Whoever ends the benchmark leaves no cluster behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    # The settings of whoever runs the benchmark are left alone.
    os.environ["XDG_CONFIG_HOME"] = str(directory / "config")
    state = ["--dir", str(directory / "state")]
    try:
        up = [*QUORATE, "up", "--agents", str(agents), "--slots", str(slots), *state]
        subprocess.run(up, check=True, capture_output=True)
        with Client(resolve()) as client:
            yield client
    finally:
        subprocess.run([*QUORATE, "down", "--purge", *state], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)

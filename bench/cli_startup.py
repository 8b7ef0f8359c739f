"""How long the command line takes to say something: `quorate --help`, and `quorate job list` against a local master."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

HOW = (
    "Wall milliseconds from starting the process to its end, the commands in turn; `job list` talks to a master with "
    "one agent that `quorate up` started on this machine and that has {jobs} jobs. The bare interpreter stands beside."
)


def quorate(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user would; raises if it fails."""
    return subprocess.run(
        [sys.executable, "-m", "quorate", *arguments],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--jobs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quorate-bench-") as folder:
        place = {"XDG_CONFIG_HOME": folder, "XDG_STATE_HOME": folder}
        state = str(Path(folder) / "cluster")
        quorate("up", "--agents", "1", "--dir", state, **place)
        try:
            for _ in range(options.jobs):
                quorate("run", "--detach", "--slots", "0", "--", "true", **place)
            samples = harness.in_turn(
                options.runs,
                python=lambda: harness.timed(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
                help=lambda: harness.timed(lambda: quorate("--help", **place)),
                job_list=lambda: harness.timed(lambda: quorate("job", "list", **place)),
            )
        finally:
            quorate("down", "--purge", "--dir", state, **place)
    figures = {f"{name}_ms": harness.summary(values, 1) for name, values in samples.items()}
    figures["reach"] = {"help_ms": 150, "job_list_ms": 300}
    harness.write("cli_startup", figures, how=HOW.format(jobs=options.jobs))


if __name__ == "__main__":
    main()

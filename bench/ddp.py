"""Training steps per second under Quorate and under bare torchrun: two members of one process each (training.py).

Both run on this machine over loopback, with the same number of threads, one after the other in turn.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import cluster
from harness import in_turn, summary, write

from quorate.client.api import Client
from quorate.client.context import packed
from quorate.model.job import JobSpec, Launcher, Resources
from quorate.model.state import JobState

SCRIPT = Path(__file__).with_name("training.py")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
HOW = (
    "Steps per second of {steps} steps of the demo's model on its data (gloo over loopback, OMP_NUM_THREADS=1), by the "
    "script's own clock, between two barriers. Sides in turn; `ratio` is over the pairs."
)


def rate(output: str) -> float:
    """Steps per second by the script's own words."""
    found = re.search(r"steps per second: ([\d.]+)", output)
    if found is None:
        raise SystemExit(f"the training did not say how fast it was:\n{output}")
    return float(found[1])


def under_quorate(client: Client, steps: int, context: str) -> float:
    spec = JobSpec(
        entrypoint=("python", SCRIPT.name, str(steps)),
        launcher=Launcher.TORCH,
        resources=Resources(nodes=2),
        environment=ENVIRONMENT,
        context=context,
    )
    job = client.submit(spec)
    lines = "".join(line.text + line.end for line in client.logs(job.id, follow=True))
    ended = client.wait(job.id)
    if ended.state is not JobState.COMPLETED:
        raise SystemExit(f"job {job.id} is {ended.state}: {ended.reason}")
    return rate(lines)


def under_torchrun(steps: int) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.11", 0))
        port = str(free.getsockname()[1])
    members = [
        subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
                "--node-rank", str(rank), "--master-addr", "127.0.0.11", "--master-port", port,
                str(SCRIPT), str(steps),
            ],
            env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    output = [member.communicate()[0] for member in members]
    if any(member.returncode for member in members):
        raise SystemExit("\n".join(output))
    return rate(output[0])


def main() -> None:
    """Measures and writes bench/results/ddp.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--steps", type=int, default=3000)
    options = arguments.parse_args()
    with cluster(agents=2, slots=1) as client, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        with packed(Path(folder)) as context:
            client.upload(context)
            digest = context.sha256
        samples = in_turn(
            options.runs,
            quorate=lambda: under_quorate(client, options.steps, digest),
            torchrun=lambda: under_torchrun(options.steps),
        )
    pairs = [ours / theirs for ours, theirs in zip(samples["quorate"], samples["torchrun"], strict=True)]
    figures = {f"{side}_steps_per_s": summary(rates, 1) for side, rates in samples.items()}
    figures["ratio"] = summary(pairs)
    figures["reach"] = {"ratio": 0.98}
    write("ddp", figures, how=HOW.format(steps=options.steps))


if __name__ == "__main__":
    main()

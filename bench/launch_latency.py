"""From submit to done: a job of two members that run `true` on two agents, beside `srun -N2 true`.

The job goes through the HTTP API; done means that the master has committed both exit codes. Slurm is left out, with a
word about it, where it is not installed.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from cluster import cluster
from harness import in_turn, summary, timed, write
from peers.slurm import SlurmUnavailable, slurm

from quorate.client.api import Client
from quorate.model.job import JobSpec, Resources
from quorate.model.state import JobState


def run_true(client: Client, nodes: int) -> None:
    """Submits `true` on so many members and returns when the job is done."""
    job = client.submit(JobSpec(entrypoint=("true",), resources=Resources(nodes=nodes)))
    done = client.wait(job.id)
    if done.state is not JobState.COMPLETED:
        raise SystemExit(f"job {job.id} is {done.state}: {done.reason}")


def main() -> None:
    """Measures and writes bench/results/launch_latency.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=30)
    runs = arguments.parse_args().runs
    with ExitStack() as stack:
        client = stack.enter_context(cluster(agents=2, slots=8))
        sides = {
            "quorate_1_member_ms": lambda: timed(lambda: run_true(client, 1)),
            "quorate_2_members_ms": lambda: timed(lambda: run_true(client, 2)),
        }
        try:
            peer = stack.enter_context(slurm())
            sides["srun_1_node_ms"] = lambda: timed(lambda: peer.srun(1))
            sides["srun_2_nodes_ms"] = lambda: timed(lambda: peer.srun(2))
        except SlurmUnavailable as error:
            print(f"Slurm is not beside us: {error}", file=sys.stderr)
        for side in sides.values():
            side()
        figures = {name: summary(samples, 1) for name, samples in in_turn(runs, **sides).items()}
    write(
        "launch_latency",
        figures,
        how="wall milliseconds from submit to the answer that the job is done; sides in turn, one warm-up each",
    )


if __name__ == "__main__":
    main()

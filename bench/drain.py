"""Jobs drained per second: 200 jobs of one member that runs `true`, two agents of eight slots, beside Slurm's sbatch.

Logs and durable exit codes are on, as always. The clock runs from the first submit to the last end.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from cluster import cluster
from harness import in_turn, summary, write
from peers.slurm import Slurm, SlurmUnavailable, slurm

from quorate.client.api import Client
from quorate.model.job import JobSpec
from quorate.model.state import JobState

JOBS = 200
SPEC = JobSpec(entrypoint=("true",))


def drain(client: Client) -> float:
    """Jobs per second; submitted by four threads, as several users would."""
    start = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: client.submit(SPEC).id, range(JOBS)))
        ended = list(pool.map(client.wait, jobs))
    rate = JOBS / (time.perf_counter() - start)
    bad = [job for job in ended if job.state is not JobState.COMPLETED]
    if bad:
        raise SystemExit(f"{len(bad)} jobs did not complete, the first: {bad[0].id}: {bad[0].reason}")
    return rate


def drain_slurm(peer: Slurm) -> float:
    """Jobs per second of Slurm."""
    start = time.perf_counter()
    for _ in range(JOBS):
        peer.sbatch()
    while not peer.drained():
        time.sleep(0.02)
    return JOBS / (time.perf_counter() - start)


def main() -> None:
    """Measures and writes bench/results/drain.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=15)
    runs = arguments.parse_args().runs
    with ExitStack() as stack:
        client = stack.enter_context(cluster(agents=2, slots=8))
        sides = {"quorate_jobs_per_s": lambda: drain(client)}
        try:
            peer = stack.enter_context(slurm())
            sides["slurm_jobs_per_s"] = lambda: drain_slurm(peer)
        except SlurmUnavailable as error:
            print(f"Slurm is not beside us: {error}", file=sys.stderr)
        figures = {name: summary(samples, 1) for name, samples in in_turn(runs, **sides).items()}
    write("drain", figures, how=f"{JOBS} one-member jobs that run `true`; sides in turn")


if __name__ == "__main__":
    main()

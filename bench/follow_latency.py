"""How soon a follower has a line that a member writes: over the API's stream, and by `quorate job logs -f` itself."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
from cluster import QUORATE, cluster
from harness import progress, summary, write

from quorate.client.api import Client
from quorate.model.job import JobSpec
from quorate.model.state import JobState

FAST, SLOW = "fast", "after_1s"
HOW = (
    "A member writes lines that carry its own reading of the machine's monotonic clock: {lines} after pauses of 0 to "
    "50 ms, evenly at random, and {slow} after a second of silence each. Two followers of the same job, at the same "
    "time, read the clock when they have the whole line: one reads the API's stream, the other the output of `quorate "
    "job logs -f` through a pipe. Both have shown a first line before the member begins. Each run is a job of its own "
    "on a cluster of one agent; of each run the median, the 95th of a hundred lines, and the slowest are taken. _max_: "
    "over all lines of all runs."
)
#: The member: waits until both followers are there, then writes. Its pauses are those of the seed.
WRITER = """
import os, random, sys, time
go, seed, lines, slow = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
pauses = random.Random(seed)
plan = [("fast", pauses.uniform(0, 0.05)) for _ in range(lines)] + [("after_1s", 1.0)] * slow
pauses.shuffle(plan)
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.01)
for kind, pause in plan:
    time.sleep(pause)
    print(kind, time.monotonic_ns(), flush=True)
"""


class Follower(threading.Thread):
    """Reads whole lines from somewhere and notes how old each is by the machine's clock, in milliseconds."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self.lines = lines
        self.is_there = threading.Event()
        self.ages: dict[str, list[float]] = {FAST: [], SLOW: []}

    def run(self) -> None:
        """Until the job has ended."""
        for line in self.lines:
            now = time.monotonic_ns()
            kind, _, written = line.strip().partition(" ")
            if kind == "ready":
                self.is_there.set()
            elif kind in self.ages:
                self.ages[kind].append((now - int(written)) / 1e6)


def over_the_api(client: Client, job: str) -> Iterable[str]:
    """The text of each line of the stream, as it comes."""
    headers = {"Authorization": f"Bearer {client.settings.token}"}
    url = f"{client.settings.master}/api/v1/jobs/{job}/logs"
    with httpx.stream("GET", url, params={"follow": "true"}, headers=headers, timeout=60, trust_env=False) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line:
                yield json.loads(line)["text"]


def by_the_command(job: str) -> Iterable[str]:
    """What `quorate job logs -f` prints, as it comes."""
    with subprocess.Popen([*QUORATE, "job", "logs", "-f", job], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        yield from command.stdout


def one_run(client: Client, folder: Path, seed: int, lines: int, slow: int) -> dict[str, Follower]:
    """One job with its two followers, when all of them have ended."""
    go = folder / f"go{seed}"
    words = ("python", "-c", WRITER, str(go), str(seed), str(lines), str(slow))
    job = client.submit(JobSpec(entrypoint=words)).id
    followers = {"api": Follower(over_the_api(client, job)), "command": Follower(by_the_command(job))}
    for follower in followers.values():
        follower.start()
    if not all(follower.is_there.wait(30) for follower in followers.values()):
        raise SystemExit(f"the followers did not come; job: {client.job(job)}")
    go.touch()
    ended = client.job(job)
    while not ended.state.final:
        ended = client.wait(job)
    for name, follower in followers.items():
        follower.join(30)
        got = len(follower.ages[FAST]), len(follower.ages[SLOW])
        if ended.state is not JobState.COMPLETED or got != (lines, slow):
            raise SystemExit(f"{name} has {got} of {(lines, slow)} lines; job {ended.state}: {ended.reason}")
    return followers


def main() -> None:
    """Measures and writes bench/results/follow_latency.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--lines", type=int, default=200)
    arguments.add_argument("--slow", type=int, default=5)
    options = arguments.parse_args()
    seeds = random.Random(1)
    with cluster(agents=1, slots=1) as client, tempfile.TemporaryDirectory() as folder:
        runs = []
        for run in range(options.runs):
            progress(f"{run + 1}/{options.runs}")
            runs.append(one_run(client, Path(folder), seeds.getrandbits(30), options.lines, options.slow))
    figures: dict[str, object] = {}
    for name in ("api", "command"):
        for kind in (FAST, SLOW):
            ages = [sorted(run[name].ages[kind]) for run in runs]
            what = name if kind == FAST else f"{name}_{kind}"
            figures[f"{what}_median_ms"] = summary([one[len(one) // 2] for one in ages], 1)
            if kind == FAST:
                figures[f"{what}_95_ms"] = summary([one[(len(one) * 95 - 1) // 100] for one in ages], 1)
            figures[f"{what}_slowest_ms"] = summary([one[-1] for one in ages], 1)
            figures[f"{what}_max_ms"] = round(max(one[-1] for one in ages), 1)
    figures["reach"] = {"max_ms": 300}
    progress("")
    write("follow_latency", figures, how=HOW.format(lines=options.lines, slow=options.slow))


if __name__ == "__main__":
    main()

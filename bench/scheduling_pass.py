"""Measures one scheduling pass: `python bench/scheduling_pass.py` prints a table and writes the figures.

Every pass decides from nothing but its view: it files the agents, sorts the line and places what fits, in one thread
of CPython, with the garbage collector as it is by default. Two clusters: on a *half-full* one agents have some of their
slots free, so thousands of members are placed before the line's head begins to hold agents; on a *full* one nothing
fits, as in most passes of a busy cluster. The mix of gangs: 60 % of one member, 25 % of 2 to 4, 12 % of 5 to 16, 3 % of
17 to 64; 1 to 8 slots each; three priorities; spread, pack, single and elastic; one in ten asks for a label; half of
them have a limit on their running time. The queue is in order of submission, as a master keeps it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import harness

from quorate.model.job import Placement
from quorate.scheduling import AgentView, PoolPolicy, Request, Running, View, decide, labels_of

SLOTS = 8
POLICIES = {"default": PoolPolicy(reserve_after_s=300)}
RESULTS = Path(__file__).parent / "results" / "scheduling_pass.json"
NODES = ((1, 1), (2, 4), (5, 16), (17, 64))


def view_of(agents: int, jobs: int, *, full: bool, seed: int) -> View:
    """A cluster of one pool; the same arguments give the same view."""
    rng = random.Random(seed)
    kinds = [
        labels_of(labels) for labels in ({"gpu": "a100", "zone": "1"}, {"gpu": "h100", "zone": "1"}, {"zone": "2"})
    ]
    fleet = []
    running = []
    for number in range(agents):
        used = SLOTS if full else rng.choice((0, 2, 3, 4, 5, 6, 8))
        name = f"agent-{number:05}"
        fleet.append(AgentView(id=name, pool="default", total=SLOTS, free=SLOTS - used, labels=rng.choice(kinds)))
        if used:
            ends = rng.choice((None, rng.uniform(1100, 9000)))
            running.append(Running(job=f"run-{number}", uses=((name, used),), ends_by_s=ends))
    queue = [request_of(rng, seq, jobs) for seq in range(jobs)]
    return View(now_s=1000, agents=tuple(fleet), queue=tuple(queue), running=tuple(running))


def request_of(rng: random.Random, seq: int, jobs: int) -> Request:
    """One job of the mix; the first in the queue has waited longest."""
    nodes = rng.randint(*rng.choices(NODES, weights=(60, 25, 12, 3))[0])
    slots = rng.choice((1, 1, 1, 2, 4, 8))
    placement = rng.choices((Placement.SPREAD, Placement.PACK, Placement.SINGLE), weights=(70, 20, 10))[0]
    if placement is Placement.SINGLE and nodes * slots > SLOTS:
        placement = Placement.SPREAD
    return Request(
        job=f"job-{seq:06}",
        pool="default",
        nodes=nodes,
        min_nodes=max(1, nodes // 2) if rng.random() < 0.1 else None,
        slots=slots,
        placement=placement,
        labels=labels_of({"gpu": rng.choice(("a100", "h100"))}) if rng.random() < 0.1 else frozenset(),
        priority=rng.choice((40, 50, 50, 50, 60)),
        seq=seq,
        queued_at_s=1000.0 * seq / jobs,
        max_runtime_s=rng.choice((None, float(rng.randint(1, 100) * 60))),
    )


def measure(agents: int, jobs: int, *, full: bool, runs: int) -> dict[str, Any]:
    """Times whole passes, each on a view of its own seed that was built outside the measured time."""
    times = []
    for seed in range(runs + 1):
        view = view_of(agents, jobs, full=full, seed=seed)
        begun = time.perf_counter()
        decisions = decide(view, POLICIES)
        times.append((time.perf_counter() - begun) * 1000)
    # The first pass warms the caches.
    times = sorted(times[1:])
    left_out = harness.outer(runs)
    median = statistics.median(times)
    return {
        "agents": agents,
        "queued_jobs": jobs,
        "cluster": "full" if full else "half-full",
        "runs": runs,
        "median_ms": round(median, 2),
        "interval_95_ms": None if left_out is None else [round(times[at], 2) for at in (left_out, -1 - left_out)],
        "slowest_ms": round(times[-1], 2),
        "last_run": {
            "placed_jobs": len(decisions.placements),
            "placed_members": sum(placed.nodes for placed in decisions.placements),
            "held_agents": sum(len(held.agents) for held in decisions.reservations),
        },
    }


def circumstances(runs: int) -> dict[str, Any]:
    """How the figures were taken."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return {
        "measures": "quorate.scheduling.decide: one whole pass from a view, one thread",
        "command": " ".join(["python", "bench/scheduling_pass.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "cpu": next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine()),
            "cores": os.cpu_count(),
            "load_1m_at_the_end": round(os.getloadavg()[0], 1),
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "runs_per_row": runs,
        "statistic": "median and its distribution-free 95 % interval; each run on a new view, the first not counted",
    }


def main() -> None:
    """Measures, prints, writes. A curve that bends upwards would show in a rising price of each agent added."""
    parser = argparse.ArgumentParser(description="Measures one scheduling pass.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--no-write", action="store_true", help="leave the committed figures alone")
    options = parser.parse_args()
    sizes = (100, 300, 1000, 3000, 10_000)
    series = {
        "half-full, 10,000 queued": [(agents, 10_000, False) for agents in sizes],
        "full, 10,000 queued": [(agents, 10_000, True) for agents in sizes],
        "half-full, 10 queued for each agent": [(agents, 10 * agents, False) for agents in sizes],
    }
    results: dict[str, list[dict[str, Any]]] = {}
    for title, cases in series.items():
        print(
            f"{title}\n{'agents':>8} {'queued':>8} {'median ms':>10} {'95 % interval':>19} {'µs per agent added':>19}"
        )
        rows = results[title] = []
        for agents, jobs, full in cases:
            row = measure(agents, jobs, full=full, runs=options.runs)
            if rows:
                added = row["median_ms"] - rows[-1]["median_ms"]
                row["us_per_agent_added"] = round(1000 * added / (agents - rows[-1]["agents"]), 2)
            rows.append(row)
            within = " – ".join(f"{end:.2f}" for end in row["interval_95_ms"] or ())
            slope = row.get("us_per_agent_added", "")
            print(f"{agents:8} {jobs:8} {row['median_ms']:10.2f} {within:>19} {slope:>19}", flush=True)
    if not options.no_write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**circumstances(options.runs), "series": results}, indent=2) + "\n")
        print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()

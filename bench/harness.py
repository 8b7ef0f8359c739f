"""What all benchmarks share: medians with their intervals, pairs taken in turn, and results as committed JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# An installed command has its bytecode; where the environment forbids to write it, each start would compile all of it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def summary(samples: list[float], digits: int = 3) -> dict[str, Any]:
    """Median, the interval that holds it with at least 95 %, and the extremes."""
    ordered = sorted(samples)
    rank = outer(len(ordered))
    return {
        "median": round(statistics.median(ordered), digits),
        "interval95": None if rank is None else [round(ordered[rank], digits), round(ordered[-1 - rank], digits)],
        "min": round(ordered[0], digits),
        "max": round(ordered[-1], digits),
        "runs": len(ordered),
    }


def outer(count: int) -> int | None:
    """How many samples to leave out on each side so that what remains encloses the median with at least 95 %, whatever
    the distribution: each sample lies above it or below it like a tossed coin. None where even all are too few (5)."""
    outside, rank = 0.0, -1
    while (outside := outside + 2 * math.comb(count, rank + 1) * 0.5**count) <= 0.05:
        rank += 1
    return rank if rank >= 0 else None


def in_turn(runs: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Takes one sample of each side in turn, `runs` times: what drifts on the machine drifts for all of them.

    The order is turned round every time, so that no side always runs after the same other one.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for run in range(runs):
        for name in names if run % 2 == 0 else reversed(names):
            samples[name].append(sides[name]())
        progress(f"{run + 1}/{runs}")
    progress("")
    return samples


def timed(action: Callable[[], object]) -> float:
    """Wall milliseconds of one call."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def progress(text: str) -> None:
    """One line on a terminal, overwritten; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m_at_the_end": round(os.getloadavg()[0], 1),
    }


def commit() -> str:
    """The commit that was measured, with a + where the tree was changed."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=True, cwd=RESULTS.parent
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(name: str, figures: dict[str, Any], *, how: str) -> Path:
    """Writes bench/results/NAME.json and prints it; `how` says in words how the figures were taken."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    result = {
        "benchmark": name,
        "command": f"python bench/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip(),
        "taken": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "how": how,
        "figures": figures,
    }
    text = json.dumps(result, indent=2) + "\n"
    path.write_text(text)
    print(text, end="")
    return path

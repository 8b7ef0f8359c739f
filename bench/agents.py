"""What 5,000 agents cost one master: its share of a core, its memory, and how soon all are back after its restart.

The master is the real process. The agents share a process beside it (bench/fleet.py): each has a key and two links of
its own, and runs the shipped core and codec; they get no work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from harness import progress, summary, write
from onemaster import Master, one_master

HOW = (
    "CPU: user and system time of the master's process (/proc) over windows of one heartbeat interval each, one after "
    "the other, while nothing but heartbeats goes on. Memory: the master's resident set with all agents connected less "
    "the one with none, per agent. Back: the master is killed (SIGKILL) and started at once; from the kill, and from "
    "its first readiness, until the last agent is welcome again."
)
HEARTBEAT_S = 10.0
#: Far beyond what is to be reached: a fleet that is not back by then is a failure, not a figure.
PATIENCE_S = 300.0


class FleetProcess:
    """The agents' process; `wait_for` returns when something is so."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, what: str) -> float:
        """The moment (CLOCK_MONOTONIC) at which the fleet said so."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if said["is"] == what:
                return float(said["at"])
        raise SystemExit(f"the fleet ended before it was {what!r}")


@contextmanager
def fleet(master: Master, size: int) -> Iterator[FleetProcess]:
    """So many agents of this master; they join first."""
    with master.client() as client:
        token = client.create_token(kind="join", pool="default", uses=size).token
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fleet.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"url": master.url, "token": token, "agents": size}) + "\n")
        process.stdin.flush()
        yield FleetProcess(process)
    finally:
        process.kill()
        process.wait()


def cpu_share(pid: int, seconds: float) -> float:
    """Percent of one core over the next `seconds`."""
    process = psutil.Process(pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)


def resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def main() -> None:
    """Measures and writes bench/results/agents.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=5000)
    arguments.add_argument("--windows", type=int, default=15)
    arguments.add_argument("--restarts", type=int, default=6)
    options = arguments.parse_args()
    figures: dict[str, Any] = {"agents": options.agents}
    with one_master() as master:
        empty = resident(master.pid)
        began = time.monotonic()
        with fleet(master, options.agents) as agents:
            joined = agents.wait_for("joined")
            figures["joined_s"] = round(joined - began, 1)
            figures["first_connected_s"] = round(agents.wait_for("all") - joined, 1)
            figures["memory_per_agent_kib"] = round((resident(master.pid) - empty) / options.agents / 1024, 1)
            shares = []
            for window in range(options.windows):
                progress(f"window {window + 1}/{options.windows}")
                shares.append(cpu_share(master.pid, HEARTBEAT_S))
            figures["master_cpu_percent_of_one_core"] = summary(shares, 1)
            since_kill, since_ready = [], []
            for restart in range(options.restarts):
                progress(f"restart {restart + 1}/{options.restarts}")
                killed = time.monotonic()
                master.kill()
                master.start()
                ready = time.monotonic()
                back = agents.wait_for("all")
                since_kill.append(back - killed)
                since_ready.append(back - ready)
            progress("")
            if since_kill:
                figures["all_back_s_after_the_kill"] = summary(since_kill, 1)
                figures["all_back_s_after_the_start"] = summary(since_ready, 1)
    figures["reach"] = {"master_cpu_percent_of_one_core": 50, "all_back_s_after_the_kill": 30}
    write("agents", figures, how=HOW)


if __name__ == "__main__":
    main()

"""How many members an agent starts in a second: processes on the host's network, in a sandbox each, and in containers.

    python bench/members.py            as root, with Docker; prints, and writes bench/results/members.json

A real master and a root agent on hosts of the lab (tests/lab), with their firewalls; a gang of 16 members, all on one
agent, that wait. From the placement, as the master saw it, until it had heard of the last member that it runs: the
preflight between them and their rendezvous are part of it. The three kinds are taken in turn.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import harness

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.lab import dockers
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import a_lab

MEMBERS = 16
ROUNDS = 9
KINDS: dict[str, dict[str, Any]] = {
    "processes": {"network": {"mode": "host"}},
    "sandboxed": {"network": {"mode": "bridge"}},
    "containers": {
        "network": {"mode": "bridge"},
        "image": {"name": dockers.IMAGE, "pull": "never"},
        "mounts": dockers.MOUNTS,
    },
}


def main() -> None:
    with a_lab() as lab, running(lab, "h1", settings={"slots": MEMBERS}, docker=True) as cluster:
        for spec in KINDS.values():
            started(cluster, spec)
        sides = {kind: functools.partial(started, cluster, spec) for kind, spec in KINDS.items()}
        taken = harness.in_turn(ROUNDS, **sides)
    figures = {f"{kind}_per_s": harness.summary(values, 1) for kind, values in taken.items()}
    harness.write("members", figures, how=" ".join((__doc__ or "").split()))


def started(cluster: LabCluster, spec: dict[str, Any]) -> float:
    """Members per second of one gang."""
    work = cluster.submit("/bin/sleep", "1000", nodes=MEMBERS, placement="single", **spec)
    job = work.until_running()
    cluster.client.cancel(work.id)
    work.ended()
    assert job.starting, work.told()
    return MEMBERS / job.starting


if __name__ == "__main__":
    main()

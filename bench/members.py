"""How many members an agent starts in a second: processes on the host's network, in a sandbox each, and in containers.

    python bench/members.py            as root, with Docker; prints, and writes bench/results/members.json

A real master and a root agent on hosts of the lab (tests/lab), with their firewalls; a gang of 16 members, all on one
agent, that wait. From the placement, as the master saw it, until it had heard of the last member that it runs: the
preflight between them and their rendezvous are part of it. Beside them stand as many containers of the same image on a
network of their own, made by Docker's own command, all at once: no names, no rules, nothing proven. All kinds are taken
in turn.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import Any

import harness

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.lab import dockers
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import Host, a_lab

MEMBERS = 16
ROUNDS = 15
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
        sides["docker_run"] = functools.partial(by_hand, lab["h1"])
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


def by_hand(host: Host) -> float:
    """Containers per second that Docker's command starts on a network that it has just made."""
    mounts = " ".join(f"-v {mount['source']}:{mount['target']}:ro" for mount in dockers.MOUNTS)
    one = f"docker run -d --network by-hand {mounts} --name by-hand-{{}} {dockers.IMAGE} /bin/sleep 1000"
    began = time.perf_counter()
    host.run("docker", "network", "create", "by-hand")
    host.run("sh", "-c", f"seq {MEMBERS} | xargs -P {MEMBERS} -I {{}} {one}")
    took = time.perf_counter() - began
    host.run("sh", "-c", f"seq {MEMBERS} | xargs -I {{}} echo by-hand-{{}} | xargs docker rm -f")
    host.run("docker", "network", "rm", "by-hand")
    return MEMBERS / took


if __name__ == "__main__":
    main()

"""A job on three hosts outlives the death of each of their agents, of the master, and of all of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.lab import dockers
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hosts import Lab, until

from quorate.model.state import JobState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOSTS = ("h1", "h2", "h3")
#: Counts aloud until the gate opens: what is started twice, or loses a line, shows.
COUNTING = """
echo "$QUORATE_MEMBER" >> "$FOLDER/starts"
i=0
while [ ! -e "$FOLDER/gate" ]; do echo "line $i"; i=$((i + 1)); sleep 0.05; done
echo "last $i"
"""
NETWORKS: dict[str, dict[str, Any]] = {
    "host": {"network": {"mode": "host"}},
    "overlay": {},
    "containers": dockers.CONTAINER,
}


@pytest.fixture
def folder(lab: Lab) -> Path:
    """What all hosts see: the folder of the lab is on a disk that they share."""
    made = lab.folder / "shared"
    made.mkdir()
    made.chmod(0o777)
    return made


@pytest.mark.parametrize("network", ["host", "overlay", pytest.param("containers", marks=pytest.mark.docker)])
def test_a_job_on_three_hosts_outlives_each_agent_and_the_master(lab: Lab, folder: Path, network: str) -> None:
    settings = {"allow": {"mounts": [*dockers.ALLOW["mounts"], {"path": str(folder), "read_only": False}]}}
    with running(lab, *HOSTS, settings=settings, docker=network == "containers") as cluster:
        spec = {**NETWORKS[network]}
        environment = {"FOLDER": str(folder), **spec.pop("environment", {})}
        mounts = [*spec.pop("mounts"), {"source": str(folder), "target": str(folder)}] if "mounts" in spec else ()
        work = cluster.submit("sh", "-c", COUNTING, nodes=3, environment=environment, mounts=mounts, **spec)
        work.until_running()
        for agent in cluster.agents:
            counts_on(work, agent.name)
            cluster.kill_agent(agent)
            cluster.start_agent(agent)
            cluster.until_ready(agent.name)
            counts_on(work, agent.name)
        cluster.kill_master()
        cluster.start_master()
        cluster.until_ready()
        counts_on(work, *HOSTS)
        kill_everybody(cluster)
        counts_on(work, *HOSTS)
        (folder / "gate").touch()
        job = work.ended()
        assert job.state is JobState.COMPLETED, work.told()
        assert job.attempt == 1
        starts = (folder / "starts").read_text().split()
        assert sorted(starts) == sorted({member.id for member in job.members})
        for name, lines in work.output().items():
            assert lines == [*(f"line {i}" for i in range(len(lines) - 1)), f"last {len(lines) - 1}"], name


def counts_on(work: Work, *agents: str) -> None:
    """Returns once the members on these agents have said more than they had, by the master's word."""
    names = [member.name for member in work.view().members if member.agent in agents]
    before = work.output()
    until(lambda: all(len(work.output()[name]) > len(before[name]) for name in names), f"more lines of {names}")


def kill_everybody(cluster: LabCluster) -> None:
    """Master and agents die together and come back, the agents first."""
    cluster.kill_master()
    for agent in cluster.agents:
        cluster.kill_agent(agent)
    for agent in cluster.agents:
        cluster.start_agent(agent)
    cluster.start_master()
    cluster.until_ready()

"""The demo's training across two hosts, whose firewalls hold exactly what `quorate net rules` prints for them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab import dockers
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import Lab

from quorate import demo
from quorate.client.context import packed
from quorate.model.state import JobState

pytestmark = [pytest.mark.lab, pytest.mark.torch, pytest.mark.slow]


def train(cluster: LabCluster, **spec: Any) -> float:
    """Trains with a member on each host; returns the accuracy on what the model has not seen."""
    with packed(demo.CONTEXT) as context:
        cluster.client.upload(context)
        work = cluster.submit(
            *demo.ENTRYPOINT, "--epochs", "5", kind="train", launcher="torch", context=context.sha256,
            environment={"OMP_NUM_THREADS": "1", **spec.pop("environment", {})}, **spec,
        )  # fmt: skip
        job = work.ended()
    assert job.state is JobState.COMPLETED, work.told()
    assert {member.agent for member in job.members} == {"h1", "h2"}
    said = [line for lines in work.output().values() for line in lines if line.startswith(demo.ACCURACY_LINE)]
    assert len(said) == 1, work.told()
    return float(said[0].removeprefix(demo.ACCURACY_LINE))


def test_processes_in_their_hosts_network_train_through_exact_firewalls(lab: Lab) -> None:
    with running(lab, "h1", "h2", network={"modes": ["host"]}) as cluster:
        assert train(cluster, network={"mode": "host"}) > 0.8


def test_processes_in_sandboxes_train_through_firewalls_that_let_vxlan_pass_and_nothing_else(lab: Lab) -> None:
    with running(lab, "h1", "h2", network={"modes": ["overlay"]}) as cluster:
        assert len(cluster.opened) == 2, "in and out"
        assert train(cluster) > 0.8


@pytest.mark.docker
def test_containers_train_through_firewalls_that_let_vxlan_pass_and_nothing_else(lab: Lab) -> None:
    with running(lab, "h1", "h2", network={"modes": ["overlay"]}, docker=True) as cluster:
        assert train(cluster, **dockers.CONTAINER) > 0.8

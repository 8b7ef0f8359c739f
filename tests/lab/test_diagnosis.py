"""Jobs in private networks on hosts of their own: what passes is counted, what hangs is explained, who is cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab import faults
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hosts import a_lab, until

from quorate.client.context import packed

pytestmark = [pytest.mark.lab, pytest.mark.torch, pytest.mark.slow]

SKIPS = """
import time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
values = torch.ones(8)
dist.all_reduce(values)
print("met", flush=True)
if dist.get_rank() == 1:
    time.sleep(1000)
dist.all_reduce(values)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    modes = {"modes": ["overlay", "bridge"]}
    timers = {"check_agents": "500ms", "stalled": "0s"}
    with a_lab() as lab, running(lab, "h1", "h2", network=modes, timers=timers) as cluster:
        yield cluster


@pytest.fixture
def hanging(cluster: LabCluster, tmp_path: Path) -> Iterator[Work]:
    """A training of two members, one of which never comes to the second collective."""
    (tmp_path / "train.py").write_text(SKIPS)
    with packed(tmp_path) as context:
        cluster.client.upload(context)
        work = cluster.submit(
            "python", "train.py", kind="train", launcher="torch", context=context.sha256,
            environment={"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    until(lambda: sum(lines.count("met") for lines in work.output().values()) == 2, "both have met", 90)
    yield work
    cluster.client.cancel(work.id)
    work.ended()


def asked(cluster: LabCluster, *arguments: str) -> dict[str, Any]:
    done = cluster.lab["desk"].quorate(*arguments, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_hang_inside_an_overlay_is_explained_and_its_flows_are_counted(cluster: LabCluster, hanging: Work) -> None:
    found = asked(cluster, "job", "diagnose", hanging.id)
    assert "rank 0 (main1) waits in all_reduce at train.py:11 for rank 1 (sub1)" in found["cause"]
    main, sub = found["members"]
    assert (main["device"], main["mtu"], sub["address"]) == ("eth0", 1450, "10.128.0.3")
    assert {socket["flow"] for socket in main["sockets"] if socket["peer"] == "sub1"} == {
        "gloo",
        "torch-rendezvous",
        "watch",
    }
    assert {one["outcome"] for one in found["tried"]} == {"open"}
    network = asked(cluster, "job", "network", hanging.id)
    assert network["mode"] == "overlay"
    opened = {(flow["member"], flow["flow"]) for flow in network["flows"] if flow["packets"]}
    assert {("main1", "torch-rendezvous"), ("sub1", "torch-rendezvous"), ("main1", "gloo")} <= opened
    # Beside an overlay nothing else may speak VXLAN, which is no fault of anybody's.
    checked = cluster.lab["desk"].quorate("net", "check")
    assert checked.returncode == 0
    assert "VXLAN is not tried from and to h1, h2" in checked.stderr


def test_an_overlay_that_is_cut_under_a_job_is_told_by_its_agents_and_not_by_its_members_ports(
    cluster: LabCluster, hanging: Work
) -> None:
    one, other = cluster.agents
    with faults.port_dropped(cluster.lab, 4789, source=one, destination=other, transport="udp"):
        found = asked(cluster, "job", "diagnose", hanging.id)
    assert "VXLAN (udp 4789) between agents" in found["cause"]
    # Besides, a rank is elsewhere, which the cut did not bring about.
    assert [finding["code"] for finding in found["findings"]] == ["NET-FILTERED", "COLLECTIVE-MISSED"]


def test_a_gang_waits_for_hosts_between_which_vxlan_is_dropped_and_starts_when_it_passes(cluster: LabCluster) -> None:
    one, other = cluster.agents
    with faults.port_dropped(cluster.lab, 4789, source=one, destination=other, transport="udp"):
        until(lambda: any(agent.findings for agent in cluster.client.agents()), "the pair is known to be apart", 60)
        work = cluster.submit("true")
        until(lambda: "h1 and h2 cannot reach each other on udp 4789 (NET-FILTERED)" in work.view().reason, work.told())
    assert work.ended().state.value == "completed", work.told()

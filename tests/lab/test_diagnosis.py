"""Jobs in private networks on hosts of their own: what passes is counted, what hangs is explained, who is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab import faults
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hanging import WAITS_AT, asked, skipping, trying, waiting
from tests.lab.hosts import a_lab, until

pytestmark = [pytest.mark.lab, pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    modes = {"modes": ["overlay", "bridge"]}
    timers = {"check_agents": "500ms", "stalled": "0s"}
    with a_lab() as lab, running(lab, "h1", "h2", network=modes, timers=timers) as cluster:
        yield cluster


@pytest.fixture
def hanging(cluster: LabCluster, tmp_path: Path) -> Iterator[Work]:
    with skipping(cluster, tmp_path) as work:
        yield work


def test_a_hang_inside_an_overlay_is_explained_and_its_flows_are_counted(cluster: LabCluster, hanging: Work) -> None:
    found = asked(cluster, "job", "diagnose", hanging.id)
    assert f"rank 0 (main1) waits in all_reduce at {WAITS_AT} for rank 1 (sub1)" in found["cause"]
    main, sub = found["members"]
    assert (main["device"], main["mtu"], sub["address"]) == ("eth0", 1450, "10.64.0.3")
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


def test_a_port_that_is_not_planned_is_refused_by_the_jobs_own_rules_counted_and_named(cluster: LabCluster) -> None:
    with trying(cluster, "main1", 8080, says="ConnectionRefusedError") as work:
        network = asked(cluster, "job", "network", work.id)
        (refused,) = network["refused"]
        packets = refused.pop("packets")
        assert packets > 0
        assert refused == {
            "member": "sub1", "direction": "egress", "peer": "10.64.0.2", "peer_name": "main1", "transport": "tcp",
            "port": 8080, "by": "plan",
        }  # fmt: skip
        shown = cluster.lab["desk"].quorate("job", "network", work.id).stdout
        (line,) = [line for line in shown.partition("refused")[2].splitlines() if "8080" in line]
        assert line.split()[:5] == ["sub1", "out", "main1", "(10.64.0.2)", "tcp/8080"]
        found = asked(cluster, "job", "diagnose", work.id)
        assert found["cause"].startswith("sub1 cannot connect to main1 (10.64.0.2) on tcp 8080")
        assert "rejected by the job's own rules" in found["cause"]
        (finding,) = found["findings"]
        assert finding["remedy"].startswith("network: {members: open}")
        assert f"quorate job network {work.id}" in finding["remedy"]


def test_a_connection_that_waits_for_a_member_is_seen_with_the_member_and_the_flow(cluster: LabCluster) -> None:
    with faults.port_dropped_in_overlays(cluster.lab, 50505), trying(cluster, "main1", 50505) as work:
        found = until(lambda: seen if waiting(seen := asked(cluster, "job", "diagnose", work.id)) else None, "it waits")
        (socket,) = waiting(found)
        assert (socket["peer"], socket["remote"], socket["remote_port"]) == ("main1", "10.64.0.2", 50505)
        assert found["cause"].startswith("sub1 cannot connect to main1 (10.64.0.2) on tcp 50505")
        assert [(finding["code"], finding["remedy"]) for finding in found["findings"]] == [
            ("NET-FILTERED", f"quorate job network {work.id}")
        ]
        # main1 listens on 8080 as well, which sub1 has not tried: nor does a diagnosis, for it would be refused.
        assert not asked(cluster, "job", "network", work.id)["refused"]


def test_a_connection_that_waits_for_the_outside_is_named_with_its_place_and_the_egress(cluster: LabCluster) -> None:
    outside = cluster.lab["outside"].address
    with faults.port_dropped(cluster.lab, 443), trying(cluster, outside, 443) as work:
        # Until its first packet was sent again, it might only just be opening.
        found = until(
            lambda: seen if (seen := asked(cluster, "job", "diagnose", work.id))["findings"] else None, "found"
        )
        assert found["cause"] == f"sub1 waits for {outside}:443 outside, which has not answered; egress is all"
        (socket,) = waiting(found)
        assert (socket["remote"], socket["remote_port"], socket["peer"]) == (outside, 443, "")


def test_what_lets_people_into_a_member_is_none_of_its_processes(cluster: LabCluster) -> None:
    work = cluster.submit("sleep", "1000", nodes=1)
    try:
        work.until_running()
        assert cluster.lab["desk"].quorate("job", "exec", f"{work.id}/main1", "--", "true").returncode == 0
        (member,) = asked(cluster, "job", "diagnose", work.id)["members"]
        assert [process["name"] for process in member["processes"]] == ["sleep"]
    finally:
        cluster.client.cancel(work.id)
        work.ended()


def test_a_gang_waits_for_hosts_between_which_vxlan_is_dropped_and_starts_when_it_passes(cluster: LabCluster) -> None:
    one, other = cluster.agents
    with faults.port_dropped(cluster.lab, 4789, source=one, destination=other, transport="udp"):
        until(lambda: any(agent.findings for agent in cluster.client.agents()), "the pair is known to be apart", 60)
        work = cluster.submit("true")
        until(lambda: "h1 and h2 cannot reach each other on udp 4789 (NET-FILTERED)" in work.view().reason, work.told())
    assert work.ended().state.value == "completed", work.told()

"""Jobs that hang in containers on hosts of their own are explained as processes are, from outside.

Their Python and its packages lie in the image's own places, where the agents' machines have none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.lab import dockers, faults
from tests.lab.cluster import LabCluster, running
from tests.lab.hanging import MISSES_AT, WAITS_AT, asked, skipping, trying, waiting
from tests.lab.hosts import a_lab, until

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.torch, pytest.mark.slow]

_PYTHON, _PACKAGES = "/opt/python", "/opt/packages/site-packages"
SECRET = "hunter2-in-the-environment"


def _in_its_own_places() -> dict[str, Any]:
    torch = find_spec("torch")
    assert torch is not None and torch.origin is not None
    places = {"/usr": "/usr", sys.base_prefix: _PYTHON, str(Path(torch.origin).parents[1]): _PACKAGES}
    return {
        "python": f"{_PYTHON}/bin/python3",
        "image": {"name": dockers.IMAGE, "pull": "never"},
        "mounts": [{"source": one, "target": other, "read_only": True} for one, other in places.items()],
        "environment": {"PYTHONPATH": _PACKAGES, "API_KEY": SECRET},
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    modes, timers = {"modes": ["overlay"]}, {"stalled": "2s"}
    with a_lab() as lab, running(lab, "h1", "h2", network=modes, timers=timers, docker=True) as cluster:
        yield cluster


def test_a_rank_that_skips_a_collective_is_named_and_the_job_diagnosed_by_itself(
    cluster: LabCluster, tmp_path: Path
) -> None:
    with skipping(cluster, tmp_path, **_in_its_own_places()) as work:
        found = asked(cluster, "job", "diagnose", work.id)
        assert f"rank 0 (main1) waits in all_reduce at {WAITS_AT} for rank 1 (sub1)" in found["cause"]
        assert f"at {MISSES_AT}" in found["cause"]
        assert [finding["code"] for finding in found["findings"]] == ["COLLECTIVE-MISSED"]
        main, sub = found["members"]
        assert (main["notes"], sub["notes"]) == ([], [])
        assert (main["device"], main["mtu"], sub["address"]) == ("eth0", 1450, "10.64.0.3")
        flows = {socket["flow"] for socket in main["sockets"] if socket["peer"] == "sub1"}
        assert flows == {"gloo", "torch-rendezvous", "watch"}
        last = [(one["rank"], one["operation"], one["sequence"]) for one in (*main["collectives"], *sub["collectives"])]
        assert last == [(0, "all_reduce", 1), (1, "all_reduce", 1)]
        assert {one["outcome"] for one in found["tried"]} == {"open"}
        assert SECRET not in str(found)

        def by_itself() -> dict[str, Any] | None:
            kept = asked(cluster, "job", "diagnose", work.id, "--kept")
            return kept if kept["automatic"] else None

        kept = until(by_itself, work.told, 60)
        assert kept["cause"] == found["cause"] == work.view().diagnosis


def test_a_connection_that_waits_is_seen_with_the_member_and_the_flow(cluster: LabCluster) -> None:
    spec = _in_its_own_places()
    with faults.port_dropped_in_overlays(cluster.lab, 50505), trying(cluster, "main1", 50505, **spec) as work:
        found = until(lambda: seen if waiting(seen := asked(cluster, "job", "diagnose", work.id)) else None, "it waits")
        (socket,) = waiting(found)
        assert (socket["peer"], socket["remote"], socket["remote_port"]) == ("main1", "10.64.0.2", 50505)
        assert found["cause"].startswith("sub1 cannot connect to main1 (10.64.0.2) on tcp 50505")
        assert [finding["code"] for finding in found["findings"]] == ["NET-FILTERED"]

"""`quorate net check` in a real cluster: agents behind exact firewalls, and each fault under its own code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.lab import faults, sshd
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import Lab, a_lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(lab, "h1", "h2", "h3") as cluster:
        yield cluster


def check(cluster: LabCluster) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings, as a user at the desk sees them."""
    done = cluster.lab["desk"].quorate("net", "check", "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def the(findings: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(findings) == 1, findings
    return findings[0]


def test_exact_firewalls_leave_nothing_to_find(cluster: LabCluster) -> None:
    assert check(cluster) == (0, [])


def test_each_fault_is_one_finding_with_both_ends_and_the_flow(cluster: LabCluster) -> None:
    lab, (one, other, _) = cluster.lab, cluster.agents
    with faults.without_rule(other, cluster.agents_rules, cluster.rule("leased", "saddr")):
        code, findings = check(cluster)
        found = the(findings)
        assert (code, found["code"], found["destination"]) == (1, "NET-FILTERED", "h2")
        print(found)
        assert "leased" in found["evidence"]
    with faults.one_way(lab, one, other):
        code, findings = check(cluster)
        assert code == 1
        assert {finding["code"] for finding in findings} == {"NET-FILTERED"}
        assert {name for finding in findings for name in (finding["source"], finding["destination"])} == {"h1", "h2"}
    with faults.link_cut(lab, other):
        code, findings = check(cluster)
        assert code == 1
        assert all("h2" in (finding["subject"], finding["source"], finding["destination"]) for finding in findings)
    cluster.until_ready()
    assert check(cluster) == (0, [])


def test_a_clock_that_is_ahead_is_named_by_ssh_alone(lab: Lab) -> None:
    if missing := sshd.missing():
        pytest.skip(f"needs {', '.join(missing)}: apt install --no-install-recommends openssh-client openssh-server")
    lab.open("h1", "h2")
    with sshd.servers(lab, lab["h1"], lab["h2"]), faults.clock_ahead(lab["h2"], 90):
        done = lab["desk"].quorate("net", "check", "--ssh", "h1", "h2", "--python", sys.executable, "--json")
    assert done.stdout, done.stderr
    check = json.loads(done.stdout)
    found = the(check["findings"])
    assert (found["code"], found["source"], found["destination"]) == ("CLOCK-SKEW", "h2", "h1")
    assert found["evidence"].endswith("s ahead of that of h1")
    assert found["remedy"] == "ssh h2 sudo timedatectl set-ntp true"
    # All flows pass, and yet something was found.
    assert check["verdict"].startswith("all 2 ways between 2 hosts are open")
    assert done.returncode == 1

"""`quorate run --plan` at the desk: how members would be joined, why, and by which network; nothing is started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import a_lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(lab, "h1", "h2", settings={"slots": 2}) as cluster:
        yield cluster


def network(cluster: LabCluster, *options: str) -> tuple[str, str]:
    """Of what a user at the desk reads: how members would be joined, and the network itself."""
    done = cluster.lab["desk"].quorate("run", "--plan", "--nodes", "2", *options, "--", "true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing was started\n")
    assert not list(cluster.client.jobs())
    lines = done.stdout.splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("network: "))
    return lines[place], lines[place + 1].strip()


def test_members_on_two_agents_would_be_joined_by_an_overlay(cluster: LabCluster) -> None:
    joined, made = network(cluster, "--placement", "spread")
    assert joined == "network: overlay, for members are on several agents"
    assert re.fullmatch(
        r"10\.64\.0\.0/28, gateway 10\.64\.0\.1, VNI \d+, MTU 1450; among members open, enforce; egress all", made
    )


def test_members_on_one_agent_would_be_joined_by_a_bridge(cluster: LabCluster) -> None:
    joined, made = network(cluster, "--placement", "single")
    assert joined == "network: bridge, for all members are on one agent"
    assert re.fullmatch(
        r"10\.64\.0\.0/28, gateway 10\.64\.0\.1, VNI \d+, MTU 1500; among members open, enforce; egress all", made
    )


def test_members_may_ask_for_their_hosts_network_and_have_no_other(cluster: LabCluster) -> None:
    assert network(cluster, "--network", "host") == ("network: that of the hosts, for the job asks for it", "")


def test_the_jobs_own_variables_are_shown_beside_ours_and_the_ports_follow_them(cluster: LabCluster) -> None:
    options = ("--env", "GREETING=hello", "--env", "MASTER_PORT=30000")
    done = cluster.lab["desk"].quorate("run", "--plan", "--json", "--nodes", "2", *options, "--", "true")
    plan = json.loads(done.stdout)
    for member, variables in zip(plan["members"], plan["environment"], strict=True):
        assert (variables["GREETING"], variables["MASTER_PORT"]) == ("hello", "30000")
        assert {member["ports"].get("main", 30000)} == {30000}
        assert "main:29500" not in variables["QUORATE_PORTS"]

"""`quorate net --cluster` against a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cli.conftest import Quorate

from quorate.network import catalogue


@pytest.fixture
def two_members(cluster: Quorate) -> Iterator[str]:
    """The id of a job whose two members run."""
    following = cluster.start("run", "--nodes", "2", "--grace", "1s", "--", "sh", "-c", "echo ready; sleep 300")
    assert following.stdout is not None
    ready = 0
    while ready < 2:
        line = following.stdout.readline()
        assert line, "the job ended before its members were ready"
        ready += b"ready" in line
    (job,) = (job["id"] for job in cluster("job", "list", "--json").json if job["state"] == "running")
    yield job
    cluster("job", "cancel", job)
    following.communicate(timeout=60)


def test_the_plan_of_a_live_cluster_names_its_agents_and_its_master(cluster: Quorate) -> None:
    plan = cluster("net", "plan", "--cluster", "--json", code=1).json  # it cannot know where the users are
    parties = {party["key"]: party for party in plan["parties"]}
    agents = {f"{agent['address']}/32" for agent in cluster("agent", "list", "--json").json}
    assert set(parties["agent/default"]["addresses"]) == agents
    assert parties["master/master"]["addresses"] == ["127.0.0.1/32"]
    assert {flow["flow"] for flow in plan["flows"]} >= {"api", "agent-link"}, "the local master speaks no TLS"


def test_the_plan_of_a_live_cluster_has_only_ports_on_which_something_listens(cluster: Quorate) -> None:
    plan = cluster("net", "plan", "--cluster", "--json", code=1).json
    planned = {flow["flow"] for flow in plan["flows"]}
    assert planned >= {"rendezvous", "watch", "leased", "gloo", "torch-rendezvous"}, "members share the hosts' network"
    assert not planned & {"vxlan", "apps", "apps-tls", "ssh", "control-1", "control-2"}, "nothing listens there today"


def test_ports_shows_what_the_members_of_running_jobs_hold(cluster: Quorate, two_members: str) -> None:
    leases = cluster("net", "ports", "--cluster", "--json").json["leases"]
    mine = [lease for lease in leases if lease["member"].startswith(two_members)]
    purposes = sorted(lease["purpose"] for lease in mine)
    assert purposes == ["main", "rendezvous", "rendezvous", "watch", "watch"]
    ports = [lease["port"] for lease in leases]
    assert len(ports) == len(set(ports)), "two members on one machine hold one port"
    allowed = {catalogue.port(name) for name in ("rendezvous", "watch", "master-port")}
    assert all(port in allowed or port in catalogue.ports("leased") for port in ports)


def test_without_a_master_it_says_so(quorate: Quorate) -> None:
    done = quorate("net", "plan", "--cluster", "--master", "http://127.0.0.1:1", code=3)
    assert "MASTER-UNREACHABLE" in done.err

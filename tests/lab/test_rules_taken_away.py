"""With any one rule taken away the preflight names exactly that flow, at once, instead of a job that hangs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from tests.lab import faults
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hosts import a_lab

from quorate.model.job import JobSpec
from quorate.model.state import JobState
from quorate.model.views import MemberView

pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: Far more than the preflight may take by its own limit (5 s from when all are there), for a loaded machine starts
#: members late; and far less than the ten minutes after which a job is given up that nobody can explain.
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def hosts_cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(lab, "h1", "h2", network={"modes": ["host"], "launchers": ["torch"]}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def overlays_cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(lab, "h1", "h2", network={"modes": ["overlay"]}) as cluster:
        yield cluster


# Both clusters may be up at once, at the same addresses: each test goes to the desk of its own.
@pytest.fixture
def on_hosts(hosts_cluster: LabCluster) -> Iterator[LabCluster]:
    """Members in their hosts' network: every flow between them is a rule of the firewalls."""
    with hosts_cluster.lab["desk"].entered():
        yield hosts_cluster


@pytest.fixture
def on_overlays(overlays_cluster: LabCluster) -> Iterator[LabCluster]:
    """Members in sandboxes: the firewalls let VXLAN pass, and rules for each flow are in the sandboxes."""
    with overlays_cluster.lab["desk"].entered():
        yield overlays_cluster


def failed(cluster: LabCluster, work: Work) -> str:
    """The reason of a job that the preflight has ended in time, before its command began."""
    job = work.ended()
    assert job.state is JobState.FAILED, work.told()
    assert not any(work.output().values()), work.told()
    assert job.starting is not None
    assert job.starting < LIMIT_S, f"{job.starting:.1f} s: {work.told()}"
    return job.reason or ""


def planned(cluster: LabCluster) -> tuple[MemberView, ...]:
    """Where the next job's members would be."""
    spec = {"entrypoint": ["true"], "resources": {"nodes": 2}, "placement": "spread", "launcher": "torch"}
    return tuple(cluster.client.plan(JobSpec.model_validate(spec)).members)


def flows_of(line: str) -> set[str]:
    """The flows for which a rule is there, by its comment."""
    comment = line.split('comment "')[1]
    return {part.split(":")[0] for part in comment.split("; ") if ":" in part}


def names(reason: str, flow: str) -> bool:
    """Whether that very flow is named: `rendezvous` is not `torch-rendezvous`."""
    return re.search(rf"(?<![\w-]){re.escape(flow)}(?![\w-])", reason) is not None


#: What a torch job's sandboxes let pass, each with its transport and ports. Without the rendezvous: nothing but their
#: own rules could keep it from passing, and whoever is silent there may not have begun.
FLOWS_INSIDE = [
    ("watch", "tcp", "1750"),
    ("ssh", "tcp", "12350"),
    ("torch-rendezvous", "tcp", "29400"),
    ("gloo", "tcp", "32768-60999"),
]
#: Flows that only the first member serves.
TO_THE_FIRST = {"torch-rendezvous"}


#: What a torch job in its hosts' network uses; the other rules are there for other launchers, sandboxes and leases.
USED = {"rendezvous", "watch", "torch-rendezvous", "gloo"}
#: One rule for all leases: what is not on its canonical port is on one of these.
LEASES = {"leased"}


@pytest.mark.parametrize("direction", ["saddr", "daddr"])
def test_in_the_hosts_network_each_rule_that_is_missing_is_named(on_hosts: LabCluster, direction: str) -> None:
    named = set()
    for line in [line for line in on_hosts.opened if f" ip {direction} " in line]:
        flows = flows_of(line)
        if flows & USED:
            # Ports rest when a job gives them back, and the next one has others: a master that starts knows of none.
            on_hosts.kill_master()
            on_hosts.start_master()
            on_hosts.until_ready()
        with contextlib.ExitStack() as stack:
            for host in on_hosts.agents:
                stack.enter_context(faults.without_rule(host, on_hosts.agents_rules, line))
            work = on_hosts.submit("true", launcher="torch", network={"mode": "host"})
            if flows & (USED | LEASES):
                reason = failed(on_hosts, work)
                assert "(NET-FILTERED)" in reason, (line, reason)
                found = {flow for flow in USED if names(reason, flow)}
                assert found & (USED if flows == LEASES else flows), (line, reason)
                named |= flows & found
            else:
                assert work.ended().state is JobState.COMPLETED, (line, work.told())
    assert named == USED


@pytest.mark.parametrize("to", ["main1", "sub1"])
def test_in_an_overlay_each_flow_that_does_not_pass_is_named(on_overlays: LabCluster, to: str) -> None:
    agents = {member.name: on_overlays.lab[member.agent] for member in planned(on_overlays)}
    (source,) = agents.keys() - {to}
    for flow, transport, ports in FLOWS_INSIDE:
        if flow in TO_THE_FIRST and to != "main1":
            continue
        with faults.port_dropped_in_overlays(
            on_overlays.lab, ports, source=agents[source], destination=agents[to], transport=transport
        ):
            reason = failed(on_overlays, on_overlays.submit("true", launcher="torch"))
        assert "(NET-FILTERED)" in reason, (flow, reason)
        assert names(reason, flow), (flow, reason)
        assert re.search(rf"does not pass from {source} .* to {to} ", reason), (flow, reason)


@pytest.mark.parametrize("direction", ["saddr", "daddr"])
def test_without_the_rule_for_vxlan_the_overlay_is_named(on_overlays: LabCluster, direction: str) -> None:
    with faults.without_rule(on_overlays.agents[1], on_overlays.agents_rules, on_overlays.rule("vxlan", direction)):
        reason = failed(on_overlays, on_overlays.submit("true", launcher="torch"))
    assert "(NET-FILTERED)" in reason
    assert "vxlan" in reason

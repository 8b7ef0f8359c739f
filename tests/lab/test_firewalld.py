"""A real firewalld on an agent's host: what of its rules stands in members' way, its remedy, and its reloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.lab.cluster import running
from tests.lab.hosts import Host, Lab, until
from tests.lab.test_rules_flushed import SERVES, SETTINGS, TRIES, drifted, rules

# Not marked as what must run in continuous integration: what is installed there should take over no machine.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("firewalld"),
        reason="needs firewalld, which takes over the machine that it is installed on: nothing here installs it",
    ),
]


@contextmanager
def firewalld(host: Host) -> Iterator[None]:
    """The daemon on that host, with the bus that its commands go by."""
    host.file("/run/dbus").mkdir()
    daemons = [host.start("dbus-daemon", "--system", "--nofork", "--nopidfile", log="dbus")]
    until(host.file("/run/dbus/system_bus_socket").is_socket, daemons[0].said)
    daemons.append(host.start("firewalld", "--nofork", "--nopid", log="firewalld"))
    try:
        until(lambda: "running" in host.run("sh", "-c", "firewall-cmd --state || true"), daemons[1].said)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()


def test_firewalld_is_told_by_its_own_commands_what_members_need_and_its_reloads_leave_ours_alone(lab: Lab) -> None:
    with running(lab, "h1", network={"modes": ["bridge"]}, settings=SETTINGS) as cluster, firewalld(lab["h1"]):
        host, outside = lab["h1"], lab["outside"]
        serving = outside.start("python3", "-c", SERVES, "443", log="serves")
        until(lambda: "listens" in serving.said(), serving.said)
        host.run("ip", "route", "add", "default", "via", outside.address)
        work = cluster.submit("python3", "-c", TRIES, outside.address, "443", nodes=1)
        until(lambda: work.output().get("main1"), work.told, 60)
        assert work.output()["main1"] != ["open"]

        def remedies() -> list[str]:
            found = [finding for agent in cluster.client.agents() for finding in agent.findings]
            return [finding.remedy for finding in found if finding.code == "NET-OBSTACLE"]

        (remedy,) = until(remedies, "the agent sees what stands in the way")
        host.run("sh", "-ec", remedy)
        until(lambda: work.output()["main1"][-1] == "open", work.told)
        until(lambda: not remedies(), "it stands there no more")
        ours = rules(host)
        host.run("firewall-cmd", "--reload")
        host.run("firewall-cmd", "--complete-reload")
        assert rules(host) == ours
        # While it reloads, a table of its own drops everything for a moment.
        until(lambda: not remedies(), "nothing stands there when it has reloaded")
        assert not drifted(cluster)
        assert work.output()["main1"][-1] == "open"
        cluster.client.cancel(work.id)
        work.ended()

"""Firewalls and engines that are loaded anew under members: what went with them is there again, and is told of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.lab import dockers
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hanging import asked
from tests.lab.hosts import Host, Lab, a_lab, until

from quorate.agent.sandbox import nft

pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: Tries that place again and again, and tells how each attempt ended where that is another way than the last one.
TRIES = """
import socket, sys, time
last = None
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
        how = "open"
    except OSError as error:
        how = type(error).__name__
    if how != last:
        print(how, flush=True)
    last = how
    time.sleep(0.1)
"""
#: Listens, and takes what comes.
SERVES = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])))
print("listens", flush=True)
while True:
    listener.accept()
"""
SETTINGS = {"drift_check_s": 0.5, "slots": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    modes = {"modes": ["host", "overlay"]}
    with a_lab() as lab, running(lab, "h1", "h2", network=modes, settings=SETTINGS) as cluster:
        outside = lab["outside"].start("python3", "-c", SERVES, "443", log="serves")
        until(lambda: "listens" in outside.said(), "somebody is outside")
        yield cluster


@contextmanager
def trying(cluster: LabCluster, address: str, port: int, expected: str, **spec: Any) -> Iterator[Work]:
    """A job with a member on each host, for which every attempt has ended so."""
    work = cluster.submit("python3", "-c", TRIES, address, str(port), **spec)
    try:
        until(lambda: work.output() == {"main1": [expected], "sub1": [expected]}, work.told, 60)
        yield work
    finally:
        cluster.client.cancel(work.id)
        work.ended()


def rules(host: Host) -> str:
    """What our table holds there, whatever has been counted; the same where there is none."""
    with host.entered():
        return nft.fingerprint(nft.tables("inet", "quorate"))


def drifted(cluster: LabCluster) -> bool:
    return any(finding.code == "NET-DRIFT" for agent in cluster.client.agents() for finding in agent.findings)


def test_a_firewall_that_flushes_everybodys_rules_is_told_of_and_ours_are_loaded_again(cluster: LabCluster) -> None:
    outside, api = (cluster.lab["outside"].address, 443), (cluster.master.address, 8443)
    # The hosts' firewalls let agents go there, too: only our rules keep members from it.
    with (
        trying(cluster, *outside, "open") as let_out,
        trying(cluster, *api, "ConnectionRefusedError", network={"mode": "host"}) as kept_in,
    ):
        host = cluster.agents[0]
        ours = rules(host)
        # As `systemctl reload nftables` does it: Debian's file, too, begins with all rules of everybody.
        host.file("/etc/nftables.conf").write_text(f"flush ruleset\n{cluster.agents_rules}")
        host.run("nft", "-f", "/etc/nftables.conf")
        assert rules(host) != ours
        until(lambda: drifted(cluster), "the agent has seen it")
        until(lambda: rules(host) == ours, "it has loaded them again")
        for work, expected in ((let_out, "open"), (kept_in, "ConnectionRefusedError")):
            until(lambda work=work, so=expected: all(said[-1] == so for said in work.output().values()), work.told)  # type: ignore[misc]
        until(lambda: not drifted(cluster), "it is told as long as it lasts")


def test_what_a_job_on_its_hosts_network_is_refused_is_shown_with_where_and_why(cluster: LabCluster) -> None:
    master = cluster.master.address
    with trying(cluster, master, 8443, "ConnectionRefusedError", network={"mode": "host"}) as work:
        found = asked(cluster, "job", "network", work.id)
        assert (found["mode"], found["nothing"], found["missing"]) == ("host", "", [])
        assert all(one.pop("packets") > 0 for one in found["refused"])
        expected = {
            "direction": "egress", "peer": master, "peer_name": "", "transport": "tcp", "port": 8443, "by": "forbidden",
        }  # fmt: skip
        assert found["refused"] == [{"member": member, **expected} for member in ("main1", "sub1")]
        shown = cluster.lab["desk"].quorate("job", "network", work.id).stdout
        assert "what passes there is not told apart by job" in shown
        lines = [line for line in shown.partition("refused\n")[2].splitlines() if "8443" in line]
        assert [line.split()[:4] for line in lines] == [[one, "out", master, "tcp/8443"] for one in ("main1", "sub1")]
        assert "no member reaches it" in lines[0]


# --- engines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def containers(lab: Lab) -> Iterator[LabCluster]:
    with running(lab, "h1", "h2", network={"modes": ["overlay"]}, settings=SETTINGS, docker=True) as cluster:
        yield cluster


MEETS = """
import os, socket, sys
if os.environ["QUORATE_RANK"] == "0":
    listener = socket.create_server(("0.0.0.0", 29500))
    print("listens", flush=True)
    while True:
        listener.accept()
""" + TRIES.replace("sys.argv[1]", '"main1"').replace("int(sys.argv[2])", "29500")


def said(work: Work) -> list[str]:
    """By the member that goes to the other one."""
    return work.output().get("sub1", [])


def meets(work: Work) -> bool:
    return said(work)[-1:] == ["open"]


def opened(work: Work) -> int:
    """How often it has done so."""
    flows = asked(work.cluster, "job", "network", work.id)["flows"]
    return sum(flow["packets"] for flow in flows if (flow["member"], flow["direction"]) == ("sub1", "egress"))


@pytest.mark.docker
def test_containers_and_their_network_go_on_under_an_engine_that_is_restarted_with_live_restore(
    containers: LabCluster,
) -> None:
    host = containers.agents[0]
    dockers.configure(host, **{"live-restore": True})
    dockers.restart(host)
    work = containers.submit("python3", "-c", MEETS, **dockers.CONTAINER)
    until(lambda: meets(work), work.told, 60)
    ours = rules(host)
    before = said(work)
    dockers.restart(host)
    came = opened(work)
    until(lambda: opened(work) > came + 10, work.told)
    assert rules(host) == ours
    assert said(work) == before
    assert work.view().attempt == 1
    containers.client.cancel(work.id)
    work.ended()


@pytest.mark.docker
def test_an_engine_that_ends_its_containers_with_itself_is_named_and_their_job_goes_on_when_it_is_back(
    containers: LabCluster,
) -> None:
    host = containers.agents[0]
    work = containers.submit("python3", "-c", MEETS, restarts=1, **dockers.CONTAINER)
    until(lambda: meets(work), work.told, 60)
    dockers.stop(host)

    def history() -> str:
        return "\n".join(entry.what for entry in work.view().history)

    until(lambda: "waits for its engine" in work.view().reason, work.told, 60)
    dockers.start(host)
    # One attempt more, however long the engine is away, and nobody's fault who submitted it: its one restart is left.
    until(lambda: work.view().attempt == 2 and work.view().state.value == "running", work.told, 90)
    assert "as when its engine is restarted without live-restore" in history()
    assert "this one does not count" in history()
    until(lambda: meets(work), work.told, 60)
    assert work.view().attempt == 2, work.told()
    containers.client.cancel(work.id)
    work.ended()
    until(lambda: not host.run("docker", "ps", "-aq"), "no container is left")

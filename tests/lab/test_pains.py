"""The first pains of the field, each made to happen: named by its code before the job's command, or not to be had."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab import faults
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hosts import a_lab, until

from quorate.model.state import JobState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NCCL = Path(__file__).parents[1] / "network/nccl"
PROXY = "http://10.77.0.4:3128"
#: At the proxy's address: answers every request, and says which it has had.
PROXY_SERVER = """
import http.server
class Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.command, self.path, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the proxy")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", 3128), Proxy)
print("listening", flush=True)
server.serve_forever()
"""
#: The first member serves until the other has asked it, by name and by address, and somebody outside.
PAST_AND_THROUGH = """
import http.server, os, socket, time, urllib.error, urllib.request
class Peer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the peer")
    def log_message(self, *_):
        pass
if os.environ["QUORATE_RANK"] == "0":
    server = http.server.HTTPServer(("", 29500), Peer)
    server.timeout = 20
    for _ in range(2):
        server.handle_request()
else:
    def get(host):
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://{host}/", timeout=20) as answer:
                    return answer.read().decode()
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    for host in ("main1:29500", socket.gethostbyname("main1") + ":29500", "elsewhere.example"):
        print(host, "is answered by", get(host), flush=True)
"""
HOST = {"network": {"mode": "host"}}


@pytest.fixture(scope="module")
def hosts_cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(lab, "h1", "h2", network={"modes": ["host"]}, fabric="ib") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def overlays_cluster() -> Iterator[LabCluster]:
    with a_lab() as lab, running(
        lab, "h1", "h2", network={"modes": ["overlay"]}, settings={"proxy": {"url": PROXY}}
    ) as cluster:  # fmt: skip
        yield cluster


# Both clusters may be up at once, at the same addresses: each test goes to the desk of its own.
@pytest.fixture
def on_hosts(hosts_cluster: LabCluster) -> Iterator[LabCluster]:
    """Members in their hosts' network, where most of the pains are at home."""
    with hosts_cluster.lab["desk"].entered():
        yield hosts_cluster


@pytest.fixture
def on_overlays(overlays_cluster: LabCluster) -> Iterator[LabCluster]:
    """Members in sandboxes, behind a proxy."""
    with overlays_cluster.lab["desk"].entered():
        yield overlays_cluster


def run(cluster: LabCluster, script: str = "echo begun", **spec: Any) -> Work:
    """A job that has ended."""
    work = cluster.submit("sh", "-c", script, **{"launcher": "torch", "start_timeout": 60, **spec})
    work.ended()
    return work


def reason(work: Work) -> str:
    """Why a job ended that must not have begun."""
    job = work.view()
    assert job.state is JobState.FAILED, work.told()
    assert not any(work.output().values()), work.told()
    return job.reason or ""


def completed(work: Work) -> dict[str, list[str]]:
    """What the members of a job have said, and Quorate beside them, that went well."""
    assert work.view().state is JobState.COMPLETED, work.told()
    return work.output()


def test_1_the_wrong_interface_is_told_of_and_not_taken(on_hosts: LabCluster) -> None:
    host, other = on_hosts.agents
    pid = str(host.pid)
    on_hosts.lab.switch.run("ip", "link", "add", "second", "type", "veth", "peer", "name", "mgmt0", "netns", pid)
    try:
        on_hosts.lab.switch.run("ip", "link", "set", "second", "master", "switch", "up")
        host.run("ip", "link", "set", "mgmt0", "up")
        host.run("ip", "route", "add", f"{other.address}/32", "dev", "mgmt0", "src", host.address)
        work = run(on_hosts, 'echo "$QUORATE_HOST by $GLOO_SOCKET_IFNAME"', **HOST)
    finally:
        on_hosts.lab.switch.run("ip", "link", "delete", "second")
        # Whoever has heard of the second device would go on sending there for a while.
        for each in on_hosts.lab.hosts.values():
            each.run("ip", "neighbour", "flush", "dev", "eth0")
    said = "\n".join(line for lines in completed(work).values() for line in lines)
    assert "NET-DEVICE" in said
    name = next(member.name for member in work.view().members if member.agent == host.name)
    assert f"{name} by mgmt0" in said


def test_2_blocked_data_ports_are_named_though_the_rendezvous_passes(on_hosts: LabCluster) -> None:
    with faults.without_rule(on_hosts.agents[0], on_hosts.agents_rules, on_hosts.rule("gloo", "saddr")):
        said = reason(run(on_hosts, **HOST))
    assert "gloo" in said, said
    assert said.endswith("(NET-FILTERED)")


def test_3_a_name_that_is_loopback_is_told_of(on_hosts: LabCluster) -> None:
    with faults.resolves_to_loopback(on_hosts.agents[1]):
        said = [line for lines in completed(run(on_hosts, "true", **HOST)).values() for line in lines]
    assert any("NAME-LOOPBACK" in line and "h2" in line for line in said), said


def test_4_a_member_that_does_not_come_is_named_before_the_deadline(on_hosts: LabCluster) -> None:
    agent = on_hosts.process(on_hosts.agents[1])
    agent.signal(signal.SIGSTOP)
    try:
        work = run(on_hosts, start_timeout=10, **HOST)
    finally:
        agent.signal(signal.SIGCONT)
        agent.entry.send_signal(signal.SIGCONT)
    said = reason(work)
    assert said.endswith("(MEMBERS-MISSING)"), work.told()
    assert "h2" in said
    on_hosts.until_ready()


def test_5_a_port_that_a_stranger_holds_is_left_to_it(on_hosts: LabCluster) -> None:
    # What a job gives back rests; a master that starts knows of nothing that does, and hands out 1734 again.
    on_hosts.kill_master()
    on_hosts.start_master()
    on_hosts.until_ready()
    program = (
        "import socket, time; held = socket.create_server(('', 1734)); print('held', flush=True); time.sleep(1000)"
    )
    stranger = on_hosts.agents[0].start("python3", "-c", program, log="stranger")
    try:
        work = run(on_hosts, **HOST)
    finally:
        stranger.kill()
    completed(work)
    assert "PORT-TAKEN" in work.told()
    assert "1734" in work.told()


def test_a_clock_that_is_ahead_is_told_of(on_hosts: LabCluster) -> None:
    host = on_hosts.agents[1]
    on_hosts.kill_agent(host)
    try:
        with faults.clock_ahead(host, 90):
            # Members have the clock of the zygote that they are forked of.
            on_hosts.start_agent(host)
            on_hosts.until_ready()
            said = completed(run(on_hosts, "true", **HOST))
    finally:
        on_hosts.kill_agent(host)
        on_hosts.start_agent(host)
        on_hosts.until_ready()
    (line,) = {line for lines in said.values() for line in lines if "CLOCK-SKEW" in line}
    assert "agent h2" in line


def test_6_large_packets_in_a_black_hole_are_named(on_overlays: LabCluster) -> None:
    one, other = on_overlays.agents
    with faults.black_hole(on_overlays.lab, 1450, source=one, destination=other):
        said = reason(run(on_overlays))
    assert said.endswith("(NET-MTU)")


def test_7_members_reach_each_other_past_the_proxy_and_the_rest_through_it(on_overlays: LabCluster) -> None:
    proxy = on_overlays.lab["outside"].start("python3", "-c", PROXY_SERVER, log="proxy")
    try:
        until(lambda: "listening" in proxy.said(), "the proxy")
        work = on_overlays.submit("python", "-c", PAST_AND_THROUGH, launcher="none")
        work.ended()
    finally:
        proxy.kill()
    by_name, by_address, outside = completed(work)["sub1"]
    assert by_name == "main1:29500 is answered by the peer"
    assert by_address.endswith(" is answered by the peer")
    assert outside == "elsewhere.example is answered by the proxy"
    assert proxy.said().splitlines() == ["listening", "GET http://elsewhere.example/"]


def test_8_an_overlay_whose_port_is_open_as_tcp_is_named(on_overlays: LabCluster) -> None:
    rules, line = on_overlays.agents_rules, on_overlays.rule("vxlan", "saddr")
    host = on_overlays.agents[1]
    host.firewall(rules.replace(line, line.replace("udp dport", "tcp dport")))
    try:
        said = reason(run(on_overlays))
    finally:
        host.firewall(rules)
    assert said.endswith("(NET-FILTERED)")
    assert "vxlan" in said
    assert "udp 4789" in said


def test_9_rdma_that_is_not_there_is_told_of_at_once_and_in_a_diagnosis_from_what_nccl_says(
    on_hosts: LabCluster,
) -> None:
    # No host of a lab has such a device. NCCL needs GPUs to say anything, so its lines are recorded ones.
    says = (NCCL / "ib_no_device.log").read_text()
    work = on_hosts.submit(
        "sh", "-c", 'printf "%s" "$SAYS"; exec sleep 1000', launcher="torch", environment={"SAYS": says}, **HOST
    )
    try:
        until(lambda: all("Using network Socket" in "".join(lines) for lines in work.output().values()), "NCCL's words")
        assert "NET-FABRIC-FALLBACK" in work.told()
        assert "the pool's fabric is ib" in work.told()
        found = on_hosts.client.diagnose(work.id)
    finally:
        on_hosts.client.cancel(work.id)
    work.ended()
    assert {finding.code for finding in found.findings} == {"NET-FABRIC-FALLBACK"}
    assert "uses TCP (NCCL's network is Socket)" in found.cause
    assert "NCCL found no device for RDMA" in found.cause


def test_10_ssh_between_members_works_at_once_with_known_host_keys(on_overlays: LabCluster) -> None:
    script = 'test "$QUORATE_HOST" = sub1 || exec ssh -o BatchMode=yes -o StrictHostKeyChecking=yes sub1 echo met'
    script += '; while [ ! -e "$FOLDER/met" ]; do sleep 0.05; done'
    folder = on_overlays.lab.folder / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    work = on_overlays.submit("sh", "-c", script, environment={"FOLDER": str(folder)})
    try:
        until(lambda: work.view().state.final or "met" in work.output().get("main1", []), "a word from sub1")
    finally:
        (folder / "met").touch()
    work.ended()
    assert "met" in completed(work)["main1"], work.told()

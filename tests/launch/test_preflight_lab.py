"""Two members on two hosts behind firewalls: with any one rule taken away, the preflight names exactly that flow."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from beside import Beside
from launch_vocabulary import gang, seen_by

from quorate.launch.config import Configuration, Network, Preflight, ProbeFlow, Timeouts

pytestmark = pytest.mark.lab

ADDRESSES = ("10.74.0.2", "10.74.0.3")
PORTS = {"rendezvous": 1734, "watch": 1750, "torch-rendezvous": 29400}
WINDOW = (32768, 60999)
#: What is promised: whatever is in the way is named so many seconds after the last member has begun.
PROMISED_S = 5.0
#: Far beyond what a test waits: nothing is named because time ran out.
PATIENT = Timeouts(rendezvous_s=300.0)
#: Flow, and who listens.
RULES = [
    ("rendezvous", 0),
    ("rendezvous", 1),
    ("watch", 0),
    ("watch", 1),
    ("torch-rendezvous", 0),
    ("gloo", 0),
    ("gloo", 1),
]


def run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, check=True, input=text, text=True, capture_output=True, timeout=30)


class Hosts:
    """Two namespaces on one wire, a member in each, and between them what their firewalls let pass."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.names = [f"qf{os.getpid()}-{rank}" for rank in range(2)]
        for name in self.names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "delete", name)
        run("ip", "link", "add", "eth0", "netns", self.names[0], "type", "veth", "peer", "eth0", "netns", self.names[1])
        for name, address in zip(self.names, ADDRESSES, strict=True):
            # `ip netns exec` puts it in the place of /etc/hosts.
            own = Path("/etc/netns", name)
            own.mkdir(parents=True)
            stack.callback(shutil.rmtree, own)
            own.joinpath("hosts").write_text(f"127.0.0.1 localhost\n{ADDRESSES[0]} main1\n{ADDRESSES[1]} sub1\n")
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", device, "up")

    def firewall(self, rank: int, *rules: str, refuse: str = "") -> None:
        """Drops what comes in, but for these rules; `refuse` is said instead of silence."""
        lines = "\n".join(
            ["ct state established,related accept", 'iifname "lo" accept', "meta l4proto icmp accept", *rules, refuse]
        )
        chain = f"type filter hook input priority 0; policy drop;\n{lines}"
        text = f"flush ruleset\ntable inet t {{\nchain c {{\n{chain}\n}}\n}}\n"
        run("ip", "netns", "exec", self.names[rank], "nft", "-f", "-", text=text)

    def allow(self, *without: tuple[str, int], refuse: str = "") -> None:
        """The firewalls of both hosts as planned, but for some rules; a rule is a flow and who listens."""
        for rank in range(2):
            ports = {**PORTS, "gloo": f"{WINDOW[0]}-{WINDOW[1]}"}
            kept = [port for flow, port in ports.items() if (flow, rank) not in without and (flow, rank) in RULES]
            self.firewall(rank, *(f"tcp dport {port} accept" for port in kept), refuse=refuse)

    def deaf(self, rank: int) -> None:
        """All that comes to one host falls, answers too: as where its rule for VXLAN is missing."""
        text = "table inet t {\nchain c {\ntype filter hook input priority 0; policy drop;\niifname lo accept\n}\n}\n"
        run("ip", "netns", "exec", self.names[rank], "nft", "-f", "-", text=text)

    def start(self, configuration: Configuration) -> list[Beside]:
        members = []
        for rank in range(2):
            inside = ("ip", "netns", "exec", self.names[rank])
            members.append(Beside(seen_by(configuration, rank), inside=inside))
            self._stack.callback(members[-1].close)
        return members


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nftables and iproute2")
    with contextlib.ExitStack() as stack:
        yield Hosts(stack)


def allocation(**fields: object) -> Configuration:
    members = tuple(
        dataclasses.replace(member, address=address, ports={"rendezvous": 1734, "watch": 1750})
        for member, address in zip(gang(2).members, ADDRESSES, strict=True)
    )
    remedy = "nft insert rule … ip saddr {source} # on {destination}"
    flows = (
        *(
            ProbeFlow(f, (p, p), destinations=(0,) if f == "torch-rendezvous" else (), remedy=remedy)
            for f, p in PORTS.items()
        ),
        ProbeFlow("gloo", WINDOW, "Gloo between ranks", remedy=remedy),
    )
    known = {"members": members, "flows": flows, "preflight": Preflight.REQUIRE, "timeouts": PATIENT, **fields}
    return dataclasses.replace(gang(2), **known)  # type: ignore[arg-type]


def overlaid() -> Configuration:
    """The same in an overlay, on two agents."""
    configuration = allocation(network=Network.OVERLAY)
    members = tuple(dataclasses.replace(m, underlay=f"192.0.2.{m.rank}") for m in configuration.members)
    carrier = ProbeFlow("vxlan", (4789, 4789), "overlays", "udp", remedy="open udp 4789 {source} {destination}")
    return dataclasses.replace(configuration, members=members, carrier=carrier)


def finding(members: list[Beside]) -> tuple[str, str]:
    """What both fail with; the seconds that it took are each one's own."""
    found = [member.fails() for member in members]
    assert len({(code, re.sub(r"found \d+\.\d s", "", sentence)) for code, sentence in found}) == 1, found
    return found[0]


def took_s(sentence: str) -> float:
    """The companion's own figure: seconds from when all had come or, where they could not, from when both had begun."""
    figure = re.search(r", found (\d+\.\d) s after ", sentence)
    assert figure, sentence
    return float(figure[1])


def test_behind_the_planned_rules_they_start(hosts: Hosts) -> None:
    hosts.allow()
    members = hosts.start(allocation())
    for member in members:
        environment = member.goes()
        assert environment == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0"}


@pytest.mark.parametrize("network", [Network.HOST, Network.OVERLAY], ids=lambda network: network.value)
@pytest.mark.parametrize("refuse", ["", "reject with tcp reset"], ids=["drop", "reject"])
@pytest.mark.parametrize(("flow", "listener"), RULES)
def test_with_any_one_rule_taken_away_exactly_that_flow_is_named(
    hosts: Hosts, flow: str, listener: int, refuse: str, network: Network
) -> None:
    hosts.allow((flow, listener), refuse=refuse)
    code, sentence = finding(hosts.start(allocation(network=network)))
    names = ("main1", "sub1")
    assert code == ("NET-REFUSED" if refuse else "NET-FILTERED")
    assert sentence.startswith(f"{flow} "), sentence
    assert f"from {names[1 - listener]} (" in sentence
    assert f"to {names[listener]} (" in sentence
    assert sentence.endswith(f"mend: nft insert rule … ip saddr {ADDRESSES[1 - listener]} # on {ADDRESSES[listener]}")
    assert took_s(sentence) <= PROMISED_S


def test_what_is_sent_before_the_others_network_is_up_is_no_second_lost(hosts: Hosts) -> None:
    # The first connection is dropped, and all that is sent again for it: whoever waits for that is taken for filtered.
    chain = "type filter hook input priority 0;\ntcp dport 1734 tcp sport @first drop\n"
    first = "tcp dport 1734 tcp flags & (syn | ack) == syn add @first { tcp sport } drop"
    lost = f"set first {{\ntype inet_service; flags dynamic; size 1;\n}}\nchain c {{\n{chain}{first}\n}}"
    run("ip", "netns", "exec", hosts.names[0], "nft", "-f", "-", text=f"table inet t {{\n{lost}\n}}\n")
    for member in hosts.start(allocation()):
        member.goes()


def test_where_nothing_passes_at_all_hosts_networks_say_so_at_once(hosts: Hosts) -> None:
    hosts.allow(*RULES)
    (_, other) = hosts.start(allocation())
    code, sentence = other.fails()
    assert code == "NET-FILTERED"
    assert sentence.startswith("rendezvous ")
    assert "does not pass from sub1" in sentence
    assert took_s(sentence) <= PROMISED_S


@pytest.mark.parametrize("network", [Network.HOST, Network.OVERLAY], ids=lambda network: network.value)
@pytest.mark.parametrize("refuse", ["", "reject with tcp reset"], ids=["drop", "reject"])
def test_a_rendezvous_that_passes_in_neither_direction_is_named_where_anything_else_passes(
    hosts: Hosts, refuse: str, network: Network
) -> None:
    hosts.allow(("rendezvous", 0), ("rendezvous", 1), refuse=refuse)
    (_, other) = hosts.start(allocation(network=network))
    code, sentence = other.fails()
    assert code == ("NET-REFUSED" if refuse else "NET-FILTERED")
    assert sentence.startswith("rendezvous ")
    assert took_s(sentence) <= PROMISED_S


@pytest.mark.parametrize("closed", [0, 1])
def test_of_an_overlay_that_is_blocked_in_one_direction_the_carrier_is_named(hosts: Hosts, closed: int) -> None:
    hosts.deaf(closed)
    started = hosts.start(overlaid())
    # As in a cluster, who waits is told that the first member is there: what passes one way is still seen.
    started[1].hears_that_the_first_waits(started[0].waits())
    code, sentence = started[1 - closed].fails()
    assert code == "NET-FILTERED"
    source, destination = f"192.0.2.{1 - closed}", f"192.0.2.{closed}"
    assert f"vxlan (overlays) on udp 4789 from {source} to {destination}, found " in sentence
    assert sentence.endswith(f"; mend: open udp 4789 {source} {destination}")
    assert took_s(sentence) <= PROMISED_S


def test_of_an_overlay_in_which_nothing_passes_either_way_the_carrier_is_named_once_the_agent_knows_both(
    hosts: Hosts,
) -> None:
    for rank in range(2):
        hosts.deaf(rank)
    first, other = hosts.start(overlaid())
    other.hears_that_the_first_waits(first.waits())
    code, sentence = other.fails()
    assert code == "NET-FILTERED"
    ends = "sub1 (agent agent-1, 10.74.0.3) and main1 (agent agent-0, 10.74.0.2)"
    assert sentence.startswith(f"nothing passes between {ends}, either way: ")
    assert "vxlan (overlays) on udp 4789 from 192.0.2.1 to 192.0.2.0 and back, found " in sentence
    there, back = "open udp 4789 192.0.2.1 192.0.2.0", "open udp 4789 192.0.2.0 192.0.2.1"
    assert sentence.endswith(f"; mend: {there}; and back: {back}")
    assert took_s(sentence) <= PROMISED_S


def test_an_mtu_that_nobody_mentions_is_named(hosts: Hosts) -> None:
    # Both ends believe in 1500 bytes, and something between them, which says nothing, does not.
    text = "table inet t {\nchain p {\ntype filter hook prerouting priority -300;\nmeta length > 1400 drop\n}\n}\n"
    for name in hosts.names:
        run("ip", "netns", "exec", name, "nft", "-f", "-", text=text)
    code, sentence = finding(hosts.start(allocation()))
    assert code == "NET-MTU"
    assert "packets of 1500 bytes, the MTU, vanish" in sentence
    assert "the largest that comes back has 1400" in sentence


def test_a_name_that_means_loopback_is_named_before_anything_is_tried(hosts: Hosts) -> None:
    Path("/etc/netns", hosts.names[1], "hosts").write_text(f"127.0.1.1 sub1\n{ADDRESSES[0]} main1\n")
    (_, other) = hosts.start(allocation(network=Network.OVERLAY))
    code, sentence = other.fails()
    assert code == "NAME-LOOPBACK"
    assert "sub1 resolves to 127.0.1.1 instead of 10.74.0.3" in sentence


def test_another_host_that_answers_is_no_member(hosts: Hosts) -> None:
    # What goes to sub1's torch window ends at a listener without the nonce.
    listener = subprocess.Popen(
        ["ip", "netns", "exec", hosts.names[1], "python3", "-c",
         "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 99))\ns.listen()\nprint('up', flush=True)\n"
         "while True:\n    c, _ = s.accept()\n    c.send(b'SSH-2.0-x\\r\\n')\n    c.close()"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert listener.stdout is not None
        listener.stdout.readline()
        rule = f"tcp dport {WINDOW[0]}-{WINDOW[1]} redirect to :99"
        text = f"table ip n {{\nchain p {{\ntype nat hook prerouting priority dstnat;\n{rule}\n}}\n}}\n"
        run("ip", "netns", "exec", hosts.names[1], "nft", "-f", "-", text=text)
        code, sentence = finding(hosts.start(allocation()))
    finally:
        listener.kill()
        listener.communicate()
    assert code == "NET-WRONG-HOST"
    assert sentence.startswith("gloo (Gloo between ranks) does not pass from main1")

"""The prober tells apart what real firewalls and routes do: two hosts and a router, in namespaces of their own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from quorate.cli.travel import program
from quorate.launch.probe import TIMEOUT_S

pytestmark = pytest.mark.lab

SOURCE = program()
NONCE = secrets.token_hex(16)
NEAR, FAR = "10.73.1.2", "10.73.2.2"
TCP = {"address": FAR, "port": 1734, "transport": "tcp"}
UDP = {"address": FAR, "port": 1735, "transport": "udp"}


def run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, check=True, input=text, text=True, capture_output=True)


class Host:
    """A network namespace, with a prober in it that does what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"qp{os.getpid()}-{name}"
        run("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        self._prober = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-I", "-S", "-c", SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def ip(self, *words: str) -> None:
        run("ip", "-n", self.namespace, *words)

    def sysctl(self, setting: str) -> None:
        run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", setting)

    def firewall(self, hook: str, *rules: str) -> None:
        """Replaces the host's rules by these, at one hook."""
        chain = f"type filter hook {hook} priority 0; policy accept;"
        body = "\n".join(rules)
        run(
            "ip", "netns", "exec", self.namespace, "nft", "-f", "-",
            text=f"flush ruleset\ntable inet lab {{\nchain c {{\n{chain}\n{body}\n}}\n}}\n",
        )  # fmt: skip

    def listen(self, *places: dict[str, Any]) -> None:
        assert self._told({"nonce": NONCE, "who": self.name, "listen": places})["failed"] == [""] * len(places)

    def tries(
        self, place: dict[str, Any], who: str = "far", timeout_s: float = TIMEOUT_S, **target: Any
    ) -> dict[str, Any]:
        """One probe, as the prober reports it."""
        answer = self._told({"probe": [{"place": place, "who": who, **target}], "timeout_s": timeout_s})
        (found,) = answer["probes"]
        return dict(found)

    def probes(self, place: dict[str, Any], who: str = "far", **how: Any) -> tuple[str, str]:
        """Outcome and evidence."""
        found = self.tries(place, who, **how)
        return found["outcome"], found["evidence"]

    def close(self) -> None:
        self._prober.kill()
        self._prober.communicate()
        run("ip", "netns", "delete", self.namespace)

    def _told(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._prober.stdin is not None
        self._prober.stdin.write(json.dumps(order) + "\n")
        self._prober.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._prober.stdout is not None
        answer: dict[str, Any] = json.loads(self._prober.stdout.readline())
        return answer


@pytest.fixture
def lab() -> Iterator[tuple[Host, Host, Host]]:
    """near — router — far; both ends listen."""
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nftables and iproute2")
    with contextlib.ExitStack() as stack:
        hosts = []
        for name in ("near", "router", "far"):
            hosts.append(Host(name))
            stack.callback(hosts[-1].close)
        near, router, far = hosts
        for host, address, gateway in ((near, NEAR, "10.73.1.1"), (far, FAR, "10.73.2.1")):
            run(
                "ip", "link", "add", "eth0", "netns", host.namespace, "type", "veth",
                "peer", "name", f"to-{host.name}", "netns", router.namespace,
            )  # fmt: skip
            host.ip("address", "add", f"{address}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            router.ip("address", "add", f"{gateway}/24", "dev", f"to-{host.name}")
            router.ip("link", "set", f"to-{host.name}", "up")
            host.ip("route", "add", "default", "via", gateway)
        router.sysctl("net.ipv4.ip_forward=1")
        near.listen({"address": NEAR, "port": 1734}, {"address": NEAR, "port": 1735, "transport": "udp"})
        far.listen(TCP, UDP)
        yield near, router, far


Lab = tuple[Host, Host, Host]


@pytest.mark.parametrize("place", [TCP, UDP], ids=["tcp", "udp"])
def test_without_firewalls_it_is_open(lab: Lab, place: dict[str, Any]) -> None:
    near, _, _ = lab
    assert near.probes(place) == ("open", "far answers")


@pytest.mark.parametrize("place", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("where", ["far", "router"])
def test_a_firewall_that_drops_is_a_filter(lab: Lab, place: dict[str, Any], where: str) -> None:
    near, router, far = lab
    host, hook = (far, "input") if where == "far" else (router, "forward")
    host.firewall(hook, f"{place['transport']} dport {place['port']} drop")
    outcome, evidence = near.probes(place, timeout_s=0.5)
    assert outcome == "filtered"
    assert "no answer" in evidence


def test_a_firewall_may_drop_in_one_direction_only(lab: Lab) -> None:
    near, router, far = lab
    router.firewall("forward", f"ip saddr {NEAR} tcp flags syn / syn,ack drop")
    assert near.probes(TCP, timeout_s=0.5)[0] == "filtered"
    assert far.probes({"address": NEAR, "port": 1734}, who="near")[0] == "open"


def test_a_reset_is_refused(lab: Lab) -> None:
    near, _, far = lab
    far.firewall("input", "tcp dport 1734 reject with tcp reset")
    assert near.probes(TCP)[0] == "refused"


@pytest.mark.parametrize("place", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("code", ["admin-prohibited", "host-prohibited", "net-prohibited"])
def test_a_firewall_that_says_so_is_a_filter_and_named(lab: Lab, place: dict[str, Any], code: str) -> None:
    near, router, _ = lab
    router.firewall("forward", f"ip daddr {FAR} reject with icmp type {code}")
    outcome, evidence = near.probes(place)
    assert outcome == "filtered", evidence
    assert "administratively prohibited" in evidence
    assert evidence.endswith("says 10.73.1.1")


def test_a_rule_of_the_own_machine_is_a_filter(lab: Lab) -> None:
    near, _, _ = lab
    near.firewall("output", "udp dport 1735 drop")
    assert near.probes(UDP) == ("filtered", "operation not permitted: a rule on this machine forbids it")


def test_without_a_route_it_is_unroutable(lab: Lab) -> None:
    near, _, _ = lab
    near.ip("route", "delete", "default")
    for place in (TCP, UDP):
        assert near.probes(place) == ("unroutable", "no route to that network")


def test_where_no_host_has_the_address_it_is_unroutable(lab: Lab) -> None:
    near, _, _ = lab
    for transport in ("tcp", "udp"):
        outcome, evidence = near.probes({"address": "10.73.1.99", "port": 1734, "transport": transport})
        assert outcome == "unroutable"
        assert "nobody there has this address" in evidence


def test_a_router_without_a_route_makes_it_unroutable(lab: Lab) -> None:
    near, router, _ = lab
    router.ip("route", "add", "unreachable", "10.99.0.0/16")
    assert near.probes({"address": "10.99.0.1", "port": 1734})[0] == "unroutable"


def test_translated_addresses_that_end_elsewhere_are_the_wrong_host(lab: Lab) -> None:
    near, router, _ = lab
    router.listen({"address": "10.73.1.1", "port": 1734})
    run(
        "ip", "netns", "exec", router.namespace, "nft", "-f", "-",
        text="table ip lab {\nchain c {\ntype nat hook prerouting priority dstnat;\n"
        f"ip daddr {FAR} tcp dport 1734 dnat to 10.73.1.1\n}}\n}}\n",
    )  # fmt: skip
    assert near.probes(TCP) == ("wrong host", "router answers instead of far")


def test_a_smaller_mtu_that_nobody_mentions_stops_large_packets_only(lab: Lab) -> None:
    near, router, far = lab
    router.ip("link", "set", "to-far", "mtu", "1400")
    far.ip("link", "set", "eth0", "mtu", "1400")
    router.firewall("output", "icmp type destination-unreachable drop")
    assert near.probes(UDP, packet_bytes=1400)[0] == "open"
    assert near.probes(UDP, packet_bytes=1401, timeout_s=0.5)[0] == "filtered"
    assert near.probes(UDP)[0] == "open"


def test_a_connection_notices_that_its_full_size_packets_vanish_and_how_large_they_may_be(lab: Lab) -> None:
    near, router, _ = lab
    assert near.probes(TCP, full=True) == ("open", "far answers")
    # Only the router knows of the narrow way, and nobody hears it say so.
    for side in ("near", "far"):
        router.ip("link", "set", f"to-{side}", "mtu", "1400")
    router.firewall("output", "icmp type destination-unreachable drop")
    outcome, evidence = near.probes(TCP, full=True)
    assert outcome == "mtu", evidence
    assert "packets of 1500 bytes, the MTU, vanish on the way there" in evidence
    assert evidence.endswith("the largest that comes back has 1400")
    assert near.probes(TCP) == ("open", "far answers")


def test_where_icmp_tells_of_the_narrow_way_connections_adapt(lab: Lab) -> None:
    near, router, _ = lab
    for side in ("near", "far"):
        router.ip("link", "set", f"to-{side}", "mtu", "1400")
    assert near.probes(TCP, full=True) == ("open", "far answers")


def test_full_size_packets_may_vanish_on_the_way_back_alone(lab: Lab) -> None:
    near, router, _ = lab
    router.ip("link", "set", "to-near", "mtu", "1400")
    router.firewall("output", "icmp type destination-unreachable drop")
    outcome, evidence = near.probes(TCP, full=True)
    assert outcome == "mtu", evidence
    assert "vanish on the way back" in evidence


def test_a_packet_larger_than_the_own_mtu_is_said_so(lab: Lab) -> None:
    near, _, _ = lab
    outcome, evidence = near.probes(UDP, packet_bytes=1501)
    assert outcome == "filtered"
    assert "larger than the MTU" in evidence


@pytest.mark.parametrize(("place", "first_packet"), [(TCP, 60), (UDP, 284)], ids=["tcp", "udp"])
def test_one_lost_packet_is_no_filter(lab: Lab, place: dict[str, Any], first_packet: int) -> None:
    near, router, _ = lab
    flow = f"{place['transport']} dport {place['port']}"
    # As long as the quota is not used up, packets that match are dropped: the first one uses it up.
    router.firewall("forward", f"ip saddr {NEAR} {flow} quota until {first_packet} bytes drop")
    found = near.tries(place)
    assert found["outcome"] == "open"
    # Longer than a round trip here could ever be: the first packet was lost indeed.
    assert found["round_trip_s"] > 0.1

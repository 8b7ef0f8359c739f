"""What a check between agents becomes: attempts, findings, and remedies for the platform at hand."""

import pytest

from quorate.model.views import CheckedAgentView, ProbeView
from quorate.network.agentreach import reach_of
from quorate.network.reach import NetCheck, Outcome
from quorate.network.remedies import Platform


def agent(name: str, address: str, **more: object) -> CheckedAgentView:
    given = {"device": "eth0", "mtu": 1500, "network": f"{address}/24", **more}
    return CheckedAgentView(agent=name, pool="default", address=address, **given)


def probe(source: str, destination: str, outcome: str, **more: object) -> ProbeView:
    given = {"flow": "vxlan", "transport": "udp", "port": 4789, "evidence": "no answer", **more}
    return ProbeView(source=source, destination=destination, outcome=outcome, **given)


A, B = agent("a", "10.0.0.11"), agent("b", "10.0.0.12")


def found(*probes: ProbeView, agents: tuple[CheckedAgentView, ...] = (A, B), platform: str = "nft") -> NetCheck:
    return reach_of(agents, probes, Platform(platform))


def codes(check: NetCheck) -> list[str]:
    return [finding.code for finding in check.findings]


def test_small_packets_that_pass_and_large_ones_that_vanish_are_an_mtu_and_no_firewall() -> None:
    check = found(probe("a", "b", "open"), probe("a", "b", "filtered", packet_bytes=1500))
    assert codes(check) == ["NET-MTU"]
    assert "1500 bytes" in check.findings[0].evidence
    assert "ip link set eth0 mtu 1450" in check.findings[0].remedy


def test_large_packets_say_nothing_where_small_ones_do_not_pass() -> None:
    check = found(probe("a", "b", "filtered"), probe("a", "b", "filtered", packet_bytes=1500))
    assert codes(check) == ["NET-FILTERED"]
    assert [attempt.outcome for attempt in check.attempts] == [Outcome.FILTERED]


def test_the_remedy_opens_the_whole_flow_and_not_the_one_port_that_was_tried() -> None:
    tried = probe("a", "b", "filtered", flow="leased", transport="tcp", port=24711)
    assert "tcp dport 20000-28999" in found(tried).findings[0].remedy
    assert "--allow=tcp:20000-28999" in found(tried, platform="gcp").findings[0].remedy


def test_an_agent_that_takes_no_part_is_a_finding() -> None:
    missing = CheckedAgentView(agent="c", pool="default", missing="agent c is not connected")
    check = found(agents=(A, missing))
    assert [(finding.code, finding.evidence) for finding in check.findings] == [
        ("NET-UNDETERMINED", "agent c is not connected")
    ]


def test_an_agent_that_cannot_listen_is_a_finding_with_the_command_that_shows_who_does() -> None:
    (finding,) = found(agents=(agent("a", "10.0.0.11", closed="no port of 20000-28999 is free"), B)).findings
    assert (finding.code, finding.source) == ("NET-UNDETERMINED", "a")
    assert finding.remedy.startswith("ss -lntup  # on agent a")


@pytest.mark.parametrize(
    ("master", "near", "split"),
    [
        ("10.0.0.2", True, False),
        ("10.0.9.2", False, False),  # another subnet of one VPC
        ("10.7.0.2", False, True),
        ("34.1.2.3", False, True),
        ("fd00::2", False, True),
    ],
)
def test_a_master_in_another_network_is_a_finding_and_one_in_another_subnet_is_none(
    master: str, near: bool, split: bool
) -> None:
    far = agent("a", "10.0.0.11", master=master, master_near=near, master_rtt=0.012)
    check = found(agents=(far, B))
    assert codes(check) == (["NET-SPLIT"] if split else [])
    if split:
        assert "12.0 ms away" in check.findings[0].evidence
        assert f"ip route get {master}  # on agent a" in check.findings[0].remedy

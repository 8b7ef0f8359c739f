"""Rules on TCP's flags are judged by every packet that a connection consists of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.model.ports import PortRange
from quorate.network.audit import AuditReport, audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

USER, MASTER = Party(Role.USER, "u", addresses(["10.0.0.1"])), Party(Role.MASTER, "m", addresses(["10.0.0.9"]))
FLOW = PlannedFlow("api", USER, MASTER, Transport.TCP, (PortRange.of(8443),), "")


def iptables(*rules: str, policy: str = "DROP", forbidden: bool = False) -> AuditReport:
    chain = "\n".join(rules)
    text = f"*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{chain}\nCOMMIT\n"
    plan = Plan("p", (), (FLOW,)) if forbidden else Plan("p", (FLOW,))
    return audit(plan, "iptables", text, Role.MASTER)


def outcome(*rules: str, policy: str = "DROP") -> Outcome:
    return iptables(*rules, policy=policy).flows[0].outcome


TRACKED = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"


def test_a_rule_for_the_first_packet_alone_needs_one_for_the_others() -> None:
    first = "-A INPUT -p tcp -m tcp --dport 8443 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"
    assert outcome(first) is Outcome.DENY
    assert outcome(first, TRACKED) is Outcome.ALLOW
    assert outcome(first, "-A INPUT -p tcp -m tcp ! --syn -j ACCEPT") is Outcome.ALLOW


@pytest.mark.parametrize(
    "scan",
    [
        "-A INPUT -p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP",
        "-A INPUT -p tcp -m tcp --tcp-flags ALL NONE -j DROP",
        "-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP",
        "-A INPUT -p tcp -m tcp --tcp-flags ALL FIN,PSH,URG -j DROP",
    ],
)
def test_the_usual_rules_against_scans_block_no_connection_and_are_left_alone(scan: str) -> None:
    report = iptables(scan, TRACKED, "-A INPUT -s 10.0.0.1 -p tcp -m tcp --dport 8443 -j ACCEPT")
    assert report.flows[0].outcome is Outcome.ALLOW
    assert report.findings == ()


@pytest.mark.parametrize("flags", ["FIN FIN", "PSH,ACK PSH,ACK", "FIN,PSH,ACK FIN,PSH,ACK", "ALL ACK"])
def test_a_packet_that_a_connection_needs_later_blocks_it_when_it_is_dropped(flags: str) -> None:
    (verdict,) = iptables(f"-A INPUT -p tcp -m tcp --tcp-flags {flags} -j DROP", policy="ACCEPT").flows
    assert verdict.outcome is Outcome.DENY
    assert "packets after the first" in verdict.why and "with TCP flags" in verdict.why
    assert iptables(f"-A INPUT -p tcp -m tcp --tcp-flags {flags} -j DROP", policy="ACCEPT").findings[0].remedy


def test_whoever_wants_in_may_begin_with_flags_that_nobody_needs() -> None:
    (verdict,) = iptables(
        "-A INPUT -p tcp -m tcp --tcp-flags ALL SYN -j DROP", policy="ACCEPT", forbidden=True
    ).forbidden
    assert verdict.outcome is Outcome.ALLOW
    assert "with TCP flags syn|psh" in verdict.why


def test_multiport_ports_are_those_of_either_end() -> None:
    assert outcome("-A INPUT -p tcp -m multiport --ports 8443 -j DROP", policy="ACCEPT") is Outcome.DENY
    assert outcome("-A INPUT -p tcp -m multiport --ports 33000 -j DROP", policy="ACCEPT") is Outcome.DENY
    assert outcome("-A INPUT -p tcp -m multiport --ports 22,53 -j DROP", policy="ACCEPT") is Outcome.ALLOW
    assert outcome("-A INPUT -p tcp -m multiport ! --ports 22,53 -j ACCEPT") is Outcome.ALLOW


def nft(*matches: dict[str, Any]) -> str:
    head = {"family": "inet", "table": "t"}
    chain = {**head, "name": "c", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}
    rules = [{"rule": {**head, "chain": "c", "handle": 2, "expr": [{"match": m}, {"accept": None}]}} for m in matches]
    return json.dumps({"nftables": [{"table": {"family": "inet", "name": "t"}}, {"chain": chain}, *rules]})


FLAGS = {"payload": {"protocol": "tcp", "field": "flags"}}


@pytest.mark.parametrize(
    ("op", "right", "expected"),
    [
        ("in", ["syn", "ack"], Outcome.ALLOW),
        ("in", ["syn", "psh"], Outcome.DENY),
        ("!", "urg", Outcome.ALLOW),
        ("!", "psh", Outcome.DENY),
        ("!=", 0, Outcome.ALLOW),
        ("==", {"set": ["syn", "ack", {"|": ["psh", "ack"]}, {"|": ["fin", "ack"]}, 25]}, Outcome.ALLOW),
        ("==", {"set": ["syn", "ack", {"|": ["psh", "ack"]}, {"|": ["fin", "ack"]}]}, Outcome.DENY),
    ],
)
def test_what_nft_prints_of_flags_is_read_as_nft_means_it(op: str, right: object, expected: Outcome) -> None:
    report = audit(Plan("p", (FLOW,)), "nftables", nft({"op": op, "left": FLAGS, "right": right}), Role.MASTER)
    assert report.flows[0].outcome is expected


def test_flags_that_nobody_knows_are_a_doubt() -> None:
    report = audit(Plan("p", (FLOW,)), "nftables", nft({"op": "==", "left": FLAGS, "right": "sin"}), Role.MASTER)
    assert report.flows[0].outcome is Outcome.UNKNOWN and "sin" in report.flows[0].why

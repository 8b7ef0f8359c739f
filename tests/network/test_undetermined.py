"""What the rules do not tell is said to be undetermined: neither open, nor blocked, nor impossible."""

from __future__ import annotations

import json

import pytest

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import AuditReport, audit
from quorate.network.findings import failing
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses

AGENTS = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=("sg-gpu",))
ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)
VXLAN = PlannedFlow("vxlan", AGENTS, AGENTS, Transport.UDP, (PortRange.of(4789),), "the overlay")
PLAN = Plan(
    "one pool",
    (VXLAN,),
    tuple(PlannedFlow("anyone-to-agent", ANYONE, AGENTS, transport, (ALL_PORTS,), "harm") for transport in Transport),
)


def iptables(*rules: str, ipv6: str = "") -> str:
    drop = ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]"]
    own = [
        "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "-A INPUT -s 10.0.1.0/24 -p udp --dport 4789 -j ACCEPT",
    ]
    return "\n".join(["# iptables-save", *drop, *own, *rules, "COMMIT", ipv6])


NO_IPV6 = "# ip6tables-save\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n"


def forbidden(report: AuditReport) -> dict[str, str]:
    return {verdict.flow.key: verdict.to_dict()["verdict"] for verdict in report.forbidden}


def test_rules_that_surely_keep_everybody_out_say_nothing_of_it() -> None:
    report = audit(PLAN, "iptables", iptables(ipv6=NO_IPV6), Role.AGENT)
    assert forbidden(report) == {} and not failing(report.findings)


@pytest.mark.parametrize("rule", ["-A INPUT -i eth0 -j ACCEPT", "-A INPUT -m owner --uid-owner 1000 -j ACCEPT"])
def test_a_rule_that_may_let_everybody_in_leaves_it_undetermined(rule: str) -> None:
    report = audit(PLAN, "iptables", iptables(rule, ipv6=NO_IPV6), Role.AGENT)
    assert forbidden(report) == {"anyone-to-agent:anyone:gpu": "undetermined"}
    found = {finding.subject: finding for finding in report.findings if finding.code == "NET-UNDETERMINED"}
    assert set(found) == {"anyone-to-agent:anyone:gpu", "INPUT line 8"}
    assert all(word in found["INPUT line 8"].evidence for word in (rule, "may let pass", "tcp on all ports"))
    assert failing(report.findings)


def test_the_rules_of_one_family_tell_nothing_of_the_other() -> None:
    report = audit(PLAN, "iptables", iptables(), Role.AGENT)
    assert forbidden(report) == {"anyone-to-agent:anyone:gpu": "undetermined"}
    assert "ip6tables-save" in report.forbidden[0].why


def test_what_surely_passes_is_possible_whatever_else_is_doubtful() -> None:
    rules = iptables("-A INPUT -i eth0 -p tcp -j ACCEPT", "-A INPUT -p udp --dport 9 -j ACCEPT", ipv6=NO_IPV6)
    report = audit(PLAN, "iptables", rules, Role.AGENT)
    assert forbidden(report) == {"anyone-to-agent:anyone:gpu": "open"}
    assert [finding.code for finding in report.findings if finding.subject.startswith("anyone")] == ["AGENT-PUBLIC"]


def test_rules_of_others_machines_do_not_say_that_nobody_gets_in() -> None:
    other = {"SecurityGroups": [{"GroupId": "sg-other"}]}
    assert forbidden(audit(PLAN, "aws", json.dumps(other))) == {"anyone-to-agent:anyone:gpu": "undetermined"}

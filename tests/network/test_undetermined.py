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


TAGGED = Party(Role.AGENT, "gpu", tags=("gpu",))
OFFICE = Party(Role.USER, "office", addresses(["192.0.2.0/24"]))
BY_TAG = Plan(
    "by tags",
    (PlannedFlow("vxlan", TAGGED, TAGGED, Transport.UDP, (PortRange.of(4789),), "the overlay"),),
    (
        PlannedFlow("anyone-to-agent", ANYONE, TAGGED, Transport.UDP, (ALL_PORTS,), "harm"),
        PlannedFlow("user-to-agent", OFFICE, TAGGED, Transport.UDP, (ALL_PORTS,), "harm"),
    ),
)


def gcp(*rules: dict[str, object]) -> str:
    vxlan = [{"IPProtocol": "udp", "ports": ["4789"]}]
    return json.dumps(
        [
            {"network": "n", "direction": "INGRESS", "targetTags": ["gpu"], **{"allowed": vxlan} | rule}
            for rule in ({"name": f"r{number}", **rule} for number, rule in enumerate(rules))
        ]
    )


MEMBERS = {"sourceTags": ["gpu"], "priority": 1000}
DENIED = {"allowed": None, "denied": [{"IPProtocol": "all"}], "priority": 10}


def of_vxlan(*rules: dict[str, object]) -> str:
    (verdict,) = audit(BY_TAG, "gcp", gcp(*rules).replace('"allowed": null, ', "")).flows
    return str(verdict.to_dict()["verdict"])


def test_what_addresses_decide_is_not_known_of_who_is_known_by_a_tag() -> None:
    assert of_vxlan(MEMBERS) == "open"
    assert of_vxlan(MEMBERS, {**DENIED, "sourceRanges": ["203.0.113.0/24"]}) == "undetermined"
    assert of_vxlan({"sourceRanges": ["10.0.0.0/8"]}) == "undetermined"


def test_what_is_decided_alike_for_every_address_is_known() -> None:
    assert of_vxlan(MEMBERS, {**DENIED, "sourceRanges": ["0.0.0.0/0", "::/0"]}) == "blocked"
    assert (
        of_vxlan(MEMBERS, {**DENIED, "sourceRanges": [f"{n * 64}.0.0.0/2" for n in range(4)] + ["::/0"]}) == "blocked"
    )
    assert of_vxlan() == "blocked"


def test_an_opening_to_addresses_may_be_that_of_who_is_known_by_a_tag() -> None:
    report = audit(BY_TAG, "gcp", gcp(MEMBERS, {"sourceRanges": ["10.0.0.0/8"]}))
    assert forbidden(report) == {"anyone-to-agent:anyone:gpu": "undetermined"}
    assert "10.0.0.0/8" in report.forbidden[0].why and "agent/gpu" in report.forbidden[0].why


def test_an_opening_to_everybody_or_to_others_of_the_plan_is_no_tags() -> None:
    assert forbidden(audit(BY_TAG, "gcp", gcp(MEMBERS, {"sourceRanges": ["0.0.0.0/0"]}))) == {
        "anyone-to-agent:anyone:gpu": "open",
        "user-to-agent:office:gpu": "open",
    }
    assert forbidden(audit(BY_TAG, "gcp", gcp(MEMBERS, {"sourceRanges": ["192.0.2.0/24"]}))) == {
        "anyone-to-agent:anyone:gpu": "undetermined",
        "user-to-agent:office:gpu": "open",
    }


def test_where_two_ends_are_judged_one_connection_must_pass_both() -> None:
    """Out on one port and in on another is no way through."""
    stranger = Party(Role.MEMBER, "other", addresses(["10.0.9.0/24"]))
    plan = Plan("two", (), (PlannedFlow("stranger-to-member", stranger, AGENTS, Transport.TCP, (ALL_PORTS,), "harm"),))
    ends = "-A INPUT -s 10.0.9.0/24 -p tcp --dport 22 -j ACCEPT", "-A OUTPUT -d 10.0.1.0/24 -p tcp --dport {} -j ACCEPT"
    drop = iptables(*ends, ipv6=NO_IPV6).replace(":OUTPUT ACCEPT", ":OUTPUT DROP")
    for port, expected in (("80", {}), ("22", {"stranger-to-member:other:gpu": "open"})):
        assert forbidden(audit(plan, "iptables", drop.format(port), Role.AGENT)) == expected

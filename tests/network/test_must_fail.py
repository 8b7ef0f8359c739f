"""An audit has a line for each of the catalogue's forbidden flows: a verdict, or who else holds it."""

from __future__ import annotations

import pytest

from quorate.network.audit import AuditReport, audit
from quorate.network.audit.mustfail import Holds
from quorate.network.catalogue import FORBIDDEN
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.planfile import read_plan
from quorate.network.rules import render

CLUSTER = """\
master: {where: {addresses: [10.0.0.5]}}
users: {where: {addresses: [192.168.0.0/16]}}
outside: {registries: [{hosts: [r.example], addresses: [203.0.113.7]}], dns: [10.0.0.2], ntp: [10.0.0.3]}
pools: [{name: gpu, where: {addresses: [10.0.1.0/24]}, network: {modes: [MODES]}}]
"""
OPENED = "-A INPUT -s 192.168.1.0/24 -p tcp -m tcp --dport 22 -j ACCEPT"


def plan(*modes: str) -> Plan:
    return read_plan(CLUSTER.replace("MODES", ", ".join(modes)), "master.yaml")


def told(made: Plan, more: str = "", role: Role = Role.AGENT) -> AuditReport:
    text = render(made, "iptables", role).text.replace("-j QUORATE-IN\n", f"-j QUORATE-IN\n{more}\n")
    return audit(made, "iptables", text, role)


def holds(report: AuditReport) -> dict[str, Holds]:
    return {line.flow.id: line.holds for line in report.must_fail}


@pytest.mark.parametrize("modes", [("bridge", "overlay"), ("host",), ("host", "overlay")])
@pytest.mark.parametrize("role", [Role.AGENT, Role.MASTER])
def test_every_forbidden_flow_has_a_line_with_a_reason_and_stands_in_json(modes: tuple[str, ...], role: Role) -> None:
    report = told(plan(*modes), role=role)
    assert [line.flow for line in report.must_fail] == list(FORBIDDEN.values())
    assert all(line["why"] and line["verdict"] in set(Holds) for line in report.to_dict()["must_fail"])


def test_what_members_in_networks_of_their_own_must_not_do_is_held_by_agents() -> None:
    lines = holds(told(plan("bridge", "overlay")))
    assert {name for name, held in lines.items() if held is Holds.IMPOSSIBLE} == {"user-to-agent", "anyone-to-agent"}
    assert {name for name, held in lines.items() if held is Holds.HELD} == set(FORBIDDEN) - {
        "user-to-agent",
        "anyone-to-agent",
    }


def test_members_of_the_hosts_network_are_reached_where_their_agents_are() -> None:
    made = plan("host")
    assert holds(told(made))["user-to-member"] is Holds.IMPOSSIBLE
    report = told(made, OPENED)
    lines = holds(report)
    assert lines["user-to-member"] is lines["anyone-to-member"] is lines["user-to-agent"] is Holds.POSSIBLE
    assert lines["member-to-agent"] is Holds.HELD
    why = next(line.why for line in report.must_fail if line.flow.id == "user-to-member")
    assert "at the agents' addresses" in why and "tcp/22 from 192.168.1.0/24" in why


def test_where_jobs_may_choose_the_worse_of_both_is_said() -> None:
    made = plan("host", "overlay")
    assert holds(told(made))["user-to-member"] is Holds.HELD
    assert holds(told(made, OPENED))["user-to-member"] is Holds.POSSIBLE


def test_what_cannot_be_told_is_undetermined() -> None:
    lines = holds(told(plan("host"), "-A INPUT -i eth0 -j ACCEPT"))
    assert lines["anyone-to-agent"] is lines["anyone-to-member"] is Holds.UNDETERMINED


def test_the_masters_own_rules_do_not_say_who_reaches_agents() -> None:
    report = told(plan("host"), role=Role.MASTER)
    assert holds(report)["user-to-agent"] is holds(report)["user-to-member"] is Holds.NOT_JUDGED
    why = next(line.why for line in report.must_fail if line.flow.id == "user-to-agent")
    assert why == "these are not the agents' rules"

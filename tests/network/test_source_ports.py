"""Whoever may come from one port may come: rules about source ports are judged by every one that there is."""

from __future__ import annotations

import json

import pytest

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import AuditReport, audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses

AGENTS = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=("nsg",))
MASTER = Party(Role.MASTER, "master", addresses(["10.0.0.5"]))
OFFICE = Party(Role.USER, "office", addresses(["192.0.2.0/24"]))
ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)


def forbidding(transport: Transport) -> Plan:
    return Plan("none", (), (PlannedFlow("anyone-to-agent", ANYONE, AGENTS, transport, (ALL_PORTS,), "harm"),))


def iptables(*rules: str) -> str:
    head = ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]"]
    own = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    text = "\n".join([*head, own, *rules, "COMMIT"])
    return f"# iptables-save\n{text}\n# ip6tables-save\n{text}\n"


def verdicts(report: AuditReport) -> list[str]:
    return [str(verdict.to_dict()["verdict"]) for verdict in (*report.flows, *report.forbidden)]


@pytest.mark.parametrize(("transport", "port"), [(Transport.UDP, 53), (Transport.TCP, 20)])
def test_a_rule_for_answers_of_a_well_known_port_lets_everybody_in_from_there(transport: Transport, port: int) -> None:
    rule = f"-A INPUT -p {transport.value} -m {transport.value} --sport {port} -j ACCEPT"
    report = audit(forbidding(transport), "iptables", iptables(rule), Role.AGENT)
    assert verdicts(report) == ["open"]
    assert f"{transport.value} on all ports from" in report.forbidden[0].why
    assert f"with source port {port}" in report.forbidden[0].why
    assert {"AGENT-PUBLIC", "NET-UNNEEDED"} <= {finding.code for finding in report.findings}


def test_so_does_a_clouds_rule() -> None:
    rule = {
        "direction": "INGRESS", "protocol": "17", "source": "0.0.0.0/0", "source-type": "CIDR_BLOCK", "id": "r",
        "udp-options": {"source-port-range": {"min": 53, "max": 53}},
    }  # fmt: skip
    rules = json.dumps({"network-security-group-id": "nsg", "data": [rule]})
    assert verdicts(audit(forbidding(Transport.UDP), "oci", rules)) == ["open"]


@pytest.mark.parametrize(
    ("source", "ports", "verdict"),
    [
        (AGENTS, "32768:60999", "open"),
        (AGENTS, "49152:65535", "blocked"),
        # People's machines are of every kind: macOS and Windows begin at 49152, Linux ends at 60999.
        (OFFICE, "32768:60999", "blocked"),
        (OFFICE, "49152:65535", "blocked"),
        (OFFICE, "32768:65535", "open"),
        (OFFICE, "1024:65535", "open"),
    ],
)
def test_a_planned_flow_comes_from_any_port_that_its_source_may_take(source: Party, ports: str, verdict: str) -> None:
    plan = Plan("api", (PlannedFlow("api", source, MASTER, Transport.TCP, (PortRange.of(8443),), ""),))
    rule = f"-A INPUT -p tcp -m tcp --sport {ports} --dport 8443 -j ACCEPT"
    assert verdicts(audit(plan, "iptables", iptables(rule), Role.MASTER)) == [verdict]


def test_a_machines_own_dhcp_is_no_opening() -> None:
    rules = "-A INPUT -s fe80::/10 -p udp --sport 547 --dport 546 -j ACCEPT"
    text = iptables().replace("COMMIT\n# ip6", "COMMIT\n# ip6").rpartition("COMMIT")[0] + f"{rules}\nCOMMIT\n"
    assert verdicts(audit(forbidding(Transport.UDP), "iptables", text, Role.AGENT)) == []
    wide = text.replace("-s fe80::/10 ", "")
    assert verdicts(audit(forbidding(Transport.UDP), "iptables", wide, Role.AGENT)) == ["open"]

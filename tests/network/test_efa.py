"""EFA needs all traffic within its machines' group, which no flow says: an audit leaves that rule, a plan names it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.model.clusterfile import load_cluster_file
from quorate.network.audit import audit
from quorate.network.clusterplan import plan_cluster
from quorate.network.plan import Plan
from quorate.network.rules import render

MASTER, AGENTS = "sg-0a0a0a0a0a0a0a0a0", "sg-0b0b0b0b0b0b0b0b0"
SELF = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": AGENTS}]}
WAYS = ("IpPermissions", "IpPermissionsEgress")


def plan_of(fabric: str) -> Plan:
    text = f"""
name: acme
master: {{where: {{addresses: [10.0.0.5], security_groups: [{MASTER}], vpc: train}}}}
users: {{where: {{addresses: [192.168.0.0/16]}}}}
outside: {{dns: [10.0.0.53], ntp: [10.0.0.53], registries: [{{addresses: [10.0.9.9]}}]}}
pools:
- name: gpu
  fabric: {fabric}
  where: {{addresses: [10.0.1.0/24], security_groups: [{AGENTS}], vpc: train, internet: nat}}
"""
    return plan_cluster(load_cluster_file(text, "master.yaml"))


def found(fabric: str, extra: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what an audit says of the plan's own groups with one more rule, both ways, in that of the agents."""
    plan = plan_of(fabric)
    document = json.loads(render(plan, "aws").text)
    for group in document["SecurityGroups"]:
        if group["GroupId"] == AGENTS:
            for way in WAYS:
                group[way].append(extra)
    report = audit(plan, "aws", json.dumps(document))
    return [(finding.code, finding.remedy) for finding in report.findings if finding.code != "CLOUD-NEEDS"]


def test_all_traffic_within_the_group_of_a_pool_on_efa_is_left() -> None:
    assert not found("efa", SELF)


@pytest.mark.parametrize(
    ("fabric", "extra"),
    [
        ("tcp", SELF),
        ("efa", {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": MASTER}]}),
        ("efa", {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}),
        ("efa", {**SELF, "IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535}),
    ],
)
def test_nothing_else_that_is_as_wide_is_left(fabric: str, extra: dict[str, Any]) -> None:
    said = found(fabric, extra)
    assert [remedy for code, remedy in said if code == "NET-UNNEEDED" and "revoke-security-group-" in remedy]


def test_a_plan_names_the_rule_that_efa_needs_besides_its_flows() -> None:
    (finding,) = plan_of("efa").findings
    assert finding.code == "CLOUD-NEEDS" and "EFA" in finding.evidence
    assert f"authorize-security-group-egress --group-id {AGENTS}" in finding.remedy
    assert not plan_of("tcp").findings

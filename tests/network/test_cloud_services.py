"""What a cloud's machines reach at link-local addresses passes their own rules; the cloud's rules are not about it."""

from __future__ import annotations

import pytest

from quorate.model.clusterfile import load_cluster_file
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.rules import render

CLUSTER = """
name: acme
master: {where: {addresses: [10.0.0.5], %s, vpc: train}}
users: {where: {addresses: [192.168.0.0/16]}}
outside:
  registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]
  cloud_apis: [{hosts: [api.example.org], addresses: [203.0.113.8]}]
pools:
- name: gpu
  where: {addresses: [10.0.1.0/24], %s, vpc: train, internet: nat}
  provider: {type: %s, region: r}
"""
OCI_GROUP = "security_groups: [ocid1.networksecuritygroup.oc1.fra.%s]"
NAMES = {
    "aws": ("security_groups: [sg-0a0a0a0a0a0a0a0a1]", "security_groups: [sg-0a0a0a0a0a0a0a0a2]"),
    "gcp": ("tags: [master]", "tags: [agent]"),
    "oci": (OCI_GROUP % "a1", OCI_GROUP % "a2"),
}
CLOUDS = sorted(NAMES)
FLOWS = {"aws": ("metadata",), "gcp": ("metadata",), "oci": ("metadata", "volumes")}


def plan_of(cloud: str) -> Plan:
    return plan_cluster(load_cluster_file(CLUSTER % (*NAMES[cloud], cloud), "master.yaml"))


@pytest.mark.parametrize("role", [Role.MASTER, Role.AGENT])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_machines_own_rules_let_it_ask_for_its_identity_and_reach_its_disks(cloud: str, role: Role) -> None:
    plan = plan_of(cloud)
    assert "ip daddr 169.254.169.254/32 tcp dport 80 accept" in render(plan, "nftables", role).text
    text = render(plan, "iptables", role).text
    report = audit(plan, "iptables", text, role)
    assert not [f for f in report.findings if f.code.startswith(("NET-", "RULE-", "AGENT-"))]
    for name in FLOWS[cloud]:
        assert f"{role.value}-{name}" in {verdict.flow.flow for verdict in report.flows}
        without = "\n".join(line for line in text.splitlines() if f"{role.value}-{name}" not in line)
        blocked = audit(plan, "iptables", without, role)
        assert {f.flow.flow for f in blocked.flows if f.outcome is Outcome.DENY} == {f"{role.value}-{name}"}


@pytest.mark.parametrize(
    ("cloud", "form"), [("aws", "aws"), ("gcp", "gcp"), ("oci", "oci-nsg"), ("oci", "oci-security-list")]
)
def test_no_rule_of_a_cloud_is_about_what_it_never_filters(cloud: str, form: str) -> None:
    plan = plan_of(cloud)
    text = render(plan, form, None).text
    report = audit(plan, form.partition("-")[0], text)
    theirs = [f for f in report.flows if f.flow.destination.role in (Role.METADATA, Role.VOLUMES)]
    assert {f.outcome for f in theirs} == {Outcome.ALLOW}
    assert not [finding for finding in report.findings if "metadata" in str(finding) or "volumes" in str(finding)]
    assert "metadata" not in text and "volumes" not in text and "169.254" not in text

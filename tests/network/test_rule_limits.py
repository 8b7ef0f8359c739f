"""What a platform holds in one group or list is known before it refuses; an address is written once where it can."""

from __future__ import annotations

import pytest

from quorate.model.ports import PortRange
from quorate.network.findings import Finding
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses
from quorate.network.rules import render

MASTER = Party(
    Role.MASTER, "master", addresses(["10.0.0.5"]), security_groups=("sg-m", "ocid1.networksecuritygroup.oc1.iad.m")
)


def to_registry(v4: int, v6: int = 0, ports: int = 1) -> Plan:
    """A master that fetches from one registry with so many addresses, none of which lies beside another."""
    where = [f"198.18.{n // 128}.{n % 128 * 2}" for n in range(v4)] + [f"fd00::{2 * n:x}" for n in range(v6)]
    hub = Party(Role.REGISTRY, "hub", addresses(where))
    flows = [
        PlannedFlow(f"fetch-{n}", MASTER, hub, Transport.TCP, (PortRange.of(443 + 2 * n),), "") for n in range(ports)
    ]
    return Plan("one registry", tuple(flows))


def wide(plan: Plan, form: str) -> list[Finding]:
    return [finding for finding in render(plan, form, Role.MASTER).findings if finding.code == "PLAN-WIDE"]


@pytest.mark.parametrize(
    ("form", "limit", "said"),
    [
        ("aws", 60, "61 egress rules for IPv4; the quota is 60"),
        ("terraform-aws", 60, "61 egress rules for IPv4; the quota is 60"),
        ("oci-nsg", 120, "121 rules; Oracle takes 120"),
        ("terraform-oci", 120, "121 rules; Oracle takes 120"),
        ("oci-security-list", 200, "201 egress rules; Oracle takes 200"),
    ],
)
def test_one_rule_more_than_a_group_or_list_holds_is_a_finding(form: str, limit: int, said: str) -> None:
    assert not wide(to_registry(limit), form)
    (finding,) = wide(to_registry(limit + 1), form)
    assert said in finding.evidence and "CIDR" in finding.remedy


def test_aws_counts_the_rules_of_each_family_by_themselves() -> None:
    assert not wide(to_registry(60, 60), "aws")
    (finding,) = wide(to_registry(60, 61), "aws")
    assert "61 egress rules for IPv6" in finding.evidence


def test_nftables_writes_addresses_that_several_rules_are_about_once() -> None:
    text = render(to_registry(50, 3, ports=2), "nftables", Role.MASTER).text
    assert text.count("198.18.0.4/32") == text.count("fd00::4/128") == 1
    assert text.count("@registry_hub_v4") == text.count("@registry_hub_v6") == 2
    assert "set registry_hub" not in render(to_registry(50), "nftables", Role.MASTER).text

"""Whose rules they are, and whom they name: what the text does not say is neither blocked, nor open, nor nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import AuditReport, audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses

ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)
GROUP, OTHER_GROUP = "sg-0b0b0b0b0b0b0b0b0", "sg-0c0c0c0c0c0c0c0c0"
FAR = "sg-0d0d0d0d0d0d0d0d0"


def plan(agents: Party, users: str = "203.0.113.0/24") -> Plan:
    office = Party(Role.USER, "office", addresses([users]))
    vxlan = PlannedFlow("vxlan", agents, agents, Transport.UDP, (PortRange.of(4789),), "the overlay")
    ssh = PlannedFlow("admin-ssh", office, agents, Transport.TCP, (PortRange.of(22),), "logging in")
    never = [PlannedFlow("anyone-to-agent", ANYONE, agents, way, (ALL_PORTS,), "harm") for way in Transport]
    return Plan("one pool", (vxlan, ssh), tuple(never))


def verdicts(report: AuditReport) -> dict[str, str]:
    return {verdict.flow.flow: verdict.to_dict()["verdict"] for verdict in (*report.flows, *report.forbidden)}


# ---- OCI: lists and groups -------------------------------------------------------------------------------------------


def oci_rule(protocol: str, source: str, port: int) -> dict[str, Any]:
    """As `oci network security-list list` prints it."""
    options = {"6": "tcp-options", "17": "udp-options"}[protocol]
    ports = {"destination-port-range": {"max": port, "min": port}, "source-port-range": None}
    printed = {"description": None, "icmp-options": None, "is-stateless": False, "protocol": protocol}
    return {**printed, "source": source, "source-type": "CIDR_BLOCK", "tcp-options": None, "udp-options": None} | {
        options: ports
    }


def oci_list(name: str, *ingress: dict[str, Any]) -> dict[str, Any]:
    out = {"destination": "0.0.0.0/0", "destination-type": "CIDR_BLOCK", "is-stateless": False, "protocol": "all"}
    return {
        "compartment-id": "ocid1.compartment.oc1..a",
        "defined-tags": {},
        "display-name": name,
        "egress-security-rules": [out],
        "freeform-tags": {},
        "id": f"ocid1.securitylist.oc1.phx.{name}",
        "ingress-security-rules": list(ingress),
        "lifecycle-state": "AVAILABLE",
        "time-created": "2026-01-01T00:00:00+00:00",
        "vcn-id": "ocid1.vcn.oc1.phx.a",
    }


def oci_subnet(name: str, block: str, *lists: str) -> dict[str, Any]:
    return {
        "availability-domain": None,
        "cidr-block": block,
        "display-name": name,
        "id": f"ocid1.subnet.oc1.phx.{name}",
        "ipv6-cidr-block": None,
        "ipv6-cidr-blocks": None,
        "prohibit-public-ip-on-vnic": True,
        "security-list-ids": [f"ocid1.securitylist.oc1.phx.{item}" for item in lists],
        "vcn-id": "ocid1.vcn.oc1.phx.a",
    }


IN_SUBNET = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]))
BASTION = oci_list("bastion", oci_rule("17", "10.0.1.0/24", 4789), oci_rule("6", "203.0.113.0/24", 22))
BOTH_LISTS = json.dumps({"data": [oci_list("agents"), BASTION]})
SUBNETS = [oci_subnet("agents", "10.0.1.0/24", "agents"), oci_subnet("bastion", "10.0.9.0/24", "bastion")]


def test_lists_of_several_subnets_say_nothing_of_a_machine_until_its_subnet_is_known() -> None:
    report = audit(plan(IN_SUBNET), "oci", BOTH_LISTS)
    assert verdicts(report) == {"vxlan": "undetermined", "admin-ssh": "undetermined"}
    assert "oci network subnet list" in report.flows[0].why and "bastion" in report.flows[0].why


def test_the_subnets_say_which_list_holds_for_a_machine() -> None:
    known = BOTH_LISTS + json.dumps({"data": SUBNETS})
    assert verdicts(audit(plan(IN_SUBNET), "oci", known)) == {"vxlan": "blocked", "admin-ssh": "blocked"}
    turned = [oci_subnet("agents", "10.0.1.0/24", "agents", "bastion")]
    assert verdicts(audit(plan(IN_SUBNET), "oci", BOTH_LISTS + json.dumps({"data": turned}))) == {
        "vxlan": "open",
        "admin-ssh": "open",
    }


@pytest.mark.parametrize(
    ("subnets", "why"),
    [
        ([oci_subnet("half", "10.0.1.0/25", "bastion")], "no subnet of the text holds 10.0.1.128/25"),
        ([oci_subnet("agents", "10.0.1.0/24", "agents", "third")], "securitylist.oc1.phx.third of the subnet agents"),
    ],
)
def test_a_subnet_or_list_that_the_text_lacks_may_open_what_the_others_do_not(
    subnets: list[dict[str, Any]], why: str
) -> None:
    report = audit(plan(IN_SUBNET), "oci", BOTH_LISTS + json.dumps({"data": subnets}))
    assert verdicts(report)["vxlan"] == "undetermined" and why in report.flows[0].why


def test_one_list_holds_for_every_machine_also_where_it_is_printed_twice() -> None:
    text = json.dumps({"data": [BASTION]}) + json.dumps({"data": BASTION, "etag": "e"})
    assert verdicts(audit(plan(IN_SUBNET), "oci", text)) == {"vxlan": "open", "admin-ssh": "open"}


def nsg(*rules: dict[str, Any]) -> str:
    """As `oci network nsg rules list` prints it, without the group's name."""
    more = {"destination": None, "destination-type": None, "direction": "INGRESS", "is-valid": True}
    return json.dumps({"data": [{"id": f"A{n}", **more, **rule} for n, rule in enumerate(rules)]})


def test_rules_of_two_groups_without_names_are_nobodys_for_sure() -> None:
    text = nsg(oci_rule("17", "10.0.1.0/24", 4789)) + nsg(oci_rule("6", "203.0.113.0/24", 22))
    report = audit(plan(IN_SUBNET), "oci", text)
    assert verdicts(report)["admin-ssh"] == "undetermined" and "OCID beside them" in report.flows[1].why


def test_a_group_of_a_machine_that_the_text_lacks_may_open_more() -> None:
    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=("ocid1.nsg.b", "ocid1.nsg.c"))
    text = json.dumps(
        {**json.loads(nsg(oci_rule("6", "203.0.113.0/24", 22))), "network-security-group-id": "ocid1.nsg.b"}
    )
    report = audit(plan(agents), "oci", text)
    found = verdicts(report)
    assert found.pop("anyone-to-agent") == "undetermined"
    assert found == {"vxlan": "undetermined", "admin-ssh": "open"}
    assert "ocid1.nsg.c" in report.flows[0].why


def test_a_group_without_the_list_of_its_subnet_does_not_say_what_is_closed() -> None:
    rules = nsg(oci_rule("6", "203.0.113.0/24", 22))
    report = audit(plan(IN_SUBNET), "oci", rules)
    assert verdicts(report) == {"vxlan": "undetermined", "admin-ssh": "open", "anyone-to-agent": "undetermined"}
    assert "oci network security-list list" in report.forbidden[0].why
    with_list = audit(
        plan(IN_SUBNET), "oci", rules + json.dumps({"data": {**oci_list("empty"), "egress-security-rules": []}})
    )
    assert verdicts(with_list) == {"vxlan": "blocked", "admin-ssh": "open"}


# ---- AWS -------------------------------------------------------------------------------------------------------------


def aws(*permissions: dict[str, Any], group: str = GROUP) -> dict[str, Any]:
    """As `aws ec2 describe-security-groups` prints it."""
    return {
        "GroupId": group,
        "IpPermissionsEgress": [
            {"IpProtocol": "-1", "UserIdGroupPairs": [], "IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": []}
        ],
        "VpcId": "vpc-1",
        "SecurityGroupArn": f"arn:aws:ec2:eu-west-1:111122223333:security-group/{group}",
        "OwnerId": "111122223333",
        "GroupName": f"name of {group}",
        "Description": "d",
        "IpPermissions": list(permissions),
    }


def permission(protocol: str, port: int | None, **peers: Any) -> dict[str, Any]:
    span = {} if port is None else {"FromPort": port, "ToPort": port}
    empty: dict[str, Any] = {"UserIdGroupPairs": [], "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": []}
    return {"IpProtocol": protocol, **span, **empty, **peers}


def pair(group: str) -> list[dict[str, str]]:
    return [{"UserId": "111122223333", "GroupId": group}]


def groups(*found: dict[str, Any]) -> str:
    return json.dumps({"SecurityGroups": list(found)})


VXLAN_IN = permission("udp", 4789, UserIdGroupPairs=pair(GROUP))
SSH_IN = permission("tcp", 22, IpRanges=[{"CidrIp": "203.0.113.0/24"}])


def test_a_group_that_the_text_lacks_may_allow_what_the_others_do_not() -> None:
    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=(GROUP, OTHER_GROUP))
    report = audit(plan(agents), "aws", groups(aws(SSH_IN)))
    assert verdicts(report) == {"vxlan": "undetermined", "admin-ssh": "open", "anyone-to-agent": "undetermined"}
    assert f"the group {OTHER_GROUP} of agent/gpu is not in the text" in report.flows[0].why
    assert all(OTHER_GROUP in verdict.why for verdict in report.forbidden)
    whole = audit(plan(agents), "aws", groups(aws(SSH_IN), aws(VXLAN_IN, group=OTHER_GROUP)))
    assert verdicts(whole) == {"vxlan": "open", "admin-ssh": "open"}


IN_GROUP = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=(GROUP,))


def test_whoever_is_in_a_group_that_the_plan_does_not_name_is_somebody() -> None:
    wide = permission("-1", None, UserIdGroupPairs=pair(FAR))
    report = audit(plan(IN_GROUP), "aws", groups(aws(VXLAN_IN, SSH_IN, wide)))
    assert verdicts(report) == {"vxlan": "open", "admin-ssh": "open", "anyone-to-agent": "open"}
    (found,) = (finding for finding in report.findings if finding.code == "AGENT-PUBLIC")
    assert f"tcp on all ports from those in the group {FAR}" in found.evidence
    assert "revoke-security-group-ingress" in found.remedy and FAR in found.remedy


def test_a_user_in_the_cloud_may_be_in_a_group_and_one_outside_is_not() -> None:
    from_far = permission("tcp", 22, UserIdGroupPairs=pair(FAR))
    inside = audit(plan(IN_GROUP, users="10.9.0.0/24"), "aws", groups(aws(VXLAN_IN, from_far)))
    assert verdicts(inside)["admin-ssh"] == "undetermined"
    outside = audit(plan(IN_GROUP), "aws", groups(aws(VXLAN_IN, from_far)))
    assert verdicts(outside)["admin-ssh"] == "blocked"


def test_the_plans_own_groups_are_nobody_else() -> None:
    report = audit(plan(IN_GROUP), "aws", groups({**aws(VXLAN_IN, SSH_IN), "IpPermissionsEgress": [VXLAN_IN]}))
    assert report.findings == () and report.forbidden == ()


# ---- OCI, GCP and Kubernetes: names of others ------------------------------------------------------------------------


def test_an_oci_group_that_the_plan_does_not_name_is_somebody() -> None:
    far = {**oci_rule("6", "ocid1.nsg.far", 9000), "source-type": "NETWORK_SECURITY_GROUP"}
    report = audit(plan(IN_SUBNET), "oci", nsg(oci_rule("17", "10.0.1.0/24", 4789), far))
    assert verdicts(report)["anyone-to-agent"] == "open"
    assert "tcp/9000 from those in the group ocid1.nsg.far" in report.forbidden[0].why


TAGGED = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), tags=("gpu",))


def firewall(name: str, protocol: str, *ports: str, **more: Any) -> dict[str, Any]:
    """As `gcloud compute firewall-rules list --format=json` prints it."""
    return {
        "allowed": [{"IPProtocol": protocol, **({"ports": list(ports)} if ports else {})}],
        "creationTimestamp": "2026-01-01T00:00:00.000-08:00",
        "description": "",
        "direction": "INGRESS",
        "disabled": False,
        "id": "1",
        "kind": "compute#firewall",
        "logConfig": {"enable": False},
        "name": name,
        "network": "https://www.googleapis.com/compute/v1/projects/p/global/networks/train",
        "priority": 1000,
        "selfLink": f"https://www.googleapis.com/compute/v1/projects/p/global/firewalls/{name}",
        **more,
    }


GOOD = [
    firewall("vxlan", "udp", "4789", sourceTags=["gpu"], targetTags=["gpu"]),
    firewall("ssh", "tcp", "22", sourceRanges=["203.0.113.0/24"], targetTags=["gpu"]),
]


def test_a_gcp_tag_that_the_plan_does_not_name_is_somebody() -> None:
    wide = firewall("wide", "all", sourceTags=["other"])
    report = audit(plan(TAGGED), "gcp", json.dumps([*GOOD, wide]))
    assert verdicts(report)["anyone-to-agent"] == "open"
    assert "from those with the tag other, by wide" in report.forbidden[0].why
    shut = [{**firewall(f"shut-{far}", "all", sourceRanges=[far]), "priority": 900} for far in ("0.0.0.0/0", "::/0")]
    for deny in shut:
        deny["denied"] = deny.pop("allowed")
    assert "anyone-to-agent" not in verdicts(audit(plan(TAGGED), "gcp", json.dumps([*GOOD, wide, *shut])))


def test_what_names_a_party_does_not_hide_that_everybody_is_let_in_on_its_port() -> None:
    nameless = Party(Role.AGENT, "gpu", tags=("gpu",))
    wide = firewall("wide", "udp", "4789", sourceRanges=["0.0.0.0/0"], targetTags=["gpu"])
    report = audit(plan(nameless), "gcp", json.dumps([*GOOD, wide]))
    assert verdicts(report)["anyone-to-agent"] == "open" and "udp/4789 from 0.0.0.0/0" in report.forbidden[0].why


def test_a_gcp_rule_without_a_target_is_named_and_narrowed() -> None:
    everywhere = firewall("everywhere", "tcp", "22", sourceRanges=["203.0.113.0/24"])
    report = audit(plan(TAGGED), "gcp", json.dumps([GOOD[0], everywhere]))
    found, way_out = report.findings
    assert (found.code, found.subject, way_out.code) == ("NET-UNNEEDED", "everywhere", "EGRESS-OPEN")
    assert "every instance of the network" in found.evidence
    assert "--target-tags=gpu" in found.remedy and found.remedy.endswith("delete everywhere")


PODS = Party(Role.AGENT, "gpu", labels=(("app", "gpu"),), namespace="quorate")


def policy(*ingress: dict[str, Any], **more: Any) -> str:
    spec = {"podSelector": {"matchLabels": {"app": "gpu"}}, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    metadata = {"name": "agents", "namespace": "quorate"}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec | more}
    return yaml.safe_dump(body)


OWN = {
    "from": [{"podSelector": {"matchLabels": {"app": "gpu"}}}],
    "ports": [{"protocol": "UDP", "port": 4789}],
}
SSH = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 22}]}


@pytest.mark.parametrize(
    "peer",
    [
        {"namespaceSelector": {"matchLabels": {"team": "x"}}},
        {"namespaceSelector": {}},
        {"podSelector": {"matchLabels": {"app": "web"}}},
        {"podSelector": {}},
        {"podSelector": {"matchLabels": {"app": "gpu"}}, "namespaceSelector": {}},
    ],
    ids=json.dumps,
)
def test_pods_that_the_plan_does_not_name_are_somebody(peer: dict[str, Any]) -> None:
    report = audit(plan(PODS), "kubernetes", policy(OWN, SSH, {"from": [peer]}))
    assert verdicts(report)["anyone-to-agent"] == "open"
    assert f"from those among the pods {json.dumps(peer, sort_keys=True)}" in report.forbidden[0].why


def test_the_plans_own_pods_are_nobody_else() -> None:
    report = audit(plan(PODS), "kubernetes", policy(OWN, SSH))
    assert report.findings == () and report.forbidden == ()


def test_a_policy_that_may_not_select_a_pod_does_not_close_it_for_sure() -> None:
    text = policy(podSelector={"matchLabels": {"tier": "gpu"}})
    assert set(verdicts(audit(plan(PODS), "kubernetes", text)).values()) == {"undetermined"}

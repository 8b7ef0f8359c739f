"""What limits a rule is never passed over: unknown fields are refused, and each that a platform prints is known."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

import botocore.session
import kubernetes_validate
import pytest
import yaml

from quorate.network.audit import Unreadable, audit, aws, gcp, kubernetes, ocirules

from .test_audit_whose import (
    BASTION,
    FAR,
    GOOD,
    IN_GROUP,
    IN_SUBNET,
    OWN,
    PODS,
    SSH,
    SSH_IN,
    TAGGED,
    VXLAN_IN,
    groups,
    oci_rule,
    pair,
    permission,
    plan,
    policy,
)
from .test_audit_whose import aws as group

PARTIES = {"aws": IN_GROUP, "gcp": TAGGED, "oci": IN_SUBNET, "kubernetes": PODS}
BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8"}}
EVERY_PEER = permission(
    "tcp", 1, UserIdGroupPairs=pair(FAR), PrefixListIds=[{"PrefixListId": "pl-1"}], Ipv6Ranges=[{"CidrIpv6": "::/0"}]
)
WHOLE: dict[str, Any] = {
    "aws": json.loads(groups(group(VXLAN_IN, SSH_IN, EVERY_PEER))),
    "gcp": GOOD,
    "oci": {"data": BASTION},
    "kubernetes": yaml.safe_load(
        policy(OWN, SSH, {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]})
    ),
}


def read(form: str, body: Any) -> None:
    audit(plan(PARTIES[form]), form, json.dumps(body))


def inside(form: str) -> list[list[Any]]:
    """The path of every field within a rule, in the platform's own form."""
    free = {"matchLabels", "metadata", "defined-tags", "freeform-tags", "logConfig", "params"}
    rules = {"aws": "IpPermissions", "gcp": 0, "oci": "ingress-security-rules", "kubernetes": "spec"}[form]

    def paths(value: Any, path: list[Any]) -> list[list[Any]]:
        steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [
            found
            for key, item in steps
            if key not in free
            for found in [[*path, key]] * isinstance(key, str) + paths(item, [*path, key])
        ]

    found = paths(WHOLE[form], [])
    return [path for path in found if rules in path[:-1] or path[-1] == rules] if form != "gcp" else found


MISSPELT = [(form, path) for form in WHOLE for path in inside(form)]


@pytest.mark.parametrize(
    ("form", "path"), MISSPELT, ids=[f"{form}-{'.'.join(map(str, path))}" for form, path in MISSPELT]
)
def test_a_misspelt_field_is_refused_with_the_field_that_was_meant(form: str, path: list[Any]) -> None:
    body = copy.deepcopy(WHOLE[form])
    *parents, last = path
    target = body
    for step in parents:
        target = target[step]
    target[f"{last}x"] = target.pop(last)
    with pytest.raises(Unreadable) as refused:
        read(form, body)
    assert f"did you mean {last!r}" in str(refused.value) and refused.value.place


@pytest.mark.parametrize(
    ("form", "body", "why"),
    [
        ("gcp", [{**GOOD[0], "priority": 70000}], "priority is 70000"),
        ("gcp", [{**GOOD[0], "allowed": [{"ports": ["22"]}]}], "IPProtocol"),
        ("gcp", [{**GOOD[0], "secureTags": ["a"]}], "secureTags"),
        ("aws", json.loads(groups(group({"FromPort": 1, "ToPort": 2}))), "IpProtocol"),
        ("gcp", [{**GOOD[0], "allowed": [{"IPProtocol": "all", "ports": ["22"]}]}], "all has no ports"),
        ("aws", json.loads(groups(group({"IpProtocol": "tcp", "ToPort": 22}))), "FromPort and ToPort"),
        ("oci", {"data": [{**oci_rule("6", "0.0.0.0/0", 1), "direction": "INGRESS", "protocol": "17"}]}, "protocol 6"),
        ("kubernetes", yaml.safe_load(policy({"ports": [{"endPort": 9}]})), "endPort"),
        ("oci", {"data": [{**oci_rule("6", "0.0.0.0/0", 1), "direction": "INGRESS", "source-type": "CIDR"}]}, "CIDR"),
        ("kubernetes", yaml.safe_load(policy({"from": [{**BLOCK, "podSelector": {}}]})), "beside an ipBlock"),
        ("kubernetes", yaml.safe_load(policy({"from": [{}]})), "a peer has"),
        ("kubernetes", yaml.safe_load(policy({"ports": [{"protocol": "ICMP", "port": 1}]})), "TCP, UDP, SCTP"),
        ("kubernetes", {**WHOLE["kubernetes"], "apiVersion": "projectcalico.org/v3"}, "not judged"),
    ],
)
def test_what_the_platform_would_refuse_is_not_read_as_something_else(form: str, body: Any, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(form, body)


def test_every_field_of_amazons_model_is_known() -> None:
    model = botocore.session.Session().get_service_model("ec2")
    assert set(model.shape_for("SecurityGroup").members) <= aws.GROUP_FIELDS
    shape = model.shape_for("IpPermission")
    assert set(shape.members) <= aws.PERMISSION_FIELDS
    for name, fields in aws.PEER_FIELDS.items():
        assert set(shape.members[name].member.members) <= fields


@pytest.mark.parametrize("version", ["v1", "beta", "alpha"])
def test_every_field_of_googles_discovery_documents_is_known(version: str) -> None:
    path = files("googleapiclient") / "discovery_cache" / "documents" / f"compute.{version}.json"
    firewall = json.loads(path.read_text())["schemas"]["Firewall"]["properties"]
    assert set(firewall) <= gcp.FIREWALL_FIELDS
    for way in ("allowed", "denied"):
        assert set(firewall[way]["items"]["properties"]) <= gcp.TRAFFIC_FIELDS


def test_every_field_of_the_kubernetes_openapi_is_known() -> None:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{kubernetes_validate.latest_version()}-local"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    for name, fields in kubernetes.FIELDS.items():
        package = "apimachinery.pkg.apis.meta" if name.startswith("Label") else "api.networking"
        assert set(definitions[f"io.k8s.{package}.v1.{name}"]["properties"]) <= fields


def test_every_field_of_oracles_datatypes_is_known() -> None:
    """The members of the datatypes as their reference documents them (platforms.py holds what may be sent)."""
    sent = {"description", "protocol", "isStateless", "tcpOptions", "udpOptions", "icmpOptions"}
    ends = {"source", "sourceType", "destination", "destinationType"}
    printed = {"id", "isValid", "timeCreated", "direction"}
    dashed = {ocirules.dash(name) for name in sent | ends | printed}
    assert ocirules.RULE_FIELDS[None] == dashed

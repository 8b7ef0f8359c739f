"""Refuses what a platform's own schema or tool refuses; each function raises for a text that is not valid.

Schemas come from the vendors' packages where these can be had: botocore's EC2 model, Google's discovery document, the
Kubernetes OpenAPI. OCI's SDK weighs half a gigabyte, CloudFormation and the Terraform providers have no package: for
them the documented members stand here, with where they are documented, and everything else is refused.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import botocore.session
import botocore.validate
import hcl2
import jsonschema
import kubernetes_validate
import yaml

Check = Callable[[Any], object]


def text(limit: int, pattern: str = r"[^\x00-\x1f]*") -> Check:
    def check(value: Any) -> None:
        assert isinstance(value, str) and len(value) <= limit, f"{value!r} is longer than {limit}"
        assert re.fullmatch(pattern, value), f"{value!r} does not match {pattern}"

    return check


def number(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        assert type(value) is int and low <= value <= high, f"{value!r} is not {low} to {high}"

    return check


def one_of(*values: Any) -> Check:
    def check(value: Any) -> None:
        assert value in values, f"{value!r} is none of {values}"

    return check


def cidr(version: int) -> Check:
    def check(value: Any) -> None:
        assert ip_network(value).version == version

    return check


def list_of(inner: Check, most: int = 10**6) -> Check:
    def check(value: Any) -> None:
        assert isinstance(value, list) and len(value) <= most
        for item in value:
            inner(item)

    return check


def members(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these members and no others."""
    known = {**required, **(optional or {})}

    def check(value: Any) -> None:
        assert isinstance(value, dict), f"{value!r} is no object"
        assert not set(required) - set(value), f"{set(required) - set(value)} missing in {value}"
        assert not set(value) - set(known), f"{set(value) - set(known)} unknown in {value}"
        for key, item in value.items():
            known[key](item)

    return check


# ---- AWS -------------------------------------------------------------------------------------------------------------

#: Of IpRange and its likes: "Up to 255 characters in length. Allowed characters are a-z, A-Z, 0-9, spaces, and
#: ._-:/()#,@[]+=&;{}!$*" (EC2 API reference).
AWS_DESCRIPTION = text(255, r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]*")


@cache
def ec2() -> Any:
    return botocore.session.Session().get_service_model("ec2")


def aws(rendered: str) -> None:
    for group in json.loads(rendered)["SecurityGroups"]:
        assert not set(group) - {"GroupName", "GroupId", "Description", "IpPermissions", "IpPermissionsEgress"}
        name, why = group["GroupName"], group["Description"]
        accepts("CreateSecurityGroup", {"GroupName": name, "Description": why})
        text(255, r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]+")(name)
        assert not name.startswith("sg-")
        AWS_DESCRIPTION(why)
        for operation, key in (
            ("AuthorizeSecurityGroupIngress", "IpPermissions"),
            ("AuthorizeSecurityGroupEgress", "IpPermissionsEgress"),
        ):
            accepts(operation, {"GroupId": "sg-1", "IpPermissions": group[key]})
            for permission in group[key]:
                number(0, 65535)(permission["FromPort"])
                number(permission["FromPort"], 65535)(permission["ToPort"])
                peers = [*permission.get("IpRanges", ()), *permission.get("Ipv6Ranges", ())]
                assert peers or permission.get("UserIdGroupPairs") or permission.get("PrefixListIds")
                for peer in (*peers, *permission.get("UserIdGroupPairs", ())):
                    AWS_DESCRIPTION(peer["Description"])
                for peer in permission.get("IpRanges", ()):
                    IPv4Network(peer["CidrIp"])
                for peer in permission.get("Ipv6Ranges", ()):
                    IPv6Network(peer["CidrIpv6"])


def accepts(operation: str, parameters: Any) -> None:
    shape = ec2().operation_model(operation).input_shape
    report = botocore.validate.ParamValidator().validate(parameters, shape)
    assert not report.has_errors(), report.generate_report()


def reference(value: Any) -> None:
    assert isinstance(value, str) or (isinstance(value, dict) and set(value) <= {"Ref", "Fn::GetAtt"}), value


#: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference: aws-resource-ec2-securitygroup,
#: aws-resource-ec2-securitygroupingress and aws-resource-ec2-securitygroupegress.
_CFN_RULE: dict[str, Check] = {
    "IpProtocol": one_of("tcp", "udp", "icmp", "-1"),
    "FromPort": number(-1, 65535),
    "ToPort": number(-1, 65535),
    "Description": AWS_DESCRIPTION,
}
_CFN_PEER: dict[str, Check] = {"CidrIp": cidr(4), "CidrIpv6": cidr(6)}
_CFN_NAME = text(255, r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]+")
CLOUDFORMATION = {
    "AWS::EC2::SecurityGroup": members(
        {"GroupDescription": AWS_DESCRIPTION},
        {
            "GroupName": _CFN_NAME,
            "VpcId": reference,
            "SecurityGroupEgress": list_of(members(_CFN_RULE, _CFN_PEER)),
        },
    ),
    "AWS::EC2::SecurityGroupIngress": members(
        {"GroupId": reference, **_CFN_RULE},
        {**_CFN_PEER, "SourceSecurityGroupId": reference, "SourcePrefixListId": text(255)},
    ),
    "AWS::EC2::SecurityGroupEgress": members(
        {"GroupId": reference, **_CFN_RULE},
        {**_CFN_PEER, "DestinationSecurityGroupId": reference, "DestinationPrefixListId": text(255)},
    ),
}


def cloudformation(rendered: str) -> None:
    template = json.loads(rendered)
    assert template["AWSTemplateFormatVersion"] == "2010-09-09"
    assert len(template["Description"].encode()) <= 1024
    for name, resource in template["Resources"].items():
        assert re.fullmatch(r"[A-Za-z0-9]{1,255}", name)
        CLOUDFORMATION[resource["Type"]](resource["Properties"])
        for value in resource["Properties"].values():
            if isinstance(value, dict):
                target = value.get("Ref") or value["Fn::GetAtt"][0]
                assert target in template["Resources"] or target in template["Parameters"]


# ---- GCP -------------------------------------------------------------------------------------------------------------


@cache
def firewall_schema() -> Any:
    """The discovery document's resource; its patterns are whole ones, and a request has no unknown members."""
    path = files("googleapiclient") / "discovery_cache" / "documents" / "compute.v1.json"
    schemas = json.loads(path.read_text())["schemas"]

    def strict(schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return strict(schemas[schema["$ref"]])
        made = {key: schema[key] for key in ("type", "enum") if key in schema}
        if "pattern" in schema:
            made["pattern"] = f"^(?:{schema['pattern']})$"
        if "properties" in schema:
            made["properties"] = {
                key: strict(value) for key, value in schema["properties"].items() if not value.get("readOnly")
            }
            made["additionalProperties"] = False
        if "items" in schema:
            made["items"] = strict(schema["items"])
        return made

    return {**strict(schemas["Firewall"]), "required": ["name"]}


def gcp(rendered: str) -> None:
    rules = json.loads(rendered)
    jsonschema.validate(rules, {"type": "array", "items": firewall_schema()})
    names = [rule["name"] for rule in rules]
    assert len(names) == len(set(names))
    for rule in rules:
        # What the reference says in words: https://cloud.google.com/compute/docs/reference/rest/v1/firewalls
        assert ("allowed" in rule) != ("denied" in rule)
        assert 0 <= rule["priority"] <= 65535
        assert len(rule["description"]) <= 2048
        tags, accounts = ("sourceTags", "targetTags"), ("sourceServiceAccounts", "targetServiceAccounts")
        assert not (any(key in rule for key in tags) and any(key in rule for key in accounts))
        assert rule.get("targetTags") or rule.get("targetServiceAccounts"), "it would hold for the whole network"
        if rule["direction"] == "INGRESS":
            sources = [key for key in ("sourceRanges", "sourceTags", "sourceServiceAccounts") if rule.get(key)]
            assert sources, "a rule without a source is for every source"
        else:
            assert rule["destinationRanges"] and not any(key.startswith("source") for key in rule)
        for key in ("sourceRanges", "destinationRanges"):
            families = {ip_network(item).version for item in rule.get(key, ())}
            assert len(families) <= 1 and len(rule.get(key, ())) <= 256


#: https://cloud.google.com/sdk/gcloud/reference/compute/firewall-rules/create
GCLOUD_FLAGS = {
    *("--action", "--rules", "--direction", "--priority", "--description", "--network"),
    *("--source-ranges", "--source-tags", "--source-service-accounts"),
    *("--destination-ranges", "--target-tags", "--target-service-accounts"),
}


def gcloud(rendered: str) -> None:
    subprocess.run(["sh", "-n"], input=rendered, text=True, check=True, capture_output=True)
    commands = [line for line in rendered.splitlines() if line.startswith("gcloud ")]
    for command in commands:
        words = shlex.split(command)
        assert words[:4] == ["gcloud", "compute", "firewall-rules", "create"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", words[4])
        flags = [word.partition("=")[0] for word in words[5:]]
        assert not set(flags) - GCLOUD_FLAGS and len(flags) == len(set(flags)), command
        rules = next(word for word in words if word.startswith("--rules="))
        assert re.fullmatch(r"--rules=(all|(tcp|udp)(:\d+(-\d+)?)?(,(tcp|udp):\d+(-\d+)?)*)", rules)
    others = [line for line in rendered.splitlines() if not line.startswith("gcloud ")]
    assert [line[:1] for line in others] in (["#", "#", "s", ":"], ["#", "#", "s"])


# ---- OCI -------------------------------------------------------------------------------------------------------------

#: docs.oracle.com/en-us/iaas/api/#/en/iaas/latest/datatypes: PortRange, TcpOptions, UdpOptions, AddSecurityRuleDetails,
#: IngressSecurityRule, EgressSecurityRule, AddNetworkSecurityGroupSecurityRulesDetails.
_OCI_SPAN = members({"min": number(1, 65535), "max": number(1, 65535)})
_OCI_PORTS = members({}, {"sourcePortRange": _OCI_SPAN, "destinationPortRange": _OCI_SPAN})
_OCI_MATCH: dict[str, Check] = {
    "description": text(255),
    "isStateless": one_of(True, False),
    "tcpOptions": _OCI_PORTS,
    "udpOptions": _OCI_PORTS,
}
_OCI_PROTOCOL: dict[str, Check] = {"protocol": one_of("all", "1", "6", "17", "58")}
_OCI_GROUP_PEER = one_of("CIDR_BLOCK", "SERVICE_CIDR_BLOCK", "NETWORK_SECURITY_GROUP")
_OCI_LIST_PEER = one_of("CIDR_BLOCK", "SERVICE_CIDR_BLOCK")
OCI_GROUP_RULE = members(
    {"direction": one_of("INGRESS", "EGRESS"), **_OCI_PROTOCOL},
    {
        **_OCI_MATCH,
        "source": text(255),
        "sourceType": _OCI_GROUP_PEER,
        "destination": text(255),
        "destinationType": _OCI_GROUP_PEER,
    },
)
OCI_INGRESS = members({"source": text(255), **_OCI_PROTOCOL}, {**_OCI_MATCH, "sourceType": _OCI_LIST_PEER})
OCI_EGRESS = members({"destination": text(255), **_OCI_PROTOCOL}, {**_OCI_MATCH, "destinationType": _OCI_LIST_PEER})
_OCI_NAME = text(255)


def oci_groups(rendered: str) -> None:
    group = members(
        {"displayName": _OCI_NAME, "calls": list_of(members({"securityRules": list_of(OCI_GROUP_RULE, most=25)}))},
        {"networkSecurityGroupId": text(255)},
    )
    members({"networkSecurityGroups": list_of(group)})(json.loads(rendered))
    for body in json.loads(rendered)["networkSecurityGroups"]:
        for call in body["calls"]:
            for rule in call["securityRules"]:
                far, near = ("source", "destination") if rule["direction"] == "INGRESS" else ("destination", "source")
                assert rule[far] and near not in rule
                assert not ("tcpOptions" in rule and rule["protocol"] != "6")
                assert not ("udpOptions" in rule and rule["protocol"] != "17")
                if rule[f"{far}Type"] == "CIDR_BLOCK":
                    ip_network(rule[far])


def oci_lists(rendered: str) -> None:
    body = members(
        {
            "displayName": _OCI_NAME,
            "ingressSecurityRules": list_of(OCI_INGRESS),
            "egressSecurityRules": list_of(OCI_EGRESS),
        }
    )
    members({"securityLists": list_of(body)})(json.loads(rendered))


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


def kubernetes(rendered: str) -> None:
    for body in yaml.safe_load_all(rendered):
        kubernetes_validate.validate(body, kubernetes_validate.latest_version(), strict=True)
        # What the API server checks beyond its schema: names, labels, the size of annotations, ports.
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", body["metadata"]["name"])
        assert sum(map(len, body["metadata"]["annotations"].values())) <= 256 * 1024
        assert body["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert body["spec"]["podSelector"]["matchLabels"], "it would select every pod"
        rules = [("from", rule) for rule in body["spec"]["ingress"]] + [("to", rule) for rule in body["spec"]["egress"]]
        for far, rule in rules:
            assert rule[far] and rule["ports"], "an empty list is everybody, or every port"
            for port in rule["ports"]:
                assert 1 <= port["port"] <= port.get("endPort", 65535) <= 65535
        names = [port["port"] for rule in body["spec"]["egress"] for port in rule["ports"] if port["protocol"] == "UDP"]
        assert 53 in names, "without DNS egress a pod has no names"


# ---- Terraform -------------------------------------------------------------------------------------------------------

#: registry.terraform.io: hashicorp/google google_compute_firewall; hashicorp/aws aws_security_group,
#: aws_vpc_security_group_ingress_rule, aws_vpc_security_group_egress_rule; oracle/oci
#: oci_core_network_security_group, oci_core_network_security_group_security_rule: required and optional arguments.
_RULE_AWS = ({"security_group_id", "ip_protocol"}, {"from_port", "to_port", "description"})
_AWS_PEERS = {"cidr_ipv4", "cidr_ipv6", "referenced_security_group_id", "prefix_list_id"}
TERRAFORM: dict[str, tuple[set[str], set[str]]] = {
    "google_compute_firewall": (
        {"name", "network"},
        {
            *("description", "direction", "priority", "disabled", "allow", "deny", "source_ranges", "source_tags"),
            *("source_service_accounts", "destination_ranges", "target_tags", "target_service_accounts"),
        },
    ),
    "aws_security_group": (set(), {"name", "description", "vpc_id"}),
    "aws_vpc_security_group_ingress_rule": (_RULE_AWS[0], _RULE_AWS[1] | _AWS_PEERS),
    "aws_vpc_security_group_egress_rule": (_RULE_AWS[0], _RULE_AWS[1] | _AWS_PEERS),
    "oci_core_network_security_group": ({"compartment_id", "vcn_id"}, {"display_name"}),
    "oci_core_network_security_group_security_rule": (
        {"network_security_group_id", "direction", "protocol"},
        {
            *("description", "stateless", "source", "source_type", "destination", "destination_type"),
            *("tcp_options", "udp_options"),
        },
    ),
}


def terraform(rendered: str) -> None:
    # The parser does not know `%%{`, the escape for what would begin a directive (HCL's specification, "Templates").
    parsed = hcl2.loads(rendered.replace("%%{", "%%("))
    variables = {unquoted(name) for block in parsed.get("variable", ()) for name in block}
    declared = set()
    for block in parsed.get("resource", ()):
        for kind, named in block.items():
            required, optional = TERRAFORM[unquoted(kind)]
            for name, body in named.items():
                own = {key for key in body if not key.startswith("__")}
                assert not required - own and not own - required - optional, (kind, name, own)
                assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", unquoted(name))
                assert (kind, name) not in declared, f"two resources are called {kind}.{name}"
                declared.add((kind, name))
    resources = {f"{unquoted(kind)}.{unquoted(name)}" for kind, name in declared}
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', rendered)
    assert set(re.findall(r"\bvar\.(\w+)", bare)) <= variables
    assert set(re.findall(r"\b(\w+\.\w+)\.id\b", bare)) <= resources


def unquoted(name: str) -> str:
    return name.strip('"')


# ---- one machine -----------------------------------------------------------------------------------------------------


def nftables(rendered: str) -> None:
    in_namespace(f"nft -c -f - <<'TEXT'\n{rendered}\nTEXT\n")


def iptables(rendered: str) -> None:
    v4, _, v6 = rendered.partition("# IPv6\n")
    in_namespace(f"iptables-restore --test <<'TEXT'\n{v4}\nTEXT\nip6tables-restore --test <<'TEXT'\n{v6}\nTEXT\n")


def in_namespace(script: str) -> None:
    """Run the tool in a network namespace that ends with the command, so that nothing of this machine is touched."""
    done = subprocess.run(
        ["unshare", "-n", "sh", "-e"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


#: Each format with what refuses a text that its platform would not take.
VALIDATORS: dict[str, Callable[[str], None]] = {
    "gcp": gcp,
    "gcloud": gcloud,
    "aws": aws,
    "cloudformation": cloudformation,
    "oci-nsg": oci_groups,
    "oci-security-list": oci_lists,
    "kubernetes": kubernetes,
    "terraform-gcp": terraform,
    "terraform-aws": terraform,
    "terraform-oci": terraform,
    "nftables": nftables,
    "iptables": iptables,
}

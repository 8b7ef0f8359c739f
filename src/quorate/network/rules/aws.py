"""AWS: security groups, as input of the EC2 API and as a CloudFormation template.

Facts: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html and
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-ec2-securitygroup.html. A group holds 60
rules a direction and family unless the quota is raised (Amazon VPC quotas); a new group lets everything out until that
rule is revoked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from quorate.model.ports import PortRange
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role
from quorate.network.plan import Party, Plan, addresses
from quorate.network.rules import Rendered
from quorate.network.rules.openings import (
    Opening,
    by_family,
    elsewhere,
    left_out,
    nameless_groups,
    openings,
    shorten,
    slug,
    unsupported,
)
from quorate.network.rules.outline import outline

#: What the API takes in a description: 255 of a-z, A-Z, 0-9, blanks and these.
DESCRIPTION, CHARSET = 255, " ._-:/()#,@[]+=&;{}!$*"
#: How ids of Oracle's groups begin.
FOREIGN = "ocid1."
#: Rules of one direction and one family in a group, without a raised quota; a peer that is no CIDR counts in both.
QUOTA = 60
#: What groups do not filter: Amazon's resolver, clock and metadata (VPC user guide, security group basics).
_LINK_LOCAL = ("169.254.169.123", "169.254.169.253", "169.254.169.254", "169.254.170.2")
UNFILTERED = addresses((*_LINK_LOCAL, "fd00:ec2::123", "fd00:ec2::253", "fd00:ec2::254"))


@dataclass(frozen=True, slots=True)
class Permission:
    """One rule of a group: exactly one of cidr, cidr6, group, party (its key) and prefix_list is set."""

    direction: Direction
    protocol: str
    ports: PortRange
    description: str
    cidr: str = ""
    cidr6: str = ""
    group: str = ""
    party: str = ""
    prefix_list: str = ""


def groups(plan: Plan, role: Role | None) -> tuple[dict[str, tuple[Party, list[Permission]]], list[Finding]]:
    """Return for each party that carries rules its permissions; peers with a group of the plan's are named by key."""
    needed = openings(plan, role, unfiltered=UNFILTERED, foreign=FOREIGN)
    own = {opening.local.key for opening in needed}
    findings = [*left_out(plan, role), *elsewhere(plan, role, FOREIGN)]
    found: dict[str, tuple[Party, list[Permission]]] = {}
    for opening in needed:
        _, permissions = found.setdefault(opening.local.key, (opening.local, []))
        made = list(_permissions(opening, own))
        permissions += made
        if not made:
            remedy = f"state the addresses or the security group of {opening.peer.key} in master.yaml"
            findings.append(unsupported(opening, "AWS", f"{opening.peer.key} has neither address nor group", remedy))
    for key, (party, permissions) in found.items():
        for direction, family in product(Direction, ("IPv4", "IPv6")):
            other = "cidr6" if family == "IPv4" else "cidr"
            count = sum(item.direction is direction and not getattr(item, other) for item in permissions)
            if count > QUOTA:
                findings.append(
                    Finding(
                        "PLAN-WIDE",
                        key,
                        f"the security group of {party} has {count} {direction.value} rules for {family}; "
                        f"the quota is {QUOTA}",
                        remedy="name agents by a CIDR or by their security group in master.yaml, or raise the quota",
                    )
                )
    return found, findings


def _permissions(opening: Opening, own: set[str]) -> Iterator[Permission]:
    description = shorten(opening.purpose, DESCRIPTION, CHARSET)
    v4, v6 = by_family(opening.peer.addresses)
    for ports in opening.ports:
        base = (opening.direction, opening.transport.value, ports, description)
        if opening.peer.security_groups:
            for group in opening.peer.security_groups:
                yield Permission(*base, group=group)
        elif opening.peer.key in own:
            # One rule however many machines there are; each counts against the quota.
            yield Permission(*base, party=opening.peer.key)
        elif opening.peer.prefix_lists:
            for prefix_list in opening.peer.prefix_lists:
                yield Permission(*base, prefix_list=prefix_list)
        else:
            for cidr in v4:
                yield Permission(*base, cidr=cidr)
            for cidr in v6:
                yield Permission(*base, cidr6=cidr)


def group_name(party: Party) -> str:
    """Return the name of the group of a party."""
    return f"quorate-{slug(party.key)}"


def render_json(plan: Plan, role: Role | None) -> Rendered:
    """Return one object a group: its name, and the permissions that `aws ec2 authorize-security-group-*` takes."""
    found, findings = groups(plan, role)
    shown = []
    for party, permissions in found.values():
        group: dict[str, Any] = {
            "GroupName": group_name(party),
            "Description": shorten(f"Quorate: {plan.name}, {party.key}", DESCRIPTION, CHARSET),
        }
        if party.security_groups:
            group["GroupId"] = party.security_groups[0]
        for direction, key in ((Direction.INGRESS, "IpPermissions"), (Direction.EGRESS, "IpPermissionsEgress")):
            group[key] = [_api(permission, found) for permission in permissions if permission.direction is direction]
        shown.append(group)
    named = {permission.party for _, permissions in found.values() for permission in permissions if permission.party}
    instead = "--for cloudformation, or --for terraform-aws"
    findings += nameless_groups((found[key][0] for key in named), "AWS", "ids but in a default VPC", instead)
    return Rendered(outline({"SecurityGroups": shown}, 4), tuple(findings))


def _api(permission: Permission, found: dict[str, tuple[Party, list[Permission]]]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "IpProtocol": permission.protocol,
        "FromPort": permission.ports.first,
        "ToPort": permission.ports.last,
    }
    text = {"Description": permission.description}
    if permission.cidr:
        shown["IpRanges"] = [{"CidrIp": permission.cidr, **text}]
    elif permission.cidr6:
        shown["Ipv6Ranges"] = [{"CidrIpv6": permission.cidr6, **text}]
    elif permission.prefix_list:
        shown["PrefixListIds"] = [{"PrefixListId": permission.prefix_list, **text}]
    elif permission.group:
        shown["UserIdGroupPairs"] = [{"GroupId": permission.group, **text}]
    else:
        shown["UserIdGroupPairs"] = [{"GroupName": group_name(found[permission.party][0]), **text}]
    return shown


def render_cloudformation(plan: Plan, role: Role | None) -> Rendered:
    """Return a template that makes the groups and, apart from them so that they may name each other, their rules."""
    found, findings = groups(plan, role)
    resources: dict[str, Any] = {}
    for party, _ in found.values():
        if party.security_groups:
            continue
        resources[logical(party)] = {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupName": group_name(party),
                "GroupDescription": shorten(f"Quorate: {plan.name}, {party.key}", DESCRIPTION, CHARSET),
                "VpcId": {"Ref": "Vpc"},
                # A group without this one lets everything out; with it only what the rules below add.
                "SecurityGroupEgress": [
                    {
                        "IpProtocol": "icmp",
                        "FromPort": 3,
                        "ToPort": 4,
                        "CidrIp": "127.0.0.1/32",
                        "Description": "in place of the default that lets everything out",
                    }
                ],
            },
        }
    for party, permissions in found.values():
        for number, permission in enumerate(permissions, 1):
            way = permission.direction.value.capitalize()
            resources[f"{logical(party)}{way}{number}"] = {
                "Type": f"AWS::EC2::SecurityGroup{way}",
                "Properties": {"GroupId": reference(party), **_template(permission, found)},
            }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": shorten(f"Quorate: {plan.name}", DESCRIPTION, CHARSET),
        "Parameters": {"Vpc": {"Type": "AWS::EC2::VPC::Id", "Description": "the VPC of master and agents"}},
        "Resources": resources,
    }
    return Rendered(outline(template, 2), tuple(findings))


def logical(party: Party) -> str:
    """Return the logical id of a party's group: letters and digits."""
    return "".join(word.capitalize() for word in slug(party.key).split("-")) + "Group"


def reference(party: Party) -> str | dict[str, Any]:
    """Return the id of a party's group, or what becomes it in a template."""
    return party.security_groups[0] if party.security_groups else {"Fn::GetAtt": [logical(party), "GroupId"]}


def _template(permission: Permission, found: dict[str, tuple[Party, list[Permission]]]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "IpProtocol": permission.protocol,
        "FromPort": permission.ports.first,
        "ToPort": permission.ports.last,
        "Description": permission.description,
    }
    side = "Source" if permission.direction is Direction.INGRESS else "Destination"
    if permission.cidr:
        shown["CidrIp"] = permission.cidr
    elif permission.cidr6:
        shown["CidrIpv6"] = permission.cidr6
    elif permission.prefix_list:
        shown[f"{side}PrefixListId"] = permission.prefix_list
    else:
        peer = permission.group or reference(found[permission.party][0])
        shown[f"{side}SecurityGroupId"] = peer
    return shown

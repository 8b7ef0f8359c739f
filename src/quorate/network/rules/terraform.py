"""Terraform for GCP, AWS and OCI, made of the same rules as the platforms' own forms.

Schemas: registry.terraform.io/providers hashicorp/google (google_compute_firewall), hashicorp/aws (aws_security_group,
aws_vpc_security_group_ingress_rule, aws_vpc_security_group_egress_rule) and oracle/oci
(oci_core_network_security_group, oci_core_network_security_group_security_rule).
"""

from __future__ import annotations

from typing import Any

from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role
from quorate.network.plan import Party, Plan
from quorate.network.rules import Rendered, aws, gcp, oci
from quorate.network.rules.hcl import Block, Reference, resource, variable
from quorate.network.rules.openings import elsewhere, left_out, openings, shorten, slug, unsupported


def render_gcp(plan: Plan, role: Role | None) -> Rendered:
    """Return a google_compute_firewall for each rule."""
    rules, findings = gcp.resources(plan, role)
    blocks = [variable("network", "Name or self link of the VPC network of master and agents")]
    for rule in rules:
        body: dict[str, Any] = {
            "name": rule["name"],
            "network": Reference("var.network"),
            "direction": rule["direction"],
            "priority": rule["priority"],
            "description": rule["description"],
        }
        for key, attribute in (
            ("sourceRanges", "source_ranges"),
            ("destinationRanges", "destination_ranges"),
            ("sourceTags", "source_tags"),
            ("targetTags", "target_tags"),
            ("sourceServiceAccounts", "source_service_accounts"),
            ("targetServiceAccounts", "target_service_accounts"),
        ):
            if rule.get(key):
                body[attribute] = rule[key]
        for key, block in (("allowed", "allow"), ("denied", "deny")):
            for item in rule.get(key, ()):
                match = {"protocol": item["IPProtocol"]}
                body[block] = Block({**match, "ports": item["ports"]} if item.get("ports") else match)
        blocks.append(resource("google_compute_firewall", _name(rule["name"]), body))
    return Rendered("\n\n".join(blocks) + "\n", tuple(findings))


def render_aws(plan: Plan, role: Role | None) -> Rendered:
    """Return an aws_security_group for each party that has none, and a resource for each rule."""
    found, findings = aws.groups(plan, role)
    blocks = [variable("vpc_id", "Id of the VPC of master and agents")]
    for party, _ in found.values():
        if not party.security_groups:
            body = {
                "name": aws.group_name(party),
                "description": shorten(f"Quorate: {plan.name}, {party.key}", aws.DESCRIPTION, aws.CHARSET),
                "vpc_id": Reference("var.vpc_id"),
            }
            blocks.append(resource("aws_security_group", _name(aws.group_name(party)), body))
    for party, permissions in found.values():
        for number, permission in enumerate(permissions, 1):
            way = permission.direction.value
            rule: dict[str, Any] = {
                "security_group_id": _aws_group(party),
                "description": permission.description,
                "ip_protocol": permission.protocol,
                "from_port": permission.ports.first,
                "to_port": permission.ports.last,
            }
            if permission.cidr:
                rule["cidr_ipv4"] = permission.cidr
            elif permission.cidr6:
                rule["cidr_ipv6"] = permission.cidr6
            elif permission.prefix_list:
                rule["prefix_list_id"] = permission.prefix_list
            else:
                peer = permission.group or _aws_group(found[permission.party][0])
                rule["referenced_security_group_id"] = peer
            name = _name(f"{aws.group_name(party)}-{way}-{number}")
            blocks.append(resource(f"aws_vpc_security_group_{way}_rule", name, rule))
    return Rendered("\n\n".join(blocks) + "\n", tuple(findings))


def render_oci(plan: Plan, role: Role | None) -> Rendered:
    """Return an oci_core_network_security_group for each party that has none, and a resource for each rule."""
    findings: list[Finding] = [*left_out(plan, role), *elsewhere(plan, role, oci.FOREIGN)]
    needed = openings(plan, role, unfiltered=oci.UNFILTERED, foreign=oci.FOREIGN)
    parties = {opening.local.key: opening.local for opening in needed}
    blocks = [
        variable("compartment_id", "OCID of the compartment of the network security groups"),
        variable("vcn_id", "OCID of the VCN of master and agents"),
    ]
    for party in parties.values():
        if not party.security_groups:
            body = {
                "compartment_id": Reference("var.compartment_id"),
                "vcn_id": Reference("var.vcn_id"),
                "display_name": oci.group_name(party),
            }
            blocks.append(resource("oci_core_network_security_group", _name(oci.group_name(party)), body))
    names = {oci.group_name(party): party for party in parties.values()}
    counts: dict[str, int] = {}
    for opening in needed:
        made = list(oci.group_rules(opening, set(parties)))
        if not made:
            remedy = f"state the addresses of {opening.peer.key} in master.yaml"
            findings.append(unsupported(opening, "OCI", f"{opening.peer.key} has neither address nor group", remedy))
        for rule in made:
            counts[opening.local.key] = counts.get(opening.local.key, 0) + 1
            far = "source" if opening.direction is Direction.INGRESS else "destination"
            peer = rule[far]
            entry: dict[str, Any] = {
                "network_security_group_id": _oci_group(opening.local),
                "direction": rule["direction"],
                "protocol": rule["protocol"],
                "description": rule["description"],
                "stateless": False,
                far: _oci_group(names[peer]) if peer in names else peer,
                f"{far}_type": rule[f"{far}Type"],
            }
            for transport in ("tcp", "udp"):
                if options := rule.get(f"{transport}Options"):
                    limits = Block(options["destinationPortRange"])
                    entry[f"{transport}_options"] = Block(destination_port_range=limits)
            name = _name(f"{oci.group_name(opening.local)}-{counts[opening.local.key]}")
            blocks.append(resource("oci_core_network_security_group_security_rule", name, entry))
    for key, count in counts.items():
        findings += oci.too_many_in_group(parties[key], count)
    return Rendered("\n\n".join(blocks) + "\n", tuple(findings))


def _name(text: str) -> str:
    return slug(text).replace("-", "_")


def _aws_group(party: Party) -> str:
    if party.security_groups:
        return party.security_groups[0]
    return Reference(f"aws_security_group.{_name(aws.group_name(party))}.id")


def _oci_group(party: Party) -> str:
    if party.security_groups:
        return party.security_groups[0]
    return Reference(f"oci_core_network_security_group.{_name(oci.group_name(party))}.id")

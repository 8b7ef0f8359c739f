"""GCP: VPC firewall rules, as resources of the Compute API (`firewalls.insert`) and as gcloud commands.

Facts: https://cloud.google.com/compute/docs/reference/rest/v1/firewalls and
https://cloud.google.com/firewall/docs/firewalls. Egress rules name their peers by ranges only; a rule takes tags or
service accounts, never both; a rule holds one address family.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

from quorate.model.ports import ALL_PORTS
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role
from quorate.network.plan import Party, Plan, addresses
from quorate.network.rules import Rendered
from quorate.network.rules.openings import Opening, by_family, left_out, machines, openings, shorten, slug, unsupported
from quorate.network.rules.outline import outline

#: RFC 1035 label, as the API demands.
NAME = 63
DESCRIPTION = 2048
#: "Each firewall rule can contain up to 256 source IP ranges" where nothing else is agreed.
RANGES = 256
#: What is always reached: names, time and metadata (VPC firewall rules, "Google Cloud metadata server").
UNFILTERED = addresses(("169.254.169.254", "fd20:ce::254"))
#: Below every rule of the plan and above the implied ones (65535): what the plan does not name does not leave.
DENY_PRIORITY = 65534
PRIORITY = 1000


def resources(plan: Plan, role: Role | None) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return the firewall resources in a stable order, and findings for what GCP cannot say."""
    rules: list[dict[str, Any]] = []
    findings: list[Finding] = list(left_out(plan, role))
    needed = openings(plan, role, unfiltered=UNFILTERED)
    for opening in needed:
        try:
            rules += _allow(opening)
        except _Unsupported as error:
            findings.append(unsupported(opening, "GCP", error.why, error.remedy))
    rules += _deny_egress(machines(plan, role))
    return _with_names_of_their_own(rules), findings


def _with_names_of_their_own(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two openings may differ in nothing that stands in a name; then the later one's says what is in it, too."""
    seen: set[str] = set()
    found = []
    for rule in rules:
        if rule["name"] in seen:
            rule = {**rule, "name": name(f"{rule['name']}-{_digest(json.dumps(rule))}")}
        seen.add(rule["name"])
        found.append(rule)
    return found


def render_json(plan: Plan, role: Role | None) -> Rendered:
    """Return a JSON list of firewall resources."""
    rules, findings = resources(plan, role)
    nowhere = sorted({local.key for local in machines(plan, role) if local.vpc is None})
    if rules and nowhere:
        findings.append(
            Finding(
                "PLAN-UNRESOLVED",
                "network",
                "the resources name no network, and the API puts such rules into the one called default",
                nowhere[0],
                nowhere[0],
                f"state vpc of {', '.join(nowhere)} in master.yaml, or write the commands: --for gcloud",
            )
        )
    return Rendered(outline(rules, 2), tuple(findings))


def render_commands(plan: Plan, role: Role | None) -> Rendered:
    """Return a shell script of `gcloud compute firewall-rules create` commands."""
    rules, findings = resources(plan, role)
    lines = ["#!/bin/sh", f"# {shorten(plan.name, DESCRIPTION)}", "set -eu"]
    if not all(rule.get("network") for rule in rules):
        lines.append(': "${NETWORK:?name of the VPC network}"')
    lines += [command(rule) for rule in rules]
    return Rendered("\n".join(lines) + "\n", tuple(findings))


def command(rule: dict[str, Any]) -> str:
    """Return the gcloud command that makes one firewall resource."""
    words = ["gcloud", "compute", "firewall-rules", "create", rule["name"]]
    words += [f"--direction={rule['direction']}", f"--priority={rule['priority']}"]
    verb = "allowed" if "allowed" in rule else "denied"
    words += [f"--action={'ALLOW' if verb == 'allowed' else 'DENY'}"]
    specs = [
        f"{item['IPProtocol']}:{port}" if item.get("ports") else item["IPProtocol"]
        for item in rule[verb]
        for port in (item.get("ports") or [""])
    ]
    words.append(f"--rules={','.join(specs)}")
    for key, flag in (
        ("sourceRanges", "source-ranges"),
        ("destinationRanges", "destination-ranges"),
        ("sourceTags", "source-tags"),
        ("targetTags", "target-tags"),
        ("sourceServiceAccounts", "source-service-accounts"),
        ("targetServiceAccounts", "target-service-accounts"),
    ):
        if rule.get(key):
            words.append(f"--{flag}={','.join(rule[key])}")
    words.append(f"--description={rule['description']}")
    if rule.get("network"):
        return shlex.join([*words, f"--network={rule['network'].removeprefix('global/networks/')}"])
    # Where the plan knows none, the network is the operator's to name: the one word that the shell expands.
    return shlex.join(words) + ' --network="$NETWORK"'


class _Unsupported(Exception):
    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why, self.remedy = why, remedy


def _target(local: Party, *, accounts: bool) -> dict[str, list[str]]:
    """Return what attaches a rule to its machines; without tags or accounts a rule would hold for the whole network."""
    if accounts and local.service_accounts:
        return {"targetServiceAccounts": list(local.service_accounts)}
    if local.tags and not accounts:
        return {"targetTags": list(local.tags)}
    if not local.tags and not local.service_accounts:
        raise _Unsupported(
            f"{local.key} has neither a network tag nor a service account to attach a rule to",
            f"state tags or service_accounts of {local.key} in master.yaml",
        )
    raise _Unsupported(
        "a rule takes network tags or service accounts, never both",
        "state the same kind for both ends in master.yaml",
    )


def _allow(opening: Opening) -> Iterator[dict[str, Any]]:
    local, peer = opening.local, opening.peer
    allowed: dict[str, Any] = {"IPProtocol": opening.transport.value}
    if ALL_PORTS not in opening.ports:
        allowed["ports"] = [str(item) for item in opening.ports]
    body = {"priority": PRIORITY, "allowed": [allowed], "description": shorten(opening.purpose, DESCRIPTION)}
    v4, v6 = by_family(peer.addresses)
    if opening.direction is Direction.EGRESS:
        if not peer.addresses:
            raise _Unsupported(
                f"an egress rule names its destination by ranges only, and {peer.key} has no addresses",
                f"state the addresses of {peer.key} in master.yaml",
            )
        target = _target(local, accounts=not local.tags)
        for suffix, networks in (("", v4), ("-v6", v6)):
            yield from _chunks(
                opening, suffix, {**body, "direction": "EGRESS", **target}, "destinationRanges", networks
            )
        return
    ingress = {**body, "direction": "INGRESS"}
    if peer.service_accounts and local.service_accounts:
        accounts = {"sourceServiceAccounts": list(peer.service_accounts), **_target(local, accounts=True)}
        yield _named(opening, "", {**ingress, **accounts})
    elif peer.tags and local.tags:
        yield _named(opening, "", {**ingress, "sourceTags": list(peer.tags), **_target(local, accounts=False)})
    elif peer.addresses:
        target = _target(local, accounts=not local.tags)
        for suffix, networks in (("", v4), ("-v6", v6)):
            yield from _chunks(opening, suffix, {**ingress, **target}, "sourceRanges", networks)
    else:
        _target(local, accounts=not peer.tags)


def _chunks(
    opening: Opening, suffix: str, body: dict[str, Any], key: str, networks: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(networks), RANGES):
        more = f"-{start // RANGES + 1}" if start else ""
        yield _named(opening, f"{suffix}{more}", {**body, key: list(networks[start : start + RANGES])})


def _named(opening: Opening, suffix: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"name": name(f"quorate-{opening.slug}{suffix}"), **_network(opening.local), **body}


def _network(local: Party) -> dict[str, str]:
    """Where the rule holds; without it the API takes the network `default`."""
    if local.vpc is None:
        return {}
    return {"network": local.vpc if "/" in local.vpc else f"global/networks/{local.vpc}"}


def name(text: str) -> str:
    """Return a name that GCP takes: what is too long keeps its beginning and a digest of the whole."""
    text = slug(text)
    if len(text) <= NAME:
        return text
    return f"{text[: NAME - 9].rstrip('-')}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _deny_egress(locals_: tuple[Party, ...]) -> Iterator[dict[str, Any]]:
    """GCP lets everything out unless a rule says otherwise, so each kind of machine gets one that does."""
    for local in locals_:
        try:
            target = _target(local, accounts=not local.tags)
        except _Unsupported:
            continue
        for suffix, everywhere in (("", "0.0.0.0/0"), ("-v6", "::/0")):
            yield {
                "name": name(f"quorate-egress-{local.key}-deny{suffix}"),
                **_network(local),
                "priority": DENY_PRIORITY,
                "denied": [{"IPProtocol": "all"}],
                "description": f"what the plan does not name does not leave {local.key}",
                "direction": "EGRESS",
                **target,
                "destinationRanges": [everywhere],
            }

"""Kubernetes: one NetworkPolicy for each kind of pod, both directions, DNS egress always.

Facts: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/. A pod that a policy
selects may do only what policies allow, so a policy without DNS egress leaves it without names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role
from quorate.network.plan import Party, Plan
from quorate.network.rules import Rendered
from quorate.network.rules.openings import by_family, left_out, machines, openings, shorten, slug, unsupported

NAME = 253
PURPOSE = "quorate.dev/purpose"
#: All annotations of an object together hold 256 KiB (ValidateAnnotations); this leaves room for 250 rules.
PURPOSE_LENGTH = 1000


def render(plan: Plan, role: Role | None) -> Rendered:
    """Return the policies as YAML documents, for parties that have pod labels."""
    findings: list[Finding] = list(left_out(plan, role))
    policies: dict[str, tuple[Party, dict[str, list[dict[str, Any]]], list[str]]] = {}
    for party in machines(plan, role):
        # A pod that no policy selects is open both ways, so each gets one, even where no flow of the plan is its own.
        if party.labels:
            policies[party.key] = (party, {"ingress": [], "egress": []}, [])
    unlabelled: dict[str, dict[str, None]] = {}
    for opening in openings(plan, role):
        if not opening.local.labels:
            left = unlabelled.setdefault(opening.local.key, {})
            left.update(dict.fromkeys(flow.flow for flow in opening.flows))
            continue
        peers = _peers(opening.peer)
        if not peers:
            remedy = f"state the labels or addresses of {opening.peer.key} in master.yaml"
            findings.append(unsupported(opening, "a NetworkPolicy", f"{opening.peer.key} is no pod or address", remedy))
            continue
        _, rules, purposes = policies[opening.local.key]
        far = "from" if opening.direction is Direction.INGRESS else "to"
        ports = [_port(opening.transport.value.upper(), item) for item in opening.ports]
        rules[opening.direction.value].append({far: peers, "ports": ports})
        purpose = f"{opening.direction.value} {opening.transport.value} {opening.peer.key}: {opening.purpose}"
        purposes.append(shorten(purpose, PURPOSE_LENGTH))
    findings += (_nothing_selects(key, flows) for key, flows in unlabelled.items())
    documents = [_policy(party, rules, purposes) for party, rules, purposes in policies.values()]
    text = yaml.safe_dump_all(documents, sort_keys=False, width=120, explicit_start=True)
    return Rendered(text, tuple(dict.fromkeys(findings)))


def _nothing_selects(key: str, flows: Iterable[str]) -> Finding:
    evidence = f"{key} has no pod labels for a NetworkPolicy to select; left out: {', '.join(flows)}"
    return Finding("PLAN-UNRESOLVED", key, evidence, remedy=f"state the labels of {key} in master.yaml")


def _policy(party: Party, rules: dict[str, list[dict[str, Any]]], purposes: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": shorten(f"quorate-{slug(party.key)}", NAME)}
    if party.namespace:
        metadata["namespace"] = party.namespace
    metadata["annotations"] = {PURPOSE: "\n".join(purposes)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": {"matchLabels": dict(party.labels)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": rules["ingress"],
            "egress": [_dns(), *rules["egress"]],
        },
    }


def _dns() -> dict[str, Any]:
    """The cluster's own DNS, in the namespace and with the label that every distribution gives it."""
    port = catalogue.port("dns")
    return {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")],
    }


def _peers(party: Party) -> list[dict[str, Any]]:
    if party.labels:
        peer: dict[str, Any] = {"podSelector": {"matchLabels": dict(party.labels)}}
        if party.namespace:
            peer["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": party.namespace}}
        return [peer]
    return [{"ipBlock": {"cidr": cidr}} for family in by_family(party.addresses) for cidr in family]


def _port(protocol: str, item: PortRange) -> dict[str, Any]:
    # The API counts ports from 1.
    port: dict[str, Any] = {"protocol": protocol, "port": max(1, item.first)}
    if item.last != item.first:
        port["endPort"] = item.last
    return port

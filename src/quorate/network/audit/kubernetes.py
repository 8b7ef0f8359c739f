"""Reads NetworkPolicy YAML, as files hold it or `kubectl get networkpolicy -o yaml` prints it.

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. A pod that no policy selects for a
direction is open in it; one that is selected may do what any of its policies allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from quorate.network.audit.documents import items, member, networks
from quorate.network.audit.ruleset import Rule, Ruleset, Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, Outcome, outside
from quorate.network.flows import Direction, Transport
from quorate.network.plan import Party, PlannedFlow

_NAME = "kubernetes.io/metadata.name"
_MOST_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Allowance:
    rule: Rule
    #: None is everybody; else any of them.
    peers: tuple[Any, ...] | None
    ports: tuple[Any, ...] | None
    place: str


@dataclass(frozen=True, slots=True)
class _Policy:
    name: str
    namespace: str
    selector: Any
    directions: frozenset[Direction]
    allowances: tuple[tuple[Direction, _Allowance], ...]
    place: str


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the document and line."""
    if len(text) > _MOST_BYTES:
        raise Unreadable(f"it is larger than {_MOST_BYTES} bytes")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise Unreadable("YAML aliases are not taken in policies")
        found = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        raise Unreadable(f"it is not YAML: {getattr(error, 'problem', error)}", place) from None
    policies = [policy for number, body in enumerate(found) for policy in _policies(body, f"document {number}")]
    if not policies:
        raise Unreadable("there is no NetworkPolicy in it; print them with: kubectl get networkpolicy -o yaml")
    return _Kubernetes(tuple(policies))


def _policies(body: Any, place: str) -> Iterator[_Policy]:
    if body is None:
        return
    kind = member(body, "kind", str, place, "")
    if kind.endswith("List"):
        for item, where in items(body, "items", place):
            yield from _policies(item, where)
    elif kind == "NetworkPolicy":
        yield _policy(body, place)
    else:
        raise Unreadable(f"kind is {kind!r}, and NetworkPolicy is expected", place)


def _policy(body: Any, place: str) -> _Policy:
    metadata = member(body, "metadata", dict, place, {})
    name = str(member(metadata, "name", str, place, ""))
    place = f"{place} ({name})" if name else place
    spec = member(body, "spec", dict, place, {})
    allowances: list[tuple[Direction, _Allowance]] = []
    for direction, key, far in ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to")):
        for number, (item, where) in enumerate(items(spec, key, place), 1):
            peers = tuple(peer for peer, _ in items(item, far, where)) or None
            ports = tuple(port for port, _ in items(item, "ports", where)) or None
            shown = f"{key} {json.dumps(peers) if peers else 'everybody'} {json.dumps(ports) if ports else 'all ports'}"
            rule = Rule(f"{name} {key} {number}", shown[:200], True, where)
            allowances.append((direction, _Allowance(rule, peers, ports, where)))
    types = member(spec, "policyTypes", list, place) or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    wrong = [text for text in types if text not in ("Ingress", "Egress")]
    if wrong:
        raise Unreadable(f"policyTypes holds {wrong[0]!r}, and Ingress or Egress is expected", place)
    directions = frozenset(Direction(text.lower()) for text in types)
    selector = member(spec, "podSelector", dict, place, {})
    namespace = str(member(metadata, "namespace", str, place, ""))
    return _Policy(name, namespace, selector, directions, tuple(allowances), place)


class _Kubernetes(Ruleset):
    def __init__(self, policies: tuple[_Policy, ...]) -> None:
        self._policies = policies
        self.rules = tuple(allowance.rule for policy in policies for _, allowance in policy.allowances)

    def governs(self, local: Party) -> bool:
        """Pods, that is what the plan knows labels of."""
        return bool(local.labels)

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the union of what the policies that select the pod allow."""
        found: list[Entry] = []
        isolated = False
        for policy in self._policies:
            if scene.direction not in policy.directions or not _same_namespace(policy.namespace, scene.local):
                continue
            selected = _selects(policy.selector, dict(scene.local.labels), scene.local.key, policy.place)
            if selected is False:
                continue
            isolated = True
            doubt = "" if selected is True else selected
            for direction, allowance in policy.allowances:
                if direction is scene.direction:
                    found += _entries(allowance, policy, scene, doubt)
        return found, Outcome.DENY if isolated else Outcome.ALLOW

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the rule to add to the pod's policy."""
        peer = flow.peer(direction)
        far = "from" if direction is Direction.INGRESS else "to"
        peers: list[dict[str, Any]] = [{"ipBlock": {"cidr": str(network)}} for network in peer.addresses]
        if peer.labels:
            peers = [{"podSelector": {"matchLabels": dict(peer.labels)}}]
        ports = [
            {"protocol": flow.transport.value.upper(), "port": max(1, item.first), "endPort": item.last}
            for item in flow.ports
        ]
        return f"add to spec.{direction.value}: {json.dumps({far: peers, 'ports': ports})}"

    def removal(self, rule: Rule) -> str:
        """Return which rule of which policy to take out."""
        name, key, number = rule.id.rsplit(" ", 2)
        return f"kubectl edit networkpolicy {name}: take item {number} out of spec.{key}"


def _entries(allowance: _Allowance, policy: _Policy, scene: Scene, doubt: str) -> Iterator[Entry]:
    services = list(_services(allowance, scene.transport))
    for peer, peer_doubt in _peers(allowance, policy, scene):
        for service, port_doubt in services:
            why = doubt or peer_doubt or port_doubt
            yield Entry(Act.ALLOW, allowance.rule.id, peer, service=service, doubt=why)


def _services(allowance: _Allowance, transport: Transport) -> Iterator[tuple[Intervals | None, str]]:
    if allowance.ports is None:
        yield None, ""
        return
    for body in allowance.ports:
        if member(body, "protocol", str, allowance.place, "TCP").lower() != transport.value:
            continue
        port = body.get("port")
        if isinstance(port, str):
            yield None, f"the pod decides which port is called {port!r}"
        elif port is None:
            yield None, ""
        else:
            first = member(body, "port", int, allowance.place)
            last = member(body, "endPort", int, allowance.place, first)
            if not 1 <= first <= last <= 65535:
                raise Unreadable(f"ports {first} to {last} are no range", allowance.place)
            yield ((first, last),), ""


def _peers(allowance: _Allowance, policy: _Policy, scene: Scene) -> Iterator[tuple[Intervals | None, str]]:
    if allowance.peers is None:
        yield None, ""
        return
    party, place = scene.peer, allowance.place
    for body in allowance.peers:
        block = member(body, "ipBlock", dict, place)
        if block is not None:
            given = networks([member(block, "cidr", str, place, "")], place)
            taken = networks(member(block, "except", list, place, []), place)
            yield outside(taken, given), "" if party.addresses else f"the plan knows no address of {party.key}"
            continue
        if not party.labels:
            # Only pods are matched by selectors.
            continue
        pods, spaces = member(body, "podSelector", dict, place), member(body, "namespaceSelector", dict, place)
        selected = True if pods is None else _selects(pods, dict(party.labels), party.key, place)
        if spaces is None:
            within: bool | str = _same_namespace(policy.namespace, party)
        elif not spaces:
            within = True
        else:
            within = _selects(
                spaces, {_NAME: party.namespace} if party.namespace else {}, f"the namespace of {party.key}", place
            )
        if selected is False or within is False:
            continue
        yield None, next((text for text in (selected, within) if isinstance(text, str)), "")


def _same_namespace(namespace: str, party: Party) -> bool:
    """A policy holds in its own namespace; where neither says one, it is the same."""
    return not namespace or not party.namespace or namespace == party.namespace


def _selects(selector: Any, labels: dict[str, Any], what: str, place: str) -> bool | str:
    """Say whether a selector selects something with these labels; a text says why that is not known.

    The plan states some labels of a pod, and it may have more: one that is not stated leaves the answer open.
    """
    unknown = ""
    for key, value in member(selector, "matchLabels", dict, place, {}).items():
        if key not in labels:
            unknown = unknown or f"the plan does not say whether {what} has the label {key}={value}"
        elif labels[key] != value:
            return False
    for item, where in items(selector, "matchExpressions", place):
        key, operator = member(item, "key", str, where, ""), member(item, "operator", str, where, "")
        values = member(item, "values", list, where, [])
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise Unreadable(f"operator is {operator!r}, and In, NotIn, Exists or DoesNotExist is expected", where)
        if key not in labels:
            unknown = unknown or f"the plan does not say whether {what} has the label {key}"
            continue
        held = {"In": labels[key] in values, "NotIn": labels[key] not in values, "Exists": True}.get(operator, False)
        if not held:
            return False
    return unknown or True

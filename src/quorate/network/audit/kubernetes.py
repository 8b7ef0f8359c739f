"""Reads NetworkPolicy YAML, as files hold it or `kubectl get namespaces,networkpolicies -A -o yaml` prints it.

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. A pod that no policy selects for a
direction is open in it; one that is selected may do what any of its policies allows. Namespaces in the text give the
labels that `namespaceSelector` looks at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from quorate.network.audit.documents import clamped, items, member, networks, refuse_depth
from quorate.network.audit.ruleset import Rule, Ruleset, Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, Outcome, outside
from quorate.network.flows import Direction, Transport
from quorate.network.plan import Party, PlannedFlow

_NAME = "kubernetes.io/metadata.name"
HINT = "kubectl get namespaces,networkpolicies --all-namespaces -o yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 40
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
    refuse_depth(text)
    try:
        _look_over(text)
        found = list(yaml.load_all(text, _LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        raise Unreadable(f"it is not YAML: {getattr(error, 'problem', error)}", place) from None
    if all(body is None for body in found):
        raise Unreadable(f"it is empty; print it with: {HINT}")
    reader = _Reader()
    for number, body in enumerate(found):
        reader.document(body, f"document {number}")
    return _Kubernetes(tuple(reader.policies), reader.namespaces)


def _look_over(text: str) -> None:
    """Refuse what would cost more than its length: aliases, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        place = f"line {event.start_mark.line + 1}" if event.start_mark else ""
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("YAML aliases are not taken in policies", place)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise Unreadable("it is nested too deep for a policy", place)


class _Reader:
    def __init__(self) -> None:
        self.policies: list[_Policy] = []
        #: The labels of the namespaces that are in the text, each with the one that the control plane sets.
        self.namespaces: dict[str, dict[str, str]] = {}

    def document(self, body: Any, place: str) -> None:
        if body is None:
            return
        kind = member(body, "kind", str, place, "")
        if kind.endswith("List"):
            for item, where in items(body, "items", place):
                self.document(item, where)
        elif kind == "NetworkPolicy":
            self.policies.append(_policy(body, place))
        elif kind == "Namespace":
            metadata = member(body, "metadata", dict, place, {})
            name = str(member(metadata, "name", str, place, ""))
            self.namespaces[name] = {_NAME: name, **member(metadata, "labels", dict, place, {})}
        else:
            raise Unreadable(f"kind is {kind!r}, and NetworkPolicy is expected; print it with: {HINT}", place)


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
            warning = "; ".join(filter(None, (_span(port, where)[2] for port in ports or ())))
            rule = Rule(f"{name} {key} {number}", shown[:200], True, where, clamped=warning)
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
    def __init__(self, policies: tuple[_Policy, ...], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._policies, self._namespaces = policies, namespaces
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
                    found += self._entries(allowance, policy, scene, doubt)
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

    def _entries(self, allowance: _Allowance, policy: _Policy, scene: Scene, doubt: str) -> Iterator[Entry]:
        services = list(_services(allowance, scene.transport))
        for peer, peer_doubt in self._peers(allowance, policy, scene):
            for service, port_doubt in services:
                why = doubt or peer_doubt or port_doubt
                yield Entry(Act.ALLOW, allowance.rule.id, peer, service=service, doubt=why)

    def _peers(self, allowance: _Allowance, policy: _Policy, scene: Scene) -> Iterator[tuple[Intervals | None, str]]:
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
            within = self._within(spaces, policy, party, place)
            if selected is False or within is False:
                continue
            yield None, next((text for text in (selected, within) if isinstance(text, str)), "")

    def _within(self, selector: Any, policy: _Policy, party: Party, place: str) -> bool | str:
        """Say whether a pod is in a namespace that a rule means; without a selector that is the policy's own."""
        if selector is None:
            return _same_namespace(policy.namespace, party)
        if not selector:
            return True
        if party.namespace and party.namespace in self._namespaces:
            known = self._namespaces[party.namespace]
            return _selects(selector, dict(known), party.namespace, place, complete=True)
        labels = {_NAME: party.namespace} if party.namespace else {}
        return _selects(selector, dict(labels), f"the namespace of {party.key}", place)


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
            first, last, _ = _span(body, allowance.place)
            if not 1 <= first <= last <= 65535:
                raise Unreadable(f"ports {first} to {last} are no range", allowance.place)
            yield ((first, last),), ""


def _span(body: Any, place: str) -> tuple[int, int, str]:
    """Return the ports of an item that has them as numbers, and the warning where they end past the last one."""
    if not isinstance(body, Mapping) or isinstance(body.get("port"), str | None):
        return 0, 0, ""
    first = member(body, "port", int, place)
    last, warning = clamped(first, member(body, "endPort", int, place, first))
    return first, last, warning


def _same_namespace(namespace: str, party: Party) -> bool:
    """A policy holds in its own namespace; where neither says one, it is the same."""
    return not namespace or not party.namespace or namespace == party.namespace


def _selects(selector: Any, labels: dict[str, Any], what: str, place: str, *, complete: bool = False) -> bool | str:
    """Say whether a selector selects something with these labels; a text says why that is not known.

    The plan states some labels of a pod, and it may have more: unless they are known to be complete, one that is not
    stated leaves the answer open.
    """
    unknown = ""
    for key, value in member(selector, "matchLabels", dict, place, {}).items():
        if key not in labels and complete:
            return False
        if key not in labels:
            unknown = unknown or f"the plan does not say whether {what} has the label {key}={value}"
        elif labels[key] != value:
            return False
    for item, where in items(selector, "matchExpressions", place):
        key, operator = member(item, "key", str, where, ""), member(item, "operator", str, where, "")
        values = member(item, "values", list, where, [])
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise Unreadable(f"operator is {operator!r}, and In, NotIn, Exists or DoesNotExist is expected", where)
        if key not in labels and not complete:
            unknown = unknown or f"the plan does not say whether {what} has the label {key}"
            continue
        there, value = key in labels, labels.get(key)
        held = {
            "In": there and value in values,
            "NotIn": value not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }[operator]
        if not held:
            return False
    return unknown or True

"""Reads NetworkPolicy YAML, as files hold it or `kubectl get namespaces,networkpolicies -A -o yaml` prints it.

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. A pod that no policy selects for a
direction is open in it; one that is selected may do what any of its policies allows. Namespaces in the text give the
labels that `namespaceSelector` looks at.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from quorate.network.audit.documents import clamped, is_wider, items, member, networks, only, refuse_depth, stating
from quorate.network.audit.ruleset import OTHERS, Rule, Ruleset, Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, Outcome, outside
from quorate.network.flows import Direction, Transport
from quorate.network.plan import Party, PlannedFlow

_NAME = "kubernetes.io/metadata.name"
HINT = "kubectl get namespaces,networkpolicies --all-namespaces -o yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 40
_MOST_BYTES = 20 * 1024 * 1024
#: Others have policies of this kind and other fields, such as Calico's.
_VERSIONS = ("networking.k8s.io/v1", "extensions/v1beta1")
#: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
FIELDS = {
    "NetworkPolicy": frozenset({"apiVersion", "kind", "metadata", "spec", "status"}),
    "NetworkPolicySpec": frozenset({"egress", "ingress", "podSelector", "policyTypes"}),
    "NetworkPolicyIngressRule": frozenset({"from", "ports"}),
    "NetworkPolicyEgressRule": frozenset({"to", "ports"}),
    "NetworkPolicyPeer": frozenset({"ipBlock", "namespaceSelector", "podSelector"}),
    "NetworkPolicyPort": frozenset({"endPort", "port", "protocol"}),
    "IPBlock": frozenset({"cidr", "except"}),
    "LabelSelector": frozenset({"matchExpressions", "matchLabels"}),
    "LabelSelectorRequirement": frozenset({"key", "operator", "values"}),
}
_PROTOCOLS = ("TCP", "UDP", "SCTP")
#: The cluster's own DNS, which every pod needs and no plan names.
_DNS = {"kube-system": {"k8s-app": "kube-dns"}}
_LONGEST_NAME = 63


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
    namespace = str(member(metadata, "namespace", str, place, ""))
    called = f"{namespace}/{name}" if namespace else name
    version = member(body, "apiVersion", str, place, _VERSIONS[0])
    if version not in _VERSIONS:
        raise Unreadable(f"apiVersion is {version!r}, and {_VERSIONS[0]} is expected; others are not judged", place)
    only(body, FIELDS["NetworkPolicy"], place)
    spec = member(body, "spec", dict, place, {})
    only(spec, FIELDS["NetworkPolicySpec"], place)
    allowances: list[tuple[Direction, _Allowance]] = []
    for direction, key, far in ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to")):
        for number, (item, where) in enumerate(items(spec, key, place), 1):
            only(item, FIELDS["NetworkPolicyIngressRule" if far == "from" else "NetworkPolicyEgressRule"], where)
            peers = tuple(_peer(peer, at) for peer, at in items(item, far, where)) or None
            ports = tuple(_port(port, at) for port, at in items(item, "ports", where)) or None
            whom, which = (_shown(peers) if peers else "everybody"), (_shown(ports) if ports else "all ports")
            shown = f"{key} {whom} {which}"
            warning = "; ".join(filter(None, (_span(port, where)[2] for port in ports or ())))
            wider = ports is None or any(is_wider(port.get("protocol") or "TCP") for port in ports)
            rule = Rule(f"{called} {key} {number}", shown[:200], True, where, clamped=warning, wider=wider)
            allowances.append((direction, _Allowance(rule, peers, ports, where)))
    types = member(spec, "policyTypes", list, place) or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    wrong = [text for text in types if text not in ("Ingress", "Egress")]
    if wrong:
        raise Unreadable(f"policyTypes holds {wrong[0]!r}, and Ingress or Egress is expected", place)
    directions = frozenset(Direction(text.lower()) for text in types)
    selector = _selector(member(spec, "podSelector", dict, place, {}), f"{place}.podSelector")
    return _Policy(name, namespace, selector, directions, tuple(allowances), place)


def _shown(body: Any) -> str:
    # YAML has dates where a label looks like one.
    return json.dumps(body, sort_keys=True, default=str)


def _peer(body: Any, place: str) -> Any:
    block = member(body, "ipBlock", dict, place)
    only(body, FIELDS["NetworkPolicyPeer"], place)
    selectors = [
        _selector(member(body, key, dict, place), f"{place}.{key}") for key in ("podSelector", "namespaceSelector")
    ]
    if block is not None:
        only(block, FIELDS["IPBlock"], f"{place}.ipBlock")
        if selectors != [None, None]:
            raise Unreadable("beside an ipBlock a peer has no selector", place)
    elif selectors == [None, None]:
        raise Unreadable("a peer has an ipBlock, a podSelector or a namespaceSelector", place)
    return body


def _selector(body: Any, place: str) -> Any:
    only(body, FIELDS["LabelSelector"], place)
    for key, value in member(body or {}, "matchLabels", dict, place, {}).items():
        if not isinstance(value, str):
            raise Unreadable(f"the label {key} is {json.dumps(value, default=str)[:40]}, and a text is expected", place)
    for item, where in items(body or {}, "matchExpressions", place):
        only(item, FIELDS["LabelSelectorRequirement"], where)
    return body


def _port(body: Any, place: str) -> Any:
    protocol = member(body, "protocol", str, place, "TCP")
    only(body, FIELDS["NetworkPolicyPort"], place)
    if body.get("endPort") is not None and not isinstance(body.get("port"), int):
        raise Unreadable("an endPort is the end of a range that begins with a port in numbers", place)
    if protocol not in _PROTOCOLS:
        raise Unreadable(f"protocol is {protocol!r}, and one of {', '.join(_PROTOCOLS)} is expected", place)
    return body


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
        isolated, doubtful = False, ""
        for policy in self._policies:
            if scene.direction not in policy.directions or not _same_namespace(policy.namespace, scene.local):
                continue
            selected = _selects(policy.selector, dict(scene.local.labels), scene.local.key, policy.place)
            if selected is False:
                continue
            doubt = "" if selected is True else selected
            isolated, doubtful = isolated or not doubt, doubtful or doubt
            for direction, allowance in policy.allowances:
                if direction is scene.direction:
                    found += self._entries(allowance, policy, scene, doubt)
        if doubtful and not isolated:
            # A pod that none of them selects is open.
            found.append(Entry(Act.ALLOW, "", doubt=doubtful))
        return found, Outcome.DENY if isolated or doubtful else Outcome.ALLOW

    def others(self, parties: Iterable[Party]) -> Mapping[str, str]:
        """Rules that select pods which no party of the plan is."""
        pods = [party for party in parties if party.labels]
        found = {}
        for policy in self._policies:
            for _, allowance in policy.allowances:
                strange = [
                    f"among the pods {_shown(body)}"
                    for body in allowance.peers or ()
                    if not body.get("ipBlock") and not any(_is_meant(body, policy, party) for party in pods)
                    if not _is_dns(body)
                ]
                if strange:
                    found[allowance.rule.id] = " or ".join(strange)
        return found

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the command that adds a policy for the flow: what policies allow adds up."""
        local, peer = flow.local(direction), flow.peer(direction)
        far, namespace = "from" if direction is Direction.INGRESS else "to", self._namespace(local, direction)
        peers: list[dict[str, Any]] = [{"ipBlock": {"cidr": str(network)}} for network in peer.addresses]
        if peer.labels:
            peers = [{"podSelector": {"matchLabels": dict(peer.labels)}}]
            if peer.namespace and peer.namespace != namespace:
                peers[0]["namespaceSelector"] = {"matchLabels": {_NAME: peer.namespace}}
        ports = [
            {"protocol": flow.transport.value.upper(), "port": max(1, item.first), "endPort": item.last}
            for item in flow.ports
        ]
        name = re.sub(r"[^a-z0-9]+", "-", f"quorate-{flow.flow}-{direction.value}-{local.name}-{peer.name}".lower())
        made = {
            "apiVersion": _VERSIONS[0],
            "kind": "NetworkPolicy",
            "metadata": {"name": name[:_LONGEST_NAME].strip("-"), **({"namespace": namespace} if namespace else {})},
            "spec": {
                "podSelector": {"matchLabels": dict(local.labels)},
                "policyTypes": [direction.value.capitalize()],
                direction.value: [{far: peers, "ports": ports}],
            },
        }
        return f"echo {shlex.quote(json.dumps(made))} | kubectl apply -f -"

    def _namespace(self, local: Party, direction: Direction) -> str:
        """Return the namespace of a pod: the plan's, else that of a policy that holds for it."""
        for policy in self._policies:
            if local.namespace or not policy.namespace or direction not in policy.directions:
                continue
            if _selects(policy.selector, dict(local.labels), local.key, policy.place) is not False:
                return policy.namespace
        return local.namespace or ""

    def closing(self, local: Party) -> str:
        """Return the command that adds the plan's own policies: pods that none selects are open."""
        return "quorate net rules --config master.yaml --for kubernetes | kubectl apply -f -"

    def naming(self, local: Party) -> str:
        """Return what to state of a machine that is not known to be a pod."""
        return "" if self.governs(local) else stating(local, "labels")

    def removal(self, rule: Rule) -> str:
        """Return which rule of which policy to take out."""
        policy = next(policy for policy in self._policies for _, found in policy.allowances if found.rule is rule)
        _, key, number = rule.id.rsplit(" ", 2)
        where = f" -n {policy.namespace}" if policy.namespace else ""
        return f"kubectl edit networkpolicy{where} {policy.name}: take item {number} out of spec.{key}"

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
        if party is OTHERS:
            if allowance.rule.id in scene.others:
                yield None, ""
            return
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


def _is_meant(body: Any, policy: _Policy, party: Party) -> bool:
    """Say whether a selector of peers selects pods of that party alone, as far as labels say."""
    required = (body.get("podSelector") or {}).get("matchLabels") or {}
    if any(required.get(key) != value for key, value in party.labels):
        return False
    spaces = body.get("namespaceSelector")
    if spaces is None:
        return _same_namespace(policy.namespace, party)
    return bool(_space(spaces) == (party.namespace or policy.namespace or None))


def _space(selector: Any) -> Any:
    return (selector.get("matchLabels") or {}).get(_NAME)


def _is_dns(body: Any) -> bool:
    pods = (body.get("podSelector") or {}).get("matchLabels")
    return bool(pods) and _DNS.get(_space(body.get("namespaceSelector") or {})) == pods


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

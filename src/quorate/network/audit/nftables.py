"""Reads what `nft -j list ruleset` prints: every table, base chains at the input and output hooks by priority.

Semantics: nft(8), libnftables-json(5). An accept ends the way through one base chain only: the next at the hook is
asked too; a drop is final. What is not modelled makes its rule doubtful, never silently ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from quorate.network.audit.chains import Fields, Match, NetfilterRuleset, Step, Verdict, append, far_networks, flatten
from quorate.network.audit.documents import refuse_depth
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, Unreadable, of_networks
from quorate.network.audit.space import EVERY_PORT, LAST_ADDRESS, V6, Act, Entry, Intervals, join, outside
from quorate.network.flows import Direction, Transport
from quorate.network.plan import PlannedFlow

_V4: Intervals = ((0, V6 - 1),)
_V6: Intervals = ((V6, LAST_ADDRESS),)
_SPACE: dict[str, Intervals | None] = {"ip": _V4, "ip6": _V6, "inet": None}
_ENDS = {"accept": Verdict.ACCEPT, "drop": Verdict.DROP, "reject": Verdict.DROP, "return": Verdict.RETURN,
         "continue": Verdict.CONTINUE}  # fmt: skip
#: Statements that count, log or mark, and decide nothing here.
_HARMLESS = {"counter", "log", "comment", "notrack", "mangle", "meter", "ct helper", "set", "last", "xt"}
_PROTOCOLS = {"tcp": Transport.TCP, 6: Transport.TCP, "udp": Transport.UDP, 17: Transport.UDP}
#: Names of priorities that `nft` prints as numbers in JSON, but that a person may have written.
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}

#: What reading an object raises that is not as libnftables-json(5) describes it.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, RuntimeError)

#: NF_IP_PRI_CONNTRACK: chains up to here meet packets before their connection is known.
_CONNTRACK = -200


@dataclass(slots=True)
class _Chain:
    key: str
    family: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: Act = Act.ALLOW
    rules: list[_Rule] = field(default_factory=list)


@dataclass(slots=True)
class _Rule:
    rule: Rule
    statements: list[Any]


class _Doubt(Exception):
    """A match that is not modelled; the text says which."""


class _NoMatch(Exception):
    """The rule surely does not match in this scene."""


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the object of the list."""
    refuse_depth(text)
    try:
        document = json.loads(text)
    except RecursionError:
        raise Unreadable("it is nested too deep for rules") from None
    except ValueError as error:
        raise Unreadable(f"it is not JSON ({error}); print it with: nft -j list ruleset") from None
    objects = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(objects, list):
        raise Unreadable('it has no list "nftables"; print it with: nft -j list ruleset')
    return _Reader(objects).ruleset()


class _Reader:
    def __init__(self, objects: list[Any]) -> None:
        self._objects = objects
        self._chains: dict[str, _Chain] = {}
        self._sets: dict[str, Any] = {}
        self._rules: list[Rule] = []

    def ruleset(self) -> Ruleset:
        for number, item in enumerate(self._objects):
            place = f"object {number}"
            if not isinstance(item, dict) or len(item) != 1:
                raise Unreadable("an object with one key is expected", place)
            kind, body = next(iter(item.items()))
            if kind in ("chain", "rule", "set", "map") and not isinstance(body, dict):
                raise Unreadable(f"a {kind} is an object", place)
            try:
                if kind == "chain":
                    self._chain(body)
                elif kind == "rule":
                    self._rule(body, place)
                elif kind in ("set", "map"):
                    self._sets[_key(body, body["name"])] = body
            except Unreadable:
                raise
            except _MALFORMED as error:
                raise Unreadable(f"the {kind} lacks or misuses {error}", place) from None
        return _Nftables(self._chains, self._sets, tuple(self._rules))

    def _chain(self, body: dict[str, Any]) -> None:
        chain = _Chain(_key(body, body["name"]), body["family"])
        if "hook" in body:
            priority = body.get("prio", 0)
            chain.hook, chain.kind = body["hook"], body.get("type", "filter")
            chain.priority = _PRIORITIES.get(priority, 0) if isinstance(priority, str) else int(priority)
            chain.policy = Act.DENY if body.get("policy") == "drop" else Act.ALLOW
        self._chains[chain.key] = chain

    def _rule(self, body: dict[str, Any], place: str) -> None:
        chain = self._chains.get(_key(body, body["chain"]))
        if chain is None:
            raise Unreadable(f"the chain {body['chain']} of a rule is not there", place)
        name = f"{body['family']} {body['table']} {body['chain']} handle {body.get('handle', len(chain.rules))}"
        statements = list(body["expr"])
        text = body.get("comment") or " ".join(_show(statement) for statement in statements)
        verdicts = {key for statement in statements if isinstance(statement, dict) for key in statement}
        rule = Rule(name, text, "accept" in verdicts, place)
        chain.rules.append(_Rule(rule, statements))
        self._rules.append(rule)


def _key(body: dict[str, Any], name: str) -> str:
    return f"{body['family']} {body['table']} {name}"


def _show(statement: Any) -> str:
    if isinstance(statement, dict) and "match" in statement:
        match = statement["match"]
        return f"{_left(match.get('left'))} {match.get('op', '==')} {json.dumps(match.get('right'))}"
    if isinstance(statement, dict):
        return " ".join(key for key in statement if key != "counter")
    return str(statement)


def _left(left: Any) -> str:
    if isinstance(left, dict) and "payload" in left:
        return f"{left['payload'].get('protocol')} {left['payload'].get('field')}"
    if isinstance(left, dict):
        return " ".join(f"{key} {value.get('key') if isinstance(value, dict) else ''}" for key, value in left.items())
    return str(left)


class _Nftables(NetfilterRuleset):
    def __init__(self, chains: dict[str, _Chain], sets: dict[str, Any], rules: tuple[Rule, ...]) -> None:
        super().__init__(rules)
        self._chains, self._sets = chains, sets

    def laid_out(self, scene: Scene) -> list[Entry]:
        """Return the entries of all base chains that the packets pass, in the order of hooks and priorities."""
        fields = Fields.of(scene)
        hooks = ("prerouting", "input") if fields.inbound else ("output", "postrouting")
        passed = sorted(
            (c for c in self._chains.values() if c.hook in hooks and c.family in _SPACE and c.kind != "nat"),
            key=lambda chain: (hooks.index(chain.hook), chain.priority),
        )
        steps = {tracked: self._all_steps(scene, replace(fields, tracked=tracked)) for tracked in (True, False)}
        found: list[Entry] = []
        for place, chain in enumerate(passed):
            # The last chain of a family lets pass for good; before it, accepting is only going on.
            last = not any("inet" in (later.family, chain.family) or later.family == chain.family
                           for later in passed[place + 1 :])  # fmt: skip
            more = flatten(steps[chain.priority > _CONNTRACK], chain.key, chain.policy, last=last)
            space = _SPACE[chain.family]
            append(found, more, **({"peer": space} if space else {}))
        return found

    def _all_steps(self, scene: Scene, fields: Fields) -> dict[str, list[Step]]:
        return {
            chain.key: [step for rule in chain.rules for step in self._steps_of(rule, chain, scene, fields)]
            for chain in self._chains.values()
            if chain.family in _SPACE
        }

    def _steps_of(self, rule: _Rule, chain: _Chain, scene: Scene, fields: Fields) -> list[Step]:
        try:
            return list(self._steps(rule, chain, scene, fields))
        except Unreadable:
            raise
        except _MALFORMED as error:
            why = f"{rule.rule.text[:60]!r} is not as nft prints it: it lacks or misuses {error}"
            raise Unreadable(why, rule.rule.place) from None

    def _steps(self, rule: _Rule, chain: _Chain, scene: Scene, fields: Fields) -> Iterator[Step]:
        table = chain.key.rsplit(" ", 1)[0]
        alternatives: list[Match] = [Match()]
        for statement in rule.statements:
            key, body = _statement(statement, rule)
            if key == "match":
                try:
                    alternatives = _meet(alternatives, self._match(body, table, scene, fields))
                except _NoMatch:
                    return
                except _Doubt as doubt:
                    alternatives = [match.doubted(str(doubt)) for match in alternatives]
            elif key in _ENDS:
                yield Step(rule.rule.id, tuple(alternatives), _ENDS[key])
                return
            elif key in ("jump", "goto"):
                target = f"{table} {body['target']}"
                yield Step(rule.rule.id, tuple(alternatives), Verdict(key), target)
                return
            elif key == "vmap":
                yield from self._vmap(body, alternatives, rule, table, scene, fields)
            elif key not in _HARMLESS:
                alternatives = [match.doubted(f"the statement {key} is not modelled") for match in alternatives]

    def _vmap(
        self, body: Any, before: list[Match], rule: _Rule, table: str, scene: Scene, fields: Fields
    ) -> Iterator[Step]:
        data = body["data"]
        pairs = self._elements(data, table) if isinstance(data, str) else data["set"]
        for pair in pairs:
            key, verdict = pair
            name, target = next(iter(verdict.items()))
            try:
                mine = _meet(before, self._compare(body["key"], "==", key, table, scene, fields))
            except _NoMatch:
                continue
            except _Doubt as doubt:
                mine = [match.doubted(str(doubt)) for match in before]
            if name in _ENDS:
                yield Step(rule.rule.id, tuple(mine), _ENDS[name])
            elif name in ("jump", "goto"):
                yield Step(rule.rule.id, tuple(mine), Verdict(name), f"{table} {target['target']}")

    def _match(self, body: Any, table: str, scene: Scene, fields: Fields) -> list[Match]:
        return self._compare(body["left"], body.get("op", "=="), body["right"], table, scene, fields)

    def _compare(self, left: Any, op: str, right: Any, table: str, scene: Scene, fields: Fields) -> list[Match]:
        """Return the alternatives in which the comparison holds."""
        if op not in ("==", "!=", "in"):
            left_text = _left(left)
            values = _less(op, right) if "port" in left_text else None
            if values is None:
                raise _Doubt(f"the comparison {left_text} {op} is not modelled")
            op, right = "==", {"range": list(values)}
        negated = op == "!="
        if isinstance(left, dict) and "concat" in left:
            if negated:
                raise _Doubt("a negated concatenation is not modelled")
            found: list[Match] = []
            for value in self._values(right, table):
                parts = value["concat"] if isinstance(value, dict) and "concat" in value else [value]
                mine = [Match()]
                try:
                    for part, item in zip(left["concat"], parts, strict=True):
                        mine = _meet(mine, [self._field(part, [item], False, scene, fields)])
                except _NoMatch:
                    continue
                found += mine
            if not found:
                raise _NoMatch
            return found
        return [self._field(left, self._values(right, table), negated, scene, fields)]

    def _values(self, right: Any, table: str) -> list[Any]:
        if isinstance(right, str) and right.startswith("@"):
            return self._elements(right, table)
        if isinstance(right, dict) and "set" in right:
            items = right["set"]
            return items if isinstance(items, list) else [items]
        return right if isinstance(right, list) else [right]

    def _elements(self, name: str, table: str) -> list[Any]:
        body = self._sets.get(f"{table} {name.removeprefix('@')}")
        if body is None:
            raise _Doubt(f"the set {name} is not in the text")
        found = []
        for item in body.get("elem", ()):
            inner = item.get("elem") if isinstance(item, dict) else None
            found.append(inner["val"] if isinstance(inner, dict) and "val" in inner else item)
        return found

    def _field(self, left: Any, values: list[Any], negated: bool, scene: Scene, fields: Fields) -> Match:
        """Return what one field of the packet limits; raises _NoMatch or _Doubt."""
        kind, body = _statement(left, None)
        if kind == "payload" and isinstance(body, dict):
            return _payload(str(body.get("protocol")), str(body.get("field")), values, negated, scene, fields)
        key = body.get("key") if isinstance(body, dict) else None
        if kind == "meta":
            return _meta(str(key), values, negated, scene, fields)
        if kind == "ct" and key == "state":
            state = "new" if scene.phase is Phase.OPEN else "established"
            # Before connections are tracked, every packet's state is invalid.
            return _sure(((state if fields.tracked else "invalid") in values) != negated)
        if kind == "ct" and key == "direction":
            return _sure((("reply" if scene.answers else "original") in values) != negated)
        raise _Doubt(f"{_left(left)} is not modelled")

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return an nft command that puts the rule at the head of the chain which decides."""
        hook, side = ("input", "saddr") if direction is Direction.INGRESS else ("output", "daddr")
        base = [chain for chain in self._chains.values() if chain.hook == hook and chain.family in _SPACE]
        commands = []
        ports = _braces([str(item) for item in flow.ports])
        for version, networks in far_networks(flow, direction):
            family = "ip6" if version == 6 else "ip"
            match = f"{family} {side} {_braces(networks)} {flow.transport.value} dport {ports}"
            chains = [chain for chain in base if chain.family in ("inet", family)]
            commands += [f"nft insert rule {chain.key} {match} accept comment '\"{flow.flow}\"'" for chain in chains]
        return " && ".join(commands)

    def removal(self, rule: Rule) -> str:
        """Return the command that deletes the rule by its handle."""
        return f"nft delete rule {rule.id}"


def _braces(items: list[str]) -> str:
    return items[0] if len(items) == 1 else "{ " + ", ".join(items) + " }"


def _statement(statement: Any, rule: _Rule | None) -> tuple[str, Any]:
    if not isinstance(statement, dict) or not statement:
        raise Unreadable(f"{str(statement)[:60]!r} is no statement", rule.rule.id if rule else "")
    return next(iter(statement.items()))


def _meet(before: list[Match], more: list[Match]) -> list[Match]:
    met = [one.meet(other) for one in before for other in more]
    left = [match for match in met if not match.empty]
    if not left:
        raise _NoMatch
    return left


def _sure(holds: bool) -> Match:
    if not holds:
        raise _NoMatch
    return Match()


def _payload(protocol: str, name: str, values: list[Any], negated: bool, scene: Scene, fields: Fields) -> Match:
    if protocol in ("ip", "ip6") and name in ("saddr", "daddr"):
        space = _V4 if protocol == "ip" else _V6
        given = join(interval for value in values for interval in _addresses(value))
        axis = fields.source if name == "saddr" else fields.destination
        far = {"peer": space} if axis == "local" else {}
        return Match().narrowed(**{axis: outside(given, space) if negated else given}).narrowed(**far)
    if protocol in ("ip", "ip6") and name in ("protocol", "nexthdr"):
        space = _V4 if protocol == "ip" else _V6
        same = any(_PROTOCOLS.get(value) is scene.transport for value in values if isinstance(value, str | int))
        return _sure(same != negated).narrowed(peer=space)
    if protocol in ("tcp", "udp", "th") and name in ("sport", "dport"):
        if protocol != "th" and _PROTOCOLS[protocol] is not scene.transport:
            raise _NoMatch
        given = join(_port(value) for value in values)
        axis = fields.source_port if name == "sport" else fields.destination_port
        return Match().narrowed(**{axis: outside(given, EVERY_PORT) if negated else given})
    if protocol == "tcp" and name == "flags":
        raise _Doubt("matches on TCP flags are not modelled") if scene.transport is Transport.TCP else _NoMatch
    if protocol in ("icmp", "icmpv6", "sctp", "dccp", "ah", "esp", "arp", "igmp"):
        raise _NoMatch
    raise _Doubt(f"{protocol} {name} is not modelled")


def _meta(key: str, values: list[Any], negated: bool, scene: Scene, fields: Fields) -> Match:
    if key == "l4proto":
        same = any(_PROTOCOLS.get(value) is scene.transport for value in values if isinstance(value, str | int))
        return _sure(same != negated)
    if key in ("nfproto", "protocol"):
        spaces = {"ipv4": _V4, "ip": _V4, "ipv6": _V6, "ip6": _V6}
        given = join(i for value in values for i in spaces.get(value, ()) if isinstance(value, str))
        return Match(peer=outside(given, ((0, LAST_ADDRESS),)) if negated else given)
    if key in ("iif", "iifname", "oif", "oifname"):
        coming = key.startswith("i")
        if coming != fields.inbound:
            # The other interface is not known at this hook, and a comparison with it fails.
            return _sure(negated)
        if all(value == "lo" for value in values):
            return _sure(negated)
        raise _Doubt(f"it is for the interface {', '.join(map(str, values))}, which the plan does not know")
    if key == "pkttype":
        return _sure(("host" in values or "unicast" in values) != negated)
    raise _Doubt(f"meta {key} is not modelled")


def _addresses(value: Any) -> Iterator[tuple[int, int]]:
    if isinstance(value, dict) and "prefix" in value:
        text = f"{value['prefix']['addr']}/{value['prefix']['len']}"
        yield from _network(text)
    elif isinstance(value, dict) and "range" in value:
        first, last = (ip_address(end) for end in value["range"])
        shift = V6 if first.version == 6 else 0
        yield int(first) + shift, int(last) + shift
    elif isinstance(value, str):
        yield from _network(value)
    else:
        raise _Doubt(f"the address {value} is not modelled")


@lru_cache(65_536)
def _network(text: str) -> Intervals:
    return of_networks([ip_network(text, strict=False)])


def _port(value: Any) -> tuple[int, int]:
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return int(first), int(last)
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    raise _Doubt(f"the port {value} is not modelled")


def _less(op: str, right: Any) -> tuple[int, int] | None:
    if not isinstance(right, int):
        return None
    return {"<": (0, right - 1), "<=": (0, right), ">": (right + 1, 65535), ">=": (right, 65535)}.get(op)

"""Reads what `nft -j list ruleset` prints: every table, base chains at the input and output hooks by priority.

Semantics: nft(8), libnftables-json(5). An accept ends the way through one base chain only: the next at the hook is
asked too; a drop is final. What is not modelled makes its rule doubtful, never silently ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from quorate.network.audit.chains import Fields, Match, Step, Verdict
from quorate.network.audit.documents import documents
from quorate.network.audit.netfilter import XT_HARMLESS, Base, Insertion, NetfilterRuleset
from quorate.network.audit.nftflags import NotModelled, bits_of, holding, looked_at_by
from quorate.network.audit.nftkeys import check
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, Unreadable, of_networks
from quorate.network.audit.space import EVERY_PORT, LAST_ADDRESS, V6, Act, Intervals, join, outside
from quorate.network.audit.tracking import ESTABLISHED, NEW, holds, shown
from quorate.network.flows import Direction, Transport

_V4: Intervals = ((0, V6 - 1),)
_V6: Intervals = ((V6, LAST_ADDRESS),)
_VERSIONS: dict[str, tuple[int, ...]] = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6), "bridge": (4, 6)}
_INWARDS, _OUTWARDS = ("ingress", "prerouting", "input"), ("output", "postrouting", "egress")
#: What is decided about a packet; another source address is decided on as an accept is.
_ENDS = {"accept": Verdict.ACCEPT, "drop": Verdict.DROP, "reject": Verdict.DROP, "return": Verdict.RETURN,
         "continue": Verdict.CONTINUE, "masquerade": Verdict.ACCEPT, "snat": Verdict.ACCEPT}  # fmt: skip
#: Where packets go with which these chains decide nothing more.
_ELSEWHERE = {
    "dnat": "it is sent on to another address, and whether it passes there is not judged",
    "redirect": "it is sent on to another port of the machine, and whether it passes there is not judged",
    "tproxy": "it is given to a proxy on the machine",
    "queue": "a program decides that reads the queue",
    "synproxy": "the kernel answers in the service's stead, and what passes then is not judged",
    "fwd": "it is sent out by another device",
}
#: Statements that count, log or name a helper, and decide nothing here.
_HARMLESS = {"counter", "log", "comment", "ct helper", "ct timeout", "ct expectation", "last", "flow"}
#: What may be set of a packet without a change of where it comes from and goes to.
_REWRITTEN = "something of the packet is replaced, such as an address"
_MARKS = {"meta", "ct", "tcp option", "ip option", "exthdr"}
_UNTRACKED = {"notrack": None}
_HINT = "nft -j list ruleset"
_SAVE = "audit what iptables-save prints of it, with --from iptables"
_XT_ENDS = {"REJECT": Verdict.DROP}
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
    device: str = ""
    priority: int = 0
    policy: Act = Act.ALLOW
    rules: list[_Rule] = field(default_factory=list)


@dataclass(slots=True)
class _Rule:
    rule: Rule
    statements: list[Any]


class _NoMatch(Exception):
    """The rule surely does not match in this scene."""


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the object of the list."""
    document, *others = documents(text, _HINT)
    if others:
        raise Unreadable(f"it holds {len(others) + 1} documents; print one machine's rules with: {_HINT}")
    objects = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(objects, list):
        raise Unreadable('it has no list "nftables"; print it with: ' + _HINT)
    return _Reader(objects).ruleset()


class _Reader:
    def __init__(self, objects: list[Any]) -> None:
        self._objects = objects
        self._chains: dict[str, _Chain] = {}
        self._sets: dict[str, Any] = {}
        self._rules: list[Rule] = []
        #: Why the chains of a table may not be asked.
        self._doubts: dict[str, str] = {}

    def ruleset(self) -> Ruleset:
        for number, item in enumerate(self._objects):
            place = f"object {number}"
            if not isinstance(item, dict) or len(item) != 1:
                raise Unreadable("an object with one key is expected", place)
            check(item, place)
            kind, body = next(iter(item.items()))
            try:
                if kind == "table":
                    self._table(body)
                elif kind == "chain":
                    self._chain(body)
                elif kind == "rule":
                    self._rule(body, place)
                elif kind in ("set", "map"):
                    self._sets[_key(body, body["name"])] = body
            except Unreadable:
                raise
            except _MALFORMED as error:
                raise Unreadable(f"the {kind} lacks or misuses {error}", place) from None
        return _Nftables(self._chains, self._sets, tuple(self._rules), self._doubts)

    def _table(self, body: dict[str, Any]) -> None:
        flags = body.get("flags") or []
        unclear = set(flags if isinstance(flags, list) else [flags]) - {"owner", "persist"}
        if unclear:
            # nft 1.0.6 prints the first letter of something else.
            shown = ", ".join(map(str, unclear))
            self._doubts[f"{body['family']} {body['name']}"] = f"its table has the flags {shown}, and may be dormant"

    def _chain(self, body: dict[str, Any]) -> None:
        chain = _Chain(_key(body, body["name"]), body["family"])
        if "hook" in body:
            priority = body.get("prio", 0)
            chain.hook, chain.kind = body["hook"], body.get("type", "filter")
            chain.device = str(body.get("dev", ""))
            chain.priority = _PRIORITIES[priority] if isinstance(priority, str) else int(priority)
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
        # What sends packets elsewhere lets them pass, perhaps.
        allows = not verdicts.isdisjoint({"accept", *_ELSEWHERE})
        rule = Rule(name, text, allows, place, wider=_is_wider(statements))
        chain.rules.append(_Rule(rule, statements))
        self._rules.append(rule)


def _is_early(chain: _Chain) -> bool:
    """Say whether a base chain is asked before connections are tracked, on the way in or out."""
    return chain.hook in ("ingress", "egress") or (
        chain.hook in ("prerouting", "output") and chain.priority <= _CONNTRACK
    )


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
    if isinstance(left, dict) and (operator := next((key for key in left if key in ("&", "|", "^")), "")):
        operands = left[operator]
        return f"{_left(operands[0])} {operator} …" if isinstance(operands, list) and operands else operator
    if isinstance(left, dict):
        return " ".join(f"{key} {value.get('key') if isinstance(value, dict) else ''}" for key, value in left.items())
    return str(left)


class _Nftables(NetfilterRuleset):
    form, loading = "nftables", "| nft -f -"

    def __init__(
        self, chains: dict[str, _Chain], sets: dict[str, Any], rules: tuple[Rule, ...], doubts: dict[str, str]
    ) -> None:
        early = {chain.key for chain in chains.values() if chain.hook and _is_early(chain)}
        asked = [chain for chain in chains.values() if chain.key in early or not chain.hook]
        super().__init__(
            rules,
            {rule.rule.id for chain in asked for rule in chain.rules},
            untracks=any(_UNTRACKED in rule.statements for chain in asked for rule in chain.rules),
        )
        self._chains, self._sets, self._doubts = chains, sets, doubts

    def bases(self, scene: Scene, fields: Fields) -> list[Base]:
        """Return base chains in the order of hooks and priorities; a connection's first packet alone meets NAT."""
        hooks = _INWARDS if fields.inbound else _OUTWARDS
        passed = sorted(
            (
                chain
                for chain in self._chains.values()
                if chain.hook in hooks and chain.family in _VERSIONS
                if chain.kind != "nat" or scene.phase is Phase.OPEN
            ),
            key=lambda chain: (hooks.index(chain.hook), chain.priority),
        )
        return [self._base(chain) for chain in passed]

    def _base(self, chain: _Chain) -> Base:
        doubt = self._doubts.get(chain.key.rsplit(" ", 1)[0], "")
        if chain.family == "bridge":
            # Whatever it says, it can only drop.
            return Base("", Act.DENY, doubt=f"the chain {chain.key} is asked for what comes by a bridge alone")
        at_device = chain.hook in ("ingress", "egress")
        if at_device:
            device = f"the device {chain.device}" if chain.device else "some devices"
            doubt = doubt or f"the chain {chain.key} is asked for {device} alone, which the plan does not know"
        return Base(
            chain.key,
            chain.policy,
            _VERSIONS[chain.family],
            tracked=not _is_early(chain),
            translates=chain.kind == "nat",
            doubt=doubt,
        )

    def steps(self, scene: Scene, fields: Fields) -> dict[str, list[Step]]:
        """Return all chains whose packets have addresses."""
        found: dict[str, list[Step]] = {"": []}
        return found | {
            chain.key: [step for rule in chain.rules for step in self._steps_of(rule, chain, scene, fields)]
            for chain in self._chains.values()
            if chain.family in _VERSIONS
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
                except NotModelled as doubt:
                    alternatives = [match.doubted(str(doubt)) for match in alternatives]
            elif key in _ENDS:
                try:
                    ended = _meet(alternatives, [_refused(body, scene)]) if key == "reject" else alternatives
                except _NoMatch:
                    return
                yield Step(rule.rule.id, tuple(ended), _ENDS[key])
                return
            elif key in ("jump", "goto"):
                target = f"{table} {body['target']}"
                yield Step(rule.rule.id, tuple(alternatives), Verdict(key), target)
                return
            elif key in _ELSEWHERE or _rewrites(key, body) or _is_xt(key, body, "target"):
                yield from self._leave(rule, key, body, alternatives)
                return
            elif key == "vmap":
                yield from self._vmap(body, alternatives, rule, table, scene, fields)
            elif key == "notrack":
                yield Step(rule.rule.id, tuple(alternatives), Verdict.UNTRACK)
            elif why := _doubt_of(key, body):
                alternatives = [match.doubted(why) for match in alternatives]

    def _leave(self, rule: _Rule, key: str, body: Any, alternatives: list[Match]) -> Iterator[Step]:
        """Yield what becomes of packets that go elsewhere: whether they pass is not judged."""
        name = str(body.get("name", "")) if key == "xt" else key
        if key == "xt" and name in _XT_ENDS:
            yield Step(rule.rule.id, tuple(alternatives), _XT_ENDS[name])
        elif key != "xt" or name not in XT_HARMLESS:
            why = (
                _ELSEWHERE.get(key)
                or _REWRITTEN * (key == "mangle")
                or f"the target {name} of iptables is not in what nft prints; {_SAVE}"
            )
            yield Step(rule.rule.id, tuple(match.doubted(why) for match in alternatives), Verdict.ELSEWHERE)

    def _vmap(
        self, body: Any, before: list[Match], rule: _Rule, table: str, scene: Scene, fields: Fields
    ) -> Iterator[Step]:
        data = body["data"]
        try:
            pairs = self._elements(data, table) if isinstance(data, str) else data["set"]
        except NotModelled as doubt:
            yield Step(rule.rule.id, tuple(match.doubted(str(doubt)) for match in before), Verdict.ELSEWHERE)
            return
        for pair in pairs:
            key, verdict = pair
            name, target = next(iter(verdict.items()))
            try:
                mine = _meet(before, self._compare(body["key"], "==", key, table, scene, fields))
            except _NoMatch:
                continue
            except NotModelled as doubt:
                mine = [match.doubted(str(doubt)) for match in before]
            if name in _ENDS:
                yield Step(rule.rule.id, tuple(mine), _ENDS[name])
            elif name in ("jump", "goto"):
                yield Step(rule.rule.id, tuple(mine), Verdict(name), f"{table} {target['target']}")

    def _match(self, body: Any, table: str, scene: Scene, fields: Fields) -> list[Match]:
        return self._compare(body["left"], body.get("op", "=="), body["right"], table, scene, fields)

    def _compare(self, left: Any, op: str, right: Any, table: str, scene: Scene, fields: Fields) -> list[Match]:
        """Return the alternatives in which the comparison holds."""
        if (looked_at := looked_at_by(left)) is not None:
            if scene.transport is not Transport.TCP:
                raise _NoMatch
            listed = _is_named(right)
            compared = [bits_of(value) for value in (self._values(right, table) if listed else [right])]
            return [Match(flags=holding(looked_at, "==" if op == "in" and listed else op, compared))]
        if op not in ("==", "!=", "in"):
            left_text = _left(left)
            values = _less(op, right) if "port" in left_text else None
            if values is None:
                raise NotModelled(f"the comparison {left_text} {op} is not modelled")
            op, right = "==", {"range": list(values)}
        negated = op == "!="
        if isinstance(left, dict) and "concat" in left:
            if negated:
                raise NotModelled("a negated concatenation is not modelled")
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
            raise NotModelled(f"the set {name} is not in the text")
        found = []
        for item in body.get("elem", ()):
            inner = item.get("elem") if isinstance(item, dict) else None
            found.append(inner["val"] if isinstance(inner, dict) and "val" in inner else item)
        return found

    def _field(self, left: Any, values: list[Any], negated: bool, scene: Scene, fields: Fields) -> Match:
        """Return what one field of the packet limits; raises _NoMatch or NotModelled."""
        kind, body = _statement(left, None)
        if kind == "payload" and isinstance(body, dict):
            return _payload(str(body.get("protocol")), str(body.get("field")), values, negated, scene, fields)
        key = body.get("key") if isinstance(body, dict) else None
        if kind == "meta":
            return _meta(str(key), values, negated, scene, fields)
        if kind == "ct" and key == "state":
            known = holds(fields.states, values)
            if known is None:
                raise NotModelled(f"connection tracking may have it for {shown(fields.states)}")
            return _sure(known != negated)
        if kind == "ct" and key == "direction" and fields.states <= NEW | ESTABLISHED:
            return _sure((("reply" if scene.answers else "original") in values) != negated)
        if kind == "fib" and isinstance(body, dict) and body.get("result") == "type" and _side(body):
            mine = (_side(body) == "daddr") == fields.inbound
            return _sure((("local" if mine else "unicast") in values) != negated)
        raise NotModelled(f"{_left(left)} is not modelled")

    def command(self, insertion: Insertion) -> str:
        """Return an nft command that puts a rule at the head of a chain."""
        base, flow = insertion.base, insertion.flow
        if insertion.established:
            return f"nft insert rule {base.chain} ct state established,related accept"
        inwards = (insertion.direction is Direction.INGRESS) != (insertion.phase is Phase.ANSWER)
        side, port = "saddr" if inwards else "daddr", "sport" if insertion.phase is Phase.ANSWER else "dport"
        family = "ip6" if insertion.version == 6 else "ip"
        ports = _braces([str(item) for item in flow.ports])
        match = f"{family} {side} {_braces(list(insertion.networks))} {flow.transport.value} {port} {ports}"
        return f"nft insert rule {base.chain} {match} accept comment '\"{flow.flow}\"'"

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


def _refused(body: Any, scene: Scene) -> Match:
    """Return what a reject is for by its answer: nft prints no match on the IP version or TCP that it implies."""
    kind = body.get("type") if isinstance(body, dict) else None
    if kind == "tcp reset" and scene.transport is not Transport.TCP:
        raise _NoMatch
    return Match(peer={"icmp": _V4, "icmpv6": _V6}.get(str(kind)))


def _is_xt(key: str, body: Any, kind: str) -> bool:
    return key == "xt" and isinstance(body, dict) and body.get("type") == kind


def _rewrites(key: str, body: Any) -> bool:
    return key == "mangle" and not (isinstance(body, dict) and _MARKS & set(body.get("key") or {}))


def _doubt_of(key: str, body: Any) -> str:
    """Return why a rule with a statement may not match; nothing for one that decides nothing."""
    if key in _HARMLESS:
        return ""
    if key == "mangle":
        return ""
    if key == "set" and isinstance(body, dict) and not body.get("stmt"):
        return f"it ends where the set {body.get('set')} is full"
    if _is_xt(key, body, "match") and body.get("name") == "comment":
        return ""
    if key == "xt":
        name = f"{body['name']} " if isinstance(body, dict) and body.get("name") else ""
        return f"the match {name}of iptables is not in what nft prints; {_SAVE}"
    return f"the statement {key} is not modelled"


#: Matches whose every value an audit asks about, so far as it is about connections.
_ASKED = {("meta", "nfproto"), ("meta", "l4proto"), ("ct", "state")}


def _is_wider(statements: list[Any]) -> bool:
    """Say whether a rule may match what is neither TCP nor UDP, or packets of no connection, or leads further."""
    limited = False
    for statement in statements:
        key, body = next(iter(statement.items())) if isinstance(statement, dict) and statement else ("", None)
        if key in ("counter", "comment", "accept", "drop", "reject", "log"):
            continue
        left = body.get("left") if key == "match" and isinstance(body, dict) else None
        kind, inner = next(iter(left.items())) if isinstance(left, dict) and left else ("", None)
        name = (kind, inner.get("key")) if isinstance(inner, dict) else ("", None)
        if kind == "payload" and isinstance(inner, dict):
            limited |= inner.get("protocol") in ("tcp", "udp")
            if inner.get("protocol") in ("tcp", "udp", "th", "ip", "ip6") and inner.get("field") in _FIELDS:
                continue
        if key != "match" or not isinstance(body, dict):
            return True
        values = _list(body.get("right"))
        values = [one for value in values for one in (_list(value["set"]) if _is_set(value) else [value])]
        transports = all(value in ("tcp", "udp") for value in values) and body.get("op") != "!="
        known = all(value in ("new", "established") for value in values) and body.get("op") != "!="
        if name == ("meta", "l4proto") and transports:
            limited = True
        elif name not in _ASKED or (name == ("ct", "state") and not known):
            return True
    return not limited


_FIELDS = ("saddr", "daddr", "sport", "dport")


def _is_set(value: Any) -> bool:
    return isinstance(value, dict) and "set" in value


def _side(body: dict[str, Any]) -> str:
    """Return whose address a lookup in the routing tables is about, if it is about one alone."""
    flags = _list(body.get("flags"))
    return str(flags[0]) if flags in (["daddr"], ["saddr"]) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
    if protocol in ("icmp", "icmpv6", "sctp", "dccp", "ah", "esp", "arp", "igmp"):
        raise _NoMatch
    raise NotModelled(f"{protocol} {name} is not modelled")


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
        raise NotModelled(f"it is for the interface {', '.join(map(str, values))}, which the plan does not know")
    if key == "pkttype":
        return _sure(("host" in values or "unicast" in values) != negated)
    raise NotModelled(f"meta {key} is not modelled")


def _is_named(right: Any) -> bool:
    return _is_set(right) or (isinstance(right, str) and right.startswith("@"))


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
        raise NotModelled(f"the address {value} is not modelled")


@lru_cache(65_536)
def _network(text: str) -> Intervals:
    return of_networks([ip_network(text, strict=False)])


def _port(value: Any) -> tuple[int, int]:
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return int(first), int(last)
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    raise NotModelled(f"the port {value} is not modelled")


def _less(op: str, right: Any) -> tuple[int, int] | None:
    if not isinstance(right, int):
        return None
    return {"<": (0, right - 1), "<=": (0, right), ">": (right + 1, 65535), ">=": (right, 65535)}.get(op)

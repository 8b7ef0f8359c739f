"""Reads what `iptables-save` and `ip6tables-save` print, one after the other in one text if both are there.

Semantics: iptables(8), iptables-extensions(8). What is not modelled makes its rule doubtful, never silently ignored.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network

from quorate.model.ports import InvalidPorts, PortRange
from quorate.network.audit.chains import Fields, Match, NetfilterRuleset, Step, Verdict, append, far_networks, flatten
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, Unreadable, of_networks, of_ports
from quorate.network.audit.space import EVERY_PORT, LAST_ADDRESS, V6, Act, Entry, Intervals, outside
from quorate.network.flows import Direction, Transport
from quorate.network.plan import PlannedFlow

_FAMILY: dict[int, Intervals] = {4: ((0, V6 - 1),), 6: ((V6, LAST_ADDRESS),)}
_TRANSPORTS = {"tcp": Transport.TCP, "6": Transport.TCP, "udp": Transport.UDP, "17": Transport.UDP}
_ENDS = {"ACCEPT": Verdict.ACCEPT, "DROP": Verdict.DROP, "REJECT": Verdict.DROP, "RETURN": Verdict.RETURN}
#: Targets after which the next rule is asked, and that change nothing that matters here.
_HARMLESS = {"LOG", "NFLOG", "ULOG", "AUDIT", "MARK", "CONNMARK", "TCPMSS", "TRACE", "SECMARK", "CONNSECMARK", ""}
#: Matches whose options are read below, or that have none.
_PLAIN = {"tcp", "udp", "conntrack", "state", "multiport", "comment", "iprange", "addrtype", "icmp", "icmp6", "icmpv6"}


@dataclass(frozen=True, slots=True)
class _Option:
    name: str
    values: tuple[str, ...]
    negated: bool


@dataclass(slots=True)
class _Line:
    rule: Rule
    family: int
    chain: str
    options: tuple[_Option, ...]
    target: str
    goto: bool = False


@dataclass
class _Family:
    policies: dict[str, Act] = field(default_factory=dict)
    chains: dict[str, list[_Line]] = field(default_factory=dict)


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the line."""
    families: dict[int, _Family] = {}
    rules: list[Rule] = []
    family, table = 4, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"line {number}"
        if line.startswith("#"):
            if re.search(r"\bip6tables|^# IPv6$", line):
                family = 6
            elif re.search(r"\biptables|^# IPv4$", line):
                family = 4
        elif line.startswith("*"):
            table = line[1:]
            if table == "filter":
                families[family] = _Family()
        elif line == "COMMIT":
            table = ""
        elif line and not table:
            raise Unreadable(f"{line[:40]!r} stands outside of a table; iptables-save begins one with *filter", place)
        elif line.startswith(":"):
            _chain(line, place, table, families.get(family))
        elif line:
            found = _parse(line, place, family, table)
            rules.append(found.rule)
            if table == "filter":
                if found.chain not in families[family].chains:
                    raise Unreadable(f"the chain {found.chain} is not declared", place)
                families[family].chains[found.chain].append(found)
    if table:
        raise Unreadable(f"the table {table} has no COMMIT: the text is cut off", f"line {text.count(chr(10)) + 1}")
    if not families:
        raise Unreadable("there is no *filter table in it; is it what iptables-save prints?")
    return _Iptables(families, tuple(rules))


def _chain(line: str, place: str, table: str, family: _Family | None) -> None:
    words = line[1:].split()
    if len(words) < 2 or words[1] not in ("ACCEPT", "DROP", "-"):
        raise Unreadable(f"{line!r} is not a chain such as `:INPUT DROP [0:0]`", place)
    if table == "filter" and family is not None:
        family.chains[words[0]] = []
        if words[1] != "-":
            family.policies[words[0]] = Act.ALLOW if words[1] == "ACCEPT" else Act.DENY


def _parse(line: str, place: str, family: int, table: str) -> _Line:
    try:
        words = shlex.split(re.sub(r"^\[\d+:\d+\]\s*", "", line))
    except ValueError as error:
        raise Unreadable(f"{error} in {line[:60]!r}", place) from None
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        raise Unreadable(f"{line[:60]!r} is not a rule such as `-A INPUT -j ACCEPT`", place)
    options = list(_options(words[2:]))
    target, goto = "", False
    matches = []
    for option in options:
        if option.name in ("-j", "--jump", "-g", "--goto") and option.values:
            target, goto = option.values[0], option.name in ("-g", "--goto")
            # What follows belongs to the target.
            break
        matches.append(option)
    version = "" if family == 4 else "ip6 "
    rule = Rule(f"{version}{words[1]} {place}", line, target == "ACCEPT", place, _doubt(table, target))
    return _Line(rule, family, words[1], tuple(matches), target, goto)


def _doubt(table: str, target: str) -> str:
    if table == "filter" or target in ("ACCEPT", "RETURN", "MASQUERADE", *_HARMLESS):
        return ""
    return f"a rule of table {table} with target {target} is not modelled"


def _options(words: list[str]) -> Iterator[_Option]:
    place, negated = 0, False
    while place < len(words):
        word = words[place]
        place += 1
        if word == "!":
            negated = True
            continue
        if not word.startswith("-"):
            # iptables of old wrote the exclamation mark behind the option; everything else is a stray value.
            raise Unreadable(f"{word!r} stands where an option is expected")
        values = []
        while place < len(words) and words[place] != "!" and not re.match(r"--?[a-zA-Z]", words[place]):
            values.append(words[place])
            place += 1
        yield _Option(word, tuple(values), negated)
        negated = False


class _Iptables(NetfilterRuleset):
    def __init__(self, families: dict[int, _Family], rules: tuple[Rule, ...]) -> None:
        super().__init__(rules)
        self._families = families

    def laid_out(self, scene: Scene) -> list[Entry]:
        """Return the entries of the hook's chains, IPv4 before IPv6; a family that is not in the text is unknown."""
        fields = Fields.of(scene)
        hook = "INPUT" if fields.inbound else "OUTPUT"
        found: list[Entry] = []
        for version, family in self._families.items():
            chains = {name: [_step(line, scene, fields) for line in lines] for name, lines in family.chains.items()}
            policy = family.policies.get(hook, Act.ALLOW)
            append(found, flatten(chains, hook, policy) if hook in chains else [Entry(policy, "")],
                   peer=_FAMILY[version])  # fmt: skip
        for version, space in _FAMILY.items():
            if version not in self._families:
                tool = "iptables-save" if version == 4 else "ip6tables-save"
                why = f"the text holds no rules for IPv{version}; add what {tool} prints"
                found.append(Entry(Act.DENY, "", peer=space, doubt=why))
        return found

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return iptables commands that put rules at the head of the chain; one names all addresses of a family."""
        chain, side = ("INPUT", "-s") if direction is Direction.INGRESS else ("OUTPUT", "-d")
        commands = []
        for version, networks in far_networks(flow, direction):
            tool = "ip6tables" if version == 6 else "iptables"
            for ports in flow.ports:
                span = str(ports.first) if len(ports) == 1 else f"{ports.first}:{ports.last}"
                match = f"-p {flow.transport.value} --dport {span} -m comment --comment {flow.flow}"
                commands.append(f"{tool} -I {chain} {side} {','.join(networks)} {match} -j ACCEPT")
        return " && ".join(commands)

    def removal(self, rule: Rule) -> str:
        """Return the command that deletes the rule by its text."""
        tool = "ip6tables" if rule.id.startswith("ip6 ") else "iptables"
        return f"{tool} {rule.text.replace('-A ', '-D ', 1)}"


def _step(line: _Line, scene: Scene, fields: Fields) -> Step:
    target = line.target
    if target in _ENDS:
        verdict = _ENDS[target]
    elif target in _HARMLESS:
        verdict = Verdict.CONTINUE
    else:
        verdict = Verdict.GOTO if line.goto else Verdict.JUMP
    match = _Reader(line, scene, fields).match()
    known = verdict in (Verdict.JUMP, Verdict.GOTO) and target.isupper() and target in _OTHER_TARGETS
    if known:
        verdict, match = Verdict.DROP, match.doubted(f"the target {target} is not modelled") if match else None
    return Step(line.rule.id, (match,) if match else (), verdict, target)


#: Targets of extensions that end the way of a packet, or may; they are no chains.
_OTHER_TARGETS = {"QUEUE", "NFQUEUE", "SYNPROXY", "TPROXY", "TARPIT", "DNAT", "SNAT", "REDIRECT", "NETMAP", "CT"}


class _Reader:
    """Reads the options of one rule for one scene: to a match, or to None where it surely does not match."""

    def __init__(self, line: _Line, scene: Scene, fields: Fields) -> None:
        self._line, self._scene, self._fields = line, scene, fields
        self._match = Match()

    def match(self) -> Match | None:
        for option in self._line.options:
            reader = self._READERS.get(option.name)
            if reader is None:
                self._match = self._match.doubted(f"the option {option.name} is not modelled")
            elif not reader(self, option):
                return None
        return None if self._match.empty else self._match

    def _place(self) -> str:
        return self._line.rule.place

    def _value(self, option: _Option) -> str:
        if not option.values:
            raise Unreadable(f"{option.name} has no value", self._place())
        return option.values[0]

    def _narrow(self, axis: str, intervals: Intervals, whole: Intervals, *, negated: bool) -> bool:
        self._match = self._match.narrowed(**{axis: outside(intervals, whole) if negated else intervals})
        return True

    def _address(self, axis: str, option: _Option) -> bool:
        try:
            spans = _addresses(self._value(option))
        except ValueError as error:
            raise Unreadable(str(error), self._place()) from None
        return self._narrow(axis, spans, _FAMILY[self._line.family], negated=option.negated)

    def _source(self, option: _Option) -> bool:
        return self._address(self._fields.source, option)

    def _destination(self, option: _Option) -> bool:
        return self._address(self._fields.destination, option)

    def _addresses(self, axis: str, option: _Option) -> bool:
        first, _, last = self._value(option).partition("-")
        try:
            ends = [ip_address(first), ip_address(last or first)]
        except ValueError as error:
            raise Unreadable(str(error), self._place()) from None
        low, high = (int(end) + (V6 if end.version == 6 else 0) for end in ends)
        return self._narrow(axis, ((low, high),), _FAMILY[self._line.family], negated=option.negated)

    def _source_range(self, option: _Option) -> bool:
        return self._addresses(self._fields.source, option)

    def _destination_range(self, option: _Option) -> bool:
        return self._addresses(self._fields.destination, option)

    def _protocol(self, option: _Option) -> bool:
        name = self._value(option)
        same = name in ("all", "0") or _TRANSPORTS.get(name) is self._scene.transport
        return same != option.negated

    def _port_list(self, option: _Option) -> Intervals:
        try:
            texts = self._value(option).split(",")
            return of_ports(PortRange.parse(_service(text)) for text in texts)
        except InvalidPorts as error:
            raise Unreadable(str(error), self._place()) from None

    def _source_ports(self, option: _Option) -> bool:
        axis = self._fields.source_port
        return self._narrow(axis, self._port_list(option), EVERY_PORT, negated=option.negated)

    def _destination_ports(self, option: _Option) -> bool:
        axis = self._fields.destination_port
        return self._narrow(axis, self._port_list(option), EVERY_PORT, negated=option.negated)

    def _state(self, option: _Option) -> bool:
        state = "NEW" if self._scene.phase is Phase.OPEN else "ESTABLISHED"
        return (state in self._value(option).split(",")) != option.negated

    def _interface(self, option: _Option) -> bool:
        if self._value(option) == "lo":
            return option.negated
        self._match = self._match.doubted(
            f"it is for the interface {self._value(option)}, which the plan does not know"
        )
        return True

    def _tcp_flags(self, option: _Option) -> bool:
        if self._scene.transport is not Transport.TCP:
            return False
        if len(option.values) != 2:
            raise Unreadable("--tcp-flags needs two lists", self._place())
        looked_at, wanted = (set(value.split(",")) for value in option.values)
        sent = {Phase.OPEN: {"SYN"}, Phase.ANSWER: {"SYN", "ACK"}, Phase.GO_ON: {"ACK"}}[self._scene.phase]
        return ((sent & looked_at) == wanted) != option.negated

    def _syn(self, option: _Option) -> bool:
        return (self._scene.transport is Transport.TCP and self._scene.phase is Phase.OPEN) != option.negated

    def _destination_type(self, option: _Option) -> bool:
        return self._type(option, mine=self._fields.inbound)

    def _source_type(self, option: _Option) -> bool:
        return self._type(option, mine=not self._fields.inbound)

    def _type(self, option: _Option, *, mine: bool) -> bool:
        kinds = set(self._value(option).split(","))
        if kinds <= {"LOCAL", "UNICAST", "BROADCAST", "MULTICAST", "ANYCAST"}:
            return (("LOCAL" if mine else "UNICAST") in kinds) != option.negated
        self._match = self._match.doubted(f"{option.name} {self._value(option)} is not modelled")
        return True

    def _module(self, option: _Option) -> bool:
        if self._value(option) not in _PLAIN:
            self._match = self._match.doubted(f"the match {self._value(option)} is not modelled")
        return True

    def _nothing(self, option: _Option) -> bool:
        return True

    def _never(self, option: _Option) -> bool:
        return option.negated

    _READERS: dict[str, Callable[[_Reader, _Option], bool]] = {  # noqa: RUF012
        "-s": _source,
        "--source": _source,
        "-d": _destination,
        "--destination": _destination,
        "--src-range": _source_range,
        "--dst-range": _destination_range,
        "-p": _protocol,
        "--protocol": _protocol,
        "--sport": _source_ports,
        "--source-port": _source_ports,
        "--sports": _source_ports,
        "--dport": _destination_ports,
        "--destination-port": _destination_ports,
        "--dports": _destination_ports,
        "--ctstate": _state,
        "--state": _state,
        "-i": _interface,
        "-o": _interface,
        "--tcp-flags": _tcp_flags,
        "--syn": _syn,
        "--dst-type": _destination_type,
        "--src-type": _source_type,
        "-m": _module,
        "--match": _module,
        "--comment": _nothing,
        "-c": _nothing,
        "--icmp-type": _never,
        "--icmpv6-type": _never,
        "-f": _never,
    }


@lru_cache(65_536)
def _addresses(text: str) -> Intervals:
    return of_networks(ip_network(item, strict=False) for item in text.split(","))


def _service(text: str) -> str:
    """A half-open range has one end only; `iptables-save` prints numbers, never names of services."""
    first, colon, last = text.partition(":")
    return f"{first or 0}:{last or 65535}" if colon else text

"""Reads what `iptables-save` and `ip6tables-save` print, one after the other in one text if both are there.

Semantics: iptables(8), iptables-extensions(8). What is not modelled makes its rule doubtful, never silently ignored.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from quorate.model.ports import InvalidPorts, PortRange
from quorate.network.audit.chains import Fields, Match, Step, Verdict
from quorate.network.audit.netfilter import FAMILIES, XT_HARMLESS, Base, Insertion, NetfilterRuleset
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, Unreadable, of_networks, of_ports
from quorate.network.audit.space import EVERY_FLAGS, EVERY_PORT, V6, Act, Intervals, outside
from quorate.network.audit.tcpflags import ACK, BITS, FIN, PSH, RST, SYN, URG, flags_where
from quorate.network.audit.tracking import holds, shown
from quorate.network.flows import Direction, Transport

_TRANSPORTS = {"tcp": Transport.TCP, "6": Transport.TCP, "udp": Transport.UDP, "17": Transport.UDP}
#: What is decided about a packet; another source address is decided on as ACCEPT is.
_ENDS = {"ACCEPT": Verdict.ACCEPT, "DROP": Verdict.DROP, "REJECT": Verdict.DROP, "RETURN": Verdict.RETURN,
         "MASQUERADE": Verdict.ACCEPT, "SNAT": Verdict.ACCEPT}  # fmt: skip
#: Where packets go with which these chains decide nothing more; other targets that are no chains are doubtful, too.
_ELSEWHERE = {
    "DNAT": "it is sent on to another address, and whether it passes there is not judged",
    "REDIRECT": "it is sent on to another port of the machine, and whether it passes there is not judged",
    "NETMAP": "it is sent on to another address, and whether it passes there is not judged",
    "TPROXY": "it is given to a proxy on the machine",
    "QUEUE": "a program decides that reads the queue",
    "NFQUEUE": "a program decides that reads the queue",
    "SYNPROXY": "the kernel answers in the service's stead, and what passes then is not judged",
}
#: Which chains of which tables packets pass, in order (https://wiki.nftables.org, "Netfilter hooks").
_INWARDS = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING"), ("mangle", "INPUT"),
            ("filter", "INPUT"), ("security", "INPUT"), ("nat", "INPUT"))  # fmt: skip
_OUTWARDS = (("raw", "OUTPUT"), ("mangle", "OUTPUT"), ("nat", "OUTPUT"), ("filter", "OUTPUT"), ("security", "OUTPUT"),
             ("mangle", "POSTROUTING"), ("nat", "POSTROUTING"))  # fmt: skip
#: Options of whose every value an audit asks, so far as it is about connections.
_ASKED = {"-s", "--source", "-d", "--destination", "--src-range", "--dst-range", "--sport", "--source-port", "--sports",
          "--dport", "--destination-port", "--dports", "--ports", "-m", "--match", "--comment", "-c"}  # fmt: skip
#: What ALL stands for.
_TCP_FLAGS = FIN | SYN | RST | PSH | ACK | URG
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
    table: str
    chain: str
    options: tuple[_Option, ...]
    target: str
    goto: bool = False
    untracks: bool = False


@dataclass
class _Table:
    """A table of one family: each chain with its policy, if it is asked by the kernel itself, and its rules."""

    policies: dict[str, Act] = field(default_factory=dict)
    chains: dict[str, list[_Line]] = field(default_factory=dict)


#: Each family's tables by name.
_Tables = dict[int, dict[str, _Table]]


def read(text: str) -> Ruleset:
    """Return the rule set; raises Unreadable with the line."""
    tables: _Tables = {}
    lines: list[_Line] = []
    doubts: dict[int, str] = {}
    family, table = 4, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"line {number}"
        if line.startswith("#"):
            if re.search(r"\bip6tables|^# IPv6$", line):
                family = 6
            elif re.search(r"\biptables|^# IPv4$", line):
                family = 4
            if found := re.search(r"Warning: (ip6?tables)-legacy tables present", line):
                doubts[family] = f"there are rules of {found[1]}-legacy beside these ({place}); add what it saves"
        elif line.startswith("*"):
            table = line[1:]
            if table in tables.setdefault(family, {}):
                other = "# ip6tables-save" if family == 4 else "# iptables-save"
                why = f"the table {table} of IPv{family} begins a second time; rules of the other family stand behind"
                raise Unreadable(f"{why} a line {other!r}", place)
            tables[family][table] = _Table()
        elif line == "COMMIT":
            table = ""
        elif line and not table:
            raise Unreadable(f"{line[:40]!r} stands outside of a table; iptables-save begins one with *filter", place)
        elif line.startswith(":"):
            _chain(line, place, tables[family][table])
        elif line:
            rule = _parse(line, place, family, table)
            if rule.chain not in tables[family][table].chains:
                raise Unreadable(f"the chain {rule.chain} is not declared", place)
            lines.append(rule)
            tables[family][table].chains[rule.chain].append(rule)
    if table:
        raise Unreadable(f"the table {table} has no COMMIT: the text is cut off", f"line {text.count(chr(10)) + 1}")
    known = {version: held for version, held in tables.items() if "filter" in held}
    if not known:
        raise Unreadable("there is no *filter table in it; is it what iptables-save prints?")
    return _Iptables(known, tuple(lines), doubts)


def _chain(line: str, place: str, table: _Table) -> None:
    words = line[1:].split()
    if len(words) < 2 or words[1] not in ("ACCEPT", "DROP", "-"):
        raise Unreadable(f"{line!r} is not a chain such as `:INPUT DROP [0:0]`", place)
    table.chains[words[0]] = []
    if words[1] != "-":
        table.policies[words[0]] = Act.ALLOW if words[1] == "ACCEPT" else Act.DENY


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
    named = f"{version}{words[1]} {place}" if table == "filter" else f"{version}{table} {words[1]} {place}"
    # What sends packets elsewhere lets them pass, perhaps.
    allows = target == "ACCEPT" or target in _ELSEWHERE
    rule = Rule(named, line, allows, place, wider=_is_wider(matches))
    untracks = target == "NOTRACK" or (target == "CT" and "--notrack" in words)
    return _Line(rule, family, table, words[1], tuple(matches), target, goto, untracks)


def _is_wider(options: list[_Option]) -> bool:
    """Say whether a rule may match what is neither TCP nor UDP, or packets of no connection."""
    limited = False
    for option in options:
        value = option.values[0] if option.values else ""
        if option.name in ("-p", "--protocol"):
            limited = value in _TRANSPORTS and not option.negated
        elif option.name in ("--ctstate", "--state"):
            if option.negated or not set(value.split(",")) <= {"NEW", "ESTABLISHED"}:
                return True
        elif option.name not in _ASKED:
            return True
    return not limited


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
    form, loading = "iptables", ">FILE; FILE says how to load it"

    def __init__(self, tables: _Tables, lines: tuple[_Line, ...], doubts: dict[int, str]) -> None:
        super().__init__(
            tuple(line.rule for line in lines),
            {line.rule.id for line in lines if line.table == "raw"},
            untracks=any(line.untracks for line in lines if line.table == "raw"),
        )
        self._tables, self._doubts = tables, doubts
        self._lines = {line.rule.id: line for line in lines}

    def bases(self, scene: Scene, fields: Fields) -> list[Base]:
        """Return the built-in chains in the kernel's order; a connection's first packet alone meets NAT."""
        found = []
        for version in FAMILIES:
            tables = self._tables.get(version)
            if tables is None:
                tool = "iptables-save" if version == 4 else "ip6tables-save"
                why = f"the text holds no rules for IPv{version}; add what {tool} prints"
                found.append(Base("", Act.DENY, (version,), doubt=why))
                continue
            if why := self._doubts.get(version, ""):
                found.append(Base("", Act.DENY, (version,), doubt=why))
            for name, chain in _INWARDS if fields.inbound else _OUTWARDS:
                table = tables.get(name, _Table())
                if chain in table.chains and (name != "nat" or scene.phase is Phase.OPEN):
                    policy = table.policies.get(chain, Act.ALLOW)
                    found.append(
                        Base(
                            f"{version} {name} {chain}",
                            policy,
                            (version,),
                            tracked=name != "raw",
                            translates=name == "nat",
                        )
                    )
        return found

    def steps(self, scene: Scene, fields: Fields) -> dict[str, list[Step]]:
        """Return all chains; the empty name is a chain that nobody knows."""
        found: dict[str, list[Step]] = {"": []}
        for version, tables in self._tables.items():
            for name, table in tables.items():
                for chain, lines in table.chains.items():
                    readers = (_Reader(line, scene, fields) for line in lines)
                    steps = [_step(line, table, reader.matches()) for line, reader in zip(lines, readers, strict=True)]
                    found[f"{version} {name} {chain}"] = steps
        return found

    def command(self, insertion: Insertion) -> str:
        """Return an iptables command that puts a rule at the head of a chain; one names all addresses."""
        base, flow = insertion.base, insertion.flow
        tool = "ip6tables" if insertion.version == 6 else "iptables"
        _, table, chain = base.chain.split(" ")
        head = f"{tool} -I {chain}" if table == "filter" else f"{tool} -t {table} -I {chain}"
        if insertion.established:
            return f"{head} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        inwards = (insertion.direction is Direction.INGRESS) != (insertion.phase is Phase.ANSWER)
        side, port = "-s" if inwards else "-d", "--sport" if insertion.phase is Phase.ANSWER else "--dport"
        far = f"{side} {','.join(insertion.networks)} -p {flow.transport.value}"
        spans = (str(ports.first) if len(ports) == 1 else f"{ports.first}:{ports.last}" for ports in flow.ports)
        rest = f"-m comment --comment {flow.flow} -j ACCEPT"
        return " && ".join(f"{head} {far} {port} {span} {rest}" for span in spans)

    def removal(self, rule: Rule) -> str:
        """Return the command that deletes the rule by its text."""
        line = self._lines[rule.id]
        tool = "ip6tables" if line.family == 6 else "iptables"
        table = "" if line.table == "filter" else f"-t {line.table} "
        text = re.sub(r"^\[\d+:\d+\]\s*", "", rule.text)
        return f"{tool} {table}{re.sub('^(-A|--append) ', '-D ', text)}"


def _step(line: _Line, table: _Table, matches: tuple[Match, ...]) -> Step:
    target, verdict = line.target, _ENDS.get(line.target)
    if target in table.chains:
        verdict = Verdict.GOTO if line.goto else Verdict.JUMP
        target = f"{line.family} {line.table} {target}"
    elif line.untracks:
        verdict = Verdict.UNTRACK
    elif target in XT_HARMLESS or target in ("", "CT", "NOTRACK"):
        verdict = Verdict.CONTINUE
    elif verdict is None:
        if not target.isupper():
            raise Unreadable(f"it jumps to the chain {target}, which is not there", line.rule.place)
        why = _ELSEWHERE.get(target, f"the target {target} is not modelled")
        verdict, matches = Verdict.ELSEWHERE, tuple(match.doubted(why) for match in matches)
    return Step(line.rule.id, matches, verdict, target)


class _Reader:
    """Reads the options of one rule for one scene: to its alternatives, none where it surely does not match."""

    def __init__(self, line: _Line, scene: Scene, fields: Fields) -> None:
        self._line, self._scene, self._fields = line, scene, fields
        #: The alternatives, of which one has to hold.
        self._matches: tuple[Match, ...] = (Match(),)

    def matches(self) -> tuple[Match, ...]:
        for option in self._line.options:
            reader = self._READERS.get(option.name)
            if reader is None:
                self._doubt(f"the option {option.name} is not modelled")
            elif not reader(self, option):
                return ()
        return tuple(match for match in self._matches if not match.empty)

    def _doubt(self, why: str) -> bool:
        self._matches = tuple(match.doubted(why) for match in self._matches)
        return True

    def _place(self) -> str:
        return self._line.rule.place

    def _value(self, option: _Option) -> str:
        if not option.values:
            raise Unreadable(f"{option.name} has no value", self._place())
        return option.values[0]

    def _narrow(self, axis: str, intervals: Intervals, whole: Intervals, *, negated: bool) -> bool:
        limit = outside(intervals, whole) if negated else intervals
        self._matches = tuple(match.narrowed(**{axis: limit}) for match in self._matches)
        return True

    def _address(self, axis: str, option: _Option) -> bool:
        try:
            spans = _addresses(self._value(option))
        except ValueError as error:
            raise Unreadable(str(error), self._place()) from None
        if spans is None:
            return self._doubt(f"the mask of {self._value(option)} has holes, which is not modelled")
        return self._narrow(axis, spans, FAMILIES[self._line.family], negated=option.negated)

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
        return self._narrow(axis, ((low, high),), FAMILIES[self._line.family], negated=option.negated)

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
        known = holds(self._fields.states, self._value(option).lower().split(","))
        if known is None:
            return self._doubt(f"connection tracking may have it for {shown(self._fields.states)}")
        return known != option.negated

    def _interface(self, option: _Option) -> bool:
        if self._value(option) in ("lo", "+"):
            # No packet between machines is on the loopback, and every one is on some interface.
            return (self._value(option) == "+") != option.negated
        return self._doubt(f"it is for the interface {self._value(option)}, which the plan does not know")

    def _tcp_flags(self, option: _Option) -> bool:
        if self._scene.transport is not Transport.TCP:
            return False
        if len(option.values) != 2:
            raise Unreadable("--tcp-flags needs two lists", self._place())
        looked_at, wanted = (self._flags(value) for value in option.values)
        return self._having(looked_at, wanted, option)

    def _flags(self, text: str) -> int:
        bits = 0
        for name in text.split(","):
            if name not in ("ALL", "NONE") and name.lower() not in BITS:
                raise Unreadable(f"{name} is no flag of TCP", self._place())
            bits |= {"ALL": _TCP_FLAGS, "NONE": 0}.get(name, BITS.get(name.lower(), 0))
        return bits

    def _having(self, looked_at: int, wanted: int, option: _Option) -> bool:
        flags = flags_where(lambda flags: (flags & looked_at == wanted) != option.negated)
        return self._narrow("flags", flags, EVERY_FLAGS, negated=False)

    def _syn(self, option: _Option) -> bool:
        return self._scene.transport is Transport.TCP and self._having(SYN | RST | ACK | FIN, SYN, option)

    def _either_ports(self, option: _Option) -> bool:
        ports, axes = self._port_list(option), (self._fields.source_port, self._fields.destination_port)
        if option.negated:
            return all(self._narrow(axis, ports, EVERY_PORT, negated=True) for axis in axes)
        self._matches = tuple(match.narrowed(**{axis: ports}) for match in self._matches for axis in axes)
        return True

    def _destination_type(self, option: _Option) -> bool:
        return self._type(option, mine=self._fields.inbound)

    def _source_type(self, option: _Option) -> bool:
        return self._type(option, mine=not self._fields.inbound)

    def _type(self, option: _Option, *, mine: bool) -> bool:
        kinds = set(self._value(option).split(","))
        if kinds <= {"LOCAL", "UNICAST", "BROADCAST", "MULTICAST", "ANYCAST"}:
            return (("LOCAL" if mine else "UNICAST") in kinds) != option.negated
        return self._doubt(f"{option.name} {self._value(option)} is not modelled")

    def _module(self, option: _Option) -> bool:
        if self._value(option) not in _PLAIN:
            return self._doubt(f"the match {self._value(option)} is not modelled")
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
        "--ports": _either_ports,
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
def _addresses(text: str) -> Intervals | None:
    """Return networks as intervals, None where a mask is not ones from the left alone."""
    networks = []
    for item in text.split(","):
        address, slash, mask = item.partition("/")
        if "." in mask:
            # `ip_network` reads 0.0.0.255 as a wildcard, and iptables as what it says: the last octet counts.
            zeros = int(IPv4Address(mask)) ^ 0xFFFFFFFF
            if zeros & (zeros + 1):
                return None
            mask = str(32 - zeros.bit_length())
        networks.append(ip_network(f"{address}{slash}{mask}", strict=False))
    return of_networks(networks)


def _service(text: str) -> str:
    """A half-open range has one end only; `iptables-save` prints numbers, never names of services."""
    first, colon, last = text.partition(":")
    return f"{first or 0}:{last or 65535}" if colon else text

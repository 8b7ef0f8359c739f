"""From what all members' attempts found to the sentence with which an allocation ends, or starts; pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from quorate.launch.config import Configuration, Member, ProbeFlow
from quorate.launch.names import Finding
from quorate.launch.preflightplan import Pattern

#: Codes of findings by outcome, the worst to explain first.
CODES = {
    "unroutable": "NET-UNROUTABLE",
    "filtered": "NET-FILTERED",
    "refused": "NET-REFUSED",
    "wrong host": "NET-WRONG-HOST",
    "mtu": "NET-MTU",
    "undetermined": "NET-UNDETERMINED",
}
_ORDER = {outcome: place for place, outcome in enumerate(CODES)}
#: As in network/findings.py, which nothing here may import.
CLOCK_SKEW_S = 5.0
CLOCK_REMEDY = "timedatectl set-ntp true"
#: A door's port and its flows are worth a sentence each; of the pairs that have the same trouble, so many are named.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Failed:
    """An attempt that did not end as it should."""

    source: int
    destination: int
    #: Position in the destination's doors.
    door: int
    port: int
    outcome: str
    evidence: str

    def to_list(self) -> List[Any]:
        """As it travels; the source is known by the connection."""
        return [self.destination, self.door, self.port, self.outcome, self.evidence]


@dataclasses.dataclass(frozen=True)
class Report:
    """What one member tried."""

    failed: Tuple[Failed, ...] = ()
    #: How many attempts were made to each member to which some failed.
    tried: Tuple[Tuple[int, int], ...] = ()
    findings: Tuple[Finding, ...] = ()
    #: Attempts for which there was no time.
    untried: int = 0

    def to_object(self) -> Dict[str, Any]:
        return {
            "failed": [failed.to_list() for failed in self.failed],
            "tried": [list(pair) for pair in self.tried],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "untried": self.untried,
        }

    @staticmethod
    def of(pattern: Pattern, rank: int, data: Any) -> Report:
        """Reads what a member says; raises ValueError for what no member of this version says."""
        try:
            failed = tuple(Failed(rank, *item) for item in data["failed"])
            for each in failed:
                pattern.doors(each.destination)[each.door]
                if each.outcome not in CODES or not isinstance(each.evidence, str) or each.destination < 0:
                    raise ValueError(each.outcome)
            tried = tuple((int(other), int(count)) for other, count in data["tried"])
            findings = tuple(Finding(**finding) for finding in data["findings"])
            untried = data["untried"]
            if type(untried) is not int:
                raise TypeError(untried)
            return Report(failed, tried, findings, untried)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"no report of a preflight: {error!r}") from None


def judge(configuration: Configuration, pattern: Pattern, reports: Sequence[Report]) -> List[Finding]:
    """Every cause once, the worst first; what only follows from another is left out."""
    tried = {(rank, other): count for rank, report in enumerate(reports) for other, count in report.tried}
    failed = [each for report in reports for each in report.failed]
    by_pair: Dict[Tuple[int, int], List[Failed]] = {}
    for each in failed:
        by_pair.setdefault((each.source, each.destination), []).append(each)
    dead = {pair: each for pair, each in by_pair.items() if len(each) == tried.get(pair) and len(each) > 1}
    found = _of_dead_pairs(configuration, dead)
    groups: Dict[Tuple[Tuple[str, ...], str], List[Failed]] = {}
    for pair, several in by_pair.items():
        for each in several if pair not in dead else ():
            flows = tuple(flow.flow for flow in _flows(pattern, each))
            groups.setdefault((flows, each.outcome), []).append(each)
    for _, group in sorted(groups.items(), key=lambda item: (_ORDER[item[0][1]], item[0])):
        found.append(_of_flow(configuration, pattern, group))
    others = [finding for report in reports for finding in report.findings]
    # A port that somebody else holds explains why another host answered there.
    return sorted(dict.fromkeys((*others, *found)), key=lambda finding: not finding.fatal)


def blocked(configuration: Configuration, source: Member, destination: Member, code: str, evidence: str) -> Finding:
    """Nothing passes from one member to another, as far as it was tried."""
    carrier = configuration.carrier
    if carrier is not None and source.agent != destination.agent and source.underlay and destination.underlay:
        where = f"{carrier.transport} {_ports(carrier.ports)}"
        sentence = (
            f"nothing passes from {source.described()} to {destination.described()}: {evidence}; what carries it is "
            f"{_named([carrier])} on {where} from {source.underlay} to {destination.underlay}"
        )
        return _finding(code, sentence, carrier, source.underlay, destination.underlay)
    first = configuration.flows[0] if configuration.flows else None
    sentence = f"nothing passes from {source.described()} to {destination.described()}: {evidence}"
    return _finding(code, sentence, first, source.address, destination.address)


def severed(configuration: Configuration, one: Member, other: Member, code: str, evidence: str) -> Finding:
    """Nothing passes between two members of an overlay, in neither direction."""
    carrier = configuration.carrier
    sentence = f"nothing passes between {one.described()} and {other.described()}, either way: {evidence}"
    if carrier is None or not one.underlay or not other.underlay:
        return _finding(code, sentence, None, one.address, other.address)
    sentence += (
        f"; what carries it is {_named([carrier])} on {carrier.transport} {_ports(carrier.ports)} "
        f"from {one.underlay} to {other.underlay} and back"
    )
    there = _finding(code, sentence, carrier, one.underlay, other.underlay)
    back = _mend(carrier, other.underlay, one.underlay)
    return dataclasses.replace(there, sentence=f"{there.sentence}; and back: {back}") if back else there


def one_flow(
    flow: ProbeFlow, source: Member, destination: Member, port: int, code: str, evidence: str, more: str = ""
) -> Finding:
    """A flow does not pass, others may."""
    sentence = (
        f"{_named([flow])} does not pass from {source.described()} to {destination.described()} on "
        f"{flow.transport} {port}{more}: {evidence}"
    )
    return _finding(code, sentence, flow, source.address, destination.address)


def left_open(configuration: Configuration, reports: Mapping[int, Report], limit_s: float) -> List[Finding]:
    """A notice of what the limit has left open: attempts that were not made, and members of whom nothing was heard."""
    late = {rank: report.untried for rank, report in sorted(reports.items()) if report.untried}
    found = []
    if late:
        sentence = (
            f"within {limit_s:g} s there was no time for {sum(late.values())} attempts to reach others, of "
            f"{_some(configuration, list(late))}: what they would have found is not known"
        )
        found.append(Finding("NET-UNDETERMINED", sentence, fatal=False))
    silent = [member.rank for member in configuration.members if member.rank not in reports]
    if silent:
        sentence = f"within {limit_s:g} s nothing was heard of what was found by {_some(configuration, silent)}"
        found.append(Finding("NET-UNDETERMINED", sentence, fatal=False))
    return found


def clock(member: Member, first: Member, ahead_s: float, uncertain_s: float) -> List[Finding]:
    """A warning where two members' clocks differ by more than the measurement allows for."""
    if abs(ahead_s) - uncertain_s <= CLOCK_SKEW_S:
        return []
    word = "ahead of" if ahead_s > 0 else "behind"
    sentence = (
        f"the clock of {member.described()} is {abs(ahead_s):.0f} s {word} that of {first.described()}; {CLOCK_REMEDY}"
    )
    return [Finding("CLOCK-SKEW", sentence, fatal=False)]


def _of_dead_pairs(configuration: Configuration, dead: Dict[Tuple[int, int], List[Failed]]) -> List[Finding]:
    found = []
    by_outcome: Dict[str, List[Failed]] = {}
    for several in dead.values():
        worst = min(several, key=lambda each: _ORDER[each.outcome])
        by_outcome.setdefault(worst.outcome, []).append(worst)
    for outcome, group in sorted(by_outcome.items(), key=lambda item: _ORDER[item[0]]):
        first = group[0]
        source, destination = configuration.members[first.source], configuration.members[first.destination]
        evidence = f"{first.evidence}{_more(configuration, group)}"
        found.append(blocked(configuration, source, destination, CODES[outcome], evidence))
    return found


def _of_flow(configuration: Configuration, pattern: Pattern, group: Sequence[Failed]) -> Finding:
    first = group[0]
    flows = _flows(pattern, first)
    evidence = first.evidence
    if first.outcome == "refused":
        # The other end has said that it listens there.
        evidence = "connection refused, though it listens: a firewall rejects it"
    named = dataclasses.replace(flows[0], flow=" and ".join(flow.flow for flow in flows))
    source, destination = configuration.members[first.source], configuration.members[first.destination]
    more = _more(configuration, group)
    return one_flow(named, source, destination, first.port, CODES[first.outcome], evidence, more)


def _more(configuration: Configuration, group: Sequence[Failed]) -> str:
    pairs = list(dict.fromkeys((each.source, each.destination) for each in group))[1:]
    if not pairs:
        return ""
    names = [configuration.members[a].name + " to " + configuration.members[b].name for a, b in pairs[: _NAMED - 1]]
    beyond = f" and {len(pairs) - len(names)} more" if len(pairs) > len(names) else ""
    return f" (nor from {', '.join(names)}{beyond})"


def _some(configuration: Configuration, ranks: Sequence[int]) -> str:
    named = ", ".join(configuration.members[rank].described() for rank in ranks[:_NAMED])
    return f"{named} and {len(ranks) - _NAMED} more members" if len(ranks) > _NAMED else named


def _flows(pattern: Pattern, failed: Failed) -> Sequence[ProbeFlow]:
    return pattern.flows(pattern.doors(failed.destination)[failed.door], failed.source)


def _named(flows: Sequence[ProbeFlow]) -> str:
    first = flows[0]
    return f"{first.flow} ({first.purpose})" if first.purpose else first.flow


def _ports(ports: Tuple[int, int]) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _finding(code: str, sentence: str, flow: ProbeFlow | None, source: str, destination: str) -> Finding:
    if flow is not None and flow.remedy:
        sentence += f"; mend: {_mend(flow, source, destination)}"
    return Finding(code, sentence, fatal=code != CODES["undetermined"])


def _mend(flow: ProbeFlow, source: str, destination: str) -> str:
    return flow.remedy.replace("{source}", source).replace("{destination}", destination)

"""What a check of the ways between machines found: attempts in, findings out, each cause once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from quorate.network.findings import Finding, settle

#: As many ends as a sentence bears.
_NAMED = 4
_NUMBER = re.compile("([0-9]+)")


class Outcome(StrEnum):
    """What the prober found, the worst to explain first (`launch/probe.py` has the same words)."""

    UNROUTABLE = "unroutable"
    FILTERED = "filtered"
    REFUSED = "refused"
    WRONG_HOST = "wrong host"
    #: Small packets pass, and those as large as the MTU do not.
    MTU = "mtu"
    UNDETERMINED = "undetermined"
    OPEN = "open"


CODES = {
    Outcome.UNROUTABLE: "NET-UNROUTABLE",
    Outcome.FILTERED: "NET-FILTERED",
    Outcome.REFUSED: "NET-REFUSED",
    Outcome.WRONG_HOST: "NET-WRONG-HOST",
    Outcome.MTU: "NET-MTU",
    Outcome.UNDETERMINED: "NET-UNDETERMINED",
}
_ORDER = {outcome: place for place, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True)
class End:
    """A machine or member that takes part, by the name under which people know it."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One flow tried in one direction; source and destination are names of ends."""

    source: str
    destination: str
    #: Id of the catalogue's flow, or of several, separated by commas, where they share their ports.
    flow: str
    transport: str
    port: int
    outcome: Outcome
    evidence: str
    purpose: str = ""
    round_trip_s: float | None = None
    #: The command that mends it.
    remedy: str = ""

    @property
    def way(self) -> tuple[str, str]:
        """The ends, in the direction that was tried."""
        return self.source, self.destination

    @property
    def passed(self) -> bool:
        """Whether the one who was meant has answered."""
        return self.outcome is Outcome.OPEN

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "source": self.source,
            "destination": self.destination,
            "flow": self.flow,
            "transport": self.transport,
            "port": self.port,
            "outcome": self.outcome.value,
            "evidence": self.evidence,
            "round_trip_ms": None if self.round_trip_s is None else round(1000 * self.round_trip_s, 3),
        }


@dataclass(frozen=True, slots=True)
class NetCheck:
    """All that a check did and found; `others` are findings that are about no single flow, such as clocks."""

    ends: tuple[End, ...]
    attempts: tuple[Attempt, ...]
    others: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", settle([*findings_of(self.attempts), *self.others]))

    @property
    def ways(self) -> dict[tuple[str, str], list[Attempt]]:
        """The attempts by their ends, in the order in which they were made."""
        ways: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            ways[attempt.way].append(attempt)
        return ways

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "ends": [{"name": end.name, "address": end.address} for end in self.ends],
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def findings_of(attempts: Sequence[Attempt]) -> tuple[Finding, ...]:
    """Return a finding for each cause, as far as it shows: an end cut off, a way on which nothing passes, a flow."""
    ways: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        ways[attempt.way].append(attempt)
    # Where one flow is all that was tried, it says more than its ends.
    dead = {way for way, tried in ways.items() if len(tried) > 1 and not any(attempt.passed for attempt in tried)}
    found: list[Finding] = []
    for cut in list(_cut_off(ways, dead)):
        found.append(_of_dead_ways(cut, [attempt for way in cut for attempt in ways[way]]))
        dead -= set(cut)
        ways = {way: tried for way, tried in ways.items() if way not in cut}
    found += [_of_dead_ways([way], ways[way]) for way in sorted(dead)]
    by_flow: dict[tuple[str, str, Outcome], list[Attempt]] = defaultdict(list)
    for way, tried in ways.items():
        for attempt in tried if way not in dead else ():
            if not attempt.passed:
                by_flow[attempt.flow, attempt.destination, attempt.outcome].append(attempt)
    found += [_of_flow(group) for group in by_flow.values()]
    return settle(found)


def _cut_off(ways: dict[tuple[str, str], list[Attempt]], dead: set[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The ways to an end, or from it, where there are several and nothing passes on any of them."""
    taken: set[tuple[str, str]] = set()
    for side in (1, 0):
        for name in sorted({way[side] for way in dead}):
            mine = [way for way in ways if way[side] == name and way not in taken]
            if len(mine) > 1 and all(way in dead for way in mine):
                taken |= set(mine)
                yield mine


def _of_dead_ways(ways: Sequence[tuple[str, str]], tried: Sequence[Attempt]) -> Finding:
    worst = min(tried, key=lambda attempt: _ORDER[attempt.outcome])
    sources, destinations = _names(way[0] for way in ways), _names(way[1] for way in ways)
    where = f"{worst.transport}/{worst.port} for {worst.flow}" + (f", {worst.purpose}" if worst.purpose else "")
    return Finding(
        CODES[worst.outcome],
        f"{sources} -> {destinations}",
        f"none of {len(tried)} attempts passes from {sources} to {destinations}: {worst.evidence} ({where})",
        sources,
        destinations,
        _remedies(tried),
    )


def _of_flow(group: Sequence[Attempt]) -> Finding:
    tried = sorted(group, key=lambda attempt: _as_counted(attempt.source))
    first = tried[0]
    sources = _names(attempt.source for attempt in tried)
    purpose = f" ({first.purpose})" if first.purpose else ""
    return Finding(
        CODES[first.outcome],
        f"{first.flow}: {sources} -> {first.destination}",
        f"{first.flow}{purpose} does not pass from {sources} to {first.destination} on {first.transport}/{first.port}: "
        f"{first.evidence}",
        sources,
        first.destination,
        _remedies(tried),
    )


def _remedies(tried: Iterable[Attempt]) -> str:
    """A command a line, as many as people read."""
    known = list(dict.fromkeys(attempt.remedy for attempt in tried if attempt.remedy and not attempt.passed))
    more = [f"# and {len(known) - _NAMED} more like these"] if len(known) > _NAMED else []
    return "\n".join([*known[:_NAMED], *more])


def _names(names: Iterable[str]) -> str:
    known = sorted(set(names), key=_as_counted)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _as_counted(name: str) -> list[str | int]:
    """Orders names as people count: gpu2 comes before gpu10."""
    return [int(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(name))]

"""What was seen of a flow at its ends, and what that makes of it: open or blocked, possible or not, or undetermined."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from quorate.network.audit.ruleset import OTHERS, Phase, Scene, show_addresses, show_ports
from quorate.network.audit.space import EVERY_PORT, Axis, Box, Cell, Intervals, Outcome, both, join, outside
from quorate.network.audit.tcpflags import shown
from quorate.network.flows import Direction
from quorate.network.plan import PlannedFlow

#: Nothing listens on port 0, and some platforms have no form for it.
SERVICES: Intervals = ((1, 65535),)
#: How many places a verdict names; the rest would say the same.
EXAMPLES = 2
#: The axes of addresses, which a scene's parties are called by, too.
_ENDS: tuple[Axis, ...] = ("peer", "local")
_NEITHER = "neither end is a machine that these rules hold for"
_WORDS = {Outcome.ALLOW: "open", Outcome.DENY: "blocked", Outcome.UNKNOWN: "undetermined"}


@dataclass(frozen=True, slots=True)
class FlowVerdict:
    """What the rules do with one flow: allow is open, deny is blocked, unknown says why it could not be told."""

    flow: PlannedFlow
    outcome: Outcome
    #: The rules that decide; empty for a default.
    rules: tuple[str, ...] = ()
    why: str = ""
    change: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "flow": self.flow.key,
            "verdict": _WORDS[self.outcome],
            "rules": list(self.rules),
            "why": self.why,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """What is decided of a part of a flow at one of its ends."""

    scene: Scene
    cell: Cell
    outcome: Outcome
    doubt: str = ""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that decide, without defaults."""
        return tuple(rule for rule in self.cell.stand.decision.rules if rule)


@dataclass
class Ends:
    """Everything that was seen of a flow, with the space that was looked at."""

    seen: list[Seen] = field(default_factory=list)
    #: Whether a scene was asked about it at all, even where all that passes there is planned.
    asked: bool = False

    def add(self, scene: Scene, within: Box, cells: Iterable[Cell], doubt: str = "") -> None:
        """Note the cells of a scene that hold the flow; `doubt` says why it may not be the flow that passes there."""
        self.asked = True
        found = list(cells)
        unknown = [axis for axis in _ENDS if not getattr(scene, axis).addresses]
        settled = _Settled(found, within, unknown)
        for cell in found:
            outcome, why = cell.outcome, cell.stand.decision.doubt
            if scene.peer is OTHERS and not settled.surely(cell):
                # What addresses decide is asked of everybody.
                continue
            if outcome is not Outcome.UNKNOWN and not settled.surely(cell):
                said = "open" if outcome is Outcome.ALLOW else "denied"
                parts = [axis for axis in unknown if getattr(cell, axis) != getattr(within, axis)]
                where = " and ".join(show_addresses(getattr(cell, axis)) for axis in parts)
                names = " or ".join(getattr(scene, axis).key for axis in parts)
                why = f"it is {said} by {_by(cell)} for {where}; the plan knows no address of {names}"
                outcome = Outcome.UNKNOWN
            elif outcome is Outcome.ALLOW and doubt:
                outcome, why = Outcome.UNKNOWN, f"{by_whom(cell)} lets {show_addresses(cell.peer)} pass; {doubt}"
            self.seen.append(Seen(scene, cell, outcome, why))

    @property
    def outcomes(self) -> set[Outcome]:
        """What was decided of any part at any end."""
        return {seen.outcome for seen in self.seen}

    def of(self, *outcomes: Outcome) -> Iterator[Seen]:
        """Yield what was decided so, in order."""
        return (seen for seen in self.seen if seen.outcome in outcomes)

    @property
    def denied_by(self) -> tuple[str, ...]:
        """The rules that block some of it; a default has no name."""
        return tuple(dict.fromkeys(_last(seen.cell) for seen in self.of(Outcome.DENY)))


class _Settled:
    """Tells what is decided whatever the addresses are that the plan does not know."""

    def __init__(self, cells: Collection[Cell], within: Box, unknown: Collection[Axis]) -> None:
        self._cells, self._within, self._unknown = cells, within, unknown
        self._known = [axis for axis in _ENDS if axis not in unknown]
        self._services: dict[tuple[Outcome, tuple[Intervals, ...]], Intervals] = {}

    def surely(self, cell: Cell) -> bool:
        """Say whether, for some port of the cell, the same is decided for every address."""
        if all(getattr(cell, axis) == getattr(self._within, axis) for axis in self._unknown):
            return True
        return bool(outside(self._otherwise(cell), cell.service))

    def _otherwise(self, cell: Cell) -> Intervals:
        """Return the ports for which some address is treated otherwise than in the cell."""
        place = tuple(getattr(cell, axis) for axis in self._known)
        known = cell.outcome, place
        if known not in self._services:
            self._services[known] = join(
                span
                for other in self._cells
                if other.outcome is not cell.outcome
                and all(both(getattr(other, axis), here) for axis, here in zip(self._known, place, strict=True))
                for span in other.service
            )
        return self._services[known]


def planned_verdict(flow: PlannedFlow, ends: Ends, openings: Iterable[str], naming: str = "") -> FlowVerdict:
    """Return what becomes of a flow that must pass; `openings` lets it pass where it is blocked.

    `naming` says what must be stated where the rules hold for neither end.
    """
    if not flow.known:
        unknown = flow.source if not flow.source.known else flow.destination
        return FlowVerdict(flow, Outcome.UNKNOWN, why=f"the plan knows no address of {unknown}")
    if Outcome.DENY in ends.outcomes:
        why = (f"{_where(seen)}: denied by {_last(seen.cell) or 'the default'}" for seen in ends.of(Outcome.DENY))
        return FlowVerdict(flow, Outcome.DENY, _names(ends.denied_by), _some(why), "; ".join(filter(None, openings)))
    if Outcome.UNKNOWN in ends.outcomes:
        return FlowVerdict(flow, Outcome.UNKNOWN, why=_doubts(ends))
    if not ends.seen:
        return FlowVerdict(flow, Outcome.UNKNOWN, why=_NEITHER, change=naming)
    rules = dict.fromkeys(rule for seen in ends.of(Outcome.ALLOW) for rule in seen.rules)
    return FlowVerdict(flow, Outcome.ALLOW, tuple(rules))


def possible(ends: Ends) -> Outcome:
    """Say whether a forbidden flow is possible: where one connection passes at every end that the rules hold for."""
    if not ends.seen:
        # Everything that was asked about is planned; what was never asked about is not known.
        return Outcome.DENY if ends.asked else Outcome.UNKNOWN
    if _passes(ends, Outcome.ALLOW):
        return Outcome.ALLOW
    return Outcome.UNKNOWN if _passes(ends, Outcome.ALLOW, Outcome.UNKNOWN) else Outcome.DENY


def _passes(ends: Ends, *outcomes: Outcome) -> bool:
    """Say whether some connection meets nothing but these outcomes."""
    there = {seen.scene.direction for seen in ends.seen}
    if len(there) == 1:
        return any(True for _ in ends.of(*outcomes))
    places = [
        {_connection(seen) for seen in ends.of(*outcomes) if seen.scene.direction is direction} for direction in there
    ]
    return any(all(both(one, other) for one, other in zip(*met, strict=True)) for met in product(*places))


def _connection(seen: Seen) -> tuple[Intervals, ...]:
    cell = seen.cell
    ends = (cell.peer, cell.local) if seen.scene.direction is Direction.INGRESS else (cell.local, cell.peer)
    return (*ends, cell.service, cell.other, cell.flags)


def forbidden_verdict(
    transports: Collection[tuple[PlannedFlow, Ends]], changes: Iterable[str], naming: str = ""
) -> FlowVerdict:
    """Return one verdict for a flow whatever transports it is possible with; what passes of each is in `why`.

    `naming` says what must be stated where the rules hold for neither end.
    """
    flow = next(iter(transports))[0]
    sure = [ends for _, ends in transports if possible(ends) is Outcome.ALLOW]
    if not sure:
        why = _some(_doubts(ends) for _, ends in transports if ends.seen)
        return FlowVerdict(flow, Outcome.UNKNOWN, why=why or _NEITHER, change="" if why else naming)
    rules = tuple(dict.fromkeys(rule for ends in sure for rule in exposing(ends)))
    openings = (
        _some(f"{passing(s.cell, s.scene)}, by {by_whom(s.cell)}" for s in ends.of(Outcome.ALLOW)) for ends in sure
    )
    return FlowVerdict(flow, Outcome.ALLOW, rules, "; ".join(openings), "; ".join(dict.fromkeys(changes)))


def exposing(ends: Ends) -> tuple[str, ...]:
    """Return the rules that have to go before none of it passes."""
    stands = dict.fromkeys(seen.cell.stand for seen in ends.of(Outcome.ALLOW))
    return tuple(dict.fromkeys(rule for stand in stands for rule in stand.to_blame))


def passing(cell: Cell, scene: Scene) -> str:
    """Return what passes there, such as `tcp/22 from 0.0.0.0/0`."""
    far = "from" if scene.direction is Direction.INGRESS else "to"
    ports = " on all ports" if cell.service == SERVICES else f"/{show_ports(cell.service)}"
    source = "" if cell.other == EVERY_PORT else f" with source port {_few_ports(cell.other)}"
    with_flags = f" with TCP flags {flags}" if (flags := shown(cell.flags, scene)) else ""
    return f"{scene.transport.value}{ports} {far} {_who(cell, scene)}{source}{with_flags}"


def by_whom(cell: Cell) -> str:
    """Return the rules that let pass there, or the default."""
    return " and ".join(cell.stand.to_blame) or "the default"


def _by(cell: Cell) -> str:
    return by_whom(cell) if cell.outcome is Outcome.ALLOW else _last(cell) or "the default"


def _last(cell: Cell) -> str:
    return cell.stand.decision.rules[-1]


def _few_ports(ports: Intervals) -> str:
    return show_ports(ports) if len(ports) <= 4 else f"{show_ports(ports[:4])},…"


def _who(cell: Cell, scene: Scene) -> str:
    """Return the far end; one known by its group or tag alone is named, for every address stands for it."""
    if scene.peer is OTHERS:
        named = (scene.others[rule] for rule in sorted(cell.stand.rules) if rule in scene.others)
        return f"those {' or '.join(dict.fromkeys(named))}"
    return show_addresses(cell.peer) if scene.peer.addresses else scene.peer.key


def _where(seen: Seen) -> str:
    scene, cell = seen.scene, seen.cell
    way = f"{scene.direction.value} at {scene.local.key}"
    if scene.phase is not Phase.OPEN:
        way = f"answers, {way}" if scene.answers else f"packets after the first, {way}"
    with_flags = f" with TCP flags {flags}" if (flags := shown(cell.flags, scene)) else ""
    return f"{way}, {_who(cell, scene)}, {scene.transport.value}/{show_ports(cell.service)}{with_flags}"


def _doubts(ends: Ends) -> str:
    return _some(f"{_where(seen)}: {seen.doubt}" for seen in ends.of(Outcome.UNKNOWN))


def _some(texts: Iterable[str]) -> str:
    found: dict[str, None] = {}
    for text in texts:
        found.setdefault(text)
        if len(found) == EXAMPLES:
            break
    return "; ".join(found)


def _names(rules: Iterable[str]) -> tuple[str, ...]:
    return tuple(rule for rule in rules if rule)

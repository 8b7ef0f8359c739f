"""Judges a rule set by a plan: every planned flow, every forbidden one, every rule; each finding with what mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, of_networks, of_ports, show_addresses, show_ports
from quorate.network.audit.space import (
    EVERY_ADDRESS,
    V6,
    Box,
    Candidate,
    Cell,
    Intervals,
    Outcome,
    both,
    cells,
    decide,
)
from quorate.network.audit.spare import Stands, passes_without
from quorate.network.catalogue import EPHEMERAL
from quorate.network.findings import Finding, settle
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow

#: Members in the host's network are on their agent's machine, and its rules hold for them.
_GOVERNED = {
    None: (Role.MASTER, Role.AGENT, Role.MEMBER),
    Role.MASTER: (Role.MASTER,),
    Role.AGENT: (Role.AGENT, Role.MEMBER),
}
_EPHEMERAL: Intervals = ((EPHEMERAL.first, EPHEMERAL.last),)
_EVERY_V4: Intervals = ((0, V6 - 1),)
#: Nothing listens on port 0, and some platforms have no form for it.
_SERVICES: Intervals = ((1, 65535),)
#: How many places a verdict names; the rest would say the same.
_EXAMPLES = 2
_ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)


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
        words = {Outcome.ALLOW: "open", Outcome.DENY: "blocked", Outcome.UNKNOWN: "undetermined"}
        return {
            "flow": self.flow.key,
            "verdict": words[self.outcome],
            "rules": list(self.rules),
            "why": self.why,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that an audit says. `flows` are in the plan's order.

    `forbidden` are the forbidden ones that are possible, and those of which that could not be told; of the rest it is
    sure that they are not.
    """

    format: str
    flows: tuple[FlowVerdict, ...]
    forbidden: tuple[FlowVerdict, ...]
    findings: tuple[Finding, ...]
    rules: int

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "format": self.format,
            "rules": self.rules,
            "flows": [verdict.to_dict() for verdict in self.flows],
            "forbidden": [verdict.to_dict() for verdict in self.forbidden],
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass
class _Use:
    """What a rule was seen to do over the whole space."""

    matched: bool = False
    decided: bool = False
    #: It decided somewhere, and there something else would have been decided without it.
    needed: bool = False
    planned: bool = False
    #: What it opens that no flow needs: peers and ports, a few of them.
    idle: list[str] = field(default_factory=list)
    #: What it may open that no flow needs, and why that could not be told.
    doubtful: list[str] = field(default_factory=list)


def _is_idle(use: _Use) -> bool:
    return use.decided and use.needed and bool(use.idle)


@dataclass
class _Ends:
    """What was decided about a flow at its ends."""

    outcomes: dict[Direction, set[Outcome]] = field(default_factory=lambda: defaultdict(set))
    #: Rules in the order in which they were met.
    denied_by: dict[str, None] = field(default_factory=dict)
    allowed_by: dict[str, None] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    #: What passes there: ports, from or to whom, and by which rule; a few of them.
    openings: list[str] = field(default_factory=list)
    #: What stands for decision where it passes.
    stands: dict[Direction, set[tuple[Candidate, ...]]] = field(default_factory=lambda: defaultdict(set))


def judge(plan: Plan, ruleset: Ruleset, form: str, role: Role | None = None) -> AuditReport:
    """Return what the rule set does with the plan's flows, seen from the machines of that role or of all roles."""
    planned: Mapping[PlannedFlow, _Ends] = {flow: _Ends() for flow in plan.flows}
    forbidden: Mapping[PlannedFlow, _Ends] = {flow: _Ends() for flow in plan.forbidden}
    uses: dict[str, _Use] = defaultdict(_Use)
    stands = Stands()
    for scene, mine in _scenes(plan, ruleset, role):
        _ask(scene, mine, plan, ruleset, planned, forbidden, uses, stands)
    # What another machine's rules decide is not asked of this one's.
    seen = {flow: ends for flow, ends in planned.items() if role is None or ends.outcomes or not flow.known}
    flows = tuple(_planned(flow, ends, ruleset) for flow, ends in seen.items())
    exposing = {name for ends in forbidden.values() if _passing_of(ends) is Outcome.ALLOW for name in ends.allowed_by}
    idle = {rule.id for rule in ruleset.rules if rule.allows and _is_idle(uses[rule.id])}
    disputed = {name for ends in planned.values() for name in ends.denied_by if name}
    mending = _Mending(ruleset, planned, frozenset(exposing | idle))
    passing: dict[str, list[tuple[PlannedFlow, _Ends]]] = defaultdict(list)
    for flow, ends in forbidden.items():
        # What another machine's rules decide is not asked of this one's.
        if _passing_of(ends) is not Outcome.DENY and (role is None or ends.outcomes):
            passing[flow.key].append((flow, ends))
    possible = tuple(_forbidden(transports, mending) for transports in passing.values())
    of_rules = _rule_findings(mending, uses, stands, disputed)
    findings = [*plan.findings, *_flow_findings(flows, possible), *of_rules]
    return AuditReport(form, flows, possible, settle(findings), len(ruleset.rules))


class _Mending:
    """How rules that let too much pass are taken away: what the plan needs of them is opened by itself first."""

    def __init__(self, ruleset: Ruleset, planned: Mapping[PlannedFlow, _Ends], going: frozenset[str]) -> None:
        self.ruleset, self.going = ruleset, going
        self._rules = {rule.id: rule for rule in ruleset.rules}
        self._relying: dict[str, list[str]] = defaultdict(list)
        for flow, ends in planned.items():
            for direction, stands in ends.stands.items():
                for rule in {decide(stand).rule for stand in stands if not passes_without(stand, going)} & going:
                    self._relying[rule].append(ruleset.opening(flow, direction))

    def withdrawing(self, name: str) -> tuple[str, ...]:
        """Return the commands or edits that take a rule away, none for a default."""
        rule = self._rules.get(name)
        return (*dict.fromkeys(self._relying[name]), self.ruleset.removal(rule)) if rule else ()


def _scenes(plan: Plan, ruleset: Ruleset, role: Role | None) -> Iterator[tuple[Scene, list[PlannedFlow]]]:
    """Every governed machine with every other party and with everybody else, both ways, with the flows between them."""
    governed = [p for p in plan.parties if p.role in _GOVERNED[role] and plan.holds_for(p)]
    locals_ = [p for p in governed if ruleset.governs(p)]
    for local in locals_:
        for direction in Direction:
            between: dict[Party, list[PlannedFlow]] = {_ANYONE: []}
            for flow in (*plan.flows, *plan.forbidden):
                if flow.local(direction) == local:
                    between.setdefault(flow.peer(direction), []).append(flow)
            for peer, flows in between.items():
                for transport in Transport:
                    yield Scene(direction, local, peer, transport), flows


def _ask(
    scene: Scene,
    mine: list[PlannedFlow],
    plan: Plan,
    ruleset: Ruleset,
    planned: Mapping[PlannedFlow, _Ends],
    forbidden: Mapping[PlannedFlow, _Ends],
    uses: dict[str, _Use],
    stands: Stands,
) -> None:
    entries, default = ruleset.entries(scene)
    # Everybody else overlaps the parties of the plan, so their flows mark what of it is needed.
    others = [f for f in plan.flows if f.local(scene.direction) == scene.local and f not in mine]
    marked = [f for f in (*mine, *others) if f.transport is scene.transport]
    within = Box(_addresses(scene.peer), _addresses(scene.local), _SERVICES, _EPHEMERAL)
    markers = [Box(peer=_addresses(f.peer(scene.direction)), service=of_ports(f.ports)) for f in marked]
    ours = {index for index, flow in enumerate(marked) if flow in planned}
    own = {index for index, flow in enumerate(marked) if flow in mine}
    for cell in cells(entries, default, within, markers):
        here = [marked[index] for index in cell.markers if index in own]
        needed = any(index in ours for index in cell.markers)
        _note(cell, uses, needed, scene)
        stands.add(cell.candidates)
        for flow in here:
            if flow in planned:
                _record(planned[flow], scene, cell)
            elif not needed:
                _record(forbidden[flow], scene, cell)
    if not ruleset.stateful(scene):
        _ask_the_rest(scene, mine, ruleset, planned)


def _ask_the_rest(
    scene: Scene, mine: list[PlannedFlow], ruleset: Ruleset, planned: Mapping[PlannedFlow, _Ends]
) -> None:
    # A datagram and its answer are all that every use of UDP needs.
    for phase in (Phase.ANSWER, Phase.GO_ON) if scene.transport is Transport.TCP else (Phase.ANSWER,):
        later = replace(scene, phase=phase)
        entries, default = ruleset.entries(later)
        for flow in mine:
            if flow in planned and flow.transport is scene.transport:
                service = both(of_ports(flow.ports), _SERVICES) or ()
                box = Box(_addresses(scene.peer), _addresses(scene.local), service, _EPHEMERAL)
                for cell in cells(entries, default, box):
                    _record(planned[flow], later, cell)


@lru_cache(4096)
def _addresses(party: Party) -> Intervals:
    # Services that go by a name of their cloud's have IPv4 addresses there.
    return of_networks(party.addresses) or (_EVERY_V4 if party.service_cidrs else EVERY_ADDRESS)


def _record(ends: _Ends, scene: Scene, cell: Cell) -> None:
    ends.outcomes[scene.direction].add(cell.outcome)
    if cell.outcome is Outcome.ALLOW:
        ends.allowed_by.setdefault(cell.rule)
        if scene.phase is Phase.OPEN:
            ends.stands[scene.direction].add(cell.candidates)
        if len(ends.openings) < _EXAMPLES:
            ends.openings.append(f"{_passing(cell, scene)}, by {cell.rule or 'the default'}")
    elif cell.outcome is Outcome.DENY:
        ends.denied_by.setdefault(cell.rule)
        if len(ends.examples) < _EXAMPLES:
            by = f"denied by {cell.rule}" if cell.rule else "denied by the default"
            ends.examples.append(f"{_where(scene, cell)}: {by}")
    elif len(ends.doubts) < _EXAMPLES:
        ends.doubts.append(f"{_where(scene, cell)}: {cell.doubt}")


def _where(scene: Scene, cell: Cell) -> str:
    way = f"{scene.direction.value} at {scene.local.key}"
    if scene.phase is not Phase.OPEN:
        way = f"answers, {way}" if scene.answers else f"packets after the first, {way}"
    return f"{way}, {_who(cell, scene)}, {scene.transport.value}/{show_ports(cell.service)}"


def _note(cell: Cell, uses: dict[str, _Use], needed: bool, scene: Scene) -> None:
    for rule in cell.matching:
        uses[rule].matched = True
    if not cell.rule:
        return
    use = uses[cell.rule]
    use.decided = True
    # Whether a party of the plan has a name that the plan does not give it is no question of openings.
    asked = scene.peer is _ANYONE and not needed
    if cell.outcome is Outcome.UNKNOWN and asked and len(use.doubtful) < _EXAMPLES:
        opened = f"{_passing(cell, scene)}: {cell.doubt}"
        if opened not in use.doubtful:
            use.doubtful.append(opened)
    use.needed |= cell.without is not cell.outcome
    use.planned |= needed
    if cell.outcome is Outcome.ALLOW and not needed and cell.without is not Outcome.ALLOW and len(use.idle) < _EXAMPLES:
        opened = _passing(cell, scene)
        if opened not in use.idle:
            use.idle.append(opened)


def _passing(cell: Cell, scene: Scene) -> str:
    far = "from" if scene.direction is Direction.INGRESS else "to"
    ports = " on all ports" if cell.service == _SERVICES else f"/{show_ports(cell.service)}"
    return f"{scene.transport.value}{ports} {far} {_who(cell, scene)}"


def _who(cell: Cell, scene: Scene) -> str:
    """Return the far end; one known by its group or tag alone is named, for every address stands for it."""
    return show_addresses(cell.peer) if scene.peer.addresses else scene.peer.key


def _planned(flow: PlannedFlow, ends: _Ends, ruleset: Ruleset) -> FlowVerdict:
    seen = set().union(*ends.outcomes.values()) if ends.outcomes else set()
    if not flow.known:
        unknown = flow.source if not flow.source.known else flow.destination
        return FlowVerdict(flow, Outcome.UNKNOWN, why=f"the plan knows no address of {unknown}")
    if Outcome.DENY in seen:
        ways = [way for way, outcomes in ends.outcomes.items() if Outcome.DENY in outcomes]
        change = "; ".join(ruleset.opening(flow, way) for way in ways)
        return FlowVerdict(flow, Outcome.DENY, _names(ends.denied_by), "; ".join(ends.examples), change)
    if Outcome.UNKNOWN in seen:
        return FlowVerdict(flow, Outcome.UNKNOWN, why="; ".join(ends.doubts))
    if not seen:
        return FlowVerdict(flow, Outcome.UNKNOWN, why="neither end is a machine that these rules hold for")
    return FlowVerdict(flow, Outcome.ALLOW, _names(ends.allowed_by))


def _passing_of(ends: _Ends) -> Outcome:
    """Say whether a forbidden flow is possible: where some connection passes at every end that the rules hold for."""
    if any(outcomes <= {Outcome.DENY} for outcomes in ends.outcomes.values()):
        return Outcome.DENY
    sure = bool(ends.outcomes) and all(Outcome.ALLOW in outcomes for outcomes in ends.outcomes.values())
    return Outcome.ALLOW if sure else Outcome.UNKNOWN


def _forbidden(transports: list[tuple[PlannedFlow, _Ends]], mending: _Mending) -> FlowVerdict:
    """Return one verdict for a flow whatever transports it is possible with; what passes of each is in `why`."""
    flow = transports[0][0]
    sure = [ends for _, ends in transports if _passing_of(ends) is Outcome.ALLOW]
    if not sure:
        doubts = dict.fromkeys(doubt for _, ends in transports for doubt in ends.doubts)
        why = "; ".join(doubts) or "neither end is a machine that these rules hold for"
        return FlowVerdict(flow, Outcome.UNKNOWN, why=why)
    rules = tuple(dict.fromkeys(rule for ends in sure for rule in _names(ends.allowed_by)))
    change = "; ".join(dict.fromkeys(part for name in rules for part in mending.withdrawing(name)))
    why = "; ".join(opening for ends in sure for opening in ends.openings)
    return FlowVerdict(flow, Outcome.ALLOW, rules, why, change)


def _names(rules: Iterable[str]) -> tuple[str, ...]:
    return tuple(rule for rule in rules if rule)


def _flow_findings(flows: Iterable[FlowVerdict], possible: Iterable[FlowVerdict]) -> Iterator[Finding]:
    from quorate.network.catalogue import FORBIDDEN

    for verdict in flows:
        ends = verdict.flow.source.key, verdict.flow.destination.key
        if verdict.outcome is Outcome.DENY:
            yield Finding("NET-BLOCKED", verdict.flow.key, verdict.why, *ends, verdict.change)
        elif verdict.outcome is Outcome.UNKNOWN:
            yield Finding("NET-UNDETERMINED", verdict.flow.key, verdict.why, *ends)
    for verdict in possible:
        known = FORBIDDEN.get(verdict.flow.flow)
        code = known.finding if known else "NET-EXPOSED"
        code = code if verdict.outcome is Outcome.ALLOW else "NET-UNDETERMINED"
        ends = verdict.flow.source.key, verdict.flow.destination.key
        yield Finding(code, verdict.flow.key, f"{verdict.flow.purpose}: {verdict.why}", *ends, verdict.change)


def _rule_findings(
    mending: _Mending, uses: Mapping[str, _Use], stands: Stands, disputed: set[str]
) -> Iterator[Finding]:
    shadowed, redundant = [], []
    for rule in mending.ruleset.rules:
        use = uses.get(rule.id, _Use())
        if rule.clamped:
            remedy = "let the range end at 65535 where the text is kept"
            yield Finding("PORT-CLAMPED", rule.id, f"{_read(rule)}: {rule.clamped}", remedy=remedy)
        if rule.doubt:
            yield Finding("RULE-UNREADABLE", rule.id, f"{_read(rule)}: {rule.doubt}")
        elif use.matched and not use.decided:
            shadowed.append(rule)
        elif use.decided and not use.needed:
            redundant.append(rule)
        elif rule.allows and _is_idle(use):
            what = "no flow of the plan needs it" if not use.planned else "no flow of the plan needs all of it"
            evidence = f"{_read(rule)}: {what}; it lets pass {'; '.join(use.idle)}"
            yield Finding("NET-UNNEEDED", rule.id, evidence, remedy="; ".join(mending.withdrawing(rule.id)))
        if rule.allows and use.doubtful:
            evidence = f"{_read(rule)}: it may let pass what no flow of the plan needs: {'; '.join(use.doubtful)}"
            yield Finding("NET-UNDETERMINED", rule.id, evidence)
    # Each of two equal rules can go, but not both; and what is too wide goes, not what the plan has beside it.
    candidates = [rule.id for rule in (*shadowed, *redundant) if rule.id not in mending.going]
    spare = stands.spare(candidates, mending.going, disputed)
    for code, rules, why in (
        ("RULE-SHADOWED", shadowed, "rules before it decide all that it would match"),
        ("RULE-REDUNDANT", redundant, "without it the same would be decided"),
    ):
        for rule in rules:
            if rule.id in spare:
                yield Finding(code, rule.id, f"{_read(rule)}: {why}", remedy=mending.ruleset.removal(rule))


def _read(rule: Rule) -> str:
    return f"{rule.text} ({rule.place})" if rule.place else rule.text

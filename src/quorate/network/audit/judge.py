"""Judges a rule set by a plan: every planned flow, every forbidden one, every rule; each finding with what mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from quorate.network.audit.mustfail import MustFail, of_each
from quorate.network.audit.ruleset import OTHERS, Phase, Ruleset, Scene, of_networks, of_ports, source_ports
from quorate.network.audit.ruleuse import Uses, rule_findings
from quorate.network.audit.space import (
    EVERY_ADDRESS,
    EVERY_FLAGS,
    EVERY_PORT,
    LAST_ADDRESS,
    V6,
    Box,
    Cell,
    Intervals,
    Outcome,
    both,
    cells,
)
from quorate.network.audit.spare import passes_without
from quorate.network.audit.tcpflags import needed, valid
from quorate.network.audit.verdicts import (
    SERVICES,
    Ends,
    FlowVerdict,
    exposing,
    forbidden_verdict,
    planned_verdict,
    possible,
)
from quorate.network.findings import Finding, settle
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow

#: Members in the host's network are on their agent's machine, and its rules hold for them.
_GOVERNED = {
    None: (Role.MASTER, Role.AGENT, Role.MEMBER),
    Role.MASTER: (Role.MASTER,),
    Role.AGENT: (Role.AGENT, Role.MEMBER),
}
_EVERY_V4: Intervals = ((0, V6 - 1),)
_FAMILIES: tuple[Intervals, ...] = (_EVERY_V4, ((V6, LAST_ADDRESS),))
_ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)


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
    #: A line for each forbidden flow of the catalogue, also for those that other rules hold.
    must_fail: tuple[MustFail, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "format": self.format,
            "rules": self.rules,
            "flows": [verdict.to_dict() for verdict in self.flows],
            "forbidden": [verdict.to_dict() for verdict in self.forbidden],
            "must_fail": [line.to_dict() for line in self.must_fail],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def judge(plan: Plan, ruleset: Ruleset, form: str, role: Role | None = None) -> AuditReport:
    """Return what the rule set does with the plan's flows, seen from the machines of that role or of all roles."""
    asking = _Asking(plan, ruleset)
    for scene, mine in _scenes(plan, ruleset, role):
        asking.ask(scene, mine)
    # Machines of the role for which the text holds no rules: nothing is known of what passes there.
    unruled = {p for p in plan.parties if p.role in _GOVERNED[role] and plan.holds_for(p) and not ruleset.governs(p)}

    def is_asked(flow: PlannedFlow, ends: Ends) -> bool:
        # What another machine's rules decide is not asked of this one's.
        return role is None or ends.asked or not unruled.isdisjoint((flow.source, flow.destination))

    seen = {flow: ends for flow, ends in asking.planned.items() if is_asked(flow, ends) or not flow.known}
    flows = tuple(_planned(flow, ends, ruleset) for flow, ends in seen.items())
    exposed: dict[str, list[tuple[PlannedFlow, Ends]]] = defaultdict(list)
    for flow, ends in asking.forbidden.items():
        if is_asked(flow, ends) and possible(ends) is not Outcome.DENY:
            exposed[flow.key].append((flow, ends))
    blamed = {
        key: dict.fromkeys(rule for _, ends in transports if possible(ends) is Outcome.ALLOW for rule in exposing(ends))
        for key, transports in exposed.items()
    }
    going = frozenset(rule for rules in blamed.values() for rule in rules) | asking.uses.idle(ruleset.rules)
    mending = _Mending(ruleset, asking.planned, going)
    forbidden = tuple(
        forbidden_verdict(
            transports,
            (
                *(part for name in blamed[key] for part in mending.withdrawing(name)),
                *dict.fromkeys(filter(None, map(ruleset.closing, _open_by_default(transports)))),
            ),
            _naming(transports[0][0], ruleset),
        )
        for key, transports in exposed.items()
    )
    disputed = {name for ends in asking.planned.values() for name in ends.denied_by if name}
    # What lets a blocked flow pass does nothing now, and is needed once the flow is opened.
    waiting = {
        rule for ends in asking.planned.values() for seen in ends.of(Outcome.DENY) for rule in seen.cell.stand.rules
    }
    # They count as going for the others, so that no rule of the plan is spare beside them.
    fabric = frozenset(
        rule
        for party in plan.parties
        if party.role is Role.AGENT and party.name in plan.efa
        for rule in ruleset.among(party)
    )
    of_rules = rule_findings(ruleset, asking.uses, going, disputed, waiting, mending.withdrawing, fabric)
    ways_out = _open_ways_out(ruleset, asking, going)
    findings = [*plan.findings, *_flow_findings(flows, forbidden), *of_rules, *ways_out]
    must_fail = of_each(plan, forbidden, {flow for flow, ends in asking.forbidden.items() if ends.asked})
    return AuditReport(form, flows, forbidden, settle(findings), len(ruleset.rules), must_fail)


def _open_ways_out(ruleset: Ruleset, asking: _Asking, going: Collection[str]) -> Iterator[Finding]:
    """Yield the machines that everything may leave because no rule says otherwise, where the plan lists what must."""
    for local in asking.leaving:
        relying: list[PlannedFlow] = []
        listed = 0
        for flow, ends in asking.planned.items():
            if flow.source == local:
                listed += 1
                out = (seen for seen in ends.of(Outcome.ALLOW) if seen.scene.direction is Direction.EGRESS)
                relying += [flow] if any(_by_default(seen.cell, going) for seen in out) else []
        if listed and (change := ruleset.closing_egress(local, relying)):
            evidence = f"no rule denies what leaves {local.key}, so all of it may; {listed} flows of the plan need to"
            yield Finding("EGRESS-OPEN", local.key, evidence, remedy=change)


def _by_default(cell: Cell, gone: Collection[str] = ()) -> bool:
    """Say whether once some rules are gone no rule decides there, nor what the platform always lets pass."""
    first, *others = cell.stand.candidates
    return (not others or bool(first.rule)) and not cell.stand.decide(gone).rules[-1]


def _open_by_default(transports: Iterable[tuple[PlannedFlow, Ends]]) -> dict[Party, None]:
    """Return the machines that let some of it pass without any rule."""
    seen = (seen for _, ends in transports for seen in ends.of(Outcome.ALLOW))
    return dict.fromkeys(one.scene.local for one in seen if not one.rules)


def _naming(flow: PlannedFlow, ruleset: Ruleset) -> str:
    """Return what tells whether the rules hold for an end of a flow, where they hold for none."""
    ends = dict.fromkeys(end for end in (flow.source, flow.destination) if end.role in _GOVERNED[None])
    return "; ".join(dict.fromkeys(filter(None, map(ruleset.naming, ends))))


class _Mending:
    """How rules that let too much pass are taken away: what the plan needs of them is opened by itself first."""

    def __init__(self, ruleset: Ruleset, planned: Mapping[PlannedFlow, Ends], going: frozenset[str]) -> None:
        self._ruleset, self._going = ruleset, going
        self._withdrawn: dict[str, tuple[str, ...]] = {}
        self._rules = {rule.id: rule for rule in ruleset.rules}
        self._relying: dict[str, dict[str, None]] = defaultdict(dict)
        for flow, ends in planned.items() if going else ():
            for direction, rules in _relying(ends, going).items():
                opening = ruleset.reopening(flow, direction, going)
                for rule in rules:
                    self._relying[rule].setdefault(opening)

    def withdrawing(self, name: str) -> tuple[str, ...]:
        """Return the commands or edits that take a rule away, none for a default."""
        if name not in self._withdrawn:
            rule = self._rules.get(name)
            removal = (self._ruleset.removing(rule, self._going),) if rule else ()
            self._withdrawn[name] = (*filter(None, self._relying[name]), *removal) if rule else ()
        return self._withdrawn[name]


def _relying(ends: Ends, going: frozenset[str]) -> dict[Direction, set[str]]:
    """Return the rules that go on which a flow relies, at each of its ends."""
    found: dict[Direction, set[str]] = defaultdict(set)
    for seen in (*ends.of(Outcome.ALLOW), *ends.of(Outcome.UNKNOWN)):
        # What may pass through a rule may be the flow's only way.
        rules = going & seen.cell.stand.rules
        if rules and not passes_without(seen.cell.stand, going):
            found[seen.scene.direction] |= rules
    return found


def _scenes(plan: Plan, ruleset: Ruleset, role: Role | None) -> Iterator[tuple[Scene, list[PlannedFlow]]]:
    """Every governed machine with every other party and with everybody else, both ways, with the flows between them."""
    governed = [p for p in plan.parties if p.role in _GOVERNED[role] and plan.holds_for(p)]
    locals_ = [p for p in governed if ruleset.governs(p)]
    others = ruleset.others(plan.parties)
    for local in locals_:
        for direction in Direction:
            between: dict[Party, list[PlannedFlow]] = {_ANYONE: []}
            for flow in (*plan.flows, *plan.forbidden):
                if flow.local(direction) == local:
                    between.setdefault(flow.peer(direction), []).append(flow)
            if others:
                between[OTHERS] = [
                    flow
                    for flow in plan.forbidden
                    if flow.local(direction) == local and flow.peer(direction).role is Role.ANYONE
                ]
            apart = _apart(plan, between)
            for transport in Transport:
                for peer, flows in between.items():
                    yield Scene(direction, local, peer, transport, others=others), flows
                # Who is not named by the rules is asked about with everybody.
                everybody = ruleset.entries(Scene(direction, local, _ANYONE, transport, others=others)) if apart else ()
                for peer in apart:
                    scene = Scene(direction, local, peer, transport, others=others)
                    if ruleset.entries(scene) != everybody:
                        yield scene, []


def _apart(plan: Plan, peers: Collection[Party]) -> list[Party]:
    """Return the plan's parties without a flow to or from a machine that have no name in common with those with one."""
    known = {name for peer in peers for name in _names(peer)}
    named = ((party, _names(party)) for party in plan.parties if party not in peers)
    return [party for party, names in named if names and known.isdisjoint(names)]


def _names(party: Party) -> set[object]:
    return {*party.tags, *party.service_accounts, *party.security_groups, *party.labels}


class _Asking:
    """Asks a rule set about scenes, and keeps what it says of flows and what its rules were seen to do."""

    def __init__(self, plan: Plan, ruleset: Ruleset) -> None:
        self._plan, self._ruleset = plan, ruleset
        self.planned = {flow: Ends() for flow in plan.flows}
        self.forbidden = {flow: Ends() for flow in plan.forbidden}
        self.uses = Uses()
        #: Machines that what no flow needs may leave by default, in order.
        self.leaving: dict[Party, None] = {}

    def ask(self, scene: Scene, mine: Sequence[PlannedFlow]) -> None:
        """Ask about the connections of a scene; `mine` are the flows between its ends."""
        mine = [flow for flow in mine if flow.transport is scene.transport]
        self._ask_to_open(scene, mine)
        if not self._ruleset.stateful(scene):
            for phase in (Phase.ANSWER, Phase.GO_ON):
                self._ask_later(replace(scene, phase=phase), mine)

    def _ask_to_open(self, scene: Scene, mine: Sequence[PlannedFlow]) -> None:
        entries, default = self._ruleset.entries(scene)
        within = _within(scene)
        # Everybody else overlaps the parties of the plan, so their flows mark what of it is needed.
        others = [f for f in self._plan.flows if f.local(scene.direction) == scene.local and f not in mine]
        if scene.peer is OTHERS:
            # They are none of the plan's parties, unless it does not know these at all.
            others = [f for f in others if not f.peer(scene.direction).known]
        marked = [*mine, *(f for f in others if f.transport is scene.transport)]
        wanted = {index for index, flow in enumerate(marked) if flow in self.planned}
        named = {index for index in wanted if not _is_placed(marked[index], scene)}
        markers = _Markers()
        for index, flow in enumerate(marked):
            peer = EVERY_ADDRESS if index in named else _addresses(flow.peer(scene.direction))
            markers.add(Box(peer=peer, service=of_ports(flow.ports)))
        asked = [_Asked(flow, self.planned.get(flow), index) for index, flow in enumerate(mine)]
        own: set[int] = set()
        looked_at = dict.fromkeys(entry.other for entry in entries if entry.other is not None)
        by_flags = any(entry.flags is not None for entry in entries)
        if looked_at or by_flags:
            # Connections of the plan have few source ports, and begin with SYN alone, where a rule looks at these;
            # everybody else's have any.
            flags = needed(scene) if by_flags else EVERY_FLAGS
            for one in asked:
                if one.must_pass is not None:
                    ports = source_ports(one.flow) if looked_at else EVERY_PORT
                    one.marker = markers.add(replace(markers[one.marker], other=ports, flags=flags))
        if looked_at:
            needs = (
                box for box in self._ruleset.own_needs(scene) if any(both(box.other, ports) for ports in looked_at)
            )
            own = {markers.add(box) for box in needs}
        at_plan = markers.add(Box(local=_addresses(scene.local)))
        placed = wanted - named
        for cell in cells(entries, default, within, markers):
            stand = self.uses.add(cell.stand)
            if at_plan not in cell.markers:
                continue
            held = set(cell.markers)
            sure, perhaps, mine_alone = held & placed, held & named, held & own
            wanted_here = bool(sure or perhaps or mine_alone)
            if scene.peer is _ANYONE and not wanted_here:
                self._note_leaving(cell, scene)
            self.uses.note(cell, stand, scene, needed=wanted_here, everybody=scene.peer in (_ANYONE, OTHERS))
            for one in asked:
                if one.marker not in held:
                    continue
                if one.must_pass is not None:
                    one.found.append(cell)
                elif not sure and not mine_alone:
                    unsure = perhaps and one.flow.peer(scene.direction).role is Role.ANYONE and not _is_a_family(cell)
                    (one.doubted if unsure else one.found).append(cell)
        why = "whether only " + " and ".join(sorted({marked[i].peer(scene.direction).key for i in named}))
        for one in asked:
            ends = self.forbidden[one.flow] if one.must_pass is None else one.must_pass
            ends.add(scene, within, one.found)
            ends.add(scene, within, one.doubted, f"{why} comes from there the plan does not say")

    def _note_leaving(self, cell: Cell, scene: Scene) -> None:
        """Note what may go out by default, of an IP version that the machine is known to have or of IPv4."""
        if scene.direction is Direction.EGRESS and cell.outcome is Outcome.ALLOW and _by_default(cell):
            versions = {network.version for network in scene.local.addresses} or {4}
            if any(both(cell.peer, _FAMILIES[version == 6]) for version in versions):
                self.leaving.setdefault(scene.local)

    def _ask_later(self, scene: Scene, mine: Sequence[PlannedFlow]) -> None:
        """Ask about the other packets of connections, where they do not pass by themselves."""
        entries, default = self._ruleset.entries(scene)
        flows = [flow for flow in mine if flow in self.planned]
        # A datagram and its answer are all that every use of UDP needs.
        recorded = scene.transport is Transport.TCP or scene.phase is Phase.ANSWER
        flags = needed(scene) if any(entry.flags is not None for entry in entries) else EVERY_FLAGS
        near = _addresses(scene.local)
        markers = [Box(local=near, service=of_ports(f.ports), other=source_ports(f), flags=flags) for f in flows]
        found: dict[PlannedFlow, list[Cell]] = defaultdict(list)
        within = _within(scene)
        for cell in cells(entries, default, within, markers):
            self.uses.add(cell.stand)
            for index in cell.markers if recorded else ():
                found[flows[index]].append(cell)
        for flow in flows:
            self.planned[flow].add(scene, within, found[flow])


@dataclass(slots=True)
class _Asked:
    """A flow that a scene is asked about."""

    flow: PlannedFlow
    #: Where it is noted if it must pass; None for a forbidden one.
    must_pass: Ends | None
    #: The index of the marker that its connections are in.
    marker: int
    found: list[Cell] = field(default_factory=list)
    #: What may be another flow's that is planned.
    doubted: list[Cell] = field(default_factory=list)


class _Markers(list[Box]):
    def add(self, box: Box) -> int:
        """Put it in, and return its index."""
        self.append(box)
        return len(self) - 1


def _within(scene: Scene) -> Box:
    """Return what is asked about: of everybody else also what they reach at addresses that the plan does not name."""
    local = EVERY_ADDRESS if scene.peer is _ANYONE else _addresses(scene.local)
    return Box(_addresses(scene.peer), local, SERVICES, flags=valid(scene))


@lru_cache(4096)
def _addresses(party: Party) -> Intervals:
    # Services that go by a name of their cloud's have IPv4 addresses there.
    return of_networks(party.addresses) or (_EVERY_V4 if party.service_cidrs else EVERY_ADDRESS)


def _is_placed(flow: PlannedFlow, scene: Scene) -> bool:
    """Say whether it is known which connections of the scene are the flow's."""
    peer = flow.peer(scene.direction)
    return bool(peer.addresses) or peer == scene.peer


def _is_a_family(cell: Cell) -> bool:
    """Say whether the peers of a cell are all that there are of an IP version; those of a party are fewer."""
    return any(both(cell.peer, family) == family for family in _FAMILIES)


def _planned(flow: PlannedFlow, ends: Ends, ruleset: Ruleset) -> FlowVerdict:
    ways = dict.fromkeys(seen.scene.direction for seen in ends.of(Outcome.DENY)) if flow.known else ()
    return planned_verdict(flow, ends, [ruleset.opening(flow, way) for way in ways], _naming(flow, ruleset))


def _flow_findings(flows: Iterable[FlowVerdict], possible: Iterable[FlowVerdict]) -> Iterator[Finding]:
    from quorate.network.catalogue import FORBIDDEN

    for verdict in flows:
        ends = verdict.flow.source.key, verdict.flow.destination.key
        if verdict.outcome is Outcome.DENY:
            yield Finding("NET-BLOCKED", verdict.flow.key, verdict.why, *ends, verdict.change)
        elif verdict.outcome is Outcome.UNKNOWN:
            yield Finding("NET-UNDETERMINED", verdict.flow.key, verdict.why, *ends, verdict.change)
    for verdict in possible:
        known = FORBIDDEN.get(verdict.flow.flow)
        code = known.finding if known else "NET-EXPOSED"
        code = code if verdict.outcome is Outcome.ALLOW else "NET-UNDETERMINED"
        ends = verdict.flow.source.key, verdict.flow.destination.key
        yield Finding(code, verdict.flow.key, f"{verdict.flow.purpose}: {verdict.why}", *ends, verdict.change)

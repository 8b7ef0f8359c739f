"""The rules of one machine, whichever tool prints them: which chains a packet passes, and what lets a flow pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import ClassVar

from quorate.network.audit.chains import Fields, Step, append, flatten
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, of_networks, of_ports, source_ports
from quorate.network.audit.space import (
    EVERY_ADDRESS,
    EVERY_FLAGS,
    LAST_ADDRESS,
    V6,
    Act,
    Box,
    Entry,
    Intervals,
    Outcome,
    both,
    cells,
)
from quorate.network.audit.tcpflags import needed, valid
from quorate.network.audit.tracking import ESTABLISHED, INVALID, NEW, UNTRACKED, Left, States, boxes_of, regions, usual
from quorate.network.catalogue import DHCP
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, PlannedFlow

#: Each IP version's part of the axis of addresses.
FAMILIES: dict[int, Intervals] = {4: ((0, V6 - 1),), 6: ((V6, LAST_ADDRESS),)}
#: Targets of extensions after which the next rule is asked, and that change nothing that matters here.
XT_HARMLESS = frozenset(
    (
        *("LOG", "NFLOG", "ULOG", "AUDIT", "MARK", "CONNMARK", "TCPMSS", "TRACE", "SECMARK", "CONNSECMARK", "CLASSIFY"),
        *("DSCP", "TOS", "TTL", "HL", "SET", "CHECKSUM", "TEE", "IDLETIMER", "LED", "RATEEST", "TCPOPTSTRIP"),
    )
)
_PERHAPS_UNTRACKED = "rules may leave its connection untracked, and what is not tracked is not sent elsewhere"
_LINK = of_networks([ip_network("fe80::/10")])


@dataclass(frozen=True, slots=True)
class Base:
    """A chain that the kernel itself asks."""

    #: Its name; empty for one that the text does not hold.
    chain: str
    #: What becomes of what it decides nothing about.
    policy: Act
    #: The IP versions whose packets it is asked about.
    versions: tuple[int, ...] = (4, 6)
    #: Whether connections are known there, so that rules can tell new ones from others; before, each packet is invalid.
    tracked: bool = True
    #: Whether it is asked about first packets alone, to say where all of a connection's go.
    translates: bool = False
    #: Why it may not be asked at all.
    doubt: str = ""

    @property
    def space(self) -> Intervals:
        """The addresses that it is asked about."""
        return EVERY_ADDRESS if len(self.versions) == 2 else FAMILIES[self.versions[0]]


@dataclass(frozen=True, slots=True)
class Insertion:
    """A rule for the head of a chain: what it lets pass, of one IP version."""

    base: Base
    flow: PlannedFlow
    direction: Direction
    phase: Phase
    version: int
    networks: tuple[str, ...]
    #: Connection tracking knows its packets there.
    known: bool = True

    @property
    def established(self) -> bool:
        """Whether it is for all packets of connections that were let in already."""
        return self.phase is not Phase.OPEN and self.base.tracked and self.known


class NetfilterRuleset(Ruleset):
    """The rules of one machine. They know no parties, so that few scenes differ, and each is laid out once."""

    #: What Quorate calls rules of this kind, and what a shell loads them with.
    form: ClassVar[str]
    loading: ClassVar[str]

    def __init__(self, rules: tuple[Rule, ...], before_tracking: Collection[str], *, untracks: bool) -> None:
        """Take the rules, those that may be asked before connections are tracked, and whether some say not to.

        What these do to tracking is no verdict of theirs, so of none of them it is said that it does nothing.
        """
        self.rules = tuple(
            replace(rule, wider=True) if untracks and rule.id in before_tracking else rule for rule in rules
        )
        self._untracks = untracks
        #: A rule that leaves a packet untracked may stand before one that asks for that, in the same chain.
        self._early_states = INVALID | UNTRACKED if untracks else INVALID
        self._left: dict[tuple[Direction, Transport, Phase], list[Left]] = {}
        self._known: dict[tuple[Direction, Transport, Phase], list[Entry]] = {}
        self._chains_of: dict[tuple[Direction, Transport, Phase, States], Mapping[str, Sequence[Step]]] = {}

    @abstractmethod
    def bases(self, scene: Scene, fields: Fields) -> list[Base]:
        """Return the chains that the packets of a scene pass, in order; parties do not matter."""

    @abstractmethod
    def steps(self, scene: Scene, fields: Fields) -> Mapping[str, Sequence[Step]]:
        """Return all chains as they are for the packets of a scene; parties do not matter."""

    @abstractmethod
    def command(self, insertion: Insertion) -> str:
        """Return the command that inserts a rule."""

    def governs(self, local: Party) -> bool:
        """They hold for whichever machine they are said to be of."""
        return local.role in (Role.MASTER, Role.AGENT, Role.MEMBER)

    def closing(self, local: Party) -> str:
        """Return what loads the plan's own rules, which drop what they do not name."""
        role = "master" if local.role is Role.MASTER else "agent"
        pool = f" --pool {local.name}" if local.role is Role.AGENT else ""
        return f"quorate net rules --config master.yaml --for {self.form} --role {role}{pool} {self.loading}"

    def stateful(self, scene: Scene) -> bool:
        """Answers pass only where a rule says so."""
        return False

    def own_needs(self, scene: Scene) -> list[Box]:
        """Return what its DHCP client needs: IPv4's answers, and IPv6's, which come from the link alone."""
        if scene.transport is not Transport.UDP:
            return []
        needs = []
        for version, mine, servers in DHCP:
            answers = scene.direction is Direction.INGRESS
            peer = _LINK if version == 6 and answers else FAMILIES[version]
            service, other = (mine, servers) if answers else (servers, mine)
            needs.append(Box(peer=peer, service=((service, service),), other=((other, other),)))
        return needs

    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the entries of all chains that the packets pass."""
        asked = scene.direction, scene.transport, scene.phase
        if asked not in self._known:
            self._known[asked] = self._laid_out(scene)
        return self._known[asked], Outcome.ALLOW

    def _laid_out(self, scene: Scene) -> list[Entry]:
        found = self._sent_elsewhere(scene) if scene.phase is not Phase.OPEN else []
        # What is asked before connections are tracked goes first; IP versions do not mind each other's chains.
        passed = sorted(self.bases(scene, Fields.of(scene)), key=lambda base: base.tracked)
        early = sum(not base.tracked for base in passed)
        for place in range(early):
            append(found, self._asked(passed, place, scene, self._early_states))
        others = regions(scene, self._untracked(scene))
        jumps = []
        for states, box in boxes_of(others):
            jumps.append((len(found), states))
            found.append(_jump(box))
        ends = []
        starts: dict[States, int] = {}
        for states in (usual(scene.phase), *others):
            starts[states] = len(found)
            # What is not tracked is not translated.
            rest = [base for base in passed if not (base.translates and states <= INVALID | UNTRACKED)]
            for place in range(early, len(rest)):
                append(found, self._asked(rest, place, scene, states))
            if others:
                ends.append(len(found))
                found.append(Entry(Act.JUMP, ""))
        for place, states in jumps:
            found[place] = replace(found[place], to=starts[states])
        for place in ends:
            found[place] = replace(found[place], to=len(found))
        return found

    def _asked(self, passed: Sequence[Base], place: int, scene: Scene, states: States) -> list[Entry]:
        """Return the entries of one of the chains that packets pass, which are in one of some states."""
        base = passed[place]
        # The last chain of a family lets pass for good; before it, accepting is only going on.
        last = not any({*base.versions} & {*later.versions} for later in passed[place + 1 :])
        return _limited(base, flatten(self._laid(scene, states), base.chain, base.policy, last=last))

    def _untracked(self, scene: Scene) -> list[Left]:
        """Return which packets of the scene's connections rules leave untracked."""
        return [one for phase in Phase for one in self._left_of(replace(scene, phase=phase))] if self._untracks else []

    def _left_of(self, scene: Scene) -> list[Left]:
        asked = scene.direction, scene.transport, scene.phase
        if asked not in self._left:
            entries: list[Entry] = []
            for base in self.bases(scene, Fields.of(scene)):
                if not base.tracked:
                    chains = self._laid(scene, self._early_states)
                    append(
                        entries,
                        _limited(base, flatten(chains, base.chain, base.policy, last=False, untracking=True)),
                    )
            self._left[asked] = [
                Left(
                    scene.phase,
                    Box(cell.peer, cell.local, cell.service, cell.other, cell.flags),
                    cell.outcome is Outcome.ALLOW,
                )
                for cell in cells(entries, Outcome.DENY, Box(flags=valid(scene)))
                if cell.outcome is not Outcome.DENY
            ]
        return self._left[asked]

    def _sent_elsewhere(self, scene: Scene) -> list[Entry]:
        """Return what the first packets of connections met that may have been sent elsewhere: the others follow."""
        found: list[Entry] = []
        first = replace(scene, phase=Phase.OPEN)
        passed = self.bases(first, Fields.of(first))
        if any(base.translates for base in passed):
            untracked = [
                replace(_jump(replace(one.box, flags=EVERY_FLAGS)), doubt="" if one.sure else _PERHAPS_UNTRACKED)
                for one in self._untracked(scene)
                if one.phase is Phase.OPEN and both(one.box.flags, needed(first))
            ]
            for base in passed:
                if base.translates:
                    chains = self._laid(first, NEW)
                    append(found, flatten(chains, base.chain, base.policy, last=False), peer=base.space)
            behind = len(untracked) + len(found)
            skips = [replace(entry, to=behind) for entry in untracked]
            moved = [replace(e, to=e.to + len(skips)) if e.act is Act.JUMP else e for e in found]
            found = [*skips, *moved]
        return found

    def _laid(self, scene: Scene, states: States) -> Mapping[str, Sequence[Step]]:
        asked = scene.direction, scene.transport, scene.phase, states
        if asked not in self._chains_of:
            self._chains_of[asked] = self.steps(scene, replace(Fields.of(scene), states=states))
        return self._chains_of[asked]

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return commands that put rules at the head of every chain that keeps packets of the flow from passing."""
        return self.reopening(flow, direction, ())

    def reopening(self, flow: PlannedFlow, direction: Direction, gone: Collection[str]) -> str:
        """Return the same as they are needed once some rules are gone."""
        commands: dict[str, None] = {}
        opened: set[tuple[str, int]] = set()
        retracked: tuple[States, ...] = ()
        for phase in Phase:
            scene = Scene(direction, flow.local(direction), flow.peer(direction), flow.transport, phase)
            others = regions(scene, self._untracked(scene))
            for base in self.bases(scene, Fields.of(scene)):
                if not base.chain:
                    continue
                for version, networks in _far_networks(flow, direction):
                    if version not in base.versions or (phase is Phase.GO_ON and (base.chain, version) in opened):
                        continue
                    for states in (usual(phase), *others, *retracked) if base.tracked else (self._early_states,):
                        within = others.get(states) if base.tracked and not retracked else None
                        entries = flatten(self._laid(scene, states), base.chain, base.policy)
                        if _passes(entries, flow, scene, version, gone, within):
                            continue
                        known = states == usual(phase)
                        insertion = Insertion(base, flow, direction, phase, version, networks, known)
                        commands.setdefault(self.command(insertion))
                        if self._untracks and not base.tracked:
                            # Packets that are let pass there are not left untracked any more, and others still may be.
                            retracked = (NEW, ESTABLISHED, INVALID, UNTRACKED)
                        if phase is Phase.OPEN:
                            opened.add((base.chain, version))
        return " && ".join(commands)


def _passes(
    entries: Sequence[Entry],
    flow: PlannedFlow,
    scene: Scene,
    version: int,
    gone: Collection[str],
    within: Sequence[Box] | None,
) -> bool:
    """Say whether the flow passes some entries, as far as it is in one of some places; everywhere without any."""
    peer, local = (of_networks(party.addresses) or EVERY_ADDRESS for party in (scene.peer, scene.local))
    near = both(peer, FAMILIES[version]) or ()
    box = Box(near, local, of_ports(flow.ports), source_ports(flow), needed(scene))
    found = cells(entries, Outcome.ALLOW, box, within or ())
    return all(cell.stand.decide(gone).outcome is Outcome.ALLOW for cell in found if within is None or cell.markers)


def _limited(base: Base, entries: list[Entry]) -> list[Entry]:
    """Return the entries of a chain for what it is asked about, as ones that may be passed by where it may be."""
    if base.doubt:
        # It is passed by as a whole, or asked as a whole.
        past = Entry(Act.JUMP, "", to=len(entries) + 1, doubt=base.doubt)
        entries = [past, *(replace(entry, to=entry.to + 1) for entry in entries)]
    found: list[Entry] = []
    append(found, entries, **({"peer": base.space} if base.space != EVERY_ADDRESS else {}))
    return found


def _jump(box: Box) -> Entry:
    return Entry(Act.JUMP, "", box.peer, box.local, box.service, box.other, flags=box.flags)


def _far_networks(flow: PlannedFlow, direction: Direction) -> list[tuple[int, tuple[str, ...]]]:
    """Return the far end's networks of each IP version that it has any of: one rule of such a family names them all."""
    peer = flow.peer(direction)
    families = ((4, peer.v4), (6, peer.v6))
    return [(version, tuple(map(str, networks))) for version, networks in families if networks]

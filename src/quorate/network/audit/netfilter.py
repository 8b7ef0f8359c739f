"""The rules of one machine, whichever tool prints them: which chains a packet passes, and what lets a flow pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from quorate.network.audit.chains import Fields, Step, append, flatten
from quorate.network.audit.ruleset import Phase, Rule, Ruleset, Scene, of_networks, of_ports, source_ports
from quorate.network.audit.space import (
    EVERY_ADDRESS,
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
from quorate.network.audit.tcpflags import needed
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
    #: Whether connections are known there, so that rules can tell new ones from others.
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

    @property
    def established(self) -> bool:
        """Whether it is for all packets of connections that were let in already."""
        return self.phase is not Phase.OPEN and self.base.tracked


class NetfilterRuleset(Ruleset):
    """The rules of one machine. They know no parties, so that few scenes differ, and each is laid out once."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._known: dict[tuple[Direction, Transport, Phase], list[Entry]] = {}
        self._chains_of: dict[tuple[Direction, Transport, Phase, bool], Mapping[str, Sequence[Step]]] = {}

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
        passed = self.bases(scene, Fields.of(scene))
        for place, base in enumerate(passed):
            # The last chain of a family lets pass for good; before it, accepting is only going on.
            last = not any({*base.versions} & {*later.versions} for later in passed[place + 1 :])
            more = self._entries_of(base, scene, last=last)
            if base.doubt:
                # It is passed by as a whole, or asked as a whole.
                past = Entry(Act.JUMP, "", to=len(more) + 1, doubt=base.doubt)
                more = [past, *(replace(entry, to=entry.to + 1) for entry in more)]
            append(found, more, **({"peer": base.space} if base.space != EVERY_ADDRESS else {}))
        return found

    def _sent_elsewhere(self, scene: Scene) -> list[Entry]:
        """Return what the first packets of connections met that may have been sent elsewhere: the others follow."""
        found: list[Entry] = []
        first = replace(scene, phase=Phase.OPEN)
        for base in self.bases(first, Fields.of(first)):
            if base.translates:
                append(found, self._entries_of(base, first, last=False), peer=base.space)
        return found

    def _entries_of(self, base: Base, scene: Scene, *, last: bool) -> list[Entry]:
        asked = scene.direction, scene.transport, scene.phase, base.tracked
        if asked not in self._chains_of:
            self._chains_of[asked] = self.steps(scene, replace(Fields.of(scene), tracked=base.tracked))
        return flatten(self._chains_of[asked], base.chain, base.policy, last=last)

    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return commands that put rules at the head of every chain that keeps packets of the flow from passing."""
        return self.reopening(flow, direction, ())

    def reopening(self, flow: PlannedFlow, direction: Direction, gone: Collection[str]) -> str:
        """Return the same as they are needed once some rules are gone."""
        commands: dict[str, None] = {}
        opened: set[tuple[str, int]] = set()
        for phase in Phase:
            scene = Scene(direction, flow.local(direction), flow.peer(direction), flow.transport, phase)
            for base in self.bases(scene, Fields.of(scene)):
                if not base.chain:
                    continue
                entries = self._entries_of(base, scene, last=True)
                for version, networks in _far_networks(flow, direction):
                    if version not in base.versions or (phase is Phase.GO_ON and (base.chain, version) in opened):
                        continue
                    if _passes(entries, flow, scene, version, gone):
                        continue
                    insertion = Insertion(base, flow, direction, phase, version, networks)
                    commands.setdefault(self.command(insertion))
                    if phase is Phase.OPEN:
                        opened.add((base.chain, version))
        return " && ".join(commands)


def _passes(entries: Sequence[Entry], flow: PlannedFlow, scene: Scene, version: int, gone: Collection[str]) -> bool:
    peer, local = (of_networks(party.addresses) or EVERY_ADDRESS for party in (scene.peer, scene.local))
    near = both(peer, FAMILIES[version]) or ()
    box = Box(near, local, of_ports(flow.ports), source_ports(flow), needed(scene))
    found = cells(entries, Outcome.ALLOW, box)
    return all(cell.stand.decide(gone).outcome is Outcome.ALLOW for cell in found)


def _far_networks(flow: PlannedFlow, direction: Direction) -> list[tuple[int, tuple[str, ...]]]:
    """Return the far end's networks of each IP version that it has any of: one rule of such a family names them all."""
    peer = flow.peer(direction)
    families = ((4, peer.v4), (6, peer.v6))
    return [(version, tuple(map(str, networks))) for version, networks in families if networks]

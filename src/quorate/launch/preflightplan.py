"""Which flows each member tries with which others, decided alike by all of them; pure.

Up to FULL members everybody tries every flow with everybody, unless very many share one machine. Beyond, each ordered
pair of agents is still tried, and each flow at each member, but of the flows that all members serve a pair tries one,
in turn.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Dict, List, Sequence, Set, Tuple

from quorate.launch.config import Configuration, ProbeFlow, Purpose

#: The largest allocation of which everything is tried: 64 members are some ten thousand connections already.
FULL = 64
#: Ordered pairs that one agent's machine has to try at most: what eight members of 64 have. Its processors are shared.
FULL_ON_ONE = 8 * FULL


@dataclasses.dataclass(frozen=True)
class Door:
    """Where a member listens for some flows: one port, or some free port of a range."""

    transport: str
    first: int
    last: int
    #: Positions in the configuration's flows.
    flows: Tuple[int, ...]
    #: A companion's own listener is there, which answers probes too.
    own: bool = False


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One door of another member that is to be tried."""

    rank: int
    #: Position in that member's doors.
    door: int
    #: Whether full-size packets are to pass as well.
    full: bool = False


class Pattern:
    """Who listens where, and who tries what, in one allocation."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._everywhere = [position for position, flow in enumerate(configuration.flows) if not flow.destinations]
        self._at: Dict[int, List[int]] = {}
        for position, flow in enumerate(configuration.flows):
            for rank in flow.destinations:
                self._at.setdefault(rank, []).append(position)
        self._sources = [frozenset(flow.sources) for flow in configuration.flows]
        self._doors: Dict[int, Tuple[Door, ...]] = {}
        size = configuration.size
        busiest = max(Counter(member.agent or member.address for member in configuration.members).values())
        self._covers = size > FULL or busiest * size > FULL_ON_ONE

    def doors(self, rank: int) -> Tuple[Door, ...]:
        """Where the member of that rank listens, in an order that all members know."""
        if rank not in self._doors:
            self._doors[rank] = self._made(rank)
        return self._doors[rank]

    def flows(self, door: Door, source: int) -> Sequence[ProbeFlow]:
        """The flows for which that member uses the door."""
        mine = (p for p in door.flows if not self._sources[p] or source in self._sources[p])
        return [self._configuration.flows[position] for position in mine]

    def attempts(self, rank: int) -> List[Attempt]:
        """What the member of that rank tries."""
        size = self._configuration.size
        partners = self._partners(rank) if self._covers else set()
        found = []
        for other in range(size):
            if other == rank:
                continue
            mine = [place for place, door in enumerate(self.doors(other)) if self.flows(door, rank)]
            if self._covers:
                # What few members serve may have nobody else to try it.
                shared = [place for place in mine if self._is_of_many(self.doors(other)[place])]
                mine = [place for place in mine if place not in shared]
                if other in partners and shared:
                    mine.append(shared[(rank + other) % len(shared)])
            # There and back is one attempt, so one of two members makes it.
            large = next((place for place in mine if self.doors(other)[place].transport == "tcp"), None)
            found += [Attempt(other, place, full=place == large and rank < other) for place in mine]
        return found

    def _made(self, rank: int) -> Tuple[Door, ...]:
        flows: Dict[Tuple[str, int, int], List[int]] = {}
        for position in sorted([*self._everywhere, *self._at.get(rank, ())]):
            flow = self._configuration.flows[position]
            flows.setdefault((flow.transport, *flow.ports_of(rank)), []).append(position)
        member = self._configuration.members[rank]
        own = {member.ports[purpose] for purpose in (Purpose.RENDEZVOUS, Purpose.WATCH) if purpose in member.ports}
        return tuple(
            Door(transport, first, last, tuple(positions), own=transport == "tcp" and first == last and first in own)
            for (transport, first, last), positions in sorted(flows.items())
        )

    def _is_of_many(self, door: Door) -> bool:
        served = [self._configuration.flows[position] for position in door.flows]
        # A lease of its own makes a flow that one member serves alone, although all serve one of that id.
        return door.own or any(len(flow.destinations) != 1 for flow in served)

    def _partners(self, rank: int) -> Set[int]:
        """With which members this one stands for the pair of their agents. All ordered pairs of agents are covered."""
        by_agent: Dict[str, List[int]] = {}
        for member in self._configuration.members:
            by_agent.setdefault(member.agent or member.address, []).append(member.rank)
        member = self._configuration.members[rank]
        own = member.agent or member.address
        agents = sorted(by_agent)
        place, mine = agents.index(own), by_agent[own]
        chosen = set()
        for other_place, agent in enumerate(agents):
            theirs = by_agent[agent]
            turn = place + other_place
            if agent == own:
                # On one agent a ring is enough: all of them share its bridge or its loopback device.
                chosen.add(mine[(mine.index(rank) + 1) % len(mine)])
            elif mine[turn % len(mine)] == rank:
                # Members take the pairs of their agent in turn, so that none of them has all the work.
                chosen.add(theirs[turn % len(theirs)])
        return chosen - {rank}

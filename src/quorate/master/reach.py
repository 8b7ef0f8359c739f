"""Which agents reach each other: checked in the background, a few ways of each in turn, and told to the scheduler.

What is known lives in memory: a master that starts knows of no pair that is apart, and finds them anew.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from quorate.master.agentflows import between
from quorate.master.events import AgentsProbed
from quorate.master.link import Links
from quorate.master.netcheck import NetCheck
from quorate.master.state import State
from quorate.master.writer import Writer, now
from quorate.model.views import ProbeView
from quorate.network.pairs import turn
from quorate.network.reach import CODES, Outcome
from quorate.scheduling.types import Apart

log = logging.getLogger(__name__)

#: Others that each agent tries in a turn: so n agents cost O(n) probes, and a small cluster is covered at once.
EACH: Final = 3
#: Ways that are known to be bad and are tried again in each turn: each takes seconds until it is known to be bad still.
_AGAIN: Final = 512


class Way(NamedTuple):
    """From one agent to another, for a flow."""

    source: str
    destination: str
    flow: str


class Ways:
    """What the last checks found of every way that was tried; a way is bad once it has failed twice in a row."""

    def __init__(self) -> None:
        self.bad: dict[Way, ProbeView] = {}

    def failing(self, probes: Iterable[ProbeView]) -> dict[Way, ProbeView]:
        """Takes in what passed, and returns what did not: worth another look, unless it is known to be bad."""
        failed: dict[Way, ProbeView] = {}
        passed: set[Way] = set()
        for probe in probes:
            way = Way(probe.source, probe.destination, probe.flow)
            if probe.outcome == Outcome.OPEN:
                passed.add(way)
            elif probe.outcome != Outcome.UNDETERMINED:
                # Of a small packet and a large one the small one says more.
                failed[way] = min(failed.get(way, probe), probe, key=lambda each: each.packet_bytes)
        for way in passed - failed.keys():
            self.bad.pop(way, None)
        return failed

    def confirm(self, failed: Mapping[Way, ProbeView]) -> None:
        """These have failed again."""
        for way, probe in failed.items():
            known = self.bad.get(way)
            # What has not changed stays as it was said, for the port that is tried is another one each time.
            if known is None or (known.outcome, known.packet_bytes) != (probe.outcome, probe.packet_bytes):
                self.bad[way] = probe

    def keep(self, agents: Iterable[str]) -> None:
        """Forgets what concerns any other agent."""
        known = set(agents)
        self.bad = {way: probe for way, probe in self.bad.items() if {way.source, way.destination} <= known}

    def apart(self, needed_by: Callable[[Way], frozenset[str]]) -> tuple[Apart, ...]:
        """For the scheduler; `needed_by` says which jobs need a way, by the modes of their networks."""
        needed = ((way, probe, needed_by(way)) for way, probe in sorted(self.bad.items()))
        return tuple(_apart(way, probe, modes) for way, probe, modes in needed if modes)


def _apart(way: Way, probe: ProbeView, modes: frozenset[str]) -> Apart:
    outcome = Outcome.MTU if probe.packet_bytes else Outcome(probe.outcome)
    return Apart(
        source=way.source,
        destination=way.destination,
        modes=modes,
        way=f"{probe.transport} {probe.port}",
        code=CODES[outcome],
        evidence=probe.evidence,
    )


class Reach:
    """The checks in the background."""

    def __init__(self, links: Links, writer: Writer, every_s: float) -> None:
        self._links = links
        self._writer = writer
        self._every_s = every_s
        self._number = 0
        self._told: tuple[Apart, ...] = ()
        self.ways = Ways()
        #: Held by whoever checks: two checks at once would be in each other's way.
        self.checking = asyncio.Lock()

    async def run(self) -> None:
        """A turn every so often, for ever: for a task of its own."""
        while self._every_s > 0:
            await asyncio.sleep(self._every_s)
            try:
                async with self.checking:
                    await self.turn()
            except Exception:
                # The scheduler goes on with what it knows.
                log.exception("the check of the agents' ways failed; it is tried again")

    async def turn(self) -> None:
        """One turn: some ways of every agent, and all that are known to be bad."""
        state = self._writer.core.state
        self.ways.keep(agent.id for agent in state.agents.values() if not agent.revoked)
        pools = {pool: self._askable(state, agents) for pool, agents in state.agents_by_pool.items()}
        pairs: dict[str, set[str]] = {}
        for agents in pools.values():
            for source, destinations in turn(agents, self._number, EACH).items():
                pairs.setdefault(source, set()).update(destinations)
        self._number += 1
        askable = {agent for agents in pools.values() for agent in agents}
        for way in list(self.ways.bad)[:_AGAIN]:
            if {way.source, way.destination} <= askable:
                pairs.setdefault(way.source, set()).add(way.destination)
        if not any(pairs.values()):
            return
        failed = self.ways.failing(await self._probes(state, pairs))
        doubtful = {way: probe for way, probe in failed.items() if way not in self.ways.bad}
        self.ways.confirm({way: probe for way, probe in failed.items() if way in self.ways.bad})
        if doubtful:
            again: dict[str, set[str]] = {}
            for way in doubtful:
                again.setdefault(way.source, set()).add(way.destination)
            self.ways.confirm(self.ways.failing(await self._probes(state, again)))
        self.tell()

    def seen(self, probes: Sequence[ProbeView]) -> None:
        """A check on demand: what passes again is believed at once, what fails is left to the next turns."""
        self.ways.failing(probes)
        self.tell()

    def tell(self) -> None:
        """Tells the scheduler, where something has changed."""
        state = self._writer.core.state
        apart = self.ways.apart(lambda way: between(state, way.source, way.destination).get(way.flow, frozenset()))
        if apart == self._told:
            return
        for pair in set(apart) - set(self._told):
            log.warning("%s, seen from %s: %s", pair, pair.source, pair.evidence)
        still = {(pair.source, pair.destination) for pair in apart}
        for ends in sorted({(pair.source, pair.destination) for pair in self._told} - still):
            log.info("agent %s reaches agent %s again", *ends)
        self._told = apart
        self._writer.feed(AgentsProbed(now=now(), wall=time.time(), apart=apart))

    def _askable(self, state: State, agents: Iterable[str]) -> list[str]:
        return [agent for agent in agents if not state.agents[agent].revoked and self._links.can_ask(agent)]

    async def _probes(self, state: State, pairs: Mapping[str, Iterable[str]]) -> list[ProbeView]:
        names = sorted({*pairs, *(name for others in pairs.values() for name in others)})
        check = NetCheck(self._links.asks, state, names, {source: sorted(others) for source, others in pairs.items()})
        return [probe async for view in check.run() for probe in view.probes]

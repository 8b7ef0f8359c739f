"""The open agents of one pool in buckets by free slots, so that a gang is found without looking at every agent."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from quorate.model.job import Placement
from quorate.scheduling.apart import NOBODY, conflicts, ways_without
from quorate.scheduling.types import AgentView, Apart, Labels, Request

#: Twice the free slots of an agent, plus one if they are GPUs: sorts by free slots and keeps the two kinds apart.
Level = int
Bucket = dict[str, None]

NO_LABELS: Labels = frozenset()
#: The group of agents that no reservation holds.
UNHELD = 0


def level_of(slots: int, gpu: bool) -> Level:
    """The level of an agent with so many free slots; below zero for one whose slots have shrunk under what runs."""
    return slots * 2 + gpu


def members_on(level: Level, slots: int, colocate: bool) -> int:
    """How many members of `slots` (not zero) slots one agent of that level takes of one gang."""
    members = (level >> 1) // slots
    return min(members, 1) if level & 1 and not colocate else members


class Stock:
    """Agents that may serve the same requests, in buckets by level.

    A bucket gives its last entry first (`popitem` is the one end of a dict that stays cheap after many removals), so
    buckets are filled in falling order of ids and the lowest id is taken first.
    """

    __slots__ = ("_levels", "buckets")

    def __init__(self, agents: Iterable[tuple[str, Level]] = ()) -> None:
        self.buckets: dict[Level, Bucket] = {}
        for agent, level in agents:
            bucket = self.buckets.get(level)
            if bucket is None:
                bucket = self.buckets[level] = {}
            bucket[agent] = None
        self._levels = sorted(self.buckets)

    def move(self, agent: str, before: Level, after: Level) -> None:
        """Files the agent anew; whoever popped it from its bucket has already done half of that."""
        self.buckets[before].pop(agent, None)
        bucket = self.buckets.get(after)
        if bucket is None:
            bucket = self.buckets[after] = {}
            insort(self._levels, after)
        bucket[agent] = None

    def remove(self, agent: str, level: Level) -> None:
        """Takes the agent out."""
        del self.buckets[level][agent]

    def without(self, agents: frozenset[str]) -> "Stock":
        """A copy without these agents; the others keep their order."""
        levels = ((agent, level) for level, bucket in self.buckets.items() for agent in bucket)
        return Stock((agent, level) for agent, level in levels if agent not in agents)

    def tiers(self, slots: int) -> list[tuple[Level, Bucket]]:
        """The buckets of agents with at least so many free slots, the fullest agents first."""
        levels, buckets = self._levels, self.buckets
        return [(level, buckets[level]) for level in levels[bisect_left(levels, slots * 2) :] if buckets[level]]


def tiers(stocks: Sequence[Stock], slots: int) -> list[tuple[Level, Bucket]]:
    """The buckets of several stocks in one order, the fullest agents first."""
    if len(stocks) == 1:
        return stocks[0].tiers(slots)
    return sorted((tier for stock in stocks for tier in stock.tiers(slots)), key=lambda tier: tier[0])


class Pool:
    """What is left of one pool's open agents in the course of one pass.

    Each agent is in exactly one group: unheld, or held for one reservation. A stock is made when the first request
    asks for its labels and kept up to date from then on.
    """

    __slots__ = (
        "_apart",
        "_by_label",
        "_group",
        "_ids",
        "_matching",
        "_stocks",
        "_stocks_of",
        "_totals",
        "_ways",
        "agents",
        "level",
    )

    def __init__(self, agents: Iterable[AgentView], apart: Sequence[Apart] = ()) -> None:
        ordered = sorted(agents, key=lambda agent: agent.id, reverse=True)
        #: In falling order of ids, for the sake of `Stock`.
        self.agents = {agent.id: agent for agent in ordered}
        self.level = {agent.id: level_of(agent.free, agent.gpu) for agent in ordered}
        self._ids = list(self.agents)
        self._group: dict[str, int] = {}
        stock = Stock(self.level.items())
        self._stocks = {(UNHELD, NO_LABELS): stock}
        self._stocks_of = {agent: [stock] for agent in self._ids}
        self._totals: dict[Labels, Stock] = {}
        self._matching: dict[Labels, list[str]] = {NO_LABELS: self._ids}
        self._by_label: dict[tuple[str, str], list[str]] | None = None
        self._apart = apart
        self._ways: dict[str, tuple[frozenset[str], ...]] = {}

    def ways_without(self, request: Request) -> tuple[frozenset[str], ...]:
        """Which agents the gang may do without, so that its members reach each other; usually the one way is nobody."""
        if not self._apart or request.nodes == 1 or request.placement is Placement.SINGLE:
            return (NOBODY,)
        ways = self._ways.get(request.network)
        if ways is None:
            ways = ways_without(conflicts(self._apart, request.network, self.agents.keys()))
            self._ways[request.network] = ways
        return ways

    def stock(self, labels: Labels, group: int = UNHELD) -> Stock:
        """The agents of the group that have the labels, by what they have left."""
        stock = self._stocks.get((group, labels))
        if stock is None:
            chosen = [agent for agent in self.matching(labels) if self._group.get(agent, UNHELD) == group]
            stock = self._stocks[group, labels] = Stock((agent, self.level[agent]) for agent in chosen)
            for agent in chosen:
                self._stocks_of[agent].append(stock)
        return stock

    def totals(self, labels: Labels) -> Stock:
        """The agents that have the labels, by what they have in all: what the pool could serve if it were empty."""
        stock = self._totals.get(labels)
        if stock is None:
            agents = map(self.agents.__getitem__, self.matching(labels))
            stock = self._totals[labels] = Stock((agent.id, level_of(agent.total, agent.gpu)) for agent in agents)
        return stock

    def matching(self, labels: Labels) -> list[str]:
        """The agents that have the labels, in falling order of ids; costs as much as the rarest label has agents."""
        found = self._matching.get(labels)
        if found is None:
            if self._by_label is None:
                self._by_label = {}
                for agent in self.agents.values():
                    for label in agent.labels:
                        self._by_label.setdefault(label, []).append(agent.id)
            rarest = min((self._by_label.get(label, []) for label in labels), key=len)
            found = self._matching[labels] = [agent for agent in rarest if labels <= self.agents[agent].labels]
        return found

    def take(self, agent: str, slots: int) -> None:
        """Uses up slots of an agent that has them."""
        before = self.level[agent]
        after = self.level[agent] = before - 2 * slots
        for stock in self._stocks_of[agent]:
            stock.move(agent, before, after)

    def hold(self, agents: Iterable[str], group: int) -> None:
        """Puts the agents into the group; only requests that are allowed to use the group find them from now on.

        An agent that is held already goes to `group` all the same: what two reservations hold nobody else may use, so
        the caller gives each reservation a new group and lends only those whose agents nobody held before.
        """
        for agent in agents:
            for stock in self._stocks_of[agent]:
                stock.remove(agent, self.level[agent])
            self._stocks_of[agent] = []
            self._group[agent] = group

    def is_held(self, agent: str) -> bool:
        """Whether a reservation holds it."""
        return agent in self._group

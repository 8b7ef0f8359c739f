"""One scheduling pass: walks each pool's line in order, places what fits, and keeps the first in line from starving."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from operator import attrgetter

import msgspec

from quorate.scheduling.free import Pool, Stock
from quorate.scheduling.gang import place
from quorate.scheduling.reserve import Releases, choose, could_ever, releases
from quorate.scheduling.types import AgentView, Decisions, Placed, PoolPolicy, Request, Reservation, Shape, View

DEFAULT_POLICY = PoolPolicy()


def in_order(requests: Iterable[Request]) -> list[Request]:
    """The line: higher priority first, and first come first served within one.

    Sorting each priority by one number is several times faster than sorting all by pairs, and next to nothing for a
    caller whose queue is in order of submission.
    """
    by_priority: dict[int, list[Request]] = {}
    for request in requests:
        same = by_priority.get(request.priority)
        if same is None:
            same = by_priority[request.priority] = []
        same.append(request)
    line = []
    for priority in sorted(by_priority, reverse=True):
        line += sorted(by_priority[priority], key=attrgetter("seq"))
    return line


def decide(
    view: View, policies: Mapping[str, PoolPolicy] | None = None, *, pools: Collection[str] | None = None
) -> Decisions:
    """Decides who is placed where, and who holds what; the same view always gives the same answer.

    A request is placed whole or not at all. Whoever has waited for the pool's `reserve_after_s` and is the first such
    in line holds named agents until it is placed, unless agents go away, which are then replaced. Nobody behind it uses
    those agents, save for jobs whose `max_runtime_s` proves them gone before the set can be counted on; those ahead of
    it are not bound by it. Whoever could not be placed even on empty agents (too many are drained) holds nothing.

    `pools` limits the pass to pools in which something has changed; reservations elsewhere are returned as they are.

    Costs some 0.5 µs for each queued request and 3 µs for each agent of the pools that it looks at, and 5 µs for each
    job that is placed (bench/scheduling_pass.py): requests of a shape that has not fitted in this pass cost a look-up.
    The queue is cheapest in order of submission, and its requests are best kept from pass to pass.
    """
    lines: dict[str, list[Request]] = {}
    for request in view.queue:
        line = lines.get(request.pool)
        if line is None:
            line = lines[request.pool] = []
        line.append(request)
    looked_at = lines.keys() if pools is None else lines.keys() & set(pools)
    agents: dict[str, list[AgentView]] = {pool: [] for pool in looked_at}
    held = {agent for reservation in view.reservations for agent in reservation.agents}
    for agent in view.agents:
        if agent.pool in agents:
            if agent.open:
                agents[agent.pool].append(agent)
            elif agent.returning and agent.id in held:
                agents[agent.pool].append(msgspec.structs.replace(agent, free=0))
    holders = {held.job: held for held in view.reservations}
    elsewhere = {request.job for pool in lines.keys() - looked_at for request in lines[pool]} if holders else set()

    placements: list[Placed] = []
    reservations = [held for held in view.reservations if held.job in elsewhere]
    rechecks: list[float] = []
    for name in sorted(looked_at):
        walk = Walk(view, agents[name], (policies or {}).get(name, DEFAULT_POLICY), holders)
        walk.down(in_order(lines[name]))
        placements += walk.placements
        reservations += walk.reservations
        rechecks.append(walk.recheck_in_s)
    soonest = min(rechecks, default=inf)
    return Decisions(
        placements=tuple(placements),
        reservations=tuple(reservations),
        recheck_in_s=None if soonest == inf else soonest,
    )


class Walk:
    """One pool's line, walked from its head; what is decided for those in front is settled before anyone behind."""

    def __init__(
        self,
        view: View,
        agents: Iterable[AgentView],
        policy: PoolPolicy = DEFAULT_POLICY,
        holders: Mapping[str, Reservation] | None = None,
    ) -> None:
        self.placements: list[Placed] = []
        self.reservations: list[Reservation] = []
        #: When the first of those who were refused will have waited long enough to hold agents.
        self.recheck_in_s = inf
        #: By when each of `reservations` can count on its agents, on the clock of the view; `inf`: nobody knows.
        self.promises: list[float] = []
        self.pool = Pool(agents, view.apart)
        self._now_s = view.now_s
        self._running = view.running
        self._policy = policy
        self._holders = holders or {}
        self._releases: Releases | None = None
        #: Placed in this pass and not yet in `_releases`.
        self._unfiled: list[tuple[Request, tuple[str, ...]]] = []
        #: Shapes that did not fit, with the shortest max_runtime that did not help. Slots only become fewer in a pass,
        #: and reservations more, so what has not fitted once will not fit later.
        self._failed: dict[Shape, float] = {}

    def down(self, line: Sequence[Request]) -> None:
        """Decides for each request in turn."""
        failed = self._failed
        for request in line:
            shortest = failed.get(request.shape)
            if shortest is None or (request.max_runtime_s is not None and request.max_runtime_s < shortest):
                agents = self.place(request)
                if agents is not None:
                    self.placements.append(Placed(job=request.job, agents=agents))
                    self._unfiled.append((request, agents))
                    continue
            if not self.reservations or request.job in self._holders:
                self._hold_if_due(request)

    def place(self, request: Request) -> tuple[str, ...] | None:
        """Takes the slots of the gang; None, and nothing taken, if it does not fit."""
        agents = place(self.pool, request, self.stocks_for(request))
        if agents is None:
            # Where no agents are lent, a shorter run would not have helped.
            runtime = inf if request.max_runtime_s is None else request.max_runtime_s
            self._failed[request.shape] = runtime if self.reservations else 0
        return agents

    def stocks_for(self, request: Request) -> list[Stock]:
        """What nobody ahead holds, and what is held but sure to be back by the time it is wanted."""
        stocks = [self.pool.stock(request.labels)]
        if self.reservations and request.max_runtime_s is not None:
            ends = self._now_s + request.max_runtime_s
            for group, promise in enumerate(self.promises, start=1):
                if ends <= promise != inf:
                    stocks.append(self.pool.stock(request.labels, group))
        return stocks

    def hold(self, request: Request, kept: Collection[str]) -> bool:
        """Lets the request hold agents, of those that it has held so far as many as possible; False if it cannot."""
        chosen = choose(self.pool, request, kept, self._ready_at)
        if chosen is None:
            return False
        agents, promise = chosen
        self.reservations.append(Reservation(job=request.job, agents=agents))
        self.promises.append(promise)
        self.pool.hold(agents, group=len(self.reservations))
        return True

    def _hold_if_due(self, request: Request) -> None:
        held = self._holders.get(request.job)
        if held is not None:
            self.hold(request, held.agents)
            return
        waits = request.queued_at_s + self._policy.reserve_after_s - self._now_s
        if waits <= 0:
            self.hold(request, ())
        elif waits < self.recheck_in_s and could_ever(self.pool, request):
            self.recheck_in_s = waits

    def _ready_at(self, agent: str, slots: int) -> float:
        """When the agent will have so many free slots at the latest."""
        free = self.pool.level[agent] >> 1
        if free >= slots:
            return self._now_s
        for ends, count in sorted(self._pending_releases().get(agent, ())):
            free += count
            if free >= slots:
                return ends
        return inf

    def _pending_releases(self) -> Releases:
        if self._releases is None:
            self._releases = releases(self._running)
        # What this pass has placed ahead is as much in the way as what ran before.
        for request, agents in self._unfiled:
            ends = inf if request.max_runtime_s is None else self._now_s + request.max_runtime_s
            for rank, agent in enumerate(agents):
                self._releases.setdefault(agent, []).append((ends, request.slots_of(rank)))
        self._unfiled.clear()
        return self._releases

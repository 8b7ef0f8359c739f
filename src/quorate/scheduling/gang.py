"""Chooses the agents of one gang, all or nothing: feasibility is counted first, so nothing is ever taken back."""

from collections.abc import Sequence

from quorate.model.job import Placement
from quorate.scheduling.apart import NOBODY
from quorate.scheduling.free import Bucket, Level, Pool, Stock, members_on, tiers
from quorate.scheduling.types import Request
from quorate.scheduling.unequal import Room, fit

Tiers = list[tuple[Level, Bucket]]


def place(pool: Pool, request: Request, stocks: Sequence[Stock]) -> tuple[str, ...] | None:
    """Takes the slots of one gang from the stocks; returns the agent of each rank, or None and takes nothing.

    Costs as much as there are levels (distinct numbers of free slots) plus members; not as much as there are agents.
    Members on one agent have neighbouring ranks, and ranks follow the agents' ids.
    """
    if request.slots == 0:
        return _place_slotless(pool, request)
    if request.sizes:
        return _place_unequal(pool, request, stocks)
    found = usable(pool, request, stocks)
    least = request.least
    # The cheap way out, for most requests meet a full pool.
    if not found:
        return None
    if request.placement is Placement.SPREAD and sum(len(bucket) for _, bucket in found) >= request.nodes:
        counts = _one_each(found, request.nodes)
    else:
        room = room_for(found, request)
        if room < least:
            return None
        members = min(room, request.nodes)
        if request.placement is Placement.SPREAD:
            counts = _evenly(found, members, request)
        else:
            counts = _fewest(found, members, request)
    ranks: list[str] = []
    for agent in sorted(counts):
        members = counts[agent]
        pool.take(agent, members * request.slots)
        ranks += [agent] * members
    return tuple(ranks)


def usable(pool: Pool, request: Request, stocks: Sequence[Stock]) -> Tiers:
    """The agents with the slots, without those that would keep the gang's members from reaching each other.

    Of several ways to do without some, the one that leaves the gang whole, then spread as it wants, then the most room.
    """
    ways = pool.ways_without(request)
    if ways == (NOBODY,):
        return tiers(stocks, request.slots)
    choices = [tiers([stock.without(way) for stock in stocks], request.slots) for way in ways]
    return max(choices, key=lambda found: _worth(found, request))


def _worth(found: Tiers, request: Request) -> tuple[int, int, int]:
    room, agents = room_for(found, request), sum(len(bucket) for _, bucket in found)
    return min(room, request.nodes), min(agents, request.nodes), room


def room_for(found: Tiers, request: Request) -> int:
    """How many members of the gang these agents could take together, or the best one alone for a `single` gang."""
    slots, colocate = request.slots, request.colocate
    if request.placement is Placement.SINGLE:
        return max((members_on(level, slots, colocate) for level, _ in found), default=0)
    return sum(members_on(level, slots, colocate) * len(bucket) for level, bucket in found)


def deal(room: dict[str, int], members: int) -> dict[str, int]:
    """Deals members to agents in rounds, one to each agent that still has room, so that they lie evenly."""
    counts = dict.fromkeys(room, 0)
    while members:
        for agent in room:
            if counts[agent] < room[agent]:
                counts[agent] += 1
                members -= 1
                if not members:
                    break
    return {agent: count for agent, count in counts.items() if count}


def _one_each(found: Tiers, members: int) -> dict[str, int]:
    """Best fit: the fullest agents that have the slots, so that empty ones stay whole for those who need them."""
    counts: dict[str, int] = {}
    for _, bucket in found:
        while bucket:
            counts[bucket.popitem()[0]] = 1
            members -= 1
            if not members:
                return counts
    raise AssertionError("the caller has counted the agents")


def _evenly(found: Tiers, members: int, request: Request) -> dict[str, int]:
    """Fewer agents than members: all of them, the emptiest with one more where it does not come out even."""
    room = {
        agent: members_on(level, request.slots, request.colocate)
        for level, bucket in reversed(found)
        for agent in reversed(bucket)
    }
    return deal(room, members)


def _fewest(found: Tiers, members: int, request: Request) -> dict[str, int]:
    """The roomiest agents until the rest fits on one, and for that rest the tightest fit."""
    counts: dict[str, int] = {}
    room = [(members_on(level, request.slots, request.colocate), bucket) for level, bucket in found]
    while members:
        # Tiers are in rising order of free slots, so the first that is large enough is the tightest.
        fitting = next((bucket for count, bucket in room if bucket and count >= members), None)
        if fitting is not None:
            counts[fitting.popitem()[0]] = members
            break
        count, bucket = max((tier for tier in room if tier[1]), key=lambda tier: tier[0])
        counts[bucket.popitem()[0]] = count
        members -= count
    return counts


def fits_empty(pool: Pool, request: Request) -> tuple[str, ...] | None:
    """Where a gang of unequal members would go if nothing ran on the open agents."""
    return fits_now(pool, request, [pool.totals(request.labels)])


def fits_now(pool: Pool, request: Request, stocks: Sequence[Stock]) -> tuple[str, ...] | None:
    """Where a gang of unequal members would go now; takes nothing."""
    for way in pool.ways_without(request):
        found = tiers([stock.without(way) for stock in stocks] if way else stocks, 0)
        ranks = fit(request.sizes, _rooms(found, request), request.placement)
        if ranks is not None:
            return ranks
    return None


def _place_unequal(pool: Pool, request: Request, stocks: Sequence[Stock]) -> tuple[str, ...] | None:
    ranks = fits_now(pool, request, stocks)
    for agent, slots in zip(ranks or (), request.sizes, strict=False):
        pool.take(agent, slots)
    return ranks


def _rooms(found: Tiers, request: Request) -> list[Room]:
    alone = not request.colocate
    return [(level >> 1, agent, bool(level & 1) and alone) for level, bucket in found for agent in bucket]


def _place_slotless(pool: Pool, request: Request) -> tuple[str, ...] | None:
    """Members of no slots fit anywhere; `seq` sends one job here and the next one there."""
    matching = [agent for agent in pool.matching(request.labels) if pool.agents[agent].open]
    agents = max(([a for a in matching if a not in way] for way in pool.ways_without(request)), key=len)
    if not agents:
        return None
    if request.placement is not Placement.SPREAD:
        return (agents[request.seq % len(agents)],) * request.nodes
    return tuple(sorted(agents[(request.seq + rank) % len(agents)] for rank in range(request.nodes)))

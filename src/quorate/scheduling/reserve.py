"""Which agents a job that has waited long enough holds, and by when it can count on having them."""

from collections.abc import Callable, Collection, Iterable
from math import inf

from quorate.model.job import Placement
from quorate.scheduling.free import Pool, level_of, members_on
from quorate.scheduling.gang import deal, fits_empty, room_for, usable
from quorate.scheduling.types import Request, Running
from quorate.scheduling.unequal import fit

#: For each agent, the slots that come back and when at the latest (`inf`: nobody knows).
Releases = dict[str, list[tuple[float, int]]]


def releases(running: Iterable[Running]) -> Releases:
    """When which slots come back, from the limits of the jobs that use them."""
    found: Releases = {}
    for job in running:
        ends = inf if job.ends_by_s is None else job.ends_by_s
        for agent, slots in job.uses:
            found.setdefault(agent, []).append((ends, slots))
    return found


def could_ever(pool: Pool, request: Request) -> bool:
    """Whether the pool's open agents could take the gang if nothing ran on them; no look at single agents."""
    if request.slots == 0:
        return bool(pool.matching(request.labels))
    if request.sizes:
        return fits_empty(pool, request) is not None
    return room_for(usable(pool, request, [pool.totals(request.labels)]), request) >= request.least


def choose(
    pool: Pool, request: Request, kept: Collection[str], ready_at: Callable[[str, int], float]
) -> tuple[tuple[str, ...], float] | None:
    """The agents that the job is to hold, and when they are all ready at the latest (`inf`: nobody knows).

    An elastic job holds what its smallest gang needs. Agents that it holds already (`kept`) stay; the others are those
    that are ready first. Agents that a job ahead holds are chosen only if there are no others, and then nobody can say
    when they are ready. None if the pool's open agents could not take the gang even if they were empty.

    Looks at every agent of the pool, so a pass does it only for reservations.
    """
    if request.slots == 0 or not could_ever(pool, request):
        return None
    # Those that it holds already stay, unless it cannot have them together any more.
    ways = sorted(pool.ways_without(request), key=lambda way: len(way & set(kept)))
    one_way = _choose_unequal if request.sizes else _choose
    return next((chosen for way in ways if (chosen := one_way(pool, request, kept, ready_at, way))), None)


def _choose(
    pool: Pool,
    request: Request,
    kept: Collection[str],
    ready_at: Callable[[str, int], float],
    without: frozenset[str],
) -> tuple[tuple[str, ...], float] | None:
    packed = request.placement is Placement.PACK
    share = _shares(pool, request, without)
    if not share:
        return None
    rank = {
        agent: (
            pool.is_held(agent),
            agent not in kept,
            # Only `pack` would rather have roomy agents than those that are ready first.
            -members if packed else 0,
            ready_at(agent, members * request.slots),
            agent,
        )
        for agent, members in share.items()
    }
    chosen: list[str] = []
    left = request.least
    for agent in sorted(rank, key=rank.__getitem__):
        if left <= 0:
            break
        chosen.append(agent)
        left -= share[agent]
    # A roomy newcomer may make some of those that were kept superfluous.
    counts: dict[str, int] = {}
    left = request.least
    for agent in sorted(chosen, key=lambda agent: (-share[agent], rank[agent])):
        if left > 0:
            counts[agent] = min(share[agent], left)
            left -= share[agent]
    ready = max(
        inf if pool.is_held(agent) else ready_at(agent, count * request.slots) for agent, count in counts.items()
    )
    return tuple(sorted(counts)), ready


def _choose_unequal(
    pool: Pool,
    request: Request,
    kept: Collection[str],
    ready_at: Callable[[str, int], float],
    without: frozenset[str],
) -> tuple[tuple[str, ...], float] | None:
    """Of the agents in the order in which one would have them, the first few that take the gang."""
    rooms = {
        agent: (view.total, agent, view.gpu and not request.colocate)
        for agent, view in pool.agents.items()
        if request.labels <= view.labels and view.total > 0 and agent not in without
    }
    if not rooms:
        return None
    ready = {agent: ready_at(agent, room[0]) for agent, room in rooms.items()}
    order = sorted(rooms, key=lambda agent: (pool.is_held(agent), agent not in kept, ready[agent], agent))
    count = 1
    while (ranks := fit(request.sizes, [rooms[agent] for agent in order[:count]], request.placement)) is None:
        if count >= len(order):
            return None
        count *= 2
    uses: dict[str, int] = {}
    for agent, slots in zip(ranks, request.sizes, strict=True):
        uses[agent] = uses.get(agent, 0) + slots
    promise = max(inf if pool.is_held(agent) else ready_at(agent, slots) for agent, slots in uses.items())
    return tuple(sorted(uses)), promise


def _shares(pool: Pool, request: Request, without: frozenset[str]) -> dict[str, int]:
    """How many members of the smallest gang each agent that could serve would be asked to take, were it empty."""
    least = request.least
    room: dict[str, int] = {}
    for agent in pool.matching(request.labels):
        if agent in without:
            continue
        view = pool.agents[agent]
        members = members_on(level_of(view.total, view.gpu), request.slots, request.colocate)
        if members:
            room[agent] = members
    if sum(room.values()) < least:
        return {}
    if request.placement is Placement.SINGLE:
        return {agent: least for agent, members in room.items() if members >= least}
    if request.placement is Placement.PACK:
        return {agent: min(members, least) for agent, members in room.items()}
    return dict.fromkeys(room, 1) if len(room) >= least else deal(dict(sorted(room.items())), least)

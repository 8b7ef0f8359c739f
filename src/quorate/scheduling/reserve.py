"""Which agents a job that has waited long enough holds, and by when it can count on having them."""

from collections.abc import Callable, Collection, Iterable
from math import inf

from quorate.model.job import Placement
from quorate.scheduling.free import Pool, level_of, members_on
from quorate.scheduling.gang import deal, room_for
from quorate.scheduling.types import Request, Running

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
    return room_for(pool.totals(request.labels).tiers(request.slots), request) >= request.least


def choose(
    pool: Pool, request: Request, kept: Collection[str], ready_at: Callable[[str, int], float]
) -> tuple[tuple[str, ...], float] | None:
    """The agents that the job is to hold, and when they are all ready at the latest (`inf`: nobody knows).

    An elastic job holds what its smallest gang needs. Agents that it holds already (`kept`) stay; the others are those
    that are ready first. Agents that a job ahead holds are chosen only if there are no others, and then nobody can say
    when they are ready. None if the pool's open agents could not take the gang even if they were empty.

    Looks at every agent of the pool, so a pass does it only for reservations.
    """
    least, slots = request.least, request.slots
    if slots == 0 or not could_ever(pool, request):
        return None
    room = {}
    for agent in pool.matching(request.labels):
        view = pool.agents[agent]
        members = members_on(level_of(view.total, view.gpu), slots, request.colocate)
        if members and (request.placement is not Placement.SINGLE or members >= least):
            room[agent] = members
    # What each agent would be asked for decides when it is ready; only `pack` wants roomy agents first.
    if request.placement is Placement.SINGLE:
        share, wanted = dict.fromkeys(room, least), 1
    elif request.placement is Placement.PACK:
        share, wanted = {agent: min(members, least) for agent, members in room.items()}, None
    elif len(room) >= least:
        share, wanted = dict.fromkeys(room, 1), least
    else:
        share, wanted = deal(dict(sorted(room.items())), least), None
    rank = {
        agent: (
            pool.is_held(agent),
            agent not in kept,
            -members if request.placement is Placement.PACK else 0,
            ready_at(agent, members * slots),
            agent,
        )
        for agent, members in share.items()
    }
    counts: dict[str, int] = {}
    left = least
    for agent in sorted(rank, key=rank.__getitem__):
        if left <= 0 or len(counts) == wanted:
            break
        counts[agent] = min(share[agent], left)
        left -= share[agent]
    ready = max(inf if pool.is_held(agent) else ready_at(agent, count * slots) for agent, count in counts.items())
    return tuple(sorted(counts)), ready

"""Gangs whose members differ in size: largest first, each where it fits best; all of them, or none."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from quorate.model.job import Placement

#: An agent's free slots, its id, and whether only one member of a gang goes to it.
Room = tuple[int, str, bool]
#: How often the search may try an agent for a member; a millisecond or two.
_TRIES = 2000


def fit(sizes: Sequence[int], rooms: Iterable[Room], placement: Placement) -> tuple[str, ...] | None:
    """The agent of each rank; None where no place is found for all of them.

    Members of one size have ranks in the order of their agents' ids. Filling agents exactly is a hard problem: small
    gangs are searched through, and of a large one that would just fit it may not be found how. What is answered never
    asks more of an agent than it has. Costs as much as there are agents, and members times the logarithm of that.
    """
    rooms = sorted(rooms)
    if placement is Placement.SINGLE:
        agent = _single(sizes, rooms)
        return None if agent is None else (agent,) * len(sizes)
    order = sorted(range(len(sizes)), key=lambda rank: -sizes[rank])
    falling = [sizes[rank] for rank in order]
    chosen = (
        (_deal(falling, rooms, spread=True) if placement is Placement.SPREAD else None)
        or _deal(falling, rooms, spread=False)
        or _search(falling, rooms)
    )
    if chosen is None:
        return None
    agents: dict[int, list[str]] = {}
    for size, agent in zip(falling, chosen, strict=True):
        insort(agents.setdefault(size, []), agent)
    return tuple(agents[size].pop(0) for size in sizes)


def _single(sizes: Sequence[int], rooms: list[Room]) -> str | None:
    need, with_slots = sum(sizes), sum(1 for size in sizes if size)
    for free, agent, alone in rooms[bisect_left(rooms, (need, "")) :]:
        if free >= need and (not alone or with_slots <= 1):
            return agent
    return None


def _deal(falling: Sequence[int], rooms: list[Room], *, spread: bool) -> list[str] | None:
    """An agent for each member; `spread` gives each one of its own for as long as there are any."""
    unused, used = list(rooms), list[Room]()
    chosen = []
    for size in falling:
        source = next(
            (source for source in ((unused, used) if spread else (used, unused)) if source and source[-1][0] >= size),
            None,
        )
        if source is None:
            return None
        # The tightest fit, but the emptiest of those that are shared for want of others.
        at = len(source) - 1 if spread and source is used else bisect_left(source, (size, ""))
        room = source.pop(at)
        chosen.append(room[1])
        insort(used, _without(room, size))
    return chosen


def _without(room: Room, size: int) -> Room:
    free, agent, alone = room
    # A member of no slots is in nobody's way, not even where each has GPUs of its own.
    return (0 if alone and size else free - size, agent, alone)


def _search(falling: Sequence[int], rooms: list[Room]) -> list[str] | None:
    """Tries one agent after the other for each member, and takes back what led nowhere."""
    if sum(falling) > sum(free for free, _, _ in rooms):
        return None
    left = list(rooms)
    tries = [_TRIES]
    chosen: list[str] = []

    def placed(at: int) -> bool:
        if at == len(falling):
            return True
        tried = set()
        for index, room in enumerate(left):
            alike = (room[0], room[2])
            if room[0] < falling[at] or alike in tried:
                continue
            tried.add(alike)
            tries[0] -= 1
            if tries[0] < 0:
                return False
            left[index] = _without(room, falling[at])
            chosen.append(room[1])
            if placed(at + 1):
                return True
            chosen.pop()
            left[index] = room
        return False

    # Each member is a call within a call, and a gang of thousands is not searched through in so few tries anyway.
    return chosen if len(falling) <= _TRIES // 10 and placed(0) else None

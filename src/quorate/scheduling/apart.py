"""Agents that cannot reach each other: which of them a gang does without, so that all of its members meet."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from quorate.scheduling.types import Apart

#: So many ways to do without agents are looked at. One agent that is cut off needs two of them; what needs more than
#: these is a network in pieces, in which a job may wait although a clever choice would find it a place.
MOST_WAYS = 32

NOBODY: frozenset[str] = frozenset()


def conflicts(pairs: Iterable[Apart], wish: str, agents: AbstractSet[str]) -> dict[str, set[str]]:
    """For each of the agents that cannot reach all others in a network of that mode: those that it cannot reach."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        if wish in pair.modes and pair.source in agents and pair.destination in agents:
            found.setdefault(pair.source, set()).add(pair.destination)
            found.setdefault(pair.destination, set()).add(pair.source)
    return found


def ways_without(unreached: Mapping[str, AbstractSet[str]]) -> tuple[frozenset[str], ...]:
    """The sets of agents to do without, each as small as can be: without any of them somebody reaches somebody not.

    What does without the fewest comes first. There is always one, for no agent at all is left to conflict in the end.
    """
    found: list[frozenset[str]] = []
    _branch(unreached, NOBODY, NOBODY, found)
    return tuple(
        sorted(
            dict.fromkeys(way for way in found if _is_least(way, unreached)), key=lambda way: (len(way), sorted(way))
        )
    )


def _branch(
    unreached: Mapping[str, AbstractSet[str]], out: frozenset[str], kept: frozenset[str], found: list[frozenset[str]]
) -> None:
    if len(found) >= MOST_WAYS:
        return
    # The one with the most conflicts first: without it most are gone. What is kept has cost its neighbours already.
    open_ = {name: len(others - out) for name, others in unreached.items() if name not in out and name not in kept}
    worst = max(sorted(open_), key=open_.__getitem__, default=None)
    if worst is None or not open_[worst]:
        found.append(out)
        return
    _branch(unreached, out | {worst}, kept, found)
    _branch(unreached, out | unreached[worst], kept | {worst}, found)


def _is_least(way: frozenset[str], unreached: Mapping[str, AbstractSet[str]]) -> bool:
    """Whether each of them would conflict with somebody who stays."""
    return all(unreached[name] - way for name in way)

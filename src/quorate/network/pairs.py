"""Which agents try which others: all of them in a small cluster, a pattern that covers everyone in a large one."""

from __future__ import annotations

from collections.abc import Sequence

#: Up to so many, each tries all the others.
FULL_MESH = 64


def mesh(names: Sequence[str], each: int = FULL_MESH - 1) -> dict[str, tuple[str, ...]]:
    """Return whom each tries: everybody, or `each` others that lie evenly apart, so that everyone is tried as often."""
    return _by_steps(sorted(names), _spread(len(names), each))


def turn(names: Sequence[str], number: int, each: int = 1) -> dict[str, tuple[str, ...]]:
    """Return whom each tries in the turn of that number: `each` others, all of them after (n - 1) / each turns.

    A pair is tried from both ends at different turns, so `each` probes an agent and turn find what works one way only.
    """
    others = len(names) - 1
    if others < 1:
        return {}
    begin = number * each
    return _by_steps(sorted(names), sorted({1 + (begin + step) % others for step in range(min(each, others))}))


def _spread(count: int, each: int) -> list[int]:
    others = count - 1
    if others <= each:
        return list(range(1, count))
    return [1 + step * others // each for step in range(each)]


def _by_steps(names: Sequence[str], steps: Sequence[int]) -> dict[str, tuple[str, ...]]:
    count = len(names)
    return {name: tuple(names[(place + step) % count] for step in steps) for place, name in enumerate(names)}

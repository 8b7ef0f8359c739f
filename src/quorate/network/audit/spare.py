"""Which rules can go, all of them at once, without a change in what is decided anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from quorate.network.audit.decision import Candidate, Outcome, Stand


class Stands:
    """What stands for decision, wherever connections are treated alike: each row of candidates once."""

    def __init__(self) -> None:
        self._of_rule: dict[str, list[Stand]] = defaultdict(list)
        self._seen: dict[tuple[Candidate, ...], Stand] = {}

    def add(self, stand: Stand) -> Stand:
        """Remember a place; returns the stand that has the same candidates."""
        known = self._seen.setdefault(stand.candidates, stand)
        if known is stand:
            for rule in stand.rules:
                self._of_rule[rule].append(stand)
        return known

    def __iter__(self) -> Iterator[Stand]:
        return iter(self._seen.values())

    def spare(self, rules: Iterable[str], going: Collection[str], disputed: Collection[str]) -> frozenset[str]:
        """Return those of the rules that can go together, whether or not what else is to go has gone.

        That are the rules `going`, which open too much, and the disputed ones, which block what is planned.
        """
        worlds = {frozenset(), frozenset(going), frozenset(disputed), frozenset((*going, *disputed))}
        spare: set[str] = set()
        for rule in rules:
            if all(self._same(rule, spare | world) for world in worlds):
                spare.add(rule)
        return frozenset(spare)

    def _same(self, rule: str, gone: Collection[str]) -> bool:
        return all(stand.same_without(rule, frozenset(gone) - {rule}) for stand in self._of_rule[rule])


def passes_without(stand: Stand, gone: Collection[str]) -> bool:
    """Say whether connections pass there once the rules are gone."""
    return stand.decide(gone).outcome is Outcome.ALLOW

"""Which rules can go, all of them at once, without a change in what is decided anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from quorate.network.audit.space import Candidate, Outcome, decide


class Stands:
    """What stands for decision, wherever connections are treated alike: the candidates, each place once."""

    def __init__(self) -> None:
        self._of_rule: dict[str, set[tuple[Candidate, ...]]] = defaultdict(set)
        self._seen: set[tuple[Candidate, ...]] = set()

    def add(self, candidates: tuple[Candidate, ...]) -> None:
        """Remember a place by its candidates."""
        if candidates not in self._seen:
            self._seen.add(candidates)
            for candidate in candidates:
                self._of_rule[candidate.rule].add(candidates)

    def spare(self, rules: Iterable[str], going: Collection[str], disputed: Collection[str]) -> frozenset[str]:
        """Return those of the rules that can go together, once the rules `going` are gone.

        A rule that has to stay when the disputed ones, which block what is planned, go as well is not spare.
        """
        gone = set(going)
        spare = set()
        for rule in rules:
            if self._same(rule, gone) and self._same(rule, gone | set(disputed)):
                spare.add(rule)
                gone.add(rule)
        return frozenset(spare)

    def _same(self, rule: str, gone: set[str]) -> bool:
        with_it, without = gone - {rule}, gone | {rule}
        return all(_outcome(stand, with_it) is _outcome(stand, without) for stand in self._of_rule[rule])


def _outcome(candidates: Iterable[Candidate], gone: Collection[str]) -> Outcome:
    left = [candidate for candidate in candidates if candidate.rule not in gone]
    # Behind a jump that may or may not be taken nothing is known, so without it nothing is left to decide.
    return decide(left).outcome if left and not _open_ended(left) else Outcome.UNKNOWN


def _open_ended(candidates: Iterable[Candidate]) -> bool:
    """Whether no candidate is sure, as where the one that ended the list is gone."""
    return all(candidate.doubt and candidate.outcome is not Outcome.UNKNOWN for candidate in candidates)


def passes_without(candidates: Iterable[Candidate], gone: Collection[str]) -> bool:
    """Say whether connections pass there once the rules are gone."""
    return _outcome(candidates, gone) is Outcome.ALLOW

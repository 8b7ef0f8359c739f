"""What is decided where connections are treated alike, by which rules, and what would be decided without some of them.

The rules that match at a place stand in a row: the first that surely matches decides, unless it sends the packet on to
a later place of the row, as an accept in a chain that is not the last one does. A rule that may or may not match does
no harm where the same is decided either way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

_NOBODY: frozenset[str] = frozenset()


class Outcome(StrEnum):
    """What happens to a connection."""

    ALLOW = "allow"
    DENY = "deny"
    #: The answer hangs on something that neither the plan nor the rule set says.
    UNKNOWN = "unknown"


class Act(StrEnum):
    """What an entry does to what it matches."""

    ALLOW = "allow"
    DENY = "deny"
    #: Go on at the entry with the index `to`, as a return from a chain does.
    JUMP = "jump"


_OUTCOMES = {Act.ALLOW: Outcome.ALLOW, Act.DENY: Outcome.DENY}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a rule, or the default behind all of them, does at one place; a jump goes to the candidate at `to`."""

    rule: str
    act: Act
    #: Why it may or may not match; empty where it surely does.
    doubt: str = ""
    to: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, by which rules (jumps, and the one that ends it; a default has no name), and the doubt."""

    outcome: Outcome
    rules: tuple[str, ...] = ()
    doubt: str = ""


class Stand:
    """The rules that match at a place, in order; the default is the last and has no doubt."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)

    @classmethod
    def of(cls, indexes: Sequence[int], candidates: Sequence[Candidate], default: Outcome) -> Stand:
        """Return the stand of entries by their indexes, to which their jumps go."""
        row = [
            Candidate(one.rule, one.act, one.doubt, bisect_left(indexes, one.to)) if one.act is Act.JUMP else one
            for one in candidates
        ]
        if default is Outcome.UNKNOWN:
            row.append(Candidate("", Act.ALLOW, "the rules do not say what becomes of the rest"))
        row.append(Candidate("", Act.ALLOW if default is Outcome.ALLOW else Act.DENY))
        return cls(row)

    @cached_property
    def rules(self) -> frozenset[str]:
        """The rules that match."""
        return frozenset(one.rule for one in self.candidates if one.rule)

    @cached_property
    def decision(self) -> Decision:
        """What is decided with all rules there."""
        return self.decide()

    @cached_property
    def reached(self) -> frozenset[str]:
        """The rules that are asked, or may be."""
        return frozenset(self.candidates[place].rule for place in self._reached()) - {""}

    @cached_property
    def needed(self) -> frozenset[str]:
        """The rules without which something else may be decided."""
        decision = self.decision
        found = set()
        for place in self._reached():
            one = self.candidates[place]
            # Where the outcome is sure, it is so whether or not a doubtful rule matches.
            if one.rule and (decision.outcome is Outcome.UNKNOWN if one.doubt else not self.same_without(one.rule)):
                found.add(one.rule)
        return frozenset(found)

    @cached_property
    def to_blame(self) -> tuple[str, ...]:
        """The rules that have to go, one after the other, before what is decided now is not decided any more."""
        gone: dict[str, None] = {}
        while True:
            now = self.decide(gone)
            named = [rule for rule in now.rules if rule]
            if now.outcome is not self.decision.outcome or not named:
                return tuple(gone)
            first = (rule for rule in named if self.decide({*gone, rule}).outcome is not now.outcome)
            gone[next(first, named[-1])] = None

    def decide(self, gone: Collection[str] = _NOBODY) -> Decision:
        """Return what is decided once some rules are gone."""
        place = 0
        taken: list[str] = []
        while True:
            one = self.candidates[place]
            if one.rule and one.rule in gone:
                place += 1
            elif one.doubt:
                rest = self._table(gone, place)[0]
                return Decision(rest.outcome, (*taken, *rest.rules), rest.doubt)
            elif one.act is Act.JUMP:
                taken.append(one.rule)
                place = one.to
            else:
                return Decision(_OUTCOMES[one.act], (*taken, one.rule))

    def same_without(self, rule: str, gone: Collection[str] = _NOBODY) -> bool:
        """Say whether, once some rules are gone, the same is decided with and without one more.

        Where rules may or may not match, it must be so whichever of them do.
        """
        less = {*gone, rule}
        if not any(one.doubt for one in self.candidates):
            return self.decide(gone).outcome is self.decide(less).outcome
        before, after = self._table(gone), self._table(less)
        same = [True] * (len(self.candidates) + 1)
        for place in reversed(range(len(self.candidates))):
            one = self.candidates[place]
            if one.rule and one.rule in gone:
                same[place] = same[place + 1]
            elif one.rule == rule:
                taken = before[one.to].outcome if one.act is Act.JUMP else _OUTCOMES[one.act]
                sure = taken is after[place + 1].outcome and taken is not Outcome.UNKNOWN
                same[place] = sure and (not one.doubt or same[place + 1])
            elif one.act is Act.JUMP:
                same[place] = same[one.to] and (not one.doubt or same[place + 1])
            else:
                same[place] = not one.doubt or same[place + 1]
        return same[0]

    def _table(self, gone: Collection[str], first: int = 0) -> list[Decision]:
        """Return what is decided for who has come as far as each place, from `first` on."""
        found: list[Decision] = []
        # Filled from the last place, since jumps go forward alone.
        last = len(self.candidates)
        for place in reversed(range(first, last)):
            one = self.candidates[place]
            behind = found[-1] if found else Decision(Outcome.UNKNOWN)
            if one.rule and one.rule in gone:
                found.append(behind)
                continue
            if one.act is Act.JUMP:
                there = found[last - 1 - one.to]
                taken = Decision(there.outcome, (one.rule, *there.rules), there.doubt)
            else:
                taken = Decision(_OUTCOMES[one.act], (one.rule,))
            if not one.doubt:
                found.append(taken)
            elif taken.outcome is behind.outcome and taken.outcome is not Outcome.UNKNOWN:
                found.append(behind)
            else:
                found.append(Decision(Outcome.UNKNOWN, (one.rule,), one.doubt))
        return found[::-1]

    def _reached(self) -> Iterator[int]:
        waiting = {0}
        for place, one in enumerate(self.candidates):
            if place not in waiting:
                continue
            yield place
            if one.act is Act.JUMP:
                waiting.add(one.to)
            if one.doubt:
                waiting.add(place + 1)

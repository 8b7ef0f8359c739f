"""Chains with jumps, gotos and returns, as netfilter has them, laid out as one list of entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from quorate.network.audit.ruleset import Scene, Unreadable
from quorate.network.audit.space import Act, Entry, Intervals, both, join
from quorate.network.flows import Direction

#: The kernel's own bound is 16 (NFT_JUMP_STACK_SIZE); a file may claim anything.
DEEPEST = 32
MOST_ENTRIES = 300_000


_AXES = ("peer", "local", "service", "other", "flags")


class Verdict(StrEnum):
    """What a rule says about what it matches; `continue` is a rule that only counts or logs."""

    ACCEPT = "accept"
    DROP = "drop"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    CONTINUE = "continue"
    #: Connection tracking is to pass over the packet; the next rule is asked.
    UNTRACK = "untrack"
    #: It leaves these chains for a place that is not judged, such as another address or a program.
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Match:
    """One alternative of what a rule matches, axis by axis; None is everything."""

    peer: Intervals | None = None
    local: Intervals | None = None
    service: Intervals | None = None
    other: Intervals | None = None
    doubt: str = ""
    flags: Intervals | None = None

    def narrowed(self, **axes: Intervals | None) -> Match:
        """Return the match with some axes limited further."""
        limited: dict[str, Any] = {axis: both(getattr(self, axis), limit) for axis, limit in axes.items()}
        return replace(self, **limited)

    def doubted(self, why: str) -> Match:
        """Return the match as one that may or may not hold."""
        return replace(self, doubt=self.doubt or why)

    @property
    def empty(self) -> bool:
        """Whether nothing can match."""
        return any(getattr(self, axis) == () for axis in _AXES)

    def meet(self, inner: Match) -> Match:
        """Return what both match."""
        axes = {axis: getattr(inner, axis) for axis in _AXES}
        return replace(self.narrowed(**axes), doubt=self.doubt or inner.doubt)


@dataclass(frozen=True, slots=True)
class Step:
    """A rule in a chain: it matches if one of its alternatives does."""

    rule: str
    matches: tuple[Match, ...]
    verdict: Verdict
    target: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """Which axis a packet's field is, for one scene: answers and outgoing packets turn them round."""

    source: str
    destination: str
    source_port: str
    destination_port: str
    #: The hook that the packet passes: input or output.
    inbound: bool
    #: What connection tracking has the packet for at this place: one of these.
    states: frozenset[str] = frozenset()

    @classmethod
    def of(cls, scene: Scene) -> Fields:
        """Return the fields of the packets that a scene asks about."""
        inbound = (scene.direction is Direction.INGRESS) != scene.answers
        ends = ("peer", "local") if inbound else ("local", "peer")
        ports = ("service", "other") if scene.answers else ("other", "service")
        return cls(*ends, *ports, inbound)


def joined(steps: Sequence[Step]) -> list[Step]:
    """Return a chain in which jumps to one chain that follow each other are one jump, where that is the same.

    It is where they differ in one axis alone: who comes back from the chain would come back a second time.
    """
    found: list[Step] = []
    pending: list[Step] = []
    axes: set[str] = set()

    def put() -> None:
        found.append(_one_jump(pending, axes) if axes else pending[0])
        pending.clear()
        axes.clear()

    for step in steps:
        sure = step.verdict is Verdict.JUMP and len(step.matches) == 1 and not step.matches[0].doubt
        if pending and not (sure and step.target == pending[0].target and _goes_with(pending[0], step, axes)):
            put()
        if sure:
            axes |= _differing(pending[0], step) if pending else set()
            pending.append(step)
        else:
            found.append(step)
    if pending:
        put()
    return found


def _differing(one: Step, other: Step) -> set[str]:
    return {axis for axis in _AXES if getattr(one.matches[0], axis) != getattr(other.matches[0], axis)}


def _goes_with(first: Step, step: Step, axes: set[str]) -> bool:
    """Say whether a jump joined to others differs from them in one axis at most, and limits it as they do."""
    together = axes | _differing(first, step)
    limited = all(getattr(each.matches[0], axis) is not None for each in (first, step) for axis in together)
    return len(together) <= 1 and limited


def _one_jump(steps: Sequence[Step], axes: Iterable[str]) -> Step:
    limits: dict[str, Any] = {
        axis: join(span for step in steps for span in getattr(step.matches[0], axis)) for axis in axes
    }
    return replace(steps[0], matches=(replace(steps[0].matches[0], **limits),))


def flatten(
    chains: Mapping[str, Sequence[Step]], base: str, policy: Act, *, last: bool = True, untracking: bool = False
) -> list[Entry]:
    """Return the entries of a base chain and all that it jumps to; indexes count from its own first entry.

    In a chain that is not the last at its hook, accepting means going on behind it. With `untracking` it is asked which
    packets are left untracked, and that is what entries allow.
    """
    chains = {name: joined(steps) for name, steps in chains.items()}
    out: list[Entry] = []
    ends: list[int] = []

    def put(act: Act, rule: str, match: Match) -> int:
        if len(out) >= MOST_ENTRIES:
            raise Unreadable(f"the chains unfold to more than {MOST_ENTRIES} rules")
        axes: dict[str, Any] = {axis: getattr(match, axis) for axis in _AXES}
        out.append(Entry(act, rule, doubt=match.doubt, **axes))
        return len(out) - 1

    def walk(name: str, outer: Match, depth: int) -> None:
        if depth > DEEPEST:
            raise Unreadable(f"chains jump to each other more than {DEEPEST} deep; the last is {name}")
        if name not in chains:
            raise Unreadable(f"a rule jumps to the chain {name}, which is not there")
        back: list[int] = []
        for step in chains[name]:
            for alternative in step.matches:
                match = outer.meet(alternative)
                if match.empty:
                    continue
                if step.verdict is Verdict.ACCEPT and last:
                    put(Act.ALLOW, step.rule, match)
                elif step.verdict is Verdict.UNTRACK:
                    if untracking:
                        put(Act.ALLOW, step.rule, match)
                elif step.verdict is Verdict.ACCEPT:
                    ends.append(put(Act.JUMP, step.rule, match))
                elif step.verdict is Verdict.DROP:
                    put(Act.DENY, step.rule, match)
                elif step.verdict is Verdict.ELSEWHERE:
                    put(Act.ALLOW, step.rule, match)
                    put(Act.DENY, step.rule, match)
                elif step.verdict is Verdict.RETURN:
                    back.append(put(Act.JUMP, step.rule, match))
                elif step.verdict in (Verdict.JUMP, Verdict.GOTO):
                    walk(step.target, match, depth + 1)
                    if step.verdict is Verdict.GOTO:
                        # What goes with the rule is all that it leads to, of which this is the end.
                        back.append(put(Act.JUMP, "", match))
        for index in back:
            out[index] = replace(out[index], to=len(out))

    walk(base, Match(), 0)
    if policy is Act.DENY or last:
        put(policy, "", Match())
    for index in ends:
        out[index] = replace(out[index], to=len(out))
    return out


def append(entries: list[Entry], more: Sequence[Entry], **limits: Intervals) -> None:
    """Put entries behind others, so that their jumps still go where they went, with some axes limited."""
    start = len(entries)
    for entry in more:
        axes: dict[str, Any] = {axis: both(getattr(entry, axis), limit) for axis, limit in limits.items()}
        entries.append(replace(entry, to=entry.to + start if entry.act is Act.JUMP else 0, **axes))

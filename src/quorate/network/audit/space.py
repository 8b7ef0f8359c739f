"""The space of connections, cut into the fewest classes that a rule set treats alike, and what is decided in each.

A packet is a point: the peer's address, the own address, the service's port, the other port, and TCP's flags. Rules
become entries, boxes in that space in the order in which they are asked; the first that matches decides. Along each
axis, points that the same entries match form a class, and the product of the classes is exact: nothing is sampled.
Which entries match a class is one integer, a bit for each entry, so that a thousand rules cost a few operations on
integers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from quorate.network.audit.decision import Act as Act
from quorate.network.audit.decision import Candidate, Stand
from quorate.network.audit.decision import Outcome as Outcome

#: Closed intervals of integers, disjoint and sorted. An address is its number; IPv6 ones lie above all IPv4 ones.
Intervals = tuple[tuple[int, int], ...]

#: IPv6 addresses are shifted by this, so that both families are one axis.
V6 = 1 << 32
LAST_ADDRESS = V6 + (1 << 128) - 1
EVERY_ADDRESS: Intervals = ((0, LAST_ADDRESS),)
EVERY_PORT: Intervals = ((0, 65535),)
#: TCP's flags are one byte; what has none is not limited by them.
EVERY_FLAGS: Intervals = ((0, 255),)


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule as a box. An axis without intervals (None) is not looked at; an empty one matches nothing."""

    act: Act
    #: The rule that it comes from; several entries may come from one.
    rule: str
    peer: Intervals | None = None
    local: Intervals | None = None
    service: Intervals | None = None
    other: Intervals | None = None
    to: int = 0
    #: Why it may or may not match, where that is not known; empty for an entry that surely matches its box.
    doubt: str = ""
    flags: Intervals | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the space."""

    peer: Intervals = EVERY_ADDRESS
    local: Intervals = EVERY_ADDRESS
    service: Intervals = EVERY_PORT
    other: Intervals = EVERY_PORT
    flags: Intervals = EVERY_FLAGS


@dataclass(frozen=True, slots=True)
class Cell:
    """Points that are treated alike: their place, the rules that match there, and which markers hold them."""

    peer: Intervals
    local: Intervals
    service: Intervals
    other: Intervals
    flags: Intervals
    stand: Stand
    #: Indexes of the markers whose box holds the points.
    markers: tuple[int, ...]

    @property
    def outcome(self) -> Outcome:
        """What is decided."""
        return self.stand.decision.outcome


Axis = Literal["peer", "local", "service", "other", "flags"]
#: Each axis and all of its points.
_AXES: dict[Axis, Intervals] = {
    "peer": EVERY_ADDRESS,
    "local": EVERY_ADDRESS,
    "service": EVERY_PORT,
    "other": EVERY_PORT,
    "flags": EVERY_FLAGS,
}


def cells(entries: Sequence[Entry], default: Outcome, within: Box, markers: Sequence[Box] = ()) -> Iterator[Cell]:
    """Decide every point of a box. Markers decide nothing: they are boxes that the cells are told apart by."""
    count = len(entries)
    mask = (1 << count) - 1
    candidates = [Candidate(entry.rule, entry.act, entry.doubt, entry.to) for entry in entries]
    stands: dict[int, Stand] = {}
    for bits, (peer, local, service, other, flags) in _pieces(within, [*entries, *markers]):
        rules = bits & mask
        if rules not in stands:
            matching = list(_indexes(rules))
            stands[rules] = Stand.of(matching, [candidates[index] for index in matching], default)
        yield Cell(peer, local, service, other, flags, stands[rules], tuple(_indexes(bits >> count)))


#: A part of the space: the bits of the boxes that hold it, and its intervals on the axes that are cut so far.
_Piece = tuple[int, tuple[Intervals, ...]]


def _pieces(within: Box, boxes: Sequence[Entry | Box]) -> Iterable[_Piece]:
    """Cut the space axis by axis, each piece by the boxes that still hold it.

    So thousands of rules that each name a peer and a port cut the ports of their own peer alone, not of all peers.
    """
    pieces: Iterable[_Piece] = [((1 << len(boxes)) - 1, ())]
    for axis, whole in _AXES.items():
        limits = [limit if (limit := getattr(box, axis)) != whole else None for box in boxes]
        pieces = _cut(pieces, getattr(within, axis), limits)
    return pieces


def _cut(pieces: Iterable[_Piece], within: Intervals, limits: Sequence[Intervals | None]) -> Iterator[_Piece]:
    # Most limits are one of a few, such as the addresses of a pool or the port of a service, and go by a number.
    numbers: dict[Intervals, int] = {}
    number_of = [None if limit is None else numbers.setdefault(limit, len(numbers)) for limit in limits]
    known = list(numbers)
    limited = sum(1 << index for index, number in enumerate(number_of) if number is not None)
    classes: dict[tuple[int, ...], list[tuple[tuple[int, ...], Intervals]]] = {}
    for bits, place in pieces:
        bound = bits & limited
        if not bound:
            yield bits, (*place, within)
            continue
        bits_of: dict[int, int] = {}
        for index in _indexes(bound):
            number = number_of[index]
            assert number is not None
            bits_of[number] = bits_of.get(number, 0) | 1 << index
        here = tuple(bits_of)
        if here not in classes:
            classes[here] = list(_classes(within, {number: known[number] for number in here}))
        for holding, part in classes[here]:
            held = bits ^ bound
            for number in holding:
                held |= bits_of[number]
            yield held, (*place, part)


def _indexes(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _classes(within: Intervals, limits: Mapping[int, Intervals]) -> Iterator[tuple[tuple[int, ...], Intervals]]:
    """Cut one axis: yields for each class the numbers of the limits that hold it, and its intervals."""
    starts = {first for first, _ in within} | {last + 1 for _, last in within}
    for limit in limits.values():
        for first, last in limit:
            starts.add(first)
            starts.add(last + 1)
    points = sorted(starts)
    holding: list[list[int]] = [[] for _ in points]
    for number, limit in limits.items():
        for first, last in limit:
            for place in range(bisect_left(points, first), bisect_left(points, last + 1)):
                holding[place].append(number)
    inside = [False] * len(points)
    for first, last in within:
        for place in range(bisect_left(points, first), bisect_left(points, last + 1)):
            inside[place] = True
    found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for place, first in enumerate(points[:-1]):
        if inside[place]:
            found.setdefault(tuple(holding[place]), []).append((first, points[place + 1] - 1))
    for numbers, pieces in found.items():
        yield numbers, join(pieces)


def join(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """Return the same points as the fewest intervals."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def outside(intervals: Intervals, whole: Intervals) -> Intervals:
    """Return the points of `whole` that are not in `intervals`, as a negated match means them."""
    left: list[tuple[int, int]] = []
    for first, last in whole:
        at = first
        for taken_first, taken_last in intervals:
            if taken_last < at or taken_first > last:
                continue
            if taken_first > at:
                left.append((at, taken_first - 1))
            at = max(at, taken_last + 1)
        if at <= last:
            left.append((at, last))
    return tuple(left)


def both(one: Intervals | None, other: Intervals | None) -> Intervals | None:
    """Return the points that are in both; None is everything."""
    if one is None or other is None:
        return other if one is None else one
    shared: list[tuple[int, int]] = []
    mine = theirs = 0
    while mine < len(one) and theirs < len(other):
        first, last = max(one[mine][0], other[theirs][0]), min(one[mine][1], other[theirs][1])
        if first <= last:
            shared.append((first, last))
        if one[mine][1] < other[theirs][1]:
            mine += 1
        else:
            theirs += 1
    return tuple(shared)

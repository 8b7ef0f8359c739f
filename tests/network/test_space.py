"""The space of connections is cut exactly, and no finer than the rules that hold a place need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.network.audit.space import Act, Box, Cell, Entry, Intervals, Outcome, cells

#: A small space, so that every point of it can be asked.
SIDE = range(6)
WITHIN = Box(*[((SIDE[0], SIDE[-1]),)] * 4)

spans = st.tuples(st.sampled_from(SIDE), st.sampled_from(SIDE)).map(lambda ends: ((min(ends), max(ends)),))
limits = st.none() | spans
entries = st.lists(
    st.builds(Entry, st.sampled_from([Act.ALLOW, Act.DENY]), st.sampled_from("abc"), limits, limits, limits, limits),
    max_size=6,
)


def holds(limit: Intervals | None, point: int) -> bool:
    return limit is None or any(first <= point <= last for first, last in limit)


def first_match(rules: list[Entry], peer: int, local: int, service: int, other: int) -> Outcome:
    for rule in rules:
        axes = ((rule.peer, peer), (rule.local, local), (rule.service, service), (rule.other, other))
        if all(holds(limit, point) for limit, point in axes):
            return Outcome.ALLOW if rule.act is Act.ALLOW else Outcome.DENY
    return Outcome.DENY


@given(entries, st.sampled_from(SIDE), st.sampled_from(SIDE), st.sampled_from(SIDE))
def test_every_point_is_decided_as_the_first_rule_that_holds_it_says(
    rules: list[Entry], peer: int, local: int, service: int
) -> None:
    found = [
        cell
        for cell in cells(rules, Outcome.DENY, WITHIN)
        if holds(cell.peer, peer) and holds(cell.local, local) and holds(cell.service, service)
    ]
    said = {first_match(rules, peer, local, service, other) for other in SIDE}
    assert {cell.outcome for cell in found} == said, "each point of the axis that cells do not show is in one of them"


@given(entries, entries)
def test_a_marker_is_named_by_the_cells_within_it_alone(rules: list[Entry], wanted: list[Entry]) -> None:
    markers = [Box(peer=item.peer or WITHIN.peer, service=item.service or WITHIN.service) for item in wanted]
    for cell in cells(rules, Outcome.DENY, WITHIN, markers):
        for index, marker in enumerate(markers):
            assert (index in cell.markers) == _meets(cell, marker)


def _meets(cell: Cell, marker: Box) -> bool:
    return holds(marker.peer, cell.peer[0][0]) and holds(marker.service, cell.service[0][0])


def test_rules_for_a_peer_and_port_each_do_not_cut_one_anothers() -> None:
    count = 500
    rules = [Entry(Act.ALLOW, f"{n}", ((2 * n, 2 * n),), service=((3 * n, 3 * n),)) for n in range(count)]
    assert len(list(cells(rules, Outcome.DENY, Box()))) == 2 * count + 1

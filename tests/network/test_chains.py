"""Jumps to one chain that follow each other are one jump: whatever the chains, the same is decided."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.network.audit import chains
from quorate.network.audit.chains import Match, Step, Verdict, flatten, joined
from quorate.network.audit.space import Act, Box, Cell, Outcome, cells

PORTS = st.sampled_from([None, ((1, 3),), ((2, 2),), ((3, 5),), ((1, 1), (5, 5))])
MATCHES = st.builds(Match, peer=PORTS, service=PORTS, doubt=st.sampled_from(["", "", "", "who knows"]))
ENDS = st.sampled_from([Verdict.ACCEPT, Verdict.DROP, Verdict.RETURN, Verdict.CONTINUE])
INNER = st.builds(lambda match, verdict: Step("inner", (match,), verdict), MATCHES, ENDS)
OUTER = st.one_of(
    st.builds(lambda match, target: Step("jump", (match,), Verdict.JUMP, target), MATCHES, st.sampled_from("ab")),
    st.builds(lambda match, verdict: Step("outer", (match,), verdict), MATCHES, ENDS),
)
SPACE = Box(peer=((0, 6),), local=((0, 0),), service=((0, 6),), other=((0, 0),))


def decided(found: dict[str, list[Step]]) -> dict[tuple[int, int], Outcome]:
    points: dict[tuple[int, int], Outcome] = {}
    for cell in cells(flatten(found, "base", Act.DENY), Outcome.ALLOW, SPACE):
        points |= dict.fromkeys(places(cell), cell.outcome)
    return points


def places(cell: Cell) -> list[tuple[int, int]]:
    return [
        (peer, service)
        for first, last in cell.peer
        for peer in range(first, last + 1)
        for low, high in cell.service
        for service in range(low, high + 1)
    ]


@settings(max_examples=1000, deadline=None)
@given(base=st.lists(OUTER, max_size=6), a=st.lists(INNER, max_size=3), b=st.lists(INNER, max_size=3))
def test_one_jump_decides_what_the_jumps_decided(base: list[Step], a: list[Step], b: list[Step]) -> None:
    found = {"base": base, "a": a, "b": b}
    once = decided(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "joined", list)
        assert decided(found) == once
    assert len(once) == 49


def test_only_what_differs_in_one_axis_is_joined() -> None:
    def jump(peer: int, service: int) -> Step:
        return Step("", (Match(peer=((peer, peer),), service=((service, service),)),), Verdict.JUMP, "a")

    assert len(joined([jump(1, 1), jump(2, 1), jump(3, 1)])) == 1
    assert len(joined([jump(1, 1), jump(2, 2)])) == 2
    assert len(joined([jump(1, 1), jump(1, 2), jump(2, 1)])) == 2
    assert len(joined([jump(1, 1), jump(1, 1), jump(2, 1), jump(1, 2)])) == 2
    (one,) = joined([jump(1, 1), jump(2, 1), jump(1, 1)])
    assert one.matches == (Match(peer=((1, 2),), service=((1, 1),)),)

"""What is decided where rules may or may not match is what every way of their matching decides, and nothing more."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.network.audit.decision import Act, Candidate, Outcome, Stand

RULES = "abcd"


@st.composite
def stands(draw: st.DrawFn) -> Stand:
    """A row of a few candidates whose jumps go forward."""
    count = draw(st.integers(0, 6))
    row = []
    for place in range(count):
        act = draw(st.sampled_from([Act.ALLOW, Act.DENY, Act.JUMP]))
        doubt = draw(st.sampled_from(["", "", "who knows"]))
        to = draw(st.integers(place + 1, count)) if act is Act.JUMP else 0
        row.append(Candidate(draw(st.sampled_from(["", *RULES])), act, doubt, to))
    return Stand([*row, Candidate("", draw(st.sampled_from([Act.ALLOW, Act.DENY])))])


def plays(stand: Stand, gone: set[str]) -> list[Outcome]:
    """What is decided for each way in which the doubtful ones match, in one order."""
    doubtful = [place for place, one in enumerate(stand.candidates) if one.doubt]
    return [
        played(stand, gone, dict(zip(doubtful, ways, strict=True)))
        for ways in product([False, True], repeat=len(doubtful))
    ]


def played(stand: Stand, gone: set[str], matching: dict[int, bool]) -> Outcome:
    place = 0
    while True:
        one = stand.candidates[place]
        if one.rule in gone - {""} or not matching.get(place, True):
            place += 1
        elif one.act is Act.JUMP:
            place = one.to
        else:
            return Outcome.ALLOW if one.act is Act.ALLOW else Outcome.DENY


@settings(max_examples=800, deadline=None)
@given(stands(), st.sets(st.sampled_from(RULES)))
def test_it_is_sure_where_every_way_decides_the_same(stand: Stand, gone: set[str]) -> None:
    met = set(plays(stand, gone))
    assert stand.decide(gone).outcome is (met.pop() if len(met) == 1 else Outcome.UNKNOWN)


@settings(max_examples=800, deadline=None)
@given(stands(), st.sets(st.sampled_from(RULES)), st.sampled_from(RULES))
def test_a_rule_without_which_the_same_is_decided_matters_in_no_way(stand: Stand, gone: set[str], rule: str) -> None:
    if stand.same_without(rule, gone - {rule}):
        assert plays(stand, gone - {rule}) == plays(stand, gone | {rule})


@settings(max_examples=800, deadline=None)
@given(stands())
def test_rules_that_are_not_needed_change_nothing_when_one_goes(stand: Stand) -> None:
    for rule in stand.rules - stand.needed:
        assert set(plays(stand, {rule})) == set(plays(stand, set())), "for doubtful ones the outcome was sure"
    for rule in stand.rules - stand.reached:
        assert plays(stand, {rule}) == plays(stand, set())


@settings(max_examples=800, deadline=None)
@given(stands())
def test_what_is_to_blame_is_decided_otherwise_without_it_unless_it_is_a_default(stand: Stand) -> None:
    left = stand.decide(stand.to_blame)
    assert left.outcome is not stand.decision.outcome or not any(left.rules)

"""Of many attempts that failed, people read each cause once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from quorate.cli.netmatrix import matrix, verdict
from quorate.network.reach import CODES, Attempt, End, NetCheck, Outcome, findings_of

HOSTS = ("a", "b", "c")
FLOWS = ("rendezvous", "gloo")


def check(**bad: Outcome) -> NetCheck:
    """Three hosts, two flows; `a_b_gloo=Outcome.FILTERED` makes one fail, `a_b` all of a way."""
    attempts = []
    for source, destination in itertools.permutations(HOSTS, 2):
        for flow in FLOWS:
            way = f"{source}_{destination}"
            outcome = bad.get(f"{way}_{flow}", bad.get(way, Outcome.OPEN))
            evidence = f"{destination} answers" if outcome is Outcome.OPEN else "no answer within 3.5 s"
            trip = 0.0003 if outcome is Outcome.OPEN else None
            attempts.append(Attempt(source, destination, flow, "tcp", 1734, outcome, evidence, "", trip, "mend it"))
    return NetCheck(tuple(End(name, f"10.0.0.{n}") for n, name in enumerate(HOSTS, 1)), tuple(attempts))


def codes(made: NetCheck) -> list[tuple[str, str | None, str | None]]:
    return [(finding.code, finding.source, finding.destination) for finding in made.findings]


def test_where_all_is_open_nothing_is_found() -> None:
    assert codes(check()) == []
    assert verdict(check(), "torch") == "all 6 ways between 3 hosts are open for torch, the slowest in 0.30 ms"


def test_one_flow_is_one_finding_with_its_ends_and_remedy() -> None:
    made = check(a_b_gloo=Outcome.FILTERED)
    assert codes(made) == [("NET-FILTERED", "a", "b")]
    (finding,) = made.findings
    assert finding.subject == "gloo: a -> b"
    assert finding.remedy == "mend it"
    assert verdict(made).startswith("1 of 6 ways between 3 hosts is not open: gloo: a -> b, a firewall drops the flow")


def test_one_flow_to_one_host_from_several_is_one_finding() -> None:
    assert codes(check(a_c_gloo=Outcome.REFUSED, b_c_gloo=Outcome.REFUSED)) == [("NET-REFUSED", "a, b", "c")]


def test_ends_are_named_in_the_order_in_which_people_count_whoever_answered_first() -> None:
    tried = [
        Attempt(source, "gpu3", "gloo", "tcp", 1734, Outcome.FILTERED, f"seen by {source}", remedy=f"open {source}")
        for source in ("gpu10", "gpu2", "gpu1")
    ]
    (finding,) = findings_of([*tried, Attempt("gpu3", "gpu1", "gloo", "tcp", 1734, Outcome.OPEN, "gpu1 answers")])
    assert finding.source == "gpu1, gpu2, gpu10"
    assert finding.subject == "gloo: gpu1, gpu2, gpu10 -> gpu3"
    assert finding.evidence.endswith("seen by gpu1")
    assert finding.remedy == "open gpu1\nopen gpu2\nopen gpu10"


def test_a_way_on_which_nothing_passes_is_one_finding() -> None:
    assert codes(check(a_b=Outcome.UNROUTABLE)) == [("NET-UNROUTABLE", "a", "b")]


def test_a_host_that_nobody_reaches_is_one_finding() -> None:
    made = check(a_c=Outcome.FILTERED, b_c=Outcome.FILTERED, b_a_gloo=Outcome.REFUSED)
    assert codes(made) == [("NET-FILTERED", "a, b", "c"), ("NET-REFUSED", "b", "a")]


def test_a_host_that_reaches_nobody_is_one_finding() -> None:
    assert codes(check(c_a=Outcome.FILTERED, c_b=Outcome.FILTERED)) == [("NET-FILTERED", "c", "a, b")]


def test_the_matrix_says_who_reaches_whom_and_how_fast() -> None:
    header, *rows = matrix(check(a_b_gloo=Outcome.FILTERED, b_a=Outcome.REFUSED))
    assert header.split() == ["FROM", "\\", "TO", "a", "b", "c"]
    assert rows[0].split() == ["a", "—", "filtered", "1/2", "0.30", "ms"]
    assert rows[1].split() == ["b", "refused", "—", "0.30", "ms"]


@given(st.lists(st.sampled_from(list(Outcome)), min_size=12, max_size=12))
def test_whatever_failed_is_in_a_finding_and_nothing_else_is(outcomes: list[Outcome]) -> None:
    ways = itertools.product(itertools.permutations(HOSTS, 2), FLOWS)
    attempts = [
        Attempt(source, destination, flow, "tcp", 1, outcome, "seen")
        for ((source, destination), flow), outcome in zip(ways, outcomes, strict=True)
    ]
    found = findings_of(attempts)
    named = {
        (source, destination)
        for finding in found
        for source in str(finding.source).split(", ")
        for destination in str(finding.destination).split(", ")
    }
    failed = {attempt.way for attempt in attempts if not attempt.passed}
    assert named == failed
    assert {finding.code for finding in found} <= set(CODES.values())

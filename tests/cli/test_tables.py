"""Tables on terminals of any width: whole, in order, and no wider than there is room."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.cli.tables import Column, lay_out

JOBS = ("ID", "NAME", "?OWNER", "STATE", "?>MEMBERS", "??SUBMITTED", "?RAN", "WHY")
ROW = (
    "k3x9q2ab", "a-training-with-a-rather-long-name", "ada", "pending", "16", "4 min 46 s ago", "-",
    "needs 2 agents with 2 free slots in pool default; 1 has them; agent b is draining",
)  # fmt: skip


def shown(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    same = str
    lines = lay_out([Column.of(c) for c in columns], rows, width, head=same, cell=same, below=same)
    return [line for each in lines for line in each.split("\n")]


def test_where_there_is_room_a_row_is_a_line() -> None:
    head, row = shown(JOBS, [ROW], 240)
    assert row == f"k3x9q2ab  {ROW[1]}  ada    pending       16  4 min 46 s ago  -    {ROW[7]}"
    assert head.index("WHY") == row.index("needs")


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_an_id_is_whole_and_a_reason_stands_below_its_row(width: int) -> None:
    lines = shown(JOBS, [ROW], width)
    assert lines[1].startswith("k3x9q2ab  ")
    assert "pending" in lines[1]
    below = [line for line in lines if line.startswith("    ") and not line.startswith("     ")]
    assert " ".join(" ".join(below).split()) == ROW[7]
    assert max(map(len, lines)) <= width


def test_what_matters_least_is_left_out_first() -> None:
    assert shown(JOBS, [ROW], 80)[0].split() == ["ID", "NAME", "OWNER", "STATE", "MEMBERS", "SUBMITTED"]
    assert shown(JOBS, [ROW], 40)[0].split() == ["ID", "NAME", "STATE"]


def test_a_wide_letter_takes_the_room_of_two() -> None:
    _, first, second = shown(("NAME", "STATE"), [("学习", "ok"), ("four", "ok")], 80)
    assert (first, second) == ("学习  ok", "four  ok")


@given(
    rows=st.lists(
        st.tuples(*(st.text(st.sampled_from("abc -/é"), max_size=n).map(str.strip) for n in (8, 40, 30, 90))),
        min_size=1,
    ),
    width=st.integers(48, 200),
)
def test_nothing_is_cut_off_and_nothing_is_wider_than_the_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    lines = shown(("ID", "NAME", "AGENT", "WHY"), rows, width)
    assert max(map(len, lines)) <= width
    letters = sorted("".join(lines[1:]).replace(" ", ""))
    assert letters == sorted("".join(cell for row in rows for cell in row).replace(" ", ""))

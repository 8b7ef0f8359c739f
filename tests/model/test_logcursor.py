"""What a reader of logs gives back to go on where it stopped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.model.ids import JobId, MemberId, allocation_id, member_id
from quorate.model.logcursor import CursorError, format_cursor, parse_cursor

JOB = JobId("k3jd")
members = st.builds(
    lambda attempt, rank, incarnation: member_id(allocation_id(JOB, attempt), rank, incarnation),
    st.integers(1, 999_999), st.integers(0, 4095), st.integers(1, 99_999),
)  # fmt: skip


@given(st.dictionaries(members, st.integers(1, 2**50), max_size=20))
def test_a_cursor_is_read_back_as_it_was_written(offsets: dict[MemberId, int]) -> None:
    assert parse_cursor(JOB, format_cursor(offsets)) == offsets


def test_a_cursor_is_short_and_does_not_repeat_the_job() -> None:
    assert format_cursor({MemberId("k3jd-1.0.1"): 4096, MemberId("k3jd-1.1.1"): 0}) == "1.0.1:4096"


@pytest.mark.parametrize("text", ["x", "1.0.1", "1.0.1:-1", "1.0.1:9,;", "../..:1", "1.0.1:" + "9" * 30, "1" * 70_000])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        parse_cursor(JOB, text)

"""Ports end at 65535, and the arithmetic of ranges neither loses nor invents one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.model.ports import InvalidPorts, PortRange, merge

RANGES = st.builds(lambda first, length: PortRange(first, first + length), st.integers(0, 60), st.integers(0, 12))


def ports(ranges: tuple[PortRange, ...] | list[PortRange]) -> set[int]:
    return {port for item in ranges for port in item}


@pytest.mark.parametrize(("text", "first", "last"), [("80", 80, 80), ("80-90", 80, 90), ("80:90", 80, 90), (443,) * 3])
def test_ranges_are_read_as_people_write_them(text: str | int, first: int, last: int) -> None:
    assert PortRange.parse(text) == PortRange(first, last)


@pytest.mark.parametrize("text", ["", "x", "-1", "90-80", "1-65536", "65536", "1-2-3", "1.5", "80-", "٨٠-x", "9" * 30])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidPorts):
        PortRange.parse(text)


def test_somebody_elses_65536_is_clamped_with_a_warning() -> None:
    assert PortRange.parse_imported("1024-65536") == (
        PortRange(1024, 65535),
        "1024-65536: 65536 is not a port; read as 1024-65535",
    )
    assert PortRange.parse_imported("1024-65535") == (PortRange(1024, 65535), None)


@given(st.lists(RANGES))
def test_merging_keeps_exactly_the_ports_in_the_fewest_ranges(ranges: list[PortRange]) -> None:
    merged = merge(ranges)
    assert ports(merged) == ports(ranges)
    assert all(not one.touches(other) for one, other in pairwise(merged))


@given(RANGES, RANGES)
def test_a_hull_adds_no_port_where_ranges_touch(one: PortRange, other: PortRange) -> None:
    extra = ports([one.hull(other)]) - ports([one, other])
    assert (not extra) == one.touches(other)

"""Addresses of parties: as few networks as possible, and never an address more or fewer."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from quorate.network.plan import addresses, without


def in_a_small_world() -> st.SearchStrategy[IPv4Network]:
    return st.builds(
        lambda start, length: ip_network(
            (int(IPv4Address("10.0.0.0")) + (start >> (32 - length) << (32 - length)), length)
        ),
        st.integers(0, 255),
        st.integers(25, 32),
    )


def members(networks: tuple[object, ...] | list[IPv4Network]) -> set[IPv4Address]:
    return {address for network in networks for address in network}  # type: ignore[attr-defined]


@given(st.lists(in_a_small_world()), st.lists(in_a_small_world()))
def test_subtraction_keeps_exactly_the_other_addresses(mine: list[IPv4Network], theirs: list[IPv4Network]) -> None:
    assert members(without(mine, theirs)) == members(mine) - members(theirs)


@given(st.lists(in_a_small_world()))
def test_collapsing_neither_adds_nor_loses_an_address(networks: list[IPv4Network]) -> None:
    assert members(addresses(map(str, networks))) == members(networks)


def test_both_families_are_subtracted() -> None:
    left = without(addresses(["10.0.0.0/31", "fd00::/127"]), addresses(["10.0.0.1", "fd00::", "192.0.2.0/24"]))
    assert left == addresses(["10.0.0.0", "fd00::1"])

"""Subnets and VNIs are leased once, fit their members, and keep out of the agents' own networks."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quorate.model.jobnetwork import NetworkWish
from quorate.network.flows import NetworkMode
from quorate.network.joining import AgentSide, Joining, join
from quorate.network.overlays import (
    Refusal,
    Taken,
    address_of,
    around,
    gateway_of,
    mtu_of,
    prefix_for,
    subnet_for,
    vni_for,
)
from quorate.network.settings import DEFAULT_OVERLAYS

RANGE = (IPv4Network("10.128.0.0/22"), IPv4Network("10.200.0.0/24"))
ALL_MODES = frozenset(NetworkMode)


class Leasing(RuleBasedStateMachine):
    """Allocations come and go; what they hold is compared address by address with a naive set."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = Taken()
        self.underlay = Taken([IPv4Network("10.128.1.0/26")])
        self.held: list[IPv4Network] = []

    @rule(members=st.integers(1, 300))
    def lease(self, members: int) -> None:
        subnet = subnet_for(members, RANGE, self.taken, self.underlay)
        if isinstance(subnet, Refusal):
            size = 1 << 32 - prefix_for(members)
            for network in RANGE:
                blocks = network.subnets(new_prefix=prefix_for(members)) if network.num_addresses >= size else ()
                for block in blocks:
                    free = not any(block.overlaps(other) for other in [*self.held, IPv4Network("10.128.1.0/26")])
                    assert not free, f"{block} is free"
            return
        assert not any(subnet.overlaps(other) for other in self.held)
        assert not subnet.overlaps(IPv4Network("10.128.1.0/26"))
        assert any(subnet.subnet_of(network) for network in RANGE)
        last = address_of(subnet, members - 1)
        assert last in subnet and last != subnet.broadcast_address and gateway_of(subnet) < address_of(subnet, 0)
        self.taken.take(subnet)
        self.held.append(subnet)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.taken.free(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def nothing_is_taken_twice(self, data: st.DataObject) -> None:
        with pytest.raises(ValueError, match="is taken"):
            self.taken.take(data.draw(st.sampled_from(self.held)))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.taken) == sum(subnet.num_addresses for subnet in self.held)


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.integers(1, 4096))
def test_the_smallest_subnet_that_holds_the_members_is_taken(members: int) -> None:
    prefix = prefix_for(members)
    assert members + 3 <= 1 << 32 - prefix
    assert prefix == 28 or members + 3 > 1 << 31 - prefix


@given(st.integers(1, 50), st.sets(st.integers(1, 50)), st.text("abc123-", min_size=1, max_size=9))
def test_a_vni_is_free_and_in_its_range_or_all_are_taken(last: int, taken: set[int], allocation: str) -> None:
    vni = vni_for(allocation, 1, last, taken)
    if isinstance(vni, Refusal):
        assert taken >= set(range(1, last + 1))
    else:
        assert 1 <= vni <= last and vni not in taken


def test_a_range_around_the_agents_is_refused_with_the_key_to_change() -> None:
    refusal = subnet_for(3, [IPv4Network("10.128.0.0/20")], Taken(), Taken([around(ip_network("10.128.0.5")[0])]))
    assert isinstance(refusal, Refusal) and "network.overlays" in str(refusal)


@pytest.mark.parametrize(
    ("underlay", "family", "encapsulated", "expected"),
    [
        ([1500, 9000], 4, True, 1450),
        ([1500], 6, True, 1430),
        ([0, 9000], 4, True, 1450),
        ([9000, 9000], 4, True, 8950),
        ([1500], 4, False, 1500),
        ([0], 4, False, 1450),
        ([65536], 4, False, 9216),
        ([580], 4, True, 576),
    ],
)
def test_members_have_the_narrowest_mtu_less_the_overhead(
    underlay: list[int], family: int, encapsulated: bool, expected: int
) -> None:
    assert mtu_of(underlay, family, encapsulated=encapsulated) == expected


def side(name: str, address: str | None = None, sandbox: bool = True) -> AgentSide:
    return AgentSide(name, f"10.0.0.{ord(name[0])}" if address is None else address, sandbox)


@pytest.mark.parametrize(
    ("wish", "agents", "fabric", "mode"),
    [
        ("auto", [side("a")], None, "bridge"),
        ("auto", [side("a"), side("b")], None, "overlay"),
        ("auto", [side("a"), side("b")], "tcp", "overlay"),
        ("auto", [side("a"), side("b")], "ib", "host"),
        ("auto", [side("a")], "ib", "bridge"),
        ("auto", [side("a"), side("b", sandbox=False)], None, "host"),
        ("auto", [side("a", "10.0.0.1"), side("b", "10.0.0.1")], None, "host"),
        ("auto", [side("a", "10.0.0.1"), side("b", "fd00::1")], None, "host"),
        ("auto", [side("a", "127.0.0.1"), side("b", "127.0.0.2")], None, "host"),
        ("auto", [side("a", "gpu1.example.org")], None, "host"),
        ("overlay", [side("a"), side("b")], "ib", "overlay"),
        ("overlay", [side("a")], None, "overlay"),
        ("host", [side("a")], None, "host"),
    ],
)
def test_how_members_are_joined(wish: str, agents: list[AgentSide], fabric: str | None, mode: str) -> None:
    found = join(NetworkWish(wish), agents, ALL_MODES, fabric)
    assert isinstance(found, Joining) and found.mode == mode and found.because


def test_what_cannot_be_joined_as_asked_is_refused_with_the_agent_that_cannot() -> None:
    refusal = join(NetworkWish.OVERLAY, [side("a"), side("b", sandbox=False)], ALL_MODES)
    assert str(refusal) == "mode overlay is impossible: agent b makes no private networks"
    assert "a bridge joins members of one agent" in str(join(NetworkWish.BRIDGE, [side("a"), side("b")], ALL_MODES))


@pytest.mark.parametrize("names", ["a", "ab"])
def test_where_the_operator_allows_the_hosts_network_alone_a_job_that_leaves_it_open_gets_it(names: str) -> None:
    found = join(NetworkWish.AUTO, [side(name) for name in names], [NetworkMode.HOST])
    assert found == Joining(NetworkMode.HOST, "network.modes in master.yaml allows nothing else")
    assert isinstance(join(NetworkWish.OVERLAY, [side(name) for name in names], [NetworkMode.HOST]), Refusal)


def test_a_mode_that_the_operator_does_not_allow_is_never_chosen() -> None:
    private = frozenset({NetworkMode.BRIDGE, NetworkMode.OVERLAY})
    refusal = join(NetworkWish.AUTO, [side("a", sandbox=False)], private)
    assert isinstance(refusal, Refusal) and "network.modes in master.yaml allows bridge, overlay alone" in str(refusal)


@pytest.mark.parametrize(
    "theirs",
    [
        "10.128.0.0/9", "172.31.0.0/16", "10.0.0.0/16", "10.224.0.0/12", "10.244.0.0/16", "10.96.0.0/12",
        "10.42.0.0/16", "10.43.0.0/16", "172.30.0.0/16", "10.32.0.0/12", "172.16.0.0/12", "192.168.0.0/16",
        "10.88.0.0/15", "100.64.0.0/10", "198.18.0.0/15", "169.254.0.0/16",
    ],
)  # fmt: skip
def test_the_usual_range_meets_no_usual_network_of_clouds_container_engines_and_kubernetes(theirs: str) -> None:
    assert not any(IPv4Network(ours).overlaps(IPv4Network(theirs)) for ours in DEFAULT_OVERLAYS)

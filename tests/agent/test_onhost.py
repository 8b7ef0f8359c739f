"""What members of the hosts' network may do comes from plan and leases; what two claim is nobody's, or the later's."""

from __future__ import annotations

import msgspec
import pytest
from tests.agent.test_planning import allocation

from quorate.agent.onhost import OnHost, host_members
from quorate.agent.sandbox.counters import Counters, Refusal
from quorate.agent.sandbox.spec import Desired, Mode
from quorate.model.asks import RefusedBy
from quorate.model.messages import AllocationSpec, HostsSpec
from quorate.network.catalogue import EPHEMERAL
from quorate.network.flows import Direction, Transport

KERNEL = (20_000, 30_000)
USERS = (1_000_000, 2_000_000)


def on_host(name: str = "abcd1234-1", size: int = 2, **told: object) -> AllocationSpec:
    hosts = HostsSpec(addresses=("10.0.0.2", "10.0.0.3", "fd00::2"), forbidden=("10.0.0.0/24",), **told)  # type: ignore[arg-type]
    return msgspec.structs.replace(allocation(size, network=None, hosts=hosts), allocation=name)


def test_a_planned_gang_opens_its_leases_and_ephemeral_ports_on_its_machines() -> None:
    found = host_members(on_host(members="planned"), "agent-0", KERNEL)
    assert found.leased == (1734, 1750, 20_000, 29_500)
    assert {("10.0.0.2", 20_000), ("10.0.0.2", 1734), ("10.0.0.3", 1734)} <= set(found.flows)
    assert ("10.0.0.3", 20_000) not in found.flows
    assert set(found.ranges) == {(Transport.TCP, *KERNEL), (Transport.TCP, EPHEMERAL.first, EPHEMERAL.last)}
    assert found.machines == ("10.0.0.2", "10.0.0.3", "fd00::2")
    assert host_members(on_host(), "agent-1", KERNEL).leased == (1734, 1750)


def test_a_member_alone_in_a_planned_job_opens_nothing_on_machines() -> None:
    found = host_members(on_host(size=1, members="planned"), "agent-0", KERNEL)
    assert (found.flows, found.ranges) == ((), ())


def test_an_open_gang_opens_all_that_needs_no_root_to_listen() -> None:
    found = host_members(on_host(members="open"), "agent-0", KERNEL)
    assert set(found.ranges) == {(Transport.TCP, 1024, 65535), (Transport.UDP, 1024, 65535)}


def test_an_older_master_says_nothing_and_nothing_is_held() -> None:
    found = host_members(allocation(network=None), "agent-0", KERNEL)
    assert found.mode is Mode.OFF


def test_words_that_no_agent_knows_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'some' is not a valid Openness"):
        host_members(on_host(members="some"), "agent-0", KERNEL)


def test_a_uid_that_is_nobodys_is_refused_before_it_spoils_the_rules_of_all() -> None:
    here = OnHost(USERS)
    members = host_members(on_host(), "agent-0", KERNEL)
    here.hold("abcd1234-1.0.1", 2**32 - 2, members, told=True)
    for uid in (2**32 - 1, 2**32 + 5):
        with pytest.raises(ValueError, match=f"{uid} is the UID of nobody"):
            here.hold("abcd1234-1.1.1", uid, members, told=True)
    assert Desired(chosen=here.chosen).chosen == (2**32 - 2,)


def test_what_was_refused_is_told_of_the_member_whose_it_was_where_that_shows() -> None:
    here = OnHost(USERS)
    members = host_members(on_host(), "agent-0", KERNEL)
    here.hold("abcd1234-1.0.1", 1_000_001, members, told=True, ports=(29_500,))
    here.hold(
        "efgh1234-1.0.1", 1_000_002, host_members(on_host("efgh1234-1"), "agent-0", KERNEL), told=True, ports=(2000,)
    )

    def counted(direction: Direction, peer: str, port: int) -> tuple[str, RefusedBy]:
        known = Counters(refused=(Refusal("", direction, peer, "tcp", port, 1),))
        (one,) = here.attributed("abcd1234-1", known, "10.0.0.2").refused
        return one.member, one.by

    first = "abcd1234-1.0.1"
    assert counted(Direction.INGRESS, "192.0.2.1", 29_500) == (first, RefusedBy.PLAN)
    assert counted(Direction.EGRESS, "10.0.0.3", 22) == (first, RefusedBy.PLAN)
    for peer, port in (("10.0.0.9", 8000), ("169.254.169.254", 80), ("10.0.0.2", 22), ("::1", 2000)):
        assert counted(Direction.EGRESS, peer, port) == (first, RefusedBy.FORBIDDEN), peer
    # With one user for two, only a leased port still shows whose it was.
    here.hold("abcd1234-1.1.1", 1_000_001, members, told=True, ports=(29_501,))
    assert counted(Direction.EGRESS, "10.0.0.3", 22) == ("", RefusedBy.PLAN)
    assert counted(Direction.INGRESS, "192.0.2.1", 29_501) == ("abcd1234-1.1.1", RefusedBy.PLAN)


def test_what_two_allocations_claim_is_nobodys_or_the_later_ones() -> None:
    here = OnHost(USERS)
    for name, uid in (("abcd1234-1", 1_000_001), ("efgh1234-1", 1_000_001), ("ijkl1234-1", 1234), ("mnop1234-1", 0)):
        here.hold(f"{name}.0.1", uid, host_members(on_host(name), "agent-0", KERNEL), told=True)
    members = here.members()
    assert [part.users for part in members] == [(), (), (), ()]
    assert [bool(part.leased) for part in members] == [False, False, False, True]
    assert [bool(part.forbidden) for part in members] == [False, False, False, True]
    assert here.chosen == (1234,)
    assert len(here.unfiltered()) == 4
    # Whatever is claimed, it can be described.
    assert Desired(on_host=members).host is not None
    assert here.release("efgh1234-1.0.1") and not here.release("efgh1234-1.0.1")
    assert here.members()[0].users == (1_000_001,)
    assert {found.member for found in here.unfiltered()} == {"ijkl1234-1.0.1", "mnop1234-1.0.1"}

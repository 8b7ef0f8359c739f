"""Ports as a resource of a host."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quorate.model.ports import PortRange
from quorate.network.ports import HostPorts, Lease, Leases, Refusal, Request, Want, lease

HOST = HostPorts("boot-1:net-1", PortRange(20000, 20009), PortRange(32768, 60999))
RENDEZVOUS = Want("rendezvous", canonical=1734)


def ask(leases: Leases, holder: str, *wants: Want, now: float = 0.0, host: HostPorts = HOST) -> tuple[Leases, dict]:
    answer = lease(leases, [Request(host, holder, wants)], now, rest_s=60)
    assert not isinstance(answer, Refusal), answer
    return answer[0], answer[1][holder]


def release(leases: Leases, holder: str, now: float) -> Leases:
    """What a master writes down when a member has ended: its leases rest."""
    return Leases.of(
        Lease(one.host, one.port, one.holder, one.purpose, now)
        if one.holder == holder and one.released_at is None
        else one
        for one in leases
    )


def test_the_canonical_port_is_given_where_it_is_free() -> None:
    _, ports = ask(Leases(), "a", RENDEZVOUS)
    assert ports == {"rendezvous": PortRange.of(1734)}


def test_a_second_member_on_the_host_gets_a_leased_port() -> None:
    leases, _ = ask(Leases(), "a", RENDEZVOUS)
    _, ports = ask(leases, "b", RENDEZVOUS)
    assert ports == {"rendezvous": PortRange.of(20000)}


def test_another_host_has_ports_of_its_own() -> None:
    leases, _ = ask(Leases(), "a", RENDEZVOUS)
    other = HostPorts("boot-2:net-1", HOST.lease_range, HOST.ephemeral)
    assert ask(leases, "b", RENDEZVOUS, host=other)[1] == {"rendezvous": PortRange.of(1734)}


def test_a_released_port_rests_before_anyone_has_it_again() -> None:
    leases, _ = ask(Leases(), "a", RENDEZVOUS)
    leases = release(leases, "a", now=100.0)
    assert ask(leases, "b", RENDEZVOUS, now=159.9)[1] == {"rendezvous": PortRange.of(20000)}
    assert ask(leases, "b", RENDEZVOUS, now=160.0)[1] == {"rendezvous": PortRange.of(1734)}


def test_asking_again_gives_what_the_holder_has() -> None:
    leases, first = ask(Leases(), "a", RENDEZVOUS, Want("any"))
    assert ask(leases, "a", RENDEZVOUS, Want("any")) == (leases, first)


def test_a_gang_gets_all_its_ports_or_none() -> None:
    small = HostPorts("h", PortRange(20000, 20000), HOST.ephemeral)
    answer = lease(Leases(), [Request(small, "a", (Want("x"),)), Request(small, "b", (Want("x"),))], 0.0)
    assert isinstance(answer, Refusal)
    assert answer.holder == "b"


def test_a_port_that_something_else_has_or_that_the_kernel_may_take_is_not_given() -> None:
    host = HostPorts("h", PortRange(20000, 20003), PortRange(20002, 30000), taken=frozenset({1734, 20000}))
    _, ports = ask(Leases(), "a", RENDEZVOUS, host=host)
    assert ports == {"rendezvous": PortRange.of(20001)}
    _, ports = ask(Leases(), "a", Want("torch", canonical=29400), host=host)
    assert ports == {"torch": PortRange.of(20001)}


def test_several_ports_side_by_side() -> None:
    leases = Leases.of([Lease(HOST.key, 20002, "z", "x")])
    _, ports = ask(leases, "a", Want("workers", count=4))
    assert ports == {"workers": PortRange(20003, 20006)}
    _, ports = ask(leases, "a", Want("tf", canonical=65535, count=2))
    assert ports == {"tf": PortRange(20000, 20001)}


def test_a_refusal_says_where_the_ports_are_and_when_to_try_again() -> None:
    leases, _ = ask(Leases(), "a", Want("x", count=6))
    leases = release(leases, "a", now=10.0)
    leases, _ = ask(leases, "b", Want("x", count=3), now=11.0)
    answer = lease(leases, [Request(HOST, "c", (Want("x", count=2),))], 12.0, rest_s=60)
    assert isinstance(answer, Refusal)
    assert answer.reason == (
        "of 10 ports in 20000-20009, 3 leased, 6 resting, 0 taken by others; 2 side by side are needed"
    )
    assert answer.retry_at == 70.0


def test_records_that_collide_are_refused() -> None:
    with pytest.raises(ValueError, match="leased twice"):
        Leases.of([Lease("h", 1, "a", "x"), Lease("h", 1, "b", "x")])


def test_whoever_begins_elsewhere_finds_other_ports_and_in_the_end_all_of_them() -> None:
    host = HostPorts("h", PortRange(20000, 20003), HOST.ephemeral, begin_at=7)
    leases, found = Leases(), []
    for holder in "abcd":
        answer = lease(leases, [Request(host, holder, (Want("x"),))], 0.0)
        assert not isinstance(answer, Refusal)
        leases, granted = answer
        found.append(granted[holder]["x"].first)
    assert found == [20003, 20000, 20001, 20002]
    pair = HostPorts("h", PortRange(20000, 20003), HOST.ephemeral, taken=frozenset({20000, 20003}), begin_at=2)
    answer = lease(Leases(), [Request(pair, "a", (Want("x", count=2),))], 0.0)
    assert not isinstance(answer, Refusal)
    assert answer[1]["a"]["x"] == PortRange(20001, 20002)


class LeasesMachine(RuleBasedStateMachine):
    """Any history of leases, releases and time passing; a model beside it remembers who had a port and when."""

    def __init__(self) -> None:
        super().__init__()
        self.leases, self.now, self.next = Leases(), 0.0, 0
        self.holding: dict[tuple[str, int], str] = {}
        self.released: dict[tuple[str, int], float] = {}

    @rule(
        host=st.sampled_from(["h", "i"]), canonical=st.sampled_from([None, 1734, 20001, 40000]), count=st.integers(1, 4)
    )
    def lease(self, host: str, canonical: int | None, count: int) -> None:
        self.next += 1
        ports = HostPorts(host, PortRange(20000, 20011), PortRange(20010, 20030), frozenset({20005}), begin_at=7)
        before, holder = self.leases, f"m{self.next}"
        answer = lease(before, [Request(ports, holder, (Want("x", canonical, count),))], self.now, rest_s=60)
        if isinstance(answer, Refusal):
            assert answer.retry_at is None or answer.retry_at > self.now
            return
        self.leases, granted = answer
        block = granted[holder]["x"]
        assert len(block) == count
        for port in block:
            assert (host, port) not in self.holding, "given to two holders"
            assert self.now - self.released.get((host, port), -1e9) >= 60, "given while it rests"
            assert port != 20005, "given though it is taken"
            assert port not in ports.ephemeral, "given though the kernel may take it"
            assert port in ports.lease_range or canonical == block.first
            self.holding[host, port] = holder

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.holding:
            holder = data.draw(st.sampled_from(sorted(set(self.holding.values()))))
            self.leases = release(self.leases, holder, self.now)
            for key in [key for key, value in self.holding.items() if value == holder]:
                del self.holding[key]
                self.released[key] = self.now

    @rule(seconds=st.floats(0.0, 50.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_is_held_is_recorded(self) -> None:
        held = {(lease.host, lease.port): lease.holder for lease in self.leases if lease.released_at is None}
        assert held == self.holding
        assert Leases.of(list(self.leases)).by_host == {
            host: ports for host, ports in self.leases.by_host.items() if ports
        }


LeasesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_no_history_gives_a_port_twice_or_before_it_has_rested = LeasesMachine.TestCase

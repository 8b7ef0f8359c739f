"""A member's rules: what is planned passes, what is not is refused at once and counted, and a change is noticed."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import pytest
from tests.sandbox.hosts import Host, Lab, both_ways, everything, hub, sandbox, wait_until

from quorate.agent.sandbox import namespaces, rules
from quorate.agent.sandbox.counters import Refusal
from quorate.agent.sandbox.links import LinkError, opened
from quorate.agent.sandbox.spec import Egress, Mode, SandboxSpec
from quorate.model.asks import RefusedBy
from quorate.network.flows import Direction
from quorate.network.overlays import mtu_of

pytestmark = pytest.mark.lab

PLANNED = both_ways("torch-rendezvous", 29400)


def pair(host: Host, mode: Mode = Mode.ENFORCE) -> tuple[SandboxSpec, SandboxSpec]:
    """Two members of one allocation on a host, under the same plan."""
    members = sandbox("jjjj-1.0.1", PLANNED, mode=mode), sandbox("jjjj-1.1.1", PLANNED, mode=mode)
    host.converge(hub(host, host, host), *members)
    return members


def test_an_unplanned_port_is_refused_at_once_and_a_planned_one_is_open(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host)
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400", "tcp/0.0.0.0/29500"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29500) == "ECONNREFUSED"
        # The same where the sender's own rules are gone: the receiver's hold by themselves.
        host.member("jjjj-1.0.1").run("nft", "flush", "ruleset")
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29500) == "ECONNREFUSED"
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"


def test_loopback_in_a_sandbox_is_the_members_own(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host)
    with host.member("jjjj-1.0.1").serves("self", "tcp/127.0.0.1/6006"):
        assert host.member("jjjj-1.0.1").tries("127.0.0.1", 6006) == "open self sees 127.0.0.1"
        assert host.outside.tries("127.0.0.1", 6006) == "ECONNREFUSED"


def test_counters_tell_what_passed_by_flow_and_who_was_refused_where(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host)
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400", "tcp/0.0.0.0/29500"):
        for port in (29400, 29400, 29500):
            host.member("jjjj-1.0.1").tries("10.128.0.11", port)
        host.member("jjjj-1.0.1").run("nft", "flush", "ruleset")
        host.member("jjjj-1.0.1").tries("10.128.0.11", 29501)
    counted = host.counters("jjjj-1")
    (inward,) = [count for count in counted.flows if count.member.endswith(".1.1") and count.direction == "ingress"]
    assert (inward.flow, inward.packets) == ("torch-rendezvous", 2)
    assert counted.refused == (Refusal("jjjj-1.1.1", Direction.INGRESS, "10.128.0.10", "tcp", 29501, 1),)


def test_what_the_hub_refuses_is_told_by_member_with_the_reason(lab: Lab) -> None:
    host, _ = lab.hosts
    host.converge(
        hub(host, host, host, egress=Egress.NAMED, forbidden=("192.0.2.0/24",)),
        sandbox("jjjj-1.0.1"),
        sandbox("jjjj-1.1.1"),
    )
    for address, port in (("192.0.2.1", 22), ("169.254.169.254", 80), ("10.77.0.99", 443), ("10.77.0.99", 443)):
        assert host.member("jjjj-1.1.1").tries(address, port) == "ECONNREFUSED"
    found = {(one.member, one.direction, one.peer, one.port, one.packets, one.by)
             for one in host.counters("jjjj-1").refused}  # fmt: skip
    assert found == {
        ("jjjj-1.1.1", Direction.EGRESS, "192.0.2.1", 22, 1, RefusedBy.FORBIDDEN),
        ("jjjj-1.1.1", Direction.EGRESS, "169.254.169.254", 80, 1, RefusedBy.FORBIDDEN),
        ("jjjj-1.1.1", Direction.EGRESS, "10.77.0.99", 443, 2, RefusedBy.EGRESS),
    }
    assert host.counters("jjjj-1").unlisted == ()


def test_after_a_scan_it_is_told_that_not_everything_refused_is_listed(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host)
    with namespaces.entered(host.network.place.sandbox("jjjj-1.0.1")):
        scanner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with scanner:
        for port in range(1, 5000):
            with suppress(PermissionError):
                scanner.sendto(b"", ("10.128.0.11", port))
    counted = host.counters("jjjj-1")
    assert len(counted.refused) == 4096
    assert counted.unlisted == ("jjjj-1.0.1",)


def test_an_allocation_fills_no_table_of_connections_but_its_own_share(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "OUTSIDE_AT_ONCE", 3)
    host, _ = lab.hosts
    host.converge(hub(host, host), sandbox("jjjj-1.0.1"))
    with lab.neighbour.outside.serves("outside", *(f"udp/10.77.0.99/{port}" for port in range(1, 6))):
        said = [host.member("jjjj-1.0.1").tries("10.77.0.99", port, "udp") for port in range(1, 6)]
    assert [word.split()[0] for word in said] == ["open", "open", "open", "EHOSTUNREACH", "EHOSTUNREACH"]
    assert host.counters("jjjj-1").crowded == 2
    assert host.drift() == ()


def test_questions_for_names_that_are_dropped_are_told(lab: Lab) -> None:
    host, _ = lab.hosts
    host.converge(hub(host, host), sandbox("jjjj-1.0.1"))
    with namespaces.entered(host.network.place.sandbox("jjjj-1.0.1")):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        for _ in range(2500):
            asking.sendto(b"?", ("10.128.0.1", 53))
    assert host.counters("jjjj-1").hasty > 0


def test_observe_lets_everything_pass_and_counts_what_it_would_have_refused(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host, Mode.OBSERVE)
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29500"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29500) == "open rank1 sees 10.128.0.10"
    refused = {(found.member, found.direction, found.peer, found.port) for found in host.counters("jjjj-1").refused}
    assert refused == {
        ("jjjj-1.0.1", Direction.EGRESS, "10.128.0.11", 29500),
        ("jjjj-1.1.1", Direction.INGRESS, "10.128.0.10", 29500),
    }


def test_off_means_no_rules_in_the_sandbox(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host, Mode.OFF)
    assert host.member("jjjj-1.0.1").run("nft", "list", "tables") == ""


def test_a_mode_that_changes_is_applied_to_the_sandbox_that_is_there(lab: Lab) -> None:
    host, _ = lab.hosts
    pair(host, Mode.OFF)
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29500"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29500).startswith("open")
        pair(host, Mode.ENFORCE)
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29500) == "ECONNREFUSED"


def test_ephemeral_ports_come_from_the_window_of_the_sandbox_alone(lab: Lab) -> None:
    host, _ = lab.hosts
    before = host.run("sysctl", "-n", "net.ipv4.ip_local_port_range")
    host.converge(hub(host, host), sandbox("jjjj-1.0.1", window=(40000, 40009)))
    ports = set()
    with namespaces.entered(host.network.place.sandbox("jjjj-1.0.1")):
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(10)]
    for listener in held:
        ports.add(listener.getsockname()[1])
        listener.close()
    assert ports == set(range(40000, 40010))
    assert host.run("sysctl", "-n", "net.ipv4.ip_local_port_range") == before


def test_rules_that_somebody_changed_are_noticed_and_the_hosts_are_restored(lab: Lab) -> None:
    host, _ = lab.hosts
    members = pair(host)
    assert host.drift() == ()
    host.run("nft", "add", "rule", "inet", "quorate", "inbound", "accept")
    host.member("jjjj-1.0.1").run("nft", "flush", "chain", "inet", "quorate", "outbound")
    host.hub("jjjj-1").run("nft", "add", "element", "inet", "quorate", "unreachable", "{ 192.0.2.1 }")
    assert host.drift() == ("host", "hub-jjjj-1", "sandbox-jjjj-1.0.1")
    host.converge(hub(host, host, host), *members, distrust=host.drift())
    assert host.drift() == ()


def test_traffic_is_no_drift(lab: Lab) -> None:
    host, far = lab.hosts
    host.converge(hub(host, host, far), sandbox("jjjj-1.0.1", PLANNED))
    far.converge(hub(far, host, far), sandbox("jjjj-1.1.1", PLANNED))
    with far.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400"):
        host.member("jjjj-1.0.1").tries("10.128.0.11", 29400)
        host.member("jjjj-1.0.1").tries("10.128.0.11", 1)
    assert host.drift() == far.drift() == ()


def test_a_full_packet_passes_whole_and_a_larger_one_is_refused_by_the_members_own_kernel(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", everything()))
    far.converge(hub(far, near, far), sandbox("jjjj-1.1.1", everything()))
    with far.member("jjjj-1.1.1").serves("rank1", "udp/10.128.0.11/5000"):
        assert near.member("jjjj-1.0.1").sends_whole(1450, "10.128.0.11", 5000) == "open rank1 sees 10.128.0.10"
        assert near.member("jjjj-1.0.1").sends_whole(1451, "10.128.0.11", 5000) == "EMSGSIZE"


def test_packets_of_the_overlay_forbid_routers_on_the_way_to_cut_them(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", everything()))
    with near.outside.overheard() as tap:
        near.member("jjjj-1.0.1").sends(b"hello", "10.128.0.11", 5000)
        frames = iter(lambda: tap.recv(2048), b"")
        outer = next(frame[14:] for frame in frames if b"hello" in frame and frame[12:14] == b"\x08\x00")
    # Don't fragment, in the third 16-bit word but one of the outer header (RFC 791, section 3.1).
    assert int.from_bytes(outer[6:8]) & 0x4000


def test_an_underlay_with_a_smaller_mtu_says_so_to_the_member(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", everything()))
    far.converge(hub(far, near, far), sandbox("jjjj-1.1.1", everything()))
    with far.member("jjjj-1.1.1").serves("rank1", "udp/10.128.0.11/5000"):
        near.run("ip", "link", "set", "u0", "mtu", "1400")
        member = near.member("jjjj-1.0.1")
        # The first one is lost, and comes back as the news of its size.
        wait_until(lambda: member.sends_whole(1450, "10.128.0.11", 5000) == "EMSGSIZE")
        assert member.sends_whole(1350, "10.128.0.11", 5000) == "open rank1 sees 10.128.0.10"


def test_an_overlay_over_ipv6_carries_full_packets(lab: Lab) -> None:
    for number, host in enumerate(lab.hosts):
        host.address = f"fd00:77::{10 + number}"
        host.run("ip", "address", "add", f"{host.address}/64", "dev", "u0", "nodad")
    near, far = lab.hosts
    mtu = mtu_of([1500, 1500], 6, encapsulated=True)
    near.converge(hub(near, near, far, mtu=mtu), sandbox("jjjj-1.0.1", everything()))
    far.converge(hub(far, near, far, mtu=mtu), sandbox("jjjj-1.1.1", everything()))
    with far.member("jjjj-1.1.1").serves("rank1", "udp/10.128.0.11/5000"):
        assert near.member("jjjj-1.0.1").sends_whole(1430, "10.128.0.11", 5000) == "open rank1 sees 10.128.0.10"


def test_ten_allocations_at_once_use_the_same_ports_and_subnet_without_collision(lab: Lab) -> None:
    near, far = lab.hosts
    allocations = [(f"job{number}-1", number) for number in range(1, 11)]
    for host, rank in ((near, 0), (far, 1)):
        host.converge(
            *(hub(host, near, far, allocation=allocation, vni=vni) for allocation, vni in allocations),
            *(sandbox(f"{allocation}.{rank}.1", PLANNED) for allocation, _ in allocations),
        )
    with ExitStack() as stack:
        for allocation, _ in allocations:
            stack.enter_context(far.member(f"{allocation}.1.1").serves(allocation, "tcp/10.128.0.11/29400"))
        for allocation, _ in allocations:
            seen = near.member(f"{allocation}.0.1").tries("10.128.0.11", 29400)
            assert seen == f"open {allocation} sees 10.128.0.10"


def test_a_member_of_a_gang_of_thousands_has_an_entry_for_each_of_the_others(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, *[far] * 2999, subnet="10.128.0.0/16"), sandbox("jjjj-1.0.1"))
    assert near.member("jjjj-1.0.1").run("ip", "neigh", "show", "nud", "permanent").count("\n") == 3000
    # Each twice: the bridge's, which says through which port, and the tunnel's, which says to which agent.
    assert near.hub("jjjj-1").run("bridge", "fdb", "show", "dev", "vx0").count("02:") >= 2 * 2999


def test_an_entry_that_the_kernel_refuses_is_an_error(lab: Lab) -> None:
    with namespaces.entered(lab.hosts[0].namespace), opened() as links, pytest.raises(LinkError, match="entry 1"):
        links.neighbours("u0", [("10.77.0.5", "02:00:00:00:00:05"), ("10.77.0.6", "02:00")])


def test_a_link_that_goes_while_it_is_waited_for_is_an_error_of_that_link(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with namespaces.entered(lab.hosts[0].namespace), opened() as links:
        # Down for ever; it goes in the first pause.
        links.make("leaves", "veth", peer={"ifname": "other"})
        monkeypatch.setattr("time.sleep", lambda _: links.remove("leaves"))
        with pytest.raises(LinkError, match="look at leaves"):
            links.settle("leaves")

"""Members of the hosts' network: an allocation opens its own flows alone, and only its machines open its ports."""

from __future__ import annotations

import msgspec
import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import Machine, across, machines, run
from tests.sandbox.hosts import Host, Lab

from quorate.agent.sandbox import build
from quorate.agent.sandbox.spec import Desired, HostMembers, Mode
from quorate.model.messages import AllocationSpec, HostsSpec
from quorate.network.flows import Transport

pytestmark = [pytest.mark.lab, pytest.mark.anyio]

MASTER = "10.77.0.99"
#: Users of two allocations, and somebody who is no member.
JJJJ, KKKK, STRANGER = 1_900_000_001, 1_900_000_002, 1234
REFUSED = "ECONNREFUSED"


def members(lab: Lab, allocation: str, user: int, leased: int = 29500, **more: object) -> HostMembers:
    """An allocation with a member on each host, which has leased one port on both."""
    machines = tuple(host.address for host in lab.hosts)
    known: dict[str, object] = {
        "mode": Mode.ENFORCE, "users": (user,), "leased": (leased,), "machines": machines,
        "flows": tuple((address, leased) for address in machines),
        "ranges": ((Transport.TCP, 32768, 60999),),
        "forbidden": (*(f"{address}/32" for address in machines), f"{MASTER}/32", "fd77::/64"), **more,
    }  # fmt: skip
    return HostMembers(allocation, **known)  # type: ignore[arg-type]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def two(lab: Lab) -> tuple[Host, Host]:
    """Allocations jjjj-1 and kkkk-1 with a member each on both hosts."""
    near, far = lab.hosts
    for host in (near, far):
        host.has_members(members(lab, "jjjj-1", JJJJ), members(lab, "kkkk-1", KKKK, 20000))
    return near, far


def test_a_member_opens_its_own_allocations_ports_on_its_machines(two: tuple[Host, Host]) -> None:
    near, far = two
    with far.outside.serves("far", "tcp/0.0.0.0/29500", "tcp/0.0.0.0/40000"):
        for port in (29500, 40000):
            assert near.outside.tries(far.address, port, user=JJJJ) == f"open far sees {near.address}"
    with near.outside.serves("near", "tcp/0.0.0.0/29500", "tcp/0.0.0.0/40000"):
        for address in (near.address, "127.0.0.1"):
            assert near.outside.tries(address, 29500, user=JJJJ).startswith("open near")
            assert near.outside.tries(address, 40000, user=JJJJ).startswith("open near")


def test_a_member_opens_no_port_of_another_allocation(two: tuple[Host, Host]) -> None:
    near, far = two
    with far.outside.serves("far", "tcp/0.0.0.0/29500"), near.outside.serves("near", "tcp/0.0.0.0/29500"):
        for address in (far.address, near.address, "127.0.0.1"):
            assert near.outside.tries(address, 29500, user=JJJJ).startswith("open"), address
            assert near.outside.tries(address, 29500, user=KKKK) == REFUSED, address


def test_rules_hold_also_where_what_was_counted_before_cannot_be_kept(
    lab: Lab, two: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an nft that does not take it."""
    near, _ = two
    monkeypatch.setattr(build, "carried", lambda before, host: "add element inet quorate none { 192.0.2.1 }\n")
    near.has_members(members(lab, "jjjj-1", JJJJ), members(lab, "kkkk-1", KKKK, 20001))
    with near.outside.serves("near", "tcp/0.0.0.0/20001"):
        assert near.outside.tries(near.address, 20001, user=KKKK).startswith("open near")
        assert near.outside.tries(near.address, 20001, user=JJJJ) == REFUSED


@pytest.mark.parametrize("port", [22, 9100])
def test_a_member_does_not_open_what_agents_and_the_master_listen_on(
    lab: Lab, two: tuple[Host, Host], port: int
) -> None:
    near, far = two
    with (
        near.outside.serves("near", f"tcp/0.0.0.0/{port}"), far.outside.serves("far", f"tcp/0.0.0.0/{port}"),
        lab.neighbour.outside.serves("master", f"tcp/0.0.0.0/{port}"),
    ):  # fmt: skip
        for address in (near.address, far.address, MASTER):
            # The machine's own programs, and people who are no members, are left alone.
            for user in (0, STRANGER):
                assert near.outside.tries(address, port, user=user).startswith("open"), address
            assert near.outside.tries(address, port, user=JJJJ) == REFUSED, address


def test_a_member_does_not_open_its_machines_services_by_loopback(two: tuple[Host, Host]) -> None:
    near, _ = two
    with near.outside.serves("near", "tcp/127.0.0.1/22", "tcp/127.0.0.1/8000"):
        assert near.outside.tries("127.0.0.1", 22).startswith("open near")
        assert near.outside.tries("127.0.0.1", 22, user=JJJJ) == REFUSED
        # What does not need root to listen may be its own.
        assert near.outside.tries("127.0.0.1", 8000, user=JJJJ).startswith("open near")


def test_names_and_the_outside_are_open_to_members(lab: Lab, two: tuple[Host, Host]) -> None:
    near, far = two
    lab.neighbour.run("ip", "address", "add", "10.77.0.201/24", "dev", "u0")
    with lab.neighbour.outside.serves("outside", "tcp/10.77.0.201/443"), far.outside.serves("dns", "udp/0.0.0.0/53"):
        assert near.outside.tries("10.77.0.201", 443, user=JJJJ).startswith("open outside")
        assert near.outside.tries(far.address, 53, "udp", user=JJJJ).startswith("open dns")


def test_a_leased_port_is_reached_from_the_allocations_machines_alone(lab: Lab, two: tuple[Host, Host]) -> None:
    near, far = two
    with near.outside.serves("near", "tcp/0.0.0.0/29500", "tcp/0.0.0.0/8000"):
        assert far.outside.tries(near.address, 29500, user=JJJJ) == f"open near sees {far.address}"
        assert lab.neighbour.outside.tries(near.address, 29500) == REFUSED
        # What is not leased is not ours to judge.
        assert lab.neighbour.outside.tries(near.address, 8000).startswith("open near")


def test_ipv6_is_held_alike(lab: Lab) -> None:
    near, far = lab.hosts
    for host, address in ((near, "fd77::10"), (far, "fd77::11"), (lab.neighbour, "fd77::99")):
        host.run("ip", "address", "add", f"{address}/64", "dev", "u0", "nodad")
    for host in (near, far):
        host.has_members(members(lab, "jjjj-1", JJJJ, machines=("fd77::10", "fd77::11"), flows=(("fd77::11", 29500),)))
    with far.outside.serves("far", "tcp/::/29500", "tcp/::/22"):
        assert near.outside.tries("fd77::11", 29500, user=JJJJ).startswith("open far")
        assert near.outside.tries("fd77::11", 22).startswith("open far")
        assert near.outside.tries("fd77::11", 22, user=JJJJ) == REFUSED
        assert refused(near, "jjjj-1") == {("egress", "fd77::11", 22): 1}
        assert lab.neighbour.outside.tries("fd77::11", 29500) == REFUSED


def test_a_token_opens_the_masters_api_alone(lab: Lab) -> None:
    near, _ = lab.hosts
    near.has_members(members(lab, "jjjj-1", JJJJ, api=((f"{MASTER}/32", 8443),)))
    with lab.neighbour.outside.serves("master", "tcp/0.0.0.0/22", "tcp/0.0.0.0/8443"):
        assert near.outside.tries(MASTER, 8443, user=JJJJ).startswith("open master")
        assert near.outside.tries(MASTER, 22, user=JJJJ) == REFUSED


def refused(host: Host, allocation: str) -> dict[tuple[str, str, int], int]:
    """Packets by direction, peer and port."""
    return {(one.direction.value, one.peer, one.port): one.packets for one in host.counters(allocation).refused}


def test_what_is_refused_is_counted_by_whom_it_was_and_stays_so_when_others_come_and_go(
    lab: Lab, two: tuple[Host, Host]
) -> None:
    near, far = two
    near.run("ip", "route", "add", "default", "via", lab.neighbour.address)
    near.has_members(members(lab, "jjjj-1", JJJJ), members(lab, "kkkk-1", KKKK, 20000), users=(JJJJ, KKKK))
    with far.outside.serves("far", "tcp/0.0.0.0/22"), near.outside.serves("near", "tcp/0.0.0.0/29500"):
        for _ in range(2):
            assert near.outside.tries(far.address, 22, user=JJJJ) == REFUSED
        assert near.outside.tries("169.254.169.254", 80, user=JJJJ) == REFUSED
        assert near.outside.tries("127.0.0.1", 29500, user=KKKK) == REFUSED
        assert lab.neighbour.outside.tries(near.address, 29500) == REFUSED
    of_jjjj = {
        ("egress", far.address, 22): 2, ("egress", "169.254.169.254", 80): 1,
        ("ingress", lab.neighbour.address, 29500): 1,
    }  # fmt: skip
    assert refused(near, "jjjj-1") == of_jjjj
    assert refused(near, "kkkk-1") == {("egress", "127.0.0.1", 29500): 1}
    near.has_members(members(lab, "jjjj-1", JJJJ))
    assert refused(near, "jjjj-1") == of_jjjj
    assert refused(near, "kkkk-1") == {}


def test_a_set_that_somebody_has_made_another_does_not_keep_the_rules_from_being_loaded(
    lab: Lab, two: tuple[Host, Host]
) -> None:
    near, far = two
    name = "refused_out_ip_jjjj-1"
    near.run("nft", "delete", "table", "inet", "quorate")
    other = f"set {name} {{\ntype ipv6_addr . inet_proto . inet_service\ncounter\nelements = {{ ::1 . tcp . 1 }}\n}}"
    near.run("nft", "-f", "-", text=f"table inet quorate {{\n{other}\n}}\n")
    near.has_members(members(lab, "jjjj-1", JJJJ))
    assert refused(near, "jjjj-1") == {}
    with far.outside.serves("far", "tcp/0.0.0.0/22"):
        assert near.outside.tries(far.address, 22, user=JJJJ) == REFUSED


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OFF])
def test_only_what_is_enforced_is_refused(lab: Lab, mode: Mode) -> None:
    near, far = lab.hosts
    near.has_members(members(lab, "jjjj-1", JJJJ, mode=mode))
    with near.outside.serves("near", "tcp/0.0.0.0/29500"), far.outside.serves("far", "tcp/0.0.0.0/22"):
        assert near.outside.tries(far.address, 22, user=JJJJ).startswith("open far")
        assert lab.neighbour.outside.tries(near.address, 29500).startswith("open near")
    counted = [line for line in near.run("nft", "list", "table", "inet", "quorate").splitlines() if "would be" in line]
    assert bool(counted) is (mode is Mode.OBSERVE)
    assert sum("packets 0" not in line for line in counted) == (2 if mode is Mode.OBSERVE else 0)
    tried = {("egress", far.address, 22): 1, ("ingress", lab.neighbour.address, 29500): 1}
    assert refused(near, "jjjj-1") == (tried if mode is Mode.OBSERVE else {})


def test_the_rules_of_an_allocation_go_with_it_and_others_keep_theirs(lab: Lab, two: tuple[Host, Host]) -> None:
    near, far = two
    near.has_members(members(lab, "kkkk-1", KKKK, 20000))
    with far.outside.serves("far", "tcp/0.0.0.0/22"):
        assert near.outside.tries(far.address, 22, user=JJJJ).startswith("open far")
        assert near.outside.tries(far.address, 22, user=KKKK) == REFUSED
    near.converge()
    assert near.run("nft", "list", "tables") == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"users": (0,)}, "UID of no member"),
        ({"flows": (("10.0.0.1", 0),)}, "no port"),
        ({"machines": ("10.0.0.1; flush ruleset",)}, "no address"),
        ({"flows": (("fe80::1%eth0", 1),)}, "one link"),
        ({"forbidden": ("fe80::%x/64",)}, "one link"),
        ({"ranges": ((Transport.TCP, 2, 1),)}, "no range"),
    ],
)
def test_members_of_the_host_that_cannot_be_are_refused_with_the_reason(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        members(Lab(None), "jjjj-1", JJJJ, **change)  # type: ignore[arg-type]


def test_one_user_and_one_port_are_one_allocations() -> None:
    one = HostMembers("jjjj-1", Mode.ENFORCE, (JJJJ,), (29500,))
    for other, why in (
        (HostMembers("kkkk-1", Mode.ENFORCE, (JJJJ,)), "one user"),
        (HostMembers("kkkk-1", Mode.ENFORCE, (), (29500,)), "leased twice"),
        (HostMembers("jjjj-1", Mode.OFF), "twice"),
    ):
        with pytest.raises(ValueError, match=why):
            Desired(on_host=(one, other))


# --- with agents -----------------------------------------------------------------------------------------------------

#: Says how it ends to connect to these, and stays.
_TRY = """
import socket, time
for place in {places!r}:
    try:
        print(place, socket.create_connection(place, 5).recv(100).decode().split()[0])
    except OSError as error:
        print(place, type(error).__name__)
time.sleep(600)
"""


def on_host(machine: Machine, *places: tuple[str, int], number: int = 1, **told: object) -> AllocationSpec:
    """A job with a member in the machine's own network, which tries to connect there."""
    spec = across(machine, script=_TRY.format(places=places), number=number)
    (member,) = spec.members
    member = msgspec.structs.replace(member, address=machine.host.address, ports={"main": 20000 + number}, underlay="")
    address = machine.host.address
    known = {"addresses": (address,), "forbidden": ("10.77.0.10/31", f"{MASTER}/32"), **told}
    hosts = HostsSpec(**known)  # type: ignore[arg-type]
    return msgspec.structs.replace(spec, members=(member,), network=None, hosts=hosts)


async def said(machine: Machine, spec: AllocationSpec, lines: int) -> list[str]:
    member = f"{spec.allocation}.0.1"
    await machine.peer.until(lambda: machine.peer.output(member).count(b"\n") == lines)
    return [line.split(") ")[1] for line in machine.peer.output(member).decode().splitlines()]


async def test_an_agent_holds_each_job_on_its_host_to_its_own_flows_through_its_next_life(lab: Lab) -> None:
    async with machines(lab) as (machine, _):
        near, far = lab.hosts
        with (
            near.outside.serves("near", "tcp/0.0.0.0/22", "tcp/0.0.0.0/8000"),
            far.outside.serves("far", "tcp/0.0.0.0/22"),
        ):
            one = on_host(machine)
            await run(one, machine)
            await machine.peer.state(f"{one.allocation}.0.1", "running")
            places = ((near.address, 8000), (near.address, 22), (far.address, 22), (near.address, 20001))
            other = on_host(machine, *places, number=2)
            await run(other, machine)
            assert await said(machine, other, 4) == ["near", *["ConnectionRefusedError"] * 3]
        assert not machine.peer.findings
        machine.agent.kill()
        with near.outside.serves("stranger", "tcp/0.0.0.0/20001"):
            assert lab.neighbour.outside.tries(near.address, 20001) == REFUSED
            machine.start()
            await machine.peer.until(lambda: len(machine.peer.hellos) == 2)
            await machine.peer.want((f"{other.allocation}.0.1",))
            await eventually(lambda: lab.neighbour.outside.tries(near.address, 20001).startswith("open stranger"))
        assert "20002 : jump" in near.run("nft", "list", "table", "inet", "quorate")
        await machine.peer.want(())
        await eventually(lambda: "jump" not in near.run("nft", "list", "table", "inet", "quorate"))


async def test_a_planned_job_opens_no_port_of_its_own_machine_that_its_plan_lacks(lab: Lab) -> None:
    async with machines(lab) as (machine, _):
        near, _ = lab.hosts
        with near.outside.serves("near", "tcp/0.0.0.0/8000"):
            spec = on_host(machine, (near.address, 8000), members="planned")
            await run(spec, machine)
            assert await said(machine, spec, 1) == ["ConnectionRefusedError"]


async def test_a_job_whose_user_is_others_too_is_told_of(lab: Lab) -> None:
    owners = {"ann": {"uid": 1234, "gid": 1234}}
    async with machines(lab, users={"owners": owners}) as (machine, _):
        spec = on_host(machine)
        await run(spec, machine)
        await machine.peer.until(lambda: bool(machine.peer.findings))
        (found,) = machine.peer.findings
        assert (found.code, found.member) == ("NET-UNFILTERED", f"{spec.allocation}.0.1")
        assert "user 1234, who is not its allocation's alone" in found.evidence
        await machine.peer.want(())
        await machine.peer.until(lambda: not machine.peer.findings)

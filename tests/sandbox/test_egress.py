"""Where members may go outside, and what they learn of names: all, none or named hosts; never the cloud's metadata."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import msgspec
import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import Machine, across, machines, run
from tests.sandbox.hosts import Inside, Lab

from quorate.agent.sandbox import namespaces

pytestmark = [pytest.mark.lab, pytest.mark.anyio]

#: Two services outside, on machines that the lab's neighbour stands for, and the metadata of its cloud.
_ZONE = {"good.example.": "10.77.0.201", "bad.example.": "10.77.0.202", "evil.example.": "169.254.169.254"}

#: Says for each `name or address` how it ends to connect to its port 80.
_TRY = """
import socket, sys
for host in {hosts!r}:
    try:
        connection = socket.create_connection((host, 80), 5)
        print(host, connection.recv(100).decode().split()[0])
    except OSError as error:
        print(host, type(error).__name__)
"""


@contextlib.contextmanager
def outside(lab: Lab) -> Iterator[None]:
    """A DNS server with the zone, and a service at each of its addresses."""
    with contextlib.ExitStack() as stack:
        for address in _ZONE.values():
            lab.neighbour.run("ip", "address", "add", f"{address}/32", "dev", "u0")
        for host in lab.hosts:
            host.run("ip", "route", "add", "169.254.169.254/32", "dev", "u0")
        stack.enter_context(Inside(lab.neighbour.namespace).serves("outside", "tcp/0.0.0.0/80"))
        with namespaces.entered(lab.neighbour.namespace):
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((lab.neighbour.address, 53))
        thread = threading.Thread(target=_serve_names, args=(server,))
        thread.start()
        try:
            yield
        finally:
            with namespaces.entered(lab.neighbour.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (lab.neighbour.address, 53))
            thread.join()


def _serve_names(server: socket.socket) -> None:
    while True:
        data, peer = server.recvfrom(4096)
        if not data:
            return
        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        asked = question.question[0]
        address = _ZONE.get(asked.name.to_text().lower())
        if address is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif asked.rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(asked.name, 5, "IN", "A", address))
        server.sendto(reply.to_wire(), peer)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def pair(lab: Lab) -> AsyncIterator[list[Machine]]:
    with outside(lab):
        async with machines(lab, dns=[lab.neighbour.address]) as made:
            yield made


async def outcomes(machine: Machine, *hosts: str, number: int = 1, **network: object) -> dict[str, str]:
    """How a member's attempts to reach these hosts end."""
    subnet = f"10.128.{number}.0/24"
    spec = across(machine, script=_TRY.format(hosts=hosts), number=number, subnet=subnet, **network)
    await run(spec, machine)
    member = f"{spec.allocation}.0.1"
    await machine.peer.state(member, "exited")
    await machine.peer.whole_log(member)
    return dict(line.split() for line in machine.peer.output(member).decode().splitlines())


async def test_with_egress_to_all_members_reach_the_outside_by_name_but_never_the_metadata(pair: list[Machine]) -> None:
    said = await outcomes(pair[0], "good.example", "10.77.0.202", "169.254.169.254", "evil.example", "no.example")
    assert said == {
        "good.example": "outside",
        "10.77.0.202": "outside",
        "169.254.169.254": "ConnectionRefusedError",
        "evil.example": "ConnectionRefusedError",
        "no.example": "gaierror",
    }


async def test_metadata_is_reached_where_the_job_asks_for_it(pair: list[Machine]) -> None:
    assert await outcomes(pair[0], "169.254.169.254", metadata=True) == {"169.254.169.254": "outside"}


async def test_with_egress_to_named_hosts_a_member_reaches_those_alone(pair: list[Machine]) -> None:
    hosts = ("10.77.0.201", "good.example", "bad.example", "10.77.0.202", "10.77.0.99")
    said = await outcomes(pair[0], *hosts, egress="named", hosts=("good.example", "10.77.0.99/32"), members="planned")
    assert said == {
        # Nobody has been told its address yet.
        "10.77.0.201": "ConnectionRefusedError",
        "good.example": "outside",
        "bad.example": "gaierror",
        "10.77.0.202": "ConnectionRefusedError",
        "10.77.0.99": "outside",
    }


async def test_a_name_that_leads_to_the_metadata_lets_nobody_there(pair: list[Machine]) -> None:
    said = await outcomes(pair[0], "evil.example", egress="named", hosts=("*.example",))
    assert said == {"evil.example": "ConnectionRefusedError"}


async def test_with_no_egress_a_member_reaches_nothing_and_knows_its_own_name(pair: list[Machine]) -> None:
    said = await outcomes(pair[0], "good.example", "10.77.0.201", "main1", egress="none")
    assert said == {"good.example": "gaierror", "10.77.0.201": "OSError", "main1": "ConnectionRefusedError"}


async def test_members_names_are_also_in_the_dns_of_their_allocation(pair: list[Machine]) -> None:
    script = """
import socket
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
question = bytes.fromhex("0001 0100 0001 0000 0000 0000") + b"\\x04sub1\\x00" + bytes.fromhex("0001 0001")
asked.sendto(question, ("10.128.0.1", 53))
print(".".join(map(str, asked.recv(512)[-4:])))
"""
    spec = across(*pair, script=script)
    await run(spec, *pair)
    for rank, machine in enumerate(pair):
        member = f"{spec.allocation}.{rank}.1"
        await machine.peer.state(member, "exited")
        await machine.peer.whole_log(member)
        assert machine.peer.output(member) == b"10.128.0.3\n"


async def test_who_reads_members_questions_has_no_rights_and_is_replaced_when_it_dies(pair: list[Machine]) -> None:
    machine = pair[0]
    said = await outcomes(machine, "good.example", egress="named", hosts=("good.example",))
    assert said == {"good.example": "outside"}
    child = machine.child("quorate.agent.resolver.child")
    status = _status(child)
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert (status["Groups"].split(), status["CapPrm"], status["NoNewPrivs"]) == ([], "0" * 16, "1")
    os.kill(child, signal.SIGKILL)
    # Of an allocation that was there before, and of another.
    question = dns.message.make_query("good.example.", "A")
    with namespaces.entered(next((machine.network / "namespaces").glob("sandbox-*"))):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.sendto(question.to_wire(), ("10.128.1.1", 53))
        asking.settimeout(10)
        answer = dns.message.from_wire(await asyncio.to_thread(asking.recv, 512))
    assert [str(found[0]) for found in answer.answer] == ["10.77.0.201"]
    said = await outcomes(machine, "good.example", number=2, egress="named", hosts=("good.example",))
    assert said == {"good.example": "outside"}


async def test_a_member_in_the_hosts_network_reaches_everything_but_the_metadata(pair: list[Machine]) -> None:
    machine = pair[0]
    spec = msgspec.structs.replace(
        across(machine, script=_TRY.format(hosts=("169.254.169.254", "10.77.0.201"))), network=None
    )
    await run(spec, machine)
    member = f"{spec.allocation}.0.1"
    await machine.peer.state(member, "exited")
    await machine.peer.whole_log(member)
    said = dict(line.split() for line in machine.peer.output(member).decode().splitlines())
    assert said == {"169.254.169.254": "ConnectionRefusedError", "10.77.0.201": "outside"}
    # What is not a member, such as the agent with its machine's identity, does.
    assert machine.host.outside.tries("169.254.169.254", 80).startswith("open outside")


async def test_a_member_under_a_user_of_the_operators_choice_does_not_reach_the_metadata_either(lab: Lab) -> None:
    owners = {"ann": {"uid": 1234, "gid": 1234}}
    with outside(lab):
        async with machines(lab, users={"owners": owners}) as (machine, *_):
            script = _TRY.format(hosts=("169.254.169.254", "10.77.0.201")) + "import time; time.sleep(600)"
            spec = msgspec.structs.replace(across(machine, script=script), network=None)
            await run(spec, machine)
            member = f"{spec.allocation}.0.1"
            await machine.peer.until(lambda: machine.peer.output(member).count(b"\n") == 2)
            said = dict(line.split() for line in machine.peer.output(member).decode().splitlines())
            assert said == {"169.254.169.254": "ConnectionRefusedError", "10.77.0.201": "outside"}
            # As long as it lives, also through the agent's next life.
            machine.agent.kill()
            machine.start(users={"owners": owners, "last": 1_900_000_042})
            await machine.peer.until(lambda: len(machine.peer.hellos) == 2)
            await eventually(lambda: "1900000042" in _rules(machine))
            assert "elements = { 1234 }" in _rules(machine)
            await machine.peer.want(())
            await eventually(lambda: "1234" not in _rules(machine))


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t") for line in lines if ":\t" in line)


def _rules(machine: Machine) -> str:
    return machine.host.run("nft", "list", "table", "inet", "quorate")


async def test_an_agent_that_ends_with_its_members_leaves_no_table(pair: list[Machine]) -> None:
    machine = pair[0]
    assert machine.agent.process is not None
    machine.agent.process.send_signal(signal.SIGUSR2)
    await asyncio.to_thread(machine.agent.process.wait, 20)
    assert machine.host.run("nft", "list", "tables") == ""

"""Members of a real agent in private networks: what they see, whom they reach, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import Machine, across, machines, run, standing_helper
from tests.sandbox.hosts import Inside, Lab

from quorate.agent import daemon, standing
from quorate.agent.helper.process import Taken
from quorate.model.asks import NETWORK

pytestmark = [pytest.mark.lab, pytest.mark.anyio]

#: Rank 0 says what it hears at its own name, rank 1 what it is told there; both say who and where they are.
_MEET = """
import os, socket
print(socket.gethostname(), socket.gethostbyname(socket.gethostname()), os.getuid() > 1000)
print(sorted(os.listdir("/sys/class/net")), [line.split()[1] for line in open("/proc/self/status") if "CapEff" in line])
if os.environ["QUORATE_RANK"] == "0":
    listener = socket.create_server(("main1", 29400))
    connection, peer = listener.accept()
    connection.sendall(b"hello " + peer[0].encode())
else:
    while True:
        try:
            print(socket.create_connection(("main1", 29400), 5).recv(100).decode())
            break
        except ConnectionRefusedError:
            pass
"""

#: Says hello to everybody, for ever.
_ANSWER = """
import socket
listener = socket.create_server(("0.0.0.0", 29400))
while True:
    listener.accept()[0].sendall(b"hello")
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def pair(lab: Lab) -> AsyncIterator[list[Machine]]:
    async with machines(lab) as made:
        yield made


async def test_members_of_two_agents_meet_by_name_each_in_a_network_of_its_own(pair: list[Machine]) -> None:
    spec = across(*pair, script=_MEET)
    await run(spec, *pair)
    outputs = []
    for rank, machine in enumerate(pair):
        member = f"{spec.allocation}.{rank}.1"
        status = await machine.peer.state(member, "exited")
        await machine.peer.whole_log(member)
        assert status.exit is not None and status.exit.code == 0, machine.peer.logs[member]
        outputs.append(machine.peer.output(member).decode().splitlines())
    bare = "['eth0', 'lo'] ['0000000000000000']"
    assert outputs[0] == ["main1 10.128.0.2 True", bare]
    assert outputs[1] == ["sub1 10.128.0.3 True", bare, "hello 10.128.0.3"]
    for machine in pair:
        assert "sandbox" in machine.peer.hellos[-1].features
        assert machine.peer.hellos[-1].mtu == 1500
        await machine.peer.want(())
        await eventually(lambda m=machine: m.left() == [])


async def test_what_a_member_leaves_in_a_temporary_folder_is_nowhere_else(pair: list[Machine]) -> None:
    name = f"quorate-{os.getpid()}"
    spec = across(pair[0], script=f'import os; open("/var/tmp/{name}", "w"); print(os.listdir("/var/tmp"))')
    await run(spec, pair[0])
    member = f"{spec.allocation}.0.1"
    await pair[0].peer.state(member, "exited")
    await pair[0].peer.whole_log(member)
    assert pair[0].peer.output(member).decode() == f"['{name}']\n"
    assert not (Path("/var/tmp") / name).exists()


async def test_a_helper_killed_while_it_makes_networks_is_replaced_and_the_members_start(pair: list[Machine]) -> None:
    killed = pair[0].helper()
    os.kill(killed, signal.SIGKILL)
    spec = across(*pair, script="print('up')")
    await run(spec, *pair)
    await eventually(lambda: (pair[0].network / "namespaces" / f"hub-{spec.allocation}").exists())
    with suppress(ProcessLookupError):
        os.kill(pair[0].helper(), signal.SIGKILL)
    for rank, machine in enumerate(pair):
        status = await machine.peer.state(f"{spec.allocation}.{rank}.1", "exited")
        assert status.exit is not None and status.exit.code == 0
    assert pair[0].helper() not in (0, killed)


@pytest.mark.parametrize("seen", ["hub-*", "sandbox-*"])
async def test_an_agent_killed_while_it_makes_networks_leaves_nothing_behind(pair: list[Machine], seen: str) -> None:
    machine = pair[0]
    spec = across(*pair, script="import time; time.sleep(600)")
    await run(spec, machine)
    await eventually(lambda: any((machine.network / "namespaces").glob(seen)))
    machine.agent.kill()
    machine.start()
    await machine.peer.until(lambda: len(machine.peer.hellos) == 2)
    await machine.peer.want(())
    await eventually(lambda: machine.left() == [])


async def test_members_keep_their_network_through_a_new_agent_and_it_goes_with_them(pair: list[Machine]) -> None:
    machine = pair[0]
    spec = across(machine, machine, script=_ANSWER)
    first, second = (f"{spec.allocation}.{rank}.1" for rank in (0, 1))
    await run(spec, machine)
    await machine.peer.state(first, "running")
    await machine.peer.state(second, "running")
    inside = Inside(machine.network / "namespaces" / f"sandbox-{second}")
    await eventually(lambda: inside.tries("10.128.0.2", 29400) == "open hello")
    shims = [machine.agent.shim(member) for member in (first, second)]
    machine.agent.kill()
    assert inside.tries("10.128.0.2", 29400) == "open hello"
    machine.start()
    await machine.peer.until(lambda: len(machine.peer.hellos) == 2)
    assert [machine.agent.shim(member) for member in (first, second)] == shims
    assert inside.tries("10.128.0.2", 29400) == "open hello"
    await machine.peer.want(())
    await eventually(lambda: machine.left() == [])


async def test_the_lock_on_a_machines_networks_goes_with_the_agent_that_has_it(pair: list[Machine]) -> None:
    machine = pair[0]
    lock = Path("/run/quorate") / f"network-{machine.host.namespace.stat().st_ino}.lock"
    assert lock.exists()
    assert machine.agent.terminate() == 0
    assert not lock.exists()


async def test_a_network_that_cannot_be_made_fails_its_members_alone_with_the_reason(pair: list[Machine]) -> None:
    machine = pair[0]
    # The VNI is somebody else's on this host.
    machine.host.run(
        "ip", "link", "add", "theirs", "type", "vxlan", "id", "101", "dstport", "4789", "local", "10.77.0.10"
    )
    broken = across(*pair, script="print('up')", number=1)
    whole = across(machine, machine, script="print('up')", number=2, subnet="10.128.1.0/24")
    await run(broken, machine)
    await run(whole, machine)
    status = await machine.peer.state(f"{broken.allocation}.0.1", "failed")
    assert status.code == "SANDBOX-FAILED"
    assert "vx0" in status.reason
    await machine.peer.state(f"{whole.allocation}.0.1", "exited")
    machine.host.run("ip", "link", "del", "theirs")


async def test_members_of_two_allocations_with_one_subnet_do_not_reach_each_other(pair: list[Machine]) -> None:
    one, other = (across(*pair, script=_ANSWER, number=number) for number in (1, 2))
    await run(one, *pair)
    await run(other, *pair)
    for spec in (one, other):
        for rank, machine in enumerate(pair):
            await machine.peer.state(f"{spec.allocation}.{rank}.1", "running")
    mine = Inside(pair[1].network / "namespaces" / f"sandbox-{one.allocation}.1.1")
    await eventually(lambda: mine.tries("10.128.0.2", 29400) == "open hello")
    shim = pair[0].agent.shim(f"{one.allocation}.0.1")
    await pair[0].peer.want(tuple(m for m in pair[0].peer.wanted if not m.startswith(one.allocation)))
    await eventually(lambda: not Path(f"/proc/{shim}").exists())
    # The other one's rank 0 has the same address, and listens.
    assert mine.tries("10.128.0.2", 29400) != "open hello"


async def test_counters_are_told_of_what_passed(pair: list[Machine]) -> None:
    spec = across(*pair, script=_MEET)
    await run(spec, *pair)
    for rank, machine in enumerate(pair):
        await machine.peer.state(f"{spec.allocation}.{rank}.1", "exited")
    told = await pair[0].peer.ask(NETWORK, {"allocation": spec.allocation})
    assert any(count["flow"] == "open" and count["packets"] for count in told["flows"]), told


async def test_rules_that_somebody_changes_are_told_of_and_mended(lab: Lab) -> None:
    async with machines(lab, drift_check_s=0.2) as pair:
        machine = pair[0]
        spec = across(*pair, script=_ANSWER)
        await run(spec, *pair)
        await machine.peer.state(f"{spec.allocation}.0.1", "running")
        inside = Inside(machine.network / "namespaces" / f"sandbox-{spec.allocation}.0.1")
        inside.run("nft", "flush", "chain", "inet", "quorate", "inbound")
        await machine.peer.until(lambda: any(f.code == "NET-DRIFT" for f in machine.peer.findings))
        await eventually(lambda: "reject" in inside.run("nft", "list", "chain", "inet", "quorate", "inbound"))
        await machine.peer.until(lambda: not machine.peer.findings)
        inside.run("ip", "link", "del", "eth0")
        await eventually(lambda: "10.128.0.2/24" in inside.run("ip", "-brief", "address"))


async def test_an_agent_uses_the_machines_own_helper_where_there_is_one(lab: Lab, tmp_path: Path) -> None:
    path, folder = tmp_path / "helper.sock", tmp_path / "kept"
    with standing_helper(lab.hosts[0], path, folder):
        await eventually(path.is_socket)
        del lab.hosts[1]
        async with machines(lab, helper=str(path)) as (machine,):
            spec = across(machine, script=_ANSWER)
            await run(spec, machine)
            await machine.peer.state(f"{spec.allocation}.0.1", "running")
            assert machine.helper() == 0
            assert (folder / "namespaces" / f"sandbox-{spec.allocation}.0.1").exists()
            await machine.peer.want(())
            await eventually(lambda: not list((folder / "namespaces").iterdir()))


async def test_what_a_dead_agent_has_left_at_the_machines_helper_goes_when_it_is_ended(
    lab: Lab, tmp_path: Path
) -> None:
    path, folder = tmp_path / "helper.sock", tmp_path / "kept"
    with standing_helper(lab.hosts[0], path, folder):
        await eventually(path.is_socket)
        del lab.hosts[1]
        async with machines(lab, helper=str(path)) as (machine,):
            spec = across(machine, script=_ANSWER)
            await run(spec, machine)
            await machine.peer.state(f"{spec.allocation}.0.1", "running")
            with pytest.raises(Taken, match="another agent uses the helper"):
                standing.use(path, tmp_path)
            machine.agent.kill()
            another = tmp_path / "another"
            another.mkdir()
            os.close(standing.use(path, another))
            standing.sweep(machine.agent.state)
            # By now they may be another agent's.
            assert list((folder / "namespaces").iterdir())
            os.close(standing.use(path, machine.agent.state))
            assert await asyncio.to_thread(daemon.end, machine.agent.state)
            assert not list((folder / "namespaces").iterdir())


async def test_another_programs_rules_that_keep_members_in_are_told_of_with_the_remedy(lab: Lab) -> None:
    async with machines(lab, drift_check_s=0.2) as pair:
        machine = pair[0]
        machine.host.run("nft", "-f", "-", text="table inet theirs {\nchain forward {\n"
                         "type filter hook forward priority 0; policy drop;\n}\n}\n")  # fmt: skip
        spec = across(*pair, script=_ANSWER)
        await run(spec, machine)
        await machine.peer.until(lambda: any(f.code == "NET-OBSTACLE" for f in machine.peer.findings))
        (found,) = machine.peer.findings
        assert "inet theirs forward" in found.evidence
        for command in found.remedy.split(" && "):
            machine.host.run("sh", "-c", command)
        await machine.peer.until(lambda: not machine.peer.findings)

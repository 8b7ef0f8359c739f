"""Members of a real agent in private networks: what they see, whom they reach, and that nothing of them is left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import Machine, across, machines, run
from tests.sandbox.hosts import Lab

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

"""One agent that sends without end costs the master no memory to speak of, and holds up nobody else."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from websockets.asyncio.client import ClientConnection

from quorate.master.store import LOCK_WAIT_S
from quorate.model.messages import Heartbeat, HeartbeatAck, MasterMessage, MemberStatus, Report, encode

from .serving import MasterProcess, hear, hello, say

CONTROL = "/agent/v1/control"
MIB = 1024 * 1024
#: What the flood is in all, and what of it may be in the master's memory: some messages, read and unread.
FLOOD_MIB, HELD_MIB = 300, 60


@contextmanager
def locked(master: MasterProcess) -> Iterator[None]:
    """Another program has the master's database, so no batch is committed: as on a disk that stands still."""
    with closing(sqlite3.connect(master.state / "master.db", isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        yield


def most_memory(master: MasterProcess) -> int:
    """The most memory that the process ever had, in MiB."""
    assert master.process is not None
    with open(f"/proc/{master.process.pid}/status") as status:  # noqa: PTH123 (no file of a disk)
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def test_who_floods_its_link_is_read_no_faster_than_the_core_takes_it_in(own_master: MasterProcess) -> None:
    keys = {name: own_master.join(name) for name in "ab"}
    large = Report(1, (MemberStatus("nobody-1.0.1", "starting", reason="x" * MIB),))

    async def story() -> None:
        async with own_master.link(CONTROL, keys["a"]) as flooding, own_master.link(CONTROL, keys["b"]) as other:
            await say(flooding, hello("a"))
            await say(other, hello("b"))
            await hear(flooding), await hear(flooding), await hear(other), await hear(other)
            before = most_memory(own_master)
            data = encode(large)

            async def send() -> None:
                for _ in range(FLOOD_MIB):
                    await flooding.send(data)

            async def listen() -> None:
                while True:
                    await flooding.recv()

            with locked(own_master):
                # A commit that cannot come to its end.
                operator = asyncio.create_task(asyncio.to_thread(_make_a_token, own_master))
                flood, listening = asyncio.create_task(send()), asyncio.create_task(listen())
                # A master that goes on reading has all of it long before that.
                done, _ = await asyncio.wait((flood,), timeout=LOCK_WAIT_S / 3)
                assert not done
            await operator
            await say(other, Heartbeat(7, 1.5))
            assert await _next_ack(other) == HeartbeatAck(7, 1.5)
            await flood
            listening.cancel()
            assert most_memory(own_master) - before < HELD_MIB

    asyncio.run(asyncio.wait_for(story(), 60))


def _make_a_token(master: MasterProcess) -> None:
    with master.client() as client:
        assert client.post("/api/v1/tokens", json={"kind": "join"}).status_code == 201


async def _next_ack(link: ClientConnection) -> MasterMessage:
    while not isinstance(message := await hear(link), HeartbeatAck):
        pass
    return message

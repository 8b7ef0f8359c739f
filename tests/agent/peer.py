"""A master reduced to its two links: sends what a test tells it to, and keeps what comes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from quorate.agent.link import CONTROL_PATH
from quorate.model.logframes import Stream, decode_frames
from quorate.model.messages import (
    AllocationSpec,
    Answer,
    Ask,
    Desired,
    EpochMark,
    Heartbeat,
    HeartbeatAck,
    Hello,
    LogAck,
    LogChunk,
    LogRefuse,
    MasterMessage,
    MemberStatus,
    PlannedMember,
    Report,
    ReportAck,
    Welcome,
    decode_from_agent,
    encode,
)

#: Of this process alone: what is marked with a member's id on this machine is its own.
JOB = f"t{os.getpid():07x}"
#: Long enough for a loaded machine; a test that waits for it has failed.
DEADLINE_S = 20.0


def spec(
    entrypoint: tuple[str, ...],
    allocation: str = f"{JOB}-1",
    agents: tuple[str, ...] = ("alpha",),
    **more: object,
) -> AllocationSpec:
    members = tuple(
        PlannedMember(rank, "main" if rank == 0 else "sub", max(1, rank), f"m{rank}", agent, "127.0.0.1", (0,))
        for rank, agent in enumerate(agents)
    )
    settings: dict = {"environment": {}, "grace_s": 5.0, "start_timeout_s": 60.0}
    settings.update(more)
    return AllocationSpec(
        allocation=allocation, job=allocation.split("-")[0], attempt=1, nonce="ab" * 32, name="test", owner="ann",
        entrypoint=entrypoint, launcher="none", members=settings.pop("members", members), **settings,
    )  # fmt: skip


@dataclass
class Peer:
    """What the master of a test knows."""

    statuses: dict[str, MemberStatus] = field(default_factory=dict)
    findings: tuple = ()
    logs: dict[str, bytearray] = field(default_factory=dict)
    hellos: list[Hello] = field(default_factory=list)
    generation: int = 0
    heartbeat_s: float = 10.0
    port: int = 0
    #: Acknowledge logs; a test may stop that.
    ack_logs: bool = True
    history: dict[str, list[str]] = field(default_factory=dict)
    _members: tuple[str, ...] = ()
    _specs: dict[str, AllocationSpec] = field(default_factory=dict)
    _stop: dict[str, str] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    _asked: int = 0
    control: ServerConnection | None = None
    log_link: ServerConnection | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Waits until the condition holds; looked at again whenever something comes in."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def state(self, member: str, state: str) -> MemberStatus:
        await self.until(lambda: member in self.statuses and self.statuses[member].state == state)
        return self.statuses[member]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The members that the agent should have."""
        return self._members

    async def run(self, member: str, allocation: AllocationSpec) -> None:
        await self.want((*self._members, member), allocation)

    async def want(self, members: tuple[str, ...], *specs: AllocationSpec, stop: dict[str, str] | None = None) -> None:
        self._members, self._stop = members, stop or {}
        self._specs |= {spec.allocation: spec for spec in specs}
        await self.until(lambda: self.control is not None)
        await self._send_desired()

    async def _send_desired(self) -> None:
        self.generation += 1
        await self.send(Desired(1, self.generation, self._members, tuple(self._specs.values()), self._stop))

    async def send(self, message: MasterMessage) -> None:
        assert self.control is not None
        await self.control.send(encode(message))

    async def ask(self, what: str, body: object) -> Any:
        """The agent's answer."""
        self._asked += 1
        number = self._asked
        await self.send(Ask(number, what, json.dumps(body).encode()))
        await self.until(lambda: number in self.answers)
        answer = self.answers[number]
        assert not answer.error, answer.error
        return json.loads(answer.body)

    async def whole_log(self, member: str) -> bytes:
        """The log, once all that the agent has of it is here."""
        await self.until(lambda: member in self.logs or self.statuses[member].log_bytes == 0)
        await self.until(lambda: len(self.logs.get(member, b"")) >= self.statuses[member].log_bytes)
        return bytes(self.logs.get(member, b""))

    def output(self, member: str, stream: Stream = Stream.STDOUT) -> bytes:
        frames = decode_frames(bytes(self.logs.get(member, b"")))
        return b"".join(frame.data for frame in frames if frame.stream is stream)

    async def serve_link(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        with suppress(ConnectionClosed):
            await self._serve(connection)

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        if connection.request.path == CONTROL_PATH:
            await self._serve_control(connection)
        else:
            await self._serve_logs(connection)

    async def _serve_control(self, connection: ServerConnection) -> None:
        try:
            await self._talk(connection)
        finally:
            if self.control is connection:
                self.control = None

    async def _talk(self, connection: ServerConnection) -> None:
        async for data in connection:
            message = decode_from_agent(data)
            if isinstance(message, Hello):
                self.hellos.append(message)
                self._take(message.members)
                self.control = connection
                self.generation += 1
                history = (EpochMark(1, "m1", 1),)
                await self.send(Welcome(1, "0", "cluster", 1, "m1", self.generation, history, self.heartbeat_s))
                if self._members:
                    await self._send_desired()
            elif isinstance(message, Report):
                self._take(message.members)
                self.findings = message.findings
                await self.send(ReportAck(message.sequence))
            elif isinstance(message, Answer):
                self.answers[message.sequence] = message
            elif isinstance(message, Heartbeat):
                await self.send(HeartbeatAck(message.sequence, message.sent))
            self._changed.set()

    def _take(self, members: tuple[MemberStatus, ...]) -> None:
        for status in members:
            self.statuses[status.member] = status
            self.history.setdefault(status.member, []).append(status.state)

    async def _serve_logs(self, connection: ServerConnection) -> None:
        self.log_link = connection
        async for data in connection:
            chunk = decode_from_agent(data)
            assert isinstance(chunk, LogChunk)
            log = self.logs.setdefault(chunk.member, bytearray())
            if chunk.offset > len(log):
                await connection.send(encode(LogRefuse(chunk.member, len(log), "gap")))
                continue
            already = len(log) - chunk.offset
            again = chunk.data[:already]
            assert log[chunk.offset : chunk.offset + len(again)] == again, "what came again is not what came before"
            log += chunk.data[already:]
            if self.ack_logs:
                await connection.send(encode(LogAck(chunk.member, len(log))))
            self._changed.set()


@asynccontextmanager
async def master(peer: Peer | None = None) -> AsyncIterator[Peer]:
    """A peer that listens on loopback; its port stays the same if it is given again."""
    peer = peer or Peer()
    async with serve(peer.serve_link, "127.0.0.1", peer.port, compression=None, max_size=None) as server:
        peer.port = server.sockets[0].getsockname()[1]
        yield peer

"""Thousands of agents on one master: real connections from this process, a heartbeat each ten seconds.

Measured are the master's processor time while nothing else happens, its memory for each agent, and how long it takes
until all are back after a `kill -9` of the master.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import resource
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop
from harness import summary, write
from lone_master import LoneMaster, lone_master

from quorate.model.messages import (
    PROTOCOL,
    AgentMessage,
    Heartbeat,
    HeartbeatAck,
    Hello,
    SlotInfo,
    Welcome,
    decode_from_master,
    encode,
)

HEARTBEAT_S = 10.0
SLOTS = 8


@dataclass
class Seen:
    """What all agents together have seen."""

    welcomed: int = 0
    sent_away: int = 0
    #: Seconds from a heartbeat to its acknowledgement.
    round_trips: list[float] = field(default_factory=list)
    over: bool = False
    wanted: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def welcome(self) -> None:
        """One more agent is welcomed."""
        self.welcomed += 1
        if self.welcomed == self.wanted:
            self.enough.set()

    async def all_welcomed(self, count: int) -> None:
        """Returns when every agent has been welcomed."""
        self.wanted = count
        if self.welcomed < count:
            self.enough.clear()
            await self.enough.wait()


class Agent(asyncio.Protocol):
    """One agent, with just as much of WebSocket (RFC 6455) as it needs."""

    def __init__(self, number: int, port: int, seen: Seen) -> None:
        self.number, self.port, self.seen = number, port, seen
        self.buffer = b""
        self.open = False
        self.beats = 0
        self.pause_s = 0.0

    async def dial(self) -> None:
        """Until it is connected; agents come from many addresses, for one has too few ports."""
        loop = asyncio.get_running_loop()
        address = (f"127.0.1.{self.number % 200 + 1}", 0)
        while not self.seen.over:
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self.port, local_addr=address)
                return
            except OSError:
                await asyncio.sleep(random.uniform(0.2, 0.8))

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer, self.open, self.pause_s = transport, b"", False, 0.0
        lines = (
            "GET /agent/v1/control HTTP/1.1", "Host: bench", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            f"Authorization: Bearer {key_of(self.number)}", "", "",
        )  # fmt: skip
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.open and not self._handshake():
            return
        while (message := self._message()) is not None:
            if isinstance(message, Welcome):
                self.seen.welcome()
                asyncio.get_running_loop().call_later(random.uniform(0, HEARTBEAT_S), self._beat)
            elif isinstance(message, HeartbeatAck):
                self.seen.round_trips.append(time.monotonic() - message.sent)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.seen.over:
            pause = self.pause_s + random.uniform(0.1, 0.8)
            asyncio.get_running_loop().call_later(pause, self._dial_again)

    def _dial_again(self) -> None:
        self.dialling = asyncio.ensure_future(self.dial())

    def _handshake(self) -> bool:
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head[:20]:
            self.seen.sent_away += 1
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self.pause_s = float(headers.get(b"retry-after", b"1"))
            self.transport.close()
            return False
        self.open, self.buffer = True, rest
        slots = tuple(SlotInfo(n, "gpu", f"GPU-{self.number}-{n}", "bench") for n in range(SLOTS))
        address = f"10.0.{self.number // 250}.{self.number % 250}"
        self._send(Hello(PROTOCOL, "bench", name_of(self.number), "boot", address, address, slots, "bench"))
        return True

    def _message(self) -> Any:
        if len(self.buffer) < 2:
            return None
        length, at = self.buffer[1] & 127, 2
        if length >= 126:
            at = 4 if length == 126 else 10
            length = int.from_bytes(self.buffer[2:at], "big")
        if len(self.buffer) < at + length:
            return None
        kind, payload, self.buffer = self.buffer[0] & 15, self.buffer[at : at + length], self.buffer[at + length :]
        if kind == 8:
            self.transport.close()
            return None
        return decode_from_master(payload)

    def _beat(self) -> None:
        if not self.transport.is_closing():
            self.beats += 1
            self._send(Heartbeat(self.beats, time.monotonic()))
            asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    def _send(self, message: AgentMessage) -> None:
        data = encode(message)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        # Masked by zero, which is a mask like any other.
        self.transport.write(b"\x82" + length + b"\0\0\0\0" + data)


def name_of(number: int) -> str:
    """The agent's name."""
    return f"bench{number}"


def key_of(number: int) -> str:
    """The agent's key."""
    return f"qa1.bench-{number}"


async def join(master: LoneMaster, count: int) -> None:
    """Lets all agents in by one token."""
    async with master.client() as client:
        token = (await client.post("/api/v1/tokens", json={"kind": "join"})).json()["token"]
        few = asyncio.Semaphore(20)

        async def one(number: int) -> None:
            key_hash = hashlib.sha256(key_of(number).encode()).hexdigest()
            body = {"token": token, "name": name_of(number), "key_hash": key_hash}
            async with few:
                (await client.post("/agent/v1/join", json=body)).raise_for_status()

        await asyncio.gather(*map(one, range(count)))


async def measure(master: LoneMaster, count: int, seconds: float, restarts: int) -> dict[str, Any]:
    """All figures."""
    await join(master, count)
    seen = Seen()
    empty = master.memory_mib()
    agents = [Agent(number, master.port, seen) for number in range(count)]
    await asyncio.gather(*(agent.dial() for agent in agents))
    await seen.all_welcomed(count)
    await asyncio.sleep(HEARTBEAT_S)
    memory = master.memory_mib() - empty
    shares = []
    seen.round_trips.clear()
    for _ in range(max(1, round(seconds / HEARTBEAT_S))):
        began, used = time.monotonic(), master.cpu_s()
        await asyncio.sleep(HEARTBEAT_S)
        shares.append((master.cpu_s() - used) / (time.monotonic() - began) * 100)
    round_trips = sorted(trip * 1000 for trip in seen.round_trips)
    back, sent_away = [], 0
    for _ in range(restarts):
        master.kill()
        seen.welcomed = seen.sent_away = 0
        await asyncio.to_thread(master.start)
        began = time.monotonic()
        await seen.all_welcomed(count)
        back.append(time.monotonic() - began)
        sent_away += seen.sent_away
    seen.over = True
    return {
        "agents": count,
        "percent_of_one_core": summary(shares, 2),
        "kib_per_agent": round(memory * 1024 / count, 1),
        "heartbeat_ms": {
            "median": round(round_trips[len(round_trips) // 2], 2),
            "p99": round(round_trips[int(len(round_trips) * 0.99)], 2),
        },
        "all_back_s": summary(back, 2),
        "sent_away": sent_away,
    }


def main() -> None:
    """Measures and writes bench/results/many_agents.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=5000)
    arguments.add_argument("--seconds", type=float, default=150.0)
    arguments.add_argument("--restarts", type=int, default=3)
    arguments.add_argument("--port", type=int, default=18431)
    given = arguments.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with lone_master(given.port) as master:
        figures = uvloop.run(measure(master, given.agents, given.seconds, given.restarts))
    how = (
        f"{given.agents} agents with {SLOTS} slots each, connections from one other process on the same machine, a "
        f"heartbeat each {HEARTBEAT_S:g} s; processor time of the master over intervals of {HEARTBEAT_S:g} s; "
        "after a kill -9 the time from listening again until the last welcome"
    )
    write("many_agents", figures, how=how)


if __name__ == "__main__":
    main()

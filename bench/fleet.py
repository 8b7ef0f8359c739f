"""Many agents in one process: the shipped core and codec, a key and two links for each; no members, no disks.

Not a benchmark: the other side of some. `python bench/fleet.py` reads {"url", "token", "agents"} from stdin, whose end
ends the fleet. Told on stdout, a JSON object a line, with the moment by CLOCK_MONOTONIC: that all have joined, that all
are welcome (again), that the first of them has lost its master.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import resource
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import thinlink
import uvloop
from websockets.exceptions import ConnectionClosed

from quorate import __version__
from quorate.agent.core import Core
from quorate.agent.events import Action, CloseLink, Event, LinkDown, LinkUp, Received, Recovered, Send, Ticked
from quorate.agent.identity import Identity
from quorate.agent.journal import MemoryJournal
from quorate.agent.link import CONTROL_PATH, LOGS_PATH, Endpoint, Link, keep
from quorate.agent.processes import boottime
from quorate.model.messages import SlotInfo, decode_from_master, encode

JOINS_AT_ONCE = 16
#: Agents that are started in a second: they share one process, which must not drown in its own handshakes.
STARTS = 200


class SimulatedAgent:
    """An agent with both of its links, which it keeps as every agent does."""

    def __init__(self, name: str, number: int, url: str, key: str, connected: Callable[[bool], None]) -> None:
        """`connected` hears when the master has welcomed the agent, and when it has lost it."""
        self.endpoint = Endpoint(url, key, None)
        identity = Identity(
            agent=name,
            version=__version__,
            boot=f"boot-{name}",
            host=f"host-{name}",
            address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            slots=tuple(SlotInfo(index) for index in range(8)),
            instance=secrets.token_hex(8),
        )
        self.core = Core(identity, MemoryJournal())
        self.core.handle(Recovered(), boottime())
        self._connected = connected
        self._was_connected = False
        self._welcome = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: asyncio.Queue[Send] = asyncio.Queue()
        self._link: Link | None = None

    async def run(self) -> None:
        """For ever."""
        await asyncio.gather(
            keep(self.endpoint, CONTROL_PATH, self._control),
            keep(self.endpoint, LOGS_PATH, self.use_logs, self._welcome.wait),
        )

    def tell(self, event: Event) -> None:
        """An event for the core; does what the core says."""
        for action in self.core.handle(event, boottime()):
            self.do(action)
        if self.core.connected is not self._was_connected:
            self._was_connected = self.core.connected
            (self._welcome.set if self._was_connected else self._welcome.clear)()
            self._connected(self._was_connected)
        if self._timer is not None:
            self._timer.cancel()
        now = boottime()
        due = self.core.next_tick(now)
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(due - now, self.tell, Ticked())

    def do(self, action: Action) -> None:
        """What the core wants; this agent never gets work."""
        if isinstance(action, Send):
            self._outgoing.put_nowait(action)
        elif isinstance(action, CloseLink) and self._link is not None:
            self._closing = asyncio.ensure_future(self._link.close())

    async def use_logs(self, link: Link) -> None:
        """The log link; there is nothing to send."""
        async for _ in link:
            pass

    async def _control(self, link: Link) -> None:
        self._link, self._outgoing = link, asyncio.Queue()
        writing = asyncio.create_task(self._write(link))
        try:
            self.tell(LinkUp())
            async for message in link:
                self.tell(Received(message))
        finally:
            self._link = None
            writing.cancel()
            self.tell(LinkDown())

    async def _write(self, link: Link) -> None:
        with suppress(ConnectionClosed):
            while True:
                await link.send((await self._outgoing.get()).message)


class ThinAgent(SimulatedAgent):
    """The same over links that cost this process next to nothing (thinlink.py): it holds thousands of them."""

    _thin: thinlink.ThinLink | None = None

    async def run(self) -> None:
        await asyncio.gather(
            thinlink.keep(self.endpoint, CONTROL_PATH, self._use_control),
            thinlink.keep(self.endpoint, LOGS_PATH, self._hold, self._welcome.wait),
        )

    def do(self, action: Action) -> None:
        if self._thin is None:
            return
        if isinstance(action, Send):
            self._thin.send(encode(action.message))
        elif isinstance(action, CloseLink):
            self._thin.close()

    async def _use_control(self, link: thinlink.ThinLink) -> None:
        self._thin = link
        link.on_message = lambda data: self.tell(Received(decode_from_master(data)))
        try:
            self.tell(LinkUp())
            await link.closed
        finally:
            self._thin = None
            self.tell(LinkDown())

    @staticmethod
    async def _hold(link: thinlink.ThinLink) -> None:
        await link.closed


class Muster:
    """Counts who is connected, and says when all are, and when no longer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._present = 0

    def changed(self, connected: bool) -> None:
        whole = self._present == self._size
        self._present += 1 if connected else -1
        if self._present == self._size:
            say("all")
        elif whole:
            say("lost")


def say(what: str, **more: object) -> None:
    print(json.dumps({"is": what, "at": time.monotonic(), **more}), flush=True)


async def join(client: httpx.AsyncClient, gate: asyncio.Semaphore, token: str, name: str) -> str:
    """A key for the agent of this name."""
    key = f"qa1.{secrets.token_urlsafe(32)}"
    async with gate:
        body = {"token": token, "name": name, "key_hash": hashlib.sha256(key.encode()).hexdigest()}
        (await client.post("/agent/v1/join", json=body)).raise_for_status()
    return key


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < 2 * order["agents"] + 100:
        raise SystemExit(f"{order['agents']} agents need more than {most} open files (ulimit -Hn)")
    names = [f"agent-{number:05}" for number in range(order["agents"])]
    gate = asyncio.Semaphore(JOINS_AT_ONCE)
    async with httpx.AsyncClient(base_url=order["url"], timeout=60, trust_env=False) as client:
        keys = await asyncio.gather(*(join(client, gate, order["token"], name) for name in names))
    say("joined", agents=len(keys))
    muster = Muster(len(names))
    agents = [
        ThinAgent(name, number, order["url"], key, muster.changed)
        for number, (name, key) in enumerate(zip(names, keys, strict=True))
    ]
    gc.freeze()
    running = []
    for agent in agents:
        running.append(asyncio.ensure_future(agent.run()))
        await asyncio.sleep(1 / STARTS)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done, _ = await asyncio.wait([*running, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()


if __name__ == "__main__":
    uvloop.run(main())

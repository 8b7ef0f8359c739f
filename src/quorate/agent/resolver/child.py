"""The process that answers members' questions for names: as nobody, with the sockets that it is handed and no others.

It reads bytes that members write, which its agent, who is root, must not. It ends with its agent.
"""

import asyncio
import encodings.idna  # noqa: F401 (needed when a host is named, when it cannot be read any more)
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import dns.asyncbackend
import dns.asyncquery
import dns.message
import dns.rdata
import dns.rrset

from quorate.agent import syscalls
from quorate.agent.helper.client import HelperError
from quorate.agent.helper.protocol import ProtocolError, receive, send
from quorate.agent.resolver.forwarder import RESOLV_CONF, Forwarder, Pace, Serving, Zone, nameservers
from quorate.agent.resolver.protocol import ADMITTING, Admit, Admitted, Drop, Serve, Told, told

log = logging.getLogger(__name__)

#: Of the kernel's own, for whom a file belongs to nobody known (user_namespaces(7)).
NOBODY = 65534


class Child:
    """All allocations' resolvers, in the event loop."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pace = Pace()
        self._serving: dict[str, Serving] = {}
        self._numbers = count()
        self._admitting: dict[int, asyncio.Future[None]] = {}
        self._sending = threading.Lock()
        self._threads = ThreadPoolExecutor(ADMITTING)

    async def run(self) -> None:
        """Until the agent's end of the channel is closed."""
        heard: asyncio.Queue[tuple[Told, list[int]] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._hear, args=(loop, heard), daemon=True).start()
        while (message := await heard.get()) is not None:
            await self._do(*message)

    def _hear(self, loop: asyncio.AbstractEventLoop, heard: "asyncio.Queue[tuple[Told, list[int]] | None]") -> None:
        while True:
            try:
                message: tuple[Told, list[int]] | None = receive(self._channel, told)
            except (OSError, ProtocolError):
                message = None
            loop.call_soon_threadsafe(heard.put_nowait, message)
            if message is None:
                return

    async def _do(self, message: Told, descriptors: list[int]) -> None:
        match message:
            case Serve(allocation, members, hosts, servers):
                zone = Zone(allocation, members, hosts)
                asked, listener = (socket.socket(fileno=descriptor) for descriptor in descriptors)
                admit = partial(self._admit, allocation)
                forwarder = Forwarder(zone, partial(_upstream, servers), admit, self._pace)
                self._serving[allocation] = serving = Serving(zone, forwarder)
                await serving.open(asked, listener)
            case Drop(allocation):
                if (dropped := self._serving.pop(allocation, None)) is not None:
                    dropped.close()
            case Admitted(number, error):
                if (waiting := self._admitting.pop(number, None)) is not None and not waiting.done():
                    waiting.set_exception(HelperError(error)) if error else waiting.set_result(None)

    async def _admit(self, allocation: str, addresses: dict[str, int]) -> None:
        number = next(self._numbers)
        waiting = self._admitting[number] = asyncio.get_running_loop().create_future()
        await asyncio.get_running_loop().run_in_executor(self._threads, self._say, Admit(number, allocation, addresses))
        await waiting

    def _say(self, message: Admit) -> None:
        with self._sending:
            send(self._channel, message)


def main() -> int:
    """`python -m quorate.agent.resolver.child`, with the channel to its agent as its standard input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with socket.socket(fileno=os.dup(0)) as channel:
        child = Child(channel)
        _import_all()
        drop_rights()
        asyncio.run(child.run())
    return 0


def _upstream(servers: Sequence[str]) -> Sequence[str]:
    return servers or nameservers(RESOLV_CONF)


def _import_all() -> None:
    """What is otherwise imported when it is needed: nobody may not be let into the folders of this installation."""
    dns.asyncbackend.get_backend("asyncio")
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]


def drop_rights() -> None:
    """For good; one that is not root stays who it is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


if __name__ == "__main__":
    sys.exit(main())

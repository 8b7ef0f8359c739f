"""The agent's side of its allocations' resolvers: sockets from the helper go to a process that is nobody.

What that process asks for is addresses to let in, for allocations with egress to named hosts; the helper checks them.
"""

import asyncio
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from quorate.agent.helper.client import Helper, HelperError
from quorate.agent.helper.protocol import ProtocolError, receive_alone, send
from quorate.agent.resolver.forwarder import Zone
from quorate.agent.resolver.protocol import ADMITTING, Admit, Admitted, Drop, Serve, Told, asked
from quorate.agent.sandbox.spec import Egress, HubSpec
from quorate.model.messages import AllocationSpec

log = logging.getLogger(__name__)

#: A process that does not take what it is told for so long is ended, and started anew.
_PATIENCE_S: Final = 2
#: The pause before one that died is started again.
_PAUSE_S: Final = 0.5


@dataclass(frozen=True)
class _Served:
    message: Serve
    #: Kept for the next process, should this one die.
    sockets: tuple[socket.socket, socket.socket]


@dataclass
class Resolvers:
    """The resolvers of all hubs with a way out. `servers`: whom to ask instead of the machine's own."""

    helper: Helper
    servers: tuple[str, ...] = ()
    _served: dict[str, _Served] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _channel: socket.socket | None = None
    #: Over all of the above, and what is sent.
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _admitting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(ADMITTING))
    #: Not the loop's own, which everything else needs, too.
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(ADMITTING, "quorate-admit"))

    async def keep(self, hubs: Mapping[str, tuple[HubSpec, AllocationSpec]], made: set[str]) -> dict[str, str]:
        """Resolvers for these allocations, those `made` anew among them, and for no others; returns why not, by
        allocation."""
        self.only(hubs.keys() - made)
        failures = {}
        for allocation, (hub, spec) in hubs.items():
            if hub.egress is Egress.NONE or allocation in self._served:
                continue
            try:
                await asyncio.to_thread(self._serve, hub, Zone.of(hub, spec))
            except (HelperError, OSError) as error:
                failures[allocation] = f"its resolver: {error}"
        return failures

    def only(self, allocations: "set[str]") -> None:
        """The others' resolvers end: their sockets would keep a hub alive."""
        with self._lock:
            for allocation in self._served.keys() - allocations:
                _close(self._served.pop(allocation))
                self._tell(Drop(allocation))

    def close(self) -> None:
        """All of them end, and their process."""
        self._closing.set()
        with self._lock:
            self.only(set())
            if self._channel is not None:
                self._channel.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown(wait=False)

    def _serve(self, hub: HubSpec, zone: Zone) -> None:
        sockets = self.helper.resolver(hub.allocation, hub.gateway)
        served = _Served(Serve(hub.allocation, dict(zone.members), zone.hosts, self.servers), sockets)
        with self._lock:
            self._served[hub.allocation] = served
            if self._process is not None:
                self._tell(served.message, *sockets)
                return
            try:
                self._start()
            except OSError:
                _close(self._served.pop(hub.allocation))
                raise

    def _start(self) -> None:
        """A new process, that serves what the one before it did."""
        own, childs = socket.socketpair()
        # Of sending alone: it may say nothing for days.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _PATIENCE_S, 0))
        with childs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "quorate.agent.resolver.child"],
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ.get("PATH", os.defpath)},
                stdin=childs.fileno(),
                # Ctrl-C is for the agent.
                start_new_session=True,
                cwd="/",
            )
        self._channel = own
        for served in self._served.values():
            self._tell(served.message, *served.sockets)
        threading.Thread(target=self._hear, args=(self._process, own), name="resolvers", daemon=True).start()

    def _tell(self, message: Told, *sockets: socket.socket) -> None:
        if self._channel is None or self._process is None:
            return
        try:
            send(self._channel, message, *(each.fileno() for each in sockets))
        except (OSError, ProtocolError) as error:
            # Whatever it has heard, the next one hears all.
            log.warning("the process that answers members' questions for names does not listen: %s", error)
            self._process.kill()

    def _hear(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        """What it asks for, until it dies; then another one is started."""
        with suppress(OSError, ProtocolError, RuntimeError):
            while True:
                wanted = receive_alone(channel, asked)
                # Whatever it is that asks: no more is remembered of it than can be done.
                self._admitting.acquire()
                self._threads.submit(self._admit, wanted)
        process.kill()
        code = process.wait()
        if self._closing.is_set():
            channel.close()
            return
        log.warning("the process that answers members' questions for names ended with %d; starting another", code)
        while not self._closing.wait(_PAUSE_S):
            with self._lock:
                channel.close()
                self._channel = None
                try:
                    self._start()
                    return
                except OSError as error:
                    log.error("it cannot be started: %s", error)

    def _admit(self, wanted: Admit) -> None:
        try:
            self.helper.admit(wanted.allocation, self._allowed(wanted))
            error = ""
        except (HelperError, ValueError) as failure:
            error = str(failure)
        finally:
            self._admitting.release()
        with self._lock:
            self._tell(Admitted(wanted.number, error))

    def _allowed(self, wanted: Admit) -> dict[str, int]:
        with self._lock:
            served = self._served.get(wanted.allocation)
        if served is None or served.message.hosts is None:
            raise ValueError(f"{wanted.allocation} has no egress to named hosts here")
        return wanted.addresses


def _close(served: _Served) -> None:
    for each in served.sockets:
        each.close()

"""The running agent: feeds its core with what happens, and does what the core says."""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed

from quorate.agent import memberfolder
from quorate.agent.answers import Answers
from quorate.agent.config import AgentConfig, MembersAs
from quorate.agent.core import Core
from quorate.agent.devices import GPU
from quorate.agent.events import (
    Action,
    CloseLink,
    EndAll,
    Event,
    FindingsChanged,
    Forget,
    GiveUp,
    LinkDown,
    LinkUp,
    Received,
    Send,
    Shipped,
    Start,
    Stop,
    Sweep,
    Ticked,
)
from quorate.agent.gathering import Gathering
from quorate.agent.identity import Identity
from quorate.agent.inspecting import Inspecting
from quorate.agent.journal import FileJournal
from quorate.agent.link import CONTROL_PATH, LOGS_PATH, Endpoint, Link, Refused, keep
from quorate.agent.members import Members
from quorate.agent.membership import MEMBERSHIP
from quorate.agent.networks import NO_RULES, Networks, no_counters
from quorate.agent.orders import Machine
from quorate.agent.platform import at_hand
from quorate.agent.preparing import Supplies
from quorate.agent.privilege import Privilege
from quorate.agent.probing import Probing
from quorate.agent.processes import boottime
from quorate.agent.progress import Progress
from quorate.agent.proxy import Proxy
from quorate.agent.runtime.containers import Containers
from quorate.agent.shipments import OutOfStep, Shipments
from quorate.agent.streams import Streams
from quorate.agent.users import UserPool
from quorate.agent.zygote import Zygote
from quorate.model.asks import NETWORK, STREAM
from quorate.model.messages import AgentMessage, Ask, LogAck, LogRefuse

log = logging.getLogger(__name__)

#: Ends the agent and all its members; SIGTERM and SIGINT end the agent alone.
END_ALL_SIGNAL = signal.SIGUSR2
#: A timer runs on a clock that stands still while the machine sleeps, so it is set for this long at most.
_LONGEST_TIMER_S = 5.0
#: Exit code after a failure of the agent itself (EX_SOFTWARE).
_FAILED = 70
#: How long an agent that ends with its members waits for the master to hear of it.
_LAST_WORD_S = 2.0
#: A master that refuses this agent's key is asked again, for as long as members live, at this pace.
_REFUSED_PAUSE_S = 30.0


class Service:
    """One agent from its start to its end. Made in the event loop."""

    def __init__(
        self,
        config: AgentConfig,
        identity: Identity,
        endpoint: Endpoint,
        supplies: Supplies,
        zygote: Callable[[], Zygote],
        users: UserPool | None,
        privilege: Privilege | None = None,
        containers: Containers | None = None,
    ) -> None:
        """`privilege`: the helper that makes private networks; none where this agent can have none.

        `containers`: what runs members with an image; none where this machine has no engine.
        """
        self._endpoint = endpoint
        self._membership = config.state_dir / MEMBERSHIP
        self._core = Core(identity, FileJournal(config.state_dir))
        self._shipments = Shipments()
        self._networks: Networks | None = None
        # Whoever has switched networks off, or runs members as the agent, need not be told that they share the machine.
        self._tells_no_rules = privilege is None and config.sandboxes and config.members_as is not MembersAs.SELF
        if privilege is not None:
            self._networks = Networks(
                privilege.helper,
                privilege.place,
                identity.address,
                lambda findings: self.tell(FindingsChanged(findings, "network")),
                config.dns,
                (config.users.first, config.users.last),
                config.drift_check_s,
            )
        self._containers = containers
        platform = at_hand()
        self._members = Members(
            config.state_dir / memberfolder.ALL,
            zygote,
            Machine(identity.slots, config.environment, _proxy(config), dict(os.environ), platform=platform),
            users,
            supplies,
            self.tell,
            self._log_grew,
            lambda findings: self.tell(FindingsChanged(findings)),
            self._networks,
            containers,
        )
        #: What the master may ask; whoever can answer something registers it here.
        self.answers = Answers()
        Probing(
            identity.agent,
            identity.address,
            config.leasable,
            endpoint.url,
            self.answers,
            lambda: bool(self._core.members.networked),
        )
        Inspecting(lambda: self._core.members.allocated, self._members.folder, self.answers, platform)
        Gathering(self._members, self.answers)
        spins = any(slot.kind == GPU for slot in identity.slots)
        Progress(lambda: self._core.members.live, self._members.folder, self.answers, spins=spins)
        self.answers.register(NETWORK, self._networks.answer if self._networks is not None else no_counters)
        self._streams = Streams(endpoint, self._members.folder)
        self.answers.register(STREAM, self._streams.answer)
        self._events: deque[Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: asyncio.Queue[AgentMessage] = asyncio.Queue()
        self._link: Link | None = None
        #: Set while the master's welcome holds.
        self._welcome = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        #: Set whenever a log may have something to send.
        self._log_work = asyncio.Event()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._gave_up: str | None = None
        self._ending = False

    async def run(self) -> int:
        """Until the agent is told to end, or its master will never have it; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0)
        loop.add_signal_handler(END_ALL_SIGNAL, self._end_all)
        known = (*self._core.members.live, *self._core.members.ended)
        acknowledged = {member: self._shipments.follow(member, self._members.folder(member)) for member in known}
        if self._networks is not None:
            live, allocated = self._core.members.live, self._core.members.allocated
            await self._networks.recover(allocated, self._members.pauses(live), self._members.on_host(live))
        self.tell(await self._members.recover(self._core.members.live, self._core.members.ended))
        if self._tells_no_rules:
            self.tell(FindingsChanged((NO_RULES,), "network"))
        if self._containers is not None and self._containers.findings:
            self.tell(FindingsChanged(self._containers.findings, "state"))
        for member, offset in acknowledged.items():
            self.tell(Shipped(member, offset))
        await self._members.settle(self._core.members.live)
        self._members.keep_spare()
        links = [
            asyncio.create_task(self._keep(CONTROL_PATH, self._use_control)),
            # After the welcome: what lets agents in at a rate after a master's restart then holds for both links.
            asyncio.create_task(self._keep(LOGS_PATH, self._use_logs, self._welcome.wait)),
        ]
        try:
            ends: set[asyncio.Future[Any]] = {self._over, *links}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in links:
                if task.done() and not self._over.done():
                    log.critical("a link failed and the agent ends; its members run on", exc_info=task.exception())
                    self._end(_FAILED)
            return self._over.result()
        finally:
            for task in links:
                task.cancel()
            await asyncio.gather(*links, return_exceptions=True)
            if self._networks is not None:
                await self._networks.close(self._core.members.live)

    # --- events and actions ------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event for the core. Its actions may bring about more events, which come after it."""
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                for action in self._core.handle(self._events.popleft(), boottime()):
                    self._do(action)
        except Exception:
            # What the core holds may be wrong now. Members outlive this process, and the next one looks at them anew.
            log.critical("the agent failed and ends; its members run on", exc_info=True)
            self._end(_FAILED)
        finally:
            self._handling = False
        self._set_timer()
        self._end_if_nothing_is_left()

    def _do(self, action: Action) -> None:
        match action:
            case Send(message):
                self._outgoing.put_nowait(message)
            case Start(member, spec):
                log.info("starting member %s", member)
                self._members.start(member, spec)
                # A new life of the name: nothing is there yet, and the shim says when that changes.
                self._shipments.follow(member, self._members.folder(member))
            case Stop(member, reason, echo, grace_s):
                log.info("stopping member %s: %s", member, reason)
                self._members.stop(member, reason, echo, grace_s)
            case Sweep(member):
                self._members.sweep(member)
            case Forget(member):
                self._shipments.drop(member)
                self._members.forget(member)
            case CloseLink(reason):
                log.warning("closing the link: %s", reason)
                self._close_link()
            case GiveUp(code, sentence):
                self._gave_up = f"{code}: {sentence}"

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = boottime()
        due = self._core.next_tick(now)
        if due is not None:
            delay = min(due - now, _LONGEST_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self.tell, Ticked())

    # --- the end -----------------------------------------------------------------------------------------------

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)

    def _end_all(self) -> None:
        log.info("ending all members, then this agent")
        self._ending = True
        self.tell(EndAll("the agent was told to end its members"))

    def _end_if_nothing_is_left(self) -> None:
        if self._core.members.live or self._over.done():
            return
        if self._gave_up is not None:
            log.error("%s", self._gave_up)
            self._end(1)
        elif self._ending:
            if self._core.settled and self._core.connected:
                self._end(0)
            else:
                asyncio.get_running_loop().call_later(_LAST_WORD_S, self._end, 0)

    # --- the control link --------------------------------------------------------------------------------------

    async def _keep(
        self,
        path: str,
        use: Callable[[Link], Awaitable[None]],
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        while True:
            try:
                await keep(self._endpoint, path, use, ready)
            except Refused as refused:
                if not self._core.members.live:
                    self._gave_up = f"{refused}; to join anew, remove {self._membership} and give a token"
                    self._end_if_nothing_is_left()
                    await asyncio.get_running_loop().create_future()
                log.error("%s; members run on, and it is tried again", refused)
                await asyncio.sleep(_REFUSED_PAUSE_S)

    async def _use_control(self, link: Link) -> None:
        self._outgoing = asyncio.Queue()
        self._link = link
        writer = asyncio.create_task(self._write(link, self._outgoing))
        try:
            self.tell(LinkUp())
            async for message in link:
                if isinstance(message, Ask):
                    self.answers.take(message, self._outgoing.put_nowait, trusted=self._core.connected)
                    continue
                was = self._core.connected
                self.tell(Received(message))
                if self._core.connected and not was:
                    log.info("connected to %s", self._endpoint.url)
                    self._welcome.set()
                    self._log_work.set()
        finally:
            self._link = None
            self._welcome.clear()
            self.answers.drop()
            writer.cancel()
            self.tell(LinkDown())

    @staticmethod
    async def _write(link: Link, outgoing: "asyncio.Queue[AgentMessage]") -> None:
        with suppress(ConnectionClosed):
            while True:
                await link.send(await outgoing.get())

    def _close_link(self) -> None:
        if self._link is not None:
            task = asyncio.ensure_future(self._link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # --- logs --------------------------------------------------------------------------------------------------

    def _log_grew(self, member: str, size: int) -> int:
        size = self._shipments.grew(member, size)
        self._log_work.set()
        return size

    async def _use_logs(self, link: Link) -> None:
        self._shipments.restart()
        reader = asyncio.create_task(self._read_answers(link))
        try:
            while not reader.done():
                # A store that has gone back knows less than its logs: it is sent nothing until it is trusted again.
                chunk = self._shipments.take() if self._core.connected else None
                if chunk is not None:
                    await link.send(chunk)
                    continue
                self._log_work.clear()
                work = asyncio.ensure_future(self._log_work.wait())
                await asyncio.wait((work, reader), return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_answers(self, link: Link) -> None:
        try:
            async for message in link:
                if isinstance(message, LogAck | LogRefuse):
                    progress = self._shipments.answered(message)
                    self._log_work.set()
                    if progress is not None:
                        self.tell(Shipped(progress.member, progress.offset, progress.whole))
        except OutOfStep as error:
            log.warning("the logs begin again where the master has them: %s", error)
            await link.close()


def _proxy(config: AgentConfig) -> Proxy | None:
    if config.proxy is None:
        return None
    master = urlsplit(config.master).hostname
    return Proxy(config.proxy.url, (*([master] if master else []), *config.proxy.no_proxy))


def host_id(boot: str) -> str:
    """Agents that share it share their ports: boot id and network namespace."""
    return f"{boot}:{Path('/proc/self/ns/net').stat().st_ino}"

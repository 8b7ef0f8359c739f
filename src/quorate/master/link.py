"""The agents' links: who may open one, what comes in becomes an event, what goes out waits in a bounded queue.

These are raw ASGI applications: five thousand idle links cost what the server itself costs for them, and no framework
stands between a heartbeat and its acknowledgement (docs/decisions/0002).
"""

import asyncio
import itertools
import logging
import random
import time
from typing import Final

import msgspec

from quorate.master.acks import Acks, Unsynced
from quorate.master.admission import Admission
from quorate.master.ahead import Ahead
from quorate.master.asks import Asks
from quorate.master.auth import Failures, agent_of, bearer, revoked_agent_of
from quorate.master.events import (
    AgentConnected,
    AgentDisconnected,
    AgentHeartbeat,
    AgentHeldLease,
    AgentRegressed,
    AgentReported,
)
from quorate.master.logs import MAX_CHUNK_BYTES, LogStore
from quorate.master.outgoing import GOING_AWAY, POLICY, Outgoing, Receive, Scope, Send, run_until_either_ends
from quorate.master.transitions.links import wrong_protocol
from quorate.master.usage import Usage
from quorate.master.writer import Writer, now
from quorate.model.ids import AgentId
from quorate.model.messages import (
    FIRST_PROTOCOL_WITH_ASKS,
    MAX_MESSAGE_BYTES,
    AgentMessage,
    Answer,
    Heartbeat,
    Hello,
    LeaseHeld,
    LogChunk,
    LogRefuse,
    MasterMessage,
    MessageError,
    Refuse,
    Regressed,
    Report,
    decode_from_agent,
    encode,
)
from quorate.model.problem import MEDIA_TYPE, Problem
from quorate.model.state import MemberState

log = logging.getLogger(__name__)


CONTROL_PATH: Final = "/agent/v1/control"
LOGS_PATH: Final = "/agent/v1/logs"

#: Reports of nothing but these may wait a moment for others.
_GOING_ON: Final = frozenset({MemberState.STARTING, MemberState.RUNNING})
#: The hello must come within this after the link is open.
HELLO_TIMEOUT_S: Final = 10.0
#: A link that says nothing for so many heartbeats is closed; its agent is declared silent by other timers.
SILENT_HEARTBEATS: Final = 6


class _AnyHello(msgspec.Struct, tag="hello", tag_field="t"):
    """What every protocol's hello has, however else it differs."""

    protocol: int
    version: str = "?"


_any_hello = msgspec.msgpack.Decoder(_AnyHello)


class Control:
    """One agent's control link."""

    def __init__(self, number: int, agent: AgentId, protocol: int) -> None:
        self.number = number
        self.agent = agent
        self.protocol = protocol
        self.out = Outgoing()
        self.heard = now()


class Links:
    """All links of agents, and the ASGI applications behind their two paths."""

    def __init__(self, writer: Writer, logs: LogStore, failures: Failures, *, heartbeat_s: float) -> None:
        self._writer = writer
        self._feed = writer.feed
        self._feed_soon = writer.feed_soon
        self._logs = logs
        self._failures = failures
        self._silence_s = SILENT_HEARTBEATS * heartbeat_s
        self._numbers = itertools.count(1)
        self._control: dict[int, Control] = {}
        self._log_links: set[Outgoing] = set()
        self._admission = Admission()
        self._unsynced = Unsynced()
        self._stopping = False
        self.usage = Usage(lambda: writer.core.state, writer.feed_soon)
        self.asks = Asks(self._of_agent, lambda agent: agent in writer.core.state.agents)

    # --- what the core wants ---------------------------------------------------------------------------------

    def send(self, number: int, message: MasterMessage) -> None:
        """Sends on a control link; one that is gone swallows it."""
        link = self._control.get(number)
        if link is not None:
            link.out.put(message)

    def close(self, number: int, refuse: Refuse | None) -> None:
        """Ends a control link, saying why if there is a reason."""
        link = self._control.get(number)
        if link is not None:
            if refuse is not None:
                link.out.put(refuse)
            link.out.close(POLICY if refuse is not None else GOING_AWAY)

    def _of_agent(self, agent: str) -> Control | None:
        """The link on which the agent was welcomed; another one may be on its way to be refused."""
        live = self._writer.core.state.live.get(agent)
        return self._control.get(live.link) if live is not None and live.link is not None else None

    def can_ask(self, agent: str) -> bool:
        """Whether the agent is connected and understands questions."""
        link = self._of_agent(agent)
        return link is not None and link.protocol >= FIRST_PROTOCOL_WITH_ASKS

    @property
    def connected(self) -> int:
        """Control links that have said hello."""
        return len(self._control)

    def close_all(self) -> None:
        """The master stops: every link ends in order, new ones are sent away."""
        self._stopping = True
        for link in list(self._control.values()):
            link.out.close(GOING_AWAY)
        for out in list(self._log_links):
            out.close(GOING_AWAY)

    async def close_silent(self) -> None:
        """Closes links on which nothing came for too long, for ever: for a task of its own."""
        while True:
            await asyncio.sleep(self._silence_s / 4)
            horizon = now() - self._silence_s
            for link in list(self._control.values()):
                if link.heard < horizon:
                    log.info("agent %s: nothing heard for %.0f s, closing its link", link.agent, self._silence_s)
                    link.out.close(GOING_AWAY)

    # --- ASGI ------------------------------------------------------------------------------------------------

    async def control(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WS /agent/v1/control."""
        agent = await self._let_in(scope, receive, send, admit=True)
        if agent is None:
            return
        hello = await _first_message(receive, send, agent)
        if hello is None:
            return
        link = Control(next(self._numbers), agent, hello.protocol)
        self._control[link.number] = link
        self._feed(AgentConnected(now=now(), wall=time.time(), link=link.number, agent=agent, hello=hello))
        try:
            await run_until_either_ends(link.out, send, self._read_control(link, receive))
        finally:
            link.out.closing = True
            del self._control[link.number]
            self.asks.lost(link.number)
            self._feed(AgentDisconnected(now=now(), wall=time.time(), link=link.number, agent=agent))

    async def logs(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WS /agent/v1/logs."""
        agent = await self._let_in(scope, receive, send, admit=False)
        if agent is None:
            return
        out = Outgoing()
        self._log_links.add(out)
        try:
            await run_until_either_ends(out, send, self._read_logs(agent, out, receive))
        finally:
            self._log_links.discard(out)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, *, admit: bool) -> AgentId | None:
        """Accepts the link of an agent that may open one, else answers why not."""
        await receive()
        if self._stopping:
            await deny(send, _problem(503, "STOPPING", "the master stops"), retry_after=1)
            return None
        state = self._writer.core.state
        key = bearer(dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"))
        agent = agent_of(state, key)
        if agent is None:
            client = scope.get("client")
            wait = self._failures.failed(client[0] if client else "", now())
            # An agent that was away when its key was revoked has members to end: it may say hello, and is told.
            agent = revoked_agent_of(state, key) if admit and not wait else None
            if agent is None:
                await deny(send, _KEY_UNKNOWN, retry_after=round(wait + 0.5) or None)
                return None
        elif admit and not await self._has_its_turn(send):
            return None
        await send({"type": "websocket.accept"})
        return AgentId(agent)

    async def _has_its_turn(self, send: Send) -> bool:
        """Waits for a moment at which one more agent may come in, or tells it to come again later."""
        wait_s = self._admission.wait(now())
        if wait_s is None:
            after = self._admission.retry_after(random.random())  # noqa: S311, spreads load, guards nothing
            await deny(send, _problem(503, "BUSY", "too many agents come at once"), retry_after=after)
            return False
        await asyncio.sleep(wait_s)
        return True

    async def _read_control(self, link: Control, receive: Receive) -> None:
        ahead = Ahead(self._writer)
        while (come := await _next_message(receive, link.out, link.agent)) is not None:
            message, size = come
            link.heard = now()
            at, wall, number, agent = link.heard, time.time(), link.number, link.agent
            match message:
                case Heartbeat():
                    self._feed(AgentHeartbeat(now=at, wall=wall, link=number, agent=agent, heartbeat=message))
                case Report():
                    event = AgentReported(now=at, wall=wall, link=number, agent=agent, report=message)
                    (self._feed if _ends_something(message) else self._feed_soon)(event)
                case Regressed():
                    self._feed(AgentRegressed(now=at, wall=wall, link=number, agent=agent, regressed=message))
                case LeaseHeld():
                    self._feed(AgentHeldLease(now=at, wall=wall, link=number, agent=agent, held=message))
                case Answer():
                    self.asks.answered(number, message)
                case _:
                    kind = type(message).__name__
                    link.out.put(Refuse("UNEXPECTED", f"{kind} does not belong on a control link that has said hello"))
                    link.out.close(POLICY)
                    return
            await ahead.took(size)

    async def _read_logs(self, agent: AgentId, out: Outgoing, receive: Receive) -> None:
        acks = Acks(out, self._unsynced)
        while (come := await _next_message(receive, out, agent)) is not None:
            message, _ = come
            if not isinstance(message, LogChunk):
                out.put(Refuse("UNEXPECTED", f"{type(message).__name__} does not belong on a log link"))
                out.close(POLICY)
                return
            record = self._writer.core.state.members.get(message.member)
            if record is None or record.agent != agent:
                out.put(LogRefuse(message.member, -1, "this member is not this agent's, or its job was forgotten"))
                continue
            done = self._logs.append(record.id, message.offset, message.data)
            self.usage.seen(record.job)
            acks.expect(record.id, len(message.data), done)
            while acks.must_wait and not out.closing:
                await acks.progress()


def _ends_something(report: Report) -> bool:
    """Whether somebody waits for this report: that a member is on its way, or runs, may be known a moment later."""
    return any(status.state not in _GOING_ON for status in report.members)


async def _first_message(receive: Receive, send: Send, agent: AgentId) -> Hello | None:
    """The hello of an agent that is understood; any other is told what to do."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            event = await receive()
    except TimeoutError:
        await send({"type": "websocket.close", "code": POLICY})
        return None
    if event["type"] != "websocket.receive":
        return None
    refuse = None
    hello = None
    data = event.get("bytes") or b""
    try:
        said = _any_hello.decode(data)
        refuse = wrong_protocol(said.protocol, said.version)
        if refuse is None:
            message = decode_from_agent(data)
            if isinstance(message, Hello) and message.agent == agent:
                hello = message
            else:
                refuse = Refuse(
                    "AGENT-NAME", f"this key belongs to agent {agent}, the hello says otherwise", final=True
                )
    except (msgspec.MsgspecError, MessageError) as error:
        refuse = Refuse("NO-HELLO", f"the first message is no hello: {error}", final=True)
    if refuse is not None:
        log.warning("agent %s refused: %s", agent, refuse.sentence)
        await send({"type": "websocket.send", "bytes": encode(refuse)})
        await send({"type": "websocket.close", "code": POLICY})
    return hello


async def _next_message(receive: Receive, out: Outgoing, agent: AgentId) -> tuple[AgentMessage, int] | None:
    """The next message and its bytes; None when the link ends, or must because of what came."""
    event = await receive()
    if event["type"] != "websocket.receive":
        return None
    data = event.get("bytes")
    if data is not None and len(data) <= MAX_MESSAGE_BYTES:
        try:
            return decode_from_agent(data), len(data)
        except MessageError as error:
            log.warning("agent %s: %s", agent, error)
            out.put(Refuse("NO-MESSAGE", str(error)))
    out.close(POLICY)
    return None


def _problem(status: int, code: str, detail: str, hint: str = "") -> Problem:
    return Problem(title=detail, status=status, code=code, detail=detail, hint=hint)


_KEY_UNKNOWN: Final = _problem(
    401,
    "AGENT-KEY",
    "this key is not known, or was revoked",
    "join again with a token: quorate token create, then quorate agent --token TOKEN",
)


async def deny(send: Send, problem: Problem, retry_after: int | None = None) -> None:
    """Answers a WebSocket that was not accepted."""
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    if retry_after:
        headers.append((b"retry-after", str(retry_after).encode()))
    body = problem.model_dump_json().encode()
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


assert MAX_CHUNK_BYTES < MAX_MESSAGE_BYTES

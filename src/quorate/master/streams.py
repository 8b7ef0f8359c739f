"""Proxied streams: a user's connection joined to one that an agent dials back for it, byte for byte.

The agent has no inbound port, so it is asked on its control link, with a ticket that is good once, within seconds, and
for that agent. What flows is none of the master's business; for members it is SSH (agent/ssh/server.py).
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from quorate.master.asks import AskError, Asks
from quorate.master.auth import Caller, agent_of, bearer, caller_of
from quorate.master.outgoing import GOING_AWAY, Receive, Scope, Send
from quorate.master.records import JobRecord, MemberRecord
from quorate.master.state import State
from quorate.model.asks import STREAM, TICKET_HEADER, Stream
from quorate.model.problem import Problem
from quorate.model.state import MemberState

#: WS: a stream to the member's SSH server, by its name or rank.
PATH: Final = re.compile(r"/api/v1/jobs/([a-z0-9]{1,32})/members/([A-Za-z0-9-]{1,64})/ssh")

#: An agent that has been asked dials within this, or the user is told.
_DIAL_S: Final = 15.0
#: Streams at once, of one user and of all.
_MOST_OF_A_USER: Final = 64
_MOST: Final = 1024
#: A token that is revoked ends its streams at once, one that runs out within this.
_LOOK_S: Final = 60.0
#: RFC 6455: whoever was let in may not stay.
_POLICY_VIOLATION: Final = 1008


class Refusal(Exception):
    """There is no stream; carries what the user is told."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.problem = Problem(title=detail, status=status, code=code, detail=detail, hint=hint)


@dataclass
class _Ticket:
    agent: str
    #: The agent's end, once it has dialled.
    far: "asyncio.Future[_End]"
    #: Set when the stream is over.
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _End:
    receive: Receive
    send: Send


class Streams:
    """All streams that are open or on their way. Lives on the event loop."""

    def __init__(self, state: Callable[[], State], asks: Asks, used: Callable[[str], None]) -> None:
        #: Told of a job for each message of its streams.
        self._used = used
        self._state = state
        self._asks = asks
        self._tickets: dict[str, _Ticket] = {}
        self._open: dict[str, int] = {}
        self._stopping = asyncio.Event()
        #: Set, and another one put in its place, when tokens are to be judged again.
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._open.values())

    def close_all(self) -> None:
        """The master stops."""
        self._stopping.set()

    def judge_again(self) -> None:
        """A token is gone: streams that were opened by it end."""
        self._changed.set()
        self._changed = asyncio.Event()

    # --- the user's side ---------------------------------------------------------------------------------------

    async def enter(self, scope: Scope, receive: Receive, send: Send, wall: Callable[[], float]) -> Problem | None:
        """Serves a user's WebSocket at PATH from its first event on; returns why not, where nothing was accepted.

        `wall`: tells UTC seconds.
        """
        await receive()
        headers = dict(scope["headers"])
        credential = bearer(headers.get(b"authorization", b"").decode("latin-1"))
        caller = caller_of(self._state(), credential, wall())
        match = PATH.fullmatch(scope["path"])
        try:
            if caller is None:
                raise Refusal(401, "TOKEN-UNKNOWN", "a user's token is needed", "quorate login URL --token TOKEN")
            if match is None:
                raise Refusal(404, "NOT-FOUND", "there is no such stream")
            member = self._member(caller, *match.groups())
            if self._stopping.is_set():
                raise Refusal(503, "STOPPING", "the master stops")
            if self._open.get(caller.user, 0) >= _MOST_OF_A_USER or self.count >= _MOST:
                raise Refusal(
                    429, "STREAMS-TOO-MANY", f"{caller.user} has {_MOST_OF_A_USER} streams open, or all have {_MOST}"
                )
        except Refusal as refusal:
            return refusal.problem

        def good() -> bool:
            return caller_of(self._state(), credential, wall()) is not None

        self._open[caller.user] = self._open.get(caller.user, 0) + 1
        try:
            return await self._join(member, _End(receive, send), good)
        finally:
            self._open[caller.user] -= 1
            if not self._open[caller.user]:
                del self._open[caller.user]

    def _member(self, caller: Caller, job: str, wanted: str) -> MemberRecord:
        state = self._state()
        record = state.jobs.get(job)
        if record is None:
            raise Refusal(404, "JOB-UNKNOWN", f"there is no job {job}", "quorate job list")
        if caller.job or (caller.user != record.owner and not caller.operator):
            detail = f"job {job} belongs to {record.owner}, so {caller.user} cannot enter its members"
            raise Refusal(403, "NOT-YOUR-JOB", detail, "ask its owner")
        return _running(state, record, wanted)

    async def _join(self, member: MemberRecord, near: _End, good: Callable[[], bool]) -> Problem | None:
        """`good`: whether the user's token is so still."""
        ticket = secrets.token_urlsafe(32)
        held = self._tickets[ticket] = _Ticket(member.agent, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(_DIAL_S):
                await self._asks.ask(member.agent, STREAM, msgspec.json.encode(Stream(member.id, ticket)), _DIAL_S)
                far = await held.far
            await near.send({"type": "websocket.accept"})
            await self._pump(near, far, lambda: self._used(member.job), good)
        except AskError as error:
            return Problem(title=str(error), status=error.why.status, code=error.why.code, detail=str(error))
        except TimeoutError:
            detail = f"agent {member.agent} did not dial back within {_DIAL_S:g} s"
            return Problem(title=detail, status=504, code="STREAM-TIMEOUT", detail=detail)
        finally:
            self._tickets.pop(ticket, None)
            held.over.set()
        return None

    async def _pump(self, near: _End, far: _End, used: Callable[[], None], good: Callable[[], bool]) -> None:
        """Until one end is at its end, the token is good no more, or the master stops; then both are."""
        judged = asyncio.create_task(self._while(good))
        work = [
            judged,
            asyncio.create_task(_copy(near, far, used)),
            asyncio.create_task(_copy(far, near, used)),
            asyncio.create_task(self._stop()),
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            code = GOING_AWAY if self._stopping.is_set() else _POLICY_VIOLATION if judged.done() else 1000
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for end in (near, far):
                with suppress(OSError, RuntimeError):
                    await end.send({"type": "websocket.close", "code": code})

    async def _while(self, good: Callable[[], bool]) -> None:
        while good():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()

    async def _stop(self) -> None:
        await self._stopping.wait()

    # --- the agent's side --------------------------------------------------------------------------------------

    async def dialled(self, scope: Scope, receive: Receive, send: Send) -> Problem | None:
        """Serves an agent's WebSocket at STREAM_PATH; returns why not, where nothing was accepted."""
        await receive()
        headers = dict(scope["headers"])
        agent = agent_of(self._state(), bearer(headers.get(b"authorization", b"").decode("latin-1")))
        presented = headers.get(TICKET_HEADER.lower().encode(), b"").decode("latin-1")
        # Good once: whoever presents it, the right agent or another, nobody else can.
        ticket = self._tickets.pop(presented, None) if agent is not None else None
        if ticket is None or ticket.agent != agent or ticket.far.done():
            return Problem(
                title="no such ticket", status=403, code="TICKET-UNKNOWN", detail="nobody waits for this stream"
            )
        await send({"type": "websocket.accept"})
        ticket.far.set_result(_End(receive, send))
        await ticket.over.wait()
        return None


def _running(state: State, job: JobRecord, wanted: str) -> MemberRecord:
    """The member of the newest attempt with that name or rank, if it runs. Raises Refusal."""
    allocation = state.allocation_of(job)
    members = list(state.members_of(allocation)) if allocation is not None else []
    if not members:
        raise Refusal(409, "MEMBER-NOT-RUNNING", f"job {job.id} is {job.state.value} and has no members now")
    found = next((member for member in members if wanted in (member.name, str(member.rank))), None)
    if found is None:
        names = ", ".join(member.name for member in members[:8]) + (" …" if len(members) > 8 else "")
        raise Refusal(
            404, "MEMBER-UNKNOWN", f"job {job.id} has no member {wanted}; it has {names}", f"quorate job show {job.id}"
        )
    if found.state is not MemberState.RUNNING:
        raise Refusal(409, "MEMBER-NOT-RUNNING", f"member {found.name} of job {job.id} is {found.state.value}")
    return found


async def _copy(source: _End, sink: _End, used: Callable[[], None]) -> None:
    """What comes is sent on, and nothing more is taken before the other side has taken that."""
    while (event := await source.receive())["type"] == "websocket.receive":
        used()
        if data := event.get("bytes"):
            await sink.send({"type": "websocket.send", "bytes": data})

"""A cluster on one screen: shipped core and store, a clock that the test turns, agents that say what they are told."""

import hashlib
import sqlite3
from itertools import count
from typing import Any

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.core import Core
from quorate.master.records import AgentRecord, JobRecord, MemberRecord, TokenKind, TokenRecord
from quorate.master.settings import Settings
from quorate.master.state import State
from quorate.master.store import open_on
from quorate.model.ids import AgentId, JobId
from quorate.model.job import JobSpec
from quorate.model.messages import (
    Desired,
    ExitStatus,
    Heartbeat,
    Hello,
    LeaseHeld,
    MasterMessage,
    MemberStatus,
    Refuse,
    Report,
    Seen,
    SlotInfo,
    Welcome,
)

_links = count(1)
_entropy = count(1)


def fresh_entropy() -> bytes:
    """32 bytes that no other call gives."""
    return hashlib.sha256(str(next(_entropy)).encode()).digest()


class Agent:
    """An agent as its master sees it: what was sent to it, and what the test lets it say."""

    def __init__(
        self, cluster: "Cluster", name: str, slots: int, host: str = "", says: dict[str, Any] | None = None
    ) -> None:
        self.says_always = says or {}
        self.cluster = cluster
        self.name = AgentId(name)
        self.slots = slots
        self.boot = f"{name}-boot"
        self.host = host or self.boot
        self.instance = f"{name}-1"
        self.link = 0
        self.seen: Seen | None = None
        self.inbox: list[MasterMessage] = []
        self.closed: fx.CloseLink | None = None
        self._sequence = 0

    def connect(self, *members: MemberStatus, protocol: int = 1, **changed: Any) -> "Agent":
        """Says hello on a new link, with what it has."""
        self.link, self.closed, self.inbox = next(_links), None, []
        self.cluster.agents_by_link[self.link] = self
        changed = {**self.says_always, **changed}
        hello = Hello(
            protocol=protocol,
            version="test",
            agent=changed.pop("agent", self.name),
            boot=self.boot,
            host=self.host,
            address=changed.pop("address", f"10.0.0.{self.name}"),
            slots=tuple(SlotInfo(i) for i in range(self.slots)),
            instance=self.instance,
            members=members,
            seen=self.seen,
            **changed,
        )
        self.cluster.apply(ev.AgentConnected, link=self.link, agent=self.name, hello=hello)
        self.cluster.turn()
        return self

    def drop(self) -> None:
        """Its link ends."""
        self.cluster.apply(ev.AgentDisconnected, link=self.link, agent=self.name)
        self.cluster.turn()

    def beat(self) -> None:
        """A heartbeat."""
        heartbeat = Heartbeat(1, self.cluster.now)
        self.cluster.apply(ev.AgentHeartbeat, link=self.link, agent=self.name, heartbeat=heartbeat)
        self.cluster.turn()

    def says(self, *members: MemberStatus) -> None:
        """A report of these members."""
        self._sequence += 1
        report = Report(self._sequence, members)
        self.cluster.apply(ev.AgentReported, link=self.link, agent=self.name, report=report)
        self.cluster.turn()

    def holds(self, sequence: int) -> None:
        """The planned lease is durable."""
        self.cluster.apply(ev.AgentHeldLease, link=self.link, agent=self.name, held=LeaseHeld(sequence))
        self.cluster.turn()

    @property
    def desired(self) -> Desired:
        """The newest desired set."""
        return [message for message in self.inbox if isinstance(message, Desired)][-1]

    @property
    def welcome(self) -> Welcome | None:
        """The welcome of this link."""
        return next((message for message in self.inbox if isinstance(message, Welcome)), None)

    @property
    def refused(self) -> Refuse | None:
        """Why the link was closed."""
        return self.closed.refuse if self.closed else None

    @property
    def record(self) -> AgentRecord:
        """What the master knows of it."""
        return self.cluster.state.agents[self.name]


def status(member: str, state: str, left: int | None = None, signal: int | None = None, **more: Any) -> MemberStatus:
    """What an agent says of a member, which left with an exit code or by a signal if it has ended."""
    outcome = ExitStatus(left, signal) if left is not None or signal is not None else None
    return MemberStatus(member=member, state=state, exit=outcome, **more)


def starting(member: str) -> MemberStatus:
    return status(member, "starting")


def running(member: str, **more: Any) -> MemberStatus:
    return status(member, "running", **more)


def exited(member: str, code: int = 0, **more: Any) -> MemberStatus:
    return status(member, "exited", code, **more)


def killed(member: str, signal: int = 15, **more: Any) -> MemberStatus:
    return status(member, "exited", None, signal, **more)


class Cluster:
    """A master and its agents; every `turn` commits."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 1000.0
        self.settings = settings or Settings()
        self.disk = sqlite3.connect(":memory:", check_same_thread=False)
        self.agents_by_link: dict[int, Agent] = {}
        self.effects: list[fx.Effect] = []
        self.stores: list[Any] = []
        self.core: Core
        self.restart()

    def restart(self, disk: sqlite3.Connection | None = None) -> None:
        """A new master, on the same store unless another one is given; nobody is connected to it."""
        if disk is not None:
            self.disk = disk
        # Kept: a store that is collected rolls back the connection, which is shared here.
        self.stores.append(open_on(lambda: self.disk, "test"))
        self.core = Core.open(
            self.stores[-1], self.settings, now=self.now, wall=self.now + 1e9, entropy=fresh_entropy()
        )
        self.agents_by_link.clear()
        self.turn()

    def copy_of_store(self) -> sqlite3.Connection:
        """A backup as `quorate master backup` takes it."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        self.stores[-1].copy_to(copy)
        return copy

    @property
    def state(self) -> State:
        return self.core.state

    def apply(self, kind: type[ev.Event], **fields: Any) -> fx.Answer | None:
        """One event, now."""
        return self.core.apply(kind(now=self.now, wall=self.now + 1e9, **fields))

    def turn(self) -> list[fx.Effect]:
        """Commits, and lets agents have what is theirs."""
        effects = list(self.core.turn(now=self.now, wall=self.now + 1e9, entropy=fresh_entropy()))
        for effect in effects:
            if isinstance(effect, fx.SendTo) and effect.link in self.agents_by_link:
                self.agents_by_link[effect.link].inbox.append(effect.message)
            elif isinstance(effect, fx.CloseLink) and effect.link in self.agents_by_link:
                self.agents_by_link[effect.link].closed = effect
        self.effects += effects
        return effects

    def wait(self, seconds: float, *beating: Agent) -> None:
        """Time passes in steps of ten seconds; these agents go on sending heartbeats, the others are silent."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 10.0)
            for agent in beating:
                agent.beat()
            self.apply(ev.Ticked)
            self.turn()

    def agent(self, name: str, slots: int = 1, pool: str = "default", host: str = "", **says: Any) -> Agent:
        """An agent that joined and is connected; `says` is what else it says in every hello."""
        self.token(f"join-{pool}", pool)
        self.apply(ev.AgentJoined, agent=AgentId(name), token_hash=f"join-{pool}", key_hash=f"key-{name}")
        return Agent(self, name, slots, host, says).connect()

    def token(self, name: str, pool: str = "default", **fields: Any) -> None:
        """A join token whose hash is its name."""
        token = TokenRecord(id=name, kind=TokenKind.JOIN, hash=name, created_wall=0.0, pool=pool, **fields)
        self.apply(ev.TokenCreated, token=token)

    def submit(self, nodes: int = 1, slots: int = 1, *, key: str = "", owner: str = "ann", **fields: Any) -> JobId:
        """A job that is accepted; its id."""
        answer = self.ask(nodes, slots, key=key, owner=owner, **fields)
        assert isinstance(answer, fx.Submitted), answer
        return answer.job

    def ask(
        self, nodes: int = 1, slots: int = 1, *, key: str = "", owner: str = "ann", **fields: Any
    ) -> fx.Answer | None:
        """A submission and its answer."""
        resources = {"nodes": nodes, "slots": slots, **fields.pop("resources", {})}
        spec = JobSpec(entrypoint=("true",), resources=resources, **fields)
        answer = self.apply(ev.JobSubmitted, owner=owner, spec=spec, idempotency=key, entropy=fresh_entropy())
        self.turn()
        return answer

    def cancel(self, job: str, by: str = "ann") -> fx.Answer | None:
        """A cancel request and its answer."""
        answer = self.apply(ev.JobCancelRequested, job=JobId(job), by=by)
        self.turn()
        return answer

    def job(self, job: str) -> JobRecord:
        return self.state.jobs[job]

    def members(self, job: str) -> list[MemberRecord]:
        """The members of the newest attempt, in rank order."""
        allocation = self.state.allocation_of(self.job(job))
        return list(self.state.members_of(allocation)) if allocation else []

    def who(self, job: str, rank: int = 0) -> tuple[Agent, str]:
        """The agent that has the member of this rank, and the member's id."""
        member = self.members(job)[rank]
        agent = next(a for a in reversed(list(self.agents_by_link.values())) if a.name == member.agent)
        return agent, member.id

    def run_all(self, job: str) -> None:
        """All members of the newest attempt come to run."""
        for rank in range(len(self.members(job))):
            agent, member = self.who(job, rank)
            agent.says(running(member))

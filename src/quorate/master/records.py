"""What the master remembers: one immutable record for each thing, replaced as a whole when it changes.

Durable records are written to the store; the others (`durable = False`) live as long as the master's process.
"""

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from quorate.model.ids import AgentId, AllocationId, JobId, MemberId
from quorate.model.job import JobSpec
from quorate.model.messages import Finding, NetworkSpec, PlannedMember, SlotInfo
from quorate.model.state import JobState, MemberState


class Stamp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A moment: seconds of CLOCK_BOOTTIME, which only means something within one epoch, and UTC seconds for people."""

    epoch: int
    now: float
    wall: float

    def until(self, later: "Stamp") -> float:
        """Seconds from here to `later`: exact within one epoch, else what the wall clock says (for display only)."""
        return max(0.0, later.now - self.now if self.epoch == later.epoch else later.wall - self.wall)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all records; `key` names it among its kind."""

    durable: ClassVar[bool] = True

    @property
    def key(self) -> str:
        """Unique among the records of this kind."""
        raise NotImplementedError


class Happening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a job's history: UTC seconds and a sentence."""

    wall: float
    what: str


class EndingKind(StrEnum):
    """Why an attempt is being ended, and so what becomes of the job when all its members are gone."""

    #: A member failed by itself: uses up a restart.
    FAILED = "failed"
    #: The platform's failure (an agent lost, a member that never ran): does not use up a restart.
    PLATFORM = "platform"
    #: Beyond max_runtime: final.
    DEADLINE = "deadline"
    #: Somebody's wish: final.
    CANCELLED = "cancelled"


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first failure of an attempt (or the wish to end it), kept until all members are gone."""

    kind: EndingKind
    #: One sentence for people: the job's reason.
    reason: str
    exit_code: int
    #: Only an echo was heard so far: a report of the failure itself takes its place.
    provisional: bool = False


class JobRecord(Record, frozen=True, kw_only=True):
    """A job without its spec, which never changes and stands in SpecRecord."""

    id: JobId
    owner: str
    #: Order of submission over the life of the cluster; unique.
    seq: int
    state: JobState = JobState.PENDING
    #: Why it is as it is. For a pending job `explain` has the sentence of the moment.
    reason: str = ""
    exit_code: int | None = None
    #: The newest attempt, 0 before the first.
    attempt: int = 0
    #: The number of the next one; jumps when a restored store is adopted, so that no number is used twice.
    next_attempt: int = 1
    restarts_left: int = 0
    #: Failures of the platform since the last attempt that ran; bounded, so that a broken agent cannot spin a job.
    platform_failures: int = 0
    ending: Ending | None = None
    submitted: Stamp
    #: When it last joined the queue, was last placed, had all members running, and came to its end.
    queued: Stamp
    placed: Stamp | None = None
    running: Stamp | None = None
    ended: Stamp | None = None
    #: Seconds over all attempts: in the queue, from placement to all running, running.
    waited_s: float = 0.0
    starting_s: float = 0.0
    ran_s: float = 0.0
    history: tuple[Happening, ...] = ()
    #: The client's Idempotency-Key; empty for none.
    idempotency: str = ""

    @property
    def key(self) -> str:
        return self.id


class SpecRecord(Record, frozen=True, kw_only=True):
    """A job's spec as submitted, without the values of its secrets; written once."""

    job: JobId
    spec: JobSpec
    #: Name to ciphertext, as the edge made it: the core never sees a secret in the clear.
    sealed: dict[str, bytes] = {}

    @property
    def key(self) -> str:
        return self.job


class AllocationRecord(Record, frozen=True, kw_only=True):
    """One gang placement of a job; its members' places never change."""

    id: AllocationId
    job: JobId
    attempt: int
    #: Random hex, for this allocation's rendezvous and watch.
    nonce: str
    #: In rank order.
    members: tuple[PlannedMember, ...]
    placed: Stamp
    #: Its VNI and subnet are its own until all its members are released; `forbidden` is filled in when it is sent.
    network: NetworkSpec | None = None
    #: How its members are joined and why, in words for people.
    joined: str = ""
    #: When it began to be ended: the deadline of the members' going runs from here.
    stopping: Stamp | None = None
    #: When its outcome was decided; its members may still be held for a silent agent.
    ended: Stamp | None = None
    outcome: str = ""
    reason: str = ""

    @property
    def key(self) -> str:
        return self.id


class MemberRecord(Record, frozen=True, kw_only=True):
    """One start of one member, and what its agent said of it."""

    id: MemberId
    allocation: AllocationId
    job: JobId
    agent: AgentId
    rank: int
    #: As people call it, such as sub1.
    name: str
    slots: tuple[int, ...] = ()
    #: Ports that it leases on its host.
    ports: dict[str, int] = {}
    host: str = ""
    state: MemberState = MemberState.ASSIGNED
    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    reason: str = ""
    code: str = ""
    echo: bool = False
    log_bytes: int = 0
    #: Seconds that it ran, once it has ended; 0 where its agent does not say.
    ran_s: float = 0.0
    #: Why it is to end; from then on its agent is told to stop it.
    stop: str = ""
    #: Nothing of it is left on its agent for certain: only now are its slots and ports free again.
    released: bool = False

    @property
    def key(self) -> str:
        return self.id


class AgentRecord(Record, frozen=True, kw_only=True):
    """An agent that joined: who it is, what it has, what the operator wants of it."""

    id: AgentId
    pool: str
    #: SHA-256 of its key, hex.
    key_hash: str
    joined_wall: float
    version: str = ""
    boot: str = ""
    host: str = ""
    address: str = ""
    instance: str = ""
    slots: tuple[SlotInfo, ...] = ()
    labels: dict[str, str] = {}
    #: First and last port that members may lease on its host.
    lease_ports: tuple[int, int] | None = None
    #: Those of Feature that it has.
    features: tuple[str, ...] = ()
    #: MTU in bytes of the device with its address; 0 where it is not known.
    mtu: int = 0
    #: All of its machine's, for the rules that keep members from it; older agents do not tell them.
    addresses: tuple[str, ...] = ()
    drained: bool = False
    revoked: bool = False
    #: Given up for silence; forgotten when it comes back. It no longer counts among the silent ones.
    lost: bool = False
    #: A restored store was adopted, and nobody knows what runs there: it has not said so since, or still ends what
    #: this store does not know. Nothing is placed anywhere meanwhile (docs/decisions/0008).
    unaccounted: bool = False
    #: Seconds of silence that it was told to bear beyond the usual lease (planned maintenance).
    extra_lease_s: float = 0.0

    @property
    def key(self) -> str:
        return self.id


class TokenKind(StrEnum):
    """What a token opens."""

    JOIN = "join"
    USER = "user"
    #: Lets the members of one allocation see their own job, while it lives.
    MEMBER = "member"


class TokenRecord(Record, frozen=True, kw_only=True):
    """A token by its hash; the token itself was shown once and is known to nobody here."""

    id: str
    kind: TokenKind
    #: SHA-256, hex.
    hash: str
    created_wall: float
    #: Who it speaks for (user tokens), and whether with the operator's rights.
    user: str = ""
    operator: bool = False
    #: The only allocation that it reaches (members' tokens).
    allocation: str = ""
    #: The pool that it lets agents into (join tokens).
    pool: str = ""
    #: UTC seconds; None: never. The wall clock, since a token outlives the machine's boot.
    expires_wall: float | None = None
    uses_left: int | None = None
    description: str = ""

    @property
    def key(self) -> str:
        return self.id


class SettingRecord(Record, frozen=True, kw_only=True):
    """A value of the cluster that has no better home, such as the submission counter."""

    name: str
    value: int | float | str

    @property
    def key(self) -> str:
        return self.name


class LiveRecord(Record, frozen=True, kw_only=True):
    """What this master's process knows of an agent's link; gone with the process."""

    durable: ClassVar[bool] = False

    agent: AgentId
    #: The edge's number of the live link that was welcomed; None while there is none.
    link: int | None = None
    instance: str = ""
    #: When it was last heard, or was given a full lease (seconds of CLOCK_BOOTTIME).
    heard: float
    #: Has told this process what it has, and was found to be of this store.
    seen: bool = False
    unreachable: bool = False
    #: End of a planned maintenance by the latest possible count of the agent; 0 without one.
    planned_until: float = 0.0
    #: Another live link claimed this id within this time: no work until then.
    duplicate_until: float = 0.0
    #: STORE-REGRESSED: its evidence.
    regressed: str = ""
    findings: tuple[Finding, ...] = ()
    #: Members that it has and the store does not know; they are stopped, and until then it takes no work.
    strays: tuple[str, ...] = ()
    #: The last planned lease that it holds durably, and the one by which it was told that the maintenance is over.
    lease_held: int = 0
    lease_over: int = 0

    @property
    def key(self) -> str:
        return self.agent


#: Every kind of durable record with the name of its table.
TABLES: dict[type[Record], str] = {
    JobRecord: "jobs",
    SpecRecord: "specs",
    AllocationRecord: "allocations",
    MemberRecord: "members",
    AgentRecord: "agents",
    TokenRecord: "tokens",
    SettingRecord: "settings",
}


class Put(msgspec.Struct, frozen=True, array_like=True):
    """A record that takes the place of the one with its key."""

    record: Record


class Drop(msgspec.Struct, frozen=True, array_like=True):
    """A record that goes."""

    kind: type[Record]
    key: str


Change = Put | Drop


def _enc_hook(value: Any) -> Any:
    if isinstance(value, JobSpec):
        return value.model_dump(mode="json", exclude_defaults=True, exclude={"secrets"})
    raise NotImplementedError(f"no encoding for {type(value)}")


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is JobSpec:
        return JobSpec.model_validate(value)
    raise NotImplementedError(f"no decoding for {kind}")


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)
_decoders: dict[type[Record], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind, dec_hook=_dec_hook) for kind in TABLES
}


def encode_record(record: Record) -> bytes:
    """The record as JSON."""
    return _encoder.encode(record)


def decode_record(kind: type[Record], data: bytes) -> Record:
    """Raises msgspec.MsgspecError (or pydantic's error for a spec) for bytes that are no such record."""
    record: Record = _decoders[kind].decode(data)
    return record

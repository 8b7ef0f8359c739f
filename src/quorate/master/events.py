"""What happens to a cluster, as values: each carries its time, and the randomness that its handling needs.

`now` is seconds of CLOCK_BOOTTIME, by which everything is decided; `wall` is UTC seconds, for display and for the
expiry of tokens. `entropy` is 32 random bytes (os.urandom) where something unguessable is chosen. Events of a link
carry the edge's number of it: what arrives from a link that is no longer the agent's own changes nothing.
"""

import msgspec

from quorate.master.records import TokenRecord
from quorate.model.ids import AgentId, JobId
from quorate.model.job import JobSpec
from quorate.model.messages import Heartbeat, Hello, LeaseHeld, Regressed, Report
from quorate.scheduling.types import Apart


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""

    now: float
    wall: float


# --- people ----------------------------------------------------------------------------------------------------------


class JobSubmitted(Event, frozen=True, kw_only=True):
    """Answer: Submitted, or Refused (POOL-UNKNOWN, JOB-NEVER-FITS, QUEUE-FULL)."""

    owner: str
    #: Without values of secrets; `context` is the digest of an upload that the edge has seen to be there.
    spec: JobSpec
    sealed: dict[str, bytes] = {}
    idempotency: str = ""
    entropy: bytes


class JobCancelRequested(Event, frozen=True, kw_only=True):
    """Answer: Done, or Refused (JOB-UNKNOWN). Cancelling what is final or already ending changes nothing."""

    job: JobId
    by: str


class AgentDrainRequested(Event, frozen=True, kw_only=True):
    """Answer: Done, or Refused (AGENT-UNKNOWN, AGENT-REVOKED). Running members stay, no new one comes."""

    agent: AgentId
    by: str


class AgentResumed(Event, frozen=True, kw_only=True):
    """Takes a drain back. Answer as for a drain."""

    agent: AgentId
    by: str


class AgentRevoked(Event, frozen=True, kw_only=True):
    """The key is void at once, its link is closed, the name is burnt. Answer as for a drain.

    Its members are lost when it has surely stopped them by itself, as with a silent agent; at once where `gone`: the
    operator (or the cloud) says that the machine runs no more.
    """

    agent: AgentId
    by: str
    gone: bool = False


class TokenCreated(Event, frozen=True, kw_only=True):
    """Answer: Done."""

    token: TokenRecord


class TokenRevoked(Event, frozen=True, kw_only=True):
    """Answer: Done, or Refused (TOKEN-UNKNOWN)."""

    token: str


class PlannedStop(Event, frozen=True, kw_only=True):
    """Maintenance: all agents are told to bear silence for so long. Answer: StopStarted.

    The effect StopReady follows when every connected agent holds the lease durably, or after `patience_s`.
    """

    for_s: float
    patience_s: float = 10.0


class Adopted(Event, frozen=True, kw_only=True):
    """The operator accepts a store that has gone back (a restored backup): agents take its word. Answer: Done."""

    by: str


class BackupTaken(Event, frozen=True, kw_only=True):
    """Nothing changes but that the generation moves: a backup is older than all that follows it. Answer: Done."""

    by: str


# --- agents ----------------------------------------------------------------------------------------------------------


class AgentJoined(Event, frozen=True, kw_only=True):
    """An exchange of a join token for a key of its own. Answer: Joined, or Refused (TOKEN-…, AGENT-TAKEN).

    The same agent with the same key hash may repeat it: the answer is the same.
    """

    agent: AgentId
    #: SHA-256 (hex) of the token that was shown, and of the key that the agent will use.
    token_hash: str
    key_hash: str


class AgentConnected(Event, frozen=True, kw_only=True):
    """A control link said hello; the edge found `agent` by its key. Effects: a Welcome, or CloseLink with a Refuse."""

    link: int
    agent: AgentId
    hello: Hello


class AgentDisconnected(Event, frozen=True, kw_only=True):
    """A control link ended."""

    link: int
    agent: AgentId


class AgentHeartbeat(Event, frozen=True, kw_only=True):
    """Writes nothing durable."""

    link: int
    agent: AgentId
    heartbeat: Heartbeat


class AgentReported(Event, frozen=True, kw_only=True):
    """Acknowledged when committed."""

    link: int
    agent: AgentId
    report: Report


class AgentRegressed(Event, frozen=True, kw_only=True):
    """The agent has seen a later state than the store holds."""

    link: int
    agent: AgentId
    regressed: Regressed


class AgentHeldLease(Event, frozen=True, kw_only=True):
    """The agent has made a planned lease durable."""

    link: int
    agent: AgentId
    held: LeaseHeld


class AgentsProbed(Event, frozen=True, kw_only=True):
    """All pairs of agents that were seen not to reach each other, as of now. Writes nothing durable."""

    apart: tuple[Apart, ...]


# --- time ------------------------------------------------------------------------------------------------------------


class JobUsed(Event, frozen=True, kw_only=True):
    """Somebody uses a cluster that would be stopped if nobody did. Writes nothing durable."""

    job: JobId


class Ticked(Event, frozen=True, kw_only=True):
    """Time passed: deadlines that are due fire. Due at `Core.wake_at`, and harmless at any other time."""


class DeadlineCame(Event, frozen=True, kw_only=True):
    """One deadline fires. Core makes it from Ticked, each on its own: one that fails does not hold others up."""

    what: str
    key: str


class Opened(Event, frozen=True, kw_only=True):
    """A master has taken over: every deadline starts anew. Core makes it."""


class ScheduleDue(Event, frozen=True, kw_only=True):
    """Place what can be placed. Core makes it when something relevant changed; nobody else needs to."""

    entropy: bytes

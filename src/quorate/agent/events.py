"""What the agent's core is told and what it asks for: plain values, so that a simulation can speak them too."""

from dataclasses import dataclass

from quorate.model.messages import AgentMessage, AllocationSpec, ExitStatus, Finding, MasterMessage

# --- events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recovered:
    """First event of every life: what outlived the last one, of the members that the journal names.

    `starting` are those whose shim lives but whose command does not run yet. A member that is nowhere here was seen
    neither alive nor ended; it is swept up and failed.
    """

    observed: tuple["Running | Ended | Failed", ...] = ()
    starting: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinkUp:
    """A connection to the master is open."""


@dataclass(frozen=True)
class LinkDown:
    """The connection is gone."""


@dataclass(frozen=True)
class Received:
    """A message of the master came in."""

    message: MasterMessage


@dataclass(frozen=True)
class Progressed:
    """The member has not begun, and this is what it waits for: a sentence."""

    member: str
    sentence: str


@dataclass(frozen=True)
class Running:
    """The member's command runs, since `since` (seconds of CLOCK_BOOTTIME)."""

    member: str
    since: float


@dataclass(frozen=True)
class Ended:
    """The command ran and ended, by itself or by our signal; none of its processes is left."""

    member: str
    exit: ExitStatus
    reason: str = ""
    code: str = ""
    echo: bool = False
    log_bytes: int = 0
    #: Seconds that the command ran, by its shim; 0 where that does not say.
    ran_s: float = 0.0


@dataclass(frozen=True)
class Failed:
    """The command never ran, and never will: no context, no port, no such program, stopped before it began."""

    member: str
    reason: str
    code: str = ""
    echo: bool = False
    log_bytes: int = 0


@dataclass(frozen=True)
class NetworkLost:
    """What held the member's network namespace has ended: nobody can keep that network as it should be any more."""

    member: str


@dataclass(frozen=True)
class SupervisorLost:
    """The member's shim is gone and has left no outcome; processes of the member may be left."""

    member: str


@dataclass(frozen=True)
class Swept:
    """No process of the member is left, and nobody knows how it ended."""

    member: str
    log_bytes: int = 0
    #: Only where it is certain that nothing of it ever began: then it may begin elsewhere.
    unbegun: bool = False


@dataclass(frozen=True)
class Shipped:
    """The master holds the member's log up to `offset`; `whole` if it wants no more of it, whatever there is."""

    member: str
    offset: int
    whole: bool = False


@dataclass(frozen=True)
class FindingsChanged:
    """All findings of one origin as they now stand: `members` for those about their logs, `network`."""

    findings: tuple[Finding, ...]
    origin: str = "members"


@dataclass(frozen=True)
class EndAll:
    """Somebody wants this agent and all its members ended: every one is stopped and no other begins."""

    reason: str


@dataclass(frozen=True)
class Ticked:
    """Time has passed; due at `Core.next_tick`."""


Event = (
    Recovered
    | LinkUp
    | LinkDown
    | Received
    | Progressed
    | Running
    | Ended
    | Failed
    | NetworkLost
    | SupervisorLost
    | Swept
    | Shipped
    | FindingsChanged
    | EndAll
    | Ticked
)

# --- actions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """To the master, on the control link; dropped if that is gone."""

    message: AgentMessage


@dataclass(frozen=True)
class CloseLink:
    """Ends the connection; another is tried after a jittered pause."""

    reason: str


@dataclass(frozen=True)
class GiveUp:
    """The master will never take this agent: end once no member is left, with this sentence."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Start:
    """The intent is durable; answered by Running, Ended or Failed."""

    member: str
    spec: AllocationSpec


@dataclass(frozen=True)
class Stop:
    """SIGTERM now, SIGKILL after the grace; answered by Ended or Failed, which repeat reason and echo."""

    member: str
    reason: str
    echo: bool
    grace_s: float


@dataclass(frozen=True)
class Sweep:
    """Kill whatever a lost supervisor left of the member; answered by Swept."""

    member: str


@dataclass(frozen=True)
class Forget:
    """Remove all that is left of the member: its folder, its log."""

    member: str


Action = Send | CloseLink | GiveUp | Start | Stop | Sweep | Forget

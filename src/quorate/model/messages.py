"""What master and agents say to each other: compact, typed, versioned. One codec for the wire and the simulation.

Every message that changes something carries (epoch, generation). Generation counts the commits of the store and never
starts again; epoch counts the starts of a master on it. Unknown fields are ignored and new fields have defaults, so
that a peer of the previous protocol is understood.
"""

from enum import StrEnum
from typing import Final

import msgspec

#: The protocol spoken here, and the oldest one that is still accepted.
PROTOCOL: Final = 1
OLDEST_PROTOCOL: Final = 0

#: A control message may not be larger; a gang of 4096 members stays well below.
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
#: The body of a question, or of an answer, may not be larger.
MAX_ANSWER_BYTES: Final = 1024 * 1024
#: Of a machine, as its agent tells them.
MOST_ADDRESSES: Final = 64
#: Agents of an older protocol end the link on a question.
FIRST_PROTOCOL_WITH_ASKS: Final = 1


class Feature(StrEnum):
    """What an agent can do for members beyond starting a command on its host's network."""

    #: Gives members networks of their own.
    SANDBOX = "sandbox"
    #: Runs members in containers.
    IMAGES = "images"
    #: Heeds `AllocationSpec.roles`, with or without images.
    ROLES = "roles"


class Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t"):
    """Base of all messages; the tag on the wire says which one it is."""


class EpochMark(msgspec.Struct, frozen=True, array_like=True):
    """A start of a master on a store: the epoch, a random mark of it, and the generation at which it began."""

    epoch: int
    mark: str
    first_generation: int


class Seen(msgspec.Struct, frozen=True):
    """The newest state of the cluster that an agent has acted on; durable on the agent."""

    cluster: str
    epoch: int
    mark: str
    generation: int


class SlotInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One slot of an agent. `device` is a GPU's UUID; empty for a CPU slot."""

    index: int
    kind: str = "cpu"
    device: str = ""
    brand: str = ""
    memory_bytes: int = 0


class ExitStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a member ended. Exactly one of code and signal is set, unless the outcome is unknown."""

    code: int | None = None
    signal: int | None = None
    #: Last lines of output, for the job's reason; at most 2 KiB.
    tail: str = ""


class MemberStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent knows of one member. `state` is a MemberState; final ones stay until the desired set drops them."""

    member: str
    state: str
    exit: ExitStatus | None = None
    #: Why, in words for people, when it did not end by itself: "stopped: member sub1 failed".
    reason: str = ""
    #: A finding's code where the cause has one, such as DISK-FULL or PORT-TAKEN.
    code: str = ""
    #: True where this member ended only because another one did; such an end is never the job's reason.
    echo: bool = False
    #: Seconds since its command started, by the agent's CLOCK_BOOTTIME; in a final state, for which it ran, or 0 where
    #: that is not known.
    running_s: float = 0.0
    #: Bytes of the member's log on the agent's disk; all of them must be acknowledged before the member is forgotten.
    log_bytes: int = 0


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding on its way to the master."""

    code: str
    severity: str
    title: str
    evidence: str = ""
    remedy: str = ""
    member: str = ""


class PlannedMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """One member of an allocation as all its members see it; the list is in rank order."""

    rank: int
    role: str
    index: int
    name: str
    agent: str
    address: str
    slots: tuple[int, ...] = ()
    #: Purpose to port, for the listeners of this member: rendezvous, watch, torch, main…
    ports: dict[str, int] = {}
    #: The agent's own address, where `address` is one of a private network.
    underlay: str = ""


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A folder or file of the agent's machine in a member, within what the operator's file allows."""

    source: str
    target: str
    read_only: bool = False


class RoleSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the members of one role run. Without an image they are processes; limits at 0 are none."""

    image: str = ""
    #: `missing`, `always` or `never`.
    pull: str = "missing"
    #: Empty: the image's own command, else wait.
    entrypoint: tuple[str, ...] = ()
    #: Without those of the allocation, which stand below.
    environment: dict[str, str] = {}
    #: Run by `sh -c` before the entry point; it must succeed.
    bootstrap: str = ""
    workdir: str = ""
    #: The user's wish, such as `1000:1000` or `root`; the operator's file decides.
    run_as: str = ""
    memory_bytes: int = 0
    cpus: float = 0.0
    shm_bytes: int = 0
    pids: int = 0
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class NetworkSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The private network of an allocation; an allocation without one shares its hosts' network."""

    #: `bridge` (one agent) or `overlay`.
    mode: str
    #: 1 to 2**24 - 1; no other allocation has it.
    vni: int
    subnet: str
    #: The hub's address on every agent.
    gateway: str
    #: The members' MTU in bytes: that of the narrowest underlay, less the overlay's overhead.
    mtu: int = 1450
    #: `open` or `planned`: what members may do among themselves.
    members: str = "open"
    #: `enforce`, `observe` or `off`.
    enforcement: str = "enforce"
    #: `all`, `none`, or `named` for `hosts` alone.
    egress: str = "all"
    hosts: tuple[str, ...] = ()
    #: Whether the cloud's metadata addresses may be reached.
    metadata: bool = False
    #: First and last of the members' ephemeral ports; None for the kernel's.
    window: tuple[int, int] | None = None
    #: Of the overlay, on all its agents; 0 for the usual one.
    vxlan_port: int = 0
    #: Networks that no member reaches: agents, master, the range of all overlays.
    forbidden: tuple[str, ...] = ()
    #: Networks among those, each with the TCP port at which members may ask the master's API; with a token alone.
    api: tuple[tuple[str, int], ...] = ()


class HostsSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What members of an allocation may do in their hosts' network; agents hold it by their user and their leases."""

    #: As in NetworkSpec.
    members: str = "open"
    enforcement: str = "enforce"
    #: All addresses of its agents: from these alone a member's leased ports are reached.
    addresses: tuple[str, ...] = ()
    #: Networks, IPv4 and IPv6, where members reach nothing but each other: all machines of agents and master.
    forbidden: tuple[str, ...] = ()
    #: As in NetworkSpec, and IPv6, too.
    api: tuple[tuple[str, int], ...] = ()


class AllocationSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that the agents of a gang need; sent once on each link, then named by its id."""

    allocation: str
    job: str
    attempt: int
    #: Random, for this allocation alone: the secret of its rendezvous and watch. Hex.
    nonce: str
    name: str
    owner: str
    entrypoint: tuple[str, ...]
    launcher: str
    environment: dict[str, str]
    members: tuple[PlannedMember, ...]
    grace_s: float
    start_timeout_s: float
    #: None: the job may not be started twice, so a cut-off agent leaves it running.
    stop_after_s: float | None = None
    max_runtime_s: float | None = None
    #: sha256 of the uploaded context; empty for none.
    context: str = ""
    #: Names only; values are fetched when the member starts and never touch the agent's disk.
    secrets: tuple[str, ...] = ()
    kind: str = "command"
    #: By name; empty where all members run `entrypoint` as processes.
    roles: dict[str, RoleSpec] = {}
    #: None: members share their hosts' network.
    network: NetworkSpec | None = None
    #: Of an allocation in its hosts' network; an older master does not say it.
    hosts: HostsSpec | None = None
    #: `off`, `warn` or `require`.
    preflight: str = "require"
    #: The pool's, where its file names one: `tcp`, `ib`, `roce` or `efa`.
    fabric: str = ""
    #: Whether members reach each other by SSH (`ssh sub1`), with keys that are derived from the nonce.
    ssh: bool = False


# --- agent to master ---------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """First on every control link. Wrong protocol, unknown key or duplicate id are answered with Refuse."""

    protocol: int
    version: str
    agent: str
    boot: str
    #: Boot id and network namespace: agents that share it share their ports.
    host: str
    address: str
    slots: tuple[SlotInfo, ...]
    #: Random for each start of the agent's process: tells a reconnect from a duplicate.
    instance: str
    labels: dict[str, str] = {}
    seen: Seen | None = None
    members: tuple[MemberStatus, ...] = ()
    #: [first, last] of the ports that the operator lets members lease here.
    lease_ports: tuple[int, int] | None = None
    #: Those of Feature that this agent has.
    features: tuple[str, ...] = ()
    #: MTU in bytes of the device with `address`; 0 where it is not known.
    mtu: int = 0
    #: All addresses at which another machine could find this one, IPv4 and IPv6; `address` need not be among them.
    addresses: tuple[str, ...] = ()


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """Sent each heartbeat interval; `sent` is the agent's CLOCK_BOOTTIME in seconds and comes back in the ack."""

    sequence: int
    sent: float


class Report(Message, frozen=True, tag="report"):
    """Changed members, the findings of the agent and its instance; repeated until acknowledged."""

    sequence: int
    members: tuple[MemberStatus, ...]
    findings: tuple[Finding, ...] = ()


class Regressed(Message, frozen=True, tag="regressed"):
    """STORE-REGRESSED: the welcome is older than what this agent has seen; it changes nothing."""

    seen: Seen
    evidence: str


class Answer(Message, frozen=True, tag="answer"):
    """To an Ask: JSON, or the sentence why there is none. At most MAX_ANSWER_BYTES."""

    sequence: int
    body: bytes = b"null"
    error: str = ""


class LeaseHeld(Message, frozen=True, tag="lease_held"):
    """The agent has made the longer lease durable."""

    sequence: int


# --- master to agent ---------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """The master's answer to Hello. `history` holds the marks of its store's epochs, newest last (at most 1000)."""

    protocol: int
    version: str
    cluster: str
    epoch: int
    mark: str
    generation: int
    history: tuple[EpochMark, ...]
    heartbeat_s: float
    #: The operator accepted a restored store: take its word although this agent has seen more.
    adopt: bool = False


class Refuse(Message, frozen=True, tag="refuse"):
    """The link ends; `sentence` says why and what to do. `final` ones are not tried again."""

    code: str
    sentence: str
    final: bool = False


class Desired(Message, frozen=True, tag="desired"):
    """The whole set of members that the agent should have; whatever it has beyond it must go.

    `allocations` carries the specs that this link has not carried yet. `stop` names, for allocations whose members are
    to end, why (for logs and for the member's status); a member that is neither in `members` is stopped and forgotten.
    """

    epoch: int
    generation: int
    members: tuple[str, ...]
    allocations: tuple[AllocationSpec, ...] = ()
    #: Members still wanted as records (their outcome is awaited) but to be stopped: id to reason.
    stop: dict[str, str] = {}


class HeartbeatAck(Message, frozen=True, tag="heartbeat_ack"):
    """Renews the lease from the moment at which the heartbeat was *sent*."""

    sequence: int
    sent: float


class ReportAck(Message, frozen=True, tag="report_ack"):
    """The report is committed."""

    sequence: int


class Ask(Message, frozen=True, tag="ask"):
    """A question that changes no state, such as `network` or `probe`; lost with the link, never repeated by itself."""

    sequence: int
    what: str
    #: JSON.
    body: bytes = b"null"
    #: After so long nobody waits for the answer any more.
    timeout_s: float = 30.0


class Lease(Message, frozen=True, tag="lease"):
    """Planned maintenance: for this long the agent does not take silence for being cut off."""

    sequence: int
    for_s: float


# --- the log link --------------------------------------------------------------------------------------------------


class LogChunk(Message, frozen=True, tag="log_chunk"):
    """Bytes of a member's framed log (model/logframes.py) from `offset` on; at most 256 KiB."""

    member: str
    offset: int
    data: bytes


class LogAck(Message, frozen=True, tag="log_ack"):
    """All bytes of the member's log before `offset` are on the master's disk."""

    member: str
    offset: int


class LogRefuse(Message, frozen=True, tag="log_refuse"):
    """The chunk was not taken: send again from `expected`, or forget it (expected < 0); `reason` says why."""

    member: str
    expected: int
    reason: str = ""


AgentMessage = Hello | Heartbeat | Report | Regressed | LeaseHeld | Answer | LogChunk
MasterMessage = Welcome | Refuse | Desired | HeartbeatAck | ReportAck | Lease | Ask | LogAck | LogRefuse

_encoder = msgspec.msgpack.Encoder()
_from_agent: msgspec.msgpack.Decoder[AgentMessage] = msgspec.msgpack.Decoder(AgentMessage)
_from_master: msgspec.msgpack.Decoder[MasterMessage] = msgspec.msgpack.Decoder(MasterMessage)


class MessageError(ValueError):
    """Bytes that are no message of this protocol."""


def encode(message: AgentMessage | MasterMessage) -> bytes:
    """The message as it travels."""
    return _encoder.encode(message)


def decode_from_agent(data: bytes) -> AgentMessage:
    """Raises MessageError for anything that is no message of an agent."""
    try:
        return _from_agent.decode(data)
    except msgspec.MsgspecError as error:
        raise MessageError(f"not a message of an agent: {error}") from error


def decode_from_master(data: bytes) -> MasterMessage:
    """Raises MessageError for anything that is no message of a master."""
    try:
        return _from_master.decode(data)
    except msgspec.MsgspecError as error:
        raise MessageError(f"not a message of a master: {error}") from error

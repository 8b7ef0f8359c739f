"""What a master asks its agents, and what they answer: the bodies of Ask and Answer, by the name of the question."""

from enum import StrEnum
from typing import Final

import msgspec


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    pass


# --- checks of the network between agents ------------------------------------------------------------------------

#: Opens listeners for a while; answered by Listening.
LISTEN: Final = "listen"
#: Tries others' listeners; answered by Probed.
PROBE: Final = "probe"
#: Closes listeners before their time; answered by null.
UNLISTEN: Final = "unlisten"


class Listen(_Body, frozen=True):
    """Answer probes at the agent's own address: on a TCP port that is free, and on a UDP port where one is given."""

    check: str
    #: Hex; the secret of this check.
    nonce: str
    #: They close by themselves after so many seconds.
    for_s: float
    #: 0 for none: nothing travels there between these agents.
    udp: int = 0


class Unlisten(_Body, frozen=True):
    """The check is over."""

    check: str


class Listening(_Body, frozen=True):
    """Where an agent answers probes, and how it is connected."""

    address: str
    #: 0 where no port could be listened on; then `closed` says why.
    tcp: int = 0
    udp: int = 0
    closed: str = ""
    #: Members here are in overlays, beside which no process may speak VXLAN: its port was not listened on.
    overlaid: bool = False
    #: Of the device with the address.
    device: str = ""
    mtu: int = 0
    #: As `10.0.0.5/24`; empty where the address is none of this machine's.
    network: str = ""
    #: The master's address as this agent dials it, and whether it lies in a network of this machine.
    master: str = ""
    master_near: bool = True
    #: Seconds to the master and back by TCP; None where it could not be measured.
    master_rtt_s: float | None = None


class Target(_Body, frozen=True, array_like=True):
    """A listener to be tried."""

    who: str
    address: str
    port: int
    transport: str
    #: Of a datagram: bytes of its IP packet, which must not be fragmented. 0 for a small one.
    packet_bytes: int = 0


class Probes(_Body, frozen=True):
    """Listeners to be tried, all at once."""

    nonce: str
    targets: tuple[Target, ...]
    timeout_s: float = 3.5


class Result(_Body, frozen=True, array_like=True):
    """How one of the targets answered: an outcome of launch/probe.py, the evidence, seconds to the first answer."""

    outcome: str
    evidence: str
    rtt_s: float | None = None


class Probed(_Body, frozen=True):
    """Results in the order of the targets."""

    results: tuple[Result, ...]


# --- what passed in an allocation's network ----------------------------------------------------------------------

#: Asks for an allocation's counters; answered by Counters.
NETWORK: Final = "network"


class OfAllocation(_Body, frozen=True):
    """A question about the members of an allocation on that agent."""

    allocation: str


class FlowCount(_Body, frozen=True):
    """A planned flow as one member saw it: the connections that it opened or took, as packets and bytes."""

    member: str
    flow: str
    direction: str
    packets: int
    bytes: int


class RefusedBy(StrEnum):
    """Why something was refused."""

    #: No flow of the plan between members is like that.
    PLAN = "plan"
    #: No member reaches it: an agent, the master, another job, a cloud's metadata.
    FORBIDDEN = "forbidden"
    #: The job goes outside to named hosts, and this is none of them.
    EGRESS = "egress"


class Refusal(_Body, frozen=True):
    """What rules refused a member, or would have in observe mode: from or to that peer, at that port.

    Of several members that share a user of one machine's, rules cannot tell which it was: `member` is empty then.
    """

    member: str
    direction: str
    peer: str
    transport: str
    port: int
    packets: int
    by: RefusedBy = RefusedBy.PLAN


class Counters(_Body, frozen=True):
    """Of all the allocation's members on one agent. In packets: `spoofed` bore an address that is no member's,
    `crowded` would have opened too many connections to the outside, `hasty` asked for names too fast.

    So much was refused the `unlisted` members that more may not be told; an empty one as in Refusal.
    """

    flows: tuple[FlowCount, ...] = ()
    refused: tuple[Refusal, ...] = ()
    spoofed: int = 0
    crowded: int = 0
    hasty: int = 0
    unlisted: tuple[str, ...] = ()


# --- members that wait for each other ----------------------------------------------------------------------------

#: Asks whether the first member of an allocation, there, waits for others; answered by Waits.
WAITS: Final = "waits"
#: Tells those of an allocation's members that are there how long the first one has waited; answered by null.
FIRST_WAITS: Final = "first-waits"


class Waits(_Body, frozen=True):
    """None where the first member is not there yet, or all have come."""

    seconds: float | None = None


class FirstWaits(_Body, frozen=True):
    """The first member is there, whatever the network between it and the others lets pass."""

    allocation: str
    seconds: float


# --- streams ---------------------------------------------------------------------------------------------------------

#: Dials back and joins the new connection to a member's door; answered by null once it is open.
STREAM: Final = "stream"
#: Where the agent dials, and the header with the ticket: never in an address, which others may log.
STREAM_PATH: Final = "/agent/v1/streams"
TICKET_HEADER: Final = "Quorate-Ticket"


class Stream(_Body, frozen=True):
    """Somebody wants to enter the member. The ticket is for one connection, within seconds."""

    member: str
    ticket: str


# --- what a member is doing --------------------------------------------------------------------------------------

#: Asks for all that can be seen of an allocation's members from outside; answered by Seen.
INSPECT: Final = "inspect"
#: Tries connections from where a member is; answered by Probed.
REACH: Final = "reach"
#: Asks since when members have done nothing that shows; answered by Idle.
PROGRESS: Final = "progress"


class SocketSeen(_Body, frozen=True):
    """A socket of one of the member's processes, as the kernel lists it."""

    transport: str
    #: As in tcp(7): LISTEN, ESTABLISHED, SYN-SENT…
    state: str
    local: str
    local_port: int
    remote: str = ""
    remote_port: int = 0
    #: Bytes that the peer has not acknowledged, and bytes that the process has not read.
    unsent: int = 0
    unread: int = 0
    #: How often what is under way has been sent again.
    retransmits: int = 0
    pid: int = 0
    #: The planned flow that it belongs to; empty for none.
    flow: str = ""
    #: The member at the other end, by its name.
    peer: str = ""


class ProcessSeen(_Body, frozen=True):
    """One process of a member. Its arguments and its environment are not told: they may hold secrets."""

    pid: int
    name: str
    #: R, S, D, T or Z, as in proc(5).
    state: str
    #: Of one core, over the second in which it was looked at.
    cpu: float
    #: The kernel's function in which it waits, where that may be seen.
    waits_in: str = ""
    #: Its global rank in the job's process group, where its launcher has set one.
    rank: int | None = None
    #: Frames of its main thread, the innermost first, as `all_reduce (torch/distributed/distributed_c10d.py:3011)`.
    stack: tuple[str, ...] = ()
    #: The innermost frame that is in no library: `train.py:33`.
    at: str = ""


class Collective(_Body, frozen=True):
    """What PyTorch's flight recorder last had of one rank in one process group."""

    rank: int
    group: str
    sequence: int
    operation: str
    #: `scheduled`, `started` or `completed`.
    state: str


class MemberSeen(_Body, frozen=True):
    """A member from outside."""

    member: str
    rank: int
    #: The device that routes to the other members, and its MTU.
    device: str = ""
    mtu: int = 0
    #: Of the variables by which frameworks choose a device, those that are set.
    devices_set: dict[str, str] = {}
    #: Seconds since its last output; None where it has written nothing yet.
    quiet_s: float | None = None
    processes: tuple[ProcessSeen, ...] = ()
    sockets: tuple[SocketSeen, ...] = ()
    collectives: tuple[Collective, ...] = ()
    #: The pool's fabric, and what NCCL has said about the network that it uses.
    fabric: str = ""
    nccl: tuple[str, ...] = ()
    #: What could not be seen, and what would make it visible.
    notes: tuple[str, ...] = ()


class Seen(_Body, frozen=True):
    """The allocation's members on one agent."""

    members: tuple[MemberSeen, ...]
    #: Whose firewall stands before its machine, in the words of `quorate net check --for`; empty where it does not say.
    platform: str = ""


class Reach(_Body, frozen=True):
    """Connections to be tried and closed at once, from the network of a member."""

    member: str
    places: tuple[tuple[str, int], ...]


class Idle(_Body, frozen=True):
    """By member that runs: seconds since it last wrote, computed or sent anything."""

    members: dict[str, float]

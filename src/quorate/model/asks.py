"""What a master asks its agents, and what they answer: the bodies of Ask and Answer, by the name of the question."""

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


class Refusal(_Body, frozen=True):
    """What a member's rules refused, or would have in observe mode: from or to that peer, at that port."""

    member: str
    direction: str
    peer: str
    transport: str
    port: int
    packets: int


class Counters(_Body, frozen=True):
    """Of all the allocation's members on one agent; `spoofed` packets bore an address that is no member's."""

    flows: tuple[FlowCount, ...] = ()
    refused: tuple[Refusal, ...] = ()
    spoofed: int = 0


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

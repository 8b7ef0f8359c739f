"""What the prober is asked and what it finds, as values."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Dict


class Outcome(enum.Enum):
    """What was found."""

    OPEN = "open"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNROUTABLE = "unroutable"
    WRONG_HOST = "wrong host"
    MTU = "mtu"
    UNDETERMINED = "undetermined"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where something listens. The address is numeric."""

    address: str
    port: int
    transport: str = "tcp"


@dataclasses.dataclass(frozen=True)
class Span:
    """Some free port of a range, from `first` to `last`, is to be listened on."""

    address: str
    first: int
    last: int
    transport: str = "tcp"


@dataclasses.dataclass(frozen=True)
class Target:
    """A flow to be tried."""

    place: Place
    #: Who must answer: the name that the listener was given.
    who: str
    #: The own address from which to try; empty for the kernel's choice.
    source: str = ""
    #: Of a datagram: bytes of its IP packet, which must not be fragmented. 0 for a small one.
    packet_bytes: int = 0
    #: Of a connection: whether packets as large as the path's MTU are to pass as well, there and back.
    full: bool = False
    #: Of a connection: that somebody takes it is enough. It is closed without a word, so any listener may be tried.
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Probe:
    """One measured attempt."""

    target: Target
    outcome: Outcome
    #: What was seen, for people.
    evidence: str
    #: Seconds to the first answer of any kind; None without one.
    round_trip_s: float | None = None
    #: False where there was no time for it, so that nothing is known.
    tried: bool = True

    def to_object(self) -> Dict[str, Any]:
        return {**dataclasses.asdict(self), "outcome": self.outcome.value}

"""Ports and port ranges: what a port is allowed to be, and the arithmetic of ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

#: 16 bits (RFC 9293, section 3.1); the vendors' "1024-65536" is one too many.
LAST_PORT = 65_535

Port = Annotated[int, Field(ge=1, le=LAST_PORT)]


class InvalidPorts(ValueError):
    """Text or numbers that are no port or port range; the message says which and why."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """The ports from `first` to `last`, both included; never empty, never outside 0 to 65535."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.last > LAST_PORT:
            raise InvalidPorts(f"{self}: ports end at {LAST_PORT}")
        if self.first > self.last:
            raise InvalidPorts(f"{self.first}-{self.last}: the range ends before it begins")

    @classmethod
    def of(cls, port: int) -> PortRange:
        """Return the range that holds one port."""
        return cls(port, port)

    @classmethod
    def parse(cls, text: str | int) -> PortRange:
        """Read `80`, `80-90` or `80:90`; raise InvalidPorts for anything else, also for 65536."""
        found = _RANGE.fullmatch(str(text).strip())
        if not found:
            raise InvalidPorts(f"{str(text)!r} is not a port or a range such as 40000-40999")
        first = int(found["first"])
        return cls(first, int(found["last"]) if found["last"] else first)

    @classmethod
    def parse_imported(cls, text: str | int) -> tuple[PortRange, str | None]:
        """Read a range from somebody else's text, clamping its end to 65535; also return the warning."""
        found = _RANGE.fullmatch(str(text).strip())
        if found and int(found["last"] or 0) > LAST_PORT and int(found["first"]) <= LAST_PORT:
            clamped = cls(int(found["first"]), LAST_PORT)
            return clamped, f"{str(text).strip()}: {found['last']} is not a port; read as {clamped}"
        return cls.parse(text), None

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1))

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def overlaps(self, other: PortRange) -> bool:
        """Say whether the two have a port in common."""
        return self.first <= other.last and other.first <= self.last

    def covers(self, other: PortRange) -> bool:
        """Say whether every port of `other` is in this range."""
        return self.first <= other.first and other.last <= self.last

    def touches(self, other: PortRange) -> bool:
        """Say whether the two overlap or stand side by side, so that their hull adds no port."""
        return self.first <= other.last + 1 and other.first <= self.last + 1

    def hull(self, other: PortRange) -> PortRange:
        """Return the smallest range that holds both."""
        return PortRange(min(self.first, other.first), max(self.last, other.last))


ALL_PORTS = PortRange(0, LAST_PORT)
UNPRIVILEGED = PortRange(1024, LAST_PORT)

_RANGE = re.compile(r"(?P<first>\d{1,9})(?:\s*[-:]\s*(?P<last>\d{1,9}))?")


def merge(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Return the same ports as the fewest ranges, in order."""
    merged: list[PortRange] = []
    for item in sorted(ranges):
        if merged and merged[-1].touches(item):
            merged[-1] = merged[-1].hull(item)
        else:
            merged.append(item)
    return tuple(merged)


def _read(value: object) -> object:
    if isinstance(value, PortRange):
        return value
    return PortRange.parse(value if isinstance(value, str | int) and not isinstance(value, bool) else repr(value))


#: A range in a file or message: written `40000-40999`, or as one number.
PortRangeField = Annotated[
    PortRange,
    BeforeValidator(_read),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["40000-40999"]}),
]

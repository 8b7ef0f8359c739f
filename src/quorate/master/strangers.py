"""Connections of peers that nobody knows yet: bounded for each address and in all, so that they crowd out nobody."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Final

#: So many in all; a small limit on open files makes it less (half of that).
MOST: Final = 8192
#: One address may have this part of them, so that one machine cannot crowd out the others.
SHARE_OF_ONE: Final = 8
#: IPv6 networks of this prefix are one customer's, who can take any address in them.
_V6_PREFIX: Final = 64


class Stranger:
    """One connection, until its peer has proved who it is or is gone."""

    __slots__ = ("_leave", "hang_up", "source")

    def __init__(self, source: str, leave: "Callable[[Stranger], None]") -> None:
        #: What it is counted under; empty for this machine itself, where a proxy may stand before all of them.
        self.source = source
        #: Ends the connection; set by whoever has it at present.
        self.hang_up: Callable[[], object] = lambda: None
        self._leave = leave

    def leave(self) -> None:
        """It is no stranger any more: known, or gone."""
        self._leave(self)


class Strangers:
    """All strangers, oldest first.

    Where they are too many, the oldest goes and the newest stays: who is in earnest says who it is within a moment, so
    it is those who hold on to a connection for nothing that lose it.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._most_of_one = max(1, most // SHARE_OF_ONE)
        self._all: dict[Stranger, None] = {}
        self._by_source: dict[str, dict[Stranger, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def come(self, address: str) -> Stranger:
        """One more from this address."""
        stranger = Stranger(_source(address), self._forget)
        theirs = self._by_source.setdefault(stranger.source, {})
        if stranger.source and len(theirs) >= self._most_of_one:
            self._send_away(next(iter(theirs)))
        elif len(self._all) >= self._most:
            self._send_away(next(iter(self._all)))
        self._all[stranger] = None
        self._by_source.setdefault(stranger.source, {})[stranger] = None
        return stranger

    def _send_away(self, stranger: Stranger) -> None:
        self._forget(stranger)
        stranger.hang_up()

    def _forget(self, stranger: Stranger) -> None:
        if stranger not in self._all:
            return  # It has left before.
        del self._all[stranger]
        theirs = self._by_source[stranger.source]
        del theirs[stranger]
        if not theirs:
            del self._by_source[stranger.source]


def _source(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return ""
    return str(ip_network((parsed, _V6_PREFIX), strict=False)) if parsed.version == 6 else str(parsed)

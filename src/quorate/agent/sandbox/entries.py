"""Neighbour and forwarding entries by the thousand: rtnetlink(7) by hand, for pyroute2 takes a millisecond for each."""

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Final

#: rtnetlink(7), linux/netlink.h, linux/neighbour.h.
_RTM_NEWNEIGH: Final = 28
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 1, 4, 0x100, 0x400
_NLMSG_ERROR: Final = 2
_NDA_DST, _NDA_LLADDR = 1, 2
_NETLINK_ROUTE: Final = 0
NTF_SELF, NTF_MASTER = 2, 4
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
AF_BRIDGE: Final = 7

#: A chunk of entries stays below what a socket takes at once, and its errors below what one holds.
_CHUNK: Final = 200
_RECEIVE_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a link: `family` AF_INET for a neighbour, AF_BRIDGE for forwarding."""

    family: int
    state: int
    flags: int
    mac: str
    #: The neighbour's address, or the underlay address behind which the MAC is; none for a bridge's own port.
    address: str | None = None

    def packed(self, index: int) -> bytes:
        """What follows the header of its message, for the link of that number."""
        body = struct.pack("=BxxxiHBB", self.family, index, self.state, self.flags, 0)
        if self.address is not None:
            body += _attribute(_NDA_DST, ip_address(self.address).packed)
        return body + _attribute(_NDA_LLADDR, bytes.fromhex(self.mac.replace(":", "")))


def opened_route() -> socket.socket:
    """A socket to the kernel's routing, in the namespace that this thread is in."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)


def replace(route: socket.socket, index: int, entries: Iterable[Entry]) -> None:
    """Sets them on the link of that number. Raises OSError with the first one that the kernel refuses; those after it
    may or may not be set, and nothing more can be asked through this socket."""
    left = iter(entries)
    while chunk := [entry.packed(index) for entry in islice(left, _CHUNK)]:
        last = len(chunk) - 1
        route.send(b"".join(_message(body, number, number == last) for number, body in enumerate(chunk)))
        _await(route, last)


def _message(body: bytes, number: int, last: bool) -> bytes:
    # Refusals are told in any case; the answer to the last one says that all have been taken.
    flags = _NLM_F_REQUEST | _NLM_F_CREATE | _NLM_F_REPLACE | (_NLM_F_ACK if last else 0)
    return struct.pack("=IHHII", 16 + len(body), _RTM_NEWNEIGH, flags, number, 0) + body


def _await(route: socket.socket, last: int) -> None:
    while True:
        answer, place = route.recv(_RECEIVE_BYTES), 0
        while place < len(answer):
            size, kind, _, number, _ = struct.unpack_from("=IHHII", answer, place)
            if kind == _NLMSG_ERROR:
                (error,) = struct.unpack_from("=i", answer, place + 16)
                if error:
                    raise OSError(-error, f"entry {number}: {os.strerror(-error)}")
                if number == last:
                    return
            place += (size + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

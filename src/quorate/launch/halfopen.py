"""Who tries to connect here in vain: connections of which the first packet came and to whose answer nothing did.

So one end knows that the other is there and that its own packets do not arrive, which neither can tell from silence.
Linux lists them in /proc/net/tcp as SYN_RECV (state 03); elsewhere nobody is seen.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path
from typing import Iterator, Set

_SYN_RECV = b"03"
_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")


def seen_at(port: int) -> Set[str]:
    """Addresses of those whose connections to this port are half open at this moment."""
    return {str(address) for table in _TABLES for address in _half_open(table, port)}


def _half_open(table: str, port: int) -> Iterator[object]:
    try:
        with Path(table).open("rb") as lines:
            next(lines)
            for line in lines:
                fields = line.split(None, 4)
                if fields[3] == _SYN_RECV and int(fields[1].rpartition(b":")[2], 16) == port:
                    yield _address(fields[2].rpartition(b":")[0])
    except (OSError, StopIteration, ValueError, IndexError):
        return


def _address(text: bytes) -> object:
    """The kernel prints each 32-bit word of an address in the machine's own byte order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if len(packed) == 4:
        return ipaddress.ip_address(socket.inet_ntop(socket.AF_INET, packed))
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address

"""What a prober asks of the kernel beyond connecting: no fragments, ICMP errors in full, ends that leave no trace.

Linux: ip(7), ipv6(7), tcp(7); the constants are those of include/uapi/linux/in.h, in6.h and errqueue.h, which Python
3.8 does not name. Elsewhere the little that is portable happens.
"""

from __future__ import annotations

import fcntl
import functools
import socket
import struct
import sys
import termios
from typing import Any

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_IP_BIND_ADDRESS_NO_PORT = 24
_MSG_ERRQUEUE = 0x2000
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
#: ICMP destination unreachable: network, host or communication administratively prohibited (RFC 1812, RFC 4443).
_PROHIBITED = {(_ORIGIN_ICMP, 3, 9), (_ORIGIN_ICMP, 3, 10), (_ORIGIN_ICMP, 3, 13), (_ORIGIN_ICMP6, 1, 1)}


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@functools.lru_cache(maxsize=4096)
def endpoint(address: str, port: int) -> Any:
    """Numeric only: a prober that waits for DNS measures DNS. Raises OSError for anything else.

    Asked in bytes: a text would have Python load its codec for names, which the member's user may not be able to read.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(address.encode(), port, type=socket.SOCK_STREAM, flags=flags)[0][4]


def bind_for_connecting(sock: socket.socket, address: str) -> None:
    if sys.platform == "linux":
        # Otherwise the kernel picks the port now, and a thousand connections need a thousand different ones.
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(endpoint(address, 0))


def vanish_when_closed(sock: socket.socket) -> None:
    """A reset instead of a goodbye: no end stays in TIME-WAIT, which would hold a port that a member needs next."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that were sent and that the kernel at the other end has not taken, whatever its process does; tcp(7)."""
    if sys.platform != "linux":
        return 0
    return int(struct.unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])


def want_errors(sock: socket.socket) -> None:
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def forbid_fragments(sock: socket.socket) -> None:
    """Don't-fragment, and no belief in what ICMP said earlier about the path: each size is really tried."""
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def prohibited(sock: socket.socket) -> str | None:
    """The ICMP message by which a firewall said no to a datagram's socket; none where it heard no such one."""
    if sys.platform != "linux" or sock.type != socket.SOCK_DGRAM:
        return None
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, _MSG_ERRQUEUE)
    except OSError:
        return None
    for _level, kind, data in ancillary:
        if kind not in (_IP_RECVERR, _IPV6_RECVERR) or len(data) < _EXTENDED_ERROR.size:
            continue
        _errno, origin, icmp_type, icmp_code, _pad, _info, _data = _EXTENDED_ERROR.unpack_from(data)
        if (origin, icmp_type, icmp_code) in _PROHIBITED:
            by = _offender(data[_EXTENDED_ERROR.size :])
            return f"administratively prohibited (ICMP {icmp_type}/{icmp_code}), says {by}"
    return None


def _offender(sockaddr: bytes) -> str:
    if len(sockaddr) >= 28 and struct.unpack_from("=H", sockaddr)[0] == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
    if len(sockaddr) >= 8 and struct.unpack_from("=H", sockaddr)[0] == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
    return "somebody"

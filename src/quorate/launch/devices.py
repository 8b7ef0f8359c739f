"""Which network device owns an address, and which leads to one: what Gloo and NCCL would otherwise guess.

Linux only (rtnetlink(7)); elsewhere and on any error the answer is that it is not known.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 22, 24, 26
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF = 1, 4
#: The index of the loopback device in every network namespace (include/net/flow.h: LOOPBACK_IFINDEX).
_LOOPBACK = 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, device
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, …, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type


def variables(address: str, peers: Sequence[str] = ()) -> Dict[str, str]:
    """What keeps Gloo and NCCL on the device that leads to a member's peers; nothing where that is not known.

    Where there are several such devices, or none but the loopback's, it is the one that owns the member's address.
    Gloo takes one exact name. NCCL takes a list of prefixes, unless `=` says that the name is whole.
    """
    used = devices_to(peers)
    device = used[0] if len(used) == 1 else device_of(address)
    return {"GLOO_SOCKET_IFNAME": device, "NCCL_SOCKET_IFNAME": f"={device}"} if device else {}


def device_of(address: str) -> str | None:
    """The name of the device that owns an address of this network namespace."""
    wanted = ipaddress.ip_address(address)
    try:
        # All of 127.0.0.0/8 is this machine, though only its first address is written on the device.
        if wanted.is_loopback:
            return socket.if_indextoname(_LOOPBACK)
        for owned, index in addresses():
            if owned == wanted:
                return socket.if_indextoname(index)
    except OSError:
        pass
    return None


def devices_to(addresses: Iterable[str]) -> List[str]:
    """The devices by which the kernel would send to these addresses, in order; not the loopback's."""
    found = {device_to(address) for address in addresses}
    return sorted(device for device in found if device is not None and not _is_loopback(device))


def device_to(address: str) -> str | None:
    """The name of the device by which the kernel would send to an address; None without a route."""
    wanted = ipaddress.ip_address(address)
    family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
    packed = wanted.packed
    body = _RTMSG.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    try:
        for message in _asked(_RTM_GETROUTE, body, _RTM_NEWROUTE, dump=False):
            found = _attributes(message[_RTMSG.size :]).get(_RTA_OIF)
            return None if found is None else socket.if_indextoname(struct.unpack("=I", found)[0])
    except OSError:
        pass
    return None


def _is_loopback(device: str) -> bool:
    try:
        return socket.if_nametoindex(device) == _LOOPBACK
    except OSError:
        return False


def addresses() -> Iterator[Tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    """Every address of this network namespace with the index of its device."""
    body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in _asked(_RTM_GETADDR, body, _RTM_NEWADDR, dump=True):
        yield from _address(message)


def _asked(question: int, body: bytes, answer: int, *, dump: bool) -> Iterator[bytes]:
    """What the kernel answers, without headers. Raises OSError where it refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        flags = _NLM_F_REQUEST | (_NLM_F_DUMP if dump else 0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), question, flags, 1, 0) + body)
        while True:
            data = netlink.recv(1 << 17)
            while data:
                length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise OSError("the kernel does not answer")
                if kind == answer:
                    yield data[_HEADER.size : length]
                data = data[_aligned(length) :]
            if not dump:
                return


def _attributes(data: bytes) -> Dict[int, bytes]:
    found: Dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[max(_aligned(length), _ATTRIBUTE.size) :]
    return found


def _address(message: bytes) -> Iterator[Tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    _family, _prefix, _flags, _scope, index = _IFADDRMSG.unpack_from(message)
    found = _attributes(message[_IFADDRMSG.size :])
    # On a point-to-point device IFA_ADDRESS is the peer's, and IFA_LOCAL the own.
    packed = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if packed is not None:
        yield ipaddress.ip_address(packed), index


def _aligned(length: int) -> int:
    return (length + 3) & ~3

"""The sockets of processes, as the kernel lists them for each process's own network. Linux; proc(5), tcp(7)."""

import ipaddress
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

#: include/net/tcp_states.h
_STATES: Final = (
    "", "ESTABLISHED", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSE", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECV",
)  # fmt: skip
#: More are counted and not told.
MOST: Final = 512


class Entry(NamedTuple):
    """One line of /proc/net/tcp and its kin."""

    transport: str
    state: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    unsent: int
    unread: int
    retransmits: int
    pid: int


def of_processes(pids: Iterable[int]) -> list[Entry]:
    """All TCP and bound UDP sockets of the processes, listeners first."""
    owners: dict[str, int] = {}
    networks: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            networks.setdefault(Path(f"/proc/{pid}/ns/net").stat().st_ino, pid)
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    target = os.readlink(descriptor.path)  # noqa: PTH115 (hundreds of them)
                    if target.startswith("socket:["):
                        owners.setdefault(target[8:-1], pid)
    found = [entry for pid in networks.values() for entry in _listed(pid, owners)]
    return sorted(found, key=lambda entry: (entry.state != "LISTEN", entry))[:MOST]


def _listed(pid: int, owners: dict[str, int]) -> Iterator[Entry]:
    for table in ("tcp", "tcp6", "udp", "udp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            owner = owners.get(fields[9])
            if owner is None:
                continue
            transport = table[:3]
            state = _STATES[int(fields[3], 16)] if int(fields[3], 16) < len(_STATES) else fields[3]
            local, local_port = _endpoint(fields[1])
            remote, remote_port = _endpoint(fields[2])
            unsent, _, unread = fields[4].partition(":")
            if transport == "udp":
                state = "ESTABLISHED" if remote_port else "LISTEN"
            yield Entry(
                transport, state, local, local_port, remote if remote_port else "", remote_port,
                # Of a listener the two numbers are the length of its queue.
                int(unsent, 16) if state != "LISTEN" else 0, int(unread, 16) if state != "LISTEN" else 0,
                int(fields[6], 16), owner,
            )  # fmt: skip


def _endpoint(text: str) -> tuple[str, int]:
    """`0100007F:1F90` is 127.0.0.1 port 8080: words are in the byte order of the machine."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), int(port, 16)

"""Whether the ports that a member leased are free on this host, and who has them if not."""

import errno
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def taken(ports: Mapping[str, int]) -> str | None:
    """None if all can be listened on, at every address; else the sentence that names port, purpose and holder."""
    for purpose, port in ports.items():
        for family, wildcard in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    # Without it, connections that are long over would still be in the way.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((wildcard, port))
                    probe.listen(1)
            except OSError as error:
                if family == socket.AF_INET6 and error.errno != errno.EADDRINUSE:
                    continue
                return f"port {port}, leased for {purpose}, cannot be listened on: {error.strerror}; {holder(port)}"
    return None


def holder(port: int) -> str:
    """Who listens on a port, as well as this user may know."""
    inodes = set(_listening(port))
    if not inodes:
        return "nobody listens there, so a connection holds it"
    for folder in _processes():
        with suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                if str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in inodes:
                    return f"{(folder / 'comm').read_text().strip()} (pid {folder.name}) listens there"
    return "a process of another user listens there"


def _listening(port: int) -> Iterable[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _processes() -> Iterable[Path]:
    return (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())

"""What a process sees of the machine's network and names: its sandbox, its own hosts and resolver files, its name.

Standard library only: every shim is forked with it.
"""

import os
import socket
from dataclasses import dataclass

from quorate.agent import syscalls

#: All that a file with names is for is to be read.
_FOR_READING = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC

_HOSTS, _RESOLV = "/etc/hosts", "/etc/resolv.conf"
#: The C library and its like ask these of the machine before they read a file. The machine knows none of the members'
#: names, and looks up any other, wherever the member may go itself.
_ANSWERING_FOR_THE_MACHINE = (
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/dbus/system_bus_socket",
    "/run/avahi-daemon/socket",
)


class SurroundingsError(Exception):
    """The process could not be taken in; the text says where it failed."""


@dataclass(frozen=True)
class Surroundings:
    """Paths; an empty one leaves things as they are on the machine."""

    #: A network namespace, such as /proc/PID/ns/net or a file that one is bound to.
    netns: str = ""
    #: What is seen as /etc/hosts and as /etc/resolv.conf.
    hosts_file: str = ""
    resolv_file: str = ""
    #: What the machine is called.
    hostname: str = ""
    #: What else is seen otherwise: own file, and the one that it takes the place of, where there is one.
    more: tuple[tuple[str, str], ...] = ()
    #: Folders that may be written to, in the same way.
    folders: tuple[tuple[str, str], ...] = ()

    def enter(self) -> None:
        """Takes the calling process in, for good; needs root where anything is set. Raises SurroundingsError."""
        try:
            self._enter()
        except OSError as error:
            raise SurroundingsError(str(error)) from error

    def _enter(self) -> None:
        if self.netns:
            self._enter_network()
        over = [(own, seen) for own, seen in ((self.hosts_file, _HOSTS), (self.resolv_file, _RESOLV)) if own]
        over += [(own, seen) for own, seen in self.more if os.path.exists(seen)]  # noqa: PTH110 (as below)
        if self.hostname:
            syscalls.unshare(syscalls.CLONE_NEWUTS, "a name of its own")
            socket.sethostname(self.hostname)
        if over or self.folders or self.netns:
            syscalls.unshare(syscalls.CLONE_NEWNS, "a mount namespace")
            # What the machine unmounts later goes here too, or a member would hold it; nothing goes the other way.
            syscalls.mount("none", "/", syscalls.MS_REC | syscalls.MS_SLAVE)
        for own, seen in over:
            # A link that leads nowhere hides nothing that would have to be covered.
            if not os.path.exists(seen):  # noqa: PTH110 (pathlib costs a shim a megabyte)
                continue
            syscalls.mount(own, seen, syscalls.MS_BIND)
            syscalls.mount("none", seen, syscalls.MS_REMOUNT | syscalls.MS_BIND | _FOR_READING)
        for own, seen in self.folders:
            if os.path.isdir(seen):  # noqa: PTH112 (as above)
                syscalls.mount(own, seen, syscalls.MS_BIND)
        if self.hosts_file:
            _hide(*_ANSWERING_FOR_THE_MACHINE)
        if self.netns:
            _show_own_devices()

    def _enter_network(self) -> None:
        try:
            namespace = os.open(self.netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SurroundingsError(f"the member's network namespace is gone: {error}") from error
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNET, self.netns)
        finally:
            os.close(namespace)


def _show_own_devices() -> None:
    """/sys shows the devices of the namespace in which it was mounted: NCCL would take the host's eth0 for its own.

    What is mounted below it, such as control groups, is laid over the new one again.
    """
    below = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in _mounted_below("/sys/")]
    try:
        try:
            syscalls.mount("sysfs", "/sys", _FOR_READING, kind="sysfs")
        except OSError:
            # In a container of one's own, whose kernel shows nobody a new /sys: the old one is better than no member.
            return
        for path, was in below:
            # A folder for each kind of thing that this kernel has, so not for all that others may have mounted.
            if os.path.isdir(path):  # noqa: PTH112 (as above)
                syscalls.mount(f"/proc/self/fd/{was}", path, syscalls.MS_BIND)
    finally:
        for _, was in below:
            os.close(was)


def _hide(*sockets: str) -> None:
    """Whoever connects is refused, as where nobody listens."""
    for path in sockets:
        if os.path.exists(path):  # noqa: PTH110 (as above)
            syscalls.mount(os.devnull, path, syscalls.MS_BIND)


def _mounted_below(folder: str) -> list[str]:
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123 (as above)
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [point for point in points if point.startswith(folder)]

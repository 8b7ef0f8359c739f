"""What a process sees of the machine's network and names: its sandbox, and its own hosts and resolver files.

Standard library only: every shim is forked with it.
"""

import ctypes
import os
from dataclasses import dataclass

#: sched.h and sys/mount.h; Python 3.11 has neither setns nor mount.
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19

_HOSTS, _RESOLV = "/etc/hosts", "/etc/resolv.conf"

_libc = ctypes.CDLL(None, use_errno=True)


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

    def enter(self) -> None:
        """Takes the calling process in, for good; needs root where anything is set. Raises SurroundingsError."""
        if self.netns:
            self._enter_network()
        over = [(own, seen) for own, seen in ((self.hosts_file, _HOSTS), (self.resolv_file, _RESOLV)) if own]
        if over:
            _check(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
            # What the machine unmounts later goes here too, or a member would hold it; nothing goes the other way.
            _check(_libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "/")
        for own, seen in over:
            _check(_libc.mount(os.fsencode(own), os.fsencode(seen), None, _MS_BIND, None), f"{own} over {seen}")

    def _enter_network(self) -> None:
        try:
            namespace = os.open(self.netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SurroundingsError(f"the member's network namespace is gone: {error}") from error
        try:
            _check(_libc.setns(namespace, _CLONE_NEWNET), self.netns)
        finally:
            os.close(namespace)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise SurroundingsError(f"{what}: {os.strerror(number)}")

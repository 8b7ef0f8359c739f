"""System calls that Python does not have yet: namespaces, mounts, capabilities. Standard library only; Linux alone.

All but `prctl` raise CallError; `what` says there what it was about.
"""

import ctypes
import os
import struct
from collections.abc import Collection

#: sched.h.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x04000000, 0x20000000, 0x40000000
#: sys/mount.h.
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 32, 4096, 16384, 1 << 18, 1 << 19
_MNT_DETACH = 2
#: sys/prctl.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_PR_CAPBSET_DROP = 24
#: capset(2).
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"

#: Found once, before the zygote forks.
libc = ctypes.CDLL(None, use_errno=True)


class CallError(OSError):
    """The kernel refused; `errno` says how, and `filename` what it was about."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def unshare(kinds: int, what: str) -> None:
    """This thread leaves the namespaces of these kinds for new ones."""
    check(libc.unshare(kinds), what)


def setns(namespace: int, kind: int, what: str) -> None:
    """This thread enters the namespace behind the descriptor."""
    check(libc.setns(namespace, kind), what)


def mount(source: str, target: str, flags: int, what: str = "", kind: str = "none") -> None:
    """As mount(2), without options."""
    done = libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, None)
    check(done, what or f"{source} at {target}")


def unmount(target: str) -> None:
    """What was mounted last at that place goes, for those who use it once they no longer do."""
    check(libc.umount2(os.fsencode(target), _MNT_DETACH), target)


def prctl(option: int, value: int) -> None:
    """Of this process; for options of which no kernel refuses any."""
    libc.prctl(option, value, 0, 0, 0)


def drop_capabilities(kept: Collection[int] = ()) -> None:
    """No program that this process starts ever has others than these (capabilities(7)), not even one of root's."""
    with open(_LAST_CAPABILITY) as file:  # noqa: PTH123 (pathlib costs a shim a megabyte)
        last = int(file.read())
    for capability in range(last + 1):
        if capability not in kept:
            check(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def keep_capabilities(kept: Collection[int] = ()) -> None:
    """This process has these from now on, each below 32, as far as it had them, and no others."""
    # Effective, permitted, inheritable; the second triple is for capabilities from 32 on.
    had, header = ctypes.create_string_buffer(24), struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    check(libc.capget(header, had), "capget")
    bits = sum(1 << capability for capability in kept) & struct.unpack("6I", had.raw)[1]
    check(libc.capset(header, struct.pack("6I", bits, bits, 0, 0, 0, 0)), "capset")


def check(result: int, what: str) -> None:
    """Raises what errno stands for, unless the result is 0."""
    if result:
        number = ctypes.get_errno()
        raise CallError(number, os.strerror(number), what)

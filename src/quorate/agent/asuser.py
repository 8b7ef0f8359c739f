"""Becomes another user, without rights and with little room, and then a program that looks into a job's process.

Run as a program: `asuser.py UID GID LOOKS PROGRAM ARGUMENT…`. Standard library only.

Some machines let no user read the memory of a process that is not a child of its own, not even of the same user (Yama's
ptrace_scope, as Ubuntu sets it). There LOOKS is `looks`: one right is kept, to read any process, and what else that
right is good for, and all ways out but what is printed, are closed.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from typing import Final

#: A look maps the files of an interpreter; what a process calls such may be of any size.
_MEMORY_BYTES: Final = 2 << 30
_CPU_S: Final = 10
#: What it may tell.
OUTPUT_BYTES: Final = 1 << 20

#: prctl(2), capabilities(7).
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAP_AMBIENT = 8, 38, 22, 47
_AMBIENT_RAISE, _SECCOMP_MODE_FILTER = 2, 2
_CAPABILITIES_V3, _CAP_SYS_PTRACE = 0x20080522, 19

#: By the machine's name: its number in seccomp's data (AUDIT_ARCH_…); of system calls those for which the kept right is
#: good besides, or which reach beyond this process (ptrace, process_vm_writev, pidfd_getfd, process_madvise,
#: userfaultfd, io_uring_setup, openat2, socket, connect, creat); and those that open files, with the place of flags.
_CALLS: Final = {
    "x86_64": (0xC000003E, (101, 311, 438, 440, 323, 425, 437, 41, 42, 85), {2: 1, 257: 2}),
    "aarch64": (0xC00000B7, (117, 271, 438, 440, 282, 425, 437, 198, 203), {56: 2}),
}
#: linux/bpf_common.h and linux/seccomp.h: load a word, jump if equal, jump if any bit is set, return.
_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_WRITES: Final = os.O_WRONLY | os.O_RDWR
#: System calls of x32, which have other numbers.
_X32: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def can_look() -> bool:
    """Whether LOOKS may be asked for on this kind of machine."""
    return platform.machine() in _CALLS


def main() -> None:
    uid, gid, looks, program, *arguments = sys.argv[1:]
    # By its descriptor: it may lie in a folder of root's alone, such as a virtual environment of root's.
    file = os.open(program, os.O_RDONLY)
    os.set_inheritable(file, True)
    limits = {
        resource.RLIMIT_AS: _MEMORY_BYTES,
        resource.RLIMIT_CPU: _CPU_S,
        resource.RLIMIT_FSIZE: OUTPUT_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))
    keeps = looks == "looks" and os.geteuid() == 0
    if keeps:
        _prctl(_PR_SET_KEEPCAPS, 1)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*[int(gid)] * 3)
        os.setresuid(*[int(uid)] * 3)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if keeps:
        _keep(_CAP_SYS_PTRACE)
        _close(*_CALLS[platform.machine()])
    os.execve(file, [program, *arguments], {})  # noqa: S606 (no shell is wanted)


def _keep(capability: int) -> None:
    """This one alone, also past the next execve."""
    header, one = struct.pack("<Ii", _CAPABILITIES_V3, 0), 1 << capability
    _check(_libc.capset(header, struct.pack("<6I", one, one, one, 0, 0, 0)))
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)


def _close(architecture: int, refused: tuple[int, ...], opening: dict[int, int]) -> None:
    """Refuses these system calls, and opening a file for writing, from now on."""
    steps = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0), (_ANY, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE),
    ]  # fmt: skip
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number, flags in opening.items():
        # struct seccomp_data: the arguments stand from byte 16 on, eight bytes each, the lower half first.
        steps += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * flags), (_ANY, 0, 1, _WRITES)]
        steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))


def _prctl(option: int, *arguments: int | bytes) -> None:
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    _check(_libc.prctl(option, *given, *[ctypes.c_ulong(0)] * (4 - len(given))))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()

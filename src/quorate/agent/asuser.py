"""Becomes another user, without rights and with little room, and then a program that looks into a job's process.

Run as a program: `asuser.py UID GID PROGRAM ARGUMENT…`. Standard library only.
"""

import ctypes
import os
import resource
import sys
from typing import Final

#: A look maps the files of an interpreter; what a process calls such may be of any size.
_MEMORY_BYTES: Final = 2 << 30
_CPU_S: Final = 10
#: What it may tell.
OUTPUT_BYTES: Final = 1 << 20
_PR_SET_NO_NEW_PRIVS: Final = 38


def main() -> None:
    uid, gid, program, *arguments = sys.argv[1:]
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
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*[int(gid)] * 3)
        os.setresuid(*[int(uid)] * 3)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execve(file, [program, *arguments], {})  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()

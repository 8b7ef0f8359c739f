"""Starts a member's command in a process of its own, exactly as ordered. Standard library only."""

import ctypes
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from quorate.agent.processes import Cgroup
from quorate.agent.runtime.surroundings import Surroundings, SurroundingsError

#: More than any library asks for; some loop over all possible descriptors, so not everything that the kernel allows.
_MAX_OPEN_FILES = 1 << 20
#: The same on every architecture.
_SYS_CLONE3 = 435
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_INTO_CGROUP = 0x200000000

#: Found once, before the zygote forks.
libc = ctypes.CDLL(None)
#: The same, keeping the interpreter's lock, so that a process that is made by it has it too.
_locked_libc = ctypes.PyDLL(None)


class CommandError(Exception):
    """The command could not be started; the text says what was tried, the code is that of the finding."""

    def __init__(self, sentence: str, code: str = "START-FAILED") -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class User:
    """Who a member is on this machine."""

    uid: int
    gid: int


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    user: User | None,
    cgroup: Cgroup | None,
    surroundings: Surroundings,
    stdout: int,
    stderr: int,
) -> int:
    """Forks and executes; returns the pid once the program has taken over. Raises CommandError if it did not."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, inside = _fork_into(cgroup)
    if pid == 0:
        try:
            _become(argv, environment, folder, user, None if inside else cgroup, surroundings, stdout, stderr)
        except (OSError, SurroundingsError) as error:
            step = _missing(argv[0], environment) if isinstance(error, FileNotFoundError) else str(error)
            with suppress(OSError):
                os.write(writer, step.encode(errors="replace")[:4000])
        finally:
            os._exit(127)
    os.close(writer)
    try:
        failure = os.read(reader, 4096)
    finally:
        os.close(reader)
    if failure:
        os.waitpid(pid, 0)
        raise CommandError(failure.decode(errors="replace"))
    return pid


class _CloneArguments(ctypes.Structure):
    """clone3(2), as of Linux 5.7."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    )  # fmt: skip


def _fork_into(cgroup: Cgroup | None) -> tuple[int, bool]:
    """Like fork; and whether the child is born in the group, which is ten milliseconds faster than moving it there.

    Only for a process with one thread: nothing but the kernel knows of this fork.
    """
    if cgroup is not None:
        with suppress(OSError):
            group = os.open(cgroup.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                arguments = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=group)
                pid = _locked_libc.syscall(_SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
            finally:
                os.close(group)
            if pid >= 0:
                return pid, True
    return os.fork(), False


def become(user: User) -> None:
    """Gives up every right of the present user for good; no set-uid program gives one back."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def _become(
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    user: User | None,
    cgroup: Cgroup | None,
    surroundings: Surroundings,
    stdout: int,
    stderr: int,
) -> None:
    os.setsid()
    if cgroup is not None:
        cgroup.enter()
    surroundings.enter()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # Python ignores these two, and what is ignored stays so across exec: `yes | head` would never end.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.umask(0o022)
    if user is not None:
        become(user)
    os.chdir(folder)
    os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 (no shell is the point)


def _missing(program: str, environment: Mapping[str, str]) -> str:
    if "/" in program:
        return f"there is no program {program}"
    return f"there is no program {program} on the PATH {environment.get('PATH', os.defpath)}"

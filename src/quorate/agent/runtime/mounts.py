"""Mounts folders of the machine into a container, so that nobody can put something else in their place.

Whoever may write to a folder may replace what lies in it by a link to anything, between the moment at which a path is
judged and the one at which the engine, which is root, binds it. So a source is opened beneath what the operator allows
and through no link at all, and what was opened is bound to a place that only root can reach; the engine is given that
place. It goes as soon as the container has started: by then the container has a mount of its own.

All of that is done in the engine's mount namespace, which need not be the agent's. Standard library only.
"""

import ctypes
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

#: Of root alone. What a shim that was killed at the wrong moment has left there is removed by `forget`.
STAGE: Final = "/run/quorate/mounts"

#: The same on every architecture (openat2(2), Linux 5.6).
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
#: sched.h and sys/mount.h.
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MNT_DETACH = 4096, 16384, 2
_MAX_SAID = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(Exception):
    """A source is not what was allowed, or cannot be mounted; the text names it."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@contextmanager
def staged(mounts: Sequence[Mapping[str, Any]], engine: str, member: str) -> Iterator[list[dict[str, Any]]]:
    """The engine's own words for these mounts, which hold while this is entered. Raises MountError.

    Each has `root`, which the operator allows, `below`, a path in it without links, `target` and `read_only`. `engine`
    is the path of the engine's socket.
    """
    if not mounts:
        yield []
        return
    if os.geteuid() != 0:
        yield [bind(_unmovable(mount), mount["target"], mount["read_only"]) for mount in mounts]
        return
    place = f"{STAGE}/{member}"
    keeper = _keeper(engine)
    _there(keeper, lambda: _stage(mounts, place))
    try:
        yield [bind(f"{place}/{number}", mount["target"], mount["read_only"]) for number, mount in enumerate(mounts)]
    finally:
        with suppress(MountError):
            _there(keeper, lambda: _unstage(place))


def forget(engine: str, wanted: Callable[[str], bool]) -> None:
    """Removes what is staged for members that are not wanted any more. Raises MountError."""

    def clear() -> None:
        with suppress(FileNotFoundError):
            for member in os.listdir(STAGE):  # noqa: PTH208
                if not wanted(member):
                    _unstage(f"{STAGE}/{member}")

    _there(_keeper(engine), clear)


def bind(source: str, target: str, read_only: bool) -> dict[str, Any]:
    """One bind mount in the engine's words; what is mounted in the container later stays there."""
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _unmovable(mount: Mapping[str, Any]) -> str:
    """The path of a source that only root and this user can move; none but root can stage others. Raises MountError."""
    path = os.path.realpath(f"{mount['root']}/{mount['below']}")
    folder = path
    while folder != "/":
        folder = os.path.dirname(folder)  # noqa: PTH120
        status = os.stat(folder)  # noqa: PTH116
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
            raise MountError(f"{path} cannot be mounted by an agent that is not root: others may change {folder}")
    return path


def _keeper(engine: str) -> int:
    """The process behind the engine's socket (SO_PEERCRED, unix(7))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(engine)
        except OSError as error:
            raise MountError(f"no engine answers at {engine}: {error}") from error
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def _there(keeper: int, work: Callable[[], None]) -> None:
    """Does it in a child, in the mount namespace of that process. Raises MountError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _enter(keeper)
            work()
            code = 0
        except (MountError, OSError) as error:
            os.write(writer, str(error).encode(errors="replace")[:_MAX_SAID])
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as said:  # noqa: PTH123 (a descriptor)
        sentence = said.read(_MAX_SAID).decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if status:
        raise MountError(sentence or "a mount could not be prepared")


def _enter(keeper: int) -> None:
    namespace = os.open(f"/proc/{keeper}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(namespace).st_ino != os.stat("/proc/self/ns/mnt").st_ino:  # noqa: PTH116
        _check(_libc.setns(namespace, _CLONE_NEWNS), "the engine's mount namespace")


def _stage(mounts: Sequence[Mapping[str, Any]], place: str) -> None:
    _unstage(place)
    os.makedirs(STAGE, 0o700, exist_ok=True)  # noqa: PTH103
    if os.stat(STAGE).st_uid != 0 or os.stat(STAGE).st_mode & 0o077:  # noqa: PTH116
        raise MountError(f"{STAGE} is open to others than root")
    os.mkdir(place, 0o700)  # noqa: PTH102
    for number, mount in enumerate(mounts):
        source = _open(mount["root"], mount["below"])
        target = f"{place}/{number}"
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.mkdir(target)  # noqa: PTH102
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        done = _libc.mount(f"/proc/self/fd/{source}".encode(), target.encode(), None, _MS_BIND | _MS_REC, None)
        _check(done, f"{mount['root']}/{mount['below']}")
        os.close(source)


def _unstage(place: str) -> None:
    with suppress(FileNotFoundError):
        for name in os.listdir(place):  # noqa: PTH208
            # Until nothing is mounted there: then it says so, and only then may anything be removed.
            while _libc.umount2(f"{place}/{name}".encode(), _MNT_DETACH) == 0:
                pass
            path = f"{place}/{name}"
            if os.path.isdir(path):  # noqa: PTH112
                os.rmdir(path)  # noqa: PTH106
            else:
                os.unlink(path)  # noqa: PTH108
        os.rmdir(place)  # noqa: PTH106


def _open(root: str, below: str) -> int:
    try:
        top = os.open(root, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{root} cannot be mounted: {error.strerror}") from error
    if not below:
        return top
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    found: int = _libc.syscall(_SYS_OPENAT2, top, os.fsencode(below), ctypes.byref(how), ctypes.sizeof(how))
    os.close(top)
    if found < 0:
        why = os.strerror(ctypes.get_errno())
        raise MountError(f"{root}/{below} cannot be mounted: it is not what it was when it was allowed ({why})")
    return found


def _check(result: int, what: str) -> None:
    if result:
        raise MountError(f"{what}: {os.strerror(ctypes.get_errno())}")

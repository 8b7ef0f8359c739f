"""Mounts folders of the machine into a container, so that nobody can put something else in their place.

Whoever may write to a folder may replace what lies in it by a link to anything, between the moment at which a path is
judged and the one at which the engine, which is root, binds it. So a source is opened beneath what the operator allows
and through no link at all, and what was opened is bound to a place that only root can reach; the engine is given that
place. It goes as soon as the container has started: by then the container has a mount of its own.

All of that is done in the engine's mount namespace, which need not be the agent's. Standard library only.
"""

import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from quorate.agent import syscalls

#: Of root alone; each agent has a folder in it. What a shim that was killed at the wrong moment has left there is
#: removed by `forget`, at the start of the same agent: no other one knows which members are wanted.
STAGES: Final = "/run/quorate/mounts"

#: The same on every architecture (openat2(2), Linux 5.6).
_SYS_OPENAT2 = 437
#: mount_setattr(2), Linux 5.12.
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 0x01
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_MAX_SAID = 4096
#: As many as the kernel follows (path_resolution(7)).
_MAX_LINKS = 40
#: From this version of the interface on, an engine makes what is mounted beneath a source read-only too, or says no.
_RECURSIVE_SINCE = (1, 44)


class MountError(Exception):
    """A source is not what was allowed, or cannot be mounted; the text names it."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))


def stage_of(state_folder: str) -> str:
    """Where the agent with this state folder (resolved) prepares mounts, in all its lives."""
    # Imported here: shims need none of it, and it brings a library of cryptography.
    import hashlib

    return f"{STAGES}/{hashlib.sha256(state_folder.encode()).hexdigest()[:16]}"


@contextmanager
def staged(
    mounts: Sequence[Mapping[str, Any]], engine: str, stage: str, member: str, api: str = ""
) -> Iterator[list[dict[str, Any]]]:
    """The engine's own words for these mounts, which hold while this is entered. Raises MountError.

    Each has `root`, which the operator allows, `below`, a path in it without links, `target` and `read_only`. `engine`
    is the path of the engine's socket, `api` the version of the interface that it speaks, `stage` the agent's place.
    """
    if not mounts:
        yield []
        return
    if os.geteuid() != 0:
        yield [_bind_unstaged(mount, api) for mount in mounts]
        return
    place = f"{stage}/{member}"
    keeper = _keeper(engine)
    try:
        _there(keeper, lambda: _stage(mounts, stage, place))
        yield [bind(f"{place}/{number}", mount["target"], mount["read_only"]) for number, mount in enumerate(mounts)]
    finally:
        with suppress(MountError):
            _there(keeper, lambda: _unstage(place))


def forget(engine: str, stage: str, wanted: Callable[[str], bool]) -> None:
    """Removes what is staged there for members that are not wanted any more. Raises MountError."""

    def clear() -> None:
        with suppress(FileNotFoundError):
            for member in os.listdir(stage):  # noqa: PTH208
                if not wanted(member):
                    _unstage(f"{stage}/{member}")

    _there(_keeper(engine), clear)


def remove(engine: str, stage: str) -> None:
    """Removes the stage of an agent that is gone for good. Raises MountError."""
    forget(engine, stage, lambda _: False)

    def clear() -> None:
        with suppress(FileNotFoundError):
            os.rmdir(stage)  # noqa: PTH106

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


def settled(path: str) -> str:
    """Where an absolute path leads, which only root and this user can change. Raises MountError, with the folder.

    Whoever may write to a folder on the way, or on the way of a link in it, could make the path lead elsewhere later.
    What does not exist yet is taken as it is written.
    """
    folder, ahead, links = "/", path.split("/")[::-1], 0
    while ahead:
        name = ahead.pop()
        if name in ("", ".", ".."):
            folder = os.path.dirname(folder) if name == ".." else folder  # noqa: PTH120
            continue
        here = f"{folder.rstrip('/')}/{name}"
        try:
            status = os.lstat(here)
        except FileNotFoundError:
            _check_kept(folder, here, None)
            return os.path.normpath("/".join((here, *reversed(ahead))))
        except OSError as error:
            raise MountError(f"{here}: {error.strerror}") from error
        _check_kept(folder, here, status)
        if not stat.S_ISLNK(status.st_mode):
            folder = here
            continue
        links += 1
        if links > _MAX_LINKS:
            raise MountError(f"{path} has too many links on its way")
        target = os.readlink(here)  # noqa: PTH115
        folder = "/" if target.startswith("/") else folder
        ahead += target.split("/")[::-1]
    return folder


def _check_kept(folder: str, here: str, status: os.stat_result | None) -> None:
    """Only root and this user can put something else at `here`, which lies in `folder`. Raises MountError."""
    ours = (0, os.geteuid())
    around = os.stat(folder)  # noqa: PTH116
    if around.st_uid not in ours:
        raise MountError(f"{folder} on its way belongs to UID {around.st_uid}, who can put something else there")
    if not around.st_mode & 0o022:
        return
    # In a sticky folder everybody may make what is not there, and each may move what is his own.
    if not around.st_mode & stat.S_ISVTX:
        raise MountError(f"others may write to {folder} on its way, and put something else there")
    if status is None or status.st_uid not in ours:
        whose = "does not exist yet" if status is None else f"belongs to UID {status.st_uid}"
        raise MountError(f"others may write to {folder} on its way, and {here} {whose}, so it can be replaced")


def _bind_unstaged(mount: Mapping[str, Any], api: str) -> dict[str, Any]:
    """None but root can stage a source, so nobody else may be able to move it. Raises MountError."""
    path = f"{mount['root']}/{mount['below']}".rstrip("/") or "/"
    try:
        moved = settled(path) != path
    except MountError as error:
        raise MountError(f"{path} cannot be mounted by an agent that is not root: {error}") from error
    if moved:
        raise MountError(f"{path} cannot be mounted: it is not what it was when it was allowed")
    made = bind(path, mount["target"], mount["read_only"])
    if mount["read_only"] and tuple(int(part) for part in api.split(".") if part.isdecimal()) >= _RECURSIVE_SINCE:
        made["BindOptions"]["ReadOnlyForceRecursive"] = True
    return made


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
        syscalls.setns(namespace, syscalls.CLONE_NEWNS, "the engine's mount namespace")


def _stage(mounts: Sequence[Mapping[str, Any]], stage: str, place: str) -> None:
    _unstage(place)
    for folder in (os.path.dirname(stage), stage):  # noqa: PTH120
        os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103
        if os.stat(folder).st_uid != 0 or os.stat(folder).st_mode & 0o077:  # noqa: PTH116
            raise MountError(f"{folder} is open to others than root")
    os.mkdir(place, 0o700)  # noqa: PTH102
    for number, mount in enumerate(mounts):
        source = _open(mount["root"], mount["below"])
        target = f"{place}/{number}"
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.mkdir(target)  # noqa: PTH102
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _mount_for(source, target, f"{mount['root']}/{mount['below']}", mount["read_only"])
        os.close(source)


def _mount_for(source: int, target: str, what: str, read_only: bool) -> None:
    """With all that is mounted beneath it, read-only as a whole; before Linux 5.12 that is left out where it is."""
    path = f"/proc/self/fd/{source}"
    syscalls.mount(path, target, syscalls.MS_BIND | syscalls.MS_REC, what)
    # Else the end of this mount would be the end of those that it is a copy of (mount_namespaces(7)).
    syscalls.mount("none", target, syscalls.MS_PRIVATE | syscalls.MS_REC, what)
    if not read_only:
        return
    wanted = _MountAttributes(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    place, size = target.encode(), ctypes.sizeof(wanted)
    try:
        syscalls.check(
            syscalls.libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, place, _AT_RECURSIVE, ctypes.byref(wanted), size),
            f"{what} for reading alone",
        )
    except syscalls.CallError as error:
        if error.errno != errno.ENOSYS:
            raise
        syscalls.unmount(target)
        syscalls.mount(path, target, syscalls.MS_BIND, what)


def _unstage(place: str) -> None:
    with suppress(FileNotFoundError):
        for name in os.listdir(place):  # noqa: PTH208
            path = f"{place}/{name}"
            # Until nothing is mounted there: then it says so, and only then may anything be removed.
            with suppress(syscalls.CallError):
                while True:
                    syscalls.unmount(path)
            if os.path.isdir(path):  # noqa: PTH112
                os.rmdir(path)  # noqa: PTH106
            else:
                os.unlink(path)  # noqa: PTH108
        os.rmdir(place)  # noqa: PTH106


def _open(root: str, below: str) -> int:
    # Where the operator's entry led was settled when the agent started: a link on the way is a newer one.
    top = _openat2(_AT_FDCWD, root, _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    if top < 0:
        error = ctypes.get_errno()
        now = "a link has come into its way since the agent started" if error == errno.ELOOP else os.strerror(error)
        raise MountError(f"{root} cannot be mounted: {now}")
    if not below:
        return top
    found = _openat2(top, below, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    os.close(top)
    if found < 0:
        why = os.strerror(ctypes.get_errno())
        raise MountError(f"{root}/{below} cannot be mounted: it is not what it was when it was allowed ({why})")
    return found


def _openat2(folder: int, path: str, resolve: int) -> int:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, resolve)
    found: int = syscalls.libc.syscall(_SYS_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    return found

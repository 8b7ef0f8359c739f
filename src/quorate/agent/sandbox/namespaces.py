"""Network namespaces that have a name: made, entered and removed. Linux alone; setns(2), mount(2)."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from quorate.agent import syscalls

#: Of this thread: a thread that is in another namespace has another one than its process.
_OWN: Final = "/proc/thread-self/ns/net"


def make(path: Path) -> None:
    """Makes a namespace and binds it to `path`; one that was begun and never bound is made again."""
    with _bindable(path):
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET, str(path))
            try:
                _bind(_OWN, path)
            finally:
                syscalls.setns(own, syscalls.CLONE_NEWNET, str(path))
        finally:
            os.close(own)


def adopt(path: Path, pid: int) -> None:
    """Binds the namespace of a process to `path`. Raises OSError where there is no such process, and where it lives in
    the host's namespace or in one that has a name beside `path`: those are nobody's to be made a sandbox."""
    with _bindable(path):
        _bind(f"/proc/{pid}/ns/net", path)
        # Looked at when it is bound: a pid may have become another process's in between.
        found = path.stat()
        others = [Path(_OWN), *(other for other in path.parent.iterdir() if other != path)]
        if any(os.path.samestat(found, other.stat()) for other in others):
            raise OSError(errno.EEXIST, f"process {pid} has no network namespace of its own", str(path))


def exists(path: Path) -> bool:
    """Whether a namespace is bound there; a plain file is what a death in the middle has left."""
    with suppress(FileNotFoundError):
        return path.stat().st_dev == Path(_OWN).stat().st_dev
    return False


def same(path: Path, pid: int) -> bool:
    """Whether `path` is the namespace of that process."""
    try:
        return os.path.samestat(path.stat(), Path(f"/proc/{pid}/ns/net").stat())
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Unbinds the namespace, which goes with the last process in it, and removes the name."""
    while exists(path):
        syscalls.unmount(str(path))
    path.unlink(missing_ok=True)


@contextmanager
def entered(path: Path) -> Iterator[int]:
    """Runs its body, and what it starts, in the namespace; yields a descriptor of it. Of this thread alone."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        inside = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(inside, syscalls.CLONE_NEWNET, str(path))
            try:
                yield inside
            finally:
                syscalls.setns(own, syscalls.CLONE_NEWNET, str(path))
        finally:
            os.close(inside)
    finally:
        os.close(own)


def sysctl(name: str, value: str) -> None:
    """Sets `net.…` of the namespace that this thread is in; one that the kernel does not know needs no setting."""
    with suppress(FileNotFoundError):
        Path("/proc/sys", *name.split(".")).write_text(value)


@contextmanager
def _bindable(path: Path) -> Iterator[None]:
    remove(path)
    path.touch(mode=0o600)
    try:
        yield
    except BaseException:
        remove(path)
        raise


def _bind(source: str, path: Path) -> None:
    syscalls.mount(source, str(path), syscalls.MS_BIND)

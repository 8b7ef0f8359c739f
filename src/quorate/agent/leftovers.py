"""Removes what members leave on a machine: processes, their folders, their users' files where everybody may write."""

import os
import shutil
import signal
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quorate.agent import processes

#: A sweep is over when so many looks in a row, this far apart, found nothing: a process may just have been forked.
_CLEAN_LOOKS, _LOOK_S, _LONGEST_LOOK_S = 2, 0.03, 2.0
#: Where every user of a machine may leave files.
_FOR_ALL = ("/dev/shm", "/tmp", "/var/tmp")
#: How far down folders are entered that everybody may write to, such as /tmp/.X11-unix.
_DEPTH = 4


def kill_all(member: str) -> None:
    """Kills every process of a member that has no shim any more, and returns when none is left."""
    groups = processes.Cgroup.find(member)
    clean, pause = 0, _LOOK_S
    while clean < _CLEAN_LOOKS:
        left = {pid for group in groups for pid in group.pids()} | set(processes.marked(member))
        for group in groups:
            group.kill()
        processes.signal_all(left, signal.SIGKILL)
        clean = 0 if left else clean + 1
        time.sleep(pause)
        # One that hangs in the kernel goes when that lets it; its slots are not free before.
        pause = min(2 * pause, _LONGEST_LOOK_S) if left else _LOOK_S
    for group in groups:
        group.remove()


def remove_tree(folder: Path) -> None:
    """Removes a tree whose owner may have taken every right from it."""
    shutil.rmtree(folder, ignore_errors=True)
    # Root needs no rights.
    if os.geteuid() != 0 and folder.exists():
        for _, names, _, at in os.fwalk(folder):
            for name in names:
                with suppress(OSError):
                    opened = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                    try:
                        # A descriptor that reads nothing takes no fchmod, and one that reads needs the right to.
                        Path(f"/proc/self/fd/{opened}").chmod(0o700)
                    finally:
                        os.close(opened)
        shutil.rmtree(folder, ignore_errors=True)


def has_processes(uid: int) -> bool:
    """Whether anything on this machine still runs as this user.

    By its status: what /proc has of a process is root's once that has changed its user, as companions do, or has asked
    not to be looked into (prctl(2), PR_SET_DUMPABLE).
    """
    return any(str(uid) in _users(entry.path) for entry in os.scandir("/proc") if entry.name.isdecimal())


def _users(process: str) -> list[str]:
    """The UIDs of a process (proc(5), status); none of one that is a zombie, or gone."""
    try:
        lines = Path(process, "status").read_text(errors="replace").splitlines()
    except OSError:
        return []
    said = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return [] if said.get("State", [""])[0] == "Z" else said.get("Uid", [])


def remove_files(uid: int, folders: Sequence[str] = _FOR_ALL) -> None:
    """Removes what a user without processes has left where everybody may write; no link is followed on the way."""
    for folder in folders:
        with suppress(OSError):
            _remove_within(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), uid, _DEPTH)


def _remove_within(folder: int, uid: int, depth: int) -> None:
    """Closes the descriptor."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            # Somebody else's may vanish, or be closed to us, at any time.
            with suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(about.st_mode)
                if about.st_uid == uid and is_folder:
                    shutil.rmtree(entry.name, ignore_errors=True, dir_fd=folder)
                elif about.st_uid == uid:
                    os.unlink(entry.name, dir_fd=folder)
                elif is_folder and about.st_mode & stat.S_IWOTH and depth:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    _remove_within(os.open(entry.name, flags, dir_fd=folder), uid, depth - 1)
    finally:
        os.close(folder)

"""Small files that matter: written whole or not at all, synced, and private from their first byte."""

import errno
import os
from pathlib import Path
from typing import Final

#: What a full disk and a quota answer.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_private(path: Path, data: bytes) -> None:
    """Replaces `path` durably by a file that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def room_beyond(directory: Path, reserve_bytes: int) -> int:
    """Bytes that the directory's disk still takes until no more than the reserve is free."""
    disk = os.statvfs(directory)
    return max(0, disk.f_bavail * disk.f_frsize - reserve_bytes)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Backups: the store and the contexts in one tar, taken while the master runs, and put back where none runs.

Logs are not in it, and neither are keys: the key of the jobs' secrets (`secrets.key`) and the authority behind the
master's certificate (`tls/`) never change, so an operator copies them once and keeps them apart from the backups,
which are worth little to a thief without them.
"""

import asyncio
import fcntl
import json
import os
import secrets
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quorate import __version__
from quorate.master.contexts import ContextStore
from quorate.master.files import sync_directory
from quorate.master.writer import Writer

MEDIA_TYPE: Final = "application/x-tar"
STORE_FILE: Final = "master.db"
LOCK_FILE: Final = "master.lock"
_ABOUT: Final = "quorate-backup.json"
_CHUNK: Final = 256 * 1024
_FORMAT: Final = 1


class BackupError(Exception):
    """A backup that cannot be taken or put back; the text says why and what to do."""


@dataclass(frozen=True)
class Backup:
    """A backup that was taken; the copy of the store is removed when it has been streamed."""

    copy: Path
    contexts: tuple[Path, ...]

    async def stream(self) -> AsyncIterator[bytes]:
        """The tar, piece by piece; reads in threads."""
        try:
            about = {"format": _FORMAT, "version": __version__, "taken": time.time()}
            yield _header(_ABOUT, len(data := json.dumps(about).encode())) + _padded(data)
            for name, path in [(STORE_FILE, self.copy), *((f"contexts/{path.name}", path) for path in self.contexts)]:
                try:
                    file = await asyncio.to_thread(path.open, "rb")
                except FileNotFoundError:
                    continue  # A context that nobody needs any more went while we came to it.
                with file:
                    size = left = os.fstat(file.fileno()).st_size
                    yield _header(name, size)
                    while left and (data := await asyncio.to_thread(file.read, min(_CHUNK, left))):
                        left -= len(data)
                        yield data
                    yield b"\0" * (left + -size % tarfile.BLOCKSIZE)
            yield b"\0" * tarfile.BLOCKSIZE * 2
        finally:
            self.copy.unlink(missing_ok=True)


async def take(writer: Writer, contexts: ContextStore, directory: Path) -> Backup:
    """Copies the store between two commits; raises StoreError."""
    copy = directory / f".backup-{secrets.token_hex(8)}"
    await writer.backup(copy)
    return Backup(copy, tuple(contexts.all()))


def restore(source: Path, directory: Path, *, force: bool = False) -> list[str]:
    """Puts a backup where a master will start; returns what the operator should know. Raises BackupError.

    With `force` a store that is there is kept beside, under a name with the time.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(directory):
        store = directory / STORE_FILE
        if store.exists() and not force:
            raise BackupError(
                f"{directory} holds a store already; --force replaces it (and keeps it beside the new one)"
            )
        fresh = directory / f".restore-{os.getpid()}"
        try:
            names = _unpack(source, directory, fresh)
            if STORE_FILE not in names:
                raise BackupError(f"{source} holds no store; it is no backup of a master")
            if store.exists():
                _set_aside(directory, time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
            _hand_over(directory, fresh)
            fresh.replace(store)
            sync_directory(directory)
        finally:
            fresh.unlink(missing_ok=True)
    notes = []
    for what, path in (("the key of the jobs' secrets", "secrets.key"), ("the master's authority", "tls/ca.key")):
        if not (directory / path).exists():
            notes.append(f"{what} is not in a backup: copy {path} from the old machine to {directory / path}")
    return notes


def _hand_over(directory: Path, store: Path) -> None:
    """What root has restored belongs to whom the folder belongs to: the master runs as that user."""
    if os.geteuid() != 0:
        return
    owner = directory.stat()
    contexts = directory / "contexts"
    for path in (store, directory / LOCK_FILE, contexts, *contexts.glob("*")):
        if path.exists():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the state directory against every other master; raises BackupError where one runs."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"a master runs on {directory}; stop it first: quorate master stop") from None
        yield
    finally:
        os.close(descriptor)


def _unpack(source: Path, directory: Path, store: Path) -> set[str]:
    """Only names that a backup has are written, each to its own place."""
    names = set()
    try:
        with tarfile.open(source, "r|") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if member.isreg() and member.name == STORE_FILE:
                    target = store
                elif member.isreg() and folder == "contexts" and name.endswith(".tar.gz") and not name.startswith("."):
                    (directory / "contexts").mkdir(mode=0o700, exist_ok=True)
                    target = directory / "contexts" / name
                else:
                    continue
                _copy(archive, member, target)
                names.add(member.name)
        if (directory / "contexts").is_dir():
            sync_directory(directory / "contexts")
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{source} cannot be read: {error}") from None
    except OSError as error:
        raise BackupError(f"{error.filename or source}: {error.strerror or error}") from None
    return names


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while data := content.read(_CHUNK):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _set_aside(directory: Path, when: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        old = directory / f"{STORE_FILE}{suffix}"
        if old.exists():
            old.replace(directory / f"{STORE_FILE}.before-{when}{suffix}")


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)

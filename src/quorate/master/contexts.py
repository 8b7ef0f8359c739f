"""Keeps the contexts of jobs: archives named by their digest, checked before anybody unpacks one.

An archive is walked and never extracted here. What could write outside its place when an agent extracts it (absolute
names, `..`, links that lead out, devices) is refused at the upload.
"""

import asyncio
import contextlib
import gzip
import hashlib
import logging
import os
import posixpath
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from quorate.master.files import NO_SPACE, room_beyond, sync_directory
from quorate.model.contextlimits import MAX_BYTES, MAX_FILES, MAX_PACKED_BYTES, MAX_PATH
from quorate.model.size import format_size

log = logging.getLogger(__name__)

#: Between the upload and the job that names it; also for the next job with the same context.
KEEP_UNUSED_S: Final = 24 * 3600.0
#: Headers and padding that a tar may have beyond the bytes of its files.
_OVERHEAD_BYTES: Final = MAX_FILES * 4 * 512 + 1024 * 1024
_BUFFER_BYTES: Final = 1024 * 1024
_OWNER: Final = ".owner"


class ContextError(Exception):
    """An archive that is not taken; the text says why.

    ContextError
    ├── ContextTooLarge    beyond a limit, packed or unpacked
    ├── ContextMismatch    its digest is not the one in its name
    ├── NoRoom             the disk is full, or only what the store keeps for itself is free
    └── TooMany            with all that this user has there already
    """


class ContextTooLarge(ContextError):
    """Beyond a limit."""


class ContextMismatch(ContextError):
    """The digest is another one."""


class NoRoom(ContextError):
    """The disk has no room for it."""


class TooMany(ContextError):
    """The user's contexts are as large as they may be."""


class ContextStore:
    """The contexts under one directory, as `<sha256>.tar.gz`; `<sha256>.owner` names the user who brought it."""

    def __init__(self, directory: Path, *, reserve_bytes: int = 0, bytes_per_user: int | None = None) -> None:
        """`reserve_bytes` of the disk stay free: without room the master's own store fails, and with it the master."""
        self._directory = directory
        self._reserve = reserve_bytes
        self._per_user = bytes_per_user
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in directory.glob(".upload-*"):
            left_over.unlink(missing_ok=True)
        #: Who brought a context that is there, and its bytes.
        self._owned: dict[str, tuple[str, int]] = {}
        #: Bytes by user: of the contexts that are there, and of uploads that are under way.
        self._used: Counter[str] = Counter()
        for note in directory.glob(f"*{_OWNER}"):
            self._find_owner(note)

    def _find_owner(self, note: Path) -> None:
        sha256 = note.name.removesuffix(_OWNER)
        try:
            self._own(sha256, note.read_text(), self.path(sha256).stat().st_size)
        except (FileNotFoundError, UnicodeDecodeError):  # the context has gone, or never came
            note.unlink(missing_ok=True)

    def _own(self, sha256: str, user: str, size: int) -> None:
        self._owned[sha256] = user, size
        self._used[user] += size

    def path(self, sha256: str) -> Path:
        """Where the context lies, whether it is there or not."""
        return self._directory / f"{sha256}.tar.gz"

    def _note(self, sha256: str) -> Path:
        return self._directory / f"{sha256}{_OWNER}"

    def has(self, sha256: str) -> bool:
        """Whether it is there; its unused time begins anew."""
        try:
            os.utime(self.path(sha256))
        except FileNotFoundError:
            return False
        return True

    def all(self) -> list[Path]:
        """Every context that is there."""
        return sorted(self._directory.glob("*.tar.gz"))

    async def receive(self, sha256: str, chunks: AsyncIterator[bytes], user: str = "") -> None:
        """Takes an upload and keeps it if all is well with it; raises ContextError or OSError and leaves nothing.

        `user`: whose upload it is, and counts among; empty for somebody who may bring as many as the disk holds.
        """
        try:
            await self._receive(sha256, chunks, user)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise NoRoom(f"the master's disk has no room for the context: {error.strerror}") from error

    async def _receive(self, sha256: str, chunks: AsyncIterator[bytes], user: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".upload-", dir=self._directory)
        draft = Path(name)
        digest = hashlib.sha256()
        size = 0
        buffer = bytearray()

        def flush(data: bytes) -> None:
            self._check_room(len(data))
            digest.update(data)
            file.write(data)

        try:
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    self._used[user] += len(chunk)
                    if size > MAX_PACKED_BYTES:
                        raise ContextTooLarge(f"the archive is larger than {MAX_PACKED_BYTES >> 20} MiB")
                    self._check_user(user, size)
                    buffer += chunk
                    if len(buffer) >= _BUFFER_BYTES:
                        await asyncio.to_thread(flush, bytes(buffer))
                        buffer.clear()
                await asyncio.to_thread(flush, bytes(buffer))
                if digest.hexdigest() != sha256:
                    raise ContextMismatch(f"the archive's digest is {digest.hexdigest()}, not {sha256}")
                await asyncio.to_thread(check_archive, draft, file.flush)
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(self._keep, draft, sha256, user)
            if user and sha256 not in self._owned:
                self._own(sha256, user, size)
        finally:
            self._used[user] -= size
            await asyncio.to_thread(draft.unlink, missing_ok=True)

    def _check_user(self, user: str, size: int) -> None:
        if user and self._per_user is not None and self._used[user] > self._per_user:
            held = self._used[user] - size
            raise TooMany(
                f"{user}'s contexts on the master take {held / 2**20:.1f} of {self._per_user >> 20} MiB; this one does "
                "not fit among them"
            )

    def _check_room(self, size: int) -> None:
        if self._reserve and room_beyond(self._directory, self._reserve) < size:
            raise NoRoom(
                f"the master's disk has no room for the context: {format_size(self._reserve)} of it stay free for the "
                "master's store"
            )

    def _keep(self, draft: Path, sha256: str, user: str) -> None:
        if user:
            # First: one without its context is swept, a context without it would be nobody's.
            self._note(sha256).write_text(user)
        draft.replace(self.path(sha256))
        sync_directory(self._directory)

    async def collect(self, needed: set[str], now: float | None = None) -> int:
        """Removes what no job needs and nobody touched for KEEP_UNUSED_S; returns how many."""
        horizon = (time.time() if now is None else now) - KEEP_UNUSED_S

        def sweep() -> list[str]:
            removed = []
            for path in self._directory.glob("*.tar.gz"):
                sha256 = path.name.removesuffix(".tar.gz")
                with contextlib.suppress(FileNotFoundError):  # it was refused, and removed, meanwhile
                    if sha256 not in needed and path.stat().st_mtime < horizon:
                        path.unlink()
                        self._note(sha256).unlink(missing_ok=True)
                        removed.append(sha256)
            return removed

        removed = await asyncio.to_thread(sweep)
        for sha256 in removed:
            user, size = self._owned.pop(sha256, ("", 0))
            self._used[user] -= size
        return len(removed)


def check_archive(path: Path, before: Callable[[], None] = lambda: None) -> None:
    """Walks a tar.gz without extracting it; raises ContextError for anything that an agent should not unpack."""
    before()
    files, total = 0, 0
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=_Bounded(unpacked), mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                files += 1
                total += member.size
                if files > MAX_FILES:
                    raise ContextTooLarge(f"the archive holds more than {MAX_FILES} files")
                if total > MAX_BYTES:
                    raise ContextTooLarge(f"the archive holds more than {MAX_BYTES >> 20} MiB unpacked")
                _check_member(member)
    except (tarfile.TarError, EOFError, OSError, zlib.error, UnicodeError, ValueError) as error:
        raise ContextError(f"the archive is no tar.gz that can be read: {error}") from error


def _check_member(member: tarfile.TarInfo) -> None:
    name = member.name
    shown = repr(name[:80])
    if len(name) > MAX_PATH:
        raise ContextError(f"a path in the archive is longer than {MAX_PATH} characters")
    if "\0" in name + member.linkname or name.startswith("/") or ".." in name.split("/"):
        raise ContextError(f"{shown} would be written outside the job's folder")
    if member.issym() and _leaves(posixpath.join(posixpath.dirname(name), member.linkname)):
        raise ContextError(f"{shown} is a link that leads outside the job's folder")
    if not (member.isreg() or member.isdir() or member.issym()):
        # Hard links too: an agent takes none, so better now than when the job has begun.
        raise ContextError(f"{shown} is neither a file, a folder nor a symbolic link")


def _leaves(path: str) -> bool:
    return path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."


class _Bounded:
    """Counts what comes out of the decompression, so that a small archive cannot keep the master busy for long."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._left = MAX_BYTES + _OVERHEAD_BYTES

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ContextTooLarge(f"the archive holds more than {MAX_BYTES >> 20} MiB unpacked")
        return data

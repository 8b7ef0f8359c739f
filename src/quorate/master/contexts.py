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


class ContextError(Exception):
    """An archive that is not taken; the text says why.

    ContextError
    ├── ContextTooLarge    beyond a limit, packed or unpacked
    ├── ContextMismatch    its digest is not the one in its name
    └── NoRoom             the disk is full, or only what the store keeps for itself is free
    """


class ContextTooLarge(ContextError):
    """Beyond a limit."""


class ContextMismatch(ContextError):
    """The digest is another one."""


class NoRoom(ContextError):
    """The disk has no room for it."""


class ContextStore:
    """The contexts under one directory, as `<sha256>.tar.gz`."""

    def __init__(self, directory: Path, *, reserve_bytes: int = 0) -> None:
        """`reserve_bytes` of the disk stay free: without room the master's own store fails, and with it the master."""
        self._directory = directory
        self._reserve = reserve_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in directory.glob(".upload-*"):
            left_over.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the context lies, whether it is there or not."""
        return self._directory / f"{sha256}.tar.gz"

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

    async def receive(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Takes an upload and keeps it if all is well with it; raises ContextError or OSError and leaves nothing."""
        try:
            await self._receive(sha256, chunks)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise NoRoom(f"the master's disk has no room for the context: {error.strerror}") from error

    async def _receive(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
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
                    if size > MAX_PACKED_BYTES:
                        raise ContextTooLarge(f"the archive is larger than {MAX_PACKED_BYTES >> 20} MiB")
                    buffer += chunk
                    if len(buffer) >= _BUFFER_BYTES:
                        await asyncio.to_thread(flush, bytes(buffer))
                        buffer.clear()
                await asyncio.to_thread(flush, bytes(buffer))
                if digest.hexdigest() != sha256:
                    raise ContextMismatch(f"the archive's digest is {digest.hexdigest()}, not {sha256}")
                await asyncio.to_thread(check_archive, draft, file.flush)
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(self._keep, draft, sha256)
        finally:
            await asyncio.to_thread(draft.unlink, missing_ok=True)

    def _check_room(self, size: int) -> None:
        if self._reserve and room_beyond(self._directory, self._reserve) < size:
            raise NoRoom(
                f"the master's disk has no room for the context: {format_size(self._reserve)} of it stay free for the "
                "master's store"
            )

    def _keep(self, draft: Path, sha256: str) -> None:
        draft.replace(self.path(sha256))
        sync_directory(self._directory)

    async def collect(self, needed: set[str], now: float | None = None) -> int:
        """Removes what no job needs and nobody touched for KEEP_UNUSED_S; returns how many."""
        horizon = (time.time() if now is None else now) - KEEP_UNUSED_S

        def sweep() -> int:
            removed = 0
            for path in self._directory.glob("*.tar.gz"):
                with contextlib.suppress(FileNotFoundError):  # it was refused, and removed, meanwhile
                    if path.name.removesuffix(".tar.gz") not in needed and path.stat().st_mtime < horizon:
                        path.unlink()
                        removed += 1
            return removed

        return await asyncio.to_thread(sweep)


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
    if "\0" in name or name.startswith("/") or ".." in name.split("/"):
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

"""Fetches from the master what a member needs besides its spec: its context, its secrets."""

import asyncio
import hashlib
import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from quorate.agent.command import User
from quorate.agent.contexts import ContextError, unpack
from quorate.agent.leftovers import remove_tree
from quorate.agent.link import Endpoint
from quorate.agent.preparing import PrepareError
from quorate.model.contextlimits import MAX_PACKED_BYTES

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Seconds to connect, and between two pieces of an answer.
_TIMEOUT_S = 30.0
#: A master that is away is asked again; the job's start timeout ends it from above.
_TRIES, _PAUSE_S = 10, 1.0
#: The end of the name of an archive that is on its way.
_BEGUN = ".new"
#: Archives that stay for the next job; the least recently used go first.
_CACHE_BYTES = 4 * 1024 * 1024 * 1024


class HttpSupplies:
    """From the master over HTTP. Archives are kept, named by their digest."""

    def __init__(self, endpoint: Endpoint, cache: Path) -> None:
        self._endpoint = endpoint
        self._cache = cache
        #: By digest, for as long as somebody fetches it.
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        for begun in cache.glob(f"*{_BEGUN}"):
            begun.unlink(missing_ok=True)

    async def context(self, sha256: str, into: Path, user: User | None) -> None:
        """Fills a member's working folder. Raises PrepareError."""
        if not _SHA256.fullmatch(sha256):
            raise PrepareError("CONTEXT-UNKNOWN", f"{sha256!r} is no digest of a context")
        archive = self._cache / f"{sha256}.tar.gz"
        await self._have(sha256, archive)
        try:
            await _unpacked(archive, into, user)
        except ContextError as error:
            if await asyncio.to_thread(_digest, archive) == sha256:
                raise PrepareError("CONTEXT-BAD", str(error)) from error
            # Not the job's fault: the disk did not keep what had come.
            log.warning("%s is damaged (%s), and is fetched again", archive, error)
            await self._have(sha256, archive, anew=True)
            await asyncio.to_thread(_emptied, into)
            try:
                await _unpacked(archive, into, user)
            except ContextError as still:
                raise PrepareError("CONTEXT-BAD", str(still)) from still

    async def _have(self, sha256: str, archive: Path, *, anew: bool = False) -> None:
        """`anew`: also where there is one that is damaged. Raises PrepareError."""
        # Members of one allocation come together and need one download.
        fetching = self._fetching.setdefault(sha256, asyncio.Lock())
        async with fetching:
            if not await asyncio.to_thread(_is_there, archive, sha256 if anew else ""):
                await self._download(sha256, archive)
                await asyncio.to_thread(self._trim, archive)
        with suppress(OSError):
            os.utime(archive)

    async def secrets(self, allocation: str) -> dict[str, str]:
        """Name to value. Raises PrepareError."""
        response = await self._get(f"/agent/v1/allocations/{allocation}/secrets", "secrets")
        found = response.json()
        values = found.get("secrets", found) if isinstance(found, dict) else {}
        if not all(isinstance(value, str) for value in values.values()):
            raise PrepareError("SECRETS-UNREADABLE", "the master's answer holds no secrets")
        for name in values:
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
                raise PrepareError("SECRETS-UNREADABLE", f"{name!r} is no name for a secret")
        return dict(values)

    async def _download(self, sha256: str, archive: Path) -> None:
        begun = archive.with_suffix(_BEGUN)
        try:
            response = await self._get(f"/agent/v1/contexts/{sha256}", "context", begun)
            digest = response.headers["x-digest"]
            if digest != sha256:
                raise PrepareError("CONTEXT-BAD", f"the context that came has the digest {digest}, not {sha256}")
            begun.rename(archive)
        finally:
            # Whatever became of it, and also where nobody waits for it any more.
            begun.unlink(missing_ok=True)

    async def _get(self, path: str, what: str, into: Path | None = None) -> "httpx.Response":
        # Imported when first needed: it takes longer than everything else that an agent does to start.
        import httpx

        endpoint = self._endpoint
        why = ""
        for _ in range(_TRIES):
            try:
                async with (
                    httpx.AsyncClient(
                        base_url=endpoint.url, headers=endpoint.headers, verify=endpoint.tls or False,
                        timeout=_TIMEOUT_S, trust_env=False,
                    ) as client,
                    client.stream("GET", path) as response,
                ):  # fmt: skip
                    if response.status_code == 200:
                        if into is None:
                            await response.aread()
                        else:
                            response.headers["x-digest"] = await _save(response, into)
                        return response
                    await response.aread()
                    why = f"{response.status_code} {response.text[:500]}"
                    if response.status_code < 500 and response.status_code != 429:
                        raise PrepareError(f"{what.upper()}-UNKNOWN", f"the master does not give the {what}: {why}")
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            await asyncio.sleep(_PAUSE_S)
        raise PrepareError(f"{what.upper()}-UNREACHABLE", f"the {what} could not be fetched from the master: {why}")

    def _trim(self, keep: Path) -> None:
        archives = sorted(self._cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for archive in archives:
            total += archive.stat().st_size
            if total > _CACHE_BYTES and archive != keep:
                archive.unlink(missing_ok=True)


def _digest(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_there(archive: Path, sha256: str) -> bool:
    """With this digest, where one is given."""
    return archive.exists() and (not sha256 or _digest(archive) == sha256)


async def _unpacked(archive: Path, into: Path, user: User | None) -> None:
    """Whoever is cancelled comes back once nothing is written any more: the folder is about to be removed.

    Raises ContextError.
    """
    unwanted = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(unpack, archive, into, user, lambda: not unwanted.is_set()))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        unwanted.set()
        with suppress(ContextError):
            await work
        raise


def _emptied(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o777
    remove_tree(folder)
    folder.mkdir(mode=mode)


async def _save(response: "httpx.Response", into: Path) -> str:
    """Writes the body to a file and returns its sha256."""
    digest, size = hashlib.sha256(), 0
    with into.open("wb") as file:
        async for data in response.aiter_raw():
            size += len(data)
            if size > MAX_PACKED_BYTES:
                raise PrepareError("CONTEXT-BAD", f"the context is larger than {MAX_PACKED_BYTES} bytes")
            digest.update(data)
            file.write(data)
    return digest.hexdigest()

"""Fetches from the master what a member needs besides its spec: its context, its secrets."""

import asyncio
import hashlib
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

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
#: Archives that stay for the next job; the least recently used go first.
_CACHE_BYTES = 4 * 1024 * 1024 * 1024


class HttpSupplies:
    """From the master over HTTP. Archives are kept, named by their digest."""

    def __init__(self, endpoint: Endpoint, cache: Path) -> None:
        self._endpoint = endpoint
        self._cache = cache
        self._fetching: dict[str, asyncio.Lock] = {}
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def context(self, sha256: str, into: Path, user: User | None) -> None:
        """Fills a member's working folder. Raises PrepareError."""
        if not _SHA256.fullmatch(sha256):
            raise PrepareError("CONTEXT-UNKNOWN", f"{sha256!r} is no digest of a context")
        archive = self._cache / f"{sha256}.tar.gz"
        await self._have(sha256, archive)
        try:
            await asyncio.to_thread(unpack, archive, into, user)
        except ContextError as error:
            if await asyncio.to_thread(_digest, archive) == sha256:
                raise PrepareError("CONTEXT-BAD", str(error)) from error
            # Not the job's fault: the disk did not keep what had come.
            log.warning("%s is damaged (%s), and is fetched again", archive, error)
            await self._have(sha256, archive, anew=True)
            await asyncio.to_thread(_unpack_anew, archive, into, user)

    async def _have(self, sha256: str, archive: Path, *, anew: bool = False) -> None:
        """`anew`: also where there is one that is damaged. Raises PrepareError."""
        # Members of one allocation come together and need one download.
        async with self._fetching.setdefault(sha256, asyncio.Lock()):
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
        response = await self._get(f"/agent/v1/contexts/{sha256}", "context", archive.with_suffix(".new"))
        digest = response.headers["x-digest"]
        if digest != sha256:
            archive.with_suffix(".new").unlink()
            raise PrepareError("CONTEXT-BAD", f"the context that came has the digest {digest}, not {sha256}")
        archive.with_suffix(".new").rename(archive)

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


def _unpack_anew(archive: Path, into: Path, user: User | None) -> None:
    """Into the same folder, without what was extracted before. Raises PrepareError."""
    mode = into.stat().st_mode & 0o777
    remove_tree(into)
    into.mkdir(mode=mode)
    try:
        unpack(archive, into, user)
    except ContextError as error:
        raise PrepareError("CONTEXT-BAD", str(error)) from error


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

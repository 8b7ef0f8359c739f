"""Contexts are fetched once, and whoever stops wanting one leaves nothing of it: neither files nor who writes them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.agent.conftest import Agent, eventually
from tests.agent.peer import JOB, master, spec

from quorate.agent.link import Endpoint
from quorate.agent.preparing import PrepareError
from quorate.agent.supplies import HttpSupplies

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"
#: So many that nobody has unpacked them by the time that the first are seen.
FILES = 15_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context of many files, named by its digest."""
    folder = tmp_path_factory.mktemp("large")
    with tarfile.open(folder / "new", "w:gz", compresslevel=1) as tar:
        for number in range(FILES):
            info = tarfile.TarInfo(f"file-{number}")
            info.size = 10
            tar.addfile(info, io.BytesIO(b"0123456789"))
    return (folder / "new").rename(folder / f"{hashlib.sha256((folder / 'new').read_bytes()).hexdigest()}.tar.gz")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def digest_of(archive: Path) -> str:
    return archive.name.partition(".")[0]


@asynccontextmanager
async def answering(body: bytes, announced: int | None = None) -> AsyncIterator[tuple[Endpoint, asyncio.Event]]:
    """A master that gives this body to whoever asks, of as many bytes as it announces; and when it has."""
    given = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (announced or len(body)) + body)
        await writer.drain()
        given.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint(f"http://127.0.0.1:{port}", "qa1.x", None), given
    finally:
        server.close()


async def test_who_stops_wanting_a_context_comes_back_once_nothing_more_is_written(large: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    supplies = HttpSupplies(Endpoint("http://127.0.0.1:1", "qa1.x", None), large.parent)
    wanting = asyncio.create_task(supplies.context(digest_of(large), work, None))
    await eventually(lambda: names(work))
    wanting.cancel()
    await asyncio.wait([wanting])
    assert wanting.cancelled()
    then = len(names(work))
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(names(work)) == then < FILES


async def test_a_member_that_is_stopped_while_its_context_is_unpacked_leaves_nothing_behind(
    agent: Agent, large: Path
) -> None:
    contexts = agent.state / "contexts"
    contexts.mkdir()
    shutil.copy(large, contexts)
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("true",), context=digest_of(large)))
        work = agent.folder(M) / "work"
        await eventually(lambda: work.exists() and names(work))
        await peer.want((M,), stop={M: "cancelled"})
        await peer.state(M, "failed")
        await peer.want(())
        await eventually(lambda: not agent.folder(M).exists())
        assert agent.terminate() == 0
        assert not agent.folder(M).exists()


async def test_a_download_that_nobody_waits_for_any_more_leaves_no_file(tmp_path: Path) -> None:
    body, cache = b"x" * 100_000, tmp_path / "cache"
    async with answering(body, announced=2 * len(body)) as (endpoint, given):
        supplies = HttpSupplies(endpoint, cache)
        wanting = asyncio.create_task(supplies.context(hashlib.sha256(body).hexdigest(), tmp_path / "work", None))
        await given.wait()
        await eventually(lambda: any(path.stat().st_size for path in cache.iterdir()))
        wanting.cancel()
        await asyncio.wait([wanting])
        assert names(cache) == []


async def test_a_context_with_another_digest_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    async with answering(b"something else") as (endpoint, _):
        supplies = HttpSupplies(endpoint, tmp_path / "cache")
        with pytest.raises(PrepareError, match="has the digest"):
            await supplies.context("ab" * 32, tmp_path / "work", None)
        assert names(tmp_path / "cache") == []


async def test_what_an_agent_that_was_killed_had_begun_to_fetch_goes_with_its_next_life(tmp_path: Path) -> None:
    begun, kept = tmp_path / f"{'ab' * 32}.tar.new", tmp_path / f"{'cd' * 32}.tar.gz"
    for path in (begun, kept):
        path.write_bytes(b"x")
    HttpSupplies(Endpoint("http://127.0.0.1:1", "qa1.x", None), tmp_path)
    assert names(tmp_path) == [kept.name]

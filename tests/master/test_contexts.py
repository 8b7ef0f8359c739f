"""Uploads of contexts: what is taken, what is refused, and who gets it."""

import asyncio
import gzip
import hashlib
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from quorate.master import contexts
from quorate.master.contexts import (
    KEEP_UNUSED_S,
    ContextError,
    ContextMismatch,
    ContextStore,
    ContextTooLarge,
    NoRoom,
    TooMany,
    check_archive,
)
from quorate.model.messages import Desired

from .serving import MasterProcess, hear, hello, running, say


def archive(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """A tar.gz of files (name and bytes) and whatever else a test makes up."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                name, data = entry
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def with_comment(text: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("empty")
    info.pax_headers = {"comment": text}
    return info


def with_null(target: str) -> tarfile.TarInfo:
    info = link("a", "b")
    info.pax_headers = {"linkpath": target}
    return info


def of_kind(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("special")
    info.type = kind
    return info


def test_an_upload_is_kept_and_can_be_named_by_a_job(master: MasterProcess) -> None:
    data = archive(("train.py", b"print(1)\n"), ("data/x", b"1"))
    sha = hashlib.sha256(data).hexdigest()
    path = f"/api/v1/contexts/{sha}"
    with master.client() as client:
        unknown = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true", "context": sha}})
        assert (unknown.status_code, unknown.json()["code"]) == (422, "CONTEXT-UNKNOWN")
        assert client.head(path).status_code == 404
        assert client.put(path, content=data).status_code == 201
        assert client.put(path, content=data).status_code == 200
        assert client.head(path).status_code == 200
        assert client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true", "context": sha}}).status_code == 201


def test_an_upload_under_a_wrong_digest_leaves_nothing(master: MasterProcess) -> None:
    with master.client() as client:
        answer = client.put(f"/api/v1/contexts/{'0' * 64}", content=archive(("a", b"1")))
        assert (answer.status_code, answer.json()["code"]) == (422, "CONTEXT-MISMATCH")
        assert client.put("/api/v1/contexts/nonsense", content=b"").status_code == 422
    assert not list((master.state / "contexts").glob(".upload-*"))


def test_an_upload_leaves_the_masters_store_its_room(small_disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "master.yaml"
    file.write_text("logs: {reserve_mib: 8}\n")
    small, large = archive(("a", b"1")), archive(("a", os.urandom(10 * 1024 * 1024)))
    with running(small_disk / "state", file=file) as master, master.client() as client:
        answer = client.put(f"/api/v1/contexts/{hashlib.sha256(large).hexdigest()}", content=large)
        assert (answer.status_code, answer.json()["code"]) == (507, "DISK-FULL")
        assert f"makes room under {master.state}" in answer.json()["hint"]
        assert not list((master.state / "contexts").iterdir())
        assert client.put(f"/api/v1/contexts/{hashlib.sha256(small).hexdigest()}", content=small).status_code == 201


def test_one_users_uploads_are_bounded_in_sum_and_nobody_elses_with_them(tmp_path: Path) -> None:
    file = tmp_path / "master.yaml"
    file.write_text("contexts: {per_user_mib: 2}\n")
    first, second, tiny = (archive(("file", os.urandom(size))) for size in (1_400_000, 900_000, 9))

    def put(client: httpx.Client, data: bytes) -> httpx.Response:
        return client.put(f"/api/v1/contexts/{hashlib.sha256(data).hexdigest()}", content=data)

    with running(tmp_path / "state", file=file) as master:
        with master.user("ada") as ada, master.user("ben") as ben, master.client() as operator:
            assert put(ada, first).status_code == 201
            # It is there already, so it costs nothing; nor does one that was refused.
            assert put(ada, first).status_code == 200
            for _ in range(2):
                full = put(ada, second)
                assert (full.status_code, full.json()["code"]) == (507, "CONTEXTS-FULL")
            assert "take 1.3 of 2 MiB" in full.json()["detail"]
            assert "contexts.per_user_mib" in full.json()["hint"]
            assert put(ada, tiny).status_code == 201
            assert put(ben, second).status_code == 201
            assert put(operator, archive(("d", os.urandom(3_000_000)))).status_code == 201
        master.stop()
        master.start()
        with master.user("ada") as ada:
            assert put(ada, archive(("e", os.urandom(900_000)))).status_code == 507


def test_what_is_removed_no_longer_counts(tmp_path: Path) -> None:
    data = archive(("a", os.urandom(600_000)))

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    async def story() -> None:
        store = ContextStore(tmp_path, bytes_per_user=700_000)
        digest = hashlib.sha256(data).hexdigest()
        await store.receive(digest, chunks(), "ada")
        for _ in range(2):
            with pytest.raises(ContextMismatch):
                await store.receive("0" * 64, _few(), "ada")
        with pytest.raises(TooMany):
            await store.receive("1" * 64, chunks(), "ada")
        assert await store.collect(set(), now=time.time() + KEEP_UNUSED_S + 1) == 1
        assert store.all() == []
        await store.receive(digest, chunks(), "ada")

    async def _few() -> AsyncIterator[bytes]:
        yield b"few"

    asyncio.run(story())


def test_an_upload_on_a_full_disk_is_refused_with_what_to_do(small_disk: Path) -> None:
    async def story() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield os.urandom(1024 * 1024)

        with pytest.raises(NoRoom, match="No space left"):
            await ContextStore(small_disk).receive("0" * 64, chunks())

    asyncio.run(story())
    assert not list(small_disk.iterdir())


def test_a_context_goes_to_the_agents_that_need_it_and_no_others(own_master: MasterProcess) -> None:
    data = archive(("train.py", b"print(1)\n"))
    sha = hashlib.sha256(data).hexdigest()
    keys = {name: own_master.join(name) for name in "ab"}

    async def story() -> None:
        async with asyncio.timeout(20), own_master.link("/agent/v1/control", keys["a"]) as control:
            await say(control, hello("a"))
            await hear(control), await hear(control)
            with own_master.client() as client:
                client.put(f"/api/v1/contexts/{sha}", content=data)
                client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true", "context": sha}})
            desired = await hear(control)
            assert isinstance(desired, Desired)
            assert desired.allocations[0].context == sha

    asyncio.run(story())
    with own_master.client(keys["a"]) as agent, own_master.client(keys["b"]) as other:
        assert agent.get(f"/agent/v1/contexts/{sha}").content == data
        assert other.get(f"/agent/v1/contexts/{sha}").status_code == 404


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: archive(("../outside", b"x")), "outside"),
        (lambda: archive(("a/../../outside", b"x")), "outside"),
        (lambda: archive(("/etc/passwd", b"x")), "outside"),
        (lambda: archive(link("out", "/etc/passwd")), "leads outside"),
        (lambda: archive(link("a/out", "../../x")), "leads outside"),
        (lambda: archive(link("out", "../x", tarfile.LNKTYPE)), "neither"),
        (lambda: archive(("a", b"x"), link("b", "a", tarfile.LNKTYPE)), "neither"),
        (lambda: archive(("a/../b", b"x")), "outside"),
        (lambda: archive(of_kind(tarfile.CHRTYPE)), "neither"),
        (lambda: archive(of_kind(tarfile.FIFOTYPE)), "neither"),
        (lambda: archive(with_null("b\0c")), "outside"),
        (lambda: archive(("x" * 2000, b"")), "longer than"),
        (lambda: b"no archive", "no tar.gz"),
        (lambda: gzip.compress(b"no tar at all" * 100), "no tar.gz"),
        (lambda: archive(("a", b"x" * 100_000))[:-60], "no tar.gz"),
    ],
)
def test_what_could_write_outside_its_place_is_refused(tmp_path: Path, make: Callable[[], bytes], why: str) -> None:
    path = tmp_path / "context.tar.gz"
    path.write_bytes(make())
    with pytest.raises(ContextError, match=why):
        check_archive(path)


def test_links_that_stay_inside_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "context.tar.gz"
    path.write_bytes(archive(("a/b", b"x"), link("a/c", "b"), link("d", "a/b"), link("a/e", "../a/b")))
    check_archive(path)


def test_an_archive_that_grows_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(contexts, "_OVERHEAD_BYTES", 100_000)
    monkeypatch.setattr(contexts, "MAX_FILES", 50)
    path = tmp_path / "context.tar.gz"
    for bomb in (
        archive(("zeros", b"\0" * 2_000_000)),
        # No file at all, but as much to decompress.
        archive(with_comment("x" * 5_000_000)),
        archive(*((f"file{number}", b"") for number in range(60))),
    ):
        path.write_bytes(bomb)
        with pytest.raises(ContextTooLarge):
            check_archive(path)


def test_contexts_that_no_job_needs_go_after_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        store = ContextStore(tmp_path)
        for name in ("a" * 64, "b" * 64):
            store.path(name).write_bytes(b"x")
        later = 4e9
        assert await store.collect({"a" * 64}, now=0.0) == 0
        assert await store.collect({"a" * 64}, now=later) == 1
        assert (store.has("a" * 64), store.has("b" * 64)) == (True, False)

    asyncio.run(story())

"""Whatever has become of a file of its state, a master starts, or says which and what to do."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from .serving import MasterProcess

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "binary": lambda _: bytes(range(256)) * 64,
    "of other types": lambda _: b'{"pid": "x", "key": 7}',
}
#: What a master makes anew by itself, and what it never does: others know it, or nothing else opens what it has sealed.
MADE_ANEW = ("admin.token", "tls/server.pem", "tls/server.key", "master.lock", "master.ready")
NEEDED = {
    "secrets.key": "put it back from your copy",
    "tls/ca.pem": "put both files back from your copy",
    "tls/ca.key": "put both files back from your copy",
    "master.db": "quorate master restore",
}


@pytest.fixture
def master(tmp_path: Path) -> MasterProcess:
    """One that has been."""
    made = MasterProcess(tmp_path / "state", tls=True).start()
    assert made.stop() == 0
    return made


def refused(master: MasterProcess) -> str:
    """What a master says that does not start."""
    before = master.log.stat().st_size
    with pytest.raises(AssertionError, match="did not start"):
        master.start()
    assert master.process is not None and master.process.wait(20) in (1, 2)
    said = master.log.read_text()[before:]
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", MADE_ANEW)
def test_what_a_master_can_make_anew_it_makes_anew(
    master: MasterProcess, file: str, damage: Callable[[bytes], bytes]
) -> None:
    path = master.state / file
    path.write_bytes(damage(path.read_bytes() if path.exists() else b"{}"))
    fingerprint = master.ready["fingerprint"]
    master.start()
    assert master.ready["fingerprint"] == fingerprint
    assert len(master.token) > 20
    assert master.stop() == 0
    assert "Traceback" not in master.log.read_text()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", NEEDED)
def test_what_nobody_can_make_anew_is_named_with_what_to_do(
    master: MasterProcess, file: str, damage: Callable[[bytes], bytes]
) -> None:
    path = master.state / file
    if file == "master.db" and damage is DAMAGES["empty"]:
        pytest.skip("an empty file is a new database")
    path.write_bytes(damage(path.read_bytes()))
    said = refused(master)
    assert str(path) in said and NEEDED[file] in said


def test_an_authority_without_its_key_is_not_replaced_by_another(master: MasterProcess) -> None:
    (master.state / "tls" / "ca.key").unlink()
    said = refused(master)
    assert f"{master.state / 'tls' / 'ca.key'} is missing" in said and "put both files back" in said


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cluster SET epoch = 'many'",
        "INSERT INTO cluster (id, epoch, generation, restored) VALUES ('other', 1, 1, 0)",
        "UPDATE epochs SET mark = 7, first_generation = 'x'",
        "UPDATE tokens SET body = X'7B7D'",
        "DELETE FROM specs",
    ],
)
def test_a_store_whose_records_contradict_one_another_is_named_with_what_to_do(tmp_path: Path, statement: str) -> None:
    master = MasterProcess(tmp_path / "state").start()
    with master.client() as client:
        client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}})
    assert master.stop() == 0
    with sqlite3.connect(master.state / "master.db") as store:
        store.execute(statement)
    store.close()
    said = refused(master)
    assert str(master.state / "master.db") in said and "quorate master restore" in said

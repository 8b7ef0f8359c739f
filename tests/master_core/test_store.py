"""The store's promises: whole batches or none, one master at a time, a sentence for whatever is wrong with the disk."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.master import migrations
from quorate.master.records import Drop, Put, Record, SettingRecord
from quorate.master.store import (
    Store,
    StoreDamaged,
    StoreError,
    StoreFenced,
    StoreFull,
    StoreLocked,
    StoreNewer,
    metadata,
    open_on,
    open_store,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "quorate.db"


def _set(name: str, value: int) -> Put:
    return Put(SettingRecord(name=name, value=value))


def _settings(store: Store) -> dict[str, object]:
    records: list[Record] = store.load()[SettingRecord]
    return {record.key: record.value for record in records if isinstance(record, SettingRecord)}


def test_what_is_committed_is_there_when_the_store_is_opened_again(path: Path) -> None:
    store = open_store(path)
    _, generation = store.begin_epoch("c", "m1")
    store.commit(generation + 1, [_set("a", 1), _set("b", 2), _set("a", 3), Drop(SettingRecord, "b")])
    store.close()
    again = open_store(path)
    identity, later = again.begin_epoch("other", "m2")
    assert _settings(again) == {"a": 3}
    assert (identity.cluster, identity.epoch, later) == ("c", 2, generation + 2)
    assert [mark.mark for mark in identity.history] == ["m1", "m2"]


def test_only_its_owner_can_read_the_store(path: Path) -> None:
    open_store(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_second_master_fences_the_first_one(path: Path) -> None:
    first, second = open_store(path), open_store(path)
    _, generation = first.begin_epoch("c", "m1")
    first.commit(generation + 1, [_set("a", 1)])
    second.begin_epoch("c", "m2")
    with pytest.raises(StoreFenced, match="another master has taken over"):
        first.commit(generation + 2, [_set("a", 2)])
    with pytest.raises(StoreFenced):
        first.commit(generation + 2, [])
    assert _settings(second) == {"a": 1}


def test_the_epochs_before_the_last_thousand_are_forgotten(path: Path) -> None:
    store = open_store(path)
    identity = None
    for number in range(1005):
        identity, _ = store.begin_epoch("c", f"m{number}")
    assert identity is not None
    assert len(identity.history) == 1000
    assert identity.history[-1].mark == "m1004"


def test_a_backup_is_whole_and_knows_that_it_is_one(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    _, generation = store.begin_epoch("c", "m1")
    store.commit(generation + 1, [_set("a", 1)])
    store.backup(tmp_path / "backup.db")
    store.commit(generation + 2, [_set("a", 2)])
    copy = open_store(tmp_path / "backup.db")
    identity, _ = copy.begin_epoch("c", "m2")
    assert identity.restored
    assert _settings(copy) == {"a": 1}
    copy.commit(generation + 3, [], restored=False)
    assert not copy.begin_epoch("c", "m3")[0].restored
    with pytest.raises(StoreError, match="exists already"):
        store.backup(tmp_path / "backup.db")


def test_a_damaged_store_is_not_opened(path: Path) -> None:
    store = open_store(path)
    _, generation = store.begin_epoch("c", "m1")
    store.commit(generation + 1, [_set(f"name-{n}" * 20, n) for n in range(2000)])
    store.close()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8192] = os.urandom(8192)
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="quorate master restore"):
        open_store(path).load()


def test_a_record_that_cannot_be_read_is_named(path: Path) -> None:
    store = open_store(path)
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO jobs VALUES ('abcd', ?)", (b'{"id": 7}',))
    raw.close()
    with pytest.raises(StoreDamaged, match="jobs abcd"):
        open_store(path).load()


def test_a_file_that_is_no_database_is_not_opened(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, surely" * 100)
    with pytest.raises(StoreDamaged):
        open_store(path)


def test_a_newer_schema_is_refused_and_says_what_to_upgrade(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreNewer, match="upgrade this master"):
        open_store(path)


def test_a_store_that_somebody_else_holds_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.master.store.LOCK_WAIT_S", 0.05)
    store = open_store(path)
    _, generation = store.begin_epoch("c", "m1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="another program holds"):
        store.commit(generation + 1, [_set("a", 1)])
    other.execute("ROLLBACK")
    store.commit(generation + 1, [_set("a", 1)])


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """A quota of pages stands for the disk: SQLite answers both with the same error."""
    raw = sqlite3.connect(tmp_path / "full.db", check_same_thread=False)
    store = open_on(lambda: raw, "full.db")
    _, generation = store.begin_epoch("c", "m1")
    store.commit(generation + 1, [_set("a", 1)])
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreFull, match="make room"):
        store.commit(generation + 2, [_set("a", 2), *(_set(f"name-{n}" * 50, n) for n in range(200))])
    assert _settings(store) == {"a": 1}
    raw.execute("PRAGMA max_page_count = 1000000")
    store.commit(generation + 2, [_set("a", 2)])
    assert _settings(store) == {"a": 2}


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        open_store(tmp_path / "file" / "quorate.db")


def test_the_migrations_make_the_schema_that_the_store_uses(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        made = dict(raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
        for table in metadata.sorted_tables:
            columns = [(row[1], row[2], row[3]) for row in raw.execute(f"PRAGMA table_info({table.name})")]
            declared = [(c.name, str(c.type), int(not c.nullable)) for c in table.columns]
            assert columns == declared, made[table.name]
    raw.close()


def test_the_newest_revision_is_the_one_that_the_program_names() -> None:
    assert migrations.scripts().get_current_head() == migrations.HEAD


_WRITER = """
import sys
from pathlib import Path
from quorate.master.records import Put, SettingRecord
from quorate.master.store import open_store
store = open_store(Path(sys.argv[1]))
_, generation = store.begin_epoch("c", sys.argv[2])
value = 0
while True:
    value += 1
    generation += 1
    store.commit(generation, [Put(SettingRecord(name=f"copy-{n}", value=value)) for n in range(20)])
    sys.stdout.write(f"{value}\\n")
    sys.stdout.flush()
"""


def test_kill_9_in_the_middle_of_writing_leaves_whole_batches_and_all_that_were_acknowledged(path: Path) -> None:
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), f"m{attempt}"], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(20 + 7 * attempt):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
        store = open_store(path)
        _, generation = store.begin_epoch("c", f"reader-{attempt}")
        values = set(_settings(store).values())
        store.close()
        assert len(values) == 1, f"half a batch: {values}"
        assert values.pop() >= acknowledged
        assert generation >= acknowledged
        shutil.rmtree(path.parent)

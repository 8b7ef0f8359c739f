"""The journal outlives crashes at any byte."""

import os
import resource
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

import pytest

from quorate.agent import leasefile
from quorate.agent.journal import FileJournal, JournalError, JournalFull, Lease
from quorate.model.messages import AllocationSpec, MemberStatus, Seen


def spec(name: str) -> AllocationSpec:
    return AllocationSpec(name, name.split("-")[0], 1, "00", "n", "ann", ("true",), "none", {}, (), 30.0, 600.0)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full from there on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    one, two = spec("job1-1"), spec("job2-1")
    journal.record_intents(["job1-1.0.1", "job2-1.0.1", "job1-1.1.1"], [one, two, one])
    journal.record_outcome(MemberStatus("job1-1.0.1", "exited"))
    journal.save_seen(Seen("c", 1, "m", 7))
    journal.save_plan(Lease("boot", 5.0, 9.0))
    journal.forget(["job2-1.0.1"])
    for memory in (FileJournal(tmp_path).load(), FileJournal(tmp_path).load()):
        assert memory.intents == {"job1-1.0.1": one, "job1-1.1.1": one}
        assert memory.outcomes == {"job1-1.0.1": MemberStatus("job1-1.0.1", "exited")}
        assert memory.seen == Seen("c", 1, "m", 7)
        assert memory.lease == Lease("boot", 5.0, 9.0)


def test_a_torn_last_record_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record_intents(["job1-1.0.1"], [spec("job1-1")])
    whole = (tmp_path / "journal").read_bytes()
    journal.record_intents(["job2-1.0.1"], [spec("job2-1")])
    both = (tmp_path / "journal").read_bytes()
    for length in range(len(whole), len(both)):
        (tmp_path / "journal").write_bytes(both[:length])
        assert list(FileJournal(tmp_path).load().intents) == ["job1-1.0.1"]


def test_damage_in_the_middle_is_refused_with_its_place(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record_intents(["job1-1.0.1"], [spec("job1-1")])
    journal.record_intents(["job2-1.0.1"], [spec("job2-1")])
    data = bytearray((tmp_path / "journal").read_bytes())
    data[20] ^= 1
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(JournalError, match="at byte 0"):
        FileJournal(tmp_path)


def test_zeros_that_a_loss_of_power_left_behind_are_a_torn_end(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record_intents(["job1-1.0.1"], [spec("job1-1")])
    whole = (tmp_path / "journal").read_bytes()
    journal.record_outcome(MemberStatus("job1-1.0.1", "exited"))
    both = (tmp_path / "journal").read_bytes()
    for length in range(len(whole), len(both), 9):
        for zeros in (0, 500):
            (tmp_path / "journal").write_bytes(both[:length] + b"\0" * (len(both) - length + zeros))
            memory = FileJournal(tmp_path).load()
            assert list(memory.intents) == ["job1-1.0.1"] and not memory.outcomes


@pytest.mark.parametrize(
    "record",
    [b"\x81\xa4seen\x07", b"\xc1", b"\x81\xa7intents\x91\xaajob9-1.0.1"],
    ids=["of another type", "no record", "a member of no allocation"],
)
def test_a_record_that_nobody_can_have_written_is_refused_with_its_place(tmp_path: Path, record: bytes) -> None:
    FileJournal(tmp_path).record_intents(["job1-1.0.1"], [spec("job1-1")])
    path = tmp_path / "journal"
    at = path.stat().st_size
    with path.open("ab") as file:
        file.write(Struct(">II").pack(len(record), zlib.crc32(record)) + record)
    with pytest.raises(JournalError, match=f"at byte {at}.*mv {path} {path}.damaged"):
        FileJournal(tmp_path)


@pytest.mark.parametrize("byte", range(8))
def test_a_damaged_length_or_checksum_is_no_torn_end_however_much_it_covers(tmp_path: Path, byte: int) -> None:
    journal = FileJournal(tmp_path)
    for job in ("job1", "job2", "job3"):
        journal.record_intents([f"{job}-1.0.1"], [spec(f"{job}-1")])
    path = tmp_path / "journal"
    whole = path.read_bytes()
    for bit in range(8):
        data = bytearray(whole)
        data[byte] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(JournalError, match="at byte 0"):
            FileJournal(tmp_path)


def test_a_journal_that_begins_with_no_record_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("this was a journal once")
    with pytest.raises(JournalError, match="at byte 0: no record begins there"):
        FileJournal(tmp_path)
    assert (tmp_path / "journal").read_text() == "this was a journal once"


@pytest.mark.parametrize("content", [{"boot": 5}, {"boot": "b", "renewed": "soon", "planned": 0.0}, {}], ids=repr)
def test_a_lease_of_other_types_is_none_which_stops_members_early_and_never_late(
    tmp_path: Path, content: dict, caplog: pytest.LogCaptureFixture
) -> None:
    leasefile.write(tmp_path / "lease", content, durable=False)
    assert FileJournal(tmp_path).load().lease is None
    assert f"{tmp_path / 'lease'} is damaged" in caplog.text


def test_intents_are_synced_once_for_a_whole_gang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal.record_intents([f"job1-1.{rank}.1" for rank in range(8)], [spec("job1-1")] * 8)
    assert len(synced) == 1


def test_a_record_that_found_no_room_is_as_if_it_had_never_been_tried(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record_intents(["job1-1.0.1"], [spec("job1-1")])
    (tmp_path / "members").mkdir()
    with files_of_at_most((tmp_path / "journal").stat().st_size + 20):
        with pytest.raises(JournalFull):
            journal.record_intents(["job2-1.0.1"], [spec("job2-1")])
        journal.save_seen(Seen("c", 1, "m", 7))
    journal.record_intents(["job3-1.0.1"], [spec("job3-1")])
    assert [folder.name for folder in (tmp_path / "members").iterdir()] == ["job3-1.0.1"]
    assert list(FileJournal(tmp_path).load().intents) == ["job1-1.0.1", "job3-1.0.1"]


def test_a_full_disk_keeps_no_agent_from_starting_with_what_it_knows(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    for number in range(1, 4):
        journal.record_intents([f"job{number}-1.0.1"], [spec(f"job{number}-1")])
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"torn")
    with files_of_at_most(20):
        fresh = FileJournal(tmp_path)
        assert list(fresh.load().intents) == ["job1-1.0.1", "job2-1.0.1", "job3-1.0.1"]
        with pytest.raises(JournalFull):
            fresh.record_intents(["job4-1.0.1"], [spec("job4-1")])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]
    fresh.record_intents(["job5-1.0.1"], [spec("job5-1")])
    grown = (tmp_path / "journal").stat().st_size
    # With room again, the next that is forgotten makes it compact.
    fresh.forget(["job1-1.0.1"])
    assert (tmp_path / "journal").stat().st_size < grown
    assert list(FileJournal(tmp_path).load().intents) == ["job2-1.0.1", "job3-1.0.1", "job5-1.0.1"]

"""Lines as readers of a member's log get them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.master import loglines, logmerge
from quorate.master.loglines import LogReader, Piece, last_lines
from quorate.master.logmerge import LogMerge
from quorate.master.logs import LogStore
from quorate.model.ids import MemberId
from quorate.model.logframes import Stream, encode_frame

MEMBER = MemberId("k3jd-1.0.1")
OUT, ERR = Stream.STDOUT, Stream.STDERR
Result = TypeVar("Result")


def with_log(directory: Path, frames: list[tuple[Stream, bytes]], use: Callable[[LogStore], Result]) -> Result:
    """Writes the frames as MEMBER's log through the store, then lets `use` read it."""

    async def run() -> Result:
        store = LogStore(directory)
        data = b"".join(encode_frame(stream, at, text) for at, (stream, text) in enumerate(frames, 1))
        for start in range(0, len(data), 200_000):
            await store.append(MEMBER, start, data[start : start + 200_000])
        result = use(store)
        await store.close()
        return result

    return asyncio.run(run())


def everything(store: LogStore, cursor: int = 0) -> list[Piece]:
    reader = LogReader(store, MEMBER, cursor)
    pieces: list[Piece] = []
    while (more := reader.read()) is not None:
        pieces.extend(more)
    return pieces + reader.finish(ended=True)


def test_a_line_is_cut_by_stream_and_not_by_write(tmp_path: Path) -> None:
    frames = [(OUT, b"loss="), (ERR, b"warning\n"), (OUT, b"0.5\nnext\n")]
    pieces = with_log(tmp_path, frames, everything)
    assert [(piece.stream, piece.text) for piece in pieces] == [(ERR, "warning"), (OUT, "loss=0.5"), (OUT, "next")]


def test_a_carriage_return_stays_in_its_line(tmp_path: Path) -> None:
    pieces = with_log(tmp_path, [(ERR, b"\r10%"), (ERR, b"\r100%\n")], everything)
    assert [piece.text for piece in pieces] == ["\r10%\r100%"]


def test_a_line_of_a_mebibyte_is_whole(tmp_path: Path) -> None:
    line = b"x" * (1024 * 1024)
    frames = [(OUT, line[at : at + 65536]) for at in range(0, len(line), 65536)] + [(OUT, b"\nshort\n")]
    pieces = with_log(tmp_path, frames, everything)
    assert [len(piece.data) for piece in pieces] == [1024 * 1024, 5]


def test_rubbish_becomes_replacement_characters(tmp_path: Path) -> None:
    [piece] = with_log(tmp_path, [(OUT, b"a\xff\xfe\0b\n")], everything)
    assert piece.text == "a\ufffd\ufffd\0b"


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    [piece] = with_log(tmp_path, [(OUT, b"bye")], everything)
    assert (piece.text, piece.end) == ("bye", "")


def test_a_character_in_two_writes_is_one_character(tmp_path: Path) -> None:
    def read(store: LogStore) -> list[str]:
        reader = LogReader(store, MEMBER)
        reader.read(20)
        parts = [piece.text for piece in reader.finish(ended=False)]
        reader.read()
        return parts + [piece.text for piece in reader.finish(ended=False)]

    assert with_log(tmp_path, [(OUT, b"abc\xc3"), (OUT, b"\xa9d")], read) == ["abc", "éd"]


def test_a_part_that_was_told_is_not_told_again(tmp_path: Path) -> None:
    frames = [(OUT, b"Loading... "), (ERR, b"half"), (OUT, b"done\n"), (ERR, b" whole\n")]

    def read(store: LogStore) -> list[str]:
        reader = LogReader(store, MEMBER)
        reader.read(16 + 11)
        [part] = reader.finish(ended=False)
        return [part.text] + [piece.text for piece in everything(store, part.offset)]

    assert with_log(tmp_path, frames, read) == ["Loading... ", "done", "half whole"]


frames_of_text = st.lists(
    st.tuples(st.sampled_from([OUT, ERR]), st.binary(max_size=12).map(lambda data: data.replace(b"\x01", b"\n"))),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(frames_of_text, st.integers(0, 40))
def test_joined_pieces_are_the_stream_from_any_cursor_that_was_told(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[Stream, bytes]], stop: int
) -> None:
    def read(store: LogStore) -> tuple[list[Piece], list[Piece]]:
        told = everything(store)[:stop]
        return told, everything(store, told[-1].offset if told else 0)

    told, rest = with_log(tmp_path_factory.mktemp("log"), frames, read)
    for stream in (OUT, ERR):
        joined = b"".join(piece.data + piece.end.encode() for piece in told + rest if piece.stream == stream)
        assert joined == b"".join(text for of, text in frames if of == stream)


@settings(max_examples=40, deadline=None)
@given(frames_of_text, st.integers(1, 10))
def test_the_last_lines_are_as_many_as_asked_for(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[Stream, bytes]], count: int
) -> None:
    frames = [(OUT, text) for _stream, text in frames]
    lines = b"".join(text for _stream, text in frames).split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    pieces = with_log(
        tmp_path_factory.mktemp("log"), frames, lambda store: everything(store, last_lines(store, MEMBER, count))
    )
    assert [piece.data for piece in pieces] == lines[-count:]


def test_the_last_lines_of_a_long_log_are_found_without_reading_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglines, "LOOK_BACK_BYTES", 64 * 1024)
    frames = [(OUT, b"%07d\n" % at) for at in range(60_000)]
    began: list[int] = []

    def read(store: LogStore) -> list[Piece]:
        cursor = last_lines(store, MEMBER, 3)
        reader = LogReader(store, MEMBER, cursor)
        began.append(reader._at)
        return everything(store, cursor)

    pieces = with_log(tmp_path, frames, read)
    assert [piece.text for piece in pieces] == ["0059997", "0059998", "0059999"]
    assert began[0] > 1_000_000


def test_members_are_merged_by_time_however_little_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logmerge, "READ_BYTES", 4096)
    monkeypatch.setattr(logmerge, "_SMALLEST_READ", 100)
    talkative, silent = MEMBER, MemberId("k3jd-1.1.1")
    moments = {talkative: range(0, 10_000, 2), silent: range(1, 10_000, 500)}

    async def run() -> list[tuple[str, str]]:
        store = LogStore(tmp_path)
        for member, times in moments.items():
            log = b"".join(encode_frame(OUT, at, b"%d\n" % at) for at in times)
            await store.append(member, 0, log)
        merge = LogMerge(store)
        merge.add(dict.fromkeys(moments, 0))
        told = b""
        while blob := merge.step(()):
            told += blob
        await store.close()
        return [(line["member"], line["text"]) for line in map(json.loads, told.splitlines())]

    found = asyncio.run(run())
    expected = sorted((at, member) for member, times in moments.items() for at in times)
    assert found == [(member, str(at)) for at, member in expected]

"""Several members' logs as one stream of lines, by time, each member's own order kept, encoded as NDJSON."""

import asyncio
import datetime
import functools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from quorate.master.loglines import READ_BYTES, LogReader, Piece
from quorate.master.logs import LogStore
from quorate.model.ids import MemberId, split_member
from quorate.model.logframes import HEADER, MAX_FRAME_BYTES, Stream

#: Bytes that all readers together may take from the disk in one step.
STEP_BYTES: Final = 16 * READ_BYTES
_SMALLEST_READ: Final = MAX_FRAME_BYTES + HEADER.size
_NAMES: Final = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr", Stream.PLATFORM: "platform"}


class Line(msgspec.Struct, gc=False):
    """model/views.py's LogLine, in the form that is encoded fastest."""

    member: str
    rank: int
    incarnation: int
    stream: str
    time: datetime.datetime
    text: str
    end: str
    offset: int


_encoder = msgspec.json.Encoder()


class Grown:
    """Which logs have grown since they were last read, and a way to wait for it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.members: set[MemberId] = set()

    def note(self, member: MemberId) -> None:
        """The member's log has grown."""
        self.members.add(member)
        self.event.set()


@dataclass(slots=True)
class _Source:
    reader: LogReader
    rank: int
    incarnation: int
    #: Pieces with the time by which they are merged: never earlier than that of the piece before.
    pieces: deque[tuple[int, Piece]] = field(default_factory=deque)
    latest: int = 0
    #: There may be more on the disk.
    more: bool = True

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.latest = max(self.latest, piece.time_ns)
            self.pieces.append((self.latest, piece))


class LogMerge:
    """Reads in steps; each blocks on the disk, so they belong in a thread, one at a time."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._sources: dict[MemberId, _Source] = {}

    def add(self, cursors: Mapping[MemberId, int]) -> None:
        """Takes these members in, each from its cursor on; those that are in already stay as they are."""
        for member, cursor in cursors.items():
            if member not in self._sources:
                _allocation, rank, incarnation = split_member(member)
                self._sources[member] = _Source(LogReader(self._store, member, cursor), rank, incarnation)

    @property
    def members(self) -> Iterable[MemberId]:
        """Everyone that was taken in."""
        return self._sources.keys()

    def step(self, grown: Iterable[MemberId]) -> bytes:
        """The lines that come next, empty where there are none now. `grown` have more on the disk than before."""
        for member in grown:
            if member in self._sources:
                self._sources[member].more = True
        while hungry := [source for source in self._sources.values() if source.more and not source.pieces]:
            limit = min(READ_BYTES, max(_SMALLEST_READ, STEP_BYTES // len(hungry)))
            for source in hungry:
                pieces = source.reader.read(limit)
                source.more = pieces is not None
                source.add(pieces or ())
            if not any(source.more and not source.pieces for source in hungry):
                break
        # Whoever has more to come has nothing earlier than the last piece that it gave.
        horizon = min((source.latest for source in self._sources.values() if source.more), default=None)
        return self._take(horizon)

    def finish(self, *, ended: bool) -> bytes:
        """Lines without an end, as far as they go; to be asked for when step has nothing."""
        for source in self._sources.values():
            source.add(source.reader.finish(ended=ended))
        return self._take(None)

    def _take(self, horizon: int | None) -> bytes:
        due: list[tuple[int, _Source, Piece]] = []
        for source in self._sources.values():
            while source.pieces and (horizon is None or source.pieces[0][0] <= horizon):
                at, piece = source.pieces.popleft()
                due.append((at, source, piece))
        # Stable, so that a member's own order stands.
        due.sort(key=lambda entry: entry[0])
        return _encoder.encode_lines([_line(source, piece) for _at, source, piece in due])


def _line(source: _Source, piece: Piece) -> Line:
    return Line(
        member=source.reader.member,
        rank=source.rank,
        incarnation=source.incarnation,
        stream=_NAMES[piece.stream],
        time=_moment(piece.time_ns),
        text=piece.text,
        end=piece.end,
        offset=piece.offset,
    )


@functools.lru_cache(maxsize=256)
def _moment(time_ns: int) -> datetime.datetime:
    """The lines of one frame share theirs, and there may be thousands."""
    return datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
